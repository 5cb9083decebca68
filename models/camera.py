"""One camera type from mesh to reconstruction model.

Conventions: camera-to-world, OpenGL axes (x right, y up, the camera looks down -z), the world's z points up,
intrinsics are divided by the image size. Pixel (row i, column j) of an image of size S is seen at
((j + 0.5) / S, (i + 0.5) / S). Other conventions are converted at the edges, here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A batch of cameras: `pose` maps camera to world, `intrinsics` are (fx, fy, cx, cy) over the image size."""

    pose: Float[Tensor, "*batch 4 4"]
    intrinsics: Float[Tensor, "*batch 4"]

    @staticmethod
    def look_at(
        position: Float[Tensor, "*batch 3"],
        focal: float = 0.75,
        target: tuple[float, float, float] = (0, 0, 0),
    ) -> Camera:
        """Cameras at `position` that look at `target` with the world's z up; `focal` over the image width.

        Undefined straight above and below the target, where "up" has no direction.
        """
        back = torch.nn.functional.normalize(position - position.new_tensor(target), dim=-1)
        up = position.new_tensor((0.0, 0.0, 1.0)).expand_as(back)
        right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=-1)
        pose = torch.zeros(*position.shape[:-1], 4, 4, dtype=position.dtype)
        pose[..., :3, 0], pose[..., :3, 1] = right, torch.linalg.cross(back, right)
        pose[..., :3, 2], pose[..., :3, 3], pose[..., 3, 3] = back, position, 1
        intrinsics = position.new_tensor((focal, focal, 0.5, 0.5)).expand(*position.shape[:-1], 4)
        return Camera(pose, intrinsics)

    @staticmethod
    def orbit(
        views: int,
        elevation: float,
        radius: float = 1.5,
        focal: float = 0.75,
        azimuth: float = 0.0,
        step: float | None = None,
    ) -> Camera:
        """A ring of `views` cameras at one `elevation` (degrees), starting at `azimuth` (degrees, 0 is +x).

        Azimuth grows counter-clockwise seen from above, `step` degrees a view (360 / views by default).
        """
        step = 360 / views if step is None else step
        turn = torch.deg2rad(azimuth + step * torch.arange(views, dtype=torch.float64))
        height = math.radians(elevation)
        position = radius * torch.stack(
            (
                math.cos(height) * turn.cos(),
                math.cos(height) * turn.sin(),
                torch.full_like(turn, math.sin(height)),
            ),
            -1,
        )
        camera = Camera.look_at(position, focal)
        return Camera(camera.pose.float(), camera.intrinsics.float())

    @staticmethod
    def from_numbers(numbers: Float[Tensor, "*batch 16"]) -> Camera:
        """The stored form: three rows of camera-to-world, then fx, fy, cx, cy (the published source camera)."""
        batch = numbers.shape[:-1]
        last = numbers.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(*batch, 1, 4)
        return Camera(torch.cat((numbers[..., :12].reshape(*batch, 3, 4), last), -2), numbers[..., 12:])

    @staticmethod
    def from_published(vector: Float[Tensor, "*batch numbers"]) -> Camera:
        """From the vectors of OpenLRM and VFusion3D: 16 numbers (source camera) or 25 (4x4 pose, 3x3 intrinsics)."""
        if vector.shape[-1] == 16:
            return Camera.from_numbers(vector)
        if vector.shape[-1] != 25:
            raise ValueError(f"a published camera has 16 or 25 numbers, this one has {vector.shape[-1]}")
        matrix = vector[..., 16:].reshape(*vector.shape[:-1], 3, 3)
        if matrix[..., 0, 1].any():
            raise ValueError(f"a camera here has no skew, this one has {float(matrix[..., 0, 1].abs().max()):.3g}")
        intrinsics = torch.stack((matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 0, 2], matrix[..., 1, 2]), -1)
        return Camera(vector[..., :16].reshape(*vector.shape[:-1], 4, 4), intrinsics)

    def numbers(self) -> Float[Tensor, "*batch 16"]:
        """The stored form; inverse of `from_numbers`."""
        return torch.cat((self.pose[..., :3, :].flatten(-2), self.intrinsics), -1)

    def __getitem__(self, index: object) -> Camera:
        return Camera(self.pose[index], self.intrinsics[index])  # pyright: ignore[reportArgumentType]

    def to(self, *args: object, **kwargs: object) -> Camera:
        return Camera(self.pose.to(*args, **kwargs), self.intrinsics.to(*args, **kwargs))  # pyright: ignore

    def relative_to(self, first: Camera, azimuth: float = 0.0) -> Camera:
        """The same cameras in a world turned about z so that `first` stands at `azimuth` degrees.

        `first` has the batch shape of `self` up to broadcasting. A turn about the world's up axis keeps elevation.
        """
        x, y = first.pose[..., 0, 3], first.pose[..., 1, 3]
        turn = math.radians(azimuth) - torch.atan2(y, x)
        rotation = torch.zeros(*turn.shape, 4, 4, dtype=self.pose.dtype, device=self.pose.device)
        rotation[..., 0, 0], rotation[..., 0, 1] = turn.cos(), -turn.sin()
        rotation[..., 1, 0], rotation[..., 1, 1] = turn.sin(), turn.cos()
        rotation[..., 2, 2] = rotation[..., 3, 3] = 1
        pose = rotation @ self.pose
        return Camera(pose, self.intrinsics.expand(*pose.shape[:-2], 4))

    def mirrored(self) -> Camera:
        """Cameras of the images flipped left to right: the world is reflected in its x-z plane (y becomes -y)."""
        flip = self.pose.new_tensor((1.0, -1.0, 1.0, 1.0))
        side = self.pose.new_tensor((-1.0, 1.0, 1.0, 1.0))
        pose = flip[:, None] * self.pose * side
        fx, fy, cx, cy = self.intrinsics.unbind(-1)
        return Camera(pose, torch.stack((fx, fy, 1 - cx, cy), -1))

    def rays(
        self, size: int, crop: tuple[int, int, int] | None = None
    ) -> tuple[Float[Tensor, "*batch rays 3"], Float[Tensor, "*batch rays 3"]]:
        """Origins and unit directions of the pixels, row by row, of an image of `size` or its (x, y, side) crop."""
        x0, y0, side = crop or (0, 0, size)
        steps = torch.arange(side, dtype=self.pose.dtype, device=self.pose.device)
        v, u = torch.meshgrid((steps + y0 + 0.5) / size, (steps + x0 + 0.5) / size, indexing="ij")
        fx, fy, cx, cy = (k[..., None] for k in self.intrinsics.unbind(-1))
        x, y = (u.flatten() - cx) / fx, (v.flatten() - cy) / fy
        local = torch.stack((x, -y, -torch.ones_like(x)), -1)
        directions = torch.nn.functional.normalize(local @ self.pose[..., :3, :3].transpose(-1, -2), dim=-1)
        return self.pose[..., None, :3, 3].expand_as(directions), directions

    def project(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "*batch p 3"]:
        """World points to (u, v, depth): u right and v down in image sizes, depth along the viewing axis."""
        local = (points - self.pose[..., None, :3, 3]) @ self.pose[..., :3, :3]
        fx, fy, cx, cy = (k[..., None] for k in self.intrinsics.unbind(-1))
        depth = -local[..., 2]
        return torch.stack((fx * local[..., 0] / depth + cx, cy - fy * local[..., 1] / depth, depth), -1)
