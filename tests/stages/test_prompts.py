"""Prompts: composed by weight and seed, screened with reasons, grown without moving what is there."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.errors import InputError
from stages.prompts.build import compose
from stages.prompts.screen import (
    CONTROL,
    DUPLICATE,
    EMPTY,
    FORMULA,
    LONG,
    REASONS,
    UNSAFE_WORD,
    ScreenConfig,
    read_unsafe,
    screened,
)
from stages.prompts.table import SCHEMA, grown, keys, read_prompts, read_texts
from stages.prompts.vocabulary import Vocabulary, read_vocabulary, with_articles
from stages.tables import write_table

CONFIG = ScreenConfig(longest=50)
EMPTY_TABLE = pl.DataFrame(schema=SCHEMA)


def screen(*texts: str | None, unsafe: tuple[str, ...] = ("nude", "severed head", "裸体")) -> dict[str | None, str]:
    """Text -> "kept" or the reason; refused rows keep their text as well."""
    table = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    kept, refused = screened(table, CONFIG, unsafe)
    assert len(kept) + len(refused) == len(texts)
    return dict.fromkeys(kept["text"], "kept") | dict(refused.select("text", "reason").iter_rows())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a red chair", "kept"),
        ("红色的椅子", "kept"),
        ("كرسي أحمر", "kept"),
        ("a chair 😀", "kept"),
        ("", EMPTY),
        ("   \u3000", EMPTY),
        ("...", EMPTY),
        ("x" * 10_000, LONG),
        ("a chair\x07", CONTROL),
        ("a chair\nand a table", CONTROL),
        ("a \u202eriahc", CONTROL),
        ("a NUDE man", UNSAFE_WORD),
        ("a \uff2eüdé man", UNSAFE_WORD),
        ("nu\u200bde", UNSAFE_WORD),
        ("a severed-head", UNSAFE_WORD),
        ("一个裸体的人", UNSAFE_WORD),
        ("a denuded hill", "kept"),
    ],
)
def test_each_reason(text: str, reason: str) -> None:
    assert list(screen(text).values()) == [reason]


def test_a_null_is_empty_and_nothing_is_cut() -> None:
    assert screen(None) == {"": EMPTY}
    assert screen("x" * 51) == {"x" * 51: LONG}
    assert screen("x" * 50) == {"x" * 50: "kept"}


def test_duplicates_are_found_whatever_case_width_and_spaces() -> None:
    table = pl.DataFrame({"text": ["a chair", " A  Chair.", "\uff41 chair", "a stool"]})
    kept, refused = screened(table, CONFIG, ())
    assert kept["text"].to_list() == ["a chair", "a stool"]
    assert refused["reason"].to_list() == [DUPLICATE, DUPLICATE]
    again, _ = screened(table, CONFIG, (), known=kept["key"])
    assert again.is_empty()


def test_a_refused_text_makes_no_good_one_a_duplicate() -> None:
    table = pl.DataFrame({"text": ["a cha\u200bir\x07", "a chair", "a chair"]})
    kept, refused = screened(table, CONFIG, ())
    assert kept["text"].to_list() == ["a chair"]
    assert sorted(refused["reason"]) == sorted([CONTROL, DUPLICATE])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=12))
def test_any_text_is_kept_in_one_form_or_refused_with_a_reason(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    kept, refused = screened(pl.DataFrame({"text": texts}, schema={"text": pl.String}), CONFIG, ["nude"])
    assert len(kept) + len(refused) == len(texts)
    assert set(refused["reason"]) <= set(REASONS)
    assert kept["key"].is_unique().all()
    for text in kept["text"]:
        assert text == unicodedata.normalize("NFC", text)
        assert 0 < len(text) <= CONFIG.longest
        assert not any(unicodedata.category(letter) == "Cc" for letter in text)
    again, none = screened(kept.select("text"), CONFIG, ["nude"])
    assert again.equals(kept)
    assert none.is_empty()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["nude", "Porn", "severed head"]), st.text(max_size=10), st.text(max_size=10), st.booleans())
def test_no_unsafe_word_passes_between_other_words(word: str, before: str, after: str, shout: bool) -> None:
    shown = unicodedata.normalize("NFD", (word.upper() if shout else word).replace("e", "é"))
    text = f"{before} {shown} {after}".encode("utf-8", "ignore").decode()
    kept, refused = screened(pl.DataFrame({"text": [text]}), ScreenConfig(), ["nude", "porn", "severed head"])
    assert kept.is_empty()
    assert refused["reason"].to_list() in ([UNSAFE_WORD], [CONTROL], [FORMULA])


def test_composing_repeats_and_the_first_of_more_are_the_same() -> None:
    words, unsafe = read_vocabulary(), read_unsafe()
    few, none = compose(40, words, ScreenConfig(), unsafe, seed=3)
    more, _ = compose(900, words, ScreenConfig(), unsafe, seed=3)
    other, _ = compose(40, words, ScreenConfig(), unsafe, seed=4)
    assert more.head(40).equals(few)
    assert not other.equals(few)
    assert none.is_empty()
    assert more["key"].is_unique().all()
    assert not any(text.startswith(("a a", "a o", "an b")) or "{" in text for text in more["text"])


def test_weights_are_kept_to() -> None:
    words = Vocabulary.model_validate(
        {
            "templates": ["a {colour} {category} number {material}"],
            "categories": [{"word": "box", "weight": 3}, "ball"],
            "colours": ["red"],
            "materials": [str(number) for number in range(30000)],
        }
    )
    texts, _ = compose(1000, words, ScreenConfig(), (), seed=0)
    assert 0.7 < texts["text"].str.contains("box").mean() < 0.8  # type: ignore[operator]


def test_parts_are_those_of_the_thing() -> None:
    words = Vocabulary.model_validate(
        {
            "templates": ["a {category} with {part}"],
            "categories": [{"word": "bed", "parts": ["pillows"]}, {"word": "car", "parts": ["wheels"]}, "stone"],
        }
    )
    texts, _ = compose(2, words, ScreenConfig(), (), seed=0)
    assert sorted(texts["text"]) == ["a bed with pillows", "a car with wheels"]
    with pytest.raises(InputError, match="about 2 different prompts, 3 were asked for"):
        compose(3, words, ScreenConfig(), (), seed=0)


def test_unsafe_words_of_a_vocabulary_are_refused_with_a_reason() -> None:
    words = Vocabulary.model_validate({"templates": ["a {category}"], "categories": ["gun", "chair", "table"]})
    kept, refused = compose(2, words, ScreenConfig(), ["gun"], seed=0)
    assert sorted(kept["text"]) == ["a chair", "a table"]
    assert refused["reason"].to_list() in ([], [UNSAFE_WORD])  # drawn before two others were, or not


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("templates: ['a {colour} chair']\ncategories: [chair]", "needs words for 'colour'"),
        ("templates: ['a {tail} chair']\ncategories: [chair]", "has slot 'tail'"),
        ("templates: []\ncategories: [chair]", "templates"),
        ("templates: [a chair]\ncategories: [{word: chair, weight: -1}]", "categories.0.weight"),
        ("[", "no vocabulary"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_named(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "v.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=words) as error:
        read_vocabulary(path)
    assert str(path) in str(error.value)


def test_articles() -> None:
    assert with_articles("a orange chair and a box") == "an orange chair and a box"


def test_a_table_grows_and_nothing_in_it_moves(tmp_path: Path) -> None:
    def rows(*texts: str) -> pl.DataFrame:
        kept, _ = screened(pl.DataFrame({"text": texts}), ScreenConfig(), ())
        return kept.with_columns(source=pl.lit("mine"), licence=pl.lit("CC0-1.0"), creator=pl.lit("Ada"))

    first = grown(EMPTY_TABLE, rows("a chair", "a bed", "a car"), 2)
    assert first["shard"].to_list() == ["p000", "p000", "p001"]
    for name in ("p.parquet", "p.csv"):
        write_table(first, tmp_path / name)
        assert read_prompts(tmp_path / name).equals(first)
    more = grown(first, rows("a boat", "a table"), 2)
    assert more.head(3).equals(first)
    assert more["shard"].to_list()[3:] == ["p002", "p002"]
    alone = grown(EMPTY_TABLE, rows("a boat"), 2)
    assert alone["id"][0] in more["id"].to_list()
    assert set(keys(more)) == {"a chair", "a bed", "a car", "a boat", "a table"}


def test_tables_of_people(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,licence\na chair,by\na bed,\n")
    assert read_texts(tmp_path / "t.csv")["licence"].to_list() == ["CC-BY-4.0", "unknown"]
    (tmp_path / "t.txt").write_text("a chair\na bed\n")
    assert read_texts(tmp_path / "t.txt", licence="CC0")["licence"].to_list() == ["CC0-1.0"] * 2
    pl.DataFrame({"text": ["a chair"], "creator": ["Ada"]}).write_parquet(tmp_path / "t.parquet")
    assert read_texts(tmp_path / "t.parquet")["creator"].to_list() == ["Ada"]
    for name, content in {"none.csv": "", "head.csv": "text\n", "none.txt": ""}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="holds no prompt"):
            read_texts(tmp_path / name)
    (tmp_path / "other.csv").write_text("words\na chair\n")
    with pytest.raises(InputError, match="no column `text`"):
        read_texts(tmp_path / "other.csv")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_texts(tmp_path / "latin.txt")
