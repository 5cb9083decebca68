"""The clips that people can judge: those of the preset's corpus, and those that someone judged before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from orchestration.errors import OrbitforgeError
from orchestration.versions import file_md5
from stages.quality.clips import Broken, read_clip, read_clips
from stages.quality.judged import LEARNED_FROM
from stages.shards import Sample

SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("clip", "id", "tar", "source"), pl.String),
    **dict.fromkeys(("score", "threshold"), pl.Float64),
}
DIGITS = 8


class Corpus:
    """Candidates of one preset. A label names a clip as <id>-<start of its shard's md5>: an id alone comes back with
    other pictures in the next corpus."""

    def __init__(self, home: Path, preset: str) -> None:
        """`home` is data/<preset>. Raises OrbitforgeError when no clip of it can be judged."""
        clips = home / "synthetic_corpus"
        tables = list(_shards(clips, home / "quality_labels", preset))
        self.candidates = pl.concat([pl.DataFrame(schema=SCHEMA), *tables])
        if self.candidates.is_empty():
            raise OrbitforgeError(
                f"{clips} holds no clip to judge; `orbitforge run --select +synthetic_corpus` makes some"
            )
        self._rows = {row["clip"]: row for row in self.candidates.iter_rows(named=True)}
        self._stamps = {tar: _stamp(Path(tar)) for tar in set(self.candidates["tar"])}

    def __contains__(self, clip: str) -> bool:
        return clip in self._rows

    def source(self, clip: str) -> str:
        return self._rows[clip]["source"]

    def read(self, clip: str) -> Sample:
        """The clip, named as its label names it.

        Raises OrbitforgeError where the corpus is another now or the clip is broken.
        """
        row = self._rows[clip]
        tar = Path(row["tar"])
        if _stamp(tar) != self._stamps[row["tar"]]:
            raise OrbitforgeError(f"{tar} was made anew meanwhile: start `orbitforge label` again")
        found = read_clip(tar, row["id"])
        if isinstance(found, Broken):
            raise OrbitforgeError(f"{tar}: {found.id} is broken: {found.reason}")
        return Sample(clip, found.views, found.meta)


def judged_before(folder: Path, tar: str, clip: str) -> Sample:
    """A clip that lies with the labels. Raises OrbitforgeError when it is not there any more."""
    try:
        found = read_clip(folder / tar, clip)
    except (OSError, KeyError, ValueError) as error:
        raise OrbitforgeError(f"the clip {clip} cannot be read from {folder / tar}: {error}") from error
    if isinstance(found, Broken):
        raise OrbitforgeError(f"{folder / tar}: {clip} is broken: {found.reason}")
    return found


def _shards(clips: Path, labels: Path, preset: str) -> Iterator[pl.DataFrame]:
    """Candidates of each shard, with their scores where they were labelled as they are now."""
    for tar in sorted(clips.glob("*/clips.tar")):
        shard = tar.parent.name
        md5 = file_md5(tar)
        path = labels / shard / "labels.parquet"
        table = None
        if path.is_file() and "clips_md5" in pl.read_parquet_schema(path):
            table = pl.read_parquet(path, columns=["id", "score", "threshold", "split", "fault", "clips_md5"])
        if table is None or set(table["clips_md5"]) != {md5}:
            # nothing is known of these clips yet
            found = [clip for clip in read_clips(tar) if isinstance(clip, Sample)]
            rows = {"id": [clip.id for clip in found], "split": [clip.meta.get("split") for clip in found]}
            nothing = {name: pl.lit(None, pl.Float64) for name in ("score", "threshold")}
            table = pl.DataFrame(rows, schema=dict.fromkeys(rows, pl.String)).with_columns(
                fault=pl.lit(None, pl.String), **nothing
            )
        usable = table.filter(pl.col("fault").is_null() & (pl.col("split").is_in(LEARNED_FROM)))
        yield usable.select(
            clip=pl.concat_str("id", pl.lit(f"-{md5[:DIGITS]}")),
            id="id",
            tar=pl.lit(str(tar)),
            source=pl.lit(f"{preset}/synthetic_corpus[{shard}] {md5}"),
            score="score",
            threshold="threshold",
        )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (stat.st_ino, stat.st_mtime_ns)
