"""`orbitforge ui`: Dagster and MLflow on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from orchestration import paths
from orchestration.cli.sample import fetch_sample
from orchestration.errors import OrbitforgeError
from orchestration.home import open_instance
from orchestration.resources.tracking import Tracking

LOOPBACK = "127.0.0.1"


def ui_command(port: int, mlflow_port: int) -> None:
    """Serve both until Ctrl-C, or until one of them ends; then end the other too."""
    console = Console(stderr=True)
    tracking = Tracking()
    served = {"Dagster": port}
    if not tracking.tracking_uri.startswith("http"):
        served["MLflow"] = mlflow_port
    for name, number in served.items():
        _refuse_taken(name, number)
    fetch_sample(console)  # what is materialised on the page reads it
    with open_instance():  # its databases are made here: servers that begin at once would make them twice
        home = paths.dagster_home()
    tracking.check()
    commands = [
        _dagster(port),
        _daemon(),
        *([_mlflow(mlflow_port, tracking.tracking_uri)] if "MLflow" in served else []),
    ]
    environment = {**os.environ, "DAGSTER_HOME": str(home), "DAGSTER_IS_DEV_CLI": "1"}
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            # groups of their own: they start children that would outlive them
            servers.append(subprocess.Popen(command, cwd=paths.root(), env=environment, start_new_session=True))
        for name, number in served.items():
            console.print(f"{name}: http://{LOOPBACK}:{number}", style="bold green")
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        ended = next(command for command, server in zip(commands, servers, strict=True) if server.poll() is not None)
        raise OrbitforgeError(f"`{' '.join(Path(part).name for part in ended[:3])}` ended; its last lines say why")
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        _end(servers)


def _dagster(port: int) -> list[str]:
    where = ["-w", "workspace.yaml", "-h", LOOPBACK, "-p", str(port)]
    return [sys.executable, "-m", "orchestration.cli.webserver", *where, "--dagster-log-level", "warning"]


def _daemon() -> list[str]:
    return [_tool("dagster-daemon"), "run", "-w", "workspace.yaml", "--log-level", "warning"]


def _mlflow(port: int, uri: str) -> list[str]:
    artifacts = (paths.mlflow_home() / "artifacts").as_uri()
    stores = ["--backend-store-uri", uri, "--default-artifact-root", artifacts]
    return [_tool("mlflow"), "server", *stores, "--host", LOOPBACK, "--port", str(port), "--workers", "1"]


def _tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _refuse_taken(name: str, port: int) -> None:
    with socket.socket() as probe:
        # a server that has just ended leaves the port in TIME_WAIT; the servers can take it all the same
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            option = "--port" if name == "Dagster" else "--mlflow-port"
            raise OrbitforgeError(
                f"port {port} for {name} is taken ({error.strerror}); stop what uses it or choose another with {option}"
            ) from None


def _end(servers: list[subprocess.Popen[bytes]]) -> None:
    for server in servers:
        _signal(server, signal.SIGTERM)
    for server in servers:
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            _signal(server, signal.SIGKILL)


def _signal(server: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, number)
