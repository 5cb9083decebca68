"""Plans are arithmetic on counted work: scale, rates and refusals."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from orchestration import pipeline
from orchestration.cli.plan import plan_command
from orchestration.errors import OrbitforgeError
from orchestration.planning import FLEXIVIEW, RATES, Estimate, Rates, Scale, estimates, measured, scale_of
from orchestration.planning_flexiview import LOFTR, input_views
from orchestration.presets.schema import Preset, load_preset, preset_names
from orchestration.steps import Step
from stages.flexrm.data import draw_count

SMALL = Scale(objects=100, object_shards=1, prompts=1000, prompt_shards=1, kept=0.5, held_out=30)


def branch(preset: Preset, scale: Scale = SMALL) -> dict[str, Estimate]:
    return {each.work.asset: each for each in estimates(preset, scale, Rates.read(), FLEXIVIEW)}


def changed(preset: Preset, **sections: dict[str, object]) -> Preset:
    """With other values in some sections."""
    parts = {name: getattr(preset, name).model_copy(update=update) for name, update in sections.items()}
    return preset.model_copy(update=parts)


def test_a_preset_says_how_much_or_its_tables_do():
    paper = scale_of(load_preset("paper"), {})
    assert (paper.objects, paper.object_shards, paper.prompts, paper.prompt_shards) == (100_000, 1000, 4_000_000, 4000)
    assert paper.held_out == 30_000
    tables = {
        "objects": pl.DataFrame({"shard": ["000", "000", "001"], "split": ["train", "held-out", "train"]}),
        "prompts": pl.DataFrame({"shard": ["p000", "p001"]}),
    }
    tiny = scale_of(load_preset("tiny"), tables)
    assert (tiny.objects, tiny.object_shards, tiny.prompts, tiny.prompt_shards, tiny.held_out) == (3, 2, 2, 2, 1)


def test_twice_the_prompts_cost_twice_the_corpus_and_no_more_training():
    once, twice = (
        {each.work.asset: each for each in estimates(load_preset("nano"), scale, Rates.read())}
        for scale in (SMALL, replace(SMALL, prompts=2000))
    )
    for asset in ("synthetic_corpus", "quality_labels", "corpus_manifest"):
        assert twice[asset].hours == pytest.approx(2 * once[asset].hours)
        assert twice[asset].work.bytes == pytest.approx(2 * once[asset].work.bytes)
    for asset in ("rendered_views", "video_model", "lrm_pretrained", "lrm_finetuned"):
        assert twice[asset] == once[asset]


def test_rates_decide_hours_and_money():
    rates = Rates.read()
    dear = rates.model_copy(update={"cpu": rates.cpu.model_copy(update={"price": 2 * rates.cpu.price, "flops": 1e9})})
    before, after = (
        {each.work.asset: each for each in estimates(load_preset("nano"), SMALL, known)} for known in (rates, dear)
    )
    assert after["rendered_views"].cost == pytest.approx(2 * before["rendered_views"].cost)
    video = after["video_model"]
    assert video.hours == pytest.approx(video.work.amount / 1e9 / 3600)


def test_a_device_without_a_rate_is_refused():
    rates = Rates.read()
    blind = rates.model_copy(update={"cpu": rates.cpu.model_copy(update={"flops": None})})
    with pytest.raises(OrbitforgeError, match="no flops of a cpu; video_model needs them"):
        estimates(load_preset("nano"), SMALL, blind)


def test_a_file_without_rates_is_refused(tmp_path: Path):
    wrong = tmp_path / "rates.yaml"
    wrong.write_text(RATES.read_text().replace("price", "prize"))
    with pytest.raises(OrbitforgeError, match=f"{wrong} holds no rates .*prize"):
        Rates.read(wrong)


def test_the_papers_plan_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("ORBITFORGE_PRESET", "paper")
    plan_command(rates=None, measure=False, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert {row["asset"] for row in told["assets"]} >= {"rendered_views", "synthetic_corpus", "lrm_finetuned"}
    assert told["total"]["gpu_hours"] == pytest.approx(
        sum(row["hours"] for row in told["assets"] if row["device"] == "gpu")
    )
    assert told["total"]["files"] < 50_000


def test_the_branch_of_the_paper_has_all_its_assets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ORBITFORGE_PRESET", "paper")
    plan_command(rates=None, measure=False, as_json=True, job=FLEXIVIEW)
    told = json.loads(capsys.readouterr().out)
    rows = {row["asset"]: row for row in told["assets"]}
    assert set(rows) == {step.name for step in pipeline.current().steps if step.job == FLEXIVIEW}
    assert told["job"] == FLEXIVIEW
    assert rows["flexrm"]["bytes"] == 4 * 489_945_954
    assert rows["flexrm_evaluation"]["items"] == 18 * 200  # not of all that are held out
    plan_command(rates=None, measure=False, as_json=True)
    assert told["total"]["files"] + json.loads(capsys.readouterr().out)["total"]["files"] < 50_000


@pytest.mark.parametrize("name", [name for name in preset_names() if name != "paper"])
def test_every_preset_that_ships_plans_the_branch(name: str):
    assert all(each.hours > 0 and each.work.bytes > 0 for each in branch(load_preset(name)).values())


def test_twice_the_prompts_give_twice_the_candidates_and_no_more_training():
    nano = load_preset("nano")
    once, twice = branch(nano), branch(nano, replace(SMALL, prompts=2000))
    for asset in ("candidate_views", "curated_views", "curated_manifest"):
        assert twice[asset].hours == pytest.approx(2 * once[asset].hours)
        assert twice[asset].work.bytes == pytest.approx(2 * once[asset].work.bytes)
    for asset in ("ring_views", "ring_manifest", "multiview_model", "flexrm", "flexrm_evaluation"):
        assert twice[asset] == once[asset]


def test_candidates_are_those_that_are_asked_for():
    nano = load_preset("nano")
    few = branch(changed(nano, candidates={"prompts": 250, "samples": 2}))["candidate_views"].work
    assert few.items == 500
    assert few.amount == pytest.approx(branch(nano)["candidate_views"].work.amount / 2)


def test_twice_the_steps_cost_twice_the_training():
    nano = load_preset("nano")
    flexrm = {name: getattr(nano.flexrm, name) for name in ("volume", "gaussians")}
    more = changed(
        nano,
        flexrm={name: part.model_copy(update={"steps": 2 * part.steps}) for name, part in flexrm.items()},
        multiview={"training": nano.multiview.training.model_copy(update={"steps": 2 * nano.multiview.training.steps})},
    )
    once, twice = branch(nano), branch(more)
    for asset in ("multiview_model", "flexrm"):
        assert twice[asset].hours == pytest.approx(2 * once[asset].hours)
    assert twice["flexrm_evaluation"] == once["flexrm_evaluation"]


def test_views_and_imperfect_inputs_cost_training():
    nano = load_preset("nano")
    one = changed(nano, flexrm={"draws": nano.flexrm.draws.model_copy(update={"most": 1})})
    clean = changed(nano, flexrm={"imperfect": nano.flexrm.imperfect.model_copy(update={"share": 0.0})})
    amounts = [branch(each)["flexrm"].work.amount for each in (one, clean, nano)]
    assert amounts[0] < amounts[1] < amounts[2]


def test_input_views_are_planned_as_they_are_drawn():
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(draw_count(16, generator) for _ in range(20_000))
    odds = input_views(16)
    assert sum(odds) == pytest.approx(1)
    assert [drawn[count] / 20_000 for count in range(1, 17)] == pytest.approx(odds, abs=0.015)


def test_loftr_costs_what_it_does():
    kornia = pytest.importorskip("kornia.feature")
    from torch.utils.flop_counter import FlopCounterMode

    machine, view = (
        kornia.LoFTR(pretrained=None).eval(),
        torch.zeros(1, 1, 64, 64),
    )  # of one colour: no match is refined
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        machine({"image0": view, "image1": view})
    assert counter.get_total_flops() == pytest.approx(LOFTR[0] * 64**2 + LOFTR[1] * 64**2, rel=1e-3)


def test_a_pipeline_of_unknown_shapes_is_refused():
    nano = load_preset("nano")
    with pytest.raises(OrbitforgeError, match=r"multiview.at is mine, and no shapes are told: .* multiview.backbone"):
        branch(changed(nano, multiview={"at": "mine"}))


def test_the_branch_is_measured_by_the_seconds_of_its_newest_rows():
    class Nano:
        """The pipeline of a preset whose tables have one shard, with no table here."""

        preset = load_preset("nano")

        def find(self, name: str) -> Step:
            return next(step for step in pipeline.current().steps if step.name == name)

        def shards(self, of: Step) -> tuple[str | None, ...]:
            return ("000",) if of.shards else (None,)

    class Newest:
        """Of a ledger in which every shard took 2 seconds, but that `flexrm` was not made."""

        pipeline = Nano()

        def newest(self, asset: str, shard: str | None) -> object:
            return None if asset == "flexrm" else type("Row", (), {"seconds": 2.0})

    found = measured(Newest(), SMALL, Rates.read(), FLEXIVIEW)  # pyright: ignore[reportArgumentType]
    work = branch(load_preset("nano"))["multiview_model"].work
    assert found["multiview_model"] == {"flops": pytest.approx(work.amount / 2)}
    assert "flexrm" not in found
    assert "curated_views" in found
