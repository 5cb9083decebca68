"""Parsers that this project wrote, on arbitrary input: a value, or the one error that a person reads; nothing else."""

from __future__ import annotations

import copy
import io
import json
import string
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from models.camera import Camera
from orchestration.cli.painting import worded
from orchestration.cli.terminal import printable
from orchestration.errors import OrbitforgeError
from orchestration.labelling.journal import FIELDS
from orchestration.labelling.journal import _read as read_journal
from orchestration.lineage.find import model_md5
from orchestration.lineage.ledger import SCHEMA, Ledger, Row
from orchestration.lineage.policy import load_policy
from orchestration.own_pages import NAMES, OwnPages
from orchestration.planning import Rates
from orchestration.presets.schema import FOLDER, PresetError, load_preset
from orchestration.resources import store
from stages.corpus.clip_files import ClipError, ClipFormat, read_clip_file
from stages.documents import DocumentError, read_json, read_yaml
from stages.errors import InputError
from stages.evaluation.protocols import read_protocol
from stages.flexrm.views import RingsOfViews, read_views
from stages.objects.collections.archive import ArchiveError, unpack
from stages.objects.collections.item import LONGEST_ID, Item, plain_id
from stages.objects.collections.screen import screened as screened_items
from stages.objects.collections.sweethome3d import read_catalogue
from stages.prompts.screen import ScreenConfig, screened
from stages.prompts.vocabulary import DEFAULT, read_vocabulary
from stages.quality.clips import Broken, read_clips
from stages.reconstruction.load import read_shapes
from stages.rendering.mesh import MeshError
from stages.rendering.preflight import content_md5, preflight
from stages.rendering.validate import validate
from stages.shards import Sample
from stages.text import unfit
from tests.hostile import clips, meshes, shards
from tests.hostile.images import PNG, saved, square

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 1e39, 1e300, float("nan")])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8) | st.sampled_from(["../../x", "/etc/passwd", "a\0b", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, good: Any) -> Any:
    """The document with one to three of its parts replaced by anything, or left out."""
    document = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        at: Any = document
        for _ in range(8):
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], dict | list) and at[key] and draw(st.integers(0, 3)):
                at = at[key]
                continue
            if draw(st.integers(0, 5)):
                at[key] = draw(values)
            else:
                del at[key]
            break
    return document


@st.composite
def scratched(draw: st.DrawFn, good: bytes) -> bytes:
    """The bytes with some changed, and perhaps cut short."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 8))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(1, len(data)))] if draw(st.booleans()) else data)


def text_of(document: Any) -> str:
    return json.dumps(document)


@quick
@given(st.binary() | st.text() | st.text(alphabet=string.printable) | st.text(alphabet="[]{}:,-&*!<>?|#'\"ab1.\n "))
def test_documents(text: bytes | str) -> None:
    for read in (read_yaml, read_json):
        try:
            read(text)
            told = ""
        except DocumentError as error:
            told = str(error)
        assert "\n" not in told


@quick
@given(values)
def test_yaml_reads_what_json_holds(value: Any) -> None:
    """Unless it is too large for a float."""
    text = text_of(value)
    try:
        found = read_yaml(text)
    except DocumentError:
        return
    assert text_of(found) == text or text_of(yaml.safe_load(text)) == text_of(found)


PRESET = yaml.safe_load((FOLDER / "nano.yaml").read_text())
RATES = yaml.safe_load((Path(store.__file__).parents[1] / "rates.yaml").read_text())
POLICY = {"licences": {"deny": ["*-NC-*"]}, "metrics": {"model": {"psnr": {"at_least": 3}}}}
PROTOCOL = {"kind": "pictures", "id": "mine", "views": 4, "folder": "pictures"}
VOCABULARY = yaml.safe_load(DEFAULT.read_text())


def reads(document: Any, path: Path, read: Callable[[Path], object], error: type[Exception]) -> None:
    path.write_text(yaml.safe_dump(document))
    try:
        read(path)
    except error as problem:
        told = str(problem)
    else:
        told = ""
    assert "\n" not in told
    assert len(told) < 3000


@quick
@given(damaged(PRESET) | values)
def test_presets(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "preset.yaml"
    reads(document, path, lambda path: load_preset.__wrapped__(str(path)), PresetError)


@quick
@given(damaged(VOCABULARY) | values)
def test_vocabularies(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    reads(document, tmp_path_factory.getbasetemp() / "words.yaml", read_vocabulary, InputError)


@quick
@given(damaged(PROTOCOL) | values)
def test_protocols(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "protocol.yaml"
    reads(document, path, lambda path: read_protocol(str(path)), InputError)


@quick
@given(damaged(RATES) | values)
def test_rates(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    reads(document, tmp_path_factory.getbasetemp() / "rates.yaml", Rates.read, OrbitforgeError)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    return tmp_path


@quick
@given(damaged(POLICY) | values)
def test_policies(root: Path, document: Any) -> None:
    reads(document, root / "policy.yaml", lambda _: load_policy(), OrbitforgeError)


LIST = [{"md5": "0" * 32, "relpath": "source/a.glb"}, {"md5": "1" * 32, "relpath": "b"}]
POINTER = {"outs": [{"md5": "0" * 32 + ".dir", "path": "data", "nfiles": 3}]}


@quick
@given(damaged(POINTER) | values, damaged(LIST) | values)
def test_pointers_and_lists(root: Path, pointer: Any, listed: Any) -> None:
    def read(_: Path) -> None:
        if md5 := store.pointer():
            assert store.object_path(md5).is_relative_to(store.cache_dir())

    reads(pointer, root / "data.dvc", read, OrbitforgeError)
    path = store.object_path("a" * 32)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(listed))
    with suppress(OrbitforgeError):
        for name, md5 in (store.listed("a" * 32) or {}).items():
            assert (root / "data" / name).resolve().is_relative_to(root / "data")
            assert store.object_path(md5).is_relative_to(store.cache_dir())


@quick
@given(damaged(Row("made", "nano", "model", folder="nano/model", config={"a": {}}, metrics={"b": 1.0}).record()))
def test_rows_of_a_ledger(root: Path, record: dict[str, Any]) -> None:
    folder = root / "data" / "ledger"
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    try:
        table = pl.DataFrame([record], schema=SCHEMA)
    except Exception:  # no row that a file could hold
        return
    table.write_parquet(folder / f"rows-{abs(hash(str(record)))}.parquet")
    with suppress(OrbitforgeError):
        for row in Ledger().read().to_dicts():
            Row.of(row)


# geometry and cameras


@quick
@given(damaged(meshes.inline()) | values)
def test_headers_of_gltf(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    for name, data in (("a.gltf", text_of(document).encode()), ("a.glb", meshes.glb(text_of(document).encode()))):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(data)
        for check in (preflight, content_md5):
            with suppress(MeshError):
                check(path)


@quick
@given(scratched(meshes.textured(PNG)), scratched(meshes.ply("3", "1", meshes.SQUARE).encode()), st.binary())
def test_headers_of_meshes(tmp_path_factory: pytest.TempPathFactory, glb: bytes, ply: bytes, other: bytes) -> None:
    for name, data in (("a.glb", glb), ("a.ply", ply), ("a.obj", other), ("a.stl", other), ("b.ply", other)):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(data)
        with suppress(MeshError):
            preflight(path)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    for number in range(clips.FRAMES):
        (folder / f"{number}.png").write_bytes(saved(square(32).rotate(90 * number)))
    return folder


FORM = ClipFormat(frames=4, size=8, radius=1.5, focal=0.75)


@quick
@given(damaged(clips.transforms()) | damaged(clips.transforms(fl_x=40.0, cx=32.0)) | values)
def test_transforms(views: Path, document: Any) -> None:
    (views / "transforms.json").write_text(text_of(document))
    paths = sorted(views.glob("*.png"))
    with suppress(InputError):
        found = read_views(paths, 8, views / "transforms.json", RingsOfViews(), 0.8)
        assert torch.isfinite(found.cameras.numbers()).all()
    with suppress(ClipError):
        _, cameras = read_clip_file(views, "transforms", None, None, FORM)
        assert np.isfinite(np.array(cameras)).all()


@quick
@given(damaged(Camera.orbit(4, 6.0).numbers().tolist()).map(text_of) | st.text())
def test_cameras_of_a_table(views: Path, camera: str) -> None:
    with suppress(ClipError):
        _, cameras = read_clip_file(views, camera, None, None, FORM)
        assert np.isfinite(np.array(cameras)).all()


# archives, shards, weights


@quick
@given(scratched(shards.tar(*shards.sample())))
def test_shards(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "views.tar"
    path.write_bytes(data)
    with suppress(ValueError):
        for clip in read_clips(path):
            if not isinstance(clip, Broken):
                list(validate(clip))


@quick
@given(damaged(shards.META) | values)
def test_facts_of_a_sample(tmp_path_factory: pytest.TempPathFactory, meta: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "facts.tar"
    path.write_bytes(shards.tar(*shards.sample(meta=text_of(meta).encode())))
    (clip,) = read_clips(path)
    if isinstance(clip, Sample):
        list(validate(clip))


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    name = st.text(max_size=20) | st.sampled_from(
        ["../a", "/a", "a/../../b", "a", "a/b", "a/b/c", "..", ".", "C:a", "\\a"]
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for each in draw(st.lists(name, max_size=6)):
            try:
                archive.writestr(each, b"data")
            except (ValueError, IndexError):
                continue
    return buffer.getvalue()


@quick
@given(zips() | scratched(shards.tar(*shards.sample())) | zips().flatmap(scratched))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    home = tmp_path_factory.mktemp("zip")
    (home / "a.zip").write_bytes(data)
    try:
        unpack(home / "a.zip", home / "inside" / "folder")
    except ArchiveError:
        assert not (home / "inside" / "folder").exists()
    assert {path.name for path in home.iterdir()} <= {"a.zip", "inside"}
    assert not (home / "inside").exists() or {path.name for path in (home / "inside").iterdir()} <= {"folder"}


HEADER = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@quick
@given(damaged(HEADER) | values, st.binary(max_size=40))
def test_headers_of_weights(tmp_path_factory: pytest.TempPathFactory, header: Any, other: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "a.safetensors"
    text = text_of(header).encode()
    for data in (len(text).to_bytes(8, "little") + text + b"\0" * 8, other):
        path.write_bytes(data)
        with suppress(InputError):
            read_shapes(path)


@quick
@given(damaged({"asset": {"extras": {"model_md5": "0" * 32}}}) | values, st.binary(max_size=60))
def test_makers_of_a_glb(tmp_path_factory: pytest.TempPathFactory, document: Any, other: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "b.glb"
    for data in (meshes.glb(text_of(document).encode()), other):
        path.write_bytes(data)
        with suppress(OrbitforgeError):
            assert isinstance(model_md5(path), str | None)


# words


@quick
@given(st.binary() | st.text().map(lambda text: text.encode("latin-1", "replace")))
def test_catalogues(data: bytes) -> None:
    library, pieces = read_catalogue(data)
    assert all(isinstance(value, str) for part in (library, *pieces) for value in part.values())


words = st.text() | st.text(alphabet=st.characters(codec=None)) | st.sampled_from(["=1", "\x1b[2J", "\u202ea", "a"])


@quick
@given(words, words)
def test_ids_are_names_of_files(name: str, unique: str) -> None:
    id_ = plain_id(name, unique)
    assert set(id_) <= set(string.ascii_letters + string.digits + "-_")
    assert 0 < len(id_) <= LONGEST_ID + 7


@quick
@given(words, words, words)
def test_items_keep_lines_of_text_alone(file: str, caption: str, creator: str) -> None:
    (item,) = screened_items([Item("a", file, None, caption, creator=creator)])
    for value in (item.file, item.caption, item.creator):
        assert unfit(value) is None
        value.encode()
    assert (item.reason is not None) == any(unfit(each) for each in (file, caption, creator))


@quick
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5), st.text())
def test_prompts_are_kept_or_refused(texts: list[str], creator: str) -> None:
    creator = creator.encode(errors="replace").decode()
    table = pl.DataFrame({"text": texts, "creator": [creator] * len(texts)})
    kept, refused = screened(table, ScreenConfig.model_validate({}), ["gory"])
    assert len(kept) + len(refused) == len(texts)
    assert all(unfit(text) is None for text in kept["text"])
    assert not any(text.startswith(("=", "+", "-", "@")) for text in kept["text"])
    assert all(unfit(each) is None for each in kept["creator"])


@quick
@given(words)
def test_sentences(text: str) -> None:
    try:
        assert unfit(worded(text)) is None
    except InputError as error:
        text = str(error)
    assert all(unfit(line) is None or len(line) > 2000 for line in printable(text).split("\n"))


# servers


@quick
@given(st.lists(values.map(text_of) | st.text(max_size=30), max_size=4))
def test_journals(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "a.jsonl"
    path.write_text("\n".join(lines).encode(errors="replace").decode(), errors="replace")
    torn: list[str] = []
    assert all(row.keys() == FIELDS for row in read_journal(path, torn))


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


plain = st.text(alphabet=string.ascii_letters + string.digits + ".:[]@/-_%", max_size=30)


@quick
@given(plain | st.sampled_from(["evil.example", *NAMES]), plain | st.sampled_from([f"http://{name}" for name in NAMES]))
def test_hosts_and_origins(host: str, origin: str) -> None:
    client = TestClient(OwnPages(hello), base_url="http://127.0.0.1")
    status = client.get("/", headers={"host": host, "origin": origin}).status_code
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    assert (status == 200) == (name in NAMES and origin == f"http://{host}")
