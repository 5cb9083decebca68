import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.scaling.config import GridConfig
from stages.scaling.points import BASE, FILTER, SIZE, SWITCHES, USUAL, VIDEO, Point, keys, nested, places

GRID = GridConfig(clips=(4, 8, 16), objects=(2, 4), compared=8, seeds=(0, 1))

points = st.builds(
    Point,
    st.integers(0, 10**7),
    st.integers(0, 10**6),
    st.sampled_from(["filtered", "unfiltered"]),
    st.sampled_from(["finetuned", BASE]),
    st.sampled_from([USUAL, *SWITCHES]),
    st.integers(0, 99),
)


@given(points)
def test_a_key_says_all_of_its_point(point: Point):
    assert Point.of(point.key) == point
    assert point.key.replace("-", "").isalnum()  # a folder, a partition, part of a range


def test_another_text_is_no_point():
    with pytest.raises(ValueError, match="'clips12' is no point"):
        Point.of("clips12")


def test_a_point_that_stands_in_several_experiments_is_trained_once():
    all_places = places(GRID)
    assert len(keys(GRID)) < len(all_places)
    assert keys(GRID) == sorted(set(keys(GRID)))
    assert {place.point.key for place in all_places} == set(keys(GRID))


def test_a_comparison_differs_in_one_thing():
    for experiment in (FILTER, VIDEO):
        first, second = (p.point for p in places(GRID) if p.experiment == experiment and p.point.seed == 0)
        assert sum(getattr(first, f) != getattr(second, f) for f in ("clips", "objects", "kept", "video")) == 1


def test_a_grid_that_grows_keeps_its_points():
    larger = GRID.model_copy(update={"clips": (4, 8, 16, 32), "seeds": (0, 1, 2)})
    sizes = [p.point.key for p in places(GRID) if p.experiment == SIZE]
    assert set(sizes) <= set(keys(larger))


def test_an_empty_grid_has_no_points():
    assert keys(GridConfig.model_validate({})) == []


@pytest.mark.parametrize("sizes", [(8, 4), (4, 4), (0, 4)])
def test_sizes_rise(sizes: tuple[int, ...]):
    with pytest.raises(ValidationError, match="must rise from at least 1"):
        GridConfig.model_validate({"clips": sizes})


@given(st.sets(st.text(min_size=1), min_size=1, max_size=40), st.integers(0, 5), st.data())
def test_smaller_subsets_lie_within_larger_ones(ids: set[str], seed: int, data: st.DataObject):
    large = data.draw(st.integers(1, len(ids)))
    small = data.draw(st.integers(1, large))
    assert nested(ids, large, seed)[:small] == nested(sorted(ids), small, seed)
