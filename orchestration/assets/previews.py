"""Pictures and tables that Dagster shows beside an artifact; no part of it, and no part of its version."""

from __future__ import annotations

import io
import tarfile
from itertools import islice
from pathlib import Path

import polars as pl
from PIL import Image

from orchestration.steps import Work

SAMPLES, VIEWS, SIDE = 8, 8, 64
"""Of a contact sheet: rows, columns and pixels a side of one view."""
_RATES = ("false_positives", "recall", "precision")


def contact_sheet(work: Work, archive: str, views: int = VIEWS) -> None:
    """The first samples of an archive of views, a row each, on white; at most so many `views` of them."""
    rows: dict[str, list[Image.Image]] = {}
    with tarfile.open(work.output / archive) as tar:
        for member in tar:
            id_, _, rest = member.name.partition(".")
            if id_ not in rows and len(rows) == SAMPLES:
                break
            pictures = rows.setdefault(id_, [])
            if rest.endswith((".png", ".webp")) and (file := tar.extractfile(member)):
                pictures.append(Image.open(io.BytesIO(file.read())).convert("RGBA"))
    sheet = Image.new("RGB", (views * SIDE, max(1, len(rows)) * SIDE), "white")
    for row, pictures in enumerate(rows.values()):
        for column, picture in enumerate(islice(pictures, 0, None, max(1, len(pictures) // views))):
            small = picture.resize((SIDE, SIDE))
            sheet.paste(small, (column * SIDE, row * SIDE), small)
    sheet.save(_folder(work) / f"{Path(archive).stem}.png")


def all_objects(work: Work, archive: str) -> None:
    """One view of each sample of an archive."""
    from stages.rendering.overview import overview

    overview(work.output / archive).save(_folder(work) / f"{Path(archive).stem}_overview.png")


def curated(work: Work, candidates: Path) -> None:
    """The first pools of candidate views, those that were turned away framed, and how many of each place were kept."""
    from stages.curation.picture import sheet

    views = pl.read_parquet(work.output / "views.parquet")
    sheet(candidates, views, SAMPLES).save(_folder(work) / "curated.png")
    rows = views.group_by("source", "elevation", "azimuth").agg(
        kept=(pl.col("verdict") == "accepted").mean(), support=pl.col("support").mean(), views=pl.len()
    )
    table(work, rows.sort("source", "elevation", "azimuth"), "kept_by_place")
    table(work, pl.read_parquet(work.output / "pools.parquet"), "pools")


def reasons(work: Work) -> None:
    """What was quarantined and why, if anything was."""
    broken = pl.read_parquet(work.output / "quarantine.parquet")
    if len(broken):
        table(work, broken, "quarantined")


def histograms(work: Work, rows: pl.DataFrame, columns: dict[str, str]) -> None:
    """How the values of each column (name: unit) spread, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.5 * len(columns), 2.5), layout="constrained")
    for place, (name, unit) in enumerate(columns.items(), start=1):
        axes = figure.add_subplot(1, len(columns), place)
        axes.hist(rows[name].drop_nulls().to_numpy(), bins=18)
        axes.set_xlabel(f"{name}, {unit}")
    figure.savefig(_folder(work) / "histograms.png", dpi=100)


def clips_by_score(work: Work, manifest: pl.DataFrame, clips: Path, thumbs: int = 4) -> None:
    """The best, the borderline (nearest their threshold) and the worst clips of a corpus, a picture each."""
    from stages.quality.clips import Broken, read_clip
    from stages.shards import composite

    scored = manifest.drop_nulls("score").sort("score", "shard", "id", descending=[True, False, False])
    doubt = (pl.col("score") - pl.col("threshold")).abs()
    chosen = {"best": scored.head(thumbs), "borderline": scored.sort(doubt).head(thumbs), "worst": scored.tail(thumbs)}
    for name, part in chosen.items():
        sheet = Image.new("RGB", (VIEWS * SIDE, max(1, len(part)) * SIDE), "white")
        for row, (path, id_) in enumerate(part.select("clips_path", "id").iter_rows()):
            clip = read_clip(clips / path, id_)
            views = [] if isinstance(clip, Broken) else composite(clip.views)
            for column, view in enumerate(islice(views, 0, None, max(1, len(views) // VIEWS))):
                pixels = (view.transpose(1, 2, 0) * 255).round().astype("uint8")
                sheet.paste(Image.fromarray(pixels).resize((SIDE, SIDE)), (column * SIDE, row * SIDE))
        sheet.save(_folder(work) / f"{name}.png")
        table(work, part.select("id", "score", "elevation", "reason", "caption"), f"{name}_clips")


def rates(work: Work, report: pl.DataFrame) -> None:
    """ROC, and precision and recall by threshold, of a classifier's report."""
    from matplotlib.figure import Figure

    curves = {name: report.filter(pl.col("name") == f"curve.{name}")["value"] for name in _RATES}
    threshold = float(report.filter(pl.col("name") == "threshold")["value"][0])
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(curves["false_positives"], curves["recall"])
    left.set(xlabel="bad clips accepted", ylabel="good clips accepted", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    at = report.filter(pl.col("name") == "curve.recall")["at"]
    for name in ("precision", "recall"):
        right.plot(at, curves[name], label=name)
    right.axvline(threshold, color="grey", linestyle=":", label=f"threshold {threshold:.2f}")
    right.set(xlabel="score", ylim=(-0.02, 1.02))
    right.legend(fontsize="small")
    figure.savefig(_folder(work) / "rates.png", dpi=100)
    table(work, report.filter(pl.col("at").is_null()).select("name", "value", "note"), "report")


def loss_curves(work: Work) -> None:
    """Each training.parquet of the output: what was logged at several steps as curves, the rest as a table."""
    from matplotlib.figure import Figure

    for file in sorted(work.output.rglob("training.parquet")):
        name = "_".join((*file.relative_to(work.output).parts[:-1], "training"))
        curve = pl.read_parquet(file)
        often = curve.group_by("name").len().filter(pl.col("len") > 2)["name"].sort().to_list()
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.subplots()
        for each in often:
            values = curve.filter(pl.col("name") == each)
            axes.plot(values["step"], values["value"], label=each, linewidth=1)
        if often and (curve.filter(pl.col("name").is_in(often))["value"] > 0).all():
            axes.set_yscale("log")
        axes.set_xlabel("step")
        if often:
            axes.legend(fontsize="small")
        figure.savefig(_folder(work) / f"{name}.png", dpi=100)
        once = curve.filter(~pl.col("name").is_in(often)).select("name", "value")
        if len(once):
            table(work, once, f"{name}_figures")


def evaluation(work: Work) -> None:
    """Means with their intervals, what failed and why, and the gallery as one sheet."""
    means, rows = (pl.read_parquet(work.output / f"{name}.parquet") for name in ("means", "table"))
    table(work, wide(means), "means")
    missing = rows.drop_nulls("reason").group_by("model", "metric", "reason").len("objects")
    if len(missing):
        table(work, missing.sort("model", "metric"), "without_a_value")
    pictures = [Image.open(file) for file in sorted((work.output / "gallery").glob("*.png"))]
    if pictures:
        sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
        top = 0
        for picture in pictures:
            sheet.paste(picture, (0, top))
            top += picture.height
        sheet.save(_folder(work) / "gallery.png")


def wide(means: pl.DataFrame) -> pl.DataFrame:
    """A row a model, a column a metric that any of them has: mean (low to high), and how many objects failed."""
    told = pl.format("{} ({} to {})", *(pl.col(name).round_sig_figs(3) for name in ("mean", "low", "high")))
    failed = pl.when((pl.col("failed") > 0) & (pl.col("objects") > 0)).then(pl.format(", {} failed", "failed"))
    cell = told + failed.otherwise(pl.lit(""))
    rows = means.filter(pl.col("mean").is_not_null().any().over("metric"))
    return rows.select("model", "metric", cell=cell).pivot("metric", index="model", values="cell")


def table(work: Work, rows: pl.DataFrame, name: str) -> None:
    """A Markdown table, at most 50 rows."""
    heading = f"**{name.replace('_', ' ')}**\n\n"
    (_folder(work) / f"{name}.md").write_text(heading + markdown(rows) + "\n")


def markdown(rows: pl.DataFrame) -> str:
    lines = [f"| {' | '.join(rows.columns)} |", "|---" * rows.width + "|"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows.head(50).iter_rows()]
    if len(rows) > 50:
        lines.append(f"\nand {len(rows) - 50} more")
    return "\n".join(lines)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _folder(work: Work) -> Path:
    folder = work.scratch / "preview"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
