"""From what a person types to what the ledger knows by it."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

import polars as pl

from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.lineage.hashing import hash_files
from orchestration.lineage.ledger import CANDIDATE, MADE, OBSERVED, PROMOTED, PUBLISHED, Row
from orchestration.steps import Source, Step
from stages.documents import read_json

LEAST = 6
"""Characters of a row id or a data version that are enough."""
_HEX = re.compile(rf"[0-9a-f]{{{LEAST},40}}(\.dir)?")
_MODEL = re.compile(r"(?:models:/)?(?P<name>[a-z0-9-]+-[a-z_]+)(?:/(?P<version>\d+)|@(?P<alias>[a-z][\w-]*))")


class Named(NamedTuple):
    """An entry of a source: an object, a prompt or a judged clip."""

    asset: str
    id: str


def find(current: Current, text: str) -> Row | Named:
    """The artifact or source entry that `text` names.

    A row: an asset (`lrm_finetuned`, `rendered_views/000`), a folder of `data/`, a registered model
    (`models:/nano-lrm_finetuned/1`, `nano-lrm_finetuned@production`), the beginning of a row id or data version, or a
    file: a GLB names its model, any other file is known by its md5. Else the id of an object, a prompt or a label.
    Raises OrbitforgeError when nothing has that name.
    """
    path = Path(text)
    found = (
        _of_file(current, path)
        if path.is_file()
        else _of_asset(current, text)
        or _of_model(current, text)
        or _of_hash(current, text)
        or _of_source(current, text)
    )
    if found is None:
        assets = ", ".join(step.name for step in current.pipeline.steps)
        raise OrbitforgeError(
            f"nothing is known as {text!r}; name an asset ({assets}), a registered model such as "
            f"models:/{current.pipeline.preset.name}-lrm_finetuned/1, a row id, a data version, a file, or the id of "
            "an object, a prompt or a label"
        )
    return found


def find_row(current: Current, text: str) -> Row:
    """The artifact that `text` names; raises OrbitforgeError for anything else."""
    found = find(current, text)
    if isinstance(found, Named):
        raise OrbitforgeError(f"{text!r} is an entry of {found.asset}; name something that was made of it")
    return found


def _of_asset(current: Current, text: str) -> Row | None:
    preset = current.pipeline.preset.name
    parts = [part for part in text.removeprefix("data/").strip("/").split("/") if part]
    for step in current.pipeline.steps:
        for shard in (None, parts[-1] if parts else None):
            folder = step.folder(preset, shard)
            if folder in ("/".join(parts), f"{preset}/{'/'.join(parts)}") and (row := current.row(step.name, shard)):
                return row
    if text in {step.name for step in current.pipeline.steps if step.shards}:
        raise OrbitforgeError(f"{text} is made of shards; name one, such as {text}/{_first_shard(current, text)}")
    newest = current.everything.get("/".join(parts))  # of another preset
    return current.row_of_id(newest.row) if newest else None


def _first_shard(current: Current, asset: str) -> str | None:
    return next(iter(current.pipeline.shards(current.pipeline.find(asset))), None)


def _of_model(current: Current, text: str) -> Row | None:
    if not (match := _MODEL.fullmatch(text)):
        return None
    name, version, alias = match["name"], match["version"], match["alias"]
    preset, _, asset = name.rpartition("-")
    mine = (pl.col("preset") == preset) & (pl.col("asset") == asset)
    told = (
        (pl.col("kind") == PUBLISHED) & (pl.col("reference") == f"models:/{name}/{version}")
        if version
        else (pl.col("kind") == PUBLISHED) & mine
        if alias == CANDIDATE
        else (pl.col("kind") == PROMOTED) & (pl.col("service") == alias) & mine
    )
    found = current.ledger.query(lambda rows: rows.filter(told).select("about", "ended")).sort("ended")
    return current.row_of_id(found["about"][-1]) if len(found) else None


def _of_hash(current: Current, text: str) -> Row | None:
    if not _HEX.fullmatch(text):
        return None
    alike = (pl.col("kind") == MADE) & (pl.col("id").str.starts_with(text) | pl.col("version").str.starts_with(text))
    found = current.ledger.query(lambda rows: rows.filter(alike).select("id", "version", "ended")).sort("ended")
    if found["version"].n_unique() > 1:
        raise OrbitforgeError(f"{text} is the beginning of {found['version'].n_unique()} versions; give more of it")
    return current.row_of_id(found["id"][-1]) if len(found) else None


def _of_file(current: Current, path: Path) -> Row | Named | None:
    if path.suffix == ".glb" and (md5 := model_md5(path)):
        row = _row_with(current, md5)
        if row is None:
            raise OrbitforgeError(f"{path} was made by a model with md5 {md5}, which this ledger does not know")
        return row
    md5 = str(hash_files([path])[path])
    row = _row_with(current, md5)
    if row is None or row.kind == MADE:
        return row
    for source in current.pipeline.sources:  # a file of a source: a mesh stands for its object
        if source.name == row.asset and source.table:
            named = current.pipeline.table(source.table).filter(pl.col("md5") == md5)
            if len(named):
                return Named(source.name, named["id"][0])
    raise OrbitforgeError(f"{path} is a file of {row.asset}; name one of its entries by id")


def _row_with(current: Current, md5: str) -> Row | None:
    """The newest row with a file of this md5: an artifact without shards, else a shard, else an observation."""
    holds = pl.col("files").list.eval(pl.element().struct.field("md5") == md5).list.any()
    made = pl.col("kind") == MADE
    for which in (made & pl.col("shard").is_null(), made, pl.col("kind") == OBSERVED):  # from few rows to many
        found = current.ledger.query(
            lambda rows, which=which: (
                rows.filter(which).select("id", "ended", "files").filter(holds).select("id", "ended")
            )
        )
        if len(found):
            return current.row_of_id(found.sort("ended")["id"][-1])
    return None


def _of_source(current: Current, text: str) -> Named | None:
    from orchestration.lineage.sources import labels

    for source in current.pipeline.sources:
        ids = current.pipeline.whole_table(source.table)["id"] if source.table else labels(source)["clip"]
        if text in ids:
            return Named(source.name, text)
    return None


def model_md5(path: Path) -> str | None:
    """The md5 of the weights that made a GLB, from its `asset.extras`; None for a GLB that says nothing.

    Raises OrbitforgeError for a file that is no GLB.
    """
    data = path.read_bytes()
    try:
        magic, _, _, length, kind = struct.unpack_from("<4sIII4s", data)
        if magic != b"glTF" or kind != b"JSON":
            raise ValueError
        told = read_json(data[20 : 20 + length]).get("asset", {}).get("extras", {}).get("model_md5")
    except (struct.error, ValueError, AttributeError):
        raise OrbitforgeError(f"{path} is no GLB: it should begin with glTF and a JSON chunk") from None
    return told if isinstance(told, str) else None


def step_of(current: Current, row: Row) -> Step:
    """Raises OrbitforgeError when the pipeline has no such step any more."""
    found = current.pipeline.find(row.asset)
    if isinstance(found, Source):
        raise OrbitforgeError(f"{row.asset} is observed, not made")
    return found
