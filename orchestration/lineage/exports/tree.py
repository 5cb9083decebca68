"""The lineage as a tree for the terminal: the artifact on top, what it was made of below."""

from __future__ import annotations

from rich.markup import escape
from rich.tree import Tree

from orchestration.lineage.exports.words import (
    decision_words,
    labels_words,
    licence_words,
    made_by,
    objects_words,
    part_words,
    title,
)
from orchestration.lineage.record import Record


def tree(record: Record) -> Tree:
    """Each asset is opened once; where it occurs again it is only named."""
    parts = {part.asset: part for part in record.parts}
    above: dict[str, list[str]] = {}
    for read, reader in record.edges:
        above.setdefault(reader, []).append(read)
    opened: set[str] = set()

    def grow(branch: Tree, asset: str) -> None:
        if asset in opened:
            branch.add(f"{asset} [dim](above)[/]")
            return
        opened.add(asset)
        part = parts[asset]
        twig = branch.add(f"[bold]{asset}[/]  [dim]{escape(part_words(part))}[/]")
        if leaf := _leaf(record, asset):
            twig.add(escape(leaf))
        if part.row.service == "adopted":
            twig.add(escape(f"adopted: {part.row.reference}"))
        for name in above.get(asset, []):
            grow(twig, name)

    row = record.row
    root = Tree(f"[bold]{escape(title(row))}[/]  {row.version}")
    root.add(f"row {row.id}, made {escape(made_by(row))}")
    for asset, reference in record.published.items():
        if asset == row.id:
            root.add(f"registered as {escape(reference)}")
    libraries = ", ".join(f"{name} {version}" for name, version in row.environment.items() if name in _SHOWN)
    if libraries:
        root.add(f"with {escape(libraries)}")
    grow(root, row.asset)
    licences = root.add("[bold]licences[/]")
    for line in licence_words(record):
        licences.add(escape(line))
    if decisions := list(decision_words(record)):
        people = root.add("[bold]decisions[/]")
        for line in decisions:
            people.add(escape(line))
    return root


def _leaf(record: Record, asset: str) -> str:
    return {
        "source_objects": objects_words(record),
        "prompts": f"{len(record.prompts)} prompts",
        "human_labels": labels_words(record),
    }.get(asset, "")


_SHOWN = ("python", "platform", "torch", "lightning", "diffusers", "transformers", "threads")
