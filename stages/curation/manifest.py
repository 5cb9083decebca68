"""One row for every pool that was ever asked for: what of it was kept, and where its bytes are.

curated_manifest(shards, output, config) -> output/manifest.parquet, output/summary.parquet
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from stages.curation.config import CurationConfig
from stages.hashing import file_md5
from stages.quality.clips import ORIGIN
from stages.quality.manifest import ACCEPTED, REJECTED
from stages.shards import read_meta

SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "shard": pl.String,
    "path": pl.String,
    "md5": pl.String,
    "verdict": pl.String,
    "reason": pl.String,
    "views": pl.Int64,
    "kept": pl.Int64,
    "back": pl.Boolean,
    "score": pl.Float64,
    **dict.fromkeys(ORIGIN, pl.String),
}


def curated_manifest(
    shards: Path, output: Path, config: CurationConfig, *, report: Callable[[dict[str, Any]], None]
) -> None:
    """List the shards in `shards` (`<shard>/{curated.tar, pools.parquet, quarantine.parquet}`).

    A pool of which fewer than `config.fewest` views were kept is rejected, as is one that was quarantined; `md5` is
    that of the shard's tar. Raises ValueError when no pool is accepted: nothing could be trained on them.
    """
    rows: list[dict[str, Any]] = []
    folders = sorted(path for path in shards.iterdir() if path.is_dir())
    for number, folder in enumerate(folders):
        tar = folder / "curated.tar"
        where = {"shard": folder.name, "path": f"{folder.name}/{tar.name}", "md5": file_md5(tar)}
        judged = {row["pool"]: row for row in pl.read_parquet(folder / "pools.parquet").to_dicts()}
        for id_, meta in read_meta(tar):
            of = judged[id_]
            few = of["kept"] < config.fewest
            told = f"{of['kept']} of {of['views']} views kept" + (f", fewer than {config.fewest}" if few else "")
            rows.append(
                {
                    "id": id_,
                    **where,
                    "verdict": REJECTED if few else ACCEPTED,
                    "reason": told,
                    **{key: of[key] for key in ("views", "kept", "back", "score")},
                    **{key: meta.get(key) for key in ORIGIN},
                }
            )
        for lost in pl.read_parquet(folder / "quarantine.parquet").to_dicts():
            rows.append({**lost, **where, "verdict": REJECTED})
        report({"step": number + 1, "of": len(folders), "doing": "reading shards"})
    table = pl.DataFrame(rows, schema=SCHEMA).sort("shard", "id")
    accepted = table.filter(pl.col("verdict") == ACCEPTED)
    shown = table.drop_nulls("views")
    figures = {
        "pools": len(table),
        "accepted": len(accepted),
        "quarantined": len(table) - len(shown),
        "candidates": int(shown["views"].sum()),
        "kept": int(shown["kept"].sum()),
        "backs": int(shown["back"].sum()),
    }
    report({"metrics": figures})
    if accepted.is_empty():
        raise ValueError(
            f"{shards}: none of {len(table)} pools has {config.fewest} views left; look at views.parquet and at the "
            "previews, or raise curation.spread"
        )
    output.mkdir(parents=True, exist_ok=True)
    table.write_parquet(output / "manifest.parquet")
    summary = pl.DataFrame({"name": list(figures), "value": list(figures.values())})
    summary.write_parquet(output / "summary.parquet")
