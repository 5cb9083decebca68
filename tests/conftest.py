"""What tests of several packages share."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The data folder with what ships, fetched from the remote in the repository if nobody did so yet."""
    from orchestration import paths
    from orchestration.cli.sample import fetch_sample

    fetch_sample(Console(stderr=True))
    return paths.data()
