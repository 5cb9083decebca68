"""Shards as tasks of a Ray cluster. Nodes share the project's folder; what goes over the wire is tasks and reports."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.engines.tries import Function, Tries, Try, WorkerDiedError
from orchestration.telemetry import SILENT, silence
from stages.sandbox import portable

AHEAD = 2
"""Tasks handed in for each CPU of the cluster: the next one is there when one ends, and an autoscaler sees demand."""

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, a cluster that Ray starts listens on loopback alone, on Linux too. Read when Ray is imported.

Such a cluster ends with this process, however that ends; after a kill two idle helpers of Ray's stay for a minute.
"""


def run(function: Function, tries: Tries, engine: EngineConfig, models: bool) -> Iterator[tuple[Any, Any]]:
    """Yield (item, result or error). A node that dies costs the shards on it a try.

    Raises OrbitforgeError when Ray is not installed or there is no cluster at the address.
    """
    ray = _connected(engine)
    gpus = engine.gpus if models and ray.cluster_resources().get("GPU") else 0
    task = ray.remote(_serve).options(
        num_cpus=engine.cpus,
        num_gpus=gpus,
        max_retries=0,  # counted here, alike for every engine
        scheduling_strategy="SPREAD",
        runtime_env={"env_vars": _environment()},
    )
    told: dict[Any, Try] = {}  # the stream of a task -> what it works on
    try:
        while tries.waiting or told:
            if tries.waiting:  # a cluster may have grown since
                most = engine.workers or AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
                while tries.waiting and len(told) < most:
                    one = tries.waiting.popleft()
                    told[task.remote(function, one.item)] = one
            for stream in ray.wait(list(told), num_returns=1, timeout=10)[0]:
                kind, value = _hear(ray, stream)
                if kind == "report":
                    tries.tell(told[stream].item, value)
                else:
                    yield from tries.outcome(told.pop(stream), value)
    finally:
        for stream in told:
            with suppress(Exception):
                ray.cancel(stream, force=True)


def _hear(ray: ModuleType, stream: Any) -> tuple[str, Any]:
    """("report", event), ("done", result) or ("failed", error)."""
    try:
        return ray.get(next(stream))
    except ray.exceptions.RayTaskError as error:  # before the function began: a module that the node does not have
        return "failed", portable(error.cause) if isinstance(error.cause, Exception) else RuntimeError(str(error))
    except (ray.exceptions.RayError, StopIteration) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        return "failed", WorkerDiedError(f"its Ray worker is gone ({type(error).__name__}): {first}")


def _serve(function: Function, item: Any) -> Iterator[tuple[str, Any]]:
    """A task, as a stream: Ray sends on what is yielded, so the work has a thread of its own."""
    told: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def work() -> None:
        try:
            answer = "done", function(item, lambda event: told.put(("report", event)))
        except BaseException as error:
            error.add_note("".join(traceback.format_exception(error)))
            answer = "failed", portable(error if isinstance(error, Exception) else RuntimeError(repr(error)))
        told.put(answer)

    threading.Thread(target=work, daemon=True).start()
    while True:
        kind, value = told.get()
        yield kind, value
        if kind != "report":
            return


def _connected(engine: EngineConfig) -> ModuleType:
    silence()
    if engine.address is None:
        os.environ.setdefault(LOOPBACK, "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise OrbitforgeError("engine ray needs Ray: pip install 'orbitforge[ray]', or choose engine local") from None
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if engine.address is None:
                ray.init("local", num_cpus=engine.workers, **quiet)
            else:
                del quiet["include_dashboard"]  # the cluster's own choice
                ray.init(engine.address, **quiet)
        except Exception as error:  # a node that does not come up is a plain Exception of Ray's
            where = f"no Ray cluster at {engine.address}" if engine.address else "Ray did not start here"
            raise OrbitforgeError(f"{where}: {' '.join(str(error).split())}") from None
    return ray


def _environment() -> dict[str, str]:
    """What a worker has to know: one thread, no telemetry, the same project, preset and modules."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("ORBITFORGE_")}
    if (preset := ours.get("ORBITFORGE_PRESET", "")).endswith((".yaml", ".yml")):
        ours["ORBITFORGE_PRESET"] = str(Path(preset).resolve())
    modules = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return SILENT | ours | {"ORBITFORGE_ROOT": str(paths.root()), "OMP_NUM_THREADS": "1", "PYTHONPATH": modules}
