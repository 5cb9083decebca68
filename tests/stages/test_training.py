"""Training: an interrupted and resumed run ends with the bytes of an uninterrupted one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from models.config import DenoisingConfig, EncoderConfig, LRMConfig
from models.lrm import TriplaneTransformer
from models.video import build_video
from stages import training
from stages.base.config import EncoderTrainingConfig
from stages.config import TrainingConfig
from stages.errors import InputError
from stages.memory import checkpoint_gradients, memory_told
from stages.training import fit
from tests.models.test_svd import TINY
from tests.stages.test_video import VIDEO

CONFIG = TrainingConfig(steps=40, batch=4, learning_rate=1e-2, ema=0.9, warmup=5, checkpoint_every=10)

DENOISING = DenoisingConfig.model_validate({})


class StopError(Exception):
    pass


def train(
    scratch: Path, seed: int = 1, stop_after: int | None = None, killed: int | None = None, **changes: Any
) -> tuple[nn.Module, pl.DataFrame]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    seen = 0

    def loss(net: nn.Module, batch: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        nonlocal seen
        seen += 1
        if seen == stop_after and killed is None:
            raise StopError
        if seen == stop_after and torch.distributed.get_rank() == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        noisy = batch + 0.1 * torch.randn(batch.shape, generator=generator)
        return {"loss": (net(noisy) - noisy.sum(1, keepdim=True)).square().mean()}

    config = TrainingConfig.model_validate(CONFIG.model_dump() | changes)
    curve = fit(
        model,
        loss,
        lambda generator, _: torch.randn(4, 4, generator=generator),
        config,
        seed=seed,
        scratch=scratch,
        report=lambda event: None,
    )
    return model, curve


def weights(model: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize(
    ("stop_after", "changes"),
    [(3, {}), (11, {}), (27, {}), (27, {"muon": 0.02}), (55, {"accumulate": 2}), (90, {"accumulate": 4, "ema": 0.0})],
)
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path: Path, stop_after: int, changes: dict[str, Any]) -> None:
    whole, curve = train(tmp_path / "whole", **changes)
    with pytest.raises(StopError):
        train(tmp_path / "cut", stop_after=stop_after, **changes)
    resumed, resumed_curve = train(tmp_path / "cut", **changes)
    assert torch.equal(weights(whole), weights(resumed))
    assert curve.equals(resumed_curve)


@pytest.mark.parametrize("changes", [{}, {"ema": 0.0}, {"devices": 2, "accumulate": 2}])
def test_one_that_was_cut_after_its_last_step_ends_with_the_same_bytes(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Cut while the finished model was measured: Lightning then has nothing left to train."""
    whole, curve = train(tmp_path / "whole", **changes)
    resumed, resumed_curve = train(tmp_path / "whole", **changes)
    assert torch.equal(weights(whole), weights(resumed))
    assert curve.equals(resumed_curve)


def test_a_torn_resume_state_is_passed_over(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(StopError):
        train(tmp_path / "cut", stop_after=27)
    newest = tmp_path / "cut" / "step=20.ckpt"
    newest.write_bytes(newest.read_bytes()[:1000])
    resumed, _ = train(tmp_path / "cut")
    assert torch.equal(weights(whole), weights(resumed))


def test_the_seed_decides(tmp_path: Path) -> None:
    assert not torch.equal(weights(train(tmp_path / "a")[0]), weights(train(tmp_path / "b", seed=2)[0]))


def test_the_averaged_weights_are_kept(tmp_path: Path) -> None:
    averaged, last = train(tmp_path / "a")[0], train(tmp_path / "b", ema=0.0)[0]
    assert not torch.equal(weights(averaged), weights(last))


def test_a_loss_that_is_not_finite_says_where(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="at step 0"):
        fit(
            model,
            lambda net, batch, generator: {"loss": net(batch).sum() * torch.nan},
            lambda generator, _: torch.ones(1, 1),
            CONFIG,
            seed=0,
            scratch=tmp_path,
            report=lambda event: None,
        )


# parts of a batch, and several devices


@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_batch_in_parts_is_the_same_batch(tmp_path: Path, accumulate: int) -> None:
    plain, curve = train(tmp_path / "plain")
    parts, parts_curve = train(tmp_path / "parts", accumulate=accumulate)
    assert torch.allclose(weights(plain), weights(parts), atol=1e-5)
    assert parts_curve.select("step", "name").equals(curve.select("step", "name"))
    assert torch.allclose(torch.tensor(curve["value"]), torch.tensor(parts_curve["value"]), rtol=1e-4)


@pytest.mark.parametrize("strategy", ["auto", "ddp", "fsdp"])
def test_two_devices_train_as_one_does(tmp_path: Path, strategy: str) -> None:
    """Two processes on the CPU (gloo): the same global batches, the same curve, the same averaged weights."""
    alone, curve = train(tmp_path / "one", accumulate=4)
    shared, shared_curve = train(tmp_path / "two", accumulate=4, devices=2, strategy=strategy)
    assert shared_curve.select("step", "name").equals(curve.select("step", "name"))
    assert torch.allclose(torch.tensor(curve["value"]), torch.tensor(shared_curve["value"]), rtol=1e-4)
    assert torch.allclose(weights(alone), weights(shared), atol=1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_devices_resume_with_the_same_bytes(tmp_path: Path, strategy: str) -> None:
    changes: dict[str, Any] = {"accumulate": 2, "devices": 2, "strategy": strategy}
    whole, curve = train(tmp_path / "whole", **changes)
    with pytest.raises((StopError, InputError)):
        train(tmp_path / "cut", stop_after=27, **changes)
    assert (tmp_path / "cut" / "step=20.ckpt").exists()
    resumed, resumed_curve = train(tmp_path / "cut", **changes)
    assert torch.equal(weights(whole), weights(resumed))
    assert curve.equals(resumed_curve)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_is_told_in_one_line_and_leaves_nobody(tmp_path: Path, rank: int) -> None:
    changes: dict[str, Any] = {"accumulate": 2, "devices": 2}
    whole, curve = train(tmp_path / "whole", **changes)
    told = rf"^rank {rank} of 2 was killed by signal 9 .*; run again to go on from the last resume state$"
    began = time.monotonic()
    with pytest.raises(InputError, match=told):
        train(tmp_path / "cut", stop_after=27, killed=rank, **changes)
    assert time.monotonic() - began < 60  # the other one does not wait for it
    assert not multiprocessing.active_children()
    assert (tmp_path / "cut" / "step=20.ckpt").exists()
    resumed, resumed_curve = train(tmp_path / "cut", **changes)
    assert torch.equal(weights(whole), weights(resumed))
    assert curve.equals(resumed_curve)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"accumulate": 3}, "accumulate 3 does not divide batch 4"),
        ({"devices": 2}, "2 devices cannot share 1 parts"),
        ({"strategy": "dpp"}, "'auto', 'ddp' or 'fsdp'"),
        ({"precision": "16-mixed"}, "'32-true' or 'bf16-mixed'"),
        ({"strategy": "fsdp", "muon": 0.02}, "muon needs whole matrices"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TrainingConfig.model_validate(CONFIG.model_dump() | changes)


def test_a_batch_that_is_compared_with_itself_stays_whole() -> None:
    encoder = EncoderConfig(image_size=32, table_size=32, patch=8, width=16, layers=1, heads=2)
    with pytest.raises(ValidationError, match=r"set base.encoder.training.accumulate to 1"):
        EncoderTrainingConfig(encoder=encoder, training=CONFIG.model_copy(update={"accumulate": 2}))  # pyright: ignore


# bad input


def test_what_is_not_finite_says_the_samples_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    drawn = lambda generator, _=0: torch.randint(100, (2, 1), generator=generator).float()  # noqa: E731
    bad = {"from": 25}

    def loss(net: nn.Module, batch: torch.Tensor, _: torch.Generator) -> dict[str, torch.Tensor]:
        bad["step"] = bad.get("step", -1) + 1
        return {"loss": net(batch / 100).square().mean() * (torch.nan if bad["step"] >= bad["from"] else 1.0)}

    def run() -> pl.DataFrame:
        tell = lambda generator: [f"s{int(v)}" for v in drawn(generator)]  # noqa: E731
        config = CONFIG.model_copy(update={"batch": 2})
        return fit(model, loss, drawn, config, seed=0, scratch=tmp_path, report=lambda event: None, tell=tell)

    batch = drawn(training.torch_generator(0, "batch", 25))
    told = rf"loss is nan at step 25: .*\(s{int(batch[0])}, s{int(batch[1])}\); the last good state, step=20.ckpt, is"
    with pytest.raises(InputError, match=told):
        run()
    assert (tmp_path / "step=20.ckpt").exists()
    bad |= {"from": 1000}  # the batch was looked after: the training goes on from there
    assert run()["step"].max() == 40


class _Spoiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return gradient * torch.inf


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    before = weights(model).clone()
    with pytest.raises(FloatingPointError, match=r"the norm of the gradient is (nan|inf) at step 0"):
        fit(
            model,
            lambda net, batch, _: {"loss": _Spoiled.apply(net(batch)).sum()},
            lambda generator, _: torch.ones(4, 1),
            CONFIG,
            seed=0,
            scratch=tmp_path,
            report=lambda event: None,
        )
    assert torch.equal(weights(model), before)


def test_a_state_whose_weights_are_not_finite_is_dropped(tmp_path: Path) -> None:
    with pytest.raises(StopError):
        train(tmp_path, stop_after=27)
    state = torch.load(tmp_path / "step=20.ckpt", weights_only=True)
    name, value = next(iter(state["state_dict"].items()))
    state["state_dict"][name] = torch.full_like(value, torch.inf)
    torch.save(state, tmp_path / "step=20.ckpt")
    with pytest.raises(FloatingPointError, match=r"at step 20: .*; the last good state, step=10.ckpt, is kept"):
        train(tmp_path)
    train(tmp_path)  # goes on from there


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore"),
        torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_change(tmp_path: Path, error: Exception) -> None:
    def loss(net: nn.Module, batch: torch.Tensor, _: torch.Generator) -> dict[str, torch.Tensor]:
        raise error

    with pytest.raises(InputError) as told:
        fit(
            nn.Linear(1, 1),
            loss,
            lambda generator, _: torch.ones(2, 1),
            CONFIG.model_copy(update={"accumulate": 2}),
            seed=0,
            scratch=tmp_path,
            report=lambda event: None,
        )
    for setting in (
        "raise training.accumulate (now 2: 2 samples at a time)",
        "training.gradient_checkpointing to true (now false)",
        "lower training.batch (now 4)",
    ):
        assert setting in str(told.value)
    assert "\n" not in str(told.value)


def test_a_real_allocation_that_fails_is_told_and_other_errors_pass() -> None:
    with pytest.raises(InputError, match="out of memory"), memory_told(CONFIG):
        torch.empty(1 << 56)
    with pytest.raises(RuntimeError, match="shape"), memory_told(CONFIG):
        raise RuntimeError("shape mismatch")


# memory and precision


def gradients(model: nn.Module, run: Any) -> torch.Tensor:
    model.zero_grad()
    run().square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_checkpointed_gradients_are_the_same_and_keep_less() -> None:
    torch.manual_seed(0)
    encoder = EncoderConfig(image_size=32, table_size=32, patch=8, width=16, layers=1, heads=2)
    config = LRMConfig(encoder=encoder, camera_width=8, width=32, layers=4, heads=2, plane_tokens=4, channels=4)
    transformer = TriplaneTransformer(config)
    image, condition = torch.randn(2, 17, 16), torch.randn(2, 8)
    cases: list[tuple[nn.Module, Any]] = [(transformer, lambda: transformer(image, condition))]
    for family in (VIDEO.model_copy(update={"layers": 3}), TINY):
        video = build_video(family)
        noisy, generator = torch.randn(2, *video.latent_shape()), torch.Generator().manual_seed(0)
        told = video.conditions(torch.rand(2, 3, family.size, family.size), noisy[:, 0], DENOISING, generator)
        told = {name: copies[:, 0].detach() for name, copies in told.items()}
        cases.append((video.denoiser, lambda v=video, n=noisy, c=told: v.denoise(n, torch.ones(2), c)))
    for model, run in cases:
        model.train()
        kept = {}
        results = []
        for name in ("plain", "checkpointed"):
            sizes: list[int] = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
                result = run()
            kept[name] = sum(sizes)
            del result
            results.append(gradients(model, run))
            checkpoint_gradients(model)
        assert torch.equal(*results)
        assert kept["checkpointed"] < 0.7 * kept["plain"], kept


def test_a_model_that_cannot_forget_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no part of Sequential can compute its activations again"):
        train(tmp_path, gradient_checkpointing=True)


@pytest.mark.parametrize("there", [True, False])
def test_bfloat16_falls_back_where_the_device_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(training, "_has_bfloat16", lambda: there)
    told: list[str] = []
    dtypes: set[torch.dtype] = set()

    def loss(net: nn.Module, batch: torch.Tensor, _: torch.Generator) -> dict[str, torch.Tensor]:
        out = net(batch)
        dtypes.add(out.dtype)
        return {"loss": out.float().square().mean()}

    fit(
        nn.Linear(1, 1),
        loss,
        lambda generator, _: torch.ones(4, 1),
        CONFIG.model_copy(update={"precision": "bf16-mixed", "steps": 2}),
        seed=0,
        scratch=tmp_path,
        report=lambda event: told.append(event["message"]) if "message" in event else None,
    )
    assert dtypes == {torch.bfloat16 if there else torch.float32}
    assert len(told) == (0 if there else 1)
    assert there or "has no bfloat16 arithmetic; training in 32-true" in told[0]
