"""What the pipeline starts from: observed, never made."""

import dagster as dg

from orchestration import pipeline
from orchestration.assets.declare import PARTITIONS
from orchestration.steps import SOURCES, Source

DESCRIPTIONS = {
    "source_objects": "Meshes with caption, creator, licence and split; a shard's version is that of its rows.",
    "prompts": "What to imagine, each with its seed, licence and (until text-to-image stands) its training object.",
    "human_labels": "Verdicts of people on clips, with the judged clips copied in.",
}


def _observed(source: Source) -> dg.SourceAsset:
    def observe() -> dg.DataVersion | dg.DataVersionsByPartition:
        versions = pipeline.current().observe(source)
        if source.shards:
            return dg.DataVersionsByPartition({str(shard): version for shard, version in versions.items()})
        return dg.DataVersion(versions[None])

    return dg.observable_source_asset(
        name=source.name,
        group_name="sources",
        description=DESCRIPTIONS[source.name],
        partitions_def=PARTITIONS[source.shards] if source.shards else None,
        tags={"dagster/kind/parquet": ""},
    )(observe)


OBSERVED = [_observed(source) for source in SOURCES]
