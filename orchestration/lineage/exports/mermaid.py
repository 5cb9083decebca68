"""The lineage as a Mermaid flowchart, which GitHub, GitLab and Dagster's Markdown show."""

from __future__ import annotations

from orchestration.lineage.exports.words import labels_words, objects_words
from orchestration.lineage.ledger import OBSERVED
from orchestration.lineage.record import Part, Record


def mermaid(record: Record) -> str:
    lines = ["flowchart TD"]
    for part in record.parts:
        text = "<br/>".join([part.asset, *map(_as_text, _facts(record, part))])
        left, right = (
            ('[("', '")]') if part.row.kind == OBSERVED else ('(["', '"])') if _is_root(record, part) else ('["', '"]')
        )
        lines.append(f"    {part.asset}{left}{text}{right}")
    lines += [f"    {read} --> {reader}" for read, reader in record.edges]
    return "\n".join(lines) + "\n"


def _as_text(words: str) -> str:
    """What strangers wrote, in a label: neither its end, nor HTML, nor an end of the block that holds the chart."""
    return "".join(f"#{ord(sign)};" if sign in '"<>&#`\n\r' else sign for sign in words)


def _facts(record: Record, part: Part) -> list[str]:
    if part.row.asset == "source_objects":
        return [objects_words(record)]
    if part.row.asset == "human_labels":
        return [labels_words(record)]
    if part.row.asset == "prompts":
        return [f"{len(record.prompts)} prompts"]
    return [f"{part.count} shards" if part.row.shard else part.row.version[:12]]


def _is_root(record: Record, part: Part) -> bool:
    return part.row.id == record.row.id
