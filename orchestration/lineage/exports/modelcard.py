"""A Hugging Face model card: YAML front matter, and Markdown that a person reads."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from orchestration.lineage.exports.mermaid import mermaid
from orchestration.lineage.exports.words import (
    decision_words,
    in_markdown,
    labels_words,
    licence_words,
    made_by,
    objects_words,
    part_words,
    title,
)
from orchestration.lineage.licences import UNKNOWN
from orchestration.lineage.record import Record

PIPELINES = {"lrm": "image-to-3d", "video_model": "image-to-video"}
SHOWN_CREATORS = 40


def model_card(record: Record) -> str:
    """The card, ready to be the README.md of a model repository."""
    row = record.row
    front = yaml.safe_dump(_front_matter(record), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n# {title(row)}\n\n{summary(record)}\n{_body(record)}"


def summary(record: Record) -> str:
    """A short Markdown text: what it is, where it came from, under which licences."""
    row = record.row
    lines = [
        f"Version `{row.version}`, ledger row `{row.id}`, made {made_by(row)}.",
        in_markdown(f"Made of {objects_words(record)}, {len(record.prompts)} prompts and {labels_words(record)}."),
        "",
        *(f"- {in_markdown(line)}" for line in licence_words(record)),
    ]
    decisions = [f"- {in_markdown(line)}" for line in decision_words(record)]
    return "\n".join([*lines, *(["", "Decisions:", "", *decisions] if decisions else [])]) + "\n"


def _front_matter(record: Record) -> dict[str, object]:
    row = record.row
    licences = [licence for licence in record.licences if licence != UNKNOWN]
    front: dict[str, object] = {
        "license": licences[0].lower() if len(record.licences) == 1 and licences else "other",
        "library_name": "orbitforge",
        "tags": ["3d", "orbitforge", row.asset.replace("_", "-")],
    }
    if pipeline := next((tag for name, tag in PIPELINES.items() if row.asset.startswith(name)), None):
        front["pipeline_tag"] = pipeline
    if len(record.licences) > 1:
        front["license_name"] = "; ".join(record.licences)
    if row.metrics:
        front["model-index"] = [
            {
                "name": title(row),
                "results": [
                    {
                        "task": {"type": front.get("pipeline_tag", "other")},
                        "dataset": {"name": f"{row.preset} held-out objects", "type": "orbitforge"},
                        "metrics": [{"type": name, "value": value} for name, value in sorted(row.metrics.items())],
                    }
                ],
            }
        ]
    return front


def _body(record: Record) -> str:
    return "\n".join(
        [
            *("", "## Lineage", "", "```mermaid", mermaid(record).rstrip(), "```", ""),
            *("| asset | what |", "|---|---|"),
            *(f"| `{part.asset}` | {part_words(part)} |" for part in record.parts),
            *_metrics(record),
            *("", "## Training data", "", *_creators(record)),
            *("", "## Reproduce", ""),
            f"    orbitforge reproduce {record.reference or record.row.id} --depth all",
            "",
            "Environment: "
            + ", ".join(f"{name} {version}" for name, version in sorted(record.row.environment.items()))
            + ".",
            "",
        ]
    )


def _metrics(record: Record) -> Iterator[str]:
    if record.row.metrics:
        yield from ("", "## Metrics", "", "| metric | value |", "|---|---|")
        yield from (f"| {name} | {value:.4g} |" for name, value in sorted(record.row.metrics.items()))


def _creators(record: Record) -> Iterator[str]:
    """Who made the objects, as licences that ask for attribution want it."""
    counts = record.objects.group_by("creator", "licence").len().sort("len", "creator", descending=[True, False])
    for creator, licence, count in counts.head(SHOWN_CREATORS).iter_rows():
        yield in_markdown(f"- {creator}: {count} object{'s' if count > 1 else ''}, {licence}")
    if len(counts) > SHOWN_CREATORS:
        yield f"- and {len(counts) - SHOWN_CREATORS} more: `orbitforge lineage {record.row.id} --json` lists them"
