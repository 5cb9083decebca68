"""What a command says while another process holds what it needs."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console


def waits(console: Console, doing: str) -> Callable[[str], None]:
    """Tells who is `doing` it ("renders into FOLDER"), as `orchestration.locks.locked` wants it."""
    return lambda who: console.print(f"another process ({who}) {doing}; waiting for it", style="yellow")
