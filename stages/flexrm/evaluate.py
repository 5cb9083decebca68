"""What more views bring, and what curation brings on pools of which half the views were spoiled on purpose.

evaluate_flexrm(flexrm, rings, ring_views, output, config, rings_config, curate, *, seed, report)
    -> output/figures.parquet  (inputs, views, given, object, id, pool, psnr, foreground_psnr, iou): how many views are
                               there, and how many of them the model was given
       output/pools.parquet    (id, pool, views, spoiled, kept, spoiled_kept)
       output/summary.json     what the checks ask
       output/splats.ply       the held-out object that is reconstructed as well as most, from four of its views
       output/views.png        held-out objects: an input view, splats from more and more views, the truth
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from models.flexrm import FlexRM
from stages.candidates.pool import Pool
from stages.curation.rings import ring_pools
from stages.curation.spoils import spoiled
from stages.evaluation.held_out import object_of
from stages.evaluation.statistics import interval
from stages.flexrm.asset import load_flexrm
from stages.flexrm.config import FlexRMTrainingConfig, ViewsProtocolConfig
from stages.flexrm.figures import MEASURED, by_views, compared, elevations_of, parted, seen_from
from stages.objects.splits import HELD_OUT
from stages.reconstruction.data import Orbits, rendered_orbits
from stages.rendering.rings import RingsConfig
from stages.seeds import numpy_generator
from stages.training import Report
from stages.video.sheets import save_sheet

CLEAN = "clean views"
POOL, UNCURATED, CURATED = "clean pool", "half spoiled", "half spoiled, curated"
"""Which views a reconstruction was given: more and more of a ring's, or those of a pool."""
SHOWN = 4
SHEET = (1, 4, 16)
"""Numbers of views that are shown side by side."""
Curate = Callable[[Pool], Sequence[int]]
"""The places of a pool's views that are kept."""


def evaluate_flexrm(
    flexrm: Path,
    rings: Path,
    ring_views: Path,
    output: Path,
    config: FlexRMTrainingConfig,
    rings_config: RingsConfig,
    curate: Curate,
    *,
    seed: int,
    report: Report,
) -> dict[str, float]:
    """Measure the model in the folder `flexrm` on the held-out objects of `rings`; returns the means by inputs and
    views. Pools are those of candidate views, made of true ones: what a perfect pair of generators would give.

    Raises InputError when the folder holds no FlexRM, ValueError when there is no held-out object.
    """
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reconstruct = load_flexrm(flexrm, device=device, config=config.export)
    model, protocol = reconstruct.lrm, config.protocol
    assert isinstance(model, FlexRM)
    rows = compared_rows(pl.read_parquet(rings), protocol.most)
    held_out = rendered_orbits(rows, ring_views, HELD_OUT)
    sheet(model, held_out, protocol, output / "views.png")
    report({"message": f"{len(held_out.ids)} held-out objects from {', '.join(map(str, protocol.counts))} views"})
    rising = by_views(model, held_out, protocol, report)
    rising = rising.with_columns(inputs=pl.lit(CLEAN), pool=pl.lit(0), given=pl.col("views"))
    true_pools = ring_pools(rows, ring_views, HELD_OUT, rings_config, protocol.elevation)
    of = {pool.id: pool for pool in true_pools}
    true = [of[id_] for id_ in held_out.ids]
    pools, kept = by_pools(model, held_out, true, protocol, curate, seed=seed, report=report)
    columns = ["inputs", "views", "given", "object", "id", "pool", *MEASURED]
    figures = pl.concat([table.select(columns) for table in (rising, pools)], how="vertical_relaxed")
    figures.write_parquet(output / "figures.parquet")
    kept.write_parquet(output / "pools.parquet")
    (output / "summary.json").write_text(json.dumps(summary(figures, kept), indent=1) + "\n")
    views, row = parted(held_out, protocol)[0][:SHOWN], held_out.ids.index(usual(rising))
    made = reconstruct.from_views(held_out.rgb[row, views].float() / 255, held_out.cameras[row][views])
    made.told(object=object_of(held_out.ids[row])).write_splats(output / "splats.ply")
    clean = figures.filter(pl.col("inputs") == CLEAN).group_by("views").agg(pl.col("foreground_psnr").mean())
    told = {f"foreground_psnr/{views}": value for views, value in clean.sort("views").iter_rows()}
    told |= {f"foreground_psnr/{name}": value for name, value in _of_pools(figures).items()}
    return {name: value for name, value in told.items() if value is not None}


def _of_pools(figures: pl.DataFrame) -> dict[str, float | None]:
    """Mean foreground PSNR of each kind of pool."""
    means = figures.group_by("inputs").agg(pl.col("foreground_psnr").mean()).rows()
    return {name: value for name, value in sorted(means) if name != CLEAN}


def compared_rows(manifest: pl.DataFrame, most: int | None) -> pl.DataFrame:
    """The rendered held-out rows of a manifest, `most` of them."""
    rows = manifest.filter((pl.col("split") == HELD_OUT) & pl.col("reason").is_null())
    chosen = sorted(rows["id"], key=lambda id_: hashlib.sha256(id_.encode()).hexdigest())[:most]
    return rows.filter(pl.col("id").is_in(chosen))


def usual(figures: pl.DataFrame) -> str:
    """The id in the middle of all by foreground PSNR, means over the numbers of views."""
    of = figures.group_by("id").agg(pl.col("foreground_psnr").mean()).drop_nulls().sort("foreground_psnr", "id")
    return of["id"][len(of) // 2] if len(of) else figures["id"][0]


def sheet(model: FlexRM, orbits: Orbits, protocol: ViewsProtocolConfig, path: Path) -> None:
    """A row an object, some of its targets in each column."""
    inputs, targets = parted(orbits, protocol)
    targets = targets[:: max(1, len(targets) // SHOWN)][:SHOWN]
    columns = [orbits.rgb[:, inputs[:1]].float() / 255]
    for count in [count for count in protocol.counts if count in SHEET]:
        some = inputs[:count]
        made = [
            seen_from(model, orbits.rgb[row, some].float() / 255, cameras[some], cameras[targets])[0]
            for row in range(len(orbits.ids))
            for cameras in (orbits.cameras[row],)
        ]
        columns.append(torch.stack(made))
    save_sheet(path, *columns, orbits.rgb[:, targets].float() / 255)


def by_pools(
    model: FlexRM,
    orbits: Orbits,
    pools: Sequence[Pool],
    protocol: ViewsProtocolConfig,
    curate: Curate,
    *,
    seed: int,
    report: Report,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The figures of each object from its pool of true views, from one that was spoiled, and from what curation kept of
    that, at views on other rings than the pool's orbit; and what was kept. `pools` are those of `orbits`, in order."""
    high = elevations_of(orbits.cameras[0])
    orbit = high[parted(orbits, protocol)[0][0]]
    targets = [view for view in parted(orbits, protocol)[1] if abs(float(high[view] - orbit)) > 1e-3]
    tables, facts = [], []
    for draw in range(protocol.pools):
        made: dict[str, list[Any]] = {POOL: [], UNCURATED: [], CURATED: []}
        counts = {name: [] for name in made}
        for row, pool in enumerate(pools):
            others = [other for number, other in enumerate(pools) if number != row]
            bad, which = spoiled(pool, numpy_generator(seed, pool.id, draw), protocol.spoiled, others=others)
            every, chosen = range(len(pool.views)), list(curate(bad))
            for name, given, some in ((POOL, pool, every), (UNCURATED, bad, every), (CURATED, bad, chosen)):
                places = _front_first(given, some)
                asked = orbits.cameras[row][targets]
                made[name].append(seen_from(model, given.views[places], given.cameras[places], asked))
                counts[name].append(len(places))
            row_facts = {"id": pool.id, "pool": draw, "views": len(pool.views), "spoiled": len(which)}
            facts.append({**row_facts, "kept": len(chosen), "spoiled_kept": len(set(chosen) & set(which))})
        for name, results in made.items():
            table = compared(orbits, parted(orbits, protocol)[0][0], targets, results)
            views = pl.Series([len(pool.views) for pool in pools], dtype=pl.Int32)
            given = pl.Series(counts[name], dtype=pl.Int32)
            tables.append(table.with_columns(inputs=pl.lit(name), views=views, given=given, pool=pl.lit(draw)))
        report({"step": draw + 1, "of": protocol.pools, "doing": "measuring by pools"})
    return pl.concat(tables), pl.DataFrame(facts)


def _front_first(pool: Pool, chosen: Sequence[int]) -> list[int]:
    """The places with the front leading: the world is turned so that it stands at azimuth 0."""
    return [pool.front, *(place for place in chosen if place != pool.front)]


def summary(figures: pl.DataFrame, kept: pl.DataFrame) -> dict[str, Any]:
    """Means by inputs and views; what curation adds to a spoiled pool, in pairs of equal object and pool, with the
    95 % interval over objects; how many of the spoiled and of the good views are kept."""
    means = figures.filter(pl.col("inputs") == CLEAN).group_by("views").agg(pl.col(*MEASURED).mean()).sort("views")
    pairs = figures.filter(pl.col("inputs") == CURATED).join(
        figures.filter(pl.col("inputs") == UNCURATED), on=["id", "pool"], suffix="_before"
    )
    gains = pairs.with_columns(gain=pl.col("foreground_psnr") - pl.col("foreground_psnr_before"))
    over_objects = gains.group_by("object").agg(pl.col("gain").mean()).sort("object")["gain"].drop_nulls().to_numpy()
    bad, whole = int(kept["spoiled"].sum()), int(kept["views"].sum())
    stay = int(kept["spoiled_kept"].sum())
    return {
        "by_views": means.to_dicts(),
        "pools": _of_pools(figures),
        "gain": {**interval(over_objects)._asdict(), "objects": len(over_objects)},
        "kept": {"spoiled": stay / max(bad, 1), "good": (int(kept["kept"].sum()) - stay) / max(whole - bad, 1)},
    }
