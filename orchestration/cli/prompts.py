"""`orbitforge prompts`: a table of prompts, composed of a vocabulary or taken from a table of yours."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import typer
from rich.console import Console

from orchestration.cli.quarantined import tell_quarantined
from orchestration.cli.waits import waits
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.locks import locked
from stages.objects.invented import CREATOR, LICENCE
from stages.prompts.build import compose
from stages.prompts.screen import UNSAFE, ScreenConfig, read_unsafe, screened
from stages.prompts.table import SOURCE, grown, keys, read_prompts, read_texts
from stages.prompts.vocabulary import DEFAULT, read_vocabulary
from stages.tables import write_table

ENDINGS = (".parquet", ".csv")


def prompts_command(
    output: Path,
    *,
    count: int | None,
    seed: int,
    vocabulary: Path | None,
    table: Path | None,
    licence: str | None,
    creator: str | None,
    unsafe: Path | None,
    longest: int,
    shard_size: int,
    as_json: bool,
) -> None:
    """`output` grows by what is new to it; what stands there stays where it is. Refused rows go beside it."""
    if (count is None) == (table is None):
        raise OrbitforgeError("say either --count, to compose prompts, or --from, to take in a table of them")
    if output.suffix.lower() not in ENDINGS:
        raise OrbitforgeError(f"{output} should end in {' or '.join(ENDINGS)}")
    words, config = read_unsafe(unsafe or UNSAFE), ScreenConfig(longest=longest)
    output.parent.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)

    with (
        plain_errors(f"writing {output}"),
        locked(output.with_name(f".{output.name}.lock"), waiting=waits(console, f"writes {output}")),
    ):
        before = read_prompts(output)
        if table is not None:
            fresh = read_texts(table, licence=licence, creator=creator)
            kept, refused = screened(fresh, config, words, keys(before))
        else:
            assert count is not None
            words_of = vocabulary or DEFAULT
            kept, refused = compose(count, read_vocabulary(words_of), config, words, seed=seed)
            kept = kept.filter(~pl.col("key").is_in(keys(before).implode()))
            about = {SOURCE: f"{words_of.name}, seed {seed}", "licence": LICENCE, "creator": CREATOR}
            kept = kept.with_columns(**{name: pl.lit(value) for name, value in about.items()})
        after = grown(before, kept, shard_size)
        quarantine = output.with_name(f"{output.stem}-quarantine{output.suffix}")
        if len(refused):
            write_table(refused, quarantine)
        else:
            quarantine.unlink(missing_ok=True)
        write_table(after, output)
    counts = dict(refused.group_by("reason").len().sort("reason").iter_rows()) if len(refused) else {}
    if as_json:
        typer.echo(json.dumps({"prompts": len(after), "new": len(kept), "quarantined": counts}))
    tell_quarantined(console, counts)
    console.print(
        f"{output}: {len(after)} prompts, {len(kept)} of them new", style="bold green", soft_wrap=True, highlight=False
    )
    if after.is_empty():
        raise OrbitforgeError(f"{output} holds no prompt: all were refused; the reasons stand in {quarantine}")
