"""What a line of text from others must not hold."""

from __future__ import annotations

import re

LONGEST = 2000
"""Characters of a name, a caption, a source."""
STEERING = r"[\p{Cc}\p{Zl}\p{Zp}\x{200E}\x{200F}\x{061C}\x{202A}-\x{202E}\x{2066}-\x{2069}\x{FEFF}\x{E0000}-\x{E007F}]"
"""For polars: control characters, those that turn the direction of what follows, breaks of lines, and letters that
nobody sees; joiners, which scripts need, are none."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula."""
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)


def spelled_out(text: str) -> str:
    """The text with such characters as Python spells them."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def unfit(text: str) -> str | None:
    """Why the text is not taken, or None."""
    if len(text) > LONGEST:
        return f"too long: {len(text)} characters, at most {LONGEST}"
    if found := _STEERING.search(text):
        return f"control characters: {found[0]!a}"
    return None
