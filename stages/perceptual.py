"""LPIPS with weights that the user has."""

from __future__ import annotations

from safetensors import SafetensorError
from safetensors.torch import load_file

from models.perceptual import Lpips
from stages.config import WeightsConfig
from stages.errors import InputError
from stages.weights import find_weights


def lpips(weights: WeightsConfig) -> Lpips:
    """LPIPS on the VGG-16 that `weights` names. Raises InputError when it is missing, or is none."""
    file = find_weights(weights, "vgg16.safetensors")
    try:
        return Lpips(load_file(file), str(file))
    except (ValueError, SafetensorError) as error:
        raise InputError(
            f"{file} is not torchvision's VGG-16 as safetensors: {' '.join(str(error).split())}; convert that"
        ) from None
