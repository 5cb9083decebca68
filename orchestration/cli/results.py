"""Where to find what a run made."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from orchestration import paths
from orchestration.pipeline import Pipeline
from orchestration.resources.tracking import Tracking

RESULTS = {
    "3D model": ("lrm_finetuned", "*.glb"),
    "turntable": ("lrm_finetuned", "*.mp4"),
    "metrics": ("lrm_finetuned", "metrics*"),
    "training curve": ("lrm_finetuned", "training.parquet"),
    "splats, mesh, video of FlexRM": ("flexrm", "*.[gpm]??"),
}


def print_results(console: Console, here: Pipeline) -> None:
    """Print the paths of the final model's exports, as far as they are there, and how to open the UIs."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, (asset, pattern) in RESULTS.items():
        folder = paths.data() / here.preset.name / asset
        for file in sorted(folder.glob(pattern)):
            table.add_row(name, str(file.relative_to(paths.root())))
    table.add_row("Dagster", "make ui, then http://127.0.0.1:3000")
    server = Tracking().tracking_uri
    table.add_row("MLflow", server if server.startswith("http") else "make ui, then http://127.0.0.1:5000")
    console.print(table)
