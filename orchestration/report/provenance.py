"""Where the model on the page came from, whom it owes credit, and how to make all of it again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.lineage.exports.words import (
    decision_words,
    labels_words,
    licence_words,
    made_by,
    objects_words,
    part_words,
)
from orchestration.lineage.find import find_row
from orchestration.lineage.ledger import Row
from orchestration.lineage.licences import asks_for_credit
from orchestration.lineage.record import Record, record
from orchestration.presets.schema import preset_names
from orchestration.report.tables import EVALUATION, FLEXRM, TRENDS
from orchestration.versions import data_version

DEFAULT = "lrm_finetuned"
"""The model that is shown where nothing was evaluated."""
CREDITS = 1000
CREATORS = 200


class Part(NamedTuple):
    asset: str
    words: str
    made_of: str


class Credit(NamedTuple):
    """Something whose licence wants its maker named; `link` is where it came from, if that is a web address."""

    what: str
    creator: str
    licence: str
    source: str
    link: str


@dataclass(frozen=True)
class Lineage:
    """Of the model that is shown: its row and what the ledger says of all above it."""

    row: Row
    name: str
    made: str
    parts: tuple[Part, ...]
    sources: tuple[str, ...]
    licences: tuple[str, ...]
    decisions: tuple[str, ...]
    credits: tuple[Credit, ...]
    credits_left_out: int
    creators: tuple[tuple[str, str, int], ...]
    creators_left_out: int
    environment: str
    config: str


@dataclass(frozen=True)
class Version:
    """One artifact behind the page; `note` says what is wrong with it, if anything."""

    asset: str
    version: str
    row: Row | None
    made: str
    note: str


def model_row(current: Current, shown: str | None) -> Row | None:
    """The row of the model that was evaluated as `shown`: the version that the evaluation read; else what is known
    by that name. None for a model from elsewhere."""
    evaluation = artifact_row(current, EVALUATION)
    for read in evaluation.inputs if evaluation else ():
        if shown and read.asset == shown and (row := current.row_of_id(read.row)):
            return row
    try:
        return find_row(current, shown or DEFAULT)
    except (OrbitforgeError, OSError):  # no such thing, or a name that no file system takes
        return None


def artifact_row(current: Current, asset: str) -> Row | None:
    """The newest row of an artifact of the preset, whether or not the pipeline still has such a step."""
    newest = current.everything.get(f"{current.pipeline.preset.name}/{asset}")
    return current.row_of_id(newest.row) if newest else None


def lineage(current: Current, row: Row) -> Lineage:
    known = record(current, row)
    owed = list(_credits(known))
    free = Counter(
        (each.creator or "unnamed", each.licence or "unknown")
        for each in known.inputs
        if each.kind == "object" and not asks_for_credit(each.licence)
    )
    creators = sorted(free.items(), key=lambda item: (-item[1], item[0]))
    above: dict[str, list[str]] = {}
    for read, reader in known.edges:
        above.setdefault(reader, []).append(read)
    return Lineage(
        row=row,
        name=known.reference or f"{row.preset}/{row.asset}",
        made=made_by(row),
        parts=tuple(
            Part(part.row.asset, part_words(part), ", ".join(above.get(part.asset, []))) for part in known.parts[::-1]
        ),
        sources=(objects_words(known), f"{len(known.prompts)} prompts", labels_words(known)),
        licences=tuple(licence_words(known)),
        decisions=tuple(decision_words(known)),
        credits=tuple(owed[:CREDITS]),
        credits_left_out=len(owed[CREDITS:]),
        creators=tuple((creator, licence, count) for (creator, licence), count in creators[:CREATORS]),
        creators_left_out=len(creators[CREATORS:]),
        environment=", ".join(f"{name} {version}" for name, version in sorted(row.environment.items()) if version),
        config=json.dumps(row.config, indent=1, sort_keys=True),
    )


def _credits(known: Record) -> Iterator[Credit]:
    """Objects one by one, under their captions; prompts and labels by whose work they show."""
    told = {row["id"]: row for row in known.objects.iter_rows(named=True)}
    seen: set[tuple[str, str, str]] = set()
    for each in known.inputs:
        if not asks_for_credit(each.licence):
            continue
        row = told.get(each.id, {}) if each.kind == "object" else {}
        what = f"{row['caption']} ({each.id})" if row.get("caption") else each.id
        if each.kind not in ("object", "weights"):
            what = f"{each.kind}s"
        creator, source = each.creator or "unnamed", row.get("source") or ""
        if (key := (what, creator, each.licence)) not in seen:
            seen.add(key)
            link = source if source.startswith(("https://", "http://")) else ""
            yield Credit(what, creator, each.licence or "unknown", source, link)


def versions(current: Current, model: Row | None) -> list[Version]:
    """What the page was made from, and whether it is what the ledger says."""
    found = [_of_folder(current, asset) for asset in (EVALUATION, TRENDS, FLEXRM)]
    if model:
        newest = current.everything.get(model.folder)
        later = newest and newest.version != model.version
        note = f"a newer version exists, {newest.version[:12]}" if newest and later else ""
        found.append(Version(model.asset, model.version, model, made_by(model), note))
    return [each for each in found if each]


def _of_folder(current: Current, asset: str) -> Version | None:
    folder = paths.data() / current.pipeline.preset.name / asset
    if not folder.is_dir():
        return None
    version, row = data_version(folder), artifact_row(current, asset)
    if row is None:
        return Version(asset, version, None, "", "the ledger knows nothing of it")
    if row.version != version:
        return Version(asset, version, None, "", f"the ledger's newest is {row.version[:12]}: see `orbitforge audit`")
    return Version(asset, version, row, made_by(row), "")


def commands(current: Current, model: Row | None) -> list[tuple[str, str]]:
    """What to type to make this page again, and what each does."""
    name = current.pipeline.preset.name
    preset = f"--preset {name if name in preset_names() else f'{name}.yaml'}"
    told = []
    if model and model.git_commit:
        told.append((f"git checkout {model.git_commit}", "the code that made the model"))
    told.append((f"orbitforge run {preset}", "the chain, as far as it is missing or stale"))
    if model:
        asked = f"orbitforge reproduce {model.id[:12]} {preset} --depth all"
        told.append((asked, "the model and all before it once more, compared byte by byte"))
        told.append((f"orbitforge lineage {model.id[:12]} {preset}", "everything behind it; --format for other forms"))
    told.append((f"orbitforge audit {preset}", "whether all files are what the ledger says"))
    told.append((f"orbitforge report {preset} -o report.html", "this page"))
    return told
