"""orbitforge reconstruct --model flexrm: views with cameras in, a mesh and splats out, and what is refused first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from models.camera import Camera
from models.checkpoints import save
from models.flexrm import FlexRM
from models.flexrm_config import FlexRMConfig
from orchestration.cli.flexiview import posed
from orchestration.presets.schema import load_preset
from stages.candidates.pool import Pool
from stages.reconstruction.splats import read_splats
from tests.orchestration.test_cli import invoke, refused
from tests.orchestration.test_reconstruct_command import extras

MODEL = {
    "encoder": {"image_size": 16, "table_size": 16, "patch": 4, "width": 12, "layers": 1, "heads": 2},
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
    "gaussians": 5,
}
FLEXRM = ["--model", "flexrm", "--grid", "12", "--texture", "32", "--preset", "quick.yaml"]


@pytest.fixture
def home(project: Path) -> Path:
    """A project with a FlexRM that is full of something, and three views with their cameras."""
    export = {"turntable": {"frames": 2, "size": 16, "rate": 2}}
    (project / "quick.yaml").write_text(json.dumps({"flexrm": {"model": MODEL, "export": export}}))
    torch.manual_seed(0)
    config = FlexRMConfig.model_validate(MODEL)
    model = FlexRM(config)
    for decoder in (model.synthesizer.decoder, model.splats.decoder):
        torch.nn.init.constant_(decoder.net[-1].bias, 3.0)  # pyright: ignore
    save(model, config, project / "data" / "quick" / "flexrm")
    frames = []
    for number, pose in enumerate(Camera.orbit(3, 6.0).pose):
        picture = Image.new("RGBA", (40, 40))
        picture.paste((10 + 60 * number, 120, 200, 255), (10, 8 + number, 30, 35))
        picture.save(f"view{number}.png")
        frames.append({"file_path": f"view{number}", "transform_matrix": pose.tolist()})
    given = {"fl_x": 30, "w": 40, "h": 40, "frames": frames}
    Path("transforms.json").write_text(json.dumps(given))
    return project


def test_views_with_cameras_become_a_mesh_splats_and_a_video(home: Path) -> None:
    views = [f"view{number}.png" for number in range(3)]
    files = ["-o", "out/chair.glb", "--splats", "out/chair.ply", "--video", "out/chair.mp4"]
    result = invoke("reconstruct", *views, "--cameras", "transforms.json", *files, *FLEXRM)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["out/chair.glb", "out/chair.mp4", "out/chair.ply"]
    assert extras(home / "out" / "chair.glb")["views"] == 3
    assert len(read_splats(Path("out/chair.ply"))) == 5**3
    assert len(trimesh.load_mesh("out/chair.glb").faces) > 0
    assert sorted(path.name for path in (home / "out").iterdir()) == ["chair.glb", "chair.mp4", "chair.ply"]


def test_a_ring_stands_in_for_the_file_and_gives_the_same(home: Path) -> None:
    views = [f"view{number}.png" for number in range(3)]
    assert invoke("reconstruct", *views, "--cameras", "transforms.json", "-o", "a.ply", *FLEXRM).exit_code == 0
    told = invoke("reconstruct", *views, "--cameras", "orbit", "-o", "b.ply", "--json", *FLEXRM)
    assert json.loads(told.stdout)[0]["views"] == 3
    assert Path("a.ply").read_bytes() == Path("b.ply").read_bytes()


def test_one_view_with_a_camera_is_enough(home: Path) -> None:
    result = invoke("reconstruct", "view0.png", "--cameras", "orbit", "-o", "one.glb", *FLEXRM)
    assert result.exit_code == 0, result.output
    assert extras(home / "one.glb")["views"] == 1


def test_one_picture_is_shown_to_the_generators_at_their_own_size(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which FlexRM's encoder need not share: 24 px beside 16 here, 256 beside 224 in the preset small."""
    given: list[torch.Tensor] = []

    class Generators:
        size = 24

        def __init__(self, *_: object) -> None: ...

        def __call__(self, pictures: torch.Tensor, ids: list[str], *_: object) -> list[Pool]:
            given.append(pictures)
            return [Pool(ids[0], pictures.repeat(4, 1, 1, 1), Camera.orbit(4, 6.0), ("video",) * 4, (0, 1, 2, 3))]

    def curator(*_: object) -> Callable[[Pool], SimpleNamespace]:
        return lambda pool: SimpleNamespace(kept=np.array([False, True, False, True]))

    monkeypatch.setattr("stages.candidates.draw.Candidates", Generators)
    monkeypatch.setattr("stages.curation.curate.load_curator", curator)
    for name in ("multiview_model", "video_model", "quality_classifier"):
        (home / "data" / "quick" / name).mkdir()
        (home / "data" / "quick" / name / "config.json").write_text("{}")
    result = invoke("reconstruct", "view0.png", "-o", "one.glb", *FLEXRM)
    assert result.exit_code == 0, result.output
    assert [tuple(pictures.shape) for pictures in given] == [(1, 3, 24, 24)]
    assert extras(home / "one.glb")["views"] == 3  # the front leads, whatever is kept of it


def test_rings_stand_where_candidates_do(home: Path) -> None:
    """The ring of an orbit is that of the section `candidates`, not of what evaluations measure."""
    content = json.loads(Path("quick.yaml").read_text())
    Path("high.yaml").write_text(json.dumps({**content, "candidates": {"elevation": 18.0}}))
    found = posed(load_preset("high.yaml"), [Path("view0.png")], "orbit")
    torch.testing.assert_close(found.cameras.pose, Camera.orbit(1, 18.0).pose)


def test_a_folder_is_not_taken_for_the_file_to_write(home: Path) -> None:
    Path("out.glb").mkdir()
    assert "out.glb is a folder; name a file" in refused(
        "reconstruct", "view0.png", "--cameras", "orbit", "-o", "out.glb", *FLEXRM
    )
    assert not list(Path("out.glb").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["view0.png", "view1.png"], "2 views without cameras"),
        (["view0.png"], "make them with `orbitforge run`"),  # candidate views want their models
        (["view0.png", "view0.png", "--cameras", "orbit"], "the same picture"),
        (["view0.png", "nothing.png", "--cameras", "orbit"], "nothing.png is no file"),
        (["view0.png", "--cameras", "nowhere.json"], "neither a file nor one of the rings"),
        (["view0.png", "view1.png", "--cameras", "elevations"], "2 views for the ring of 4 elevations"),
        (["view0.png", "--cameras", "orbit", "--elevation", "3"], "--elevation is not for --model flexrm"),
        (["view0.png", "--cameras", "orbit", "--splats", "a.glb"], "should end in .ply"),
        (["view0.png", "--cameras", "orbit", "--splats", "x.ply", "-o", "x.ply"], "would be written over"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_and_nothing_is_written(home, arguments, words) -> None:
    output = [] if "-o" in arguments else ["-o", "out.glb"]
    assert words in refused("reconstruct", *arguments, *output, *FLEXRM)
    assert not Path("out.glb").exists()


def test_33_views_are_refused(home: Path) -> None:
    views = []
    for number in range(33):
        views.append(f"many{number}.png")
        Image.new("RGBA", (8 + number, 9)).save(views[-1])
    assert "33 views were given; a reconstruction takes 1 to 32" in refused(
        "reconstruct", *views, "--cameras", "orbit", "-o", "out.glb", *FLEXRM
    )


def test_options_of_views_are_not_for_an_lrm(home: Path) -> None:
    told = refused("reconstruct", "view0.png", "-o", "out.glb", "--splats", "a.ply", "--preset", "quick.yaml")
    assert "--splats is not for --model lrm" in told


def test_a_preset_without_the_model_says_how_to_make_it(home: Path) -> None:
    shutil.rmtree(home / "data")
    told = refused("reconstruct", "view0.png", "--cameras", "orbit", "-o", "out.glb", *FLEXRM)
    assert "orbitforge flexiview --preset quick" in told
