"""Plans are arithmetic on counted work: scale, rates and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from orchestration.cli.plan import plan_command
from orchestration.errors import OrbitforgeError
from orchestration.planning import RATES, Rates, Scale, estimates, scale_of
from orchestration.presets.schema import load_preset

SMALL = Scale(objects=100, object_shards=1, prompts=1000, prompt_shards=1, kept=0.5)


def test_a_preset_says_how_much_or_its_tables_do():
    paper = scale_of(load_preset("paper"), {})
    assert (paper.objects, paper.object_shards, paper.prompts, paper.prompt_shards) == (100_000, 1000, 4_000_000, 4000)
    tables = {
        "objects": pl.DataFrame({"shard": ["000", "000", "001"]}),
        "prompts": pl.DataFrame({"shard": ["p000", "p001"]}),
    }
    tiny = scale_of(load_preset("tiny"), tables)
    assert (tiny.objects, tiny.object_shards, tiny.prompts, tiny.prompt_shards) == (3, 2, 2, 2)


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
