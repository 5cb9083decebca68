"""What is fresh, and why the rest is not: from the ledger and the current versions alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestration import paths
from orchestration.lineage.current import Current, Shard, Wanted
from orchestration.lineage.ledger import Row
from orchestration.pipeline import Pipeline
from orchestration.steps import Source, Step
from orchestration.versions import code_modules, config_of, tree_version
from orchestration.workspace import Scratch

FRESH, STALE, MISSING, FAILED, RUNNING = "fresh", "stale", "missing", "failed", "running"


@dataclass
class ShardStatus:
    """`why` gives the reasons in words; it is empty when fresh. `version` is the newest in the ledger, if any."""

    asset: str
    shard: str | None
    status: str
    version: str | None
    why: list[str] = field(default_factory=list)


@dataclass
class AssetStatus:
    """An asset and its shards (one, for what is not partitioned). `version` is DVC's hash of the asset's folder."""

    asset: str
    status: str
    version: str | None
    why: list[str]
    shards: list[ShardStatus]

    def as_json(self) -> dict[str, Any]:
        """`{"asset", "status", "data_version", "why", "shards": {"total", "fresh", "stale", "missing", "failed"}}`.

        A shard that is being made counts as what it was not: missing, or stale when there is an older one.
        """
        count = Counter(
            (STALE if shard.version else MISSING) if shard.status == RUNNING else shard.status for shard in self.shards
        )
        return {
            "asset": self.asset,
            "status": self.status,
            "data_version": self.version,
            "why": self.why,
            "shards": {"total": len(self.shards)} | {name: count[name] for name in (FRESH, STALE, MISSING, FAILED)},
        }


def status(pipeline: Pipeline) -> list[AssetStatus]:
    """Every step in the order of the pipeline. Steps of the job "base" do not pass their staleness on."""
    current = Current(pipeline)
    shards: dict[str, dict[Shard, ShardStatus]] = {}
    for step in pipeline.steps:
        shards[step.name] = {shard: _shard(current, step, shard, shards) for shard in pipeline.shards(step)}
    return [_asset(current, step, list(shards[step.name].values())) for step in pipeline.steps]


def _shard(current: Current, step: Step, shard: Shard, above: Mapping[str, Mapping[Shard, ShardStatus]]) -> ShardStatus:
    row = current.row(step.name, shard)
    wanted = current.wanted(step, shard)
    state, why = _compared(current, wanted, row)
    if above_why := list(_upstream(current, wanted, above)):
        state, why = (MISSING if state == MISSING else STALE), [*why, *above_why]
    if state != FRESH and (failure := _failure(wanted)):
        state, why = FAILED, [failure]
    if state != FRESH and (who := _running(current, step, shard)):
        state, why = RUNNING, [f"being made by {who}"]
    return ShardStatus(step.name, shard, state, row.version if row else None, why)


def _compared(current: Current, wanted: Wanted, row: Row | None) -> tuple[str, list[str]]:
    """The artifact against what it would be made of now."""
    if row is None:
        sources = [name for name, _ in wanted.absent if isinstance(current.pipeline.find(name), Source)]
        return MISSING, ["was never made", *(f"source {name} is missing" for name in dict.fromkeys(sources))]
    if not (paths.data() / row.folder).is_dir():
        return MISSING, [f"data/{row.folder} is gone; a run puts it back or makes it again"]
    if row.key == wanted.key:
        return FRESH, []
    preset, step = current.pipeline.preset, wanted.step
    why = [
        *_inputs(wanted, row),
        *_code(row, code_modules(step.code)),
        *_config(row.config, config_of(preset, step.config)),
    ]
    return STALE, why or ["was made under other rules for keys"]


def _upstream(current: Current, wanted: Wanted, above: Mapping[str, Mapping[Shard, ShardStatus]]) -> Iterator[str]:
    for name in wanted.step.reads:
        found = current.pipeline.find(name)
        if not isinstance(found, Step):
            continue
        read = [
            above[name][shard]
            for shard in current.read_shards(wanted.step, wanted.shard, found)
            if shard in above[name]
        ]
        # to make base weights again is a decision of hours: what was built on them stands until they change
        counts = Counter(s.status for s in read if s.status != FRESH and (found.job != "base" or s.version is None))
        for state, count in counts.items():
            yield f"upstream {name} is {state}" if len(read) == 1 else f"upstream {name} is {state} in {count} shards"


def _inputs(wanted: Wanted, row: Row) -> Iterator[str]:
    before = {(asset, shard): version for asset, shard, version, _ in row.inputs}
    after = {(asset, shard): version for asset, shard, version, _ in wanted.inputs}
    for asset in dict.fromkeys(asset for asset, _ in (*before, *after)):
        old = {shard: version for (name, shard), version in before.items() if name == asset}
        new = {shard: version for (name, shard), version in after.items() if name == asset}
        if old.keys() == new.keys() and len(old) == 1:
            (was,), (is_,) = old.values(), new.values()
            if was != is_:
                yield f"input {asset} changed from {_short(was)} to {_short(is_)}"
            continue
        if changed := [shard for shard in old.keys() & new.keys() if old[shard] != new[shard]]:
            yield f"input {asset} changed in {_names(changed)}"
        if gained := new.keys() - old.keys():
            yield f"input {asset} gained {_names(gained)}" if old else f"input {asset} is new"
        if lost := old.keys() - new.keys():
            yield f"input {asset} lost {_names(lost)}" if new else f"input {asset} is gone"


def _code(row: Row, after: Mapping[str, str]) -> Iterator[str]:
    before = row.code_modules
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        yield f"code of {', '.join(changed)} changed"


def _config(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        was, is_ = before.get(key), after.get(key)
        if isinstance(was, dict) and isinstance(is_, dict):
            yield from _config(was, is_, f"{prefix}{key}.")
        elif key not in before:
            yield f"config key {prefix}{key} is new ({_brief(is_)})"
        elif key not in after:
            yield f"config key {prefix}{key} is gone (was {_brief(was)})"
        elif was != is_:
            yield f"config key {prefix}{key} changed from {_brief(was)} to {_brief(is_)}"


def _failure(wanted: Wanted) -> str | None:
    """What the last attempt at exactly this said; None if there was none."""
    if not wanted.key:
        return None
    told = Scratch.of(wanted.step.name, wanted.shard, wanted.key).read("failed")
    return f"failed: {told['error']}" if told else None


def _running(current: Current, step: Step, shard: Shard) -> str | None:
    """The process that makes the artifact for this preset, whatever its inputs were when it began."""
    folder = paths.work() / step.name / (shard or "_")
    for scratch in folder.iterdir() if folder.is_dir() else ():
        who = Scratch(scratch).holder()
        if who and who.startswith(f"{current.pipeline.preset.name} "):
            return who.partition(" ")[2]
    return None


def _asset(current: Current, step: Step, shards: list[ShardStatus]) -> AssetStatus:
    states = {shard.status for shard in shards}
    state = next((s for s in (RUNNING, FAILED) if s in states), FRESH)
    if state == FRESH and states - {FRESH}:
        state = MISSING if states == {MISSING} else STALE
    rows = [row for shard in shards if (row := current.row(step.name, shard.shard))]
    files = {f"{row.shard}/{file.path}" if row.shard else file.path: file.md5 for row in rows for file in row.files}
    reasons = Counter(reason for shard in shards for reason in shard.why)
    why = [
        reason if len(shards) == 1 else f"{reason} ({count} of {len(shards)} shards)"
        for reason, count in reasons.items()
    ]
    return AssetStatus(step.name, state, tree_version(files) if files else None, why, shards)


def _names(shards: Iterable[Shard], most: int = 5) -> str:
    names = sorted(map(str, shards))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"shard{'s' if len(names) > 1 else ''} {', '.join(names[:most])}{more}"


def _short(version: str) -> str:
    return version[:8]


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
