"""Phrases that several exports share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from orchestration.lineage.ledger import OBSERVED, Row
from orchestration.lineage.record import Part, Record

_MARKS = re.compile(r"([\\`*\[\]<>|~&])")


def in_markdown(words: str) -> str:
    """What strangers wrote (names, licences, reasons) as text of one line: no HTML, links, tables or code."""
    return _MARKS.sub(r"\\\1", " ".join(words.split()))


def title(row: Row) -> str:
    name = f"{row.preset}/{row.asset}"
    return f"{name}[{row.shard}]" if row.shard else name


def part_words(part: Part) -> str:
    """`2 shards, 1.1 MB, 45 s, code d63883ce, config 05002713, seed 854554534851395339`."""
    row = part.row
    shards = f"{part.count} shards" if row.shard else f"version {row.version[:12]}"
    if row.kind == OBSERVED:
        return f"{shards}, observed {row.ended[:10]}"
    versions = [
        f"code {row.code[:8]}" + (f" and {part.codes - 1} other" if part.codes > 1 else ""),
        f"config {row.config_hash[:8]}" + (f" and {part.configs - 1} other" if part.configs > 1 else ""),
    ]
    seed = [f"seed {row.seed}"] if row.seed is not None else []
    return ", ".join([shards, f"{part.bytes / 1e6:,.1f} MB", f"{part.seconds:,.0f} s", *versions, *seed])


def made_by(row: Row) -> str:
    """Where and from which code."""
    commit = f"commit {row.git_commit[:12]}" if row.git_commit else "outside git"
    dirty = ", with uncommitted changes" if row.git_diff else ""
    return f"{row.ended[:19]} UTC on {row.host or 'an unknown machine'}, {commit}{dirty}"


def objects_words(record: Record) -> str:
    splits = Counter(record.objects["split"])
    creators = record.objects["creator"].n_unique()
    shown = ", ".join(f"{count} {split}" for split, count in splits.most_common())
    return f"{len(record.objects)} objects ({shown}) by {creators} creators"


def labels_words(record: Record) -> str:
    who = Counter(name.partition(":")[0] for name in record.labels["who"].drop_nulls())
    verdicts = Counter(record.labels["verdict"])
    given = ", ".join(f"{count} by {name}" for name, count in who.most_common())
    return f"{len(record.labels)} judged clips ({', '.join(f'{n} {v}' for v, n in verdicts.most_common())}; {given})"


def licence_words(record: Record) -> Iterator[str]:
    """One line for each licence: `CC0-1.0: 68 objects, 12 prompts, 274 labels`."""
    for licence, kinds in record.licences.items():
        counted = (f"{n} {kind}" if n == 1 or kind.endswith("s") else f"{n} {kind}s" for kind, n in kinds.items())
        yield f"{licence}: {', '.join(counted)}"


def decision_words(record: Record) -> Iterator[str]:
    """What people decided about it: adopted, accepted, promoted, withdrawn."""
    for row in record.adopted:
        yield f"{title(row)} was adopted: {row.reference}"
    for row in record.accepted:
        proof = "equal bytes" if row.service == "bytes" else "their word"
        yield f"{row.asset}: code {row.code[:8]} was accepted by {row.by} on {proof}: {row.reference}"
    for row in record.promoted:
        yield f"{title(row)} was promoted to {row.service} by {row.by} on {row.ended[:10]}: {row.reference}"
    for each in record.withdrawn:
        yield f"{each.id} was withdrawn by {each.by} on {each.at[:10]}: {each.reason}"
    for name in record.lost:
        yield f"{name} is not in the cache any more: its entries are not counted"
