"""What strangers wrote, on a terminal: letters alone, nothing that steers it."""

from __future__ import annotations

from rich import control

from stages.text import spelled_out


def printable(text: str) -> str:
    """The text with what would steer a terminal spelled out; line feeds stay."""
    return "\n".join(map(spelled_out, text.replace("\t", " ").split("\n")))


def tame() -> None:
    """Have rich leave out what steers a terminal of all that it prints; by itself it lets escape sequences through."""
    codes = (*range(0xA0), 0x61C, *range(0x200E, 0x2070), 0xFEFF)
    steering = {code: None for code in codes if code not in (9, 10) and spelled_out(chr(code)) != chr(code)}
    control._CONTROL_STRIP_TRANSLATE.update(steering)
