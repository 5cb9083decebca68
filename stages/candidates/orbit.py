"""An orbit of any number of views by a video model that makes clips of its own length."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from models.config import SamplingConfig
from models.video import VideoModel, build_video, load_video, read_video_config
from models.wan import WanVideo, orbit_positions
from stages.errors import InputError
from stages.seeds import torch_generator


class Orbit:
    """`views` evenly spaced views, once around.

    A model of the Wan family tells every token its azimuth, and is best at the number of frames that it was trained
    on: a longer orbit is made in passes that lie between one another, all begun with the same first frame and noise.
    (Tiny model of 8 frames, 16 true views of held-out objects at elevation 6: 16.8 dB, IoU .67, anti-cosine .43 in two
    passes, 16.5, .66, .36 in a clip of 16 frames, 16.8, .66, .40 in one after 100 steps of fine-tuning at 16.) Other
    families make a clip of so many frames at once: no weight of theirs depends on the number.
    """

    def __init__(self, folder: Path, views: int) -> None:
        """Raises InputError for a number of views that the model cannot make."""
        config = read_video_config(folder)
        self.views, self.passes = views, 1
        if config.family == "wan":
            if views % config.frames:
                raise InputError(
                    f"an orbit of {views} views is no whole number of passes of the {config.frames} frames that "
                    f"{folder} makes; choose a multiple as candidates.views"
                )
            self.passes = views // config.frames
            self.video: VideoModel = load_video(folder)
        else:
            self.video = build_video(config.model_copy(update={"frames": views}))
            self.video.read(folder)
        self.video.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    @property
    def size(self) -> int:
        return self.video.config.size

    def __call__(
        self, first: Float[Tensor, "n 3 s s"], ids: list[str], steps: int, sampling: SamplingConfig, seed: int
    ) -> Float[Tensor, "n v 3 s s"]:
        """Views that start with the very `first` frames, each from the noise of its id."""
        video = self.video
        grain, noise = video.draw_noises(torch_generator(seed, id_, "orbit") for id_ in ids)
        first, noise = first.to(video.device), noise.to(video.device)
        grain = None if grain is None else grain.to(video.device)
        passes = [self._pass(number, first, noise, steps, sampling, grain) for number in range(self.passes)]
        views = torch.stack(passes, 2).flatten(1, 2)
        views[:, 0] = first
        return views.cpu()

    def _pass(
        self,
        number: int,
        first: Float[Tensor, "n 3 s s"],
        noise: Float[Tensor, "n f c h w"],
        steps: int,
        sampling: SamplingConfig,
        grain: Float[Tensor, "n 3 s s"] | None,
    ) -> Float[Tensor, "n f 3 s s"]:
        if isinstance(self.video, WanVideo):
            places = orbit_positions(self.views, self.video.positions.shape[-1])
            self.video.positions = places[:, number :: self.passes].to(noise)
        return self.video.sample(first, noise, steps, sampling, grain)
