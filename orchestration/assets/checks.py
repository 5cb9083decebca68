"""Checks on what the stages wrote. A blocking one holds back everything that would be built on bad data."""

import inspect
import io
import json
import logging
import math
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import dagster as dg
import polars as pl
from PIL import Image, ImageStat

from orchestration import paths, pipeline
from orchestration.artifacts import watching
from orchestration.memo import FileMemo
from orchestration.steps import Step
from orchestration.versions import digest
from stages.video.verdict import FEWEST_JUDGED, orbit_verdict

SAMPLES_LOOKED_AT = 8
"""Clips of a shard whose pixels are looked at; a check must stay cheap beside the stage."""

_JUDGED = ("rendered", "before", "after", "judge")
_ORBIT_FIGURES = ("accepted", "orbit", "travelled", "monotonic", "azimuth_error", "sameness")


def every_sample_accounted_for(step: Step, archive: str, row: str | None = None) -> dg.AssetChecksDefinition:
    """Every row of the source table is in the shard's archive or quarantined with a reason; no clip is blank.

    `row` names the field of a sample's metadata that holds the id of its row, where that is not the sample's own id.
    """

    # of thousands of shards a run changes a few; what is remembered of a file depends on how it was looked at
    looked_at = digest([row, SAMPLES_LOOKED_AT, inspect.getsource(_rows), inspect.getsource(_blank)])
    seen = FileMemo(f"seen-{step.name}-{looked_at[:8]}")

    @dg.asset_check(
        asset=step.name,
        name="every_sample_accounted_for",
        blocking=True,
        description=f"Each row is in {archive} or in quarantine.parquet with a reason, and its pictures are not blank.",
    )
    def check() -> dg.AssetCheckResult:
        here = pipeline.current()
        table = here.table(str(step.shards))
        ids = {shard: set(rows["id"]) for (shard,), rows in table.group_by("shard")}
        wrong: list[str] = []
        quarantined = 0
        for shard, folder in _watched(step):
            reasons = pl.read_parquet(folder / "quarantine.parquet")
            quarantined += len(reasons)
            wanted = ids[shard] - set(reasons.drop_nulls("reason")["id"])
            there, blank = seen(folder / archive, lambda path: [digest(sorted(_rows(path, row))), _blank(path)])
            if there != digest(sorted(wanted)):
                lacking = sorted(wanted - _rows(folder / archive, row))
                wrong += [f"{shard}: {id_} is neither there nor quarantined" for id_ in lacking]
            wrong += [f"{shard}: {id_} is blank" for id_ in blank]
        return _result(wrong, quarantined=quarantined, rows=len(table))

    return check


def few_quarantined(step: Step, at_most: float = 0.1) -> dg.AssetChecksDefinition:
    """No more than a share of the rows of the source table is quarantined; the reasons are counted."""

    @dg.asset_check(
        asset=step.name,
        name="few_quarantined",
        description=f"At most {at_most:.0%} of the rows are quarantined; more asks for a look at the collection.",
    )
    def check() -> dg.AssetCheckResult:
        tables = [pl.read_parquet(folder / "quarantine.parquet") for _, folder in _watched(step)]
        broken = pl.concat([table.select("id", "reason") for table in tables]) if tables else pl.DataFrame()
        rows = len(pipeline.current().table(str(step.shards)))
        share = len(broken) / max(1, rows)
        counts = broken["reason"].value_counts(sort=True).rows() if len(broken) else []
        told = ", ".join(f"{count} {reason}" for reason, count in counts) or "none"
        return dg.AssetCheckResult(
            passed=share <= at_most,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{len(broken)} of {rows} are quarantined: {told}",
            metadata={"share": share, "threshold": at_most} | {f"reason: {reason}": n for reason, n in counts},
        )

    return check


def cameras_fit(step: Step, archive: str, every: int = 4) -> dg.AssetChecksDefinition:
    """Stored cameras belong to stored views, tried on a few samples of each shard; `orbitforge validate` tries all."""

    @dg.asset_check(
        asset=step.name,
        name="cameras_fit",
        blocking=True,
        description="Rays of object pixels meet what the other views show: no camera is turned, swapped or mirrored.",
    )
    def check() -> dg.AssetCheckResult:
        from stages.rendering.validate import validate
        from stages.shards import read_shard

        wrong: list[str] = []
        tried = 0
        for shard, folder in _watched(step):
            for sample in islice(read_shard(folder / archive), 0, SAMPLES_LOOKED_AT * every, every):
                tried += 1
                wrong += [f"{shard}: {problem.id}: {problem.found}" for problem in validate(sample)][:1]
        return _result(wrong, samples=tried)

    return check


def loss_is_finite(step: Step) -> dg.AssetChecksDefinition:
    """Every value in the training curve is a number, and there is a curve."""

    @dg.asset_check(
        asset=step.name,
        name="loss_is_finite",
        blocking=True,
        description="training.parquet holds numbers alone: a NaN would spread into all that follows.",
    )
    def check() -> dg.AssetCheckResult:
        wrong: list[str] = []
        last: dict[str, float] = {}
        for _, folder in _folders(step):
            for file in sorted(folder.rglob("training.parquet")):
                curve = pl.read_parquet(file)
                where = file.relative_to(folder).as_posix()
                if curve.is_empty():
                    wrong.append(f"{where} is empty")
                for number, name, value in curve.select("step", "name", "value").iter_rows():
                    if not math.isfinite(value):
                        wrong.append(f"{where}: {name} is {value} at step {number}")
                    last[name] = value
        return _result(wrong, **last)

    return check


def orbits(step: Step, at_least: float = 0.5) -> dg.AssetChecksDefinition:
    """Clips go round after fine-tuning, and no less than before it, as the judge of `stages.video.orbits` found.

    A model that fine-tuning turned away from orbiting is an error and blocks: its corpus would teach nominal cameras
    that its frames do not have. Few accepted clips alone are a warning: small models are soft, the judge is strict
    with what it cannot tell, and the corpus is filtered clip by clip before anything is trained on it.
    """

    @dg.asset_check(
        asset=step.name,
        name="orbits",
        blocking=True,
        description=f"A judge trained on rendered orbits accepts {at_least:.0%} of the clips after fine-tuning, and no "
        "fewer than before.",
    )
    def check() -> dg.AssetCheckResult:
        _, folder = next(_folders(step))
        rows = pl.read_parquet(folder / "training.parquet").select("name", "value").rows()
        figures = {name: value for name, value in rows if name.partition("/")[0] in _JUDGED}
        found = orbit_verdict(figures)
        told = (
            f"of {found.judged} clips whose object shows its azimuth {found.before:.0%} orbit before fine-tuning, "
            f"{found.after:.0%} after"
        )
        if not found.enough:
            told += f"; too few to say, {FEWEST_JUDGED} are needed (raise video.judge.measured)"
        lines = ["| | rendered | before | after |", "|---|---|---|---|"]
        for name in _ORBIT_FIGURES:
            cells = [f"{figures.get(f'{of}/{name}', math.nan):.3g}" for of in ("rendered", "before", "after")]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return dg.AssetCheckResult(
            passed=found.enough and not found.worse and found.after >= at_least,
            severity=dg.AssetCheckSeverity.ERROR if found.worse else dg.AssetCheckSeverity.WARN,
            description=told,
            metadata={"figures": dg.MetadataValue.md("\n".join(lines)), "wanted": at_least} | figures,
        )

    return check


def better_than_repeating(step: Step) -> dg.AssetChecksDefinition:
    """Views of a multi-view model are nearer to the true ones than the picture that they were made from.

    A warning: a model that is no better makes pools that the curation turns away, view by view.
    """

    @dg.asset_check(
        asset=step.name,
        name="better_than_repeating",
        description="At elevations other than the picture's, PSNR and silhouettes of the views are better than those "
        "of the picture, of objects that training saw and of others.",
    )
    def check() -> dg.AssetCheckResult:
        _, folder = next(_folders(step))
        figures = dict(pl.read_parquet(folder / "training.parquet").select("name", "value").rows())
        splits = [name.removesuffix("/psnr") for name in figures if name.endswith("/psnr")]
        told, worse = [], not splits
        for split in splits:
            psnr, repeated, iou, before = (
                figures[f"{split}/{name}"] for name in ("psnr", "repeated", "iou", "iou_repeated")
            )
            told.append(f"{split}: {psnr:.1f} dB (repeated {repeated:.1f}), IoU {iou:.2f} ({before:.2f})")
            worse = worse or psnr <= repeated or iou <= before
        return dg.AssetCheckResult(
            passed=not worse,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(told) or "no figures",
            metadata={name: value for name, value in figures.items() if name.partition("/")[0] in splits},
        )

    return check


def _result(wrong: list[str], **facts: float) -> dg.AssetCheckResult:
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return dg.AssetCheckResult(
        passed=not wrong,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(wrong[:3]) + more if wrong else "all is well",
        metadata={name: value for name, value in facts.items() if math.isfinite(value)},
    )


def _folders(step: Step) -> Iterator[tuple[str | None, Path]]:
    """The shards that were made; a run over some shards is checked on those."""
    here = pipeline.current()
    for shard in here.shards(step):
        folder = paths.data() / step.folder(here.preset.name, shard)
        if folder.is_dir():
            yield shard, folder


def _watched(step: Step) -> Iterator[tuple[str | None, Path]]:
    """The same, and how far the check is: of thousands of shards it takes a while."""
    try:
        log = dg.AssetCheckExecutionContext.get().log
    except dg.DagsterInvariantViolationError:  # called by itself
        log = logging.getLogger(__name__)
    with watching(step, pipeline.current().preset.name, log) as watch:
        yield from watch.over(list(_folders(step)), "checking")


def _rows(archive: Path, row: str | None) -> set[str]:
    """The rows of the source table that the samples of an archive came from."""
    with tarfile.open(archive, "r:") as tar:
        if row is None:
            return {name.partition(".")[0] for name in tar.getnames()}
        facts = (tar.extractfile(member) for member in tar if member.name.endswith(".json"))
        return {json.load(file)[row] for file in facts if file}


def _blank(archive: Path) -> list[str]:
    """Ids of samples whose pictures hold a single colour throughout, among the first of the archive."""
    spread: dict[str, bool] = {}
    with tarfile.open(archive, "r:") as tar:
        for id_ in islice(dict.fromkeys(m.name.partition(".")[0] for m in tar), SAMPLES_LOOKED_AT):
            spread[id_] = False
        for member in tar.getmembers():
            id_ = member.name.partition(".")[0]
            file = tar.extractfile(member)
            if spread.get(id_) is False and member.name.endswith((".png", ".webp")) and file:
                picture = Image.open(io.BytesIO(file.read())).convert("RGBA")
                spread[id_] = any(low != high for low, high in ImageStat.Stat(picture).extrema)
    return [id_ for id_, varied in spread.items() if not varied]
