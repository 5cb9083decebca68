"""The image encoder: DINOv2 of transformers at any size, with the two conventions in which published models differ."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from models.config import EncoderConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """Images to tokens: the class token first, then the patches row by row, after the final normalisation.

    Register tokens, where the model has them, take part and are dropped.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        sizes: dict[str, Any] = {
            "image_size": config.table_size,
            "patch_size": config.patch,
            "hidden_size": config.width,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
        }
        if config.registers:
            registers = Dinov2WithRegistersConfig(**sizes, num_register_tokens=config.registers)
            self.model: Any = Dinov2WithRegistersModel(registers)
            self.model.embeddings.mask_token = None  # a training aid that the published weights leave out
        else:
            self.model = Dinov2Model(Dinov2Config(**sizes))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b tokens width"]:
        """Encode RGB images in 0..1 on a plain background, resized to `config.image_size` where they differ."""
        tokens = deque(self._layers(image), maxlen=1)[0]  # keeps one layer's at a time
        return self._own(self.model.layernorm(tokens))

    def layers(self, image: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b tokens width"]]:
        """The same tokens after each layer, before the final normalisation."""
        return [self._own(tokens) for tokens in self._layers(image)]

    def _own(self, tokens: Float[Tensor, "b all width"]) -> Float[Tensor, "b tokens width"]:
        registers = self.config.registers
        return torch.cat((tokens[:, :1], tokens[:, 1 + registers :]), 1) if registers else tokens

    def _layers(self, image: Float[Tensor, "b 3 h w"]) -> Iterator[Float[Tensor, "b all width"]]:
        tokens = self._embedded(image)
        for layer in self.model.encoder.layer:
            tokens = layer(tokens)
            yield tokens

    def _embedded(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b all width"]:
        """What the first layer is given."""
        side = self.config.image_size
        if image.shape[-2:] != (side, side):
            image = F.interpolate(image, (side, side), mode="bicubic", align_corners=True).clamp(0, 1)
        if self.config.normalise == "imagenet":
            mean = image.new_tensor(IMAGENET_MEAN)[:, None, None]
            image = (image - mean) / image.new_tensor(IMAGENET_STD)[:, None, None]
        parts = self.model.embeddings
        patches = parts.patch_embeddings(image)
        tokens = torch.cat((parts.cls_token.expand(len(image), -1, -1), patches), 1)
        tokens = tokens + self._positions(side // self.config.patch)
        if self.config.registers:  # they stand behind the class token, without a position
            own = parts.register_tokens.expand(len(image), -1, -1)
            tokens = torch.cat((tokens[:, :1], own, tokens[:, 1:]), 1)
        return tokens

    def _positions(self, side: int) -> Float[Tensor, "1 tokens width"]:
        """The position table at `side` x `side` patches."""
        table = self.model.embeddings.position_embeddings
        stored = self.config.table_size // self.config.patch
        if side == stored:
            return table
        grid = table[:, 1:].unflatten(1, (stored, stored)).permute(0, 3, 1, 2)
        if self.config.position_resize == "scale":  # the offset shifts the sampling grid: features differ by up to 0.15
            factor = (side + 0.1) / stored
            grid = F.interpolate(grid, scale_factor=(factor, factor), mode="bicubic", align_corners=False)
        else:
            grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
        return torch.cat((table[:, :1], grid.flatten(2).transpose(1, 2)), 1)
