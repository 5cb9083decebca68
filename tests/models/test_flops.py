"""Counted operations against the textbook formula, and without making a weight."""

import pytest

from models.config import EncoderConfig, LRMConfig, SVDConfig, WanConfig
from models.flops import encoder_flops, parameters, planes_flops, ray_flops, video_flops

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
