"""Cross attention to a single token without its queries: the softmax over one key is 1, whatever is asked.

Stable Video Diffusion attends to one image embedding in every block. Its value, projected, is the answer of all
positions; the same numbers come out for a fraction of the work.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class LoneTokenProcessor:
    """An attention processor of diffusers for `encoder_hidden_states` of one token; others go to `other`."""

    def __init__(self, other: Any) -> None:
        self.other = other

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "n t c"],
        encoder_hidden_states: Float[Tensor, "n k e"] | None = None,
        attention_mask: Tensor | None = None,
        **further: Any,
    ) -> Float[Tensor, "n t c"]:
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] != 1 or attention_mask is not None:
            return self.other(attn, hidden_states, encoder_hidden_states, attention_mask, **further)
        answer = attn.to_out[0](attn.to_v(encoder_hidden_states))
        return answer.expand(-1, hidden_states.shape[1], -1)


def attend_to_lone_tokens(model: nn.Module) -> None:
    """Set the processor on the cross attentions of a UNet: those called `attn2`."""
    for name, module in model.named_modules():
        if name.endswith(".attn2"):
            module.set_processor(LoneTokenProcessor(module.processor))  # type: ignore[operator]
