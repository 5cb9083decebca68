"""A Ray cluster of local nodes whose machines can be killed, for tests and for `python -m tests.survival.spread`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestration.telemetry import silence

FAST = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""Ray waits half a minute by default before it calls a node dead."""


class Nodes:
    """A head and a second node of one CPU each, on loopback."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {**_node(), "include_dashboard": False}
        self.cluster: Any = _started(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.add()

    @property
    def address(self) -> str:
        return self.cluster.address

    def start(self) -> Any:
        return _started(lambda: self.cluster.add_node(**_node()))

    def add(self) -> None:
        self.second: Any = self.start()

    def kill_second(self) -> None:
        """As a machine goes that loses its power: nothing is said to anybody."""
        self.cluster.remove_node(self.second, allow_graceful=False)


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    silence()
    import ray

    with pytest.MonkeyPatch.context() as patch:
        for name, value in FAST.items():
            patch.setenv(name, value)
        nodes = Nodes()
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.cluster.shutdown()


def _node() -> dict[str, Any]:
    return {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def _started(start: Callable[[], Any]) -> Any:
    """On a machine that is busy otherwise Ray gives up its own processes after 15 s: once more then."""
    try:
        return start()
    except Exception as error:
        warnings.warn(f"Ray is started once more: {error}", RuntimeWarning, stacklevel=2)
        return start()
