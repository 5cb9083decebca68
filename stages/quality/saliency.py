"""Foreground on any background by a salient-object network in ONNX, of the kind that rembg keeps on disk."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch.nn import functional as F

from models.encoder import IMAGENET_MEAN, IMAGENET_STD
from stages.errors import InputError
from stages.quality.config import SaliencyConfig
from stages.weights import find_weights


def salient(images: Float[np.ndarray, "v 3 h w"], config: SaliencyConfig) -> Bool[np.ndarray, "v h w"]:
    """Masks of RGB views in 0..1.

    Each saliency map is stretched to 0..1, as these networks' own users do, unless it is flat (nothing stands out).
    Raises InputError when onnxruntime or the weights are missing.
    """
    session = _session(config)  # pyright: ignore[reportArgumentType]  # frozen
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config.normalise == "imagenet" else ((0.5,) * 3, (1.0,) * 3)
    views = F.interpolate(torch.from_numpy(images), (config.size, config.size), mode="bilinear", antialias=True)
    pixels = (views - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    name = session.get_inputs()[0].name
    # a view at a time: most of these files have a fixed batch of one
    maps = [
        session.run(None, {name: view[None].numpy()})[0].reshape(-1, config.size, config.size)[:1] for view in pixels
    ]
    saliency = torch.from_numpy(np.stack(maps).astype(np.float32))
    low, high = saliency.amin((2, 3), keepdim=True), saliency.amax((2, 3), keepdim=True)
    stretched = torch.where(high - low > 1e-3, (saliency - low) / (high - low).clamp(min=1e-3), saliency)
    sized = F.interpolate(stretched, images.shape[2:], mode="bilinear", antialias=True)
    return (sized[:, 0] > config.threshold).numpy()


@cache
def _session(config: SaliencyConfig) -> Any:
    path = find_weights(config, "u2net.onnx")
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"{path} needs onnxruntime: pip install 'orbitforge[saliency]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has types of its own for each way of being broken
        raise InputError(f"{path} is no ONNX network that can be run: {' '.join(str(error).split())[:200]}") from error
