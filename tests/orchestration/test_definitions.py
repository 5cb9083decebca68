"""What Dagster is told: one look at every asset, job, check and sensor."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from orchestration import home, pipeline
from orchestration.definitions import defs
from orchestration.presets.schema import preset_names

ROOT = Path(__file__).parents[2]
GRAPH = defs.resolve_asset_graph()

# asset: group, shards, what it reads
SNAPSHOT = {
    "source_objects": ("sources", "objects", ""),
    "prompts": ("sources", "prompts", ""),
    "human_labels": ("sources", None, ""),
    "base_models": ("base", None, "source_objects"),
    "rendered_views": ("rendering", "objects", "source_objects"),
    "rendered_manifest": ("rendering", None, "rendered_views"),
    "video_model": ("video", None, "base_models rendered_manifest"),
    "synthetic_corpus": ("video", "prompts", "base_models prompts video_model"),
    "elevation_estimator": ("quality", None, "base_models rendered_manifest"),
    "quality_classifier": ("quality", None, "base_models human_labels"),
    "quality_labels": (
        "quality",
        "prompts",
        "base_models elevation_estimator quality_classifier synthetic_corpus",
    ),
    "corpus_manifest": ("quality", None, "quality_labels synthetic_corpus"),
    "lrm_pretrained": ("reconstruction", None, "base_models corpus_manifest"),
    "lrm_finetuned": ("reconstruction", None, "lrm_pretrained rendered_manifest"),
    "scaling_points": (
        "scaling",
        "points",
        "base_models corpus_manifest elevation_estimator prompts quality_classifier rendered_manifest",
    ),
    "scaling_trends": ("scaling", None, "scaling_points"),
    "ring_views": ("rings", "objects", "source_objects"),
    "ring_manifest": ("rings", None, "ring_views"),
    "multiview_model": ("candidates", None, "base_models ring_manifest"),
    "candidate_views": ("candidates", "prompts", "base_models multiview_model prompts video_model"),
    "curated_views": ("curation", "prompts", "base_models candidate_views quality_classifier"),
    "curated_manifest": ("curation", None, "curated_views"),
    "flexrm": ("flexiview", None, "base_models curated_manifest ring_manifest"),
    "flexrm_evaluation": ("flexiview", None, "base_models flexrm quality_classifier ring_manifest"),
    "evaluation": ("evaluation", None, "base_models lrm_finetuned lrm_pretrained rendered_manifest source_objects"),
}
CHECKED = {
    ("rendered_views", "every_sample_accounted_for"),
    ("rendered_views", "cameras_fit"),
    ("synthetic_corpus", "every_sample_accounted_for"),
    ("corpus_manifest", "share_of_accepted_clips"),
    ("curated_views", "every_candidate_accounted_for"),
    ("base_models", "loss_is_finite"),
    ("video_model", "loss_is_finite"),
    ("video_model", "orbits"),
    ("elevation_estimator", "loss_is_finite"),
    ("lrm_pretrained", "loss_is_finite"),
    ("lrm_finetuned", "loss_is_finite"),
    ("evaluation", "every_object_has_every_metric"),
    ("ring_views", "every_sample_accounted_for"),
    ("ring_views", "cameras_fit"),
    ("multiview_model", "loss_is_finite"),
    ("candidate_views", "every_sample_accounted_for"),
    ("flexrm", "loss_is_finite"),
}


def names(keys) -> set[str]:
    return {key.to_user_string() for key in keys}


def test_the_assets_are_these():
    seen = {}
    for key in GRAPH.get_all_asset_keys():
        node = GRAPH.get(key)
        partitions = node.partitions_def
        table = partitions.name.split("-")[-1] if isinstance(partitions, dg.DynamicPartitionsDefinition) else None
        table = "points" if isinstance(partitions, dg.StaticPartitionsDefinition) else table
        seen[key.to_user_string()] = (node.group_name, table, " ".join(sorted(names(node.parent_keys))))
    assert seen == SNAPSHOT


def test_every_asset_says_what_it_is_and_whose():
    for key in GRAPH.get_all_asset_keys():
        node = GRAPH.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert bool(node.code_version) == (node.group_name != "sources"), key


def test_blocking_checks_stand_where_bad_data_would_spread():
    blocking = {
        (key.asset_key.to_user_string(), key.name)
        for key in GRAPH.asset_check_keys
        if GRAPH.assets_def_for_key(key).get_spec_for_check_key(key).blocking
    }
    assert blocking == CHECKED


def test_there_is_a_job_for_each_group_and_one_for_the_chain():
    jobs = {job.name for job in defs.resolve_all_job_defs()} - {"__ASSET_JOB"}
    groups = {group for group, _, _ in SNAPSHOT.values()} - {"sources"}
    assert jobs == {"chain", "evaluation_group"} | groups - {"evaluation"}


def test_a_group_has_at_most_one_set_of_partitions():
    """Dagster refuses a job over two."""
    sets: dict[str, set[str]] = {}
    for step in pipeline.current().steps:
        sets.setdefault(step.group, set()).update({step.shards} - {None})
    assert all(len(tables) <= 1 for tables in sets.values()), sets


def test_what_fills_a_device_is_in_one_pool():
    pooled = {
        key.to_user_string() for key in GRAPH.executable_asset_keys if GRAPH.assets_def_for_key(key).op.pool == "device"
    }
    trained = {step.name for step in pipeline.current().steps if step.kind == "model"}
    assert pooled == trained | {"synthetic_corpus", "scaling_points", "candidate_views", "curated_views"}


def test_models_depend_on_manifests_never_on_shards():
    """Dagster stops checking an edge at 100 partitions."""
    steps = {step.name: step for step in pipeline.current().steps}
    for step in steps.values():
        if step.kind == "model" and step.job == "chain":
            assert not [name for name in step.reads if name in steps and steps[name].shards], step.name


def test_selections_are_understood():
    chosen = dg.AssetSelection.from_string('+key:"video_model"').resolve(GRAPH)
    assert names(chosen) == {"video_model", "base_models", "rendered_manifest", "rendered_views"}


@pytest.mark.parametrize("preset", preset_names())
def test_the_code_location_loads_with_every_preset(preset):
    code = "from orchestration.definitions import defs; print(defs.resolve_asset_graph().get_all_asset_keys() != set())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"ORBITFORGE_PRESET": preset, "PATH": ""},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("sample_data")
def test_the_daemon_registers_new_shards():
    from orchestration.sensors import source_tables

    with dg.instance_for_test() as instance:
        result = source_tables(dg.build_sensor_context(instance=instance))
        assert isinstance(result, dg.SensorResult)
        asked = {
            request.partitions_def_name: set(request.partition_keys)
            for request in result.dynamic_partitions_requests or []
        }
        assert asked["tiny-objects"] == {"000", "001", "002", "003"}
        assert {event.asset_key.to_user_string() for event in result.asset_events} == {
            "source_objects",
            "prompts",
            "human_labels",
        }


def test_the_instance_file_is_accepted(tmp_path, monkeypatch):
    (tmp_path / "workspace.yaml").touch()
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "")
    with home.open_instance() as instance:
        assert Path(instance.root_directory) == tmp_path / ".dagster"
        assert not instance.telemetry_enabled
        assert instance.run_retries_enabled
        assert not instance.run_retries_max_retries
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
