"""Prompts composed from a vocabulary: the same for the same seed, and the first n of more are the n."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from jaxtyping import Int64

from stages.errors import InputError
from stages.prompts.screen import ScreenConfig, screened
from stages.prompts.vocabulary import Vocabulary, Word, slots
from stages.seeds import numpy_generator

BLOCK = 1 << 18
"""Sentences drawn at once; part of what a seed gives."""
DRY = 4
"""Blocks in a row that give next to nothing new before the vocabulary is said to be used up."""
FREE = ("colour", "material", "style", "size")
"""Slots whose words do not depend on the thing."""


def compose(
    count: int, vocabulary: Vocabulary, config: ScreenConfig, unsafe: Iterable[str], *, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`count` different prompts (`text`, `key`), and what was refused on the way (see `screened`), duplicates left out:
    they are drawn again.

    Raises InputError when the vocabulary has not so many.
    """
    unsafe, drawing = list(unsafe), _Drawing(vocabulary)
    kept, refused = [pl.DataFrame(schema={"text": pl.String, "key": pl.String})], []
    seen = np.zeros(0, np.int64)
    have = block = dry = 0
    while have < count:
        codes = drawing.codes(numpy_generator(seed, "prompts", block))
        first = np.sort(np.unique(codes, return_index=True)[1])
        codes = codes[first]
        codes = codes[~np.isin(codes, seen)]
        seen = np.concatenate((seen, codes))
        block, dry = block + 1, dry + 1 if len(codes) < BLOCK / 1000 else 0
        if dry == DRY:
            raise InputError(
                f"the vocabulary gives about {have} different prompts, {count} were asked for; add words or templates"
            )
        for start in range(0, len(codes), BLOCK // 8):  # no further than is needed
            if have < count:
                texts = pl.DataFrame({"text": drawing.texts(codes[start : start + BLOCK // 8])})
                fine, bad = screened(texts, config, unsafe)
                kept.append(fine.select("text", "key"))
                refused.append(bad.filter(pl.col("reason") != "duplicate"))
                have += len(fine)
        if have >= count:  # two codes may say the same
            kept = [pl.concat(kept).unique("key", keep="first", maintain_order=True)]
            have = len(kept[0])
    return pl.concat(kept).head(count), pl.concat(refused, how="vertical_relaxed") if refused else pl.DataFrame()


class _Drawing:
    """Sentences as numbers: template and the words of its slots, as digits of mixed radix."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.needs = [slots(template.word) for template in vocabulary.templates]
        self.free = {slot: words for slot in FREE if (words := vocabulary.words(slot))}
        able = [category for category in vocabulary.categories if category.parts]
        self.able = tuple(able)
        self.parts = [(category.word, part) for category in able for part in category.parts]
        self.sizes = np.array([len(category.parts) for category in able], dtype=np.int64)

    def codes(self, rng: np.random.Generator) -> Int64[np.ndarray, " block"]:
        """A block of sentences drawn by the weights; what a template has no slot for is 0."""
        template = _drawn(self.vocabulary.templates, rng)
        code = template
        for slot, words in self.free.items():
            has = np.array([slot in needs for needs in self.needs])[template]
            code = code * len(words) + np.where(has, _drawn(words, rng), 0)
        thing = _drawn(self.vocabulary.categories, rng)
        has = np.array(["category" in needs for needs in self.needs])[template]
        thing = np.where(has, thing, 0)
        if self.able:
            category, where = _drawn(self.able, rng), rng.random(BLOCK)
            part = (np.cumsum(self.sizes) - self.sizes)[category] + (where * self.sizes[category]).astype(np.int64)
            with_part = np.array(["part" in needs for needs in self.needs])[template]
            thing = np.where(with_part, part, thing)
        return code * self._things + thing

    @property
    def _things(self) -> int:
        return max(len(self.vocabulary.categories), len(self.parts))

    def texts(self, codes: Int64[np.ndarray, " n"]) -> pl.Series:
        """The sentences of codes, in their order."""
        code, thing = np.divmod(codes, self._things)
        drawn: dict[str, pl.Series] = {}
        for slot, words in reversed(self.free.items()):
            code, place = np.divmod(code, len(words))
            drawn[slot] = _words(words).gather(place)
        groups = []
        for number, template in enumerate(self.vocabulary.templates):
            rows, needs = np.flatnonzero(code == number), self.needs[number]
            values = {slot: words.gather(rows) for slot, words in drawn.items() if slot in needs}
            if "part" in needs:
                values |= {
                    slot: pl.Series([pair[k] for pair in self.parts], dtype=pl.String).gather(thing[rows])
                    for k, slot in enumerate(("category", "part"))
                    if slot in needs
                }
            elif "category" in needs:
                values["category"] = _words(self.vocabulary.categories).gather(thing[rows])
            table = pl.DataFrame({"row": rows, **values}, schema_overrides={"row": pl.Int64})
            pattern = template.word.format(**dict.fromkeys(needs, "{}"))
            groups.append(table.select("row", text=pl.format(pattern, *needs) if needs else pl.lit(pattern)))
        text = pl.concat(groups).sort("row")["text"]
        return text.str.replace_all(r"\b([Aa]) ([aeiouAEIOU])", "${1}n ${2}")


def _words(words: Sequence[Word]) -> pl.Series:
    return pl.Series([word.word for word in words], dtype=pl.String)


def _drawn(words: Sequence[Word], rng: np.random.Generator) -> Int64[np.ndarray, " block"]:
    weights = np.array([word.weight for word in words])
    edges = np.cumsum(weights) / weights.sum()
    return np.minimum(np.searchsorted(edges, rng.random(BLOCK), side="right"), len(words) - 1)
