"""orbitforge reconstruct and generate: what they write, and what they say of what they cannot use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from models.checkpoints import save
from models.config import EncoderConfig, LRMConfig
from models.lrm import LRM
from orchestration.lineage.find import model_md5
from stages.hashing import file_md5
from tests.orchestration.test_cli import invoke, refused

QUICK = ["--grid", "12", "--texture", "32", "--preset", "quick.yaml"]


def young_model(folder: Path) -> Path:
    """An untrained model that is full of something."""
    torch.manual_seed(0)
    encoder = EncoderConfig(image_size=16, table_size=16, patch=4, width=12, layers=1, heads=2)  # pyright: ignore
    config = LRMConfig.model_validate(
        {
            "encoder": encoder,
            "camera_width": 8,
            "width": 12,
            "layers": 1,
            "heads": 2,
            "plane_tokens": 4,
            "channels": 4,
            "decoder_width": 8,
            "decoder_layers": 2,
            "samples": 4,
            "importance_samples": 0,
        }
    )
    model = LRM(config)
    torch.nn.init.constant_(model.synthesizer.decoder.net[-1].bias, 3.0)  # pyright: ignore
    save(model, config, folder)
    return folder


@pytest.fixture
def home(project: Path) -> Path:
    """A project whose preset has a model."""
    turntable = {"frames": 2, "size": 16, "rate": 2}
    preset = {"finetune": {"export": {"turntable": turntable}}}
    (project / "quick.yaml").write_text(json.dumps(preset))
    young_model(project / "data" / "quick" / "lrm_finetuned")
    picture = Image.new("RGBA", (40, 40))
    picture.paste((10, 120, 200, 255), (10, 5, 30, 35))
    picture.save("chair.png")
    picture.convert("CMYK").save("four.jpg")
    return project


def extras(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])["asset"]["extras"]


def test_one_image_becomes_one_file(home: Path) -> None:
    result = invoke("reconstruct", "chair.png", "-o", "out/chair.glb", "--video", "chair.mp4", *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["out/chair.glb", "chair.mp4"]
    weights = home / "data" / "quick" / "lrm_finetuned" / "model.safetensors"
    assert model_md5(home / "out" / "chair.glb") == file_md5(weights)
    assert extras(home / "out" / "chair.glb")["elevation"] == 20
    mesh: Any = trimesh.load("out/chair.glb", force="mesh")
    assert mesh.visual.kind == "texture"
    assert sorted(path.name for path in (home / "out").iterdir()) == ["chair.glb"], "nothing half-written is left"


def test_options_reach_the_file(home: Path) -> None:
    options = ["--vertex-colours", "--scale", "3", "--up-axis", "z", "--elevation", "-5", "--faces", "60"]
    quick = ["--grid", "12", "--preset", "quick.yaml"]
    for form in ("glb", "ply"):
        assert invoke("reconstruct", "chair.png", "-o", f"x.{form}", *options, *quick).exit_code == 0
        mesh: Any = trimesh.load(f"x.{form}", force="mesh")
        assert mesh.visual.kind == "vertex"
        assert mesh.extents.max() == pytest.approx(3)
        assert len(mesh.faces) <= 60
    assert extras(home / "x.glb")["elevation"] == -5
    assert invoke("reconstruct", "chair.png", "-o", "x.obj", *QUICK).exit_code == 0
    assert all((home / name).is_file() for name in ("x.obj", "x.mtl", "x_texture.png"))


def test_no_picture_is_written_over(home: Path) -> None:
    before = Path("chair.png").read_bytes()
    assert invoke("reconstruct", "chair.png", "-o", "chair.obj", *QUICK).exit_code == 0
    assert Path("chair.png").read_bytes() == before
    shutil.move("chair.png", "y_texture.png")
    assert "y_texture.png would be written over" in refused("reconstruct", "y_texture.png", "-o", "y.obj", *QUICK)
    assert Path("y_texture.png").read_bytes() == before
    assert not Path("y.obj").exists()


def test_a_bad_image_of_many_costs_its_own_row(home: Path) -> None:
    (home / "again").mkdir()
    shutil.copy("chair.png", "again/chair.png")
    Path("broken.png").write_bytes(Path("chair.png").read_bytes()[:60])
    Image.new("RGBA", (9, 9)).save("clear.png")
    images = ["chair.png", "broken.png", "clear.png", "gone.png", "again/chair.png", "four.jpg"]
    result = invoke("reconstruct", *images, "-o", "out", "--turntable", "--json", *QUICK)
    assert result.exit_code == 1
    assert "3 of 6 images gave no asset; out/report.json says why" in result.stderr
    rows = json.loads((home / "out" / "report.json").read_text())
    assert json.loads(result.stdout) == rows
    assert [row["image"] for row in rows] == images
    assert [row["files"] for row in rows] == [
        ["chair.glb", "chair.mp4"],
        [],
        [],
        [],
        ["chair-2.glb", "chair-2.mp4"],
        ["four.glb", "four.mp4"],
    ]
    for row, words in zip(rows[1:4], ("cut short", "fully transparent", "is no file"), strict=True):
        assert words in row["reason"]
    assert "CMYK" in rows[5]["notes"][0]
    assert invoke("reconstruct", "chair.png", "four.jpg", "-o", "good", "-f", "ply", *QUICK).exit_code == 0
    assert sorted(path.name for path in (home / "good").iterdir()) == ["chair.ply", "four.ply", "report.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("gone.png -o x.glb", "gone.png is no file"),
        ("chair.png -o x.stl", "x.stl should end in .glb or .obj or .ply"),
        ("chair.png -o x.glb -f obj", "does not end in .obj"),
        ("chair.png -o x.glb --video x.gif", "x.gif should end in .mp4"),
        ("chair.png four.jpg -o out --video x.mp4", "--turntable writes one for each image"),
        ("chair.png four.jpg -o x.glb", "x.glb is for one image, 2 were given"),
        ("chair.png -o x.glb --elevation high", "degrees from -89 to 89 are wanted, or auto"),
        ("chair.png -o x.glb --elevation auto", "no estimator of elevations"),
        ("chair.png -o x.glb --device warp", "no device 'warp' here"),
        ("chair.png -o x.glb --checkpoint gone", "nothing lies at gone"),
        ("chair.png -o x.glb --checkpoint mlflow:what", "write mlflow:NAME@ALIAS"),
        ("chair.png -o x.glb --kind dreamfusion", "no kind of model 'dreamfusion'"),
        ("chair.png -o x.glb --saliency gone.onnx", "gone.onnx is no file"),
        ("chair.png -o x.glb --grid 3", "mesh.grid: Input should be greater than or equal to 8; it was 3"),
        ("chair.png -o x.glb --threshold 1e9", "reaches the threshold 1e+09"),
        ("chair.png -o x.glb --vertex-colours --texture 64", "exclude each other"),
        ("four.jpg -o x.glb --checkpoint four.jpg", "no safetensors file that can be read"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(home: Path, arguments: str, words: str) -> None:
    before = sorted(home.rglob("*"))
    quick = [] if "--grid" in arguments else ["--grid", "12"]
    assert words in refused("reconstruct", *arguments.split(), *quick, "--preset", "quick.yaml")
    assert sorted(home.rglob("*")) == before


def test_a_preset_without_a_model_says_how_to_make_it(home: Path) -> None:
    assert "orbitforge run --preset tiny" in refused("reconstruct", "chair.png", "-o", "x.glb", "--preset", "tiny")


def test_a_registered_model_is_found_by_its_alias(home: Path) -> None:
    from orchestration.resources.tracking import Tracking

    other = young_model(home / "other")
    Tracking().register("toy-lrm_finetuned", other, None, {"dvc.md5": "0" * 32})
    shutil.rmtree(home / "data")
    for name in ("mlflow:toy-lrm_finetuned@candidate", "models:/toy-lrm_finetuned/1"):
        result = invoke("reconstruct", "chair.png", "-o", "x.glb", "--checkpoint", name, *QUICK)
        assert result.exit_code == 0, result.output
        assert model_md5(home / "x.glb") == file_md5(other / "model.safetensors")
    told = refused("reconstruct", "chair.png", "-o", "x.glb", "--checkpoint", "mlflow:toy-lrm_finetuned@best", *QUICK)
    assert "gives no mlflow:toy-lrm_finetuned@best" in told


class FakePainter:
    """Draws a square whose colour the seed decides; knows nothing of unicorns."""

    def __init__(self, folder: Path, config: Any) -> None:
        self.folder = folder

    def paint(self, texts: list[str], seeds: list[int]) -> Any:
        for text, seed in zip(texts, seeds, strict=True):
            image = np.ones((3, 24, 24), dtype=np.float32)
            image[:, 6:18, 8:16] = np.array([0.1 * seed, 0.2, 0.3])[:, None, None]
            yield "refused by the pipeline's safety checker" if "unicorn" in text else image


def test_a_sentence_becomes_an_asset(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.corpus.text_to_image.Painter", FakePainter)
    result = invoke(
        "generate", "a  blue chair", "-o", "c.glb", "--seed", "3", "--picture", "c.png", "--video", "c.mp4", *QUICK
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["c.glb", "c.mp4", "c.png"]
    assert extras(home / "c.glb") | {"prompt": "a blue chair", "seed": 3} == extras(home / "c.glb")
    assert Image.open("c.png").getpixel((12, 12)) == (77, 51, 77, 255)
    assert "safety checker" in refused("generate", "a unicorn", "-o", "u.glb", *QUICK)
    for prompt, count in (("  ", 0), ("x" * 401, 401), ("a\0chair", 7)):
        assert f"the prompt has {count} characters" in refused("generate", prompt, "-o", "u.glb", *QUICK)
    assert "unsafe word (gory)" in refused("generate", "a gory chair", "-o", "u.glb", *QUICK)
    assert not Path("u.glb").exists()


def test_what_text_lacks_is_named(home: Path) -> None:
    assert "make it with `orbitforge base`" in refused("generate", "a chair", "-o", "c.glb", *QUICK)
