import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy import ndimage
from sklearn.svm import SVC

from models.camera import Camera
from models.checkpoints import save
from models.config import EncoderConfig
from models.encoder import Encoder
from stages.objects.splits import HELD_OUT, TRAIN, VALIDATION, split_of
from stages.quality.carving import ELEVATIONS, carve, photometric
from stages.quality.classifier import _fitted, _matrices, _Projection, load_classifier, train_classifier
from stages.quality.clips import read_clips
from stages.quality.config import ClassifierConfig, LabelsConfig, QualityConfig
from stages.quality.elevation import load_elevation, train_elevation
from stages.quality.features import load_embedder
from stages.quality.judged import add_judged, read_judged, read_labels
from stages.quality.labels import label_shard
from stages.quality.manifest import SPARED, corpus_manifest
from stages.quality.masks import foreground
from stages.quality.observe import observe
from stages.quality.spoil import SPOILS, UNSEEN, frozen, make_labels, opaque, pan, trial_clips
from stages.quality.statistics import _median, measure
from stages.quality.trial import trial
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import load_mesh
from stages.rendering.rasterise import render
from stages.shards import Sample, composite, read_shard, write_shard
from tests.stages.blocks import write_blocks

RENDERING = RenderingConfig.model_validate({"size": 32, "views": 8})
LABELS = LabelsConfig.model_validate({"good": 20, "spoiled": 2})
CONFIG = QualityConfig.model_validate(
    {
        "elevation": {"copies": 1, "training": {"steps": 200, "batch": 128, "learning_rate": 3e-3, "ema": 0.9}},
        "classifier": {"folds": 3, "precision": 0.8},
    }
)


def quiet(event: dict[str, Any]) -> None:
    pass


def digest(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quality")


@pytest.fixture(scope="module")
def objects(home: Path) -> pl.DataFrame:
    return write_blocks(home, train=8, validation=2, held_out=1)


@pytest.fixture(scope="module")
def encoder(home: Path) -> Path:
    """Random weights: the clip's measured statistics alone must already tell good from bad."""
    torch.manual_seed(0)
    numbers = {"image_size": 32, "table_size": 32, "patch": 4, "width": 48, "layers": 2, "heads": 3}
    config = EncoderConfig.model_validate(numbers)
    save(Encoder(config), config, home / "encoder")
    return home / "encoder"


@pytest.fixture(scope="module")
def labels(home: Path, objects: pl.DataFrame) -> Path:
    make_labels(objects, home, home / "labels", LABELS, seed=0, report=quiet)
    return home / "labels"


@pytest.fixture(scope="module")
def classifier(home: Path, labels: Path, encoder: Path) -> Path:
    train_classifier(labels, encoder, home / "classifier", CONFIG, seed=0, report=quiet)
    return home / "classifier"


def orbit(home: Path, row: dict[str, Any], elevation: float, azimuth: float = 0.0, name: str = "") -> Sample:
    cameras = Camera.orbit(RENDERING.views, elevation, azimuth=azimuth)
    views = render(load_mesh(home / row["file"], RENDERING), cameras, RENDERING).rgba
    meta = {key: row[key] for key in ("caption", "creator", "licence", "split")}
    meta |= {
        "cameras": cameras.numbers().tolist(),
        "object": row["id"],
        "elevation": elevation,
        "parents": [row["md5"]],
    }
    return Sample(name or row["id"], views, meta)


@pytest.fixture(scope="module")
def estimator(home: Path, objects: pl.DataFrame, encoder: Path) -> Path:
    heights = np.linspace(0, 45, 7)
    clips = [
        orbit(home, row, float(height), 20.0 * k, f"{row['id']}-{k}")
        for row in objects.to_dicts()
        for k, height in enumerate(heights)
    ]
    (home / "views" / "000").mkdir(parents=True)
    write_shard(home / "views" / "000" / "views.tar", clips)
    pl.DataFrame({"id": objects["id"]}).write_parquet(home / "rendered.parquet")
    train_elevation(
        home / "rendered.parquet",
        home / "views",
        encoder,
        home / "elevation",
        home / "elevation-state",
        CONFIG,
        seed=0,
        report=quiet,
    )
    return home / "elevation"


def test_masks_agree_with_true_coverage(home: Path, objects: pl.DataFrame) -> None:
    for row in objects.to_dicts():
        sample = orbit(home, row, 20)
        truth = sample.views[..., 3] > 127
        mask = foreground(composite(sample.views), 0.08)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9, row["id"]


def test_masks_keep_white_inside_and_reach_background_parted_by_an_object() -> None:
    image = np.ones((1, 3, 16, 16), dtype=np.float32)
    image[:, :, 4:12, 4:12] = 0.2
    image[:, :, 6:10, 6:10] = 1.0  # a white patch on the object
    assert foreground(image, 0.08).sum() == 64
    image[:, :, :, 7:9] = 0.2  # a bar from border to border
    mask = foreground(image, 0.08)[0]
    assert not mask[0, 0]
    assert not mask[0, 15]


def test_statistics_name_each_way_of_failing(home: Path, objects: pl.DataFrame) -> None:
    clean = composite(orbit(home, objects.to_dicts()[0], 20).views)
    rng = np.random.default_rng(0)

    def of(kind: str) -> dict[str, float]:
        views = np.clip(SPOILS[kind](clean, rng), 0, 1).astype(np.float32)
        return measure(views, foreground(views, 0.08))

    good = measure(clean, foreground(clean, 0.08))
    assert good["motion_mean"] > 0.02
    assert of("frozen")["motion_mean"] == 0
    assert of("pan")["sway"] > good["sway"]
    assert of("pan")["aligned"] < 0.8 * good["aligned"]
    assert of("blurred_back")["sharp_fall"] < 0.7 * good["sharp_fall"]
    assert of("cropped")["border_most"] > good["border_most"]
    assert of("vanished")["share_least"] < 0.5 * good["share_least"]
    assert of("noisy")["grain"] > 3 * good["grain"]
    assert of("two_objects")["pieces"] > 0.2
    assert of("shuffled")["stride"] < good["stride"]
    empty = np.ones_like(clean)
    assert all(np.isfinite(list(measure(empty, foreground(empty, 0.08)).values())))


def test_the_fast_median_is_ndimages() -> None:
    images = np.random.default_rng(0).random((2, 3, 9, 7)).astype(np.float32)
    np.testing.assert_array_equal(_median(images), ndimage.median_filter(images, size=(1, 1, 3, 3)))


def test_colours_agree_on_the_hull_of_true_orbits_alone(home: Path, objects: pl.DataFrame) -> None:
    rng = np.random.default_rng(0)
    clean, flipped, shuffled = [], [], []
    rows = objects.to_dicts()
    for row in rows:
        views = composite(orbit(home, row, 20).views)

        def photo(images: np.ndarray) -> dict[str, float]:
            mask = foreground(images, 0.08)
            return photometric(images, mask, carve(mask, CONFIG.features), CONFIG.features)

        clean.append(photo(views)["photo_gain"])
        flipped.append(
            photo(UNSEEN["flipped"](views, rng).astype(np.float32))["photo_mean"] > photo(views)["photo_mean"]
        )
        shuffled.append(photo(SPOILS["shuffled"](views, rng).astype(np.float32))["photo_gain"])
    assert np.mean(clean) < 0.75, "the geometry explains part of what changes"
    assert np.mean(shuffled) > np.mean(clean) + 0.1
    assert np.mean(flipped) > 0.8
    empty = np.ones((8, 3, 32, 32), dtype=np.float32)
    assert all(np.isfinite(list(photometric(empty, foreground(empty, 0.08), np.zeros(10), CONFIG.features).values())))


def test_a_judge_is_tried_on_objects_and_kinds_that_it_was_not_taught(
    home: Path, objects: pl.DataFrame, labels: Path, encoder: Path, estimator: Path
) -> None:
    unseen = objects.filter(pl.col("split") != TRAIN)
    clips = list(trial_clips(unseen, home, LABELS, seed=0, clean=2))
    kinds = {kind for kind, _ in clips}
    assert {"good", "flipped", "swapped"} <= kinds <= {"good", *SPOILS, *UNSEEN}
    assert {sample.meta["object"] for _, sample in clips} == set(unseen["id"])
    found = trial(labels, encoder, estimator, unseen, home, CONFIG, seed=0)
    assert set(found.without) == kinds - {"good"}
    assert found.roc_auc > 0.7
    assert found.clean == len(found.errors) == 4 * len(unseen)
    assert np.median(found.errors) < 15


def test_labels_are_of_training_objects_and_their_bytes_repeat(
    home: Path, objects: pl.DataFrame, labels: Path, tmp_path: Path
) -> None:
    table = read_labels(labels)
    assert len(table) == LABELS.good + len(SPOILS) * LABELS.spoiled
    assert {split_of(creator) for creator in table["creator"]} == {TRAIN}
    assert set(table.filter(pl.col("verdict") == "bad")["who"]) == {f"spoiled:{kind}" for kind in SPOILS}
    assert [row["clip"] for row, _ in read_judged(labels)] == table["clip"].to_list()
    make_labels(objects, home, tmp_path, LABELS, seed=0, report=quiet)
    assert digest(tmp_path) == digest(labels)


def test_judged_clips_are_appended_and_never_overwritten(
    home: Path, objects: pl.DataFrame, labels: Path, tmp_path: Path
) -> None:
    for file in labels.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = digest(tmp_path)
    rows = {row["split"]: row for row in objects.to_dicts()}
    clip, leak = orbit(home, rows[TRAIN], 10, name="seen"), orbit(home, rows[HELD_OUT], 10, name="leak")
    verdict = {"clip": "seen", "verdict": "unsure", "reason": "hard to say", "who": "maker", "date": "d", "source": "s"}
    add_judged(tmp_path, [clip], pl.DataFrame([verdict]))
    assert digest(tmp_path).items() > before.items()
    tar, table = sorted(digest(tmp_path).keys() - before.keys())
    assert re.fullmatch(r"clips-[0-9a-f]{12}\.tar labels-[0-9a-f]{12}\.parquet", f"{tar} {table}")
    assert ("seen", tar, rows[TRAIN]["creator"]) in read_labels(tmp_path).select("clip", "tar", "creator").rows()
    for clips, change, problem in (
        ([clip], {}, "already"),
        ([clip], {"clip": "other"}, "not given"),
        ([clip], {"verdict": "fine"}, "fine"),
        ([leak], {"clip": "leak"}, "split"),
    ):
        with pytest.raises(ValueError, match=problem):
            add_judged(tmp_path, clips, pl.DataFrame([verdict | change]))


def test_spoiled_clips_score_below_real_orbits(
    home: Path, objects: pl.DataFrame, encoder: Path, classifier: Path
) -> None:
    """New orbits of objects that no label showed."""
    unseen = [row for row in objects.to_dicts() if row["split"] != TRAIN]
    clean = [orbit(home, row, height) for row in unseen for height in (10, 30)]
    rng = np.random.default_rng(0)
    judge, embedder = load_classifier(classifier), load_embedder(CONFIG.features, encoder)

    def scores(samples: list[Sample]) -> np.ndarray:
        return judge.scores(observe(embedder, samples, CONFIG))

    def spoiled(spoil: Any) -> list[Sample]:
        return [Sample(s.id, opaque(spoil(composite(s.views), rng)), s.meta) for s in clean]

    good = scores(clean)
    assert (scores(spoiled(frozen)) < good - 0.2).all()
    assert (scores(spoiled(pan)) < good - 0.2).all()


def test_report_tells_threshold_and_reason(classifier: Path) -> None:
    report = pl.read_parquet(classifier / "report.parquet")
    values = dict(report.filter(pl.col("at").is_null()).select("name", "value").rows())
    assert values["roc_auc"] > 0.8
    assert values["objects"] == 8
    assert "precision" in report.filter(pl.col("name") == "threshold")["note"][0]
    assert len(report.filter(pl.col("name") == "curve.recall")) == 101
    predictions = pl.read_parquet(classifier / "predictions.parquet")
    accepted = predictions.filter(pl.col("score") >= values["threshold"])
    assert (accepted["verdict"] == "good").mean() == pytest.approx(values["precision"])


def test_stored_arrays_decide_as_scikit_learn_does(labels: Path, encoder: Path, classifier: Path) -> None:
    judged = list(read_judged(labels))
    seen = observe(load_embedder(CONFIG.features, encoder), [sample for _, sample in judged], CONFIG)
    good = np.array([row["verdict"] == "good" for row, _ in judged])
    embedding, statistics = _matrices(seen)
    x = _Projection.fitted(embedding, statistics, CONFIG.classifier.components)(embedding, statistics)
    peer = SVC(C=CONFIG.classifier.penalty, kernel="rbf", gamma=1 / x.shape[1]).fit(x, good)
    ours = load_classifier(classifier)
    np.testing.assert_allclose(ours._margin(embedding, statistics), peer.decision_function(x), atol=1e-6)


def test_classifier_bytes_repeat_and_hold_no_pickle(
    labels: Path, encoder: Path, classifier: Path, tmp_path: Path
) -> None:
    train_classifier(labels, encoder, tmp_path, CONFIG, seed=0, report=quiet)
    assert digest(tmp_path) == digest(classifier)
    assert {Path(name).suffix for name in digest(classifier)} == {".json", ".safetensors", ".parquet"}


def test_classifier_refuses_what_it_cannot_learn_from(
    labels: Path, encoder: Path, classifier: Path, tmp_path: Path
) -> None:
    (tmp_path / "clips.tar").write_bytes((labels / "clips.tar").read_bytes())
    read_labels(labels).filter(pl.col("verdict") == "good").write_parquet(tmp_path / "labels.parquet")
    with pytest.raises(ValueError, match="20 good and 0 bad"):
        train_classifier(tmp_path, encoder, tmp_path / "out", CONFIG, seed=0, report=quiet)
    numbers = {"image_size": 32, "table_size": 32, "patch": 8, "width": 24, "layers": 1, "heads": 2}
    other = EncoderConfig.model_validate(numbers)
    save(Encoder(other), other, tmp_path / "encoder")
    sample = next(read_shard(labels / "clips.tar"))
    seen = observe(load_embedder(CONFIG.features, tmp_path / "encoder"), [sample], CONFIG)
    with pytest.raises(ValueError, match="train it again"):
        load_classifier(classifier).scores(seen)
    assert _fitted(*_matrices([*seen, *seen]), np.array([True, False]), ClassifierConfig.model_validate({}))


def test_elevation_beats_the_constant(estimator: Path) -> None:
    curve = pl.read_parquet(estimator / "training.parquet")
    values = dict(curve.select("name", "value").rows())
    for split in (VALIDATION, HELD_OUT):
        assert values[f"{split}_mae"] < 0.85 * values[f"{split}_constant"]


def test_elevation_bytes_repeat(home: Path, encoder: Path, estimator: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    train_elevation(
        home / "rendered.parquet", home / "views", encoder, out, tmp_path / "state", CONFIG, seed=0, report=quiet
    )
    assert digest(out) == digest(estimator)


def test_elevation_needs_training_objects(home: Path, encoder: Path, estimator: Path, tmp_path: Path) -> None:
    pl.DataFrame({"id": ["validation0"]}).write_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(ValueError, match="no rendered orbit"):
        train_elevation(
            tmp_path / "manifest.parquet", home / "views", encoder, tmp_path, tmp_path, CONFIG, seed=0, report=quiet
        )


@pytest.fixture(scope="module")
def corpus(home: Path, objects: pl.DataFrame, encoder: Path, estimator: Path, classifier: Path) -> Path:
    """Two labelled shards: good, frozen, empty, broken in two ways, and one given up at generation."""
    train = [row for row in objects.to_dicts() if row["split"] == TRAIN]
    for shard in ("p000", "p001"):
        clips, out = home / "corpus" / "clips" / shard, home / "corpus" / "labels" / shard
        clips.mkdir(parents=True)
        good = [orbit(home, row, 15, 30, f"{shard}-good{k}") for k, row in enumerate(train[:4])]
        still = opaque(frozen(composite(good[0].views), np.random.default_rng(0)))
        white = np.full_like(good[0].views, 255)
        samples = [*good, Sample(f"{shard}-still", still, good[0].meta), Sample(f"{shard}-white", white, good[0].meta)]
        write_shard(clips / "clips.tar", samples)
        with tarfile.open(clips / "clips.tar", "a") as tar:
            for name, data in (
                (f"{shard}-torn.00.png", b"not a picture"),
                (f"{shard}-torn.01.png", b"nor this"),
                (f"{shard}-torn.json", json.dumps({"cameras": [[0.0] * 16] * 2}).encode()),
                (f"{shard}-zero.json", json.dumps({"cameras": [[0.0] * 16] * 8}).encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        lost = pl.DataFrame({"id": [f"{shard}-lost"], "reason": ["the sampler gave numbers that are not finite"]})
        lost.write_parquet(clips / "quarantine.parquet")
        label_shard(clips / "clips.tar", estimator, classifier, encoder, out, CONFIG, seed=0, report=quiet)
    return home / "corpus"


def test_a_broken_clip_is_quarantined_and_its_neighbours_are_labelled(
    corpus: Path, estimator: Path, classifier: Path, encoder: Path, tmp_path: Path
) -> None:
    folder = corpus / "labels" / "p000"
    rows = {row["id"]: row for row in pl.read_parquet(folder / "labels.parquet").to_dicts()}
    assert rows["p000-torn"]["fault"] == "view 00.png is not a readable PNG"
    assert rows["p000-zero"]["fault"] == "0 views for 8 cameras"
    assert rows["p000-torn"]["score"] is None
    assert all(rows[f"p000-good{k}"]["fault"] is None for k in range(4))
    assert rows["p000-good0"]["object"] == "train0"
    assert 0 < rows["p000-good0"]["elevation"] < 30
    masks = {sample.id: sample.views[..., 3] > 0 for sample in read_shard(folder / "masks.tar")}
    clips = {clip.id: clip for clip in read_clips(corpus / "clips" / "p000" / "clips.tar") if isinstance(clip, Sample)}
    assert masks.keys() == {i for i, row in rows.items() if row["fault"] is None}
    truth = clips["p000-good0"].views[..., 3] > 127
    assert (masks["p000-good0"] & truth).sum() / (masks["p000-good0"] | truth).sum() > 0.9
    features = pl.read_parquet(folder / "features.parquet")
    assert set(features["id"]) == masks.keys()
    label_shard(
        corpus / "clips" / "p000" / "clips.tar", estimator, classifier, encoder, tmp_path, CONFIG, seed=0, report=quiet
    )
    assert digest(tmp_path) == digest(folder)


def test_a_torn_shard_is_an_error_that_names_it(
    corpus: Path, estimator: Path, classifier: Path, encoder: Path, tmp_path: Path
) -> None:
    torn = tmp_path / "clips.tar"
    torn.write_bytes((corpus / "clips" / "p000" / "clips.tar").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"clips\.tar is no complete tar"):
        label_shard(torn, estimator, classifier, encoder, tmp_path, CONFIG, seed=0, report=quiet)


def verdicts(corpus: Path, out: Path, events: list[dict[str, Any]] | None = None, **rules: Any) -> dict[str, str]:
    config = QualityConfig.model_validate({"verdict": rules})
    report = quiet if events is None else events.append
    corpus_manifest(corpus / "labels", corpus / "clips", out, config, report=report)
    table = pl.read_parquet(out / "manifest.parquet")
    return dict(table.select("id", "reason").rows())


def test_every_clip_gets_a_verdict_and_a_reason(corpus: Path, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    reasons = verdicts(corpus, tmp_path, events, threshold=0.0)
    assert {key.removeprefix("p000-"): reason for key, reason in reasons.items() if key.startswith("p000")} == {
        **{f"good{k}": "accepted" for k in range(4)},
        "still": "no motion",
        "white": "no object in some view",
        "torn": "broken: view 00.png is not a readable PNG",
        "zero": "broken: 0 views for 8 cameras",
        "lost": "quarantined at generation: the sampler gave numbers that are not finite",
    }
    assert events[-1] == {"metrics": {"clips": 18, "accepted": 8, "keep_rate": 8 / 18, "spared": 0}}
    assert [(event["step"], event["of"]) for event in events[:-1]] == [(1, 2), (2, 2)]
    row = pl.read_parquet(tmp_path / "manifest.parquet").filter(pl.col("id") == "p001-good1").to_dicts()[0]
    assert row["clips_path"] == "p001/clips.tar"
    assert row["clips_md5"] == hashlib.md5((corpus / "clips" / "p001" / "clips.tar").read_bytes()).hexdigest()
    assert row["masks_md5"] == hashlib.md5((corpus / "labels" / "p001" / "masks.tar").read_bytes()).hexdigest()
    assert json.loads(row["parents"])
    summary = pl.read_parquet(tmp_path / "summary.parquet")
    assert summary["clips"].sum() == 18


def test_nothing_accepted_is_an_error_and_a_share_can_be_kept(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"0 of 18 clips are accepted, at least 1 are needed .*score below threshold"):
        verdicts(corpus, tmp_path / "none", threshold=1.0)
    assert not (tmp_path / "none" / "manifest.parquet").exists()
    reasons = verdicts(corpus, tmp_path / "some", threshold=1.0, keep_least=1 / 6)
    spared = [key for key, reason in reasons.items() if reason == SPARED]
    assert len(spared) == 3
    table = pl.read_parquet(tmp_path / "some" / "manifest.parquet")
    others = table.filter(pl.col("reason") == "score below threshold")["score"]
    assert table.filter(pl.col("id").is_in(spared))["score"].min() >= others.max()  # type: ignore[operator]
    assert set(table.filter(pl.col("id").is_in(spared))["verdict"]) == {"accepted"}


def test_a_shard_without_labels_is_an_error(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    with pytest.raises(ValueError, match="2 shards are in only one of"):
        corpus_manifest(tmp_path / "labels", corpus / "clips", tmp_path / "out", CONFIG, report=quiet)


def test_elevation_estimator_loads_from_its_folder_alone(estimator: Path) -> None:
    model = load_elevation(estimator)
    mean, spread = model.degrees(np.zeros((8, model.centre.numel()), dtype=np.float32))
    assert np.isfinite(mean)
    assert spread == pytest.approx(0, abs=1e-4)


def test_carving_finds_the_elevation_and_tells_orbits_from_others(home: Path, objects: pl.DataFrame) -> None:
    rng = np.random.default_rng(0)
    found, true, clean, wrong = [], [], [], []
    for row in objects.to_dicts():
        for height in (5.0, 20.0, 40.0):
            images = composite(orbit(home, row, height, 10).views)
            profile = carve(foreground(images, 0.08), CONFIG.features)
            found.append(ELEVATIONS[int(profile.argmax())])
            true.append(height)
            clean.append(profile.max())
            turned = SPOILS["shuffled"](images, rng)
            wrong.append(carve(foreground(turned, 0.08), CONFIG.features).max())
    assert np.abs(np.subtract(found, true)).mean() < 5
    assert np.mean(clean) > np.mean(wrong) + 0.1
    empty = np.zeros((8, 32, 32), dtype=bool)
    assert (carve(empty, CONFIG.features) == 0).all()


def test_carving_hardly_depends_on_the_image_size(home: Path, objects: pl.DataFrame) -> None:
    row = objects.to_dicts()[0]
    mask = orbit(home, row, 20).views[..., 3] > 127
    large = np.repeat(np.repeat(mask, 4, axis=1), 4, axis=2)
    np.testing.assert_array_equal(carve(large, CONFIG.features), carve(mask, CONFIG.features))
