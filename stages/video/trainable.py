"""Which weights of a video model a fine-tuning moves: all of the denoiser, its layers in time, or low-rank adapters."""

from __future__ import annotations

from typing import Any

from models.video import VideoModel
from stages.errors import InputError
from stages.video.config import VideoFinetuneConfig


def choose(model: VideoModel, config: VideoFinetuneConfig) -> None:
    """Let the chosen parameters require a gradient, and no others. Adapters are put around the denoiser.

    Raises InputError for temporal layers where the family has none.
    """
    model.requires_grad_(False)
    if config.trainable == "lora":
        model.denoiser = _adapted(model, config)
        return
    names = set(model.temporal() if config.trainable == "temporal" else model.learning())
    if not names:
        raise InputError(
            f"trainable is 'temporal', but no layer of the {model.config.family} family acts on time alone; choose "
            "`video: {trainable: all}` or `{trainable: lora}`"
        )
    for name, parameter in model.denoiser.named_parameters():
        parameter.requires_grad_(name in names)


def merge(model: VideoModel, config: VideoFinetuneConfig) -> None:
    """Fold adapters into the weights that they stand beside: the folder then loads like any other."""
    if config.trainable == "lora":
        model.denoiser = model.denoiser.merge_and_unload()


def _adapted(model: VideoModel, config: VideoFinetuneConfig) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules=model.attention())
    return get_peft_model(model.denoiser, lora)
