"""Protocols as data: which there are, what their names cover, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from stages.errors import InputError
from stages.evaluation.config import EvaluationConfig
from stages.evaluation.protocols import Pictures, SingleImage, Text, read_protocol, sealed, shipped


def test_those_that_ship_are_one_of_each_kind() -> None:
    assert shipped() == ["held-out", "pictures", "text"]
    assert {name: type(read_protocol(name)) for name in shipped()} == {
        "held-out": SingleImage,
        "pictures": Pictures,
        "text": Text,
    }
    text = read_protocol("text")
    assert isinstance(text, Text)
    assert len(text.prompts) == 8


def test_a_name_is_an_id_and_a_hash_of_all_that_is_asked() -> None:
    one = read_protocol("held-out")
    assert one.name == f"held-out-{one.hash}"
    assert len(one.hash) == 8
    assert read_protocol("held-out").hash == one.hash
    assert one.model_copy(update={"input_azimuth": 0.0}).hash != one.hash
    seal = sealed(one, {"data": "abc"})
    assert seal["hash"] not in (one.hash, sealed(one, {"data": "abd"})["hash"])
    assert seal["content"] | {"data": "abc", "input_azimuth": 225.0} == seal["content"]
    json.dumps(seal)


def test_where_pictures_lie_is_no_part_of_the_hash(tmp_path: Path) -> None:
    found = read_protocol(str(tmp_path))
    assert isinstance(found, Pictures)
    assert found.folder == str(tmp_path)
    assert found.hash == read_protocol("pictures").hash
    (tmp_path / "mine.yaml").write_text("kind: pictures\nfolder: here\n")
    mine = read_protocol(str(tmp_path / "mine.yaml"))
    assert isinstance(mine, Pictures)
    assert (mine.id, mine.folder) == ("mine", str(tmp_path / "here"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "holds no protocol"),
        ("kind: [\n", "is not YAML"),
        ("kind: video\n", "kind"),
        ("prompts: [a chair]\n", "kind"),
        ("kind: text\nprompt: a chair\n", r"text\.prompt: Extra inputs"),
        ("kind: text\nviews: 0\n", r"text\.views"),
        ("kind: text\nid: Big Words\n", r"text\.id"),
    ],
)
def test_what_is_no_protocol_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InputError, match=words) as told:
        read_protocol(str(tmp_path / "p.yaml"))
    assert "\n" not in str(told.value)


def test_an_unknown_name_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no protocol 'unseen'; choose one of held-out, pictures, text"):
        read_protocol("unseen")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_protocol(str(tmp_path / "gone.yaml"))


def test_a_preset_holds_the_content_of_its_protocol(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("kind: single-image\nmost: 3\n")
    config = EvaluationConfig.model_validate({"protocol": str(tmp_path / "mine.yaml")})
    assert config.protocol.most == 3
    assert EvaluationConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ValidationError, match="of kind text; the asset asks for single-image"):
        EvaluationConfig.model_validate({"protocol": "text"})
