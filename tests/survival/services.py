"""What MLflow and Dagster hold of the project here, as JSON: `python -m tests.survival.services`."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any


def held() -> dict[str, Any]:
    from mlflow import MlflowClient

    from orchestration import pipeline
    from orchestration.home import open_instance
    from orchestration.publish import known_tags
    from orchestration.resources.tracking import Tracking
    from orchestration.steps import ROW_TAG

    client = MlflowClient(Tracking().tracking_uri)
    models: Counter[str] = Counter()
    for model in client.search_registered_models():
        versions = client.search_model_versions(f"name='{model.name}'")
        models.update(version.tags.get("ledger.row", "") for version in versions)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    trainings = Counter(run.info.status for run in client.search_runs(experiments))
    with open_instance() as instance:
        events = {
            step.name: {shard or "": tags.get(ROW_TAG) for shard, tags in known_tags(instance, step.name).items()}
            for step in pipeline.current().steps
        }
        alive = [run.run_id for run in instance.get_runs() if not run.is_finished]
    return {"models": models, "trainings": trainings, "events": events, "alive": alive}


if __name__ == "__main__":
    logging.disable()
    print(json.dumps(held()))
