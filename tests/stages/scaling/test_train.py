import polars as pl
import pytest

from orchestration.presets.schema import load_preset
from stages.errors import InputError
from stages.scaling.points import SWITCHES, UNFILTERED, USUAL, Point
from stages.scaling.train import chosen_clips, chosen_objects, switched

CLIPS = pl.DataFrame(
    {
        "id": [f"c{number}" for number in range(6)],
        "verdict": ["accepted"] * 3 + ["rejected"] * 3,
        "elevation": [10.0] * 5 + [None],
        "masks_path": ["0/masks.tar"] * 6,
    }
)
OBJECTS = pl.DataFrame(
    {
        "id": ["a-0-0", "a-1-0", "b-0-0", "invented-000-1-0-0", "held-0-0", "bad-0-0"],
        "object": ["a", "a", "b", "invented-000-1", "held", "bad"],
        "split": ["train"] * 4 + ["held-out", "train"],
        "reason": [None] * 5 + ["broken"],
    }
)


def test_filtered_clips_are_accepted_ones():
    assert set(chosen_clips(CLIPS, Point(3, 0))["id"]) == {"c0", "c1", "c2"}


def test_unfiltered_clips_are_all_that_were_labelled():
    assert set(chosen_clips(CLIPS, Point(5, 0, UNFILTERED))["id"]) == {"c0", "c1", "c2", "c3", "c4"}


def test_objects_bring_all_their_orbits_and_invented_ones_none():
    assert set(chosen_objects(OBJECTS, Point(0, 2))["id"]) == {"a-0-0", "a-1-0", "b-0-0"}
    assert chosen_objects(OBJECTS, Point(0, 1))["object"].n_unique() == 1


def test_more_than_there_is_names_both_numbers():
    with pytest.raises(InputError, match="wants 4 filtered clips, the manifest has 3"):
        chosen_clips(CLIPS, Point(4, 0))
    with pytest.raises(InputError, match="wants 3 training objects, the manifest has 2"):
        chosen_objects(OBJECTS, Point(0, 3))


def test_each_switch_changes_the_training_and_nothing_else():
    usual = load_preset("tiny").pretrain
    assert switched(usual, USUAL) == usual
    for name in SWITCHES:
        other = switched(usual, name)
        assert other != usual
        assert (other.training, other.model) == (usual.training, usual.model)
        type(other).model_validate(other.model_dump())  # within its own rules
    with pytest.raises(InputError, match="no strategy 'sideways'"):
        switched(usual, "sideways")
