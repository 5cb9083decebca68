"""What is fresh, and why the rest is not: from the ledger and the current versions alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from orchestration import paths
from orchestration.lineage.current import Current, Shard, Wanted
from orchestration.lineage.ledger import Row
from orchestration.lineage.withdrawn import Withdrawal
from orchestration.pipeline import Pipeline
from orchestration.progress import RUNNING, running
from orchestration.steps import Source, Step
from orchestration.versions import code_modules, config_of, tree_version
from orchestration.workspace import Scratch

FRESH, STALE, MISSING, FAILED = "fresh", "stale", "missing", "failed"


@dataclass(slots=True)
class ShardStatus:
    """`why` gives the reasons in words; it is empty when fresh. `version` is the newest in the ledger, if any.

    `seconds` and `bytes` estimate what making it takes: as before, or as its siblings; None when nobody knows.
    `withdrawn` repeats the reasons that go down the chain with it.
    """

    asset: str
    shard: str | None
    status: str
    version: str | None
    why: list[str]
    seconds: float | None = None
    bytes: float | None = None
    withdrawn: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rerun:
    """What making all that is not fresh would touch, at most: equal bytes on the way stop it early."""

    shards: int
    seconds: float | None
    bytes: float | None

    @classmethod
    def of(cls, shards: Iterable[ShardStatus]) -> Rerun:
        todo = [shard for shard in shards if shard.status != FRESH]
        return cls(len(todo), _total(shard.seconds for shard in todo), _total(shard.bytes for shard in todo))


@dataclass
class AssetStatus:
    """An asset and its shards (one, for what is not partitioned). `version` is DVC's hash of the asset's folder."""

    asset: str
    status: str
    version: str | None
    why: list[str]
    shards: list[ShardStatus]
    job: str = "chain"
    progress: dict[str, Any] | None = None
    """Of a step that runs, or whose process is gone without a word, what that said last: see
    `orchestration.progress.running`."""

    @property
    def rerun(self) -> Rerun:
        return Rerun.of(self.shards)

    def as_json(self) -> dict[str, Any]:
        """`{"asset", "status", "data_version", "why", "shards": {"total", "fresh", "stale", "missing", "failed"},
        "progress"}`; the last is null where no process makes or made it.

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
            "progress": self.progress,
        }


def status(pipeline: Pipeline) -> list[AssetStatus]:
    """Every step in the order of the pipeline. Steps of the job "base" do not pass their staleness on."""
    current = Current(pipeline)
    shards: dict[str, dict[Shard, ShardStatus]] = {}
    for step in pipeline.steps:
        look = _Look(current, step, shards)
        shards[step.name] = {shard: look.at(shard) for shard in pipeline.shards(step)}
    return [_asset(current, step, list(shards[step.name].values())) for step in pipeline.steps]


class _Look:
    """One step's artifacts, held against what they would be made of now; what its shards share is found once."""

    def __init__(self, current: Current, step: Step, above: Mapping[str, Mapping[Shard, ShardStatus]]) -> None:
        self.current, self.step, self.above = current, step, above
        self._code = cache(lambda: code_modules(step.code))
        self._config = cache(lambda: config_of(current.pipeline.preset, step.config))
        self._data, self._scratch = paths.data(), paths.work() / step.name
        self._upstream_of_all = cache(self._upstream)

    def at(self, shard: Shard) -> ShardStatus:
        newest = self.current.newest(self.step.name, shard)
        wanted = self.current.wanted(self.step, shard)
        state, why, gone = self._compared(wanted)
        above_why, above_gone = self._upstream_of_all(shard if self._alike else None)
        if above_why:
            state, why = (MISSING if state == MISSING else STALE), [*why, *above_why]
        gone = tuple(dict.fromkeys((*gone, *above_gone)))
        why = list(dict.fromkeys((*why, *gone)))
        if state != FRESH and (scratch := self._scratch / (shard or "_")).is_dir():
            if failure := _failure(wanted):
                state, why = FAILED, [failure]
            if who := self._holder(scratch):
                state, why = RUNNING, [f"being made by {who}"]
        known = newest or self._typical
        return ShardStatus(
            self.step.name,
            shard,
            state,
            newest.version if newest else None,
            why,
            known.seconds if known else None,
            known.bytes if known else None,
            gone,
        )

    def _compared(self, wanted: Wanted) -> tuple[str, list[str], tuple[str, ...]]:
        """The artifact against what it would be made of now: state, reasons, and those that go down the chain."""
        newest = self.current.newest(self.step.name, wanted.shard)
        if newest is None:
            sources = [name for name, _ in wanted.absent if isinstance(self.current.pipeline.find(name), Source)]
            missing = (f"source {name} is missing" for name in dict.fromkeys(sources))
            return MISSING, ["was never made", *missing], ()
        if not (self._data / wanted.folder).is_dir():
            return MISSING, [f"data/{wanted.folder} is gone; a run puts it back or makes it again"], ()
        if newest.key in wanted.keys:
            return FRESH, [], ()
        row = self.current.row(self.step.name, wanted.shard)
        assert row is not None
        gone = tuple(_withdrawn(self.current.withdrawals().values(), row))
        why = [*_inputs(wanted, row), *_code(row, self._code(), wanted), *config_reasons(row.config, self._config())]
        return STALE, why or ["was made under other rules for keys"], gone

    def _upstream(self, shard: Shard) -> tuple[list[str], tuple[str, ...]]:
        """The same for all shards, unless a shard reads its own."""
        why: list[str] = []
        gone: dict[str, None] = {}
        for name in self.step.reads:
            found = self.current.pipeline.find(name)
            if not isinstance(found, Step):
                continue
            read = [
                self.above[name][part]
                for part in self.current.read_shards(self.step, shard, found)
                if part in self.above[name]
            ]
            # to make base weights again is a decision of hours: what was built on them stands until they change
            heard = [s for s in read if s.status != FRESH and (found.job != "base" or s.version is None)]
            for state, count in Counter(s.status for s in heard).items():
                shards = "" if len(read) == 1 else f" in {count} shard{'s' * (count > 1)}"
                why.append(f"upstream {name} is {state}{shards}")
            gone |= dict.fromkeys(reason for s in heard for reason in s.withdrawn)
        return why, tuple(gone)

    @cached_property
    def _alike(self) -> bool:
        """Whether a shard reads its own shard of some asset, and not just what all shards read."""
        found = (self.current.pipeline.find(name) for name in self.step.reads)
        return any(isinstance(each, Step) and each.shards and each.shards == self.step.shards for each in found)

    @cached_property
    def _typical(self) -> Any:
        shards = (self.current.newest(self.step.name, shard) for shard in self.current.pipeline.shards(self.step))
        known = [newest for newest in shards if newest]
        if not known:
            return None
        return known[0]._replace(
            seconds=fmean(newest.seconds for newest in known), bytes=fmean(newest.bytes for newest in known)
        )

    def _holder(self, folder: Path) -> str | None:
        """The process that makes the artifact for this preset, whatever its inputs were when it began."""
        for scratch in folder.iterdir():
            who = Scratch(scratch).holder()
            if who and who.startswith(f"{self.current.pipeline.preset.name} "):
                return who.partition(" ")[2]
        return None


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


def _withdrawn(gone: Iterable[Withdrawal], row: Row) -> Iterator[str]:
    """What was withdrawn from the sources that the artifact was made of, since."""
    read = {(input_.asset, input_.shard) for input_ in row.inputs}
    for each in gone:
        if each.at > row.ended and ((each.asset, each.shard) in read or (each.asset, None) in read):
            yield withdrawn_words(each)


def withdrawn_words(each: Withdrawal) -> str:
    return f"{each.cause} was withdrawn: {each.reason}"


def _code(row: Row, after: Mapping[str, str], wanted: Wanted) -> Iterator[str]:
    if row.code in (wanted.code, *wanted.stands_for):
        return
    before = row.code_modules
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        yield f"code of {', '.join(changed)} changed"


def config_reasons(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        was, is_ = before.get(key), after.get(key)
        if isinstance(was, dict) and isinstance(is_, dict):
            yield from config_reasons(was, is_, f"{prefix}{key}.")
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


def _asset(current: Current, step: Step, shards: list[ShardStatus]) -> AssetStatus:
    states = {shard.status for shard in shards}
    state = next((s for s in (RUNNING, FAILED) if s in states), FRESH)
    if state == FRESH and states - {FRESH}:
        state = MISSING if states == {MISSING} else STALE
    made = ((shard.shard, current.newest(step.name, shard.shard)) for shard in shards)
    files = {
        f"{shard}/{file.path}" if shard else file.path: file.md5
        for shard, newest in made
        if newest
        for file in newest.files
    }
    reasons = Counter(reason for shard in shards for reason in shard.why)
    why = [
        reason if len(shards) == 1 else f"{reason} ({count} of {len(shards)} shards)"
        for reason, count in reasons.items()
    ]
    told = running(step.name, current.pipeline.preset.name)
    if told and told["state"] == RUNNING and state != FRESH:  # it plans, or records what is made
        state = RUNNING
    elif told and told["state"] != RUNNING and state == FRESH:  # it was killed after its last commit: nothing is lost
        told = None
    return AssetStatus(step.name, state, tree_version(files) if files else None, why, shards, step.job, told)


def _total(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else sum(known)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _names(shards: Iterable[Shard], most: int = 5) -> str:
    names = sorted(map(str, shards))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"shard{'s' if len(names) > 1 else ''} {', '.join(names[:most])}{more}"


def _short(version: str) -> str:
    return version[:8]


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
