from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.objects.config import SourceConfig
from stages.objects.prompts import make_prompts
from stages.objects.sources import (
    OBJECTS,
    PROMPTS,
    SourceError,
    assign_shards,
    describe_objects,
    licences,
    read_table,
    rows_version,
    shard_ids,
    shard_rows,
)
from stages.objects.splits import HELD_OUT, TRAIN, VALIDATION, split_of

NAMES = st.sets(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8), max_size=60)
CREATORS = ("Ulanbek", "Vladoffsky", "Ashaihullin", "MZiemys")


def objects(count: int, folder: Path) -> pl.DataFrame:
    (folder / "meshes").mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(count):
        file = f"thing{number}.glb"
        (folder / "meshes" / file).write_bytes(b"mesh %d" % number)
        records.append(
            {"id": f"thing{number}", "file": file, "name": "Oak chair", "category": "Exterior", "faces": 12}
            | {"creator": CREATORS[number % 4], "licence": "CC0-1.0", "source": "made up"}
        )
    return describe_objects(records, folder, shard_size=4)


@pytest.fixture
def data(tmp_path):
    table = objects(10, tmp_path / "source")
    table.write_parquet(tmp_path / "source" / "objects.parquet")
    make_prompts(table, 12, 5).write_parquet(tmp_path / "source" / "prompts.parquet")
    return tmp_path


# splits


def test_splits_follow_the_creator():
    assert [split_of(c) for c in CREATORS] == [TRAIN, TRAIN, VALIDATION, HELD_OUT]


def test_splits_have_the_wanted_shares():
    drawn = [split_of(f"creator {n}") for n in range(4000)]
    assert abs(drawn.count(TRAIN) / 4000 - 0.6) < 0.03
    assert abs(drawn.count(VALIDATION) / 4000 - 0.1) < 0.02


# shards


@given(old=NAMES, new=NAMES, size=st.integers(1, 7))
def test_ids_never_move_when_objects_arrive(old, new, size):
    before = assign_shards(old, size)
    after = assign_shards(old | new, size, known=before)
    assert before.items() <= after.items()
    assert after.keys() == old | new
    assert not set(before.values()) & {after[i] for i in new - old}
    assert max([list(after.values()).count(s) for s in after.values()], default=0) <= size


def test_the_order_of_arrival_changes_nothing():
    assert assign_shards(["a", "b", "c"], 2) == assign_shards(["c", "a", "b"], 2)


# versions


def test_a_version_is_that_of_its_rows(data):
    table = read_table(data, SourceConfig.model_validate({}), OBJECTS)
    rows = shard_rows(table, "000")
    assert rows_version(rows) == rows_version(rows.reverse().select(reversed(rows.columns)))
    changed = rows.with_columns(licence=pl.lit("CC-BY-4.0"))
    assert rows_version(rows) != rows_version(changed)
    assert licences(changed) == {"CC-BY-4.0": len(rows)}


def test_another_shard_changes_no_version(data):
    table = read_table(data, SourceConfig.model_validate({}), OBJECTS)
    fewer = table.filter(pl.col("shard") != "001")
    assert rows_version(shard_rows(table, "000")) == rows_version(shard_rows(fewer, "000"))


# tables


def test_limits_choose_rows(data):
    def ids(**limits):
        return read_table(data, SourceConfig.model_validate(limits), OBJECTS)["id"].to_list()

    everything = ids()
    assert len(everything) == 10
    assert ids(object_shards=1) == everything[:4]
    assert ids(objects_per_shard=1) == [everything[0], everything[4], everything[8]]
    assert ids(prompt_shards=1) == everything


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.drop("licence"), "lacks the columns ['licence']"),
        (lambda t: pl.concat([t, t[:1]]), "ids occur twice"),
        (lambda t: t.with_columns(shard=pl.lit(None, pl.String)), "10 of 10 rows have no shard"),
    ],
)
def test_a_bad_table_is_told_in_one_line(data, change, told):
    path = data / "source" / "objects.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(SourceError) as error:
        read_table(data, SourceConfig.model_validate({}), OBJECTS)
    assert told in str(error.value)
    assert "objects.parquet" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"objects\.parquet is missing"):
        read_table(tmp_path, SourceConfig.model_validate({}), OBJECTS)


# prompts


def test_prompts_name_training_objects_alone(data):
    table = read_table(data, SourceConfig.model_validate({}), OBJECTS)
    prompts = read_table(data, SourceConfig.model_validate({}), PROMPTS)
    joined = prompts.join(table, left_on="object", right_on="id")
    assert len(joined) == len(prompts) == 12
    assert set(joined["split"]) == {TRAIN}
    assert (joined["md5"] == joined["md5_right"]).all()
    assert prompts["seed"].n_unique() == 12
    assert shard_ids(prompts) == ["p000", "p001", "p002"]
    assert prompts.equals(make_prompts(table, 12, 5))


def test_prompts_need_training_objects(data):
    table = read_table(data, SourceConfig.model_validate({}), OBJECTS).filter(pl.col("split") != TRAIN)
    with pytest.raises(ValueError, match="training objects"):
        make_prompts(table, 3, 3)


# the data that ships


def test_the_shipped_tables_follow_the_rules(sample_data: Path):
    table = read_table(sample_data, SourceConfig.model_validate({}), OBJECTS)
    prompts = read_table(sample_data, SourceConfig.model_validate({}), PROMPTS)
    assert (len(table), len(prompts)) == (68, 192)
    assert set(table["licence"]) == {"CC0-1.0"}
    assert [split_of(c) for c in table["creator"]] == table["split"].to_list()
    assert dict(zip(table["id"], table["shard"], strict=True)) == assign_shards(table["id"], 17)
    training = set(table.filter(pl.col("split") == TRAIN)["id"])
    assert set(prompts["object"]) <= training
    assert all((sample_data / "source" / file).is_file() for file in table["file"])
