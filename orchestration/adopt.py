"""Taking in what was made elsewhere: public weights, or a training on another machine."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from orchestration import paths
from orchestration.artifacts import Common, row_of
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.lineage.current import Current
from orchestration.lineage.idle import working
from orchestration.lineage.ledger import Ledger, Row, now
from orchestration.pipeline import Pipeline
from orchestration.publish import Publisher
from orchestration.steps import Step
from orchestration.tasks import Done, plan
from orchestration.workspace import Scratch, changing_data, place, remove, store


def adopt(
    pipeline: Pipeline, step: Step, folder: Path, *, reason: str, seconds: float = 0.0, by: str | None = None
) -> Row:
    """Make a copy of `folder` the artifact of the unpartitioned `step`, on a person's word.

    The row says that it was adopted and why (`service`, `reference`), beside the inputs, code and config that stand
    now and that the person vouches for: it is fresh until one of them changes. `reason` should name where the files
    come from and under which licence. Raises OrbitforgeError when `folder` is empty or an input is missing.
    """
    if step.shards:
        raise OrbitforgeError(f"{step.name} is made of shards; only whole assets can be adopted")
    if not folder.is_dir():
        raise OrbitforgeError(f"{folder} is no folder; name the one that holds the files of {step.name}")
    current = Current(pipeline)
    with working(), Publisher() as publisher:
        task = plan(current, current.wanted(step), _never)
        current.write_seen()
        aside = Scratch.of(step.name, None, f"adopt-{task.key}").fresh("output")
        try:
            with plain_errors(f"copying {folder}"):
                shutil.copytree(folder, aside, dirs_exist_ok=True)
            done = Done(store(aside), now(), seconds, {})
        finally:
            remove(aside.parent)
        made = row_of(task, done, None, Common.of(step, pipeline.preset))
        row = replace(made, service="adopted", reference=reason, by=by)
        with changing_data():
            Ledger().append(row)
            place(paths.data() / row.folder, row.files)
        publisher.add(row)
    return row


def _never(_: object) -> None:
    raise AssertionError("what is adopted is not made")
