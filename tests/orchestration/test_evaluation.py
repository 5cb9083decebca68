"""The asset evaluation, its check, what MLflow is told, and the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import trimesh

from orchestration import paths, pipeline
from orchestration.assets import evaluation
from orchestration.assets.previews import wide
from orchestration.evaluated import tell_mlflow
from orchestration.lineage.ledger import Input
from orchestration.presets.schema import load_preset
from orchestration.resources.tracking import Tracking
from orchestration.steps import Work
from stages.rendering.manifest import write_manifest
from stages.rendering.views import render_shard
from tests.orchestration.test_cli import ROOT, invoke, refused
from tests.orchestration.test_reconstruct_command import young_model

SHAPES = {"box": (1.0, 0.6, 0.4), "beam": (1.0, 0.2, 0.2), "known": (1.0, 1.0, 1.0)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two held-out objects, rendered, two untrained models and the base encoder."""
    from models.checkpoints import save
    from models.config import EncoderConfig
    from models.encoder import Encoder

    root = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "workspace.yaml", root)
    rendering = {"size": 16, "supersampling": 1, "views": 4}
    preset = {
        "rendering": rendering,
        "evaluation": {"mesh": {"grid": 12, "texture": None}, "gallery": 1, "cost": False},
    }
    (root / "quick.yaml").write_text(json.dumps(preset))
    source, home = root / "data" / "source", root / "data" / "quick"
    (source / "meshes").mkdir(parents=True)
    rows = []
    for name, extents in SHAPES.items():
        trimesh.creation.box(extents).export(source / "meshes" / f"{name}.glb")
        rows.append(
            {"id": name, "shard": "000", "caption": f"a {name}", "category": "toy", "licence": "CC0-1.0"}
            | {"creator": "me", "split": "train" if name == "known" else "held-out", "file": f"meshes/{name}.glb"}
            | {"md5": "0" * 32, "faces": 12, "source": "here"}
        )
    objects = pl.DataFrame(rows)
    objects.write_parquet(source / "objects.parquet")
    (home / "rendered_views" / "000").mkdir(parents=True)
    (home / "rendered_manifest").mkdir()
    config = load_preset(str(root / "quick.yaml")).rendering
    render_shard(objects, source, home / "rendered_views" / "000", config, seed=0, report=lambda _: None)
    write_manifest(home / "rendered_views", home / "rendered_manifest")
    for name in ("lrm_finetuned", "lrm_pretrained"):
        young_model(home / name)
    encoder = EncoderConfig.model_validate(
        {"image_size": 16, "table_size": 16, "patch": 4, "width": 12, "layers": 1, "heads": 2}
    )
    save(Encoder(encoder), encoder, root / "data" / "base_models" / "encoder")
    return root


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORBITFORGE_ROOT", str(made))
    monkeypatch.setenv("ORBITFORGE_PRESET", str(made / "quick.yaml"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def evaluated(project: Path) -> Path:
    """The folder of the asset, made as a run does."""
    output = project / "data" / "quick" / "evaluation"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    home = project / "data" / "quick"
    inputs = {name: home / name for name in (*evaluation.STEP.reads, *evaluation.STEP.files)}
    inputs |= {"base_models": project / "data" / "base_models", "source_objects": project / "data" / "source"}
    told: list[dict[str, Any]] = []
    where = {"inputs": inputs, "output": output, "scratch": project / "scratch"}
    evaluation.make(Work("evaluation", None, preset=pipeline.current().preset, seed=0, report=told.append, **where))
    metrics = next(event["metrics"] for event in told if "metrics" in event)
    assert metrics["lrm_finetuned/iou"] > 0
    return output


def test_the_asset_writes_its_files_and_shows_them(project: Path, evaluated: Path) -> None:
    files = {path.relative_to(evaluated).as_posix() for path in evaluated.rglob("*") if path.is_file()}
    named = {"protocol.json", "table.parquet", "means.parquet", "comparisons.parquet", "gallery.json"}
    assert named < files
    assert {Path(file).suffix for file in files - named} == {".png", ".glb"}
    shown = project / "scratch" / "preview"
    assert "| lrm_finetuned |" in (shown / "means.md").read_text()
    assert "no weights" in (shown / "without_a_value.md").read_text()
    assert (shown / "gallery.png").is_file()
    table = wide(pl.read_parquet(evaluated / "means.parquet"))
    assert table["model"].to_list() == ["lrm_finetuned", "lrm_pretrained", "mean image", "copy of the input"]
    assert "seconds" not in table.columns


def verdict() -> Any:
    return evaluation.complete.op.compute_fn.decorated_fn()  # pyright: ignore[reportFunctionMemberAccess]


def test_the_check_misses_rows(evaluated: Path) -> None:
    assert verdict().passed, verdict().description
    assert verdict().description.startswith("2 objects, 4 methods")
    table = pl.read_parquet(evaluated / "table.parquet")
    whole = pl.col("model") == "lrm_finetuned"
    table.filter(~(whole & (pl.col("object") == "box") & (pl.col("metric") == "iou"))).write_parquet(
        evaluated / "table.parquet"
    )
    assert not verdict().passed
    assert verdict().description == "lrm_finetuned: iou has rows of 1 of 2 objects, 0 with neither value nor reason"
    table.filter(~(whole & (pl.col("metric") == "iou"))).write_parquet(evaluated / "table.parquet")
    assert "pairs" in verdict().description
    table.with_columns(reason=pl.lit(None, pl.String)).write_parquet(evaluated / "table.parquet")
    assert "with neither value nor reason" in verdict().description


def current(evaluated: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger as it would be: an evaluation of a registered model."""
    from types import SimpleNamespace

    model = SimpleNamespace(id="m", preset="quick", asset="lrm_finetuned", version="0" * 32, mlflow_run=None)
    tracking = Tracking()
    model.mlflow_run = tracking.start("quick-lrm_finetuned", parameters={}, tags={}, datasets={})
    tracking.register("quick-lrm_finetuned", project / "data" / "quick" / "lrm_finetuned", None, {"dvc.md5": "0" * 32})
    row = SimpleNamespace(folder="quick/evaluation", inputs=[Input("lrm_finetuned", None, "0" * 32, "m")])
    fake = SimpleNamespace(row=lambda *_: row, rows_of_ids=lambda ids: [model for id_ in ids if id_ == "m"])
    monkeypatch.setattr("orchestration.evaluated.Current", lambda _: fake)


def test_mlflow_shows_the_means_beside_the_model(
    project: Path, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current(evaluated, project, monkeypatch)
    warned: list[str] = []
    for _ in range(2):
        tell_mlflow(pipeline.current(), "evaluation", evaluation.MODELS, warned.append)
    assert warned == []
    protocol = json.loads((evaluated / "protocol.json").read_text())["name"]
    client = Tracking().client()
    tags = client.get_model_version("quick-lrm_finetuned", "1").tags
    assert float(tags[f"evaluation/{protocol}/iou"]) > 0
    run = client.search_runs([client.get_experiment_by_name("quick-lrm_finetuned").experiment_id])[0]  # pyright: ignore
    assert f"evaluation/{protocol}/psnr" in run.data.metrics
    assert [file.path for file in client.list_artifacts(run.info.run_id, "evaluation")] == [f"evaluation/{protocol}.md"]


def test_mlflow_that_is_away_loses_nothing(project: Path, evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current(evaluated, project, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    warned: list[str] = []
    tell_mlflow(pipeline.current(), "evaluation", evaluation.MODELS, warned.append)
    assert "cannot be reached" in warned[0]
    assert (evaluated / "table.parquet").is_file()


# the command


def test_the_command_prints_writes_and_compares(project: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = invoke("evaluate", "lrm_finetuned", "--against", "lrm_pretrained", "-o", str(output))
    assert result.exit_code == 0, result.output
    assert "held-out-" in result.stdout
    assert "foreground_psnr, dB" in result.stdout
    assert "against lrm_pretrained" in result.stdout
    assert "clip_image: no weights: evaluation.judges.clip names none" in result.stdout
    assert {"table.parquet", "means.parquet", "gallery.json"} < {path.name for path in output.iterdir()}
    assert not list(tmp_path.glob(".orbitforge-*"))
    assert "is there already" in refused("evaluate", "lrm_finetuned", "-o", str(output))


def test_other_models_stand_in_the_table(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    shutil.copy(project / "data" / "source" / "meshes" / "box.glb", folder)
    named = [str(folder), str(project / "data" / "quick" / "lrm_finetuned"), "lrm_finetuned"]
    result = invoke("evaluate", *named, "--against", "lrm_finetuned", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["protocol"]["id"] == "held-out"
    means = {(row["model"], row["metric"]): row for row in told["means"]}
    assert means["theirs", "iou"]["objects"] == means["theirs", "iou"]["failed"] == 1
    assert means["lrm_finetuned", "psnr"]["mean"] == means["lrm_finetuned-2", "psnr"]["mean"]
    assert {row["against"] for row in told["comparisons"]} == {"lrm_finetuned-2"}
    assert any("missing: theirs has no beam" in row["reason"] for row in told["failed"])


def test_pictures_of_anything_are_a_protocol(project: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.new("RGBA", (40, 40))
    picture.paste((10, 120, 200, 255), (10, 5, 30, 35))
    picture.save(tmp_path / "chair.png")
    result = invoke("evaluate", "lrm_finetuned", "--protocol", str(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["protocol"]["id"] == "pictures"
    assert {row["metric"] for row in told["means"]} == {"clip_image", "dino", "encoder_similarity"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("gone", "nothing lies at gone"),
        ("lrm_finetuned --protocol unseen", "no protocol 'unseen'; choose one of held-out, pictures, text"),
        ("lrm_finetuned --protocol pictures", "names no folder"),
        ("lrm_finetuned --protocol gone.yaml", "gone.yaml cannot be read"),
        ("lrm_finetuned --against gone", "nothing lies at gone"),
        ("lrm_finetuned --device warp", "no device 'warp' here"),
        ("data/source", "holds neither meshes"),
        ("mlflow:what", "write mlflow:NAME@ALIAS"),
    ],
)
def test_what_cannot_be_evaluated_is_named(project: Path, tmp_path: Path, arguments: str, words: str) -> None:
    assert words in refused("evaluate", *arguments.split(), "-o", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_project_without_renders_or_encoder_says_what_to_do(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(project, bare)
    monkeypatch.setenv("ORBITFORGE_ROOT", str(bare))
    shutil.rmtree(bare / "data" / "quick" / "rendered_manifest")
    assert "--select +rendered_manifest" in refused("evaluate", "lrm_finetuned")
    shutil.rmtree(paths.data() / "base_models")
    assert "holds no encoder" in refused("evaluate", "lrm_finetuned")
