"""`orbitforge gc`: free the cache of superseded artifacts."""

from __future__ import annotations

from rich.console import Console

from orchestration import pipeline
from orchestration.cli.progress import working
from orchestration.lineage.collect import collect, garbage, parse_keep
from orchestration.lineage.current import Current
from orchestration.lineage.idle import alone


def gc_command(keep: str, *, dry_run: bool) -> None:
    console = Console()
    wanted = parse_keep(keep)
    with alone("collecting"), working(Console(stderr=True), "looking for what nobody keeps") as tell:
        found = garbage(Current(pipeline.current()), wanted)
        if not dry_run:
            tell({"message": f"removing {len(found.files):,} objects"})
            collect(found)
    done = "would free" if dry_run else "freed"
    console.print(
        f"{done} {found.bytes / 1e6:,.1f} MB ({found.bytes} bytes) in {len(found.files)} objects; {found.kept} stay: "
        f"what is current, what data.dvc names at any branch or tag, and {keep.replace('+', ' with their ')}",
        highlight=False,
        soft_wrap=True,
    )
