"""A project served as `orbitforge ui` serves it, and its runs launched and terminated as the page does."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.survival.store import PATIENCE, Store, command
from tests.waiting import free_port, until

_LAUNCH = """
mutation($job: String!) { launchRun(executionParams: {selector: {jobName: $job,
  repositoryName: "__repository__", repositoryLocationName: "orchestration.definitions"}, runConfigData: {}}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_TERMINATE = """
mutation($run: String!) { terminateRun(runId: $run) { __typename ... on PythonError { message } } }"""
_STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")


class Served:
    def __init__(self, store: Store, output: Path) -> None:
        self.store, self.output = store, output
        self.port, self.other = free_port(), free_port()

    def __enter__(self) -> Served:
        ports = ["--port", str(self.port), "--mlflow-port", str(self.other)]
        self.process = self.store.start("orchestration.cli.main", "ui", *ports, output=self.output)
        until = time.monotonic() + 180
        while True:
            try:
                # the code location is loaded
                found = self._ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
                if found["repositoriesOrError"].get("nodes"):
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            if time.monotonic() > until or self.process.poll() is not None:
                self.__exit__(None, None, None)
                raise RuntimeError(f"the page did not come up: {self.output.read_text()[-2000:]}")
            time.sleep(0.5)
        time.sleep(5)  # the daemon's processes
        self.servers = {process.pid for process in self.store.processes()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except psutil.TimeoutExpired:
            self.process.kill()

    def launch(self, job: str) -> str:
        return self._ask(_LAUNCH, job=job)["launchRun"]["run"]["runId"]

    def terminate(self, run: str) -> None:
        self._ask(_TERMINATE, run=run)

    def status(self, run: str) -> str:
        return self._ask(_STATUS, run=run)["runOrError"]["status"]

    def wait(self, run: str) -> None:
        while not self._has_ended(run):
            time.sleep(0.5)

    def ended_within(self, run: str, seconds: float) -> bool:
        """Of a run that was begun; while it waits in the queue its time does not pass."""
        while self.status(run) in ("QUEUED", "NOT_STARTED", "STARTING"):
            time.sleep(0.2)
        return until(lambda: self._has_ended(run), seconds, pause=0.2)

    def _has_ended(self, run: str) -> bool:
        if (status := self.status(run)) == "FAILURE":
            raise SystemExit(f"run {run} failed; the project is {self.store.root}")
        return status in _ENDED

    def left(self) -> list[str]:
        """Processes of runs that live on."""
        until(lambda: not self._runs(), PATIENCE)
        return [f"lives on: {process.pid} {command(process)[:200]}" for process in self._runs()]

    def _runs(self) -> list[psutil.Process]:
        return [p for p in self.store.processes() if p.pid not in self.servers and "execute_run" in command(p)]

    def _ask(self, query: str, **variables: str) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        if told.get("errors"):
            raise RuntimeError(told["errors"])
        return told["data"]
