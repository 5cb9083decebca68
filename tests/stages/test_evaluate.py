"""A protocol on a small world: what every method gets a row of, and what is counted where something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import trimesh
from PIL import Image

from models.camera import Camera
from models.checkpoints import load, save
from models.config import EncoderConfig, LRMConfig
from models.encoder import Encoder
from models.lrm import LRM
from stages.errors import InputError
from stages.evaluation.cases import Cases, held_out_cases, picture_cases, text_cases
from stages.evaluation.config import EvaluationConfig, JudgesConfig
from stages.evaluation.evaluate import evaluate, evaluate_models, means_of, model_of
from stages.evaluation.metrics import SURFACE, Judges, load_judges
from stages.evaluation.protocols import Pictures, SingleImage, Text, read_protocol
from stages.evaluation.subjects import Folder, Made, Subject
from stages.reconstruction.asset import Reconstructor
from stages.reconstruction.config import MeshConfig
from stages.reconstruction.picture import Picture
from stages.rendering.config import RenderingConfig
from stages.rendering.manifest import write_manifest
from stages.rendering.views import render_shard

SIZE, VIEWS = 16, 4
RENDERING = RenderingConfig.model_validate({"size": SIZE, "supersampling": 2, "views": VIEWS})
CONFIG = EvaluationConfig.model_validate({"mesh": {"grid": 16, "faces": 500, "texture": None}, "gallery": 1})
PROTOCOL = SingleImage(id="held-out", kind="single-image", split="held-out", input_azimuth=180.0, every=1, most=200)
OBJECTS = ("box", "ball", "cone")


def quiet(event: dict[str, Any]) -> None:
    assert event["step"] <= event["of"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source/, views/ and manifest.parquet of three held-out objects and a training one; encoder/ and lrm/."""
    root = tmp_path_factory.mktemp("world")
    source = root / "source"
    source.mkdir()
    shapes = {
        "box": trimesh.creation.box((1, 0.6, 0.4)),
        "ball": trimesh.creation.icosphere(2, 0.5),
        "cone": trimesh.creation.cone(0.5, 1.0),
        "known": trimesh.creation.box((1, 1, 1)),
    }
    for name, shape in shapes.items():
        shape.visual = trimesh.visual.ColorVisuals(shape, face_colors=(200, 60, 40, 255))
        shape.export(source / f"{name}.glb")
    rows = [
        {"id": name, "shard": "000", "caption": f"a {name}", "licence": "CC0", "creator": "me"}
        | {"split": "train" if name == "known" else "held-out", "file": f"{name}.glb", "md5": "0" * 32}
        for name in shapes
    ]
    pl.DataFrame(rows).write_parquet(source / "objects.parquet")
    shard = root / "views" / "000"
    shard.mkdir(parents=True)
    render_shard(pl.DataFrame(rows), source, shard, RENDERING, seed=0, report=lambda _: None)
    write_manifest(root / "views", root)
    torch.manual_seed(0)
    encoder = EncoderConfig.model_validate(
        {"image_size": SIZE, "table_size": SIZE, "patch": 4, "width": 12, "layers": 1, "heads": 2}
    )
    save(Encoder(encoder), encoder, root / "encoder")
    config = LRMConfig.model_validate(
        {"encoder": encoder, "camera_width": 8, "width": 12, "layers": 1, "heads": 2, "plane_tokens": 4, "channels": 4}
        | {"decoder_width": 8, "decoder_layers": 2, "samples": 8, "importance_samples": 0}
    )
    model = LRM(config)
    torch.nn.init.constant_(model.synthesizer.decoder.net[-1].bias, 3.0)  # pyright: ignore
    save(model, config, root / "lrm")
    return root


def cases_of(world: Path, protocol: SingleImage = PROTOCOL) -> Cases:
    source = world / "source"
    manifest, objects = pl.read_parquet(world / "manifest.parquet"), pl.read_parquet(source / "objects.parquet")
    return held_out_cases(protocol, manifest, world / "views", objects, source, RENDERING)


@pytest.fixture(scope="module")
def judges(world: Path) -> Judges:
    return load_judges(JudgesConfig.model_validate({}), world / "encoder")


@pytest.fixture(scope="module")
def lrm(world: Path) -> Reconstructor:
    return Reconstructor(load(world / "lrm", LRMConfig, LRM.from_config).eval(), "0" * 32)


@pytest.fixture
def run(world: Path, judges: Judges, tmp_path: Path) -> Callable[..., tuple[pl.DataFrame, pl.DataFrame]]:
    """table and means of subjects."""

    def measure(*subjects: Subject, **more: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
        asked = {"protocol": PROTOCOL, "cases": None, "config": CONFIG} | more
        cases = asked["cases"] or cases_of(world)
        means = evaluate(asked["protocol"], cases, subjects, judges, tmp_path, asked["config"], report=quiet)
        return pl.read_parquet(tmp_path / "table.parquet"), means

    return measure


def value(means: pl.DataFrame, model: str, metric: str, column: str = "mean") -> Any:
    return means.filter((pl.col("model") == model) & (pl.col("metric") == metric))[column][0]


def test_every_method_has_a_row_of_every_metric(world: Path, judges: Judges, tmp_path: Path) -> None:
    where = (world / "manifest.parquet", world / "views", world / "source", world / "encoder", tmp_path)
    means = evaluate_models({"ours": world / "lrm"}, *where, CONFIG, RENDERING, report=quiet)
    table = pl.read_parquet(tmp_path / "table.parquet")
    assert table.columns == ["model", "object", "id", "metric", "value", "reason"]
    assert (table["value"].is_null() != table["reason"].is_null()).all()
    assert len(table) == len(means) * 3
    assert set(table["model"]) == {"ours", "mean image", "copy of the input"}
    assert set(table["object"]) == set(OBJECTS)
    assert (means["objects"] + means["failed"] == 3).all()
    assert value(means, "ours", "iou") > 0
    assert value(means, "copy of the input", "encoder_similarity") == pytest.approx(1)
    assert value(means, "mean image", "chamfer") is None
    assert value(means, "ours", "clip_text", "failed") == 3
    seal = json.loads((tmp_path / "protocol.json").read_text())
    assert set(means["protocol"]) == {seal["name"]}
    (shown,) = json.loads((tmp_path / "gallery.json").read_text())
    assert (tmp_path / shown["picture"]).is_file()
    assert trimesh.load_scene(tmp_path / shown["mesh"]).geometry
    assert (shown["creator"], shown["licence"]) == ("me", "CC0")
    comparisons = pl.read_parquet(tmp_path / "comparisons.parquet")
    assert set(comparisons["model"]) == {"ours"}
    assert set(comparisons["against"]) == {"mean image", "copy of the input"}
    assert comparisons["probability"].is_between(0, 1).all()


def test_threads_change_no_figure(world: Path, judges: Judges, lrm: Reconstructor, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"cost": False})
    found = []
    for workers in (1, 3):
        output = tmp_path / str(workers)
        subject = model_of("ours", lrm, CONFIG.mesh)
        evaluate(PROTOCOL, cases_of(world), [subject], judges, output, config, report=quiet, workers=workers)
        found.append({path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()})
    assert found[0] == found[1]
    assert len(found[0]) == 7


def test_the_truth_in_a_folder_is_as_good_as_it_gets(world: Path, run: Any, tmp_path: Path) -> None:
    """The true meshes, turned to where the input camera sees them from +x: what an external model should write."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for case in cases_of(world).cases:
        mesh = trimesh.load_scene(world / "source" / f"{case.object}.glb").to_mesh()
        x, y = (float(case.source.pose[axis, 3]) for axis in (0, 1))
        mesh.apply_transform(trimesh.transformations.rotation_matrix(-np.arctan2(y, x), (0, 1, 0)))
        mesh.export(folder / f"{case.object}.glb")
    with Folder("theirs", folder, RENDERING) as theirs:
        _, means = run(theirs)
    assert value(means, "theirs", "iou") > 0.97
    assert value(means, "theirs", "chamfer") < 0.03
    assert value(means, "theirs", "normal_consistency") > 0.9
    assert value(means, "theirs", "seconds", "failed") == 3


def write_views(world: Path, folder: Path) -> None:
    for case in cases_of(world).cases:
        (folder / case.object).mkdir(parents=True)
        assert case.truth is not None
        assert case.truth.alpha is not None
        for view, rgb, alpha in zip(case.views, case.truth.rgb, case.truth.alpha, strict=True):
            straight = ((rgb - 1 + alpha) / alpha.clamp(min=1e-6)).clamp(0, 1)
            rgba = torch.cat((straight, alpha[None])).movedim(0, -1).numpy()
            Image.fromarray((rgba * 255 + 0.5).astype(np.uint8)).save(folder / case.object / f"{view:02d}.png")


def test_views_in_a_folder_stand_in_the_table(world: Path, run: Any, tmp_path: Path) -> None:
    write_views(world, tmp_path / "theirs")
    table, means = run(Folder("theirs", tmp_path / "theirs", RENDERING))
    assert value(means, "theirs", "iou") == 1
    assert value(means, "theirs", "psnr") > 40
    surface = table.filter((pl.col("model") == "theirs") & pl.col("metric").is_in(SURFACE))
    assert set(surface["reason"]) == {"views alone, no mesh"}


def spoil_size(folder: Path) -> None:
    Image.new("RGBA", (8, 8)).save(next((folder / "box").glob("*.png")))


def spoil_view(folder: Path) -> None:
    next((folder / "box").glob("*.png")).unlink()


def spoil_picture(folder: Path) -> None:
    next((folder / "box").glob("*.png")).write_bytes(b"no picture")


def spoil_folder(folder: Path) -> None:
    (folder / "box").rename(folder / "chest")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_size, "is 8 x 8, the protocol's views are 16 x 16"),
        (spoil_view, "missing: box has no view"),
        (spoil_picture, "is no picture that can be read"),
        (spoil_folder, "missing: theirs has no box"),
    ],
    ids=lambda part: part.__name__ if callable(part) else "",
)
def test_what_is_wrong_has_a_reason_and_is_counted(
    world: Path, run: Any, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    write_views(world, tmp_path / "theirs")
    spoil(tmp_path / "theirs")
    table, means = run(Folder("theirs", tmp_path / "theirs", RENDERING))
    bad = table.filter((pl.col("model") == "theirs") & (pl.col("object") == "box"))
    assert bad["value"].null_count() == len(bad)
    assert len(set(bad["reason"])) == 1
    assert words in bad["reason"][0]
    assert "\n" not in bad["reason"][0]
    assert (value(means, "theirs", "iou", "objects"), value(means, "theirs", "iou", "failed")) == (2, 1)
    assert value(means, "theirs", "iou") == 1  # of the two, and the third is counted beside them
    comparisons = pl.read_parquet(tmp_path / "comparisons.parquet")
    assert set(comparisons.filter(pl.col("metric") == "iou")["objects"]) == {2}


def test_what_is_wrong_with_a_mesh_is_its_reason(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    trimesh.PointCloud(np.random.default_rng(0).normal(size=(9, 3))).export(folder / "box.ply")
    (folder / "ball.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    (folder / "cone.obj").write_text("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with Folder("theirs", folder, RENDERING) as theirs:
        table, means = run(theirs)
        (folder / "ball.obj").unlink()
        (folder / "ball.glb").write_bytes(b"glTF")
        again, _ = run(Folder("theirs", folder, RENDERING))
    reasons = dict(table.filter(pl.col("model") == "theirs").select("object", "reason").unique().rows())
    assert "no faces" in reasons["box"]
    assert "ball.obj: no faces: all 1 are without area" in reasons["ball"]
    assert "cone.obj: not finite" in reasons["cone"]
    assert value(means, "theirs", "iou", "failed") == 3
    unread = again.filter((pl.col("model") == "theirs") & (pl.col("object") == "ball"))
    assert "ball.glb: unreadable" in unread["reason"][0]


def test_a_folder_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        Folder("x", tmp_path / "gone", RENDERING)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds neither meshes"):
        Folder("x", tmp_path, RENDERING)


def test_nan_from_a_model_is_a_reason(world: Path, run: Any, lrm: Reconstructor) -> None:
    broken = LRM(lrm.lrm.config)
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.fill_(float("nan"))
    table, means = run(model_of("broken", Reconstructor(broken.eval(), "0" * 32), CONFIG.mesh))
    own = table.filter(pl.col("model") == "broken")
    assert own["value"].null_count() == len(own)
    assert all("not finite" in reason for reason in own["reason"])
    assert value(means, "broken", "psnr", "failed") == 3


def test_a_model_without_a_surface_keeps_its_views(world: Path, run: Any, lrm: Reconstructor) -> None:
    beyond = MeshConfig.model_validate({"grid": 16, "threshold": 1e9, "texture": None})
    table, means = run(model_of("thin", lrm, beyond))
    assert value(means, "thin", "psnr", "failed") == 0
    assert value(means, "thin", "chamfer", "failed") == 3
    assert "no surface" in table.filter((pl.col("model") == "thin") & (pl.col("metric") == "chamfer"))["reason"][0]


def test_an_object_counts_only_where_all_of_its_orbits_do() -> None:
    rows = [
        ("m", "a", "a-0", "iou", 1.0, None),
        ("m", "a", "a-1", "iou", None, "missing"),
        ("m", "b", "b-0", "iou", 0.2, None),
        ("m", "b", "b-1", "iou", 0.4, None),
    ]
    table = pl.DataFrame(rows, schema=["model", "object", "id", "metric", "value", "reason"], orient="row")
    (row,) = means_of(table, "p").to_dicts()
    assert (row["objects"], row["failed"]) == (1, 1)
    assert row["mean"] == pytest.approx(0.3)


def test_a_protocol_chooses_objects_and_views(world: Path) -> None:
    some = cases_of(world, PROTOCOL.model_copy(update={"most": 2, "every": 2}))
    assert len(some.cases) == 2
    assert all(len(case.views) == 1 for case in some.cases)
    assert some.data != cases_of(world).data == cases_of(world).data
    first = cases_of(world).cases[0]
    azimuth = np.degrees(np.arctan2(float(first.source.pose[1, 3]), float(first.source.pose[0, 3]))) % 360
    assert azimuth == pytest.approx(180, abs=1)
    assert first.cameras.pose.shape == (VIEWS - 1, 4, 4)


def test_an_empty_protocol_says_so(world: Path, judges: Judges, lrm: Reconstructor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty: the manifest has no rendered object in split 'validation'"):
        cases_of(world, PROTOCOL.model_copy(update={"split": "validation"}))
    with pytest.raises(InputError, match="empty: it has no prompts"):
        text_cases(Text(id="t", kind="text", prompts=()), lambda text, seed: pytest.fail("drawn"))  # pyright: ignore
    with pytest.raises(InputError, match="names no folder"):
        picture_cases(Pictures(id="p", kind="pictures"))  # pyright: ignore[reportCallIssue]
    found = read_protocol(str(tmp_path))
    assert isinstance(found, Pictures)
    with pytest.raises(InputError, match="is empty"):
        picture_cases(found)
    subject = model_of("ours", lrm, CONFIG.mesh)
    with pytest.raises(InputError, match="empty"):
        evaluate(PROTOCOL, Cases((), ""), [subject], judges, tmp_path, CONFIG, report=quiet)
    with pytest.raises(InputError, match="no model"):
        evaluate(PROTOCOL, cases_of(world), [], judges, tmp_path, CONFIG, report=quiet)


def square(colour: tuple[int, int, int]) -> Picture:
    rgba = np.zeros((40, 40, 4), dtype=np.uint8)
    rgba[10:30, 12:28] = (*colour, 255)
    return Picture(rgba, "a square")


def test_prompts_and_pictures_need_no_truth(run: Any, lrm: Reconstructor, tmp_path: Path) -> None:
    def paint(text: str, seed: int) -> Picture:
        if "unicorn" in text:
            raise InputError("there are no unicorns")
        return square((200, 10, 10))

    small = {"size": 16, "views": 4}
    text = Text.model_validate({"id": "t", "kind": "text", "prompts": ["a chair", "a unicorn"], **small})
    table, means = run(model_of("ours", lrm, CONFIG.mesh), protocol=text, cases=text_cases(text, paint))
    assert set(table["model"]) == {"ours"}
    assert set(table["metric"]) == {"clip_image", "clip_text", "dino", "encoder_similarity", "seconds", "memory"}
    assert set(table.filter(pl.col("object") == "a unicorn")["reason"]) == {"there are no unicorns"}
    assert (value(means, "ours", "encoder_similarity", "objects"), value(means, "ours", "seconds", "failed")) == (1, 1)

    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(square((10, 200, 10)).rgba).save(folder / "green one.png")
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n")
    pictures = Pictures.model_validate({"id": "p", "kind": "pictures", "folder": str(folder), **small})
    table, means = run(model_of("ours", lrm, CONFIG.mesh), protocol=pictures, cases=picture_cases(pictures))
    assert set(table["object"]) == {"green one", "torn"}
    assert "no picture" in table.filter(pl.col("object") == "torn")["reason"][0]
    assert value(means, "ours", "encoder_similarity", "failed") == 1
    gallery = json.loads((tmp_path / "gallery.json").read_text())
    assert gallery[0]["picture"] == "gallery/green_one.png"


def test_a_subject_may_be_anything_that_shows(world: Path, run: Any) -> None:
    class Truth:
        name = "truth"

        def show(self, case: Any) -> Made:
            return Made(case.truth, case.surface, {"seconds": 0.0, "memory": 0.0})

    _, means = run(Truth())
    assert value(means, "truth", "psnr") == 120
    assert value(means, "truth", "chamfer") == 0
    assert value(means, "truth", "normal_consistency") == pytest.approx(1)


def test_cameras_of_a_ring_start_at_the_picture() -> None:
    pictures = Text.model_validate({"id": "t", "kind": "text", "prompts": ["x"], "views": 8, "elevation": 10})
    (case,) = text_cases(pictures, lambda text, seed: square((9, 9, 9))).cases
    torch.testing.assert_close(case.source.pose, Camera.orbit(8, 10.0)[0].pose)
