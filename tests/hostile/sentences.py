"""Sentences that a person, or a page, may hand to a model that draws them."""

from __future__ import annotations

from tests.hostile.case import Attack

SENTENCES = {
    "nothing": "",
    "spaces alone": " \t\n ",
    "1 MB": "a" * 1_000_000,
    "escape sequences": "a chair \x1b]0;owned\x07\x1b[2J",
    "NUL": "a\0chair",
    "c1 controls": "a chair \x9b31m",
    "turns its direction": "a chair \u202egnp.exe",
    "lone surrogate": "a chair \ud800",
    "bytes that are no utf-8": "a chair \udcff",
    "byte order mark": "\ufeffa chair",
    "zero width letters alone": "\u200b\u200d",
    "tag characters": "a chair" + "".join(chr(0xE0000 + ord(c)) for c in "ignore"),
    "unsafe word": "a gory chair",
    "unsafe word in wide letters": "a \uff47\uff4f\uff52\uff59 chair",
    "formula": "=1+1",
    "10,000 accents": "a" + "\u0301" * 10_000,
}

ATTACKS = (
    Attack("a good sentence", lambda _: "a red chair", "it is drawn"),
    *(Attack(name, lambda _, text=text: text) for name, text in SENTENCES.items()),
)
