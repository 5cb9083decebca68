import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import linear as module
from models.linear import attend, linear


def gradients(function, *tensors: torch.Tensor) -> list[torch.Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = function(*leaves)
    (out * torch.arange(out.numel(), dtype=out.dtype).view_as(out).sin()).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", [(2, 700, 256), (900, 256)])
def test_large_products_are_those_of_float64(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], biased: bool):
    monkeypatch.setattr(module, "LARGE", 1)
    torch.manual_seed(0)
    tensors = [torch.randn(shape), torch.randn(512, 256), *([torch.randn(512)] if biased else [])]
    ours = gradients(linear, *tensors)
    truth = gradients(F.linear, *(tensor.double() for tensor in tensors))
    for made, wanted in zip(ours, truth, strict=True):
        assert float((made - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_small_products_double_precision_and_autocast_are_torchs_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None)
    x, weight = torch.randn(8, 16), torch.randn(4, 16)
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    monkeypatch.setattr(module, "LARGE", 1)
    x, weight = x.double(), weight.double()
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x.float(), weight.float()).dtype == torch.bfloat16


@pytest.mark.parametrize("large", [1, 1 << 60])
@pytest.mark.parametrize("other", [32, 48])
def test_attention_is_that_of_torch(monkeypatch: pytest.MonkeyPatch, other: int, large: int):
    monkeypatch.setattr(module, "LARGE", large)
    torch.manual_seed(1)
    attention = nn.MultiheadAttention(32, 4, bias=False, kdim=other, vdim=other, batch_first=True)
    x, source = torch.randn(2, 7, 32), torch.randn(2, 5, other)
    torch.testing.assert_close(attend(attention, x, source), attention(x, source, source, need_weights=False)[0])
    if other == 32:
        torch.testing.assert_close(attend(attention, x, x), attention(x, x, x, need_weights=False)[0])
