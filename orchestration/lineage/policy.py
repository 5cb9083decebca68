"""What a model must meet before it is promoted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.lineage.ledger import Row
from orchestration.lineage.licences import refused
from orchestration.lineage.record import Record
from stages.documents import DocumentError, read_yaml

DEFAULT = Path(__file__).parents[1] / "policy.yaml"


class Licences(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    deny: tuple[str, ...] = ()


class Least(BaseModel):
    """`at_least` is a number or the name of another metric of the same row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_least: float | str


class Policy(BaseModel):
    """Licence patterns that are refused, and for each asset the metrics it must reach."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    licences: Licences = Licences()
    metrics: dict[str, dict[str, Least]] = {}


def load_policy() -> Policy:
    """The project's own policy.yaml, else the one that ships. Raises OrbitforgeError, naming the key, for a bad one."""
    own = paths.root() / "policy.yaml"
    path = own if own.is_file() else DEFAULT
    try:
        return Policy.model_validate(read_yaml(path.read_bytes()) or {})
    except (DocumentError, ValidationError) as error:
        words: Any = error.errors()[0] if isinstance(error, ValidationError) else None
        told = f"`{'.'.join(map(str, words['loc']))}`: {words['msg']}" if words else " ".join(str(error).split())
        raise OrbitforgeError(f"{path}: {told}") from None


def objections(policy: Policy, record: Record) -> Iterator[str]:
    """Why the policy refuses the artifact; nothing when it does not."""
    for pattern, inputs in refused(record.inputs, policy.licences.deny).items():
        first = inputs[0]
        yield (
            f"{len(inputs)} inputs have a licence that the policy refuses ({pattern}), first {first.kind} {first.id}: "
            f"{first.licence or 'none named'}"
        )
    for each in record.withdrawn:
        yield f"it holds {each.id}, which was withdrawn: {each.reason}"
    yield from _metrics(policy, record.row)


def _metrics(policy: Policy, row: Row) -> Iterator[str]:
    for name, value in row.metrics.items():
        if not math.isfinite(value):
            yield f"training logged {name} {value}"
    for name, least in policy.metrics.get(row.asset, {}).items():
        value = row.metrics.get(name)
        bound = row.metrics.get(least.at_least) if isinstance(least.at_least, str) else least.at_least
        if value is None:
            yield f"training logged no metric {name!r}"
        elif bound is None:
            yield f"training logged no metric {least.at_least!r}, which {name!r} is to be held against"
        elif value < bound:
            against = f" ({least.at_least})" if isinstance(least.at_least, str) else ""
            yield f"{name} is {value:.4g}, the policy asks for at least {bound:.4g}{against}"
