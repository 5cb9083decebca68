"""From what a person names to what it came from, what was made of it, and what other tools read of that."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestration.errors import OrbitforgeError
from orchestration.lineage.again import ancestors, in_order
from orchestration.lineage.current import Current
from orchestration.lineage.diff import changed_rows, diff
from orchestration.lineage.exports.croissant import croissant
from orchestration.lineage.exports.cyclonedx import cyclonedx
from orchestration.lineage.exports.mermaid import mermaid
from orchestration.lineage.exports.modelcard import model_card
from orchestration.lineage.exports.tree import tree
from orchestration.lineage.find import Named, find, find_row, model_md5
from orchestration.lineage.forward import descendants
from orchestration.lineage.ledger import MADE, PROMOTED, PUBLISHED, Input, Ledger, Row
from orchestration.lineage.licences import Licensed, named_licence, refused, summary
from orchestration.lineage.record import as_json, record
from orchestration.lineage.withdraw import entries, observed_with
from orchestration.steps import Step
from orchestration.workspace import object_path
from tests.orchestration.world import CLIPS, MANIFEST, TABLE_MODEL, VIEWS, World

CHAIN = ("views", "manifest", "video_model", "clips")
VIDEO = replace(TABLE_MODEL, name="video_model", kind="table")
"""The toy model under the name that tells direct from indirect."""


@pytest.fixture
def made(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    from toy import makes  # pyright: ignore[reportMissingImports]

    def clips(work) -> None:
        weights = (work.inputs["video_model"] / "weights").read_text()
        prompts = pl.read_parquet(work.inputs["prompts"] / "prompts.parquet")
        (work.output / "clips.txt").write_text(weights[:5] + ",".join(prompts["text"]))

    monkeypatch.setattr(makes, "video_model", makes.model, raising=False)
    monkeypatch.setattr(makes, "clips", clips)
    steps = (VIEWS, MANIFEST, VIDEO, replace(CLIPS, reads=("video_model", "prompts")))
    world.pipeline = replace(world.pipeline, steps=steps)
    world.make(*CHAIN)
    return world


def glb(path: Path, extras: dict[str, str]) -> Path:
    text = json.dumps({"asset": {"version": "2.0", "extras": extras}}).encode()
    path.write_bytes(struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text)
    return path


# finding


def test_a_version_has_many_names(made: World):
    current = Current(made.pipeline)
    model = current.row("video_model")
    clips = current.row("clips", "001")
    assert model is not None
    assert clips is not None
    at = "2031-01-01T00:00:00"
    Ledger().append(
        Row(PUBLISHED, "toy", "video_model", about=model.id, service="mlflow", reference="models:/toy-video_model/7"),
        Row(PROMOTED, "toy", "video_model", about=model.id, service="production", ended=at, by="Ada"),
    )
    current = Current(made.pipeline)
    for name in (
        "video_model",
        "toy/video_model",
        "data/toy/video_model",
        "models:/toy-video_model/7",
        "toy-video_model/7",
        "toy-video_model@production",
        "toy-video_model@candidate",
        model.id,
        model.id[:8],
        model.version,
        str(made.data / "toy" / "video_model" / "weights"),
        str(glb(made.root / "any.glb", {"model_md5": model.files[0].md5})),
    ):
        assert find_row(current, name).id == model.id, name
    for name in ("clips/001", "toy/clips/001", "data/toy/clips/001/"):
        assert find_row(current, name).id == clips.id, name
    assert find(current, "bee") == Named("source_objects", "bee")
    assert find(current, "p1") == Named("prompts", "p1")
    mesh = made.root / "copy-of-cow"
    mesh.write_text("mesh of cow")
    assert find(current, str(mesh)) == Named("source_objects", "cow")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "nothing is known as 'nothing'; name an asset .views, manifest"),
        ("clips", "clips is made of shards; name one, such as clips/000"),
        ("models:/toy-video_model/99", "nothing is known as"),
        ("bee", "'bee' is an entry of source_objects; name something that was made of it"),
    ],
)
def test_what_is_not_known_is_told_with_what_is(made: World, name: str, words: str):
    with pytest.raises(OrbitforgeError, match=words):
        find_row(Current(made.pipeline), name)


def test_a_glb_of_a_stranger_is_told(made: World):
    with pytest.raises(OrbitforgeError, match="was made by a model with md5 abc, which this ledger does not know"):
        find(Current(made.pipeline), str(glb(made.root / "x.glb", {"model_md5": "abc"})))
    (made.root / "y.glb").write_bytes(b"no")
    with pytest.raises(OrbitforgeError, match=r"y\.glb is no GLB"):
        model_md5(made.root / "y.glb")
    assert model_md5(glb(made.root / "z.glb", {})) is None


# backward and forward


def test_a_record_reaches_the_sources(made: World):
    current = Current(made.pipeline)
    row = current.row("clips", "001")
    assert row is not None
    known = record(current, row)
    assert [part.asset for part in known.parts][-1] == "clips"
    assert {part.asset: part.count for part in known.parts} == {
        "source_objects": 2,
        "prompts": 1,
        "views": 2,
        "manifest": 1,
        "video_model": 1,
        "clips": 1,
    }
    assert set(known.edges) == {
        ("source_objects", "views"),
        ("views", "manifest"),
        ("manifest", "video_model"),
        ("video_model", "clips"),
        ("prompts", "clips"),
    }
    assert known.objects["id"].to_list() == ["ape", "bee", "cow"]
    assert known.prompts["text"].to_list() == ["blue"]
    assert known.licences == {"CC0": {"object": 3, "prompt": 1}}
    assert {each.id for each in ancestors(current, row)} == set(known.rows["id"])


def test_a_record_shows_what_was_read_then_not_what_lies_there_now(made: World):
    row = Current(made.pipeline).row("views", "001")
    assert row is not None
    made.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "001"})
    current = Current(made.pipeline)
    assert record(current, row).objects["id"].to_list() == ["cow"]
    read = current.row_of_id(row.inputs[0].row)
    assert read is not None
    object_path(next(file.md5 for file in read.files if file.path.endswith(".parquet"))).unlink()
    known = record(Current(made.pipeline), row)
    assert known.objects.is_empty()
    assert known.lost == (f"source_objects/objects.parquet of row {read.id}",)


def test_forward_says_what_only_the_video_model_carries(made: World):
    made.prompts({"red": "000"})
    current = Current(made.pipeline)
    roots = [row.id for row in observed_with(current, [e for e in entries(made.pipeline, "cow") if e.id == "cow"])]
    found = {(each.row.asset, each.row.shard): each.direct for each in descendants(current, roots)}
    assert found == {
        ("views", "001"): True,
        ("manifest", None): True,
        ("video_model", None): True,
        ("clips", "000"): False,
        ("clips", "001"): False,
    }
    prompts = [row.id for row in observed_with(current, entries(made.pipeline, "ape"))]
    directly = {(each.row.asset, each.row.shard) for each in descendants(current, prompts) if each.direct}
    assert ("clips", "000") in directly  # its first frame is drawn from the object


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=30))
def test_rows_come_after_what_they_were_made_of(pairs: list[tuple[int, int]]):
    edges = {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}
    rows: dict[str, Row] = {}
    for number in range(13):
        read = tuple(Input("a", str(p), "v", list(rows)[p]) for p, child in sorted(edges) if child == number)
        row = Row(MADE, "toy", "a", str(number), inputs=read)
        rows[row.id] = row
    mixed = dict(sorted(rows.items()))
    ordered = [row.id for row in in_order(mixed)]
    assert sorted(ordered) == sorted(rows)
    for id_ in ordered:
        assert all(ordered.index(input_.row) < ordered.index(id_) for input_ in rows[id_].inputs)


# exports


@pytest.fixture
def known(made: World):
    current = Current(made.pipeline)
    model = current.row("video_model")
    assert model is not None
    row = replace(model, metrics={"psnr": 20.0}, git_commit="ab" * 20)
    Ledger().append(row)
    return record(Current(made.pipeline), row), Current(made.pipeline)


def test_a_mermaid_chart_names_every_asset_and_edge(known):
    text = mermaid(known[0])
    assert text.startswith("flowchart TD\n")
    assert '    source_objects[("source_objects<br/>3 objects (3 train) by 1 creators")]' in text
    assert "    manifest --> video_model" in text
    assert text.count("-->") == len(known[0].edges)


def test_a_tree_opens_each_asset_once(known):
    from rich.console import Console

    console = Console(width=400, no_color=True)
    with console.capture() as captured:
        console.print(tree(known[0]))
    text = captured.get()
    for asset in ("video_model", "manifest", "views", "source_objects"):
        assert text.count(f"─ {asset}  ") == 1
    assert "CC0: 3 objects" in text
    assert "commit abababababab" in text


def test_a_model_card_is_what_the_hub_reads(known):
    text = model_card(known[0])
    _, front, body = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["pipeline_tag"] == "image-to-video"
    assert facts["license"] == "cc0"
    assert facts["model-index"][0]["results"][0]["metrics"] == [{"type": "psnr", "value": 20.0}]
    from huggingface_hub import ModelCardData

    card = ModelCardData(**{**facts, "model_name": "toy"})
    assert card.eval_results is not None
    assert card.eval_results[0].metric_value == 20.0
    assert "- me: 3 objects, CC0" in body
    assert "orbitforge reproduce" in body


EVIL = '<img src=x onerror=alert(1)>[here](javascript:alert(1))![](http://x/y.png)`"]\n```\n# no | <b>&lt;'


def test_names_of_strangers_are_words_in_every_export(known):
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": True}).enable("table")

    def marks(text: str) -> list[str]:
        tokens = [token for block in reader.parse(text) for token in (block, *(block.children or ()))]
        return [token.type for token in tokens if token.type != "text"]

    found, current = known
    plain, evil = (
        replace(
            found,
            objects=found.objects.with_columns(creator=pl.lit(name), licence=pl.lit(name), split=pl.lit(name)),
            labels=pl.DataFrame(
                {"clip": ["c"], "who": [f"{name}: he"]} | dict.fromkeys(("verdict", "licence", "creator"), name)
            ),
        )
        for name in ("Ada", EVIL)
    )
    assert marks(model_card(evil).split("---\n", 2)[2]) == marks(model_card(plain).split("---\n", 2)[2])
    assert mermaid(evil).count("\n") == mermaid(plain).count("\n")
    assert mermaid(evil).count('"') == mermaid(plain).count('"')
    for export in (croissant(evil, current), cyclonedx(evil, current)):
        json.loads(export)


def test_croissant_is_accepted_by_its_own_reader(known):
    import mlcroissant as mlc

    told = json.loads(croissant(*known))
    assert mlc.Dataset(jsonld=told).metadata.name == "orbitforge-toy-video_model"
    md5s = {entry["@id"]: entry["md5"] for entry in told["distribution"]}
    (file,) = Current(known[1].pipeline).row("manifest").files
    assert md5s["toy/manifest/manifest.json"] == file.md5


def test_a_bill_of_materials_passes_the_strict_validator(known):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    current = known[1]
    steps = tuple(
        replace(step, kind="model") if step.name == "video_model" else step for step in current.pipeline.steps
    )
    text = cyclonedx(known[0], Current(replace(current.pipeline, steps=steps)))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told = json.loads(text)
    component = told["metadata"]["component"]
    assert component["type"] == "machine-learning-model"
    assert component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == [{"type": "psnr", "value": "20"}]
    kinds = {entry["name"]: entry["type"] for entry in told["components"]}
    assert kinds["toy/source_objects"] == "data"
    assert kinds["torch"] == "library"
    broken = text.replace('"machine-learning-model"', '"no such thing"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None


def test_json_has_the_rows_as_they_stand(known):
    told = json.loads(json.dumps(as_json(*known)))
    rows = {row["id"]: row for row in told["rows"]}
    assert set(rows) == set(known[0].rows["id"])
    for id_, row in known[1].ledger.rows(rows).items():
        assert rows[id_]["version"] == row.version
        assert rows[id_]["config"] == row.config


# licences


def test_licences_are_counted_and_refused_by_pattern():
    inputs = [Licensed("object", "a", "CC0-1.0", "x"), Licensed("object", "b", "CC-BY-NC-4.0", "y")]
    inputs += [Licensed("weights", "w", "", "")]
    assert summary(inputs) == {
        "CC-BY-NC-4.0": {"object": 1},
        "CC0-1.0": {"object": 1},
        "unknown": {"weights": 1},
    }
    assert {
        pattern: [each.id for each in found] for pattern, found in refused(inputs, ["*-nc*", "unknown"]).items()
    } == {
        "*-nc*": ["b"],
        "unknown": ["w"],
    }


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("from the hub, Apache-2.0", "Apache-2.0"),
        ("stabilityai weights, CC-BY-NC-SA-4.0 and MIT", "CC-BY-NC-SA-4.0 AND MIT"),
        ("a colleague gave it to me", "unknown"),
        ("permitted", "unknown"),
    ],
)
def test_licences_are_read_from_a_persons_words(text: str, licence: str):
    assert named_licence(text) == licence


# differences


def test_a_diff_names_rows_config_and_code(made: World):
    before = Current(made.pipeline).row("clips", "000")
    made.objects({"ape": "000", "cow": "001", "doe": "001"})
    made.prompts({"red": "000", "blue": "001"})
    made.configure(rendering={"views": 9})
    made.edit("toy.stage", "views: int", "views: object")
    from toy import makes  # pyright: ignore[reportMissingImports]

    makes.video_model = makes.model
    makes.clips = lambda work: (work.output / "clips.txt").write_text("other")
    made.make(*CHAIN)
    current = Current(made.pipeline)
    after = current.row("clips", "000")
    assert before is not None
    assert after is not None
    found = diff(current, record(current, before), record(current, after))
    assert (found.tables["objects"].added, found.tables["objects"].removed) == (("doe",), ("bee",))
    assert found.config["views"] == ["config key rendering.views changed from 16 to 9"]
    assert found.code == {"views": ["toy.stage changed"]}
    assert json.dumps(found.as_json())
    assert not diff(current, record(current, after), record(current, after))


tables = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["good", "bad"]))


@given(tables, tables)
def test_rows_are_compared_as_dictionaries_are(then: dict[str, str], now: dict[str, str]):
    def table(rows: dict[str, str]) -> pl.DataFrame:
        return pl.DataFrame({"clip": list(rows), "verdict": list(rows.values())}, schema={"clip": str, "verdict": str})

    found = changed_rows(table(then), table(now), "clip")
    assert set(found.added) == now.keys() - then.keys()
    assert set(found.removed) == then.keys() - now.keys()
    assert {id_: change[0][1:] for id_, change in found.changed.items()} == {
        id_: (then[id_], now[id_]) for id_ in then.keys() & now.keys() if then[id_] != now[id_]
    }


def test_labels_are_told_by_who_gave_them(made: World):
    from stages.quality.judged import SCHEMA

    folder = made.data / "human_labels"
    folder.mkdir()
    row = {"clip": "c", "tar": "t", "verdict": "good", "who": "Ada", "date": "2030-01-01", "licence": "CC0"}
    pl.DataFrame([row], schema=SCHEMA).write_parquet(folder / "labels.parquet")
    step = Step("classifier", ("human_labels",), (), ("toy.helper",), "toy", "table")
    made.pipeline = replace(made.pipeline, steps=(*made.pipeline.steps, step))
    from toy import makes  # pyright: ignore[reportMissingImports]

    makes.classifier = lambda work: (work.output / "x").write_text("x")
    made.make("classifier")
    current = Current(made.pipeline)
    made_row = current.row("classifier")
    assert made_row is not None
    known = record(current, made_row)
    assert known.labels.select("clip", "who", "date").rows() == [("c", "Ada", "2030-01-01")]
    assert find(current, "c") == Named("human_labels", "c")
