"""orbitforge demo: what it makes, what its server answers and refuses, and the page in a real browser."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from orchestration.cli.demo import demo_command
from orchestration.cli.loopback import listen
from orchestration.demo import maker as demo_maker
from orchestration.demo.maker import Maker
from orchestration.errors import OrbitforgeError
from stages.errors import InputError
from stages.reconstruction.config import ExportConfig
from stages.reconstruction.load import load
from stages.reconstruction.picture import Picture
from tests.orchestration.test_cli import ROOT
from tests.orchestration.test_labelling import CHROMIUM
from tests.orchestration.test_reconstruct_command import young_model

EXPORT = {"mesh": {"grid": 16, "texture": 64, "faces": 300}, "turntable": {"frames": 2, "size": 16, "rate": 2}}
FILE = "/gradio_api/file="


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
def maker(tmp_path: Path) -> Maker:
    model = load(young_model(tmp_path / "model"), config=ExportConfig.model_validate(EXPORT))
    return Maker(model, tmp_path / "made", height=lambda view: 31.0, paint=paint)


@pytest.fixture
def upload(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def test_a_picture_becomes_files_to_download(maker: Maker, upload: Callable[..., Path]) -> None:
    made = maker.from_picture(upload("chair.png", picture()), "auto")
    assert made.extras["elevation"] == 31
    for file in (made.glb, made.ply):
        mesh: Any = trimesh.load(file, force="mesh")
        assert 0 < len(mesh.faces) <= 300
    with zipfile.ZipFile(made.obj) as archive:
        assert sorted(archive.namelist()) == ["asset.mtl", "asset.obj", "asset_texture.png"]
    assert Image.open(made.picture).size == (40, 40)
    assert re.fullmatch(r"\d+ faces in [\d.]+ s; seen from 31 degrees up", made.told)


def test_a_sentence_becomes_an_asset(maker: Maker) -> None:
    told = maker.from_sentence(" a  chair ", 3, 12.5).extras
    assert (told["prompt"], told["seed"], told["elevation"]) == ("a chair", 3, 12.5)


@pytest.mark.parametrize(
    ("data", "elevation", "words"),
    [
        (b"text", None, "x.png is no picture"),
        (picture()[:60], None, "cut short"),
        (picture(), "up", "degrees from -89 to 89"),
        (picture(), float("nan"), "degrees from -89 to 89"),
    ],
)
def test_what_cannot_be_used_leaves_nothing(
    maker: Maker, upload: Callable[..., Path], data: bytes, elevation: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        maker.from_picture(upload("x.png", data), elevation)
    assert not maker.folder.exists() or not list(maker.folder.iterdir())


@pytest.mark.parametrize(("prompt", "words"), [(" ", "empty"), ("a gory chair", "unsafe word")])
def test_sentences_pass_the_screen_of_a_corpus(maker: Maker, prompt: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        maker.from_sentence(prompt, 0, None)


def test_without_a_model_that_draws_the_reason_is_told(maker: Maker, tmp_path: Path) -> None:
    mute = Maker(maker.model, tmp_path / "mute", lacking="no base model")
    with pytest.raises(InputError, match="no base model"):
        mute.from_sentence("a chair", 0, None)


def test_old_results_go(maker: Maker, upload: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_maker, "KEPT", 1)
    first, second = (maker.from_picture(upload("chair.png", picture(mode)), None) for mode in ("RGBA", "CMYK"))
    assert "CMYK" in second.told
    assert not first.glb.exists()
    assert list(maker.folder.iterdir()) == [second.glb.parent]


def test_without_gradio_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("server", "page"):
        monkeypatch.delitem(sys.modules, f"orchestration.demo.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(OrbitforgeError, match=r"pip install 'orbitforge\[demo\]'"):
        demo_command(0, browser=False, checkpoint=None, kind=None, device="cpu", saliency=None)


@pytest.fixture
def client(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    pytest.importorskip("gradio", reason="the page needs Gradio")
    from orchestration.demo.server import served

    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # served() sets it; it is put back afterwards
    with TestClient(served(maker), base_url="http://127.0.0.1") as client:
        yield client


def uploaded(client: TestClient, name: str, data: bytes) -> dict[str, Any]:
    answer = client.post("/gradio_api/upload", files={"files": (name, data)})
    assert answer.status_code == 200, answer.text
    return {"path": answer.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def asked(client: TestClient, name: str, *data: Any) -> tuple[list[Any] | None, str]:
    """What the page's queue answers to an event: its outputs, or the words of the error."""
    config = re.search(r"window\.gradio_config = (\{.*?\});</script>", client.get("/").text)
    assert config
    (event,) = [found["id"] for found in json.loads(config[1])["dependencies"] if found["api_name"] == name]
    order = {"data": data, "fn_index": event, "session_hash": "here"}
    assert client.post("/gradio_api/queue/join", json=order).status_code == 200
    lines = client.get("/gradio_api/queue/data?session_hash=here").text.splitlines()
    messages = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    (done,) = [message for message in messages if message["msg"] == "process_completed"]
    return (done["output"]["data"], "") if done["success"] else (None, done["output"]["error"])


def test_the_queue_makes_assets_and_serves_them(client: TestClient, maker: Maker) -> None:
    outputs, error = asked(client, "picture", uploaded(client, "chair.png", picture()), "auto", None)
    assert outputs, error
    assert outputs[2].endswith("seen from 31 degrees up")
    assert outputs[0]["camera_position"] == [0, 59, None], "the mesh is seen from where the picture was taken"
    path = outputs[0]["value"]["path"]
    glb = client.get(FILE + path)
    mesh: Any = trimesh.load(io.BytesIO(glb.content), file_type="glb", force="mesh")
    assert len(mesh.faces) > 0
    assert Path(path).parent.parent == maker.folder, "it is served from where it was made"
    outputs, error = asked(client, "sentence", "a chair", 3, "degrees", 12.5)
    assert outputs, error
    assert outputs[2].endswith("seen from 12.5 degrees up")


def test_the_queue_tells_what_cannot_be_used(client: TestClient) -> None:
    whole = uploaded(client, "x.png", picture())
    assert "cut short" in asked(client, "picture", uploaded(client, "x.png", picture()[:60]), "usual", None)[1]
    assert "degrees from -89 to 89" in asked(client, "picture", whole, "degrees", None)[1]
    assert "degrees from -89 to 89" in asked(client, "picture", whole, "degrees", "<b>")[1]
    assert "a picture is wanted" in asked(client, "picture", None, "usual", None)[1]
    assert "unsafe word" in asked(client, "sentence", "a gory chair", 0, "usual", None)[1]
    assert "empty" in asked(client, "sentence", None, 0, "usual", None)[1]


def test_files_of_this_machine_are_not_served(client: TestClient, maker: Maker, tmp_path: Path) -> None:
    ledger = tmp_path / "data" / "ledger" / "rows-0.png"
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(picture())
    (tmp_path / "made2").mkdir()
    shutil.copy(ledger, tmp_path / "made2")
    for path in (
        ledger,
        maker.folder / ".." / "data" / "ledger" / "rows-0.png",
        tmp_path / "made2" / "rows-0.png",
        maker.folder,
        "data/ledger/rows-0.png",
        "https://example.org/x.png",
        ROOT / "pyproject.toml",
    ):
        assert client.get(f"{FILE}{path}").status_code in (403, 404), path
        assert client.get(FILE + str(path).replace("/", "%2F").replace(".", "%2E")).status_code in (403, 404), path
    for meta in ({"meta": {"_type": "gradio.FileData"}}, {}):
        outputs, error = asked(client, "picture", {"path": str(ledger), **meta}, "usual", None)
        assert outputs is None
        assert error, "what was not uploaded is not read"
    far = {"path": "https://example.org/x.png", "meta": {"_type": "gradio.FileData"}}
    assert "nothing is fetched" in asked(client, "picture", far, "usual", None)[1]
    assert "nothing is fetched" in asked(client, "sentence", far, 0, "usual", None)[1]
    told = {"path": str(ledger), "meta": {"_type": "gradio.FileData"}}
    assert asked(client, "sentence", told, 0, "usual", None)[0] is None
    assert not list(maker.folder.rglob("rows-0.png")), "and not copied to where files are served from"


def test_others_are_not_answered(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'self' blob: data: 'unsafe-inline';")
    assert "access-control-allow-origin" not in page.headers
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    files = {"files": ("chair.png", picture())}
    for origin in ("https://evil.example", "http://127.0.0.1:9999", "null"):
        assert client.post("/gradio_api/upload", files=files, headers={"origin": origin}).status_code == 403
    assert client.post("/gradio_api/upload", files=files, headers={"origin": "http://127.0.0.1"}).status_code == 200
    for path in (
        "/config",
        "/monitoring",
        "/gradio_api/info",
        "/gradio_api/runs",
        "/gradio_api/proxy=https://x.hf.space/",
    ):
        assert client.get(path).status_code == 404, path
    assert client.post("/gradio_api/run/picture", json={"data": []}).status_code == 404


def test_too_large_a_picture_is_refused(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="the page needs Gradio")
    from orchestration.demo import server

    monkeypatch.setattr(server, "LARGEST", 50)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    with TestClient(server.served(maker), base_url="http://127.0.0.1") as client:
        answer = client.post("/gradio_api/upload", files={"files": ("chair.png", picture())})
    assert answer.status_code == 413


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("gradio", reason="the page needs Gradio")
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
    modules = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "ORBITFORGE_ROOT": str(tmp_path), "PYTHONPATH": modules, "COLUMNS": "200"}
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert server.stderr
    lines = []
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", "".join(lines[-1:]))):
        lines.append(server.stderr.readline())
        assert lines[-1], lines
    yield found[0]
    server.kill()
    server.wait()


@contextmanager
def opened(url: str) -> Iterator[Any]:
    """The page in Chromium, which may ask no other host for anything and finds no mistakes in scripts."""
    if not CHROMIUM:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    asked, errors = [], []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        )
        page = browser.new_context(accept_downloads=True).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda told: errors.append(told.text) if "Content Security Policy" in told.text else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("#view")
        yield page
        browser.close()
    assert errors == []
    assert [there for there in asked if not there.startswith((url, "blob:", "data:"))] == []


def test_the_page_shows_the_mesh_in_a_browser(served: str, upload: Callable[..., Path]) -> None:
    with opened(served) as page:
        assert page.locator("#go").is_disabled(), "no model draws sentences here"
        assert re.search("orbitforge (reconstruct|base)", page.inner_text("#lacking"))

        page.set_input_files("#picture input[type=file]", upload("broken.png", picture()[:60]))
        page.get_by_text("cut short").wait_for()

        page.get_by_label("as I say").check()
        page.fill("#degrees input", "35")
        page.get_by_label("Remove Image").click()
        page.set_input_files("#picture input[type=file]", upload("chair.png", picture()))
        page.wait_for_selector("#told:has-text('seen from 35 degrees up')", timeout=60000)
        drawn = standing(page)
        assert 0.03 < (drawn.min(-1) < 250).mean() < 0.9, "the mesh stands before a white ground"
        page.mouse.move(*middle(page))
        page.mouse.down()
        page.mouse.move(middle(page)[0] + 120, middle(page)[1], steps=4)
        page.mouse.up()
        assert (standing(page) != drawn).any(), "dragging turns it"

        for name in ("GLB", "PLY"):
            with page.expect_download() as download:
                page.click(f"#downloads >> text={name}")
            mesh: Any = trimesh.load(download.value.path(), file_type=name.lower(), force="mesh")
            assert len(mesh.faces) > 0
        with page.expect_download() as download:
            page.click("#downloads >> text=OBJ")
        with zipfile.ZipFile(download.value.path()) as archive:
            assert "asset.obj" in archive.namelist()
        with page.expect_download() as download:
            page.click("#downloads >> text=PNG")
        assert Image.open(download.value.path()).size == (40, 40)
        page.wait_for_function("document.querySelector('#turntable video').readyState >= 2")
        assert page.locator("#turntable video").evaluate("video => video.error") is None


def test_a_sentence_is_drawn_or_refused_in_a_browser(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="the page needs Gradio")
    from orchestration.demo.server import served

    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    taken, url = listen(0)
    server = uvicorn.Server(uvicorn.Config(served(maker), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        with opened(url) as page:
            page.get_by_label("Or say what it is").fill("a gory chair")
            page.click("#go")
            page.get_by_text("unsafe word").wait_for()
            page.get_by_label("Or say what it is").fill("a chair")
            page.get_by_label("Seed").fill("3")
            page.get_by_label("Or say what it is").press("Enter")
            page.wait_for_selector("#told:has-text('seen from 20 degrees up')", timeout=60000)
            page.wait_for_selector("#picture img")
    finally:
        server.should_exit = True
        thread.join()


def middle(page: Any) -> tuple[float, float]:
    box = page.locator("#view canvas").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def standing(page: Any) -> np.ndarray:
    """What the viewer shows once it shows more than that it is loading, and nothing moves."""
    before = None
    for _ in range(100):
        page.wait_for_timeout(200)
        now = np.asarray(Image.open(io.BytesIO(page.locator("#view canvas").screenshot())).convert("RGB"))
        if before is not None and (now.min(-1) < 250).mean() > 0.03 and (now == before).all():
            return now
        before = now
    raise AssertionError("the viewer shows nothing, or never stands still")
