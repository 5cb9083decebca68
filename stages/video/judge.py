"""A judge of orbits: does the azimuth of a clip really go round, and do its views show one thing?

It is trained on rendered clips alone. Of two frames it tells by how much the azimuth of the second is ahead, as the
expected unit vector e^(i angle): where the views do not say, as with a vase, the vector is short, so that its length
is the confidence. A clip counts as an orbit when the vectors of all pairs of its frames agree with nominal azimuths.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoder import Encoder
from stages.seeds import torch_generator
from stages.video.config import JudgeConfig
from stages.video.spoils import moved

ACCEPTED = 0.4
"""Least agreement with an orbit: few in a hundred of what is none reach it (docs/video.md); `judge/accepted ...` in a
model's training.parquet tells of each kind."""
_CHANNELS, _WIDTH, _CLIPS_A_STEP, _FRAMES_AT_ONCE = 32, 128, 16, 256


class Verdicts(NamedTuple):
    """What the judge says of each clip. Angles in degrees."""

    azimuth: Float[Tensor, "n f"]
    """Of each frame relative to the first, -180..180."""
    travelled: Float[Tensor, " n"]
    """Once around and back to the first frame: 360 for an orbit, -360 for one the other way round, 0 for none."""
    monotonic: Float[Tensor, " n"]
    """Share of the steps that go forward, 0..1."""
    error: Float[Tensor, " n"]
    """Mean distance of the azimuths from the nominal ones, 0..180."""
    orbit: Float[Tensor, " n"]
    """Agreement of all pairs of frames with an orbit less that with standing still, about -1..1; near 0 or below for
    what the judge cannot tell."""
    sameness: Float[Tensor, " n"]
    """Do the views show one thing? Mean cosine of the encoder's class tokens over pairs of frames."""

    @property
    def accepted(self) -> Tensor:
        return self.orbit > ACCEPTED


class Judge(nn.Module):
    """Reads the tokens of a frozen image encoder; `fit` trains the few layers above them."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        tokens, width = 1 + (encoder.config.image_size // encoder.config.patch) ** 2, encoder.config.width
        kept = min(_CHANNELS, width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("basis", torch.zeros(width, kept))
        self.mean: Tensor
        self.basis: Tensor
        self.one, self.other = nn.Linear(tokens * kept, _WIDTH), nn.Linear(tokens * kept, _WIDTH, bias=False)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, 2))

    @torch.no_grad()
    def tokens(self, clips: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n f t c"]:
        frames = [self.encoder(part) for part in clips.flatten(0, 1).split(_FRAMES_AT_ONCE)]
        return torch.cat(frames).unflatten(0, clips.shape[:2])

    def ahead(self, tokens: Float[Tensor, "n f t c"]) -> Complex[Tensor, "n f f"]:
        """[j, k]: the expected e^(i angle) by which frame k is ahead of frame j; the two orders of a pair agree."""
        return self._ahead(((tokens - self.mean) @ self.basis).flatten(-2))

    def forward(self, clips: Float[Tensor, "n f 3 s s"]) -> Verdicts:
        with torch.no_grad():
            tokens = self.tokens(clips)
            return verdicts(self.ahead(tokens), tokens[:, :, 0])

    def fit(self, clips: Float[Tensor, "n f 3 s s"], config: JudgeConfig, seed: int) -> None:
        """Learn from orbits that go once around.

        Some frames are moved in the image plane, which is no azimuth; some clips are mirrored, which turns the other
        way, or show one view only; all are softened, as generated ones are.
        """
        n, f = clips.shape[:2]
        draw = torch_generator(seed, "judge")
        mirrored, still = torch.rand(2, n, 1, generator=draw) < torch.tensor((0.3, 0.2))[:, None, None]
        wide = (slice(None), slice(None), None, None, None)
        clips = torch.where(mirrored[wide], clips.flip(-1), torch.where(still[wide], clips[:, :1], clips))
        azimuth = 2 * math.pi / f * torch.arange(f) * torch.where(mirrored, -1, ~still * 1)
        shaken = (torch.rand(n, f, generator=draw) < 0.25) | (still & ~mirrored)
        tokens = self.tokens(_soft(_shaken(clips, shaken, draw), draw))
        self._reduce(tokens)
        reduced = ((tokens - self.mean) @ self.basis).flatten(-2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=draw)))
            for layer in (self.one, self.other, *self.head):
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()
        learned = [*self.one.parameters(), *self.other.parameters(), *self.head.parameters()]
        optimizer = torch.optim.AdamW(learned, lr=config.learning_rate, weight_decay=0.05)
        for step in range(config.steps):
            done = step / config.steps
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * min(1.0, 10 * done + 0.1) * 0.5 * (1 + math.cos(math.pi * done))
            chosen = torch.randint(n, (min(n, _CLIPS_A_STEP),), generator=draw)
            difference = azimuth[chosen][:, None] - azimuth[chosen][:, :, None]
            wanted = torch.polar(torch.ones_like(difference), difference)
            loss = torch.view_as_real(self._ahead(reduced[chosen]) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _ahead(self, reduced: Float[Tensor, "n f d"]) -> Complex[Tensor, "n f f"]:
        pairs = self.head(self.one(reduced)[:, :, None] + self.other(reduced)[:, None])
        ahead = torch.view_as_complex(pairs.contiguous())
        return (ahead + ahead.transpose(1, 2).conj()) / 2

    def _reduce(self, tokens: Float[Tensor, "n f t c"]) -> None:
        """Principal directions of the tokens, the smaller ones kept smaller."""
        flat = tokens.flatten(0, 2)
        self.mean.copy_(flat.mean(0))
        values, vectors = torch.linalg.eigh(torch.cov((flat - self.mean).T))
        strength = values[-self.basis.shape[1] :].clamp(min=1e-8)
        scale = 2 / (strength * strength[-1]).pow(0.25)
        self.basis.copy_(vectors[:, -self.basis.shape[1] :] * scale)


def verdicts(ahead: Complex[Tensor, "n f f"], classes: Float[Tensor, "n f c"]) -> Verdicts:
    """What follows from how far each frame is ahead of each other one, and from the frames' class tokens."""
    f = ahead.shape[1]
    between = ~torch.eye(f, dtype=torch.bool)
    pairs = ahead * between
    # angular synchronisation: of all azimuths, those that agree best with every pair (Singer, arXiv 0905.3174)
    leading = torch.linalg.eigh(pairs).eigenvectors[..., -1].conj()
    radians = torch.angle(leading * leading[:, :1].conj())
    nominal = 2 * math.pi / f * torch.arange(f)
    steps = _wrapped(torch.diff(radians, dim=1, append=radians[:, :1]))
    expected = torch.polar(torch.ones(f, f), nominal[None] - nominal[:, None])
    unit = F.normalize(classes, dim=-1)
    return Verdicts(
        azimuth=radians.rad2deg(),
        travelled=steps.sum(1).rad2deg(),
        monotonic=(steps > 0).float().mean(1),
        error=_wrapped(radians - nominal).abs().mean(1).rad2deg(),
        orbit=(ahead * (expected.conj() - 1)).real[:, between].mean(1),
        sameness=(unit @ unit.transpose(1, 2))[:, between].mean(1),
    )


def _wrapped(angle: Float[Tensor, ...]) -> Float[Tensor, ...]:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def _shaken(
    clips: Float[Tensor, "n f 3 s s"], chosen: Bool[Tensor, "n f"], generator: torch.Generator
) -> Float[Tensor, "n f 3 s s"]:
    """The chosen frames, each shifted, scaled and rolled by its own amount."""
    roll, scale, across, up = (2 * torch.rand(4, *clips.shape[:2], generator=generator) - 1) * chosen
    return moved(clips, roll=roll, scale=(0.5 * scale).exp(), across=0.5 * across, up=0.5 * up)


def _soft(clips: Float[Tensor, "n f 3 s s"], generator: torch.Generator) -> Float[Tensor, "n f 3 s s"]:
    """Clips mixed with a copy at half or a quarter of their size."""
    side = clips.shape[-1]
    sizes = [F.adaptive_avg_pool2d(clips.flatten(0, 1), max(1, side // coarser)) for coarser in (2, 4)]
    half, quarter = (F.interpolate(x, (side, side), mode="bilinear").unflatten(0, clips.shape[:2]) for x in sizes)
    coarse, share = torch.rand(2, len(clips), 1, 1, 1, 1, generator=generator)
    return torch.lerp(clips, torch.where(coarse < 0.5, half, quarter), share)
