"""Croissant metadata (MLCommons) of the data behind an artifact: files with their md5, tables with their columns."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import polars as pl

from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.lineage.exports.words import labels_words, objects_words, title
from orchestration.lineage.ledger import File, Row
from orchestration.lineage.record import Record
from orchestration.resources import store
from orchestration.steps import Step

FORMATS = {".parquet": "application/vnd.apache.parquet", ".tar": "application/x-tar", ".json": "application/json"}
SPDX = "https://spdx.org/licenses/{}.html"


def croissant(record: Record, current: Current) -> str:
    """Croissant 1.0 as JSON-LD. Raises OrbitforgeError when mlcroissant finds it wrong, naming what."""
    import mlcroissant as mlc

    rows = list(_data_rows(record, current))
    if not rows:
        raise OrbitforgeError(f"{title(record.row)} has no data in its lineage to describe; name what was made of some")
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        metadata = _metadata(mlc, record, current, rows)
        text = json.dumps(metadata.to_json(), indent=2, default=str)
        mlc.Dataset(jsonld=json.loads(text))  # as a reader would
    except mlc.ValidationError as error:
        raise OrbitforgeError(f"mlcroissant refuses the metadata: {' '.join(str(error).split())}") from None
    return text


def _metadata(mlc: Any, record: Record, current: Current, rows: list[Row]) -> Any:
    files = [(row, file) for row in rows for file in row.files]
    return mlc.Metadata(
        name=f"orbitforge-{record.row.preset}-{record.row.asset}",
        description=f"What {title(record.row)} ({record.row.version}) came from: {objects_words(record)}, "
        f"{len(record.prompts)} prompts, {labels_words(record)}. Ledger row {record.row.id}.",
        version="1.0.0",
        date_published=record.row.ended[:10],
        license=[SPDX.format(licence) for licence in record.licences if licence != "unknown"],
        creators=[mlc.Person(name=name) for name in record.objects["creator"].unique().sort().to_list()],
        url=f"urn:orbitforge:{record.row.id}",
        cite_as=f"Orbitforge ledger row {record.row.id}",
        distribution=[_file_object(mlc, row, file) for row, file in files],
        record_sets=[_record_set(mlc, row, file) for row, file in files if _is_table(current, row, file)],
    )


def _data_rows(record: Record, current: Current) -> Iterator[Row]:
    """The shards and tables in a lineage; models are described by a model card."""
    steps = {step.name: step for step in current.pipeline.steps}
    data = [name for name, step in steps.items() if step.kind != "model"]
    ids = record.rows.filter(pl.col("asset").is_in(data))["id"]
    yield from sorted(current.ledger.rows(ids).values(), key=lambda row: (row.folder, row.ended))


def _is_table(current: Current, row: Row, file: File) -> bool:
    step = current.pipeline.find(row.asset)
    named = isinstance(step, Step) and step.kind == "table" and file.path.endswith(".parquet")
    return named and store.object_path(file.md5).is_file()


def _id(row: Row, file: File) -> str:
    return f"{row.folder}/{file.path}"


def _file_object(mlc: Any, row: Row, file: File) -> Any:
    suffix = f".{file.path.rpartition('.')[2]}"
    return mlc.FileObject(
        id=_id(row, file),
        name=_id(row, file),
        description=f"{row.asset}, data version {row.version}",
        content_url=f"data/{_id(row, file)}",
        content_size=f"{file.size} B",
        encoding_formats=[FORMATS.get(suffix, "application/octet-stream")],
        md5=file.md5,
    )


def _record_set(mlc: Any, row: Row, file: File) -> Any:
    name = _id(row, file).removesuffix(".parquet")
    schema = pl.read_parquet_schema(store.object_path(file.md5))
    return mlc.RecordSet(
        id=name,
        name=name,
        fields=[
            mlc.Field(
                id=f"{name}/{column}",
                name=column,
                data_types=[_type(mlc, kind)],
                source=mlc.Source(file_object=_id(row, file), extract=mlc.Extract(column=column)),
            )
            for column, kind in schema.items()
        ],
    )


def _type(mlc: Any, kind: pl.DataType) -> Any:
    if kind.is_float():
        return mlc.DataType.FLOAT
    if kind.is_integer():
        return mlc.DataType.INTEGER
    return mlc.DataType.BOOL if kind == pl.Boolean else mlc.DataType.TEXT
