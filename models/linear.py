"""Linear layers and attention of large transformers on CPUs.

torch multiplies float32 matrices by MKL there; oneDNN, which it carries as well, takes a tenth less on processors that
MKL was not written for, and is no slower on others. Small matrices stay with MKL: they do not pay for the call.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LARGE = 1 << 27
"""Multiplications of a product from which on oneDNN is asked."""


def linear(
    x: Float[Tensor, "*b inner"], weight: Float[Tensor, "outer inner"], bias: Float[Tensor, " outer"] | None = None
) -> Float[Tensor, "*b outer"]:
    """`F.linear`: the same numbers up to their last bits."""
    if not _suits(x, weight):
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)  # pyright: ignore[reportReturnType]


def attend(
    attention: nn.MultiheadAttention, x: Float[Tensor, "b t width"], source: Float[Tensor, "b s other"]
) -> Float[Tensor, "b t width"]:
    """What `attention` makes of queries from `x`, keys and values from `source`; it has no bias on its inputs."""
    if attention.in_proj_weight is not None:
        weights = attention.in_proj_weight.chunk(3)
    else:
        weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
    if x is source and attention.in_proj_weight is not None:
        projected = linear(x, attention.in_proj_weight).chunk(3, -1)
    else:
        projected = [linear(part, weight) for part, weight in zip((x, source, source), weights, strict=True)]
    q, k, v = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in projected)
    seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return linear(seen, attention.out_proj.weight, attention.out_proj.bias)


def product(x: Float[Tensor, "*b inner"], weight: Float[Tensor, "outer inner"], bias: Tensor | None = None) -> Tensor:
    """`linear` without gradients, for what writes its own backward pass."""
    if not _suits(x, weight):
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _suits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= LARGE
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        x, weight = ctx.saved_tensors
        flat = grad.flatten(0, -2)
        return product(grad, weight.t()), flat.T @ x.flatten(0, -2), flat.sum(0) if ctx.biased else None
