"""`orbitforge evaluate`: models, and what other models left in folders, by one protocol."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Console
from rich.table import Table

from orchestration import paths, pipeline
from orchestration.cli.checkpoint import checkpoint_path, loaded
from orchestration.cli.progress import Bars
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.presets.schema import Preset
from stages.evaluation.protocols import Pictures, SingleImage, Text, read_protocol

if TYPE_CHECKING:
    from stages.evaluation.cases import Cases
    from stages.evaluation.subjects import Subject

WEIGHTS = "model.safetensors"


def evaluate_command(
    models: Sequence[str],
    *,
    protocol: str | None,
    against: str | None,
    output: Path | None,
    kind: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Print means with intervals; with `against`, differences. `output` gets the files of the asset `evaluation`: all,
    or none."""
    from stages.evaluation.evaluate import evaluate
    from stages.evaluation.metrics import load_judges

    here = pipeline.current()
    preset = here.preset
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OrbitforgeError(f"{output} is there already; name a new folder")
    asked = read_protocol(protocol) if protocol else preset.evaluation.protocol
    console = Console(stderr=True)
    named = [*models, *([against] if against and against not in models else [])]
    with ExitStack() as stack:
        subjects = [stack.enter_context(_entered(s)) for s in _subjects(named, preset, kind=kind, device=device)]
        encoder = paths.data() / "base_models" / "encoder"
        if not (encoder / WEIGHTS).is_file():
            raise OrbitforgeError(f"{encoder} holds no encoder, which judges; `orbitforge run` fetches it")
        judges = load_judges(preset.evaluation.judges, encoder)
        cases = _cases(asked, here)
        parent = output.absolute().parent if output else None
        if parent:
            with plain_errors(f"writing {output}"):
                parent.mkdir(parents=True, exist_ok=True)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".orbitforge-", dir=parent)))
        with Bars(console) as bars:
            report = bars.of("reconstructing")
            report()
            evaluate(asked, cases, subjects, judges, folder, preset.evaluation, report=report)
        read = {name: pl.read_parquet(folder / f"{name}.parquet") for name in ("table", "means", "comparisons")}
        seal = json.loads((folder / "protocol.json").read_text())
        if output is not None:
            with plain_errors(f"writing {output}"):
                output.mkdir(exist_ok=True)
                for path in sorted(folder.iterdir()):
                    shutil.move(path, output / path.name)
    comparisons = read["comparisons"]
    if against:
        other = subjects[list(named).index(against)].name
        comparisons = comparisons.filter((pl.col("against") == other) & (pl.col("model") != other))
    if as_json:
        print(json.dumps(_as_json(seal, read["table"], read["means"], comparisons)))
    else:
        _print(Console(), seal, read["table"], read["means"], comparisons if against else None)


@contextmanager
def _entered(subject: Subject) -> Iterator[Subject]:
    with subject if isinstance(subject, AbstractContextManager) else nullcontext():
        yield subject


def _subjects(named: Sequence[str], preset: Preset, *, kind: str | None, device: str) -> list[Subject]:
    from stages.evaluation.evaluate import model_of
    from stages.evaluation.subjects import Folder

    found: list[Subject] = []
    taken: set[str] = set()
    for text in named:
        own = paths.data() / preset.name / text
        if text.replace("_", "").isalnum() and not Path(text).exists() and (own / WEIGHTS).is_file():
            path = own
        else:
            path = checkpoint_path(preset, text)
        name = _name(text, taken)
        if path.is_dir() and not (path / WEIGHTS).is_file() and not text.startswith(("mlflow:", "models:/")):
            found.append(Folder(name, path, preset.rendering))
        else:
            found.append(model_of(name, loaded(path, kind=kind, device=device), preset.evaluation.mesh))
    return found


def _name(text: str, taken: set[str]) -> str:
    """What a person would call it: the last part of a path, with a number where that repeats."""
    stem = text if text.startswith(("mlflow:", "models:/")) else Path(text).resolve().name
    name = next(n for k in range(len(taken) + 1) if (n := stem + (f"-{k + 1}" if k else "")) not in taken)
    taken.add(name)
    return name


def _cases(protocol: SingleImage | Text | Pictures, here: pipeline.Pipeline) -> Cases:
    from stages.evaluation.cases import held_out_cases, picture_cases, text_cases

    if isinstance(protocol, Pictures):
        return picture_cases(protocol)
    if isinstance(protocol, Text):
        from orchestration.cli.painting import painter

        return text_cases(protocol, painter(here.preset) if protocol.prompts else _nothing)
    home = paths.data() / here.preset.name
    manifest = home / "rendered_manifest" / "manifest.parquet"
    if not manifest.is_file():
        raise OrbitforgeError(
            f"{manifest} is missing; render the objects with `orbitforge run --select +rendered_manifest`"
        )
    source = paths.data() / here.preset.source.folder
    return held_out_cases(
        protocol,
        pl.read_parquet(manifest),
        home / "rendered_views",
        here.table("objects"),
        source,
        here.preset.rendering,
    )


def _nothing(prompt: str, seed: int) -> Any:
    raise AssertionError(f"nobody asked for {prompt!r}, {seed}")


def _as_json(
    seal: dict[str, Any], table: pl.DataFrame, means: pl.DataFrame, comparisons: pl.DataFrame
) -> dict[str, Any]:
    failed = table.drop_nulls("reason").drop("value")
    return {
        "protocol": seal,
        "means": means.drop("protocol").to_dicts(),
        "comparisons": comparisons.drop("protocol").to_dicts(),
        "failed": failed.to_dicts(),
    }


def _print(
    console: Console, seal: dict[str, Any], table: pl.DataFrame, means: pl.DataFrame, comparisons: pl.DataFrame | None
) -> None:
    models = means["model"].unique(maintain_order=True).to_list()
    cells = {(row["model"], row["metric"]): row for row in means.to_dicts()}
    title = f"{seal['name']}: {table['object'].n_unique()} objects, means with 95 % intervals over objects"
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown.add_column("metric", no_wrap=True)
    for model in models:
        shown.add_column(model, justify="right")
    missing = []
    for metric in means["metric"].unique(maintain_order=True):
        rows = [cells[model, metric] for model in models]
        if any(row["mean"] is not None for row in rows):
            shown.add_row(f"{metric}, {rows[0]['unit']}", *map(_cell, rows))
        else:
            missing.append(metric)
    console.print(shown)
    for metric in missing:
        reasons = table.filter(pl.col("metric") == metric)["reason"].value_counts(sort=True)
        console.print(f"{metric}: {reasons['reason'][0]}", style="dim", markup=False, highlight=False, soft_wrap=True)
    broken = table.filter(~pl.col("metric").is_in(missing)).drop_nulls("reason")
    for (model, reason), part in broken.group_by("model", "reason", maintain_order=True):
        which = part["metric"].unique(maintain_order=True)
        told = "all metrics" if len(which) == means["metric"].n_unique() - len(missing) else ", ".join(which)
        line = f"{model}: {part['object'].n_unique()} objects without {told}: {reason}"
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
    if comparisons is not None:
        console.print(_differences(comparisons))


def _cell(row: dict[str, Any]) -> str:
    failed = f"\n{row['failed']} failed" if row["failed"] else ""
    if row["mean"] is None:
        return f"none{failed}"
    return f"{row['mean']:.4g}\n{row['low']:.3g} to {row['high']:.3g}{failed}"


def _differences(comparisons: pl.DataFrame) -> Table:
    other = comparisons["against"][0] if len(comparisons) else ""
    shown = Table(title=f"against {other}", title_justify="left", box=None, pad_edge=False)
    for column in ("model", "metric"):
        shown.add_column(column, no_wrap=True)
    for column in ("difference", "better\nwith probability", "objects"):
        shown.add_column(column, justify="right")
    for row in comparisons.to_dicts():
        difference = f"{row['difference']:+.3g}\n{row['low']:+.2g} to {row['high']:+.2g}"
        shown.add_row(row["model"], row["metric"], difference, f"{row['probability']:.3f}", str(row["objects"]))
    return shown
