"""The environment that pyproject.toml asks for: clashes that pip does not see."""

import dagster as dg
import pytest


def test_dagster_selects_by_string_beside_dvc():
    """DVC's hydra used to pin an ANTLR that broke every selection string (dagster #27487)."""
    import dvc.repo  # noqa: F401  (both must live in one process)

    @dg.asset
    def first() -> None: ...

    @dg.asset(deps=[first])
    def second() -> None: ...

    job = dg.define_asset_job("both", selection="+second")
    resolved = dg.Definitions(assets=[first, second], jobs=[job]).resolve_job_def("both")
    assert {key.to_user_string() for key in resolved.asset_layer.selected_asset_keys} == {"first", "second"}


def test_omegaconf_resolves_without_the_old_antlr():
    """The other side of the same pin."""
    import hydra  # noqa: F401
    from omegaconf import OmegaConf

    assert OmegaConf.create({"a": 1, "b": "${a}"}).b == 1


def test_torch_and_torchvision_are_a_pair():
    """A +cpu torch beside PyPI's torchvision has no operators, and breaks lightning with it."""
    torch = pytest.importorskip("torch")
    from torchvision.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0]


def test_telemetry_is_off(monkeypatch):
    import yaml

    from orchestration import home, telemetry

    for name in telemetry.SILENT:
        monkeypatch.delenv(name, raising=False)
    telemetry.silence()
    from dvc.analytics import is_enabled
    from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert not is_enabled()
    assert is_telemetry_disabled()
    assert HF_HUB_DISABLE_TELEMETRY or telemetry.SILENT["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert yaml.safe_load(home.TEMPLATE.read_text())["telemetry"] == {"enabled": False}
    with dg.instance_for_test(overrides=yaml.safe_load(home.TEMPLATE.read_text())) as instance:
        assert not instance.telemetry_enabled
