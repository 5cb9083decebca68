"""Source data that nothing was made of yet."""

from __future__ import annotations

from orchestration.lineage.current import Current, Shard
from orchestration.pipeline import Pipeline
from orchestration.steps import Source


def unread(pipeline: Pipeline) -> list[tuple[str, str, Shard, str]]:
    """(asset, source, shard of the source, version) for each artifact of the chain that is behind its sources.

    Whether code or configuration changed since plays no part, nor does a table whose rows are the same.
    """
    current = Current(pipeline)
    found: list[tuple[str, str, Shard, str]] = []
    sources = {source.name for source in pipeline.sources}
    for step in pipeline.steps:
        if step.job != "chain" or not sources & set(step.reads):
            continue
        for shard in pipeline.shards(step):
            newest, wanted = current.newest(step.name, shard), current.wanted(step, shard)
            if newest and newest.key in wanted.keys:
                continue
            row = current.row(step.name, shard)
            made_of = {(i.asset, i.shard): i.version for i in row.inputs} if row else {}
            found += [
                (step.name, input_.asset, input_.shard, input_.version)
                for input_ in wanted.inputs
                if isinstance(pipeline.find(input_.asset), Source)
                and made_of.get((input_.asset, input_.shard)) != input_.version
            ]
    return found
