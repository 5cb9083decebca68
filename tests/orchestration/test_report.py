"""orbitforge report: what the page says, what it withstands, and what a browser makes of it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from orchestration import pipeline
from orchestration.cli.main import app
from orchestration.errors import OrbitforgeError
from orchestration.lineage.ledger import MADE, File, Input, Ledger, Row
from orchestration.report import figures
from orchestration.report.figures import between, experiments, measured, number
from orchestration.report.gallery import MOST, items
from orchestration.report.mesh import TEXTURE, packed
from orchestration.report.page import HERE, write
from orchestration.report.tables import read_evaluation, read_trends
from orchestration.versions import data_version
from stages.errors import InputError
from tests.orchestration.report_data import (
    PROTOCOL,
    coloured_ball,
    textured_box,
    write_evaluation,
    write_json,
    write_trends,
)
from tests.orchestration.test_labelling import CHROMIUM
from tests.orchestration.world import World

MINUS = "\N{MINUS SIGN}"
HOSTILE = (
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\" onload=\"pwned = 1 {{ 7*7 }}"
)


class Seen(HTMLParser):
    """The elements and the text of a page, as a browser would read them."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.pieces: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.links: list[str | None] = []
        self._silent = False
        self.feed(page.read_text())
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self._silent = tag in ("script", "style")
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "a":
            self.links.append(dict(attrs).get("href"))

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.pieces.append(data)


@pytest.fixture
def home(world: World) -> Path:
    """A toy chain whose model is made, and the folder of its preset."""
    world.make("views", "manifest", "model")
    return world.data / "toy"


@pytest.fixture
def full(home: Path) -> Path:
    """The same, evaluated and with trends."""
    write_evaluation(home / "evaluation")
    write_trends(home / "scaling_trends")
    return home


def page(world: World, name: str = "report.html") -> Path:
    return write(world.root / name, world.pipeline)


def made(name: str, place: int = -1) -> dict[str, Any]:
    """The ledger's row of an artifact, by default the newest."""
    return Ledger().read().filter((pl.col("asset") == name) & (pl.col("kind") == MADE)).row(place, named=True)


def recorded(folder: Path, *inputs: Input, version: str | None = None) -> Row:
    """The ledger's row of an artifact as it lies on disk."""
    files = tuple(File(path.name, "", 0) for path in folder.iterdir())
    where = f"toy/{folder.name}"
    version = version or data_version(folder)
    row = Row(
        MADE,
        "toy",
        folder.name,
        folder=where,
        version=version,
        key="k",
        files=files,
        inputs=inputs,
        code="c0de" * 8,
        ended="2026-01-02T03:04:05",
    )
    Ledger().append(row)
    return row


# what it says


def test_figures_stand_with_interval_protocol_objects_and_failures(world: World, full: Path) -> None:
    text = Seen(page(world)).text
    assert f"Foreground PSNR 14.1 dB 12.7 to 15.5 2 objects higher is better {PROTOCOL}" in text
    assert "mean image no value 0 2 failed" in text
    assert f"+4.19 dB +2.90 to +5.50 P(better) 0.999, better ; 2 objects {PROTOCOL}".replace("0.999", "1.00") in text
    assert "-0.246 -0.300 to -0.100 P(better) 0.01, worse ; 2 objects".replace("-", MINUS) in text
    assert "No model has a value of: DINO similarity." in text
    assert "6 values could not be had" in text


def test_trends_and_ablations_stand_with_their_protocol_and_steps(world: World, full: Path) -> None:
    text = Seen(page(world)).text
    assert "per doubling interval rank correlation points seeds Foreground PSNR +0.180 dB +0.100 to +0.260" in text
    assert f"Protocol {PROTOCOL} ; every point took 300 optimiser steps" in text
    assert "both 0.610 0.600 to 0.620 over 2 seeds" in text
    assert "filtered 0.600 0.500 to 0.700, one seed" in text


def test_lineage_versions_and_commands_stand_on_the_page(world: World, full: Path) -> None:
    text = Seen(page(world)).text
    row = made("model")
    for told in ("toy/model", row["id"], row["version"], "3 objects (3 train) by 1 creators", "CC0: 3 objects"):
        assert told in text
    assert f"orbitforge reproduce {row['id'][:12]} --preset toy.yaml --depth all" in text
    assert "evaluation : the ledger knows nothing of it" in text


def test_makers_are_named_one_by_one_where_the_licence_asks_for_it(world: World) -> None:
    table = world.data / "source" / "objects.parquet"
    changes = {"licence": ["CC-BY-4.0", "CC0-1.0", "CC-BY-SA-3.0"], "creator": ["Ann <b>", "Bob", ""]}
    changes |= {"source": ["https://example.org/ape?a=1&b=2", "here", "javascript:alert(1)"]}
    pl.read_parquet(table).with_columns(pl.Series(name, values) for name, values in changes.items()).write_parquet(
        table
    )
    world.make("views", "manifest", "model")
    write_evaluation(world.data / "toy" / "evaluation")
    seen = Seen(page(world))
    assert "a ape (ape) by Ann <b>, CC-BY-4.0" in seen.text
    assert "a cow (cow) by unnamed, CC-BY-SA-3.0 , from javascript:alert(1)" in seen.text
    assert "1 makers of objects in the public domain Bob, CC0-1.0 : 1 object" in seen.text
    assert "https://example.org/ape?a=1&b=2" in seen.links
    assert not [link for link in seen.links if link and not link.startswith(("#", "https://"))]


def test_the_model_is_the_version_that_was_evaluated(world: World, full: Path) -> None:
    old = made("model")
    recorded(full / "evaluation", Input("model", None, old["version"], old["id"]))
    recorded(full / "scaling_trends", version="0" * 32 + ".dir")
    world.edit("toy.stage", "return line(name", "return line('new', name")
    world.make("views", "manifest", "model")
    new = made("model")
    text = Seen(page(world)).text
    assert f"Version {old['version']} Ledger row {old['id']}" in text
    assert f"model : a newer version exists, {new['version'][:12]}" in text
    assert "scaling_trends : the ledger's newest is 000000000000: see `orbitforge audit`" in text
    assert "evaluation :" not in text


@pytest.mark.parametrize("name", ["someone's model", "m" * 300, "models:/other-lrm/3"])
def test_a_model_from_elsewhere_is_shown_without_a_lineage(world: World, home: Path, name: str) -> None:
    write_evaluation(home / "evaluation", model=name)
    text = Seen(page(world)).text
    assert f"The ledger does not know {name} : it was made elsewhere" in text
    assert "14.1 dB" in text


# what is missing or damaged


def test_either_part_may_be_missing_and_the_page_says_how_to_make_it(world: World, home: Path) -> None:
    write_trends(home / "scaling_trends")
    text = Seen(page(world)).text
    assert "There is no evaluation yet. orbitforge run --preset toy --select evaluation makes it." in text
    assert "+0.180 dB" in text
    shutil.rmtree(home / "scaling_trends")
    write_evaluation(home / "evaluation")
    text = Seen(page(world)).text
    assert "There are no scaling trends yet. orbitforge run --preset toy --select scaling_trends makes" in text
    assert "14.1 dB" in text


def test_with_nothing_at_all_there_is_no_page(world: World) -> None:
    with pytest.raises(OrbitforgeError, match=r"nothing to report: .*`orbitforge run --preset toy`"):
        page(world)
    assert not (world.root / "report.html").exists()


def test_a_drawing_that_is_missing_leaves_the_numbers(world: World, full: Path) -> None:
    (full / "scaling_trends" / "trend.svg").unlink()
    text = Seen(page(world)).text
    assert "Its drawing is missing" in text
    assert "48 clips 11.5" in text


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a file that is gone": (lambda home: (home / "evaluation/means.parquet").unlink(), "means.parquet is missing"),
    "no parquet": (lambda home: (home / "evaluation/table.parquet").write_text("x"), "table.parquet cannot be read"),
    "no json": (lambda home: (home / "evaluation/protocol.json").write_text("{"), "protocol.json is no JSON"),
    "other json": (lambda home: (home / "evaluation/gallery.json").write_text("{}"), "holds a dict, not a list"),
    "no id": (lambda home: (home / "evaluation/gallery.json").write_text('[{"id": 3}]'), "has no id"),
    "a column that is gone": (
        lambda home: pl.DataFrame({"experiment": ["a"]}).write_parquet(home / "scaling_trends/points.parquet"),
        "points.parquet has no column point, label",
    ),
    "words for numbers": (
        lambda home: (
            pl.read_parquet(home / "scaling_trends/fits.parquet")
            .with_columns(slope=pl.lit("steep"))
            .write_parquet(home / "scaling_trends/fits.parquet")
        ),
        "fits.parquet cannot be read",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_artifacts_are_named_in_one_line_and_no_page_is_left(world: World, full: Path, damage: str) -> None:
    breaks, told = DAMAGES[damage]
    breaks(full)
    with pytest.raises(OrbitforgeError, match=re.escape(told)) as caught:
        page(world)
    assert "orbitforge run --select" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(world.root.glob("*report*"))


def test_the_page_goes_nowhere_but_into_a_file(world: World, full: Path) -> None:
    with pytest.raises(OrbitforgeError, match="is a folder; name the file"):
        page(world, ".")
    (world.root / "file").touch()
    with pytest.raises(OrbitforgeError, match=r"writing .*report\.html: .*a file stands where a folder belongs"):
        page(world, "file/report.html")
    assert page(world, "new/folder/report.html").is_file()
    assert [path.name for path in (world.root / "new/folder").iterdir()] == ["report.html"]


def test_what_the_gallery_lacks_stands_at_its_object(full: Path) -> None:
    folder = full / "evaluation"
    gallery = json.loads((folder / "gallery.json").read_text())
    (folder / "gallery" / "bad.glb").write_bytes(b"glTF and no more")
    (folder / "gallery" / "bad.png").write_bytes(b"\x89PNG")
    trimesh.PointCloud(np.zeros((3, 3))).export(folder / "gallery" / "points.glb")
    (full / "secret.png").write_bytes((folder / "gallery" / "box-0-0.png").read_bytes())
    kinds = [
        ({"mesh": None}, "there is no mesh"),
        ({"mesh": "gallery/bad.glb"}, "bad.glb cannot be read"),
        ({"mesh": "gallery/points.glb"}, "points.glb holds no faces"),
        ({"picture": "gallery/gone.png"}, "the picture gallery/gone.png is missing"),
        ({"picture": "gallery/bad.png"}, "the picture bad.png cannot be read"),
        ({"picture": "../secret.png"}, "the picture ../secret.png is missing"),
    ]
    write_json(folder / "gallery.json", [gallery[0] | change for change, _ in kinds])
    evaluation = read_evaluation(folder)
    assert evaluation
    shown = items(evaluation)
    assert [why[: len(told)] for item, (_, told) in zip(shown, kinds, strict=True) for why in item.lacking] == [
        told for _, told in kinds
    ]
    assert all((item.mesh is None) != (item.picture is None) for item in shown)


def test_of_a_large_gallery_some_are_shown(full: Path, world: World) -> None:
    gallery = json.loads((full / "evaluation" / "gallery.json").read_text())
    write_json(full / "evaluation" / "gallery.json", [{**gallery[0], "caption": f"box {n}"} for n in range(3 * MOST)])
    text = Seen(page(world)).text
    assert f"{MOST} of {3 * MOST} objects" in text
    assert "box 33" in text
    assert "box 34" not in text


# hostile, equal, light


def test_nothing_in_the_data_becomes_an_element(world: World, home: Path) -> None:
    pages = []
    for word in ("harmless", HOSTILE):
        write_evaluation(home / "evaluation", model=word, word=word, creator=word)
        write_trends(home / "scaling_trends", word=word)
        pages.append(Seen(page(world)))
        shutil.rmtree(home / "evaluation")
        shutil.rmtree(home / "scaling_trends")
    assert pages[0].tags == pages[1].tags
    assert pages[1].text.count("<script>window.pwned") == pages[0].text.count("harmless") > 10


def test_equal_artifacts_give_equal_bytes_and_a_light_page(world: World, full: Path) -> None:
    first = page(world).read_bytes()
    assert page(world, "again.html").read_bytes() == first
    assert len(first) < 200_000


def test_the_command_says_where_the_page_is_and_how_large(
    world: World, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "current", lambda: world.pipeline)
    result = CliRunner().invoke(app, ["report", "-o", str(world.root / "r.html")])
    assert result.exit_code == 0, result.output
    size = (world.root / "r.html").stat().st_size
    assert f"r.html: {size / 1000:,.0f} kB" in result.stdout


# numbers and shapes


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (14.123, "14.1"),
        (-0.0234, f"{MINUS}0.023"),
        (1234.5, "1,234"),
        (0, "0.000"),
        (2e-5, f"2.0e{MINUS}05"),
        (None, "no value"),
        (float("nan"), "no value"),
    ],
)
def test_numbers_keep_about_three_digits(value: float | None, words: str) -> None:
    assert number(value) == words


def test_a_bound_that_is_missing_makes_no_interval() -> None:
    assert between(1.0, None) == ""
    assert between(-1.0, 2.0, sign=True) == f"{MINUS}1.00 to +2.00"


def test_marks_share_the_scale_of_their_metric(full: Path) -> None:
    evaluation = read_evaluation(full / "evaluation")
    assert evaluation
    psnr = next(each for each in measured(evaluation) if each.metric == "foreground_psnr")
    ours, mean = (figure.mark for figure in psnr.figures)
    assert ours
    assert mean
    assert (mean.low, ours.high) == (3, 97)
    assert mean.low < mean.mean < mean.high < ours.low < ours.mean < ours.high
    assert ours.mean == pytest.approx(3 + 94 * (14.12 - 9.93 * 0.9) / (14.12 * 1.1 - 9.93 * 0.9), abs=0.1)


def test_what_is_not_finite_has_no_mark(full: Path) -> None:
    file = full / "evaluation" / "means.parquet"
    first = pl.col("metric").is_in(["foreground_psnr"]) & (pl.col("model") == "model")
    table = pl.read_parquet(file).with_columns(mean=pl.when(first).then(float("inf")).otherwise("mean"))
    table.with_columns(low=pl.when(first).then(float("nan")).otherwise("low")).write_parquet(file)
    evaluation = read_evaluation(full / "evaluation")
    assert evaluation
    ours, other = measured(evaluation)[0].figures
    assert (ours.mean, ours.interval, ours.mark) == ("inf dB", "", None)
    assert other.mark


def test_metrics_and_experiments_come_in_the_order_of_what_matters(full: Path) -> None:
    assert figures.in_order(["zeal", "memory", "iou", "foreground_psnr"]) == [
        "foreground_psnr",
        "iou",
        "memory",
        "zeal",
    ]
    trends = read_trends(full / "scaling_trends")
    assert trends
    found = experiments(trends)
    assert [each.name for each in found] == ["synthetic size", "sources", "filter"]
    assert [label for label, _ in found[0].lines] == ["12 clips", "24 clips", "48 clips"]
    assert found[0].over_a_size
    assert not found[1].over_a_size


# meshes


def values(content: dict[str, Any], name: str, kind: str, count: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(content[name]), kind).reshape(-1, count)


def test_a_textured_mesh_keeps_its_shape_and_a_smaller_texture(tmp_path: Path) -> None:
    textured_box().export(tmp_path / "box.glb")
    content = packed(tmp_path / "box.glb", 1000)
    assert content["size"] == [1, 0.5, 0.25]
    assert content["radius"] == pytest.approx(np.linalg.norm([1, 0.5, 0.25]) / 2, abs=1e-5)
    made = trimesh.Trimesh(
        values(content, "position", "<u2", 3) / 65535, values(content, "index", "<u2", 3), process=False
    )
    assert made.volume == pytest.approx(0.125, abs=1e-4)
    assert np.abs(values(content, "normal", "i1", 3) / 127 - made.vertex_normals).max() < 0.02
    image = Image.open(io.BytesIO(base64.b64decode(content["texture"].partition(",")[2])))
    assert max(image.size) == TEXTURE
    uv = values(content, "uv", "<u2", 2) / 65535
    upper = values(content, "position", "<u2", 3)[:, 1] > 0
    across = [image.getpixel((int(u * image.width), int(v * image.height))) for u, v in uv]
    assert [pixel[0] > pixel[2] for pixel in across] == list(upper), "red above, as it was painted"  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
    assert "colour" not in content


def test_a_mesh_of_many_faces_gets_fewer_and_keeps_its_colours(tmp_path: Path) -> None:
    coloured_ball().export(tmp_path / "ball.glb")
    content = packed(tmp_path / "ball.glb", 1000)
    position = values(content, "position", "<u2", 3) / 65535
    assert 500 < len(values(content, "index", "<u2", 3)) <= 1000
    made = trimesh.Trimesh(position, values(content, "index", "<u2", 3), process=False)
    assert made.is_watertight
    assert made.volume == pytest.approx(np.pi / 6, rel=0.02)
    colour = values(content, "colour", "u1", 3)
    clear = np.abs(position[:, 1] - 0.5) > 0.1
    assert ((colour[clear, 1] > 100) == (position[clear, 1] > 0.5)).all()


def test_a_texture_that_repeats_becomes_colours_of_vertices(tmp_path: Path) -> None:
    box = textured_box()
    box.visual.uv *= 3  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    box.export(tmp_path / "box.glb")
    assert "colour" in packed(tmp_path / "box.glb", 1000)


@given(st.integers(0, 2**32 - 1), st.floats(-3, 6))
def test_places_are_kept_to_a_step(seed: int, magnitude: float) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.normal(0, 10**magnitude, (12, 3)) + rng.normal(0, 10, 3)
    mesh = trimesh.Trimesh(vertices, rng.permutation(12).reshape(4, 3), process=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trimesh, "load_mesh", lambda *_, **__: mesh)
        content = packed(Path("any.glb"), 1000)
    low, longest = vertices.min(0), np.ptp(vertices, axis=0).max()
    back = values(content, "position", "<u2", 3) / 65535 * longest + low
    assert np.abs(back - vertices).max() <= longest / 65535 * 0.51 + 1e-9


@pytest.mark.parametrize("wrong", ["flat", "infinite"])
def test_meshes_that_show_nothing_are_refused(tmp_path: Path, wrong: str) -> None:
    vertices = np.zeros((3, 3)) if wrong == "flat" else np.array([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]])
    trimesh.Trimesh(vertices, [[0, 1, 2]], process=False).export(tmp_path / "m.ply")
    with pytest.raises(InputError, match=r"m\.ply"):
        packed(tmp_path / "m.ply", 10)


# what a person needs to read it


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (HERE / "page.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", blocks[("light", "dark").index(scheme)]))
    for ink in ("ink", "soft", "accent", "good", "bad"):
        for ground in ("ground", "panel"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["soft"], colours["stage"]) >= 4.5
    assert contrast(colours["ink"], colours["warn-ground"]) >= 4.5


def contrast(first: str, second: str) -> float:
    """WCAG 2's ratio of luminances, 1 to 21."""

    def luminance(colour: str) -> float:
        colour = colour[1:] if len(colour) == 7 else "".join(2 * letter for letter in colour[1:])
        parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_pictures_have_words_and_headings_are_in_order(world: World, full: Path) -> None:
    seen = Seen(page(world))
    assert seen.images
    assert all(image["alt"] for image in seen.images)
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


# the page in a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Any, file: Path, *, before: str = "", **how: Any) -> Iterator[Any]:
    """The page from the disk, after the script `before`: nothing is asked for, nothing is refused, no script fails."""
    asked: list[str] = []
    errors: list[str] = []
    context = chromium.new_context(**how)
    tab = context.new_page()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda told: errors.append(told.text) if told.type in ("error", "warning") else None)
    tab.on("request", lambda request: asked.append(request.url))
    tab.add_init_script(before)
    tab.goto(file.as_uri())
    yield tab
    context.close()
    assert [told for told in errors if "GPU stall" not in told] == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]


def drawn(tab: Any, place: int) -> np.ndarray:
    """The pixels of a canvas, RGBA."""
    tab.wait_for_timeout(150)
    uri = tab.locator(".viewer canvas").nth(place).evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA")).astype(int)


def test_the_page_shows_figures_and_turns_meshes_from_the_disk(chromium: Any, world: World, full: Path) -> None:
    with opened(chromium, page(world)) as tab:
        tab.wait_for_selector("html[data-meshes='2']", state="attached", timeout=60000)
        assert "14.1 dB" in tab.inner_text(".tiles")
        assert PROTOCOL in tab.inner_text(".tiles")
        assert tab.locator("img").evaluate_all("all => all.every(image => image.complete && image.naturalWidth > 0)")

        box = drawn(tab, 0)
        covered = box[..., 3] > 0
        assert 0.05 < covered.mean() < 0.9, "the mesh stands before a ground that shows"
        rows, _ = np.nonzero(covered)
        half = (rows.min() + rows.max()) // 2
        above, below = (part[part[..., 3] == 255].mean(0) for part in (box[: half - 8], box[half + 8 :]))
        assert above[0] > above[2], "red is above"
        assert below[2] > below[0], "blue is below"
        ball = drawn(tab, 1)
        seen = (ball[..., 3] > 0).sum() / (np.pi / 4 * ball.shape[0] ** 2)
        assert 0.8 < seen < 0.95, "a ball fills its canvas, and is not cut"

        canvas = tab.locator(".viewer canvas").first
        canvas.scroll_into_view_if_needed()
        at = canvas.bounding_box()
        tab.mouse.move(at["x"] + 100, at["y"] + 100)
        tab.mouse.down()
        tab.mouse.move(at["x"] + 170, at["y"] + 100, steps=4)
        tab.mouse.up()
        turned = drawn(tab, 0)
        assert (turned != box).any(-1).mean() > 0.02, "dragging turns it"
        assert (drawn(tab, 1) == ball).all(), "and it alone"
        canvas.dblclick()
        assert (drawn(tab, 0) == box).all(), "a double click puts it back"
        canvas.focus()
        tab.keyboard.press("ArrowUp")
        tab.keyboard.press("+")
        assert (drawn(tab, 0)[..., 3] > 0).sum() > covered.sum(), "keys turn it and bring it near"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_the_page_in_one_direction(chromium: Any, world: World, full: Path, scheme: Any) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    with opened(chromium, page(world), **phone) as tab:
        tab.wait_for_selector("html[data-meshes='2']", state="attached", timeout=60000)
        tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_hostile_words_do_nothing_in_a_browser(chromium: Any, world: World, home: Path) -> None:
    write_evaluation(home / "evaluation", model=HOSTILE, word=HOSTILE, creator=HOSTILE)
    write_trends(home / "scaling_trends", word=HOSTILE)
    with opened(chromium, page(world)) as tab:
        tab.wait_for_selector("html[data-meshes='2']", state="attached", timeout=60000)
        assert tab.evaluate("window.pwned") is None
        assert HOSTILE in tab.locator("article h3").first.evaluate("heading => heading.textContent")


def test_no_script_that_gets_into_the_page_runs(chromium: Any, world: World, full: Path) -> None:
    file = page(world)
    file.write_text(file.read_text().replace("</footer>", "<script>window.pwned = 1</script></footer>"))
    with pytest.raises(AssertionError, match="Content Security Policy"), opened(chromium, file) as tab:
        assert tab.evaluate("window.pwned") is None


NO_WEBGL = "HTMLCanvasElement.prototype.getContext = () => null;"


@pytest.mark.parametrize("lacking", [{"before": NO_WEBGL}, {"java_script_enabled": False}])
def test_without_webgl_or_scripts_pictures_and_words_stay(
    chromium: Any, world: World, full: Path, lacking: dict[str, Any]
) -> None:
    with opened(chromium, page(world), **lacking) as tab:
        viewer = tab.locator(".viewer").first
        assert "the picture shows it" in viewer.inner_text()
        assert tab.locator(".viewer canvas").count() == 0
        assert tab.locator("article img").first.is_visible()
        assert "14.1 dB" in tab.inner_text(".tiles")


def test_dagster_links_the_page_from_the_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import dagster as dg

    from orchestration.cli import report

    def page(output: Path) -> Path:
        output.write_text("<html>")
        return output

    (tmp_path / "data" / "tiny" / "evaluation").mkdir(parents=True)
    monkeypatch.setattr(report, "write", page)
    monkeypatch.setattr(report.paths, "data", lambda: tmp_path / "data")
    monkeypatch.setenv("ORBITFORGE_PRESET", "tiny")
    with dg.instance_for_test() as instance:
        monkeypatch.setattr("orchestration.home.open_instance", lambda: instance)
        report.report_command(tmp_path / "report.html")
        (seen,) = instance.fetch_observations(dg.AssetKey("evaluation"), limit=5).records
    assert seen.asset_observation is not None
    assert seen.asset_observation.metadata["report"].value == str(tmp_path / "report.html")
