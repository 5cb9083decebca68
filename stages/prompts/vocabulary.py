"""The words that prompts are composed of, with their weights: data, from a YAML or JSON file."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stages.documents import DocumentError, read_yaml
from stages.errors import InputError

DEFAULT = Path(__file__).with_name("vocabulary.yaml")
SLOTS = ("category", "colour", "material", "style", "size", "part")


def _entry(value: Any) -> Any:
    return {"word": value} if isinstance(value, str) else value


class Word(BaseModel):
    """A word or phrase and how often it is drawn beside the others of its list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    word: str = Field(min_length=1)
    weight: float = Field(1.0, gt=0)


class Colour(Word):
    """`rgb` is the sRGB colour, 0..1, that the word stands for; words without one are only written, not taught."""

    rgb: tuple[float, float, float] | None = None


class Category(Word):
    """A kind of thing and the parts that it may be said to have."""

    parts: tuple[str, ...] = ()


class Vocabulary(BaseModel):
    """Word lists and the templates that they are put into."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    templates: tuple[Annotated[Word, BeforeValidator(_entry)], ...] = Field(min_length=1)
    categories: tuple[Annotated[Category, BeforeValidator(_entry)], ...] = Field(min_length=1)
    colours: tuple[Annotated[Colour, BeforeValidator(_entry)], ...] = ()
    materials: tuple[Annotated[Word, BeforeValidator(_entry)], ...] = ()
    styles: tuple[Annotated[Word, BeforeValidator(_entry)], ...] = ()
    sizes: tuple[Annotated[Word, BeforeValidator(_entry)], ...] = ()

    @model_validator(mode="after")
    def _slots_have_words(self) -> Vocabulary:
        for template in self.templates:
            for slot in slots(template.word):
                if slot not in SLOTS:
                    raise ValueError(f"template {template.word!r} has slot {slot!r}; slots are {', '.join(SLOTS)}")
                if not self.words(slot):
                    raise ValueError(f"template {template.word!r} needs words for {slot!r}, there are none")
        return self

    def words(self, slot: str) -> tuple[Word, ...]:
        """The words of a slot; those of `part` are the parts of all categories, each of weight 1."""
        lists = {
            "category": self.categories,
            "colour": self.colours,
            "material": self.materials,
            "style": self.styles,
            "size": self.sizes,
        }
        if slot == "part":
            return tuple(Word(word=part, weight=1) for part in sorted({p for c in self.categories for p in c.parts}))
        return lists[slot]


def slots(template: str) -> list[str]:
    """The slots of a template, in order. Raises ValueError for one that is not made of names in braces."""
    found = []
    for _, name, form, conversion in string.Formatter().parse(template):
        if form or conversion:
            raise ValueError(f"template {template!r} says how a slot is formatted; a slot is a name in braces")
        if name is not None:
            found.append(name)
    return found


def read_vocabulary(path: Path = DEFAULT) -> Vocabulary:
    """Raises InputError for a file that is missing, is neither YAML nor JSON, or has an unknown or unusable entry."""
    try:
        values = read_yaml(path.read_bytes())  # JSON is YAML
    except (OSError, DocumentError) as error:
        raise InputError(f"{path} is no vocabulary that can be read: {' '.join(str(error).split())}") from None
    try:
        return Vocabulary.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise InputError(f"{path}: {where}: {problem['msg']}; see {DEFAULT.name} for the form") from None


def kind_of(caption: str) -> str:
    """`an oak chair` -> `oak chair`."""
    first, _, rest = caption.partition(" ")
    return rest if first.lower() in ("a", "an") and rest else caption


def with_articles(text: str) -> str:
    """`a orange chair` -> `an orange chair`."""
    return re.sub(r"\b([Aa])(?= [aeiouAEIOU])", r"\1n", text)
