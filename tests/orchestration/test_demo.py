"""orbitforge demo: the server, and the page in a real browser."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image
from starlette.testclient import TestClient

from orchestration.demo import server as demo_server
from orchestration.demo.server import Demo
from stages.reconstruction.config import ExportConfig
from stages.reconstruction.load import load
from stages.reconstruction.picture import Picture
from tests.orchestration.test_cli import ROOT
from tests.orchestration.test_labelling import CHROMIUM
from tests.orchestration.test_reconstruct_command import young_model

OCTETS = {"content-type": "application/octet-stream"}
EXPORT = {"mesh": {"grid": 16, "texture": 64, "faces": 300}, "turntable": {"frames": 2, "size": 16, "rate": 2}}


def picture(mode: str = "RGBA") -> bytes:
    image = Image.new("RGBA", (40, 40))
    image.paste((10, 120, 200, 255), (10, 5, 30, 35))
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, "PNG" if mode != "CMYK" else "JPEG")
    return buffer.getvalue()


def paint(text: str, seed: int) -> Picture:
    rgba = np.full((24, 24, 4), 255, dtype=np.uint8)
    rgba[6:18, 8:16, :3] = 25 * seed
    return Picture(rgba, text)


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    model = load(young_model(tmp_path / "model"), config=ExportConfig.model_validate(EXPORT))
    made = Demo(model, tmp_path / "made", height=lambda view: 31.0, paint=paint)
    return TestClient(made.app(), base_url="http://127.0.0.1")


def test_a_picture_becomes_files_to_download(client: TestClient) -> None:
    told = client.post("/api/reconstruct?elevation=auto&name=chair.png", content=picture(), headers=OCTETS).json()
    assert told["elevation"] == 31
    files = {name: client.get(f"/api/asset/{told['id']}/{name}") for name in demo_server.FILES}
    assert all(answer.status_code == 200 for answer in files.values())
    for kind, name in (("glb", "asset.glb"), ("ply", "asset.ply")):
        mesh: Any = trimesh.load(io.BytesIO(files[name].content), file_type=kind, force="mesh")
        assert 0 < len(mesh.faces) <= 300
    with zipfile.ZipFile(io.BytesIO(files["asset.zip"].content)) as archive:
        assert sorted(archive.namelist()) == ["asset.mtl", "asset.obj", "asset_texture.png"]
    assert client.get(f"/api/asset/{told['id']}/model.safetensors").status_code == 404
    assert client.get("/api/asset/..%2F..%2Fmodel/config.json").status_code == 404


def test_a_sentence_becomes_an_asset(client: TestClient) -> None:
    told = client.post("/api/generate", json={"prompt": " a  chair ", "seed": 3, "elevation": "12.5"}).json()
    assert (told["prompt"], told["seed"], told["elevation"]) == ("a chair", 3, 12.5)


def test_what_cannot_be_used_is_told(client: TestClient) -> None:
    def refused(path: str, code: int = 400, **what: Any) -> str:
        answer = client.post(path, **what)
        assert answer.status_code == code, answer.text
        return answer.json()["error"]

    where = "/api/reconstruct?name=x.png"
    assert "x.png is no picture" in refused(where, content=b"text", headers=OCTETS)
    assert "cut short" in refused(where, content=picture()[:60], headers=OCTETS)
    assert "degrees from -89 to 89" in refused(where + "&elevation=up", content=picture(), headers=OCTETS)
    assert "degrees from -89 to 89" in refused(where + "&elevation=nan", content=picture(), headers=OCTETS)
    assert "octet-stream" in refused(where, 415, content=picture(), headers={"content-type": "text/plain"})
    assert "JSON is wanted" in refused("/api/generate", 415, content=b"{}", headers={"content-type": "text/plain"})
    assert "a prompt is wanted" in refused("/api/generate", json={"seed": 1})
    assert "a prompt is wanted" in refused("/api/generate", json=[1])
    assert "empty" in refused("/api/generate", json={"prompt": " "})
    assert "unsafe word" in refused("/api/generate", json={"prompt": "a gory chair"})
    assert client.post("/api/generate", json={"prompt": "x"}, headers={"host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_too_much_is_refused_and_old_results_go(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo_server, "KEPT", 1)
    first, second = (
        client.post("/api/reconstruct", content=picture(mode), headers=OCTETS).json() for mode in ("RGBA", "CMYK")
    )
    assert "CMYK" in second["notes"][0]
    assert client.get(f"/api/asset/{first['id']}/asset.glb").status_code == 404
    assert [path.name for path in (tmp_path / "made").iterdir()] == [second["id"]]
    monkeypatch.setattr(demo_server, "LARGEST", 100)
    assert client.post("/api/reconstruct", content=picture(), headers=OCTETS).status_code == 413


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    shutil.copy(ROOT / "workspace.yaml", tmp_path)
    (tmp_path / "quick.yaml").write_text(json.dumps({"finetune": {"export": EXPORT}}))
    young_model(tmp_path / "data" / "quick" / "lrm_finetuned")
    command = [
        sys.executable,
        "-m",
        "orchestration.cli.main",
        "demo",
        "--port",
        "0",
        "--no-browser",
        "-p",
        "quick.yaml",
    ]
    environment = {**os.environ, "ORBITFORGE_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert server.stderr
    lines = []
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", "".join(lines[-1:]))):
        lines.append(server.stderr.readline())
        assert lines[-1], lines
    yield found[0]
    server.kill()
    server.wait()


def test_the_page_shows_the_mesh_in_a_browser(served: str, tmp_path: Path) -> None:
    if not CHROMIUM:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    (tmp_path / "chair.png").write_bytes(picture())
    (tmp_path / "broken.png").write_bytes(picture()[:60])
    elsewhere, errors = [], []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        )
        page = browser.new_context(accept_downloads=True).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((served, "blob:", "data:")) else elsewhere.append(request.url)
            ),
        )
        page.goto(served)
        page.wait_for_selector("body[data-ready=yes]")
        assert page.locator("#ask").evaluate("form => form.inert"), "no model draws sentences here"
        assert "orbitforge reconstruct" in page.inner_text("#lacking") or "orbitforge base" in page.inner_text(
            "#lacking"
        )

        page.set_input_files("#file", tmp_path / "broken.png")
        page.wait_for_selector("#error:has-text('cut short')")

        page.select_option("#how", "degrees")
        page.fill("#degrees", "35")
        page.set_input_files("#file", tmp_path / "chair.png")
        page.wait_for_selector('body[data-shown]:not([data-shown=""])', timeout=60000)
        page.wait_for_timeout(300)
        assert "seen from 35 degrees up" in page.inner_text("#told")
        drawn = seen(page)
        assert 0.03 < (drawn.min(-1) < 250).mean() < 0.9, "the mesh stands before a white ground"
        page.mouse.move(*middle(page))
        page.mouse.down()
        page.mouse.move(middle(page)[0] + 120, middle(page)[1], steps=4)
        page.mouse.up()
        page.wait_for_timeout(200)
        turned = seen(page)
        assert (turned != drawn).any(), "dragging turns it"
        page.wait_for_timeout(200)
        assert (seen(page) == turned).all(), "and then it stands still"
        with page.expect_download() as download:
            page.click("#downloads >> text=GLB")
        mesh: Any = trimesh.load(download.value.path(), file_type="glb", force="mesh")
        assert len(mesh.faces) > 0
        assert page.locator("#turntable").evaluate("video => video.error") is None
        browser.close()
    assert errors == []
    assert elsewhere == [], "nothing is fetched from elsewhere"


def middle(page: Any) -> tuple[float, float]:
    box = page.locator("#view").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def seen(page: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator("#view").screenshot())).convert("RGB"))
