"""`orbitforge import-weights`: the row says whence and under which licence, the other parts stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from models.svd import StableVideo
from models.video import load_video
from orchestration.lineage.ledger import Ledger
from orchestration.lineage.licences import named_licence, spdx
from orchestration.presets.schema import load_preset
from tests.models.test_svd import TINY
from tests.orchestration.test_cli import invoke, project, refused, shipped  # noqa: F401

REPO, COMMIT = "someone/video", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def preset(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """One whose video model is a small Stable Video Diffusion; base_models holds another part."""
    shipped(project)
    path = project / "svd.yaml"
    path.write_text(yaml.safe_dump({"extends": "tiny", "base": {"video": {"video": TINY.model_dump(mode="json")}}}))
    monkeypatch.setenv("ORBITFORGE_PRESET", str(path))
    load_preset.cache_clear()
    (project / "data/base_models/encoder").mkdir(parents=True)
    (project / "data/base_models/encoder/config.json").write_text("{}")
    return path


@pytest.fixture
def hub(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A hub cache with one repository; the snapshot's folder."""
    torch.manual_seed(0)
    home = project / "cache" / "models--someone--video"
    snapshot = home / "snapshots" / COMMIT
    StableVideo(TINY).save(snapshot)
    (snapshot / "README.md").write_text("---\nlicense: other\nlicense_name: some-community\n---\n")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(project / "cache"))
    return snapshot


def test_weights_of_the_hubs_cache_become_base_weights(preset: Path, hub: Path) -> None:
    result = invoke(
        "import-weights", f"hub:{REPO}", "--as", "video", "--reason", "quality scales with it", "--by", "Ada"
    )
    assert result.exit_code == 0, result.output
    data = preset.parent / "data"
    assert load_video(data / "base_models/video").config.family == "svd"
    assert (data / "base_models/encoder/config.json").read_text() == "{}"
    (row,) = (row for row in Ledger().read().to_dicts() if row["asset"] == "base_models")
    assert row["reference"] == f"video: hub:{REPO}@{COMMIT}, LicenseRef-some-community; quality scales with it"
    assert (row["service"], row["by"]) == ("adopted", "Ada")
    assert named_licence(row["reference"]) == "LicenseRef-some-community"
    arguments = ("import-weights", str(hub), "--as", "video", "--licence", "mit", "--reason", "again", "--by", "Ada")
    assert invoke(*arguments).exit_code == 0
    newest = Ledger().read().filter(asset="base_models")["reference"].to_list()[-1]
    assert newest == f"video: the folder {COMMIT}, MIT; again"


def test_what_cannot_be_taken_in_leaves_nothing(preset: Path, hub: Path) -> None:
    told = ("--as", "video", "--reason", "why", "--by", "Ada")
    assert "someone/other is not in the hub's cache; fetch it with `hf download someone/other`" in refused(
        "import-weights", "hub:someone/other", *told
    )
    assert "no folder" in refused("import-weights", str(preset.parent / "gone"), *told)
    (hub / "README.md").unlink()
    assert "names no licence" in refused("import-weights", str(hub), *told)
    told = (*told, "--licence", "MIT", "--preset", "tiny")
    assert "is a StableVideoDiffusionPipeline, the preset's" in refused("import-weights", str(hub), *told)
    assert not (preset.parent / "data/base_models/video").exists()
    assert not list((preset.parent / ".work").glob("import-weights*"))
    assert not [row for row in Ledger().read().to_dicts() if row["asset"] == "base_models"]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("mit", "MIT"),
        ("cc-by-nc-4.0", "CC-BY-NC-4.0"),
        ("bsd-3-clause", "BSD-3-Clause"),
        ("odbl-1.0", "ODbL-1.0"),
        ("gpl-3.0-only", "GPL-3.0-only"),
        ("openrail++", "openrail++"),
        ("CreativeML-OpenRAIL-M", "creativeml-openrail-m"),
        ("my own terms", "LicenseRef-my-own-terms"),
        ("LicenseRef-mine", "LicenseRef-mine"),
    ],
)
def test_licences_are_written_as_spdx_writes_them(said: str, written: str) -> None:
    assert spdx(said) == written
    assert named_licence(spdx(said)) == written
