"""The nano chain, killed anywhere and run again: `python -m tests.survival.kills --kills 200` (`make torture`).

A fresh project is run, killed and run again until it is whole; then the next one begins. After each kill everything
that `store.py` lists must hold, what was finished is not made again, and a training repeats no more steps than lie
between two of its resume states. At the end of each project its hashes are those of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from orchestration.errors import StoppedError
from tests.survival.served import Served
from tests.survival.store import PATIENCE, Artifact, Store, command, lost, reports, unpublished
from tests.survival.watched import AT, SIGNAL

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
WORKER, DAGSTER = "a worker", "Dagster"
TRAININGS = {"video_model": 5, "elevation_estimator": 20, "lrm_pretrained": 5, "lrm_finetuned": 5}
"""Steps between two resume states of the preset nano."""
MOMENTS = 400
"""Of an undisturbed run, about."""
A_PROJECT = 25
"""Kills at most until a project may come to its end."""


@dataclass
class Blow:
    """What was done, when, and what it cost."""

    how: str
    where: str
    during: list[str] = field(default_factory=list)
    seconds_lost: float = 0.0
    seconds_to_end: float = 0.0
    seconds_to_work: float | None = None  # of the next start, until it makes something again
    steps_repeated: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Tally:
    blows: list[Blow] = field(default_factory=list)
    projects: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def all_wrong(self) -> list[str]:
        return [*self.wrong, *(f"after {blow.how} ({blow.where}): {w}" for blow in self.blows for w in blow.wrong)]

    def words(self) -> str:
        blows = self.blows
        ends = [blow for blow in blows if blow.how != WORKER]
        starts = [blow.seconds_to_work for blow in blows if blow.seconds_to_work is not None]
        during = Counter(asset for blow in blows for asset in blow.during or ["between"])
        lines = [
            f"{len(blows)} kills, {len(ends)} restarts, {self.projects} projects brought to their end",
            "by: " + ", ".join(f"{how} {count}" for how, count in Counter(b.how for b in blows).most_common()),
            "while: " + ", ".join(f"{asset} {count}" for asset, count in during.most_common()),
            _spread("seconds of work lost", [blow.seconds_lost for blow in ends]),
            _spread("training steps done twice", [float(blow.steps_repeated) for blow in ends]),
            _spread("seconds until it had ended", [blow.seconds_to_end for blow in ends]),
            _spread("seconds of the restart until work goes on", starts),
            f"wrong: {len(self.all_wrong)}",
            *self.all_wrong[:50],
        ]
        return "\n".join(lines)


def _spread(what: str, values: list[float]) -> str:
    return f"{what}: median {median(values):.1f}, at most {max(values):.1f}" if values else f"{what}: none"


class Torture:
    def __init__(self, folder: Path, seed: int, preset: str = "nano") -> None:
        self.folder, self.random, self.tally = folder, random.Random(seed), Tally()
        self.base = Store.clone(folder / "base", preset)
        self.truth: dict[Artifact, str] = {}
        self.moments = 0

    def undisturbed(self, finished: Path | None = None) -> None:
        """What the chain gives when nobody kills it, run as everything else is run, or as it lies in `finished`."""
        if finished:
            self.truth, self.moments = Store(finished, self.base.preset).versions(), MOMENTS
            return
        log, whole = self.folder / "whole.log", self.base.copy(self.folder / "whole")
        output = self.folder / "whole.txt"
        code = whole.start("tests.survival.watched", str(log), "run", output=output).wait()
        if code:
            raise SystemExit(f"the undisturbed run failed:\n{output.read_text()}")
        self.truth = whole.versions()
        self.moments = max(line["number"] for line in reports(log) if "moment" in line)
        self.tally.wrong += [f"undisturbed: {what}" for what in (*whole.wrong(), *unpublished(whole))]
        shutil.rmtree(whole.root)

    def project(self, kills: int, terminations: int) -> None:
        """One project from nothing to its end, with at most so many kills, after so many by Dagster: launched by its
        daemon, ended by its own termination."""
        store = self.base.copy(self.folder / f"project-{self.tally.projects}")
        life, whole = Life(self, store), False
        if terminations:
            store.run("run", "--dry-run")  # fetches the sample data
            with Served(store, store.root.with_suffix(".served.txt")) as dagster:
                while life.kills < terminations and not whole:
                    whole = life.terminated(dagster)
        most = life.kills + kills
        while not whole:
            whole = life.step(hit=life.kills < most)
        self._finish(store)

    def _finish(self, store: Store) -> None:
        found = store.versions()
        differing = sorted(
            str(key) for key in self.truth.keys() | found.keys() if self.truth.get(key) != found.get(key)
        )
        wrong = [f"another hash: {key}" for key in differing] + store.wrong() + unpublished(store)
        self.tally.wrong += [f"project {self.tally.projects} at its end: {what}" for what in wrong]
        self.tally.projects += 1
        if not wrong:
            shutil.rmtree(store.root)


class Life:
    """A project between its beginning and its end: started, hit, looked at, started again."""

    def __init__(self, torture: Torture, store: Store) -> None:
        self.of, self.store, self.kills = torture, store, 0
        self.finished: set[Artifact] = set()
        self.seen: dict[Artifact, set[tuple[int, int]]] = {}
        self.starts = 0
        self.previous: Blow | None = None

    def step(self, hit: bool) -> bool:
        """Start once and, if asked to, kill it. True when the chain has ended by itself."""
        rng = self.of.random
        log = self.store.root.with_suffix(f".{self.starts}.log")
        output = log.with_suffix(".txt")
        self.starts += 1
        began, more = time.time(), {}
        how = rng.choices(list(SIGNALS), [6, 2, 2])[0]
        aimed = hit and rng.random() < 0.4
        if aimed:
            more = {AT: str(rng.randint(1, self.of.moments // 3)), SIGNAL: str(int(SIGNALS[how]))}
        process = self.store.start("tests.survival.watched", str(log), "run", more=more, output=output)
        blow = None
        if hit and not aimed:
            if rng.random() < 0.2 and self._kill_a_worker(process, rng.uniform(0, 6)):
                self._note(Blow(WORKER, "while it works"))
            self._wait_for_start(process, log)
            after = rng.uniform(0, 10)
            blow = Blow(how, f"{after:.2f} CPU s after the start")
            self._sleep(process, after)
            if process.poll() is None:
                process.send_signal(SIGNALS[how])
            else:
                blow = None
        elif aimed:
            process.wait()
            if process.returncode:
                told = [line["moment"] for line in reports(log) if "moment" in line]
                blow = Blow(how, f"moment {more[AT]}: {told[-1]}")
        at = time.time()
        try:
            process.wait(PATIENCE if blow else None)
        except psutil.TimeoutExpired:
            assert blow is not None
            blow.wrong.append(f"had not ended {PATIENCE:.0f} s after the signal")
            process.kill()
            process.wait()
        told = output.read_text() if output.is_file() else ""
        self._compare(log, began)
        if blow is None:
            if process.returncode:
                raise SystemExit(f"a run that nobody killed failed ({self.store.root}):\n{told[-3000:]}")
            return True
        blow.seconds_to_end = time.time() - at
        if "Traceback" in told or "Stack Trace" in told:
            blow.wrong.append(f"a traceback in {output}")
        if how != "SIGKILL" and process.returncode not in (0, StoppedError.exit_code, -SIGNALS[how]):
            blow.wrong.append(f"exit code {process.returncode}")
        self._look(blow, began, at, log)
        return process.returncode == 0

    def terminated(self, dagster: Served) -> bool:
        """Launch the chain and terminate it. True when it had ended before."""
        began, run = time.time(), dagster.launch("chain")
        after = self.of.random.uniform(0, 30)
        blow = Blow(DAGSTER, f"{after:.2f} s after it was started")
        if dagster.ended_within(run, after):
            return True
        at = time.time()
        dagster.terminate(run)
        if not dagster.ended_within(run, PATIENCE):
            blow.wrong.append(f"the run had not ended {PATIENCE:.0f} s after its termination")
            dagster.wait(run)
        blow.seconds_to_end = time.time() - at
        blow.wrong += dagster.left()
        self._lost(blow, began, at)
        self._note(blow)
        return False

    def _look(self, blow: Blow, began: float, at: float, log: Path) -> None:
        """All that must hold now."""
        self._lost(blow, began, at)
        blow.wrong += self.store.wrong()
        self._note(blow)
        for line in reports(log):
            if _is_step(line):
                self.seen.setdefault((line["asset"], line["shard"]), set()).add((line["step"], line["of"]))

    def _lost(self, blow: Blow, began: float, at: float) -> None:
        making = lost(self.store, began, at)
        blow.during = sorted({asset for asset, _ in making})
        blow.seconds_lost = max(making.values(), default=0.0)
        self.finished = self.store.finished()

    def _note(self, blow: Blow) -> None:
        self.kills += 1
        self.of.tally.blows.append(blow)
        self.previous = blow
        told = f"{len(self.of.tally.blows):4d} {blow.how:8s} {blow.where:40s} {', '.join(blow.during) or 'between':40s}"
        print(f"{told} lost {blow.seconds_lost:5.1f} s {'; '.join(blow.wrong)}", flush=True)

    def _compare(self, log: Path, began: float) -> None:
        """What this start did, with what the one before had done."""
        blow, lines = self.previous, [line for line in reports(log) if "asset" in line]
        if blow is None or blow.how == WORKER:
            return
        if lines and blow.seconds_to_work is None:
            blow.seconds_to_work = lines[0]["at"] - began
        twice: Counter[Artifact] = Counter()
        for line in lines:
            key = (line["asset"], line["shard"])
            if key in self.finished and line.get("of"):
                blow.wrong.append(f"made again although it was finished: {key}")
                self.finished.discard(key)
            if _is_step(line) and (line["step"], line["of"]) in self.seen.get(key, ()):
                twice[key] += 1
        for key, steps in twice.items():
            if every := TRAININGS.get(key[0]):
                blow.steps_repeated = max(blow.steps_repeated, steps)
                if steps > every:
                    blow.wrong.append(f"{steps} steps of {key} were done twice, resume states are {every} apart")

    # waiting for a moment

    def _wait_for_start(self, process: psutil.Popen, log: Path) -> None:
        while not log.is_file() and process.poll() is None:
            time.sleep(0.02)

    def _sleep(self, process: psutil.Popen, seconds: float) -> None:
        """Until the process and its children have used so much CPU: a busy machine then changes no moment."""
        began, until = _cpu(process), time.monotonic() + 20 * seconds
        while _cpu(process) - began < seconds and time.monotonic() < until and process.poll() is None:
            time.sleep(0.01)

    def _kill_a_worker(self, process: psutil.Popen, wait: float) -> bool:
        """SIGKILL for a process that makes shards, soon after one is there; False when none came."""
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            workers = [child for child in self._children(process) if "spawn_main" in command(child)]
            if workers:
                self._sleep(process, wait)
                try:
                    self.of.random.choice(workers).kill()
                    return True
                except psutil.NoSuchProcess:
                    return False
            time.sleep(0.1)
        return False

    def _children(self, process: psutil.Popen) -> list[psutil.Process]:
        try:
            return process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _is_step(line: dict[str, Any]) -> bool:
    """Of a training: what is done before it (`doing`) has no resume states."""
    return bool(line.get("of")) and line.get("step") is not None and not line.get("doing")


def _cpu(process: psutil.Process) -> float:
    try:
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    except psutil.Error:
        return 0.0
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


def torture(kills: int, terminations: int, seed: int, folder: Path, finished: Path | None = None) -> Tally:
    """So many kills, and of them so many terminations by Dagster."""
    work = Torture(folder, seed)
    work.undisturbed(finished)
    print(f"undisturbed: {len(work.truth)} artifacts, {work.moments} moments of the seam", flush=True)
    while (left := kills - len(work.tally.blows)) > 0:
        by_dagster = min(left, terminations, A_PROJECT // 5)
        terminations -= by_dagster
        work.project(min(left, A_PROJECT) - by_dagster, by_dagster)
        print(f"project {work.tally.projects}: {len(work.tally.all_wrong)} wrong so far", flush=True)
    return work.tally


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--terminations", type=int, default=20, help="of the kills, those by Dagster's own termination")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--truth", type=Path, help="a finished project of this commit, instead of an undisturbed run")
    parser.add_argument("--folder", type=Path, help="where the projects lie; those that went wrong stay there")
    parser.add_argument("--json", type=Path, help="where every kill is written to")
    asked = parser.parse_args(arguments)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="orbitforge-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    tally = torture(asked.kills, asked.terminations, asked.seed, folder, asked.truth)
    print(tally.words())
    if asked.json:
        rows: list[dict[str, Any]] = [vars(blow) for blow in tally.blows]
        asked.json.write_text(json.dumps({"kills": rows, "projects": tally.projects, "wrong": tally.all_wrong}))
    if tally.all_wrong:
        sys.exit(f"the projects are kept in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
