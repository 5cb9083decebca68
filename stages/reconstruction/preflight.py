"""What is looked at before a training of the LRM starts: do the cameras see the box, and is there the memory?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psutil
import torch
from torch.nn import functional as F

from models.lrm import LRM
from models.triplane import box_limits
from stages.errors import InputError
from stages.reconstruction.config import LRMTrainingConfig
from stages.reconstruction.data import Orbits

SIDE = 16
"""Silhouettes are looked at with at most so many pixels a side."""
SEEN = 0.9
"""Least share of a silhouette whose rays meet the box; rims of estimated masks may lie beside it."""
MISSING = 0.1
"""With more of the orbits than this, the geometry is wrong rather than some of them."""
TOKEN = 18
"""Numbers that a transformer block keeps for backward, for each token and channel: inputs, attention, an MLP."""
SAMPLE = 20
"""Numbers kept of a sample on a ray, however wide the decoder: tiles are computed again in backward."""


def posed(orbits: Orbits, box: float, report: Callable[[dict[str, Any]], None]) -> Orbits:
    """The orbits in all of whose views the rays of the silhouette meet the box; the others are told and left out.

    Raises InputError when those are more than a tenth.
    """
    wrong: dict[int, str] = {}
    for number, id_ in enumerate(orbits.ids):
        alpha = orbits.alpha[number].float() / 255
        side = min(SIDE, alpha.shape[-1])
        covered = F.adaptive_avg_pool2d(alpha, side).flatten(1)
        near, far = box_limits(*orbits.cameras[number].rays(side), box)
        seen = (covered * (far > near)).sum(1) / covered.sum(1).clamp(min=1e-6)
        least = int(seen.argmin())
        if covered[least].sum() > 0 and seen[least] < SEEN:
            wrong[number] = f"{id_}: the rays of {1 - float(seen[least]):.0%} of view {least}'s silhouette miss the box"
    for reason in wrong.values():
        report({"message": f"left out, its cameras do not fit: {reason}"})
    if len(wrong) > MISSING * len(orbits.ids):
        raise InputError(
            f"the cameras of {len(wrong)} of {len(orbits.ids)} orbits do not fit ({next(iter(wrong.values()))}); look "
            "at their convention (`orbitforge validate`) and at the box of the model"
        )
    if not wrong:
        return orbits
    kept = [number for number in range(len(orbits.ids)) if number not in wrong]
    rows = torch.tensor(kept)
    return replace(
        orbits,
        rgb=orbits.rgb[rows],
        alpha=orbits.alpha[rows],
        cameras=orbits.cameras[rows],
        ids=tuple(orbits.ids[number] for number in kept),
    )


def needed_memory(model: LRM, config: LRMTrainingConfig) -> int:
    """Bytes that a step takes at its peak on one device, about: weights, gradients, optimiser, average, activations.

    Measured on a CPU in single precision, above the loaded model: OpenLRM-small, four 64 x 64 crops, 1,999 MB, of
    which this says 1,931; the tiny preset 64 MB, of which this says 40. What libraries keep is not in it.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights = sum(p.numel() for p in model.parameters())
    lrm, draws = model.config, config.draws
    image_tokens = 1 + (lrm.encoder.image_size // lrm.encoder.patch) ** 2
    encoder = TOKEN * image_tokens * lrm.encoder.width * lrm.encoder.layers if config.train_encoder else 0
    transformer = TOKEN * 3 * lrm.plane_tokens**2 * lrm.width * lrm.layers
    texels = 3 * (lrm.plane_tokens * lrm.upsampling) ** 2 * (lrm.channels + lrm.decoder_width)
    rays = draws.side_views * draws.patch**2 if draws.patch else draws.rays
    samples = rays * (lrm.samples + lrm.importance_samples) * (SAMPLE + 3 * lrm.view_channels)
    per_object = encoder + transformer + 2 * texels + samples
    halved = 2 if "16" in config.training.precision else 1
    state = weights + trained * (3 + bool(config.training.ema))
    return 4 * (state + per_object * config.training.part // halved)


def tell_memory(model: LRM, config: LRMTrainingConfig, report: Callable[[dict[str, Any]], None]) -> None:
    """Say what a training will need beside what there is, before it starts."""
    needed = needed_memory(model, config)
    if torch.cuda.is_available():
        free, where = torch.cuda.mem_get_info()[0], "on the GPU"
    else:
        free, where = psutil.virtual_memory().available, "of memory"
    text = f"a step needs about {needed / 2**30:.2g} GiB, {free / 2**30:.2g} GiB {where} are free"
    if needed > free:
        text += (
            f"; it may not fit: raise training.accumulate ({config.training.accumulate}), lower training.batch "
            f"({config.training.batch}) or draws.rays and draws.patch"
        )
    report({"message": text})
