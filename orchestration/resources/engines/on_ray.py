"""Shards as tasks of a Ray cluster. Nodes share the project's folder; what goes over the wire is tasks and reports."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import random
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from orchestration import paths
from orchestration.errors import MachineError, OrbitforgeError, plain_errors
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.engines.tries import Function, Tries, Try, WorkerDiedError
from orchestration.telemetry import SILENT, silence
from stages.sandbox import portable

AHEAD = 2
"""Tasks handed in for each CPU of the cluster: the next one is there when one ends, and an autoscaler sees demand."""

PULSE, PATIENCE = 5.0, 30.0
"""Seconds between two looks at the head of the cluster, and until it is given up: Ray itself ends this process, without
a word of ours, when its head is gone for a minute."""

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, a cluster that Ray starts listens on loopback alone, on Linux too. Read when Ray is imported.

Such a cluster ends with this process, however that ends; after a kill two idle helpers of Ray's stay for a minute.
"""


def run(function: Function, tries: Tries, engine: EngineConfig, models: bool) -> Iterator[tuple[Any, Any]]:
    """Yield (item, result or error). A node that dies costs the shards on it a try; one that is not fit costs none.

    Raises OrbitforgeError when Ray is not installed, when there is no cluster at the address, and when it is lost.
    """
    ray = _connected(engine)
    gpus = engine.gpus if models and ray.cluster_resources().get("GPU") else 0
    serve = ray.remote(_serve)
    options: dict[str, Any] = {
        "num_cpus": engine.cpus,
        "num_gpus": gpus,
        "max_retries": 0,  # counted here, alike for every engine
        "runtime_env": {"env_vars": _environment()},
    }
    cluster = _Cluster(ray, {"CPU": engine.cpus, "GPU": gpus})
    told: dict[Any, _Running] = {}  # the stream of a task -> what it works on
    with _token() as token:
        try:
            while tries.waiting or told:
                if tries.waiting:  # a cluster may have grown since
                    most = engine.workers or AHEAD * cluster.cpus()
                    while tries.waiting and len(told) < most:
                        one = tries.waiting.popleft()
                        task = serve.options(scheduling_strategy=_where(one, cluster), **options)
                        told[task.remote(function, one.item, token)] = _Running(one)
                ready = ray.wait(list(told), num_returns=1, timeout=PULSE)[0]
                if not ready:
                    cluster.check()
                for stream in ready:
                    kind, value = _hear(ray, stream)
                    if kind == "began":
                        told[stream].node, host = value
                        tries.tell(told[stream].one.item, {"message": f"on {host}, Ray node {value[0][:8]}"})
                    elif kind == "report":
                        tries.tell(told[stream].one.item, value)
                    else:
                        ended = told.pop(stream)
                        failed = isinstance(value, Exception)
                        yield from tries.outcome(ended.one, value, ended.node, cluster.nodes() if failed else ())
        finally:
            for stream in told if cluster.there else ():
                with suppress(Exception):
                    ray.cancel(stream, force=True)


class _Cluster:
    """What the head of the cluster says. Ray's own questions to a head that is gone do not come back: it is looked for
    before each."""

    def __init__(self, ray: ModuleType, needs: Mapping[str, float]) -> None:
        self._ray, self._needs, self.there = ray, needs, True
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = host.strip("[]"), int(port)

    def cpus(self) -> int:
        self.check()
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def nodes(self) -> list[str]:
        """The nodes that are alive and large enough for a shard."""
        self.check()
        return [
            node["NodeID"]
            for node in self._ray.nodes()
            if node["Alive"] and all(node["Resources"].get(name, 0) >= some for name, some in self._needs.items())
        ]

    def check(self) -> None:
        """Wait for the head while it is away; raises OrbitforgeError when it does not come back."""
        since = time.monotonic()
        while True:
            try:
                socket.create_connection(self._head, timeout=PULSE).close()
            except OSError:
                if time.monotonic() - since > PATIENCE:
                    self.there = False
                    atexit.unregister(self._ray.shutdown)  # says goodbye to the head, and waits for it
                    atexit.register(_leave)
                    sys.excepthook = sys.__excepthook__  # as does Ray's
                    host, port = self._head
                    raise OrbitforgeError(
                        f"the head of the Ray cluster at {host}:{port} is gone; what was finished is kept: start the "
                        "cluster and run again"
                    ) from None
                time.sleep(1)
            else:
                return


def _leave() -> None:
    """End this process, which failed: without its goodbye Ray would crash while the interpreter is taken down."""
    atexit.unregister(_leave)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


@dataclass
class _Running:
    one: Try
    node: str | None = None


def _where(one: Try, cluster: _Cluster) -> Any:
    """Anywhere; what failed on some nodes goes to another one while there is any."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    others = [node for node in cluster.nodes() if node not in one.failed_on] if one.failed_on else []
    return NodeAffinitySchedulingStrategy(random.choice(others), soft=True) if others else "SPREAD"


@contextmanager
def _token() -> Iterator[Path]:
    """A file by which a node shows that its project folder is this one and no other of that name."""
    token = paths.work() / "cluster" / uuid.uuid4().hex
    with plain_errors(f"writing {token}"):
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)


def _hear(ray: ModuleType, stream: Any) -> tuple[str, Any]:
    """("began", (node, host)), ("report", event), ("done", result) or ("failed", error)."""
    try:
        return ray.get(next(stream))
    except ray.exceptions.RayTaskError as error:  # before the function began: a module that the node does not have
        cause = error.cause if isinstance(error.cause, Exception) else RuntimeError(str(error))
        return "failed", MachineError(
            f"a node cannot begin: {' '.join(str(cause).split())}; give it the image of the run"
        )
    except (ray.exceptions.RayError, StopIteration) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        return "failed", WorkerDiedError(f"its Ray worker is gone ({type(error).__name__}): {first}")


def _serve(function: Function, item: Any, token: Path) -> Iterator[tuple[str, Any]]:
    """A task, as a stream: Ray sends on what is yielded, so the work has a thread of its own."""
    import ray

    told: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def work() -> None:
        try:
            if not token.is_file():
                raise MachineError(
                    f"{platform.node()} does not see the project's folder {paths.root()}: mount the shared file system "
                    "there, at the same path"
                )
            answer = "done", function(item, lambda event: told.put(("report", event)))
        except BaseException as error:
            error.add_note("".join(traceback.format_exception(error)))
            answer = "failed", portable(error if isinstance(error, Exception) else RuntimeError(repr(error)))
        told.put(answer)

    yield "began", (ray.get_runtime_context().get_node_id(), platform.node())
    threading.Thread(target=work, daemon=True).start()
    while True:
        kind, value = told.get()
        yield kind, value
        if kind != "report":
            return


def _connected(engine: EngineConfig) -> ModuleType:
    silence()
    address = engine.address or os.environ.get("RAY_ADDRESS")  # Ray's own variable; its jobs have it
    if address is None:
        os.environ.setdefault(LOOPBACK, "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise OrbitforgeError("engine ray needs Ray: pip install 'orbitforge[ray]', or choose engine local") from None
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if address is None:
                ray.init("local", num_cpus=engine.workers, **quiet)
            else:
                del quiet["include_dashboard"]  # the cluster's own choice
                ray.init(address, **quiet)
        except Exception as error:  # a node that does not come up is a plain Exception of Ray's
            where = f"no Ray cluster at {address}" if address else "Ray did not start here"
            raise OrbitforgeError(f"{where}: {' '.join(str(error).split())}") from None
    return ray


def _environment() -> dict[str, str]:
    """What a worker has to know: one thread, no telemetry, the same project, preset and modules."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("ORBITFORGE_")}
    if (preset := ours.get("ORBITFORGE_PRESET", "")).endswith((".yaml", ".yml")):
        ours["ORBITFORGE_PRESET"] = str(Path(preset).resolve())
    modules = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return SILENT | ours | {"ORBITFORGE_ROOT": str(paths.root()), "OMP_NUM_THREADS": "1", "PYTHONPATH": modules}
