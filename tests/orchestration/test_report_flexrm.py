"""The report's section on the reconstruction from any number of views: figures, drawing, splats to turn."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from models.camera import Camera
from models.splatting import splat
from orchestration.errors import OrbitforgeError
from orchestration.report.flexrm import BOTTOM, TOP, chart, lines
from orchestration.report.splats import packed
from orchestration.report.tables import read_flexrm
from stages.errors import InputError
from stages.reconstruction.splats import write_splats
from tests.orchestration.report_data import ball_of_splats, write_flexrm
from tests.orchestration.test_report import HOSTILE, NO_WEBGL, Seen, chromium, drawn, full, home, opened, page
from tests.orchestration.world import World

__all__ = ["chromium", "full", "home"]  # fixtures


@pytest.fixture
def many(full: Path) -> Path:
    """Everything, the reconstruction from many views as well."""
    write_flexrm(full / "flexrm_evaluation")
    return full


def test_without_it_the_page_says_nothing_of_it(world: World, full: Path) -> None:
    text = page(world).read_text()
    assert "flexrm" not in text.lower()
    assert "data-splats" not in text


def test_figures_stand_by_kind_and_number_of_views(world: World, many: Path) -> None:
    text = Seen(page(world)).text
    assert "clean 1 13.8 13.2 to 14.2 0.660 0.610 to 0.710 19.8 19.2 to 20.2 2 clean 4" in text
    assert "all 16 16.5 16.0 to 17.0" in text
    assert "Foreground PSNR, dB by number of views: clean , all ." in text
    assert "flexrm_evaluation : the ledger knows nothing of it" in text


def test_it_alone_is_worth_a_page(world: World) -> None:
    write_flexrm(world.data / "toy" / "flexrm_evaluation")
    assert "FlexRM: from any number of views" in Seen(page(world)).text


def test_an_object_counts_once_and_what_has_no_value_is_said() -> None:
    rows = [
        ("clean", 1, "a", None, 10.0, None),
        ("clean", 1, "a", None, 20.0, None),
        ("clean", 1, "b", None, 5.0, None),
    ]
    rows.append(("all", 2, "b", None, None, 0.5))
    columns = {"inputs": pl.String, "views": pl.Int64, "object": pl.String, "psnr": pl.Float64}
    columns |= {"foreground_psnr": pl.Float64, "iou": pl.Float64}
    figures = pl.DataFrame(rows, columns, orient="row")
    found = lines(figures)
    assert found.metrics == ("Foreground PSNR, dB", "Silhouette IoU")
    assert [(row.inputs, row.cells[0][0], row.objects) for row in found.rows] == [
        ("clean", "10.0", 2),
        ("all", "no value", 1),
    ]
    assert chart(figures) is None, "one number of views makes no line"
    assert lines(figures.clear()).rows == ()


def test_the_drawing_rises_where_figures_do(many: Path) -> None:
    found = read_flexrm(many / "flexrm_evaluation")
    assert found
    drawing = chart(found.figures)
    assert drawing
    assert [each.name for each in drawing.series] == ["clean", "all"]
    assert [views for _, views in drawing.counts] == [1, 4, 16]
    first, second, third = (place for place, _ in drawing.counts)
    assert second - first == pytest.approx(third - second), "each doubling is as wide"
    for each in drawing.series:
        heights = [point.y for point in each.points]
        assert heights == sorted(heights, reverse=True)
        assert all(BOTTOM >= point.low >= point.y >= point.high >= TOP for point in each.points)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "figures.parquet").unlink(), "figures.parquet is missing"),
        (
            lambda folder: pl.DataFrame({"inputs": ["a"]}).write_parquet(folder / "figures.parquet"),
            "has no column views",
        ),
    ],
)
def test_damaged_figures_are_named(world: World, many: Path, damage: Any, said: str) -> None:
    damage(many / "flexrm_evaluation")
    with pytest.raises(OrbitforgeError, match=re.escape(said)):
        page(world)


def test_splats_that_cannot_be_had_are_said_and_the_figures_stay(world: World, many: Path) -> None:
    (many / "flexrm_evaluation" / "splats.ply").write_bytes(b"ply\nno more")
    text = Seen(page(world)).text
    assert "splats.ply is no PLY file" in text
    assert str(many) not in text
    assert "No splats to turn." in text
    assert "clean 1 13.8" in text


def test_empty_figures_say_how_to_make_them(world: World, many: Path) -> None:
    file = many / "flexrm_evaluation" / "figures.parquet"
    pl.read_parquet(file).clear().write_parquet(file)
    assert "orbitforge flexiview --preset toy --select flexrm_evaluation makes them again" in Seen(page(world)).text


def test_nothing_in_its_data_becomes_an_element(world: World, full: Path) -> None:
    write_flexrm(full / "flexrm_evaluation", word=HOSTILE)
    hostile = Seen(page(world))
    assert HOSTILE.split("<")[0] in hostile.text
    (full / "flexrm_evaluation" / "figures.parquet").unlink()
    (full / "flexrm_evaluation" / "splats.ply").unlink()
    (full / "flexrm_evaluation").rmdir()
    write_flexrm(full / "flexrm_evaluation")
    assert Seen(page(world)).tags == hostile.tags


def test_packed_splats_are_those_of_the_file_without_the_faint(tmp_path: Path) -> None:
    gaussians = ball_of_splats(500)
    content = packed(write_splats(gaussians, tmp_path / "a.ply", {}, up="z"))
    assert content["left_out"] == 50
    shown = gaussians.kept(torch.arange(450))

    def read(name: str, kind: str, count: int) -> torch.Tensor:
        return torch.from_numpy(np.frombuffer(base64.b64decode(content[name]), kind).reshape(-1, count).astype(float))

    low = shown.positions.min(0).values
    torch.testing.assert_close(
        read("position", "<u2", 3) / 65535 * content["unit"] + low, shown.positions.double(), atol=1e-4, rtol=0
    )
    least, largest = content["scales"]
    scales = (least + read("scale", "u1", 3) / 255 * (largest - least)).exp()
    torch.testing.assert_close(scales, shown.scales.double(), rtol=0.03, atol=0)
    rotations = torch.nn.functional.normalize(read("rotation", "i1", 4), dim=-1)
    truth = torch.nn.functional.normalize(shown.rotations.double(), dim=-1)
    assert ((rotations * truth).sum(-1).abs() > 0.999).all()
    looks = read("colour", "u1", 4) / 255
    torch.testing.assert_close(looks[:, :3], shown.colours.double(), atol=0.003, rtol=0)
    torch.testing.assert_close(looks[:, 3], shown.opacities.double(), atol=0.003, rtol=0)


def test_of_many_splats_those_that_cover_most_are_shown(tmp_path: Path) -> None:
    gaussians = ball_of_splats(500)
    gaussians.scales.data = gaussians.scales.clone()
    gaussians.scales[100:200] *= 3
    content = packed(write_splats(gaussians, tmp_path / "a.ply", {}), most=100)
    assert content["left_out"] == 400
    scales = np.frombuffer(base64.b64decode(content["scale"]), np.uint8).reshape(-1, 3)
    assert len(scales) == 100
    assert content["scales"][0] > np.log(0.08), "the large ones"
    faint = ball_of_splats(10).kept(torch.tensor([9]))
    with pytest.raises(InputError, match=r"a\.ply holds no Gaussian that can be seen"):
        packed(write_splats(faint, tmp_path / "a.ply", {}))


def test_a_page_with_as_many_splats_as_it_takes_is_light(world: World, full: Path) -> None:
    write_flexrm(full / "flexrm_evaluation", count=30_000)
    first = page(world).read_bytes()
    assert len(first) < 600_000
    assert page(world, "again.html").read_bytes() == first


def test_a_browser_shows_the_splats_as_they_are_and_turns_them(chromium: Any, world: World, many: Path) -> None:
    with opened(chromium, page(world)) as tab:
        tab.wait_for_selector("html[data-splats='2700']", state="attached", timeout=60000)
        tab.wait_for_selector("html[data-meshes='2']", state="attached", timeout=60000)
        ball = drawn(tab, 0)
        covered = ball[..., 3] > 128
        seen = covered.sum() / (np.pi / 4 * ball.shape[0] ** 2)
        assert 0.7 < seen < 0.95, "a ball fills its canvas, and is not cut"
        rows, _ = np.nonzero(covered)
        half = (rows.min() + rows.max()) // 2
        above, below = (part[part[..., 3] > 250].mean(0) for part in (ball[: half - 60], ball[half + 60 :]))
        assert above[0] > 150 > above[2], "red is above"
        assert below[2] > 150 > below[0], "blue is below, and nothing of the back shows through"

        canvas = tab.locator("#flexrm .viewer canvas")
        canvas.scroll_into_view_if_needed()
        at = canvas.bounding_box()
        tab.mouse.move(at["x"] + 100, at["y"] + 100)
        tab.mouse.down()
        tab.mouse.move(at["x"] + 170, at["y"] + 130, steps=4)
        tab.mouse.up()
        turned = drawn(tab, 0)
        assert (np.abs(turned - ball) > 8).any(-1).mean() > 0.02, "dragging turns it"
        canvas.dblclick()
        assert (drawn(tab, 0) == ball).all(), "a double click puts it back"
        assert tab.evaluate("getComputedStyle(document.querySelector('svg.chart polyline')).fill") == "none"


def test_the_browsers_picture_is_that_of_the_rasteriser(chromium: Any, world: World, many: Path) -> None:
    """The same look: the viewer's camera stands at 4 radii, turned by .45 and .35 off the x axis and the horizon."""
    content = packed(many / "flexrm_evaluation" / "splats.ply")
    with opened(chromium, page(world)) as tab:
        tab.wait_for_selector("html[data-splats='2700']", state="attached", timeout=60000)
        picture = drawn(tab, 0)
    focal = 0.95 * 15**0.5 / 2
    way = torch.tensor([np.cos(0.35) * np.cos(0.45), np.cos(0.35) * np.sin(0.45), np.sin(0.35)]).float()
    camera = Camera.look_at(4 * content["radius"] * way[None], focal)
    rgb, _, weight = splat(ball_of_splats(), camera, len(picture), 0.0)
    ours = torch.cat((rgb, weight), 1)[0].permute(1, 2, 0).numpy() * 255
    picture[..., :3] = picture[..., :3] * picture[..., 3:] / 255
    assert np.abs(ours - picture).mean() < 2  # of 255: the page rounds places, scales and colours, and its own middle


@pytest.mark.parametrize("lacking", [{"before": NO_WEBGL}, {"java_script_enabled": False}])
def test_without_webgl_or_scripts_the_figures_stay(
    chromium: Any, world: World, many: Path, lacking: dict[str, Any]
) -> None:
    with opened(chromium, page(world), **lacking) as tab:
        assert "turns the Gaussians" in tab.locator("#flexrm .viewer").inner_text()
        assert tab.locator("#flexrm svg.chart").is_visible()
        assert "13.8" in tab.inner_text("#flexrm table")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_the_section_in_one_direction(chromium: Any, world: World, many: Path, scheme: Any) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    with opened(chromium, page(world), **phone) as tab:
        tab.wait_for_selector("html[data-splats='2700']", state="attached", timeout=60000)
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
