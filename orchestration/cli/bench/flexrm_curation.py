"""Curation of candidate views: does it find those that were spoiled on purpose, and what does a pool cost?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from orchestration import paths, pipeline
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError
from stages.objects.splits import HELD_OUT

REPEATS = 6
"""Times that each held-out object's pool is spoiled anew."""
ENCODER = ("back", "describe")
"""Steps that are the encoder's time."""


def rows(report: Callable[[str], None]) -> Iterator[Row]:
    """Pools are the true views of held-out objects, half of their views spoiled; nothing is fitted to anything."""
    import torch

    from stages.curation.curate import load_curator
    from stages.curation.rings import ring_pools
    from stages.curation.trial import trial

    here = pipeline.current()
    preset, home = here.preset, paths.data() / here.preset.name
    judge, encoder, shards = home / "quality_classifier", paths.data() / "base_models" / "encoder", home / "ring_views"
    manifest = home / "ring_manifest" / "manifest.parquet"
    for path in (judge, encoder, shards, manifest):
        if not path.exists():
            raise OrbitforgeError(f"{path} is missing; run `orbitforge run` and `orbitforge flexiview` first")
    torch.set_num_threads(1)
    pools = list(ring_pools(pl.read_parquet(manifest), shards, HELD_OUT, preset.rings))
    if not pools:
        raise OrbitforgeError(f"{manifest} lists no held-out object; the preset uses too few shards of objects")
    curator = load_curator(judge, encoder, preset.curation, preset.quality)
    curator(pools[0])  # compiled by now
    found = trial(pools, curator, seed=preset.seed, repeats=REPEATS)
    for by, kinds in found.kinds.items():
        told = ", ".join(f"{kind} {auc:.3f}" for kind, auc in sorted(kinds.items(), key=lambda item: item[1]))
        report(f"ROC AUC by {by}, by kind: {told}")
    work = f"curation: {found.spoiled} spoiled and {found.good} true views of {len(pools)} held-out objects"
    queries = "matches with the queries alone, as in the paper"
    yield Row(
        f"{work} (peer: {queries})", "ROC AUC", found.roc_auc["support"], found.roc_auc["matches"], 0.9, None, True
    )
    worst = min(found.kinds["support"], key=lambda kind: found.kinds["support"][kind])
    yield Row(f"curation: the kind seen worst ({worst})", "ROC AUC", found.kinds["support"][worst])
    yield Row("curation: true views kept at the preset's threshold", "share", found.good_kept)
    yield Row("curation: spoiled views kept at the preset's threshold", "share", found.spoiled_kept)
    for step, seconds in found.seconds.items():
        yield Row(f"curation: {step}{' (encoder)' if step in ENCODER else ''}, median", "s, wall", seconds)
    took = sum(seconds for step, seconds in found.seconds.items() if step not in ENCODER)
    size = f"{len(pools[0].views)} views, {pools[0].views.shape[-1]} px"
    yield Row(f"curation: selection for a pool of {size}, encoder excluded", "s, wall", took, target=1.0)
    yield Row("curation: the same with the encoder", "s, wall", sum(found.seconds.values()))
    times = []
    for pool in pools:
        began = time.process_time()
        curator(pool)
        times.append(time.process_time() - began)
    yield Row("curation: the same with the encoder, of clean pools", "s, CPU", float(np.median(times)))
