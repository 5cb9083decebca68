"""FlexRM: views in any number and order, a camera-modulated encoder, and Gaussians that begin as the volume."""

import pytest
import torch

from models.camera import Camera
from models.checkpoints import parameter_count
from models.config import EncoderConfig
from models.encoder import Encoder
from models.flexrm import FlexRM, ModulatedEncoder
from models.flexrm_config import FlexRMConfig
from models.splatting import splat

ENCODER = EncoderConfig(image_size=32, table_size=32, patch=8, width=24, layers=2, heads=2)  # pyright: ignore
PLAIN = FlexRMConfig(  # pyright: ignore
    encoder=ENCODER, camera_width=16, width=16, layers=2, heads=2, plane_tokens=4, channels=6, decoder_width=8,
    decoder_layers=3, samples=12, importance_samples=0, gaussians=6, box=0.8,
)  # fmt: skip
READING = PLAIN.model_copy(update={"align": True, "view_channels": 4, "view_depths": 4})


def model(config: FlexRMConfig = PLAIN, seed: int = 0) -> FlexRM:
    torch.manual_seed(seed)
    made = FlexRM(config).eval()
    for layer in getattr(made.encoder, "modulation", ()):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return made


def views(count: int, objects: int = 1) -> tuple[torch.Tensor, Camera]:
    generator = torch.Generator().manual_seed(count)
    images = torch.rand(objects, count, 3, 32, 32, generator=generator)
    ring = Camera.orbit(count, 6.0)
    return images, Camera(ring.pose.expand(objects, -1, -1, -1), ring.intrinsics.expand(objects, -1, -1))


@pytest.mark.parametrize("config", [PLAIN, READING], ids=["planes alone", "reading the views"])
@pytest.mark.parametrize("count", [1, 3, 32])
def test_any_number_of_views_gives_planes_and_a_picture(config, count):
    made, (images, cameras) = model(config), views(count, objects=2)
    with torch.no_grad():
        planes = made.triplane(images, cameras)
        seen = made.render(planes, cameras[:, :1], 8)
    assert planes.planes.shape == (2, 3, 6, 8, 8)
    assert seen.rgb.shape == (2, 1, 3, 8, 8)
    assert seen.rgb.isfinite().all()


@pytest.mark.parametrize("config", [PLAIN, READING], ids=["planes alone", "reading the views"])
def test_the_order_of_the_views_does_not_matter(config):
    made, (images, cameras) = model(config), views(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        one, other = made.triplane(images, cameras), made.triplane(images[:, order], cameras[:, order])
        points = torch.rand(1, 50, 3) - 0.5
        told, again = made.query(one, points), made.query(other, points)
    torch.testing.assert_close(one.planes, other.planes, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(told, again, atol=1e-5, rtol=1e-4)


def test_a_batch_gives_what_each_object_gives_alone():
    made, (images, cameras) = model(READING), views(3, objects=2)
    with torch.no_grad():
        both = made.gaussians(made.triplane(images, cameras))[1]
        alone = made.gaussians(made.triplane(images[1:], cameras[1:]))[0]
    for name in ("positions", "scales", "rotations", "opacities", "colours"):
        torch.testing.assert_close(getattr(both, name), getattr(alone, name), atol=1e-5, rtol=1e-4)


def test_cameras_matter_to_the_encoder_and_fresh_weights_are_the_plain_one():
    torch.manual_seed(0)
    encoder = ModulatedEncoder(ENCODER, 16).eval()
    plain = Encoder(ENCODER).eval()
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if not k.startswith("modulation")})
    image, condition = torch.rand(2, 3, 32, 32), torch.randn(2, 16)
    torch.testing.assert_close(encoder(image, condition), plain(image))
    torch.nn.init.normal_(encoder.modulation[0].weight)
    assert (encoder(image, condition) - plain(image)).abs().max() > 0.01
    torch.testing.assert_close(encoder(image), plain(image))


@pytest.mark.parametrize(("count", "cameras"), [(0, 0), (33, 33), (3, 2)])
def test_too_few_views_too_many_and_missing_cameras_are_refused(count, cameras):
    images = torch.zeros(1, count, 3, 32, 32)
    ring = views(max(cameras, 1))[1][:, :cameras]
    with pytest.raises(ValueError, match="give 1 to 32 views and a camera for each"):
        model().triplane(images, ring)


@pytest.mark.parametrize("config", [PLAIN, READING], ids=["planes alone", "reading the views"])
def test_gaussians_begin_as_the_volume_at_the_points_of_a_grid(config):
    made, (images, cameras) = model(config), views(2)
    made.splats.begin(made.synthesizer.decoder)
    with torch.no_grad():
        planes = made.triplane(images, cameras)
        found = made.gaussians(planes)[0]
        points = made.splats.points(images)
        density, rgb = made.query(planes, points[None])
    assert len(found) == 6**3
    step = 2 * 0.8 / 6
    torch.testing.assert_close(found.positions, points)
    assert points.abs().max() == pytest.approx(0.8 - step / 2, abs=1e-6)
    torch.testing.assert_close(found.opacities, 1 - torch.exp(-density[0, :, 0] * step))
    torch.testing.assert_close(found.colours, rgb[0].clamp(0, 1))
    torch.testing.assert_close(found.scales, torch.full((6**3, 3), 0.4 * step))
    torch.testing.assert_close(found.rotations, torch.tensor([1.0, 0, 0, 0]).expand(6**3, 4))


def test_gaussians_stay_near_their_points_whatever_the_head_says():
    made, (images, cameras) = model(), views(1)
    torch.nn.init.normal_(made.splats.shape.weight, std=100)
    with torch.no_grad():
        found = made.gaussians(made.triplane(images, cameras))[0]
    step = made.splats.step
    assert (found.positions - made.splats.points(images)).abs().max() <= PLAIN.reach * step + 1e-6
    assert (found.scales >= PLAIN.spread * step / PLAIN.spreads - 1e-6).all()
    assert (found.scales <= PLAIN.spread * step * PLAIN.spreads + 1e-6).all()
    torch.testing.assert_close(found.rotations.norm(dim=-1), torch.ones(6**3))


def test_splats_teach_every_part_that_makes_them():
    made, (images, cameras) = model(READING), views(2)
    made.train()
    with torch.no_grad():  # something to see, on which all heads have a say
        made.splats.decoder.net[-1].bias[0] = 3.0  # pyright: ignore
        torch.nn.init.normal_(made.splats.shape.weight, std=0.1)
    gaussians = made.gaussians(made.triplane(images, cameras))[0]
    splat(gaussians, Camera.orbit(2, 20.0), 16).rgb.square().sum().backward()
    untold = [name for name, part in made.named_parameters() if part.grad is None or not part.grad.abs().sum() > 0]
    left = {"encoder.model.embeddings.mask_token", *(n for n, _ in made.named_parameters() if "synthesizer" in n)}
    assert set(untold) <= left | {"encoder.modulation.1.bias"}


def test_the_published_size_builds_without_memory():
    config = FlexRMConfig.model_validate({})
    assert config.gaussians**3 == 1_000_000
    assert parameter_count(lambda: FlexRM(config)) == 489_945_954
