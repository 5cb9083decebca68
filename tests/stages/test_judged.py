"""Labels of people: several judges, changes of mind, faults told by name, agreement, and what to judge next."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.quality.agreement import kappas
from stages.quality.judged import (
    BAD,
    GOOD,
    SCHEMA,
    UNDONE,
    UNSURE,
    VERDICTS,
    Fault,
    add_judged,
    read_judged,
    read_labels,
    settled,
)
from stages.quality.sampling import RANDOM, SECOND, UNCERTAIN, proposals
from stages.shards import Sample

META = {"cameras": [[0.0] * 16] * 2, "split": "synthetic", "object": "o", "creator": "c", "licence": "CC0-1.0"}


def clip(id_: str, **more: Any) -> Sample:
    return Sample(id_, np.random.default_rng(0).integers(0, 255, (2, 8, 8, 4), dtype=np.uint8), META | more)


def said(clip: str, verdict: str, who: str = "Ada", date: str = "1") -> dict[str, str]:
    return {"clip": clip, "verdict": verdict, "reason": "", "who": who, "date": date, "source": "s"}


def table(*rows: dict[str, str]) -> pl.DataFrame:
    return pl.DataFrame([{"tar": "clips.tar", **row} for row in rows], schema=SCHEMA)


def test_two_people_judge_one_clip_that_is_kept_once(tmp_path: Path) -> None:
    add_judged(tmp_path, [clip("a"), clip("b")], pl.DataFrame([said("a", GOOD), said("b", BAD)]), tmp_path)
    add_judged(tmp_path, [], pl.DataFrame([said("a", GOOD, "Bob")]), tmp_path)
    assert len(list(tmp_path.glob("clips-*.tar"))) == 1
    assert len(list(tmp_path.iterdir())) == 3, "nothing else is left behind"
    assert [(row["clip"], row["verdict"], row["who"]) for row, _ in read_judged(tmp_path)] == [
        ("a", GOOD, "Ada, Bob"),
        ("b", BAD, "Ada"),
    ]
    with pytest.raises(ValueError, match="already"):
        add_judged(tmp_path, [], pl.DataFrame([said("a", BAD, "Bob")]), tmp_path)


@pytest.mark.parametrize(
    ("rows", "verdict", "told"),
    [
        ([said("a", GOOD), said("a", BAD, date="2")], BAD, "Ada said good, then bad: the later counts"),
        ([said("a", GOOD), said("a", BAD)], UNSURE, "counts as unsure"),
        ([said("a", GOOD), said("a", BAD, "Bob")], UNSURE, "Ada says good, Bob says bad: counts as unsure"),
        ([said("a", GOOD), said("a", GOOD, "Bob"), said("a", BAD, "Cy")], GOOD, "Cy says bad: counts as good"),
        ([said("a", GOOD), said("a", UNSURE, "Bob")], GOOD, "counts as good"),
        ([said("a", GOOD), said("a", GOOD, "Bob")], GOOD, None),
        ([said("a", GOOD), said("a", UNDONE, date="2")], None, None),
        ([said("a", BAD), said("a", UNDONE, date="2"), said("a", GOOD, date="3")], GOOD, None),
    ],
)
def test_two_verdicts_on_one_clip_are_settled_and_told(rows: list[Any], verdict: str | None, told: str | None) -> None:
    faults: list[Fault] = []
    found = settled(table(*rows), faults)
    assert found["verdict"].to_list() == ([verdict] if verdict else [])
    assert ([fault.id for fault in faults] == ["a"]) == (told is not None)
    if told:
        assert told in faults[0].reason


VERDICT = st.tuples(
    st.sampled_from("ab"), st.sampled_from(VERDICTS), st.sampled_from(["Ada", "Bob"]), st.sampled_from("12")
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(VERDICT, max_size=8))
def test_each_clip_settles_once_whatever_the_order_of_rows(rows: list[tuple[str, str, str, str]]) -> None:
    given_ = [said(*row) for row in rows]
    once = settled(table(*given_))
    assert once["clip"].is_unique().all()
    assert set(once["verdict"]) <= {GOOD, BAD, UNSURE}
    assert settled(once)["verdict"].to_list() == once["verdict"].to_list()


def test_what_cannot_be_used_is_told_by_name_and_the_rest_is_read(tmp_path: Path) -> None:
    for name in ("whole", "torn", "lost"):
        add_judged(tmp_path, [clip(name)], pl.DataFrame([said(name, GOOD)]), tmp_path)
    labels = read_labels(tmp_path)
    tars = dict(labels.select("clip", "tar").rows())
    (tmp_path / tars["lost"]).unlink()
    with tarfile.open(tmp_path / tars["torn"]) as old:
        kept = [(member, old.extractfile(member).read()) for member in old]  # type: ignore[union-attr]
    with tarfile.open(tmp_path / tars["torn"], "w") as new:
        for member, data in kept:
            if not member.name.endswith("01.png"):
                new.addfile(member, io.BytesIO(data))
    half = next(tmp_path.glob("labels-*.parquet")).read_bytes()
    (tmp_path / "labels-half.parquet").write_bytes(half[: len(half) // 2])
    table(said("ghost", BAD)).with_columns(tar=pl.lit(tars["whole"])).write_parquet(tmp_path / "labels-ghost.parquet")

    faults: list[Fault] = []
    assert [row["clip"] for row, _ in read_judged(tmp_path, faults)] == ["whole"]
    told = {fault.id: fault.reason for fault in faults}
    assert "is no label file" in told["labels-half.parquet"]
    assert "1 views for 2 cameras" in told["torn"]
    assert "1 verdicts name it" in told[tars["lost"]]
    assert tars["lost"] in told["lost"]
    assert "its clip is not in" in told["ghost"]


def test_a_label_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail)
    with pytest.raises(OSError, match="full"):
        add_judged(tmp_path / "labels", [clip("a")], pl.DataFrame([said("a", GOOD)]))
    assert not list((tmp_path / "labels").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_kappa_is_cohens() -> None:
    """The worked example of Cohen's kappa: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no give 0.4."""
    answers = [(GOOD, GOOD)] * 20 + [(GOOD, BAD)] * 5 + [(BAD, GOOD)] * 10 + [(BAD, BAD)] * 15
    rows = [
        said(f"c{k}", v, who) for k, pair in enumerate(answers) for v, who in zip(pair, ("Ada", "Bob"), strict=True)
    ]
    rows += [said("c0", BAD, "Ada", "0"), said("alone", GOOD), said("c1", BAD, "spoiled:frozen")]
    (pair,) = kappas(table(*rows)).to_dicts()
    assert (pair["a"], pair["b"], pair["clips"]) == ("Ada", "Bob", 50)
    assert pair["kappa"] == pytest.approx(0.4)
    assert pair["alike"] == pytest.approx(0.7)
    same = kappas(table(said("a", GOOD), said("a", GOOD, "Bob"))).to_dicts()
    assert same[0]["kappa"] is None


def test_proposals_ask_what_is_uncertain_first_and_for_second_opinions() -> None:
    scores = np.linspace(0, 1, 21)
    candidates = pl.DataFrame({"clip": [f"c{k:02d}" for k in range(21)], "score": scores, "threshold": [0.6] * 21})
    labels = table(
        said("c12", GOOD, "Bob"), said("old", BAD, "Bob"), said("x", BAD, "spoiled:frozen"), said("c00", BAD)
    )
    found = list(proposals(candidates, labels, "Ada"))
    assert [each.why for each in found[:4]] == [RANDOM, UNCERTAIN, SECOND, UNCERTAIN], "goes on after one verdict"
    uncertain = [abs(scores[int(each.clip[1:])] - 0.6) for each in found if each.why == UNCERTAIN]
    assert uncertain == sorted(uncertain)
    assert {each.clip for each in found if each.why == SECOND} == {"c12", "old"}
    assert len({each.clip for each in found}) == len(found) == 21
    assert "c00" not in {each.clip for each in found}
    others = [each.clip for each in proposals(candidates, labels, "Cy") if each.why == RANDOM]
    assert others != [each.clip for each in found if each.why == RANDOM]
    unknown = candidates.with_columns(score=pl.lit(None, pl.Float64))
    assert {each.why for each in proposals(unknown, table(), "Ada")} == {RANDOM}
