"""The judges of pictures drawn from text, on renders whose colour and kind are known."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from models.checkpoints import save
from models.config import EncoderConfig
from models.encoder import Encoder
from stages.evaluation.text_agreement import (
    KindJudge,
    Words,
    agreement,
    known_renders,
    named_colours,
    unknown_renders,
)
from stages.objects.splits import HELD_OUT
from stages.prompts.vocabulary import read_vocabulary
from stages.rendering.config import RenderingConfig
from tests.stages.blocks import write_blocks

RENDERING = RenderingConfig.model_validate({"size": 16, "supersampling": 1, "views": 2, "variants": 1, "invented": 60})


@pytest.fixture(scope="module")
def words() -> Words:
    return Words.of(read_vocabulary())


def test_every_taught_colour_is_named_in_light_and_shade(words: Words) -> None:
    squares = torch.ones(len(words.colours), 3, 8, 8)
    squares[..., 2:6, 2:4] = words.rgb[:, :, None, None] * 1.1
    squares[..., 2:6, 4:6] = words.rgb[:, :, None, None] * 0.9
    assert named_colours(words, squares.clamp(0, 1)).tolist() == list(range(len(words.colours)))
    assert named_colours(words, torch.ones(1, 3, 8, 8)).tolist() == [words.colours.index("white")]


def test_renders_know_their_kind_and_strangers_do_not_enter(words: Words, tmp_path: Path) -> None:
    objects = write_blocks(tmp_path, train=2, held_out=2)
    both = known_renders(words, objects, tmp_path, RENDERING, seed=1)
    alone = known_renders(words, objects, tmp_path, RENDERING, seed=1, invented_alone=True)
    assert torch.equal(both.images, alone.images)  # blocks are of no kind
    tables = objects.with_columns(caption=pl.lit("an old oak coffee table"))
    more = known_renders(words, tables, tmp_path, RENDERING, seed=1)
    assert len(more.images) > len(both.images)
    assert torch.equal(
        known_renders(words, tables, tmp_path, RENDERING, seed=1, invented_alone=True).images, alone.images
    )
    named = objects.with_columns(
        caption=pl.when(pl.col("split") == HELD_OUT).then(pl.lit("an old oak coffee table")).otherwise("caption")
    )
    assert len(unknown_renders(words, objects, tmp_path, RENDERING, views=2, seed=1).images) == 0
    shown = unknown_renders(words, named, tmp_path, RENDERING, views=3, seed=1)
    assert len(shown.images) == 6
    assert {words.kinds[kind] for kind in shown.kind.tolist()} == {"table"}
    assert agreement(shown.colour, named_colours(words, shown.images)) >= 0.5


def test_the_probe_tells_kinds_apart_that_it_was_shown(words: Words, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = EncoderConfig.model_validate(
        {"image_size": 16, "table_size": 16, "patch": 4, "width": 32, "layers": 1, "heads": 2}
    )
    save(Encoder(config), config, tmp_path / "encoder")
    objects = write_blocks(tmp_path, train=1)
    shown = known_renders(words, objects, tmp_path, RENDERING, seed=1, invented_alone=True)
    judge = KindJudge(tmp_path / "encoder", shown, seed=0)
    assert agreement(shown.kind, judge(shown.images)) > 0.5
    assert torch.equal(judge(shown.images), KindJudge(tmp_path / "encoder", shown, seed=0)(shown.images))
