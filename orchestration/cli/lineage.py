"""`orbitforge lineage`: where something came from, or what was made of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from orchestration import pipeline
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.lineage.current import Current
from orchestration.lineage.find import Named, find
from orchestration.lineage.forward import THROUGH, Descendant, descendants
from orchestration.lineage.ledger import Row
from orchestration.lineage.record import Record, as_json, content, record
from orchestration.lineage.withdraw import entries, observed_with
from orchestration.tasks import name_of


def lineage_command(target: str, *, layout: str, forward: bool, output: Path | None) -> None:
    """Write one lineage, backward from an artifact or, for an entry of a source and with `forward`, the other way."""
    current = Current(pipeline.current())
    found = find(current, target)
    if forward or isinstance(found, Named):
        roots = [found] if isinstance(found, Row) else observed_with(current, entries(current.pipeline, found.id))
        made = descendants(current, (row.id for row in roots))
        if layout not in ("tree", "json"):
            raise OrbitforgeError(f"--format {layout} is for what something came from; forward there are tree and json")
        if layout == "json":
            _write(json.dumps([_forward_json(each) for each in made], indent=2), output)
        else:
            _print_forward(target, made)
        return
    known = record(current, found)
    if layout == "tree" and output is None:
        print(_tree(known, colour=sys.stdout.isatty()))
        return
    _write(_text(known, current, layout), output)


def _text(known: Record, current: Current, layout: str) -> str:
    if layout == "mermaid":
        from orchestration.lineage.exports.mermaid import mermaid

        return mermaid(known)
    if layout == "modelcard":
        from orchestration.lineage.exports.modelcard import model_card

        return model_card(known)
    if layout == "croissant":
        from orchestration.lineage.exports.croissant import croissant

        return croissant(known, current)
    if layout == "cyclonedx":
        from orchestration.lineage.exports.cyclonedx import cyclonedx

        return cyclonedx(known, current)
    if layout == "json":
        return json.dumps(as_json(known, current), indent=2)
    return _tree(known, colour=False)


def _tree(known: Record, *, colour: bool) -> str:
    """Lines as long as they are: the terminal wraps them, a pipe does not cut them."""
    from orchestration.lineage.exports.tree import tree

    console = Console(width=2000, force_terminal=colour, no_color=not colour)
    with console.capture() as captured:
        console.print(tree(known), highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _write(text: str, output: Path | None) -> None:
    if output is None:
        print(text)
        return
    with plain_errors(f"writing {output}"):
        temporary = output.with_name(f".{output.name}.tmp")
        temporary.write_text(text)
        temporary.replace(output)
    print(output)


def _forward_json(each: Descendant) -> dict[str, object]:
    return {"direct": each.direct, "newest": each.newest, **content(each.row)}


def _print_forward(target: str, made: Sequence[Descendant]) -> None:
    console = Console()
    console.print(f"made of {target}: {len(made)} artifacts, {sum(each.newest for each in made)} of them the newest")
    for direct, words in ((True, "directly"), (False, f"only through the {THROUGH}")):
        group = [each for each in made if each.direct == direct]
        if group:
            console.print(f"[bold]{words}[/]")
        for each in group:
            row = each.row
            old = "" if each.newest else "  [dim]superseded[/]"
            name = escape(f"{row.preset}/{name_of(row.asset, row.shard)}")
            console.print(f"  {name}  [dim]{row.version[:12]}, row {row.id[:12]}[/]{old}", highlight=False)
