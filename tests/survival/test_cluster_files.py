"""The road to a cluster: its files by their own validators, Dagster on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from orchestration.definitions import defs
from orchestration.errors import OrbitforgeError
from orchestration.home import open_instance, prepare_home
from orchestration.resources.engines.config import EngineConfig
from orchestration.telemetry import SILENT
from orchestration.telling import tell
from tests.survival.databases import binaries, postgres

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    """What `kubectl kustomize` makes of the folder, or the files themselves where there is no kubectl."""
    if kubectl := shutil.which("kubectl"):
        text = subprocess.run([kubectl, "kustomize", str(DEPLOY)], check=True, capture_output=True, text=True).stdout
    else:
        named = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())["resources"]
        text = "\n---\n".join((DEPLOY / name).read_text() for name in named)
    return [document for document in yaml.safe_load_all(text) if document]


def pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in documents:
        spec, name = document.get("spec", {}), document["metadata"]["name"]
        if document["kind"] == "RayCluster":
            groups = [("head", spec["headGroupSpec"]), *((g["groupName"], g) for g in spec["workerGroupSpecs"])]
            yield from ((f"{name} {group}", template["template"]["spec"]) for group, template in groups)
        elif "template" in spec:
            yield f"{document['kind']} {name}", spec["template"]["spec"]


def test_manifests_are_valid(documents: list[dict[str, Any]]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for document in documents:
        if document["kind"] != "RayCluster":
            kubernetes_validate.validate(document, "1.31", strict=True)
    for name, spec in pods(documents):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
        kubernetes_validate.validate(pod, "1.31", strict=True)
        assert spec["securityContext"]["runAsNonRoot"], name
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name


def test_all_that_pods_are_configured_by_is_there(documents: list[dict[str, Any]]) -> None:
    names = {document["metadata"]["name"] for document in documents if document["kind"] == "ConfigMap"}
    if not names:
        pytest.skip("no kubectl, which makes them")
    for name, spec in pods(documents):
        told = json.dumps(spec)
        asked = set(re.findall(r'"configMap(?:Ref)?": \{[^}]*"name": "([^"]+)"', told))
        assert asked <= names, name


def test_all_that_runs_orbitforge_sees_one_project_folder(documents: list[dict[str, Any]]) -> None:
    for name, spec in pods(documents):
        if name == "Deployment mlflow":
            continue
        assert {"name": "project", "persistentVolumeClaim": {"claimName": "project"}} in spec["volumes"], name
        for container in spec["containers"]:
            assert {"name": "project", "mountPath": "/project"} in container["volumeMounts"], name
    (claim,) = (document for document in documents if document["kind"] == "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_ray_of_the_cluster_is_that_of_the_image(documents: list[dict[str, Any]]) -> None:
    (cluster,) = (document for document in documents if document["kind"] == "RayCluster")
    (pinned,) = re.findall(r"'ray\[default\]==([\d.]+)'", (DEPLOY / "Dockerfile").read_text())
    assert cluster["spec"]["rayVersion"] == pinned
    assert EngineConfig(name="ray").address is None  # RAY_ADDRESS, which Ray's jobs have


def test_the_image_is_silent_and_well_written() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for name, value in SILENT.items():
        assert f"{name}={value}" in text
    if hadolint := shutil.which("hadolint"):
        subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], check=True)


def test_a_configuration_that_is_named_takes_the_place_of_ours(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_home()
    ours = project / ".dagster" / "dagster.yaml"
    ours.write_text(ours.read_text() + "# edited by a person\n")
    before = ours.read_text()
    prepare_home()
    assert ours.read_text() == before
    named = project / "team.yaml"
    monkeypatch.setenv("ORBITFORGE_DAGSTER_YAML", str(named))
    with pytest.raises(OrbitforgeError, match=r"ORBITFORGE_DAGSTER_YAML=.*team\.yaml cannot be read"):
        prepare_home()
    assert ours.read_text() == before
    for text in ("telemetry: {enabled: false}\n", "telemetry: {enabled: false}\n# newer\n"):
        named.write_text(text)
        prepare_home()
        assert ours.read_text() == text
    assert os.listdir(ours.parent) == ["dagster.yaml"]  # noqa: PTH208


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    pytest.importorskip("dagster_postgres")
    if binaries() is None:
        pytest.skip("no PostgreSQL on this machine")
    # folders of pytest are root's alone, and PostgreSQL is another user there
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with postgres(Path(folder) / "server") as url:
            yield url


def test_dagster_keeps_what_it_knows_in_postgresql(
    project: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_ray")
    from dagster_postgres import PostgresEventLogStorage
    from dagster_ray import RayRunLauncher

    monkeypatch.setenv("ORBITFORGE_DAGSTER_YAML", str(DEPLOY / "dagster.yaml"))
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", f"{database}/dagster")
    monkeypatch.setenv("ORBITFORGE_RAY_JOBS", "http://127.0.0.1:8265")
    monkeypatch.setenv("DAGSTER_HOME", "unset")
    with open_instance() as instance:
        assert isinstance(instance.event_log_storage, PostgresEventLogStorage)
        assert isinstance(instance.run_launcher, RayRunLauncher)
        assert not instance.telemetry_enabled
        events = [dg.AssetMaterialization("views", partition=f"{number:03}") for number in range(40)]
        assert tell(instance, events) == 40
        assert len(instance.fetch_materializations(dg.AssetKey("views"), limit=100).records) == 40
    assert not list((project / ".dagster").rglob("*.db"))
    dg.Definitions.validate_loadable(defs)
