"""After a refactoring: new code that stands for old, because it gives the same bytes or a person vouches for it."""

from __future__ import annotations

from collections.abc import Iterator

from orchestration.errors import OrbitforgeError
from orchestration.lineage.again import Makes, differences, made_again, make_of
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import ACCEPTED, Ledger, Row, about
from orchestration.steps import Report, Step
from orchestration.tasks import name_of
from orchestration.versions import code_modules

BYTES, PERSON = "bytes", "person"
"""What proved it: a shard that came out the same, or somebody's word."""


def accept(
    current: Current, step: Step, *, reason: str, by: str, report: Report, makes: Makes = make_of
) -> Iterator[Row]:
    """Record that the code of now stands for each older code whose artifacts are stale because of it alone.

    Of shards and tables one is made again for each older code, the smallest; its bytes must be equal. A model is taken
    on the word of `by`: to train it again would be to make it. Raises OrbitforgeError when nothing is stale by its
    code alone, and when bytes differ; nothing is recorded then.
    """
    rows = list(_candidates(current, step))
    if not rows:
        raise OrbitforgeError(
            f"nothing of {step.name} is stale because of its code alone; `orbitforge status --why` says what is stale"
        )
    proofs = {row.code: row for row in sorted(rows, key=lambda row: row.bytes, reverse=True)}
    code = current.wanted(step, rows[0].shard).code
    if step.kind != "model":
        for row in proofs.values():
            _prove(current, row, code, report, makes)
    for row in proofs.values():
        accepted = about(
            row,
            ACCEPTED,
            code=code,
            code_modules=code_modules(step.code),
            config_hash=row.config_hash,
            service=PERSON if step.kind == "model" else BYTES,
            reference=reason,
            by=by,
        )
        Ledger().append(accepted)
        yield accepted


def _candidates(current: Current, step: Step) -> Iterator[Row]:
    """The newest rows that differ from what is wanted by their code and nothing else."""
    for shard in current.pipeline.shards(step):
        newest, wanted = current.newest(step.name, shard), current.wanted(step, shard)
        if newest is None or newest.key in wanted.keys or wanted.absent:
            continue
        row = current.row(step.name, shard)
        assert row is not None
        read = [(input_.asset, input_.shard, input_.version) for input_ in row.inputs]
        wants = [(input_.asset, input_.shard, input_.version) for input_ in wanted.inputs]
        if row.config_hash == wanted.config_hash and read == wants:
            yield row


def _prove(current: Current, row: Row, code: str, report: Report, makes: Makes) -> None:
    name = name_of(row.asset, row.shard)
    if differ := differences(row, made_again(current, row, code, report, makes)):
        path, (then, now_) = next(iter(differ.items()))
        raise OrbitforgeError(
            f"{name} comes out different: {len(differ)} of {len(row.files)} files, first {path} (was {then}, is "
            f"{now_}); the new code is another version: run what is stale"
        )
