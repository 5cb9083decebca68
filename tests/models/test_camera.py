"""Cameras: what is projected comes back along the rays, in every convention."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.camera import Camera

ELEVATION = st.floats(-80, 80)
AZIMUTH = st.floats(-360, 360)


@given(ELEVATION, AZIMUTH, st.floats(0.5, 3))
def test_points_along_the_rays_project_to_their_pixels(elevation: float, azimuth: float, distance: float) -> None:
    camera = Camera.orbit(1, elevation, azimuth=azimuth)[0]
    origins, directions = camera.rays(4)
    seen = camera.project(origins + distance * directions)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    expected = (torch.stack((columns, rows), -1).reshape(-1, 2) + 0.5) / 4
    assert torch.allclose(seen[:, :2], expected, atol=1e-4)
    assert (seen[:, 2] > 0).all()


def test_the_published_camera_sees_half_width_one_in_the_object_plane() -> None:
    camera = Camera.orbit(1, 0.0, radius=1.5, focal=0.75)[0]
    right_edge = camera.project(torch.tensor([[0.0, 1.0, 0.0]]))  # the camera stands at +x, so +y is to its right
    assert torch.allclose(right_edge[0, :2], torch.tensor([1.0, 0.5]), atol=1e-6)


def test_orbit_turns_counter_clockwise_seen_from_above_with_z_up() -> None:
    positions = Camera.orbit(4, 0.0, radius=2.0).pose[:, :3, 3]
    expected = torch.tensor([[2.0, 0, 0], [0, 2, 0], [-2, 0, 0], [0, -2, 0]])
    assert torch.allclose(positions, expected, atol=1e-6)
    up = Camera.orbit(4, 0.0).pose[:, :3, 1]
    assert torch.allclose(up, torch.tensor([0.0, 0, 1]).expand(4, 3), atol=1e-6)


@given(ELEVATION, AZIMUTH)
def test_stored_and_published_vectors_come_back(elevation: float, azimuth: float) -> None:
    camera = Camera.orbit(3, elevation, azimuth=azimuth)
    assert torch.equal(Camera.from_numbers(camera.numbers()).pose, camera.pose)
    fx, fy, cx, cy = camera.intrinsics.unbind(-1)
    matrix = torch.zeros(3, 3, 3)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 2, 2] = fx, fy, cx, cy, 1
    published = torch.cat((camera.pose.flatten(1), matrix.flatten(1)), 1)
    assert torch.equal(Camera.from_published(published).numbers(), camera.numbers())
    assert torch.equal(Camera.from_published(camera.numbers()).numbers(), camera.numbers())


def test_other_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="16 or 25 numbers, this one has 20"):
        Camera.from_published(torch.zeros(20))


@given(ELEVATION, AZIMUTH)
def test_a_turned_world_keeps_heights_and_puts_the_first_camera_in_front(elevation: float, azimuth: float) -> None:
    cameras = Camera.orbit(4, elevation, azimuth=azimuth)
    turned = cameras.relative_to(cameras[1:2])
    assert torch.allclose(turned.pose[1, 1, 3], torch.tensor(0.0), atol=1e-5)
    assert turned.pose[1, 0, 3] > 0
    assert torch.allclose(turned.pose[:, 2, 3], cameras.pose[:, 2, 3])


@given(ELEVATION, AZIMUTH)
def test_a_mirrored_camera_sees_the_mirrored_world(elevation: float, azimuth: float) -> None:
    camera = Camera.orbit(1, elevation, azimuth=azimuth)[0]
    points = torch.tensor([[0.1, 0.2, 0.3], [-0.4, 0.1, 0.2]])
    seen, mirrored = camera.project(points), camera.mirrored().project(points * torch.tensor([1.0, -1, 1]))
    assert torch.allclose(mirrored[:, 0], 1 - seen[:, 0], atol=1e-5)
    assert torch.allclose(mirrored[:, 1:], seen[:, 1:], atol=1e-5)
