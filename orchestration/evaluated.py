"""After an evaluation is committed: MLflow shows its means beside the models. It may be away: the table is what counts.

Tags and metrics are named `evaluation/<protocol>/<metric>`; telling twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import polars as pl

from orchestration import paths
from orchestration.lineage.current import Current
from orchestration.resources.tracking import Tracking

if TYPE_CHECKING:
    from orchestration.pipeline import Pipeline


def tell_mlflow(pipeline: Pipeline, asset: str, models: Iterable[str], warn: Callable[[str], object]) -> None:
    """Write the means of the newest `asset` to the runs and versions of the `models` that it was made of; `warn` hears
    why that did not work."""
    try:
        current = Current(pipeline)
        row = current.row(asset, None)
        if row is None:
            return
        folder = paths.data() / row.folder
        means = pl.read_parquet(folder / "means.parquet")
        protocol = json.loads((folder / "protocol.json").read_text())["name"]
        evaluated = [(i.asset, i.row) for i in row.inputs if i.asset in set(models)]
        found = {each.id: each for each in current.rows_of_ids(id_ for _, id_ in evaluated)}
        tracking = Tracking()
        tracking.check()
        for name, id_ in evaluated:
            if (model := found.get(id_)) is None:
                continue
            own = means.filter(pl.col("model") == name).drop_nulls("mean")
            figures = {f"evaluation/{protocol}/{metric}": mean for metric, mean in own.select("metric", "mean").rows()}
            tracking.describe(f"{model.preset}-{model.asset}", model.version, model.mlflow_run, figures)
            if model.mlflow_run:
                tracking.log_table(model.mlflow_run, _table(means), f"evaluation/{protocol}.md")
    except Exception as error:  # whatever a server does, the table stays
        warn(f"MLflow was not told of {asset}: {' '.join(str(error).split())}; the table is in data/ all the same")


def _table(means: pl.DataFrame) -> str:
    from orchestration.assets.previews import markdown, wide

    return markdown(wide(means)) + "\n"
