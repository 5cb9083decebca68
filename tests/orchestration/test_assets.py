"""The asset modules: their steps, their stages, and the checks on what the stages wrote."""

import importlib
import inspect
import pickle
import pkgutil
from dataclasses import replace

import dagster as dg
import numpy as np
import polars as pl
import pytest
from PIL import Image

from orchestration import assets, pipeline
from orchestration.assets import corpus_manifest, previews
from orchestration.assets.checks import (
    better_than_repeating,
    every_sample_accounted_for,
    few_quarantined,
    loss_is_finite,
    orbits,
)
from orchestration.lineage.ledger import Ledger, Row
from orchestration.steps import Step, Work
from orchestration.versions import code_modules
from orchestration.workspace import store
from stages.shards import Sample, write_shard

MODULES = [
    importlib.import_module(f"{assets.__name__}.{found.name}") for found in pkgutil.iter_modules(assets.__path__)
]
STEPS = [module for module in MODULES if isinstance(getattr(module, "STEP", None), Step)]
CAMERAS = {"cameras": [[0.0] * 16] * 2}
STEP = Step("views", ("source_objects",), ("rendering",), ("stages.shards",), "toy", "shards", shards="objects")


@pytest.mark.parametrize("module", STEPS, ids=lambda module: module.STEP.name)
def test_a_module_holds_one_step_and_its_stage(module):
    """The name of the module is that of the asset; what `make` imports is what the code version covers."""
    step = module.STEP
    assert module.__name__.rpartition(".")[2] == step.name
    assert pickle.loads(pickle.dumps(module.make)) is module.make
    source = inspect.getsource(module.make)
    imported = {line.split()[1] for line in source.splitlines() if line.strip().startswith("from stages")}
    assert imported == set(step.code)
    assert all(section in str(pipeline.current().preset.resolved(*step.config)) for section in step.config)
    for name in (*step.reads, *step.files):
        assert f'inputs["{name}"]' in source, f"{step.name} reads {name} but never opens it"


def test_stages_do_not_lean_on_orchestration():
    for module in STEPS:
        assert not [name for name in code_modules(module.STEP.code) if name.startswith("orchestration")]


# checks


@pytest.fixture
def checked(world, monkeypatch):
    """The toy world as the current pipeline, with one sharded step."""
    world.pipeline = replace(world.pipeline, steps=(STEP,))
    monkeypatch.setattr(pipeline, "current", lambda: world.pipeline)
    return world


def shard(world, name: str, ids: list[str], quarantined: dict[str, str | None], *, blank: bool = False) -> None:
    folder = world.data / STEP.folder("toy", name)
    folder.mkdir(parents=True)
    pictures = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 4), dtype=np.uint8)
    if blank:
        pictures = np.full_like(pictures, 255)
    write_shard(folder / "views.tar", [Sample(f"{id_}-0", pictures, CAMERAS | {"object": id_}) for id_ in ids])
    rows = {"id": list(quarantined), "reason": list(quarantined.values())}
    pl.DataFrame(rows, schema={"id": pl.String, "reason": pl.String}).write_parquet(folder / "quarantine.parquet")


def verdict(check: dg.AssetChecksDefinition) -> dg.AssetCheckResult:
    return check.op.compute_fn.decorated_fn()  # pyright: ignore[reportAttributeAccessIssue]


def test_every_sample_is_there_or_quarantined(checked):
    shard(checked, "000", ["ape"], {"bee": "no triangles"})
    result = verdict(every_sample_accounted_for(STEP, "views.tar", row="object"))
    assert result.passed, result.description
    assert result.metadata["quarantined"].value == 1


@pytest.mark.parametrize("quarantined", [{}, {"bee": None}], ids=["lost", "without a reason"])
def test_a_lost_sample_is_named(checked, quarantined):
    shard(checked, "000", ["ape"], quarantined)
    result = verdict(every_sample_accounted_for(STEP, "views.tar", row="object"))
    assert not result.passed
    assert "000: bee is neither there nor quarantined" in result.description


def test_a_blank_picture_is_named(checked):
    shard(checked, "000", ["ape", "bee"], {}, blank=True)
    result = verdict(every_sample_accounted_for(STEP, "views.tar", row="object"))
    assert "000: ape-0 is blank" in result.description


@pytest.mark.parametrize(("at_most", "passed"), [(0.1, False), (0.5, True)])
def test_the_quarantined_are_counted_by_reason_against_a_threshold(checked, at_most, passed):
    shard(checked, "000", ["ape"], {"bee": "no faces"})
    result = verdict(few_quarantined(STEP, at_most))
    assert result.passed is passed
    assert result.description == f"1 of {len(pipeline.current().table('objects'))} are quarantined: 1 no faces"
    assert result.metadata["reason: no faces"].value == 1


@pytest.mark.parametrize(
    ("values", "told"),
    [([1.0, 0.5], "all is well"), ([1.0, float("nan")], "loss is nan at step 1"), ([], "training.parquet is empty")],
)
def test_losses_are_numbers(checked, values, told):
    step = replace(STEP, name="model", shards=None)
    folder = checked.data / step.folder("toy")
    folder.mkdir(parents=True)
    rows = {"step": list(range(len(values))), "name": ["loss"] * len(values), "value": values}
    pl.DataFrame(rows, schema={"step": pl.Int64, "name": pl.String, "value": pl.Float64}).write_parquet(
        folder / "training.parquet"
    )
    result = verdict(loss_is_finite(step))
    assert told in result.description
    assert result.passed == (told == "all is well")


@pytest.mark.parametrize(
    ("judged", "before", "after", "passed", "severity"),
    [
        (20, 0.2, 0.8, True, "WARN"),
        (20, 0.2, 0.4, False, "WARN"),  # small models are soft
        (20, 0.9, 0.1, False, "ERROR"),  # fine-tuning broke it: nothing may be built on that
        (20, 0.6, 0.55, True, "WARN"),  # within chance
        (3, 1.0, 0.0, False, "WARN"),  # too few to say
    ],
)
def test_a_model_that_fine_tuning_turned_from_orbiting_blocks(checked, judged, before, after, passed, severity):
    step = replace(STEP, name="model", shards=None)
    folder = checked.data / step.folder("toy")
    folder.mkdir(parents=True)
    figures = {"loss": 1.0, "judge/judged": judged, "before/accepted": before, "after/accepted": after}
    rows = {"step": [0] * len(figures), "name": list(figures), "value": [float(value) for value in figures.values()]}
    pl.DataFrame(rows).write_parquet(folder / "training.parquet")
    result = verdict(orbits(step))
    assert result.passed is passed
    assert result.severity.value == severity
    assert f"of {judged} clips" in result.description
    assert f"| accepted | nan | {before:.3g} | {after:.3g} |" in result.metadata["figures"].value


@pytest.mark.parametrize(
    ("psnr", "iou", "passed"), [(18.2, 0.68, True), (16.1, 0.68, False), (18.2, 0.63, False), (None, None, False)]
)
def test_views_that_are_no_better_than_their_picture_are_told(checked, psnr, iou, passed):
    step = replace(STEP, name="model", shards=None)
    folder = checked.data / step.folder("toy")
    folder.mkdir(parents=True)
    figures = {"loss": 0.03}
    if psnr is not None:
        for split, more in (("train", 1.0), ("held-out", 0.0)):
            figures |= {f"{split}/psnr": psnr + more, f"{split}/psnr/6": 1.0, f"{split}/repeated": 16.2}
            figures |= {f"{split}/iou": iou, f"{split}/iou_repeated": 0.64}
    rows = {"step": [0] * len(figures), "name": list(figures), "value": list(figures.values())}
    pl.DataFrame(rows).write_parquet(folder / "training.parquet")
    result = verdict(better_than_repeating(step))
    assert result.passed is passed
    assert result.severity.value == "WARN"
    if psnr is not None:
        assert f"held-out: {psnr:.1f} dB (repeated 16.2), IoU {iou:.2f} (0.64)" in result.description


# previews


@pytest.fixture
def work(tmp_path) -> Work:
    (tmp_path / "output").mkdir()
    where = {"inputs": {}, "output": tmp_path / "output", "scratch": tmp_path / "scratch"}
    return Work("toy", None, preset=pipeline.current().preset, seed=0, report=lambda _: None, **where)


def test_a_contact_sheet_shows_the_first_samples(work):
    pictures = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 4), dtype=np.uint8)
    write_shard(work.output / "views.tar", [Sample(f"s{n:02d}", pictures, CAMERAS) for n in range(11)])
    previews.contact_sheet(work, "views.tar")
    sheet = Image.open(work.scratch / "preview" / "views.png")
    assert sheet.size == (previews.VIEWS * previews.SIDE, previews.SAMPLES * previews.SIDE)
    assert np.asarray(sheet)[-previews.SIDE :, -previews.SIDE :].std() > 0


def test_an_overview_reasons_and_histograms_are_shown(work):
    pictures = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 4), dtype=np.uint8)
    write_shard(work.output / "views.tar", [Sample(f"s{n:02d}", pictures, CAMERAS) for n in range(13)])
    previews.all_objects(work, "views.tar")
    folder = work.scratch / "preview"
    assert Image.open(folder / "views_overview.png").size == (12 * 96, 2 * 96)
    pl.DataFrame({"id": ["bee"], "reason": ["no faces"], "error": ["points"]}).write_parquet(
        work.output / "quarantine.parquet"
    )
    previews.reasons(work)
    assert "| bee | no faces | points |" in (folder / "quarantined.md").read_text()
    previews.histograms(work, pl.DataFrame({"elevation": [1.0, None, 30.0]}), {"elevation": "degrees"})
    assert np.asarray(Image.open(folder / "histograms.png")).std() > 0


def test_curves_and_figures_of_a_training(work):
    rows = [(step, "loss", 1 / (step + 1)) for step in range(5)] + [(5, "held_out", 0.25)]
    curve = pl.DataFrame(rows, schema=["step", "name", "value"], orient="row")
    (work.output / "video").mkdir()
    curve.write_parquet(work.output / "video" / "training.parquet")
    previews.loss_curves(work)
    folder = work.scratch / "preview"
    assert Image.open(folder / "video_training.png").size[0] > 300
    assert "| held_out | 0.25 |" in (folder / "video_training_figures.md").read_text()


def test_best_borderline_and_worst_clips_are_shown(work):
    clips = work.output / "p000"
    clips.mkdir()
    colours = {"a": 250, "b": 120, "c": 10}
    views = {id_: np.full((8, 8, 8, 4), (*[value] * 3, 255), dtype=np.uint8) for id_, value in colours.items()}
    write_shard(
        clips / "clips.tar", [Sample(id_, pixels, {"cameras": [[0.0] * 16] * 8}) for id_, pixels in views.items()]
    )
    same = {"threshold": [0.5] * 4, "shard": ["p000"] * 4, "clips_path": ["p000/clips.tar"] * 4, "caption": [""] * 4}
    facts = {
        "id": ["a", "b", "c", "lost"],
        "score": [0.9, 0.45, 0.1, None],
        "reason": ["r"] * 4,
        "elevation": [1.0] * 4,
    }
    previews.clips_by_score(work, pl.DataFrame(facts | same), work.output, thumbs=1)
    folder = work.scratch / "preview"
    for name, id_ in {"best": "a", "borderline": "b", "worst": "c"}.items():
        picture = np.asarray(Image.open(folder / f"{name}.png"))
        assert picture.shape == (previews.SIDE, previews.VIEWS * previews.SIDE, 3)
        assert (picture == colours[id_]).all(), name
        assert f"| {id_} |" in (folder / f"{name}_clips.md").read_text()


def test_rates_of_a_classifier(work):
    at = [0.0, 0.5, 1.0]
    rows = [(f"curve.{name}", x, 1 - x) for name in ("precision", "recall", "false_positives") for x in at]
    rows += [("threshold", None, 0.4), ("roc_auc", None, 0.9)]
    report = pl.DataFrame(rows, schema=["name", "at", "value"], orient="row").with_columns(note=pl.lit(""))
    previews.rates(work, report)
    assert Image.open(work.scratch / "preview" / "rates.png").size[0] > 300
    assert "| roc_auc | 0.9 |" in (work.scratch / "preview" / "report.md").read_text()


# drift of the corpus


def manifest(world, scores: list[float], ended: str) -> Row:
    """A version of the corpus in cache and ledger."""
    folder = world.root / "made"
    folder.mkdir(exist_ok=True)
    count = len(scores)
    verdicts = ["accepted" if score >= 0.5 else "rejected" for score in scores]
    table = {"id": [f"p{k}" for k in range(count)], "object": ["ape", "bee"] * (count // 2), "verdict": verdicts}
    pl.DataFrame(table | {"score": scores, "elevation": [20.0] * count}).write_parquet(folder / "manifest.parquet")
    files = store(folder)
    row = Row("made", "toy", "corpus_manifest", folder="toy/corpus_manifest", version=ended, files=files, ended=ended)
    Ledger().append(row)
    return row


def test_drift_is_told_against_the_version_before(world, monkeypatch):
    step = Step("corpus_manifest", ("prompts",), (), ("toy.helper",), "toy", "table")
    world.pipeline = replace(world.pipeline, steps=(step,))
    monkeypatch.setattr(pipeline, "current", lambda: world.pipeline)
    drift = corpus_manifest.drift
    manifest(world, [0.2] * 10 + [0.7] * 30, "1")
    assert verdict(drift).description == "there is no version before this one"
    manifest(world, [0.2] * 12 + [0.7] * 28, "2")
    assert verdict(drift).passed
    manifest(world, [0.2] * 30 + [0.7] * 10, "3")
    result = verdict(drift)
    assert not result.passed
    assert "kept share 0.7 -> 0.25" in result.description
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert "| kept share | toy |" in result.metadata["drift"].value
