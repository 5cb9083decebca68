"""What the pipeline starts from: observed, never made."""

from collections.abc import Iterator

import dagster as dg

from orchestration import pipeline
from orchestration.assets.declare import OWNERS, PARTITIONS
from orchestration.observe import observation
from orchestration.publish import NO_EVENT_OF_ITS_OWN
from orchestration.steps import SOURCES, Source

DESCRIPTIONS = {
    "source_objects": "Meshes with caption, creator, licence and split; a shard's version is that of its rows.",
    "prompts": "What to imagine, each with its seed and licence and, where its first frame is a render, its object.",
    "human_labels": "Verdicts of people on clips, with the judged clips copied in.",
}


def _observed(source: Source) -> dg.AssetsDefinition:
    spec = dg.AssetSpec(
        source.name,
        group_name="sources",
        description=DESCRIPTIONS[source.name],
        kinds={"parquet"},
        owners=OWNERS,
        partitions_def=PARTITIONS[source.shards] if source.shards else None,
    )

    @dg.multi_observable_source_asset(specs=[spec], name=f"observe_{source.name}")
    def observe(context: dg.AssetExecutionContext) -> Iterator[dg.ObserveResult]:
        for shard, version in pipeline.current().observe(source).items():
            context.log_event(observation(source, shard, version))
        yield dg.ObserveResult(asset_key=source.name, metadata=dict(NO_EVENT_OF_ITS_OWN))

    return observe


OBSERVED = [_observed(source) for source in SOURCES]
