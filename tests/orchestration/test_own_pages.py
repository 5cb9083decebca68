"""Servers answer this machine's own pages: no other name, no other origin, no frame, no endless request."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from orchestration.cli.loopback import listen
from orchestration.own_pages import OwnPages
from tests.waiting import free_port, until

ROOT = Path(__file__).parents[2]
FOREIGN = ("https://evil.example", "http://127.0.0.1:9", "http://evil.example", "null", "http://localhost", "")


async def answer(request: object) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def app() -> Starlette:
    routes = [Route("/", answer, methods=["GET", "POST"]), WebSocketRoute("/talk", talk)]
    return Starlette(routes=routes, middleware=[Middleware(OwnPages, largest=100)])


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(app(), base_url="http://127.0.0.1:7860") as client:
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "localhost", "[::1]:7860", "[::1]"])
def test_this_machines_names_are_answered(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"host": host, "origin": f"http://{host}"})
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:7860", "127.0.0.1@evil.example", "0.0.0.0", ""]
)
def test_other_names_are_not(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("origin", FOREIGN)
def test_other_origins_are_not(client: TestClient, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert client.request(method, "/", headers={"origin": origin}).status_code == 403
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/talk", headers={"origin": origin}):
        pass


def test_what_a_page_elsewhere_asks_for_without_an_origin_is_not(client: TestClient) -> None:
    """Pictures and scripts come without one; a link to the page is followed."""
    for site in ("cross-site", "same-site"):
        assert client.get("/", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}).status_code == 403
        assert client.post("/", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status_code == 403
        assert client.get("/", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status_code == 200
    assert client.get("/", headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_endless_requests_are_not_read(client: TestClient) -> None:
    assert client.post("/", content=b"a" * 100).status_code == 200
    assert client.post("/", content=b"a" * 101).status_code == 413
    assert client.post("/", content=iter([b"a"] * 1000)).status_code == 411
    assert client.post("/", headers={"content-length": "-5"}).status_code == 411
    assert client.post("/", headers={"content-length": "9" * 5000}).status_code in (411, 413)


def own_addresses() -> list[str]:
    """Of this machine, but for loopback."""
    found = [each.address for part in psutil.net_if_addrs().values() for each in part if each.family == socket.AF_INET]
    return [address for address in found if not address.startswith("127.")]


def refuses(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        try:
            probe.connect((address, port))
        except OSError:
            return True
        return False


def test_no_other_address_of_this_machine_is_bound() -> None:
    taken, url = listen(0)
    port = int(url.rpartition(":")[2])
    server = uvicorn.Server(uvicorn.Config(app(), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        assert until(lambda: server.started)
        assert not refuses("127.0.0.1", port)
        if not own_addresses():
            pytest.skip("this machine has no address but loopback")
        assert all(refuses(address, port) for address in own_addresses())
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def dagster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Dagster's web server as `orbitforge ui` starts it, without code locations; its port."""
    port = free_port()
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    (home / "workspace.yaml").write_text("load_from: []\n")
    command = [sys.executable, "-m", "orchestration.cli.webserver", "-w", str(home / "workspace.yaml")]
    server = subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port)],
        cwd=ROOT,
        env=os.environ | {"DAGSTER_HOME": str(home)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert until(lambda: not refuses("127.0.0.1", port) or server.poll() is not None, 60)
        assert server.poll() is None
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def status(port: int, method: str, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse().status


def test_no_page_elsewhere_starts_runs_in_dagster(dagster: int) -> None:
    """Dagster takes mutations by GET, which any page can send by a picture."""
    asked = "/graphql?query=%7Bversion%7D"
    assert status(dagster, "GET", asked) == 200
    assert status(dagster, "GET", asked, host="evil.example") == 400
    assert status(dagster, "GET", asked, sec_fetch_site="cross-site", sec_fetch_mode="no-cors") == 403
    assert status(dagster, "POST", asked, origin="https://evil.example", content_length="0") == 403
    assert status(dagster, "POST", asked, origin=f"http://127.0.0.1:{dagster}", content_length="0") == 200
    assert all(refuses(address, dagster) for address in own_addresses())
