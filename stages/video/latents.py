"""Latents of rings of views, made once: a clip starts anywhere in a ring, so what is kept is every single view's.

A ring is encoded when the first clip asks for it, always as a whole: the bytes do not depend on who asked first.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.config import DenoisingConfig
from models.video import VideoModel
from stages.seeds import torch_generator
from stages.video.clips import on_white, places
from stages.video.denoising import Latents

LATENTS = "latents"
HELD = 2**30
"""Bytes of latents kept in memory; the rest is read again from the scratch folder."""


class LatentBank:
    """Draws clips of latents. `scratch` holds a safetensors file for each ring, named by what went into it."""

    def __init__(
        self, model: VideoModel, rings: UInt8[Tensor, "o v h w 4"], config: DenoisingConfig, scratch: Path, *, seed: int
    ) -> None:
        self.model, self.rings, self.config, self.seed = model, rings, config, seed
        self.folder = scratch / LATENTS
        self.folder.mkdir(parents=True, exist_ok=True)
        self.encoded = 0
        """Rings that went through the encoders."""
        self._maker = _fingerprint(model, config, seed)
        self._held: OrderedDict[int, dict[str, Tensor]] = OrderedDict()

    def draw(self, count: int, generator: torch.Generator) -> Latents:
        """Random rings at random starts, each with one of its first frame's conditions."""
        frames = self.model.config.frames
        orbit, view = places(self.rings, count, frames, generator)
        copy = torch.randint(2**31, (count,), generator=generator).tolist()
        rings = [self.ring(index) for index in orbit.tolist()]
        clean = torch.stack([ring[LATENTS][chosen] for ring, chosen in zip(rings, view, strict=True)])
        condition = {
            name: torch.stack(
                [
                    ring[name][first, k % ring[name].shape[1]]
                    for ring, first, k in zip(rings, view[:, 0], copy, strict=True)
                ]
            )
            for name in rings[0]
            if name != LATENTS
        }
        return Latents(clean, condition)

    def ring(self, index: int) -> dict[str, Tensor]:
        """Latents [v, c, h, w] and conditions [v, copies, ...] of a ring's views."""
        if index in self._held:
            self._held.move_to_end(index)
            return self._held[index]
        views = self.rings[index]
        key = hashlib.sha256(self._maker + index.to_bytes(8, "big") + views.numpy().tobytes()).hexdigest()[:32]
        file = self.folder / f"{key}.safetensors"
        if file.is_file():
            made = load_file(file)
        else:
            made = self._encode(on_white(views), index)
            part = file.with_suffix(f".{os.getpid()}.part")  # ranks make the same rings at the same time
            save_file(made, part)
            part.replace(file)
        self._held[index] = made
        size = sum(tensor.nbytes for tensor in made.values())
        while len(self._held) > max(1, HELD // size):
            self._held.popitem(last=False)
        return made

    @torch.no_grad()
    def _encode(self, frames: Float[Tensor, "v 3 s s"], index: int) -> dict[str, Tensor]:
        self.encoded += 1
        frames = frames.to(self.model.device)
        latents = self.model.encode(frames[None])[0]
        generator = torch_generator(self.seed, "conditions", index)
        conditions = self.model.conditions(frames, latents, self.config, generator)
        return {
            name: tensor.cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in {LATENTS: latents, **conditions}.items()
        }


def _fingerprint(model: VideoModel, config: DenoisingConfig, seed: int) -> bytes:
    """Of all that latents depend on but the views."""
    digest = hashlib.sha256(f"{seed} {model.config.model_dump_json()} {config.model_dump_json()}".encode())
    for name, tensor in model.state_dict().items():
        if not name.startswith("denoiser."):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.digest()
