"""Quality labels: do they see what is wrong, and what do they cost beside the encoder that they cannot do without?"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from orchestration import paths, pipeline
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError
from stages.objects.splits import TRAIN

CLIPS, VIEWS, SIZE, DISTINCT = 1000, 16, 64, 20
"""Of the shard that is labelled; DISTINCT orbits come again and again, each time from another start."""
DINO_SMALL = {"image_size": SIZE, "table_size": 518, "patch": 14, "width": 384, "layers": 12, "heads": 6}
EVERY = 5
"""The bare encoder is timed on every fifth batch."""
SETTLED = 250
"""Clips after which memory should not grow any more."""
SHARDS = 100
"""Of the corpus whose manifest is made: 100,000 clips."""


def measure(report: Callable[[str], None]) -> list[Row]:
    return [*_trial(report), *_labelling(report), *_manifest(report)]


def _trial(report: Callable[[str], None]) -> Iterator[Row]:
    from stages.quality.trial import trial

    here = pipeline.current()
    data, home = paths.data(), paths.data() / here.preset.name
    for folder in (data / "human_labels", data / "base_models", home / "elevation_estimator"):
        if not folder.is_dir():
            raise OrbitforgeError(f"{folder} is missing; run `orbitforge run` first")
    found = trial(
        data / "human_labels",
        data / "base_models" / "encoder",
        home / "elevation_estimator",
        here.table("objects").filter(pl.col("split") != TRAIN),
        data / here.preset.source.folder,
        here.preset.quality,
        seed=here.preset.seed,
    )
    kinds = sorted(found.without.items(), key=lambda item: item[1])
    report("kind left out of training, ROC AUC: " + ", ".join(f"{kind} {auc:.3f}" for kind, auc in kinds))
    work = f"{found.spoiled} spoiled and {found.clean} clean clips of unseen objects"
    yield Row(f"judge: {work}", "ROC AUC", found.roc_auc, target=0.95, at_least=True)
    yield Row(f"judge: worst kind that was not taught ({kinds[0][0]})", "ROC AUC", kinds[0][1])
    yield Row("judge: median over kinds that were not taught", "ROC AUC", float(np.median([auc for _, auc in kinds])))
    work = f"elevation: {found.clean} rendered clips of unseen objects"
    yield Row(work, "degrees, median error", float(np.median(found.errors)), target=5.0)


def _labelling(report: Callable[[str], None]) -> Iterator[Row]:
    import psutil
    import torch

    from stages.quality.clips import read_clips
    from stages.quality.features import embed_clips, load_embedder
    from stages.quality.labels import label_shard
    from stages.shards import Sample, composite

    config = pipeline.current().preset.quality
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=_scratch()) as name:
        home = Path(name)
        _models(home, config)
        rss: dict[int, float] = {}

        def watch(event: dict[str, Any]) -> None:
            if step := event.get("step"):
                rss[step] = psutil.Process().memory_info().rss / 2**20

        models = (home / "elevation", home / "classifier", home / "encoder")
        began = time.process_time()
        label_shard(home / "clips.tar", *models, home / "labels", config, seed=0, report=watch)
        ours = time.process_time() - began
        report(f"{CLIPS} clips labelled in {ours:.0f} CPU s")

        embed = load_embedder(config.features, home / "encoder").dino
        clips = (composite(clip.views) for clip in read_clips(home / "clips.tar") if isinstance(clip, Sample))
        bare = counted = 0.0
        for number in itertools.count():
            if not (batch := list(itertools.islice(clips, config.features.batch))):
                break
            if number % EVERY == 0:
                began = time.process_time()
                embed_clips(embed, batch)
                bare += time.process_time() - began
                counted += len(batch)
        speed, peer = CLIPS / ours, counted / bare
    work = f"labelling {CLIPS} clips ({VIEWS} views, {SIZE} px, DINOv2-small shape), tar to Parquet"
    yield Row(work, "clips a CPU s", speed, peer=peer)
    yield Row("the same over the bare encoder's speed", "share", speed / peer, target=0.9, at_least=True)
    settled = min(step for step in rss if step >= SETTLED)
    grown = max(rss.values()) - rss[settled]
    yield Row(f"memory: growth from clip {settled} to {CLIPS}", "MiB", grown, target=32.0)


def _models(home: Path, config: Any) -> None:
    """A shard of clips, and models of the right shapes; what they say does not matter here."""
    import torch

    from models.checkpoints import save
    from models.config import EncoderConfig
    from models.encoder import Encoder
    from stages.quality.classifier import fit_judge, save_classifier
    from stages.quality.config import LabelsConfig
    from stages.quality.elevation import Elevation, ElevationModel
    from stages.quality.features import load_embedder
    from stages.quality.observe import observe
    from stages.quality.spoil import trial_clips
    from stages.shards import Sample, write_shard

    here = pipeline.current()
    torch.manual_seed(0)
    shape = EncoderConfig.model_validate(DINO_SMALL)
    save(Encoder(shape), shape, home / "encoder")
    objects = here.table("objects").filter(pl.col("split") == TRAIN).sort("id").head(DISTINCT)
    settings = LabelsConfig.model_validate({"rendering": {"size": SIZE, "views": VIEWS}})
    meshes = paths.data() / here.preset.source.folder
    orbits = [clip for _, clip in itertools.islice(trial_clips(objects, meshes, settings, seed=0, clean=1), DISTINCT)]

    def clips() -> Iterator[Sample]:
        for number in range(CLIPS):
            orbit = orbits[number % len(orbits)]
            yield Sample(f"c{number:05d}", np.roll(orbit.views, number // len(orbits), 0), orbit.meta)

    write_shard(home / "clips.tar", clips())
    seen = observe(load_embedder(config.features, home / "encoder"), orbits, config)
    judge = fit_judge(seen, np.arange(len(seen)) % 2 == 0, config.classifier)
    save_classifier(judge, home / "classifier")
    heights = ElevationModel(features=seen[0].views.shape[1], hidden=config.elevation.hidden, dropout=0.0)
    save(Elevation(heights), heights, home / "elevation")


def _manifest(report: Callable[[str], None]) -> Iterator[Row]:
    """From a new threshold to the finished manifest, in wall-clock seconds; files are warm."""
    from stages.quality.manifest import corpus_manifest

    config = pipeline.current().preset.quality
    with tempfile.TemporaryDirectory(dir=_scratch()) as name:
        home = Path(name)
        clips = _corpus(home)
        times = []
        for threshold in (0.3, 0.4, 0.5):
            rules = config.verdict.model_copy(update={"threshold": threshold})
            began = time.perf_counter()
            changed = config.model_copy(update={"verdict": rules})
            corpus_manifest(home / "labels", home / "clips", home / "out", changed, report=lambda _: None)
            times.append(time.perf_counter() - began)
        report(f"manifest of {clips} clips: {', '.join(f'{seconds:.2f} s' for seconds in times)}")
    yield Row(f"manifest: {clips:,} clips, another threshold", "s, median", float(np.median(times)), target=3.0)


def _corpus(home: Path) -> int:
    """Labels of SHARDS x 1,000 clips as label_shard writes them, numbers drawn at random."""
    from stages.quality.labels import SCHEMA

    rng = np.random.default_rng(0)
    per = 1000
    for number in range(SHARDS):
        shard = f"p{number:04d}"
        labels, clips = home / "labels" / shard, home / "clips" / shard
        for folder in (labels, clips):
            folder.mkdir(parents=True)
        columns: dict[str, Any] = {}
        for column, kind in SCHEMA.items():
            columns[column] = rng.random(per) if kind == pl.Float64 else [f"{column} {k}" for k in range(per)]
        columns |= {"id": [f"{shard}-{k:04d}" for k in range(per)], "fault": [None] * per}
        columns |= {"clips_md5": ["0" * 32] * per, "masks_md5": ["1" * 32] * per}
        pl.DataFrame(columns, schema=SCHEMA).write_parquet(labels / "labels.parquet")
        (clips / "clips.tar").touch()
        nothing = pl.DataFrame(schema={"id": pl.String, "reason": pl.String})
        nothing.write_parquet(clips / "quarantine.parquet")
    return SHARDS * per


def _scratch() -> Path:
    paths.work().mkdir(exist_ok=True)
    return paths.work()
