"""Views from files with their cameras: what is accepted, and what is refused before anything is computed."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from models.camera import Camera
from stages.errors import InputError
from stages.flexrm.views import RingsOfViews, read_views
from stages.rendering.config import RenderingConfig
from stages.rendering.loader import load
from stages.rendering.rasterise import render
from tests.stages.blocks import write_blocks

SIZE, BOX = 32, 0.82
RINGS = RingsOfViews()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Views of a block from an orbit at elevation 6, and their cameras."""
    folder = tmp_path_factory.mktemp("views")
    table = write_blocks(folder, train=1, validation=0, held_out=0)
    config = RenderingConfig(size=48)  # pyright: ignore
    mesh = load(folder / table["file"][0], config, None).mesh
    cameras = Camera.orbit(6, 6.0)
    pictures = render(mesh, cameras, config).rgba
    paths = []
    for number, rgba in enumerate(pictures):
        paths.append(folder / f"view{number}.png")
        Image.fromarray(rgba).save(paths[-1])
    return folder, paths, cameras, mesh, config


def write_transforms(file, paths, cameras: Camera, size=48, **more):
    frames = [
        {"file_path": path.name, "transform_matrix": pose.tolist()}
        for path, pose in zip(paths, cameras.pose, strict=True)
    ]
    focal = float(cameras.intrinsics[0, 0])
    given = {
        "fl_x": focal * size,
        "fl_y": focal * size,
        "cx": size / 2,
        "cy": size / 2,
        "w": size,
        "h": size,
        "frames": frames,
    }
    file.write_text(json.dumps(given | more))
    return file


def test_an_orbit_reads_as_its_ring(rendered):
    _, paths, cameras, *_ = rendered
    found = read_views(paths, SIZE, "orbit", RINGS, BOX)
    assert found.images.shape == (6, 3, SIZE, SIZE)
    torch.testing.assert_close(found.cameras.numbers(), cameras.numbers())
    assert float(found.images[:, :, 0, 0].min()) == 1.0  # on white


def test_transforms_give_the_same_cameras_whatever_the_order(rendered, tmp_path):
    _, paths, cameras, *_ = rendered
    file = write_transforms(tmp_path / "transforms.json", paths, cameras)
    found = read_views(paths[::-1], SIZE, file, RINGS, BOX)
    torch.testing.assert_close(found.cameras.pose, cameras.pose.flip(0))
    torch.testing.assert_close(found.cameras.intrinsics, cameras.intrinsics)
    assert not found.notes


def test_a_field_of_view_does_for_a_focal_length(rendered, tmp_path):
    _, paths, cameras, *_ = rendered
    file = write_transforms(tmp_path / "transforms.json", paths, cameras)
    given = json.loads(file.read_text())
    file.write_text(json.dumps({"camera_angle_x": 2 * math.atan(0.5 / 0.75), "frames": given["frames"]}))
    found = read_views(paths, SIZE, file, RINGS, BOX)
    torch.testing.assert_close(found.cameras.intrinsics, cameras.intrinsics)


def test_a_scene_of_another_place_and_scale_is_brought_to_the_rings(rendered, tmp_path):
    _, paths, cameras, *_ = rendered
    pose = cameras.pose.clone()
    pose[:, :3, 3] = 4 * pose[:, :3, 3] + torch.tensor([3.0, -2.0, 5.0])
    file = write_transforms(tmp_path / "transforms.json", paths, Camera(pose, cameras.intrinsics))
    found = read_views(paths, SIZE, file, RINGS, BOX)
    torch.testing.assert_close(found.cameras.pose, cameras.pose, atol=1e-4, rtol=1e-4)
    assert "scaled by 0.25" in found.notes[0]


def test_wide_pictures_are_made_square_with_their_cameras(rendered, tmp_path):
    """A point of the object is seen at the same place of the object before and after."""
    _, paths, cameras, *_ = rendered
    wide = []
    for path in paths:
        narrow = Image.open(path)
        picture = Image.new("RGBA", (72, 48))
        picture.paste(narrow, (12, 0))
        wide.append(tmp_path / path.name)
        picture.save(wide[-1])
    intrinsics = torch.tensor([0.75 * 48 / 72, 0.75, 0.5, 0.5]).expand(6, 4)
    file = write_transforms(tmp_path / "transforms.json", wide, cameras, fl_x=36, fl_y=36, cx=36, cy=24, w=72, h=48)
    found = read_views(wide, 72, file, RINGS, BOX)
    assert intrinsics[0, 0] == pytest.approx(float(found.cameras.intrinsics[0, 0]), abs=1e-6)
    assert float(found.cameras.intrinsics[0, 1]) == pytest.approx(0.5, abs=1e-6)
    narrow = np.asarray(Image.open(paths[0]).convert("RGBA"))[..., 3] > 127
    seen = (found.images[0].amin(0) < 0.99).numpy()
    rows, columns = np.nonzero(narrow)
    inside_rows, inside_columns = np.nonzero(seen)
    assert rows.mean() + 12 == pytest.approx(inside_rows.mean(), abs=0.7)
    assert columns.mean() + 12 == pytest.approx(inside_columns.mean(), abs=0.7)


def refused(paths, cameras="orbit"):
    with pytest.raises(InputError) as caught:
        read_views(paths, SIZE, cameras, RINGS, BOX)
    return str(caught.value)


def test_no_view_and_33_views_are_refused(rendered):
    _, paths, *_ = rendered
    assert "0 views were given; a reconstruction takes 1 to 32" in refused([])
    assert "33 views were given" in refused((paths * 6)[:33])


def test_two_equal_views_are_refused_by_name(rendered, tmp_path):
    _, paths, *_ = rendered
    (tmp_path / "again.png").write_bytes(paths[0].read_bytes())
    told = refused([*paths, tmp_path / "again.png"])
    assert "again.png" in told
    assert "view0.png are the same picture" in told


def test_the_view_that_both_models_of_a_pool_share_may_come_twice(rendered, tmp_path):
    _, paths, *_ = rendered
    (tmp_path / "again.png").write_bytes(paths[1].read_bytes())  # places 1 and 4 of the ring stand in one place
    pool = [paths[0], paths[1], paths[2], paths[3], tmp_path / "again.png", paths[4]]
    assert read_views(pool, SIZE, "candidates", RINGS, 10.0).images.shape[0] == 6


def test_two_pictures_do_not_share_a_camera(rendered, tmp_path):
    """Of one name in two folders, where the file knows that name alone."""
    _, paths, cameras, *_ = rendered
    file = write_transforms(tmp_path / "transforms.json", paths, cameras)
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "view0.png").write_bytes(paths[number].read_bytes())
    assert "have one camera" in refused([tmp_path / "0" / "view0.png", tmp_path / "1" / "view0.png"], file)


@pytest.mark.parametrize(
    ("lens", "words"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model OPENCV_FISHEYE"),
        ({"k1": -0.2, "k2": 0.01}, "its lens bends (k1 -0.2, k2 0.01)"),
        ({"k1": "wide"}, "no usable camera"),
    ],
)
def test_lenses_that_bend_are_refused(rendered, tmp_path, lens, words):
    _, paths, cameras, *_ = rendered
    file = write_transforms(tmp_path / "transforms.json", paths, cameras, **lens)
    assert words in refused(paths, file)


def test_cameras_of_pictures_that_were_turned_since_are_refused(rendered, tmp_path):
    _, paths, cameras, *_ = rendered
    file = write_transforms(tmp_path / "transforms.json", paths, cameras, h=64)
    assert "it is of 48 x 64 pixels, the picture of 48 x 48" in refused(paths, file)
    half = write_transforms(tmp_path / "half.json", paths, cameras, fl_x=18, fl_y=18, cx=12, cy=12, w=24, h=24)
    torch.testing.assert_close(read_views(paths, SIZE, half, RINGS, BOX).cameras.intrinsics, cameras.intrinsics)


def test_focal_lengths_are_of_the_picture_as_it_is_stored(rendered, tmp_path, monkeypatch):
    """Large pictures are read smaller, and a file need not say of which size they are."""
    _, paths, cameras, *_ = rendered
    file = write_transforms(tmp_path / "transforms.json", paths, cameras)
    given = {key: value for key, value in json.loads(file.read_text()).items() if key not in ("w", "h")}
    file.write_text(json.dumps(given))
    monkeypatch.setattr("stages.reconstruction.picture.LARGEST", 24)
    found = read_views(paths, SIZE, file, RINGS, BOX)
    assert "read smaller" in " ".join(found.notes) or "made 24 x 24" in " ".join(found.notes)
    torch.testing.assert_close(found.cameras.intrinsics, cameras.intrinsics)


def test_small_coefficients_of_a_lens_are_no_reason(rendered, tmp_path):
    _, paths, cameras, *_ = rendered
    file = write_transforms(tmp_path / "transforms.json", paths, cameras, camera_model="OPENCV", k1=0.01, p1=-0.001)
    assert not read_views(paths, SIZE, file, RINGS, BOX).notes


def test_a_world_that_lies_on_its_side_is_said(rendered, tmp_path):
    _, paths, cameras, *_ = rendered
    turn = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # z up to y up
    file = write_transforms(tmp_path / "transforms.json", paths, Camera(turn @ cameras.pose, cameras.intrinsics))
    (note,) = read_views(paths, SIZE, file, RINGS, BOX).notes
    assert "where z up is wanted" in note


def test_views_of_different_sizes_are_refused(rendered, tmp_path):
    _, paths, *_ = rendered
    Image.open(paths[0]).resize((24, 24)).save(tmp_path / "small.png")
    assert "different sizes: 24 x 24, 48 x 48 pixels" in refused([*paths[1:], tmp_path / "small.png"])


def test_a_view_without_a_camera_is_named(rendered, tmp_path):
    _, paths, cameras, *_ = rendered
    file = write_transforms(tmp_path / "transforms.json", paths[:5], cameras[:5])
    assert "view5.png has no camera" in refused(paths, file)


def test_cameras_that_see_nothing_are_refused(rendered, tmp_path):
    _, paths, cameras, *_ = rendered
    pose = cameras.pose.clone()
    pose[2, :3, 0] *= -1  # turned about its own up: it looks the other way
    pose[2, :3, 2] *= -1
    file = write_transforms(tmp_path / "transforms.json", paths, Camera(pose, cameras.intrinsics))
    assert "camera 2 looks away" in refused(paths, file)
    aside = cameras.pose.clone()
    turn = torch.tensor([[0.6, 0, 0.8], [0, 1, 0], [-0.8, 0, 0.6]])  # 53 degrees to the side
    aside[:, :3, :3] = cameras.pose[:, :3, :3] @ turn
    file = write_transforms(tmp_path / "aside.json", paths, Camera(aside, cameras.intrinsics))
    assert "of what it shows lies where its camera sees the box" in refused(paths[:1], file)


def frames(pose=None, **more) -> str:
    """A transforms.json of one frame."""
    matrix = {} if pose is None else {"transform_matrix": np.asarray(pose).tolist()}
    return json.dumps({"frames": [{"file_path": "view0.png", **matrix}], **more})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no transforms.json"),
        ("[]", "is no transforms.json"),
        (frames(), "no usable camera"),
        (frames(np.eye(2)), "shape (2, 2)"),
        (frames(np.zeros((4, 4)), camera_angle_x=1), "no rotation"),
        (frames(np.eye(4)), "camera_angle_x"),
        (frames(np.eye(4), fl_x=-3, w=4, h=4), "intrinsics"),
    ],
)
def test_files_that_hold_no_cameras_are_refused(rendered, tmp_path, content, words):
    _, paths, *_ = rendered
    file = tmp_path / "transforms.json"
    file.write_text(content)
    assert words in refused(paths[:1], file)


def test_rings_say_how_many_views_they_have(rendered):
    _, paths, *_ = rendered
    assert "6 views for the ring of 4 elevations" in refused(paths, "elevations")
    assert "4 views for 4 elevations and an orbit" in refused(paths[:4], "candidates")
    assert "no ring 'spiral'" in refused(paths, "spiral")
    pool = RINGS.cameras("candidates", 20)
    torch.testing.assert_close(pool.pose[1], pool.pose[4])  # the one view that both share
