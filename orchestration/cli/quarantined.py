"""What every command that takes things in says of those it did not take."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console


def tell_quarantined(console: Console, counts: Mapping[str, int]) -> None:
    """One line a reason."""
    for reason, count in counts.items():
        console.print(f"quarantined {count}: {reason}", style="yellow", highlight=False)
