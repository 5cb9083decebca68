"""Counted operations against the textbook formula, and without making a weight."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.camera import Camera
from models.config import EncoderConfig, LRMConfig, SVDConfig, TextToImageConfig, WanConfig
from models.flexrm import FlexRM
from models.flexrm_config import FlexRMConfig
from models.flops import (
    FlexRMFlops,
    MultiviewFlops,
    encoder_flops,
    parameters,
    planes_flops,
    ray_flops,
    video_flops,
)
from models.multiview_config import BackboneConfig, MultiviewConfig

ENCODER = EncoderConfig.model_validate(
    {"image_size": 56, "table_size": 56, "patch": 14, "width": 64, "layers": 3, "heads": 2}
)


def test_an_encoder_costs_what_its_matrices_cost():
    tokens, width = 17, ENCODER.width  # 16 patches and the class token
    projections = 2 * tokens * 12 * width**2  # query, key, value, output, and an MLP of four times the width
    attention = 2 * 2 * tokens**2 * width
    patches = 2 * 16 * 14**2 * 3 * width
    assert encoder_flops(ENCODER) == pytest.approx(patches + 3 * (projections + attention), rel=0.01)


def test_a_ray_costs_its_samples():
    config = LRMConfig.model_validate({"samples": 10, "importance_samples": 0})
    twice = config.model_copy(update={"samples": 20})
    assert ray_flops(twice) == 2 * ray_flops(config)
    assert ray_flops(config) == 10 * 2 * (240 * 64 + 2 * 64 * 64 + 4 * 64)


def test_the_published_model_is_counted_without_its_weights():
    assert parameters(LRMConfig()) == 452_135_700  # pyright: ignore[reportCallIssue]
    assert 1e12 < planes_flops(LRMConfig()) < 1e13  # pyright: ignore[reportCallIssue]


def test_longer_clips_cost_more():
    short = WanConfig.model_validate({})
    long = short.model_copy(update={"frames": 16})
    for few, many in zip(video_flops(short), video_flops(long), strict=True):
        assert 1.9 * few < many


def test_stable_video_is_counted_without_its_weights():
    public = SVDConfig.model_validate({"family": "svd", "size": 256})
    assert 2.2e9 < parameters(public) < 2.3e9  # UNet 1.52 B, image encoder 0.63 B, autoencoder 0.1 B
    denoise, decode = video_flops(public)
    assert min(denoise, decode) > 1e12


FLEXRM = {
    "encoder": {"image_size": 16, "table_size": 16, "patch": 4, "width": 16, "layers": 2, "heads": 2},
    **{"camera_width": 8, "width": 16, "layers": 2, "heads": 2, "plane_tokens": 4, "channels": 6},
    **{"decoder_width": 8, "decoder_layers": 3, "samples": 8, "importance_samples": 0, "gaussians": 5},
}


@pytest.mark.parametrize("reads", [{}, {"align": True, "view_channels": 4, "view_depths": 4}])
def test_a_flexrm_costs_what_its_parts_do_from_any_number_of_views(reads: dict[str, object]):
    config = FlexRMConfig.model_validate(FLEXRM | reads)
    flops, model = FlexRMFlops.of(config), FlexRM(config)
    for views in (1, 3, 8):
        images, cameras = torch.rand(1, views, 3, 16, 16), Camera.orbit(views, 6.0, 1.5, 0.75)
        posed = Camera(cameras.pose[None], cameras.intrinsics[None])
        with FlopCounterMode(display=False) as planes, sdpa_kernel(SDPBackend.MATH):  # CPU's own is not counted
            made = model.triplane(images, posed)
        with FlopCounterMode(display=False) as head:
            model.gaussians(made)
        assert flops.planes(views) == planes.get_total_flops()
        assert flops.gaussians(views) == head.get_total_flops()


def test_rays_of_a_flexrm_are_those_of_an_lrm_unless_points_read_views():
    plain = FlexRMConfig.model_validate(FLEXRM)
    reading = FlexRMConfig.model_validate(FLEXRM | {"view_channels": 4})
    assert FlexRMFlops.of(plain).ray(1) == FlexRMFlops.of(plain).ray(9) == ray_flops(plain)
    assert ray_flops(plain) < FlexRMFlops.of(reading).ray(1) < FlexRMFlops.of(reading).ray(9)


def test_the_flexrm_of_the_paper_is_counted_without_its_weights():
    flops = FlexRMFlops.of(FlexRMConfig.model_validate({}))
    assert flops.planes(32) < 32 * flops.planes(1)  # the transformer is there once
    assert flops.planes(1) == pytest.approx(planes_flops(LRMConfig.model_validate({})), rel=0.01)
    assert parameters(FlexRMConfig.model_validate({})) == 489_945_954


def test_views_of_a_larger_grid_cost_more():
    base = TextToImageConfig.model_validate({})
    small, large = (MultiviewFlops.of(base, MultiviewConfig(size=size, objective="change")) for size in (32, 64))
    assert small.parameters == large.parameters
    assert (small.text, 4 * small.encode, 4 * small.decode) == (large.text, large.encode, large.decode)
    assert 4 * (small.denoise - small.text) < large.denoise - large.text  # attention grows faster


def test_stable_diffusion_is_counted_without_its_weights():
    found = MultiviewFlops.of(BackboneConfig.model_validate({}), MultiviewConfig(size=64, objective="pipeline"))
    assert 1.06e9 < found.parameters < 1.07e9  # UNet 860 M, text encoder 123 M, autoencoder 84 M
    # Four views of 256 px are one image of 512 px, which version 1 is known to take about 0.8 TFLOP to denoise
    whole = MultiviewFlops.of(BackboneConfig.model_validate({}), MultiviewConfig(size=256, objective="pipeline"))
    assert 0.6e12 < whole.denoise < 0.9e12
