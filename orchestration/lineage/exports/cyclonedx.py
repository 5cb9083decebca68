"""A CycloneDX bill of materials for machine learning: models with their cards, data with licences, libraries, edges."""

# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
# the library's decorators hide the signatures of its classes

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.lineage.exports.words import labels_words, licence_words, objects_words, title
from orchestration.lineage.ledger import Row
from orchestration.lineage.licences import UNKNOWN
from orchestration.lineage.record import LABEL, OBJECT, PROMPT, WEIGHTS, Part, Record
from orchestration.steps import Step
from orchestration.versions import LIBRARIES

TASKS = {"lrm": ("image-to-3d", "image", "3D"), "video_model": ("image-to-video", "image", "video")}


def cyclonedx(record: Record, current: Current) -> str:
    """CycloneDX 1.6 as JSON. The library has no model cards, so they are added to what it writes.

    Raises OrbitforgeError when its strict validator finds the result wrong.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    components = {part.asset: _component(record, part, current) for part in record.parts}
    libraries = [_library(name, version) for name, version in record.row.environment.items() if name in LIBRARIES]
    root = components[record.row.asset]
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:orbitforge:{record.row.id}"))
    bom.metadata.component = root
    bom.metadata.timestamp = datetime.fromisoformat(record.row.ended)
    bom.components.update(component for component in components.values() if component is not root)
    bom.components.update(libraries)
    for asset, component in components.items():
        read = [components[above] for above, reader in record.edges if reader == asset]
        bom.register_dependency(component, [*read, *(libraries if component is root else [])])
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    by_ref = {part.asset: part for part in record.parts}
    for entry in [document["metadata"]["component"], *document["components"]]:
        part = by_ref.get(entry["bom-ref"])
        if part and entry["type"] == "machine-learning-model":
            entry["modelCard"] = _model_card(record, part)
    text = json.dumps(document, indent=2)
    _validate(text)
    return text


def _component(record: Record, part: Part, current: Current) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    row = part.row
    found = current.pipeline.find(row.asset)
    is_model = isinstance(found, Step) and found.kind == "model"
    facts = {
        "orbitforge:row": row.id,
        "orbitforge:artifacts": str(part.count),
        "orbitforge:code": row.code,
        "orbitforge:config": row.config_hash,
        "orbitforge:commit": row.git_commit or "",
        "orbitforge:registered": record.published.get(row.id, ""),
    }
    return Component(
        name=f"{row.preset}/{row.asset}",
        version=row.version,
        type=ComponentType.MACHINE_LEARNING_MODEL if is_model else ComponentType.DATA,
        bom_ref=row.asset,
        description=_described(record, row),
        licenses=_licences(record, row),
        hashes=[HashType(alg=HashAlgorithm.MD5, content=row.version[:32])] if row.version.endswith(".dir") else [],
        properties=[Property(name=name, value=value) for name, value in facts.items() if value],
    )


def _described(record: Record, row: Row) -> str:
    described = {
        "source_objects": objects_words(record),
        "prompts": f"{len(record.prompts)} prompts",
        "human_labels": labels_words(record),
    }
    return row.reference or "" if row.service == "adopted" else described.get(row.asset, title(row))


def _licences(record: Record, row: Row) -> list[Any]:
    """Of sources and adopted weights their own; of what was made, none is claimed: its inputs say."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    kind = {"source_objects": OBJECT, "prompts": PROMPT, "human_labels": LABEL}.get(row.asset)
    own = [each for each in record.inputs if each.kind == kind or (each.kind, each.id) == (WEIGHTS, row.asset)]
    found = sorted({each.licence for each in own if each.licence})
    if len(found) == 1:
        return [LicenseFactory().make_from_string(found[0])]
    return [LicenseFactory().make_with_name(name) for name in found]


def _library(name: str, version: str) -> Any:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"pkg:pypi/{name}@{version}",
        purl=PackageURL("pypi", name=name, version=version),
    )


def _model_card(record: Record, part: Part) -> dict[str, Any]:
    row = part.row
    task, reads, writes = next(
        (facts for name, facts in TASKS.items() if row.asset.startswith(name)), ("", "image", "")
    )
    data = [read for read, reader in record.edges if reader == row.asset]
    parameters: dict[str, Any] = {
        "approach": {"type": "supervised"},
        "datasets": [{"ref": name} for name in data],
        "inputs": [{"format": reads}],
    }
    if task:
        parameters |= {"task": task, "outputs": [{"format": writes}]}
    card: dict[str, Any] = {"bom-ref": f"{row.asset}-card", "modelParameters": parameters}
    if row.metrics:
        measured = [{"type": name, "value": f"{value:.6g}"} for name, value in sorted(row.metrics.items())]
        card["quantitativeAnalysis"] = {"performanceMetrics": measured}
    if row.id == record.row.id:
        words = [f"Licences of the inputs: {line}" for line in licence_words(record)]
        if UNKNOWN in record.licences:
            words.append("Some inputs name no licence.")
        card["considerations"] = {"technicalLimitations": words}
    return card


def _validate(text: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise OrbitforgeError(f"CycloneDX's strict validator refuses the bill: {' '.join(str(wrong).split())[:500]}")
