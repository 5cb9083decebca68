"""What a prompt must not be, and the one form in which prompts are kept.

    screened(table, config, unsafe, known=()) -> kept rows, refused rows with a reason

Text of any script is kept as it is, in Unicode's composed form (NFC) and without white space around it. Nothing is cut
and nothing is dropped: what is not kept is a row with its reason.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from stages import text as words
from stages.errors import InputError

UNSAFE = Path(__file__).with_name("unsafe.txt")
EMPTY, LONG, CONTROL, FORMULA, UNSAFE_WORD, DUPLICATE = (
    "empty", "too long", "control characters", "formula", "unsafe word", "duplicate"
)  # fmt: skip
REASONS = (EMPTY, LONG, CONTROL, FORMULA, UNSAFE_WORD, DUPLICATE)
"""In the order of asking; the first that holds is the row's."""

_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Letters of scripts that put no spaces between words."""


class ScreenConfig(BaseModel):
    """Limits of a prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    longest: int = Field(400, ge=1, description="characters")


def screened(
    table: pl.DataFrame, config: ScreenConfig, unsafe: Iterable[str], known: Iterable[str] = ()
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part the rows of `table` by their `text`: those kept, with `text` in its form and its `key`, and those refused,
    with `reason` and `detail`.

    Two prompts with one key are duplicates; the first is kept, and none whose key is among `known`.
    """
    text = pl.col("text").fill_null("").str.strip_chars().str.normalize("NFC")
    table = table.with_columns(text=text)
    table = table.with_columns(key=key_of(pl.col("text")), _length=pl.col("text").str.len_chars())
    told = [pl.col(name) for name in ("source", "licence", "creator") if name in table.columns]
    steering = pl.any_horizontal(each.str.contains(words.STEERING) for each in (pl.col("text"), *told))
    endless = pl.any_horizontal(False, *(each.str.len_chars() > words.LONGEST for each in told))
    harmful = _pattern(unsafe)
    found = _folded(pl.col("text")).str.extract(harmful, 1) if harmful else pl.lit(None, pl.String)
    table = table.with_columns(
        reason=pl.when(pl.col("key").str.replace_all(r"[\p{Cf}\s]", "") == "")
        .then(pl.lit(EMPTY))
        .when((pl.col("_length") > config.longest) | endless.fill_null(False))
        .then(pl.lit(LONG))
        .when(steering.fill_null(False))
        .then(pl.lit(CONTROL))
        .when(pl.col("text").str.slice(0, 1).is_in(words.FORMULA))
        .then(pl.lit(FORMULA))
        .when(found.is_not_null())
        .then(pl.lit(UNSAFE_WORD)),
        detail=found,
    )
    known = pl.Series("key", known, dtype=pl.String)
    fine = pl.col("reason").is_null()
    # refused rows do not make a duplicate of a good one: the first of the good ones is kept
    again = fine & ((~pl.struct("key", fine.alias("fine")).is_first_distinct()) | pl.col("key").is_in(known.implode()))
    table = table.with_columns(
        reason=pl.when(again).then(pl.lit(DUPLICATE)).otherwise("reason"),
        detail=pl.when(pl.col("reason") == LONG)
        .then(pl.format("{} characters, at most {}", "_length", pl.lit(config.longest)))
        .when(pl.col("reason") == UNSAFE_WORD)
        .then("detail"),
    ).drop("_length")
    kept = table.filter(pl.col("reason").is_null()).drop("reason", "detail")
    return kept, table.filter(pl.col("reason").is_not_null()).drop("key")


def key_of(text: pl.Expr) -> pl.Expr:
    """What two prompts have in common that say the same: letters of one case and width, single spaces."""
    return text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(" .!,;")


def read_unsafe(path: Path = UNSAFE) -> list[str]:
    """The words and phrases of a list, one a line; `#` starts a comment. Raises InputError when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no list of words that can be read: {' '.join(str(error).split())}") from None
    return [line for raw in lines if (line := raw.partition("#")[0].strip())]


def _folded(text: pl.Expr) -> pl.Expr:
    """Without case, accents, width, invisible letters and all that is no letter or digit; one space between words."""
    plain = text.str.normalize("NFKD").str.replace_all(r"[\p{M}\p{Cf}]", "").str.to_lowercase()
    return plain.str.replace_all(r"[^\p{L}\p{N}]+", " ")


def _pattern(words: Iterable[str]) -> str:
    """A regular expression that finds any of the words in folded text; "" without words."""
    folded = sorted({_folded_word(word) for word in words} - {""}, key=lambda word: (-len(word), word))
    spaced = "|".join(re.escape(word).replace("\\ ", " ") for word in folded if not _UNSPACED.search(word))
    joined = "|".join(re.escape(word) for word in folded if _UNSPACED.search(word))
    parts = [rf"\b(?:{spaced})\b"] if spaced else []
    parts += [joined] if joined else []
    return f"({'|'.join(parts)})" if parts else ""


def _folded_word(word: str) -> str:
    plain = "".join(
        letter for letter in unicodedata.normalize("NFKD", word) if unicodedata.category(letter)[0] != "M"
        and unicodedata.category(letter) != "Cf"
    )  # fmt: skip
    return " ".join(re.sub(r"[\W_]+", " ", plain.lower()).split())
