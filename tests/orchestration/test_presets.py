from functools import partial
from pathlib import Path

import pytest

from orchestration.presets.schema import PresetError, current_preset, load_preset, preset_names


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_every_preset_loads_under_its_own_name():
    assert preset_names() == ["nano", "tiny", "small-cpu", "furniture", "small", "small-svd", "paper"]
    for name in preset_names():
        assert load_preset(name).name == name


def test_environment_picks_the_preset(monkeypatch):
    monkeypatch.setenv("ORBITFORGE_PRESET", "nano")
    assert current_preset().name == "nano"
    monkeypatch.delenv("ORBITFORGE_PRESET")
    assert current_preset().name == "tiny"


def test_extends_keeps_what_it_does_not_name(tmp_path):
    mine = load_preset(write(tmp_path, "extends: tiny\nrendering: {views: 5}"))
    assert (mine.rendering.views, mine.rendering.size) == (5, load_preset("tiny").rendering.size)
    assert mine.name == "mine"


def test_extends_is_one_level(tmp_path):
    with pytest.raises(PresetError, match="one level"):
        load_preset(write(tmp_path, "extends: nano"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rendring: {}", ["mine.yaml", "`rendring`", "rendering", "source"]),
        ("rendering: {sise: 3}", ["mine.yaml", "`rendering.sise`", "size", "views"]),
        ("rendering: {size: 3}", ["mine.yaml", "`rendering.size` is 3", "greater than or equal to 8"]),
        ("rendering: {size: large}", ["`rendering.size` is 'large'", "integer"]),
        ("source: {folder: mine}", ["mine.yaml: source.folder is 'mine'", "data/mine/ holds artifacts"]),
        ("source: {folder: nano}", ["data/nano/ holds artifacts"]),
        ("- 1", ["holds a list"]),
        ("a: [", ["not YAML"]),
        ("extends: paperr", ["paperr", "choose one of nano, tiny"]),
    ],
)
def test_bad_values_are_told_in_one_line(tmp_path, text, told):
    with pytest.raises(PresetError) as error:
        load_preset(write(tmp_path, text))
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in told), message


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(PresetError, match="choose one of nano, tiny, small-cpu, furniture, small, small-svd, paper"):
        load_preset("huge")


def test_a_step_sees_its_own_sections_only():
    tiny = load_preset("tiny")
    assert tiny.resolved("rendering") == {"rendering": tiny.rendering.model_dump(mode="json")}
    assert tiny.resolved("rendering.size") == {"rendering.size": tiny.rendering.size}
    with pytest.raises(PresetError, match="no section 'rendring'"):
        tiny.resolved("rendring")


@pytest.mark.parametrize("name", preset_names())
def test_the_stages_of_a_preset_fit_together(name):
    preset = load_preset(name)
    base, lrm = preset.base, preset.pretrain.model
    assert base.encoder.encoder == lrm.encoder
    assert base.video.video.size == preset.rendering.size
    assert preset.rendering.views % base.video.video.frames == 0
    assert base.video.bank.rendering.views % base.video.video.frames == 0


@pytest.mark.parametrize("name", preset_names())
def test_the_branch_of_many_views_fits_the_chain(name):
    preset = load_preset(name)
    assert preset.candidates.elevation in preset.rings.elevations
    assert preset.candidates.views % preset.base.video.video.frames == 0
    assert len(preset.rings.elevations) % preset.multiview.columns == 0


def test_the_multiview_model_of_the_paper_preset_has_the_shapes_of_stable_diffusion():
    """1,066,264,107 parameters: the UNet's 859.5 M, the autoencoder's 83.7 M, the text encoder's 123.1 M, and a first
    layer that takes the picture and the places as well."""
    from models.checkpoints import parameter_count
    from models.multiview import MultiviewModel, build_pipeline
    from models.multiview_config import MultiviewConfig

    paper = load_preset("paper")
    assert paper.multiview.backbone is not None
    pipeline = partial(build_pipeline, paper.multiview.backbone)
    config = MultiviewConfig.model_validate({"size": paper.rendering.size, "elevations": paper.rings.elevations})
    assert parameter_count(lambda: MultiviewModel.begin(pipeline(), config)) == 1_066_264_107


def test_small_presets_share_the_shipped_base_weights():
    assert load_preset("nano").base == load_preset("tiny").base == load_preset("small-cpu").base


def test_the_paper_preset_is_the_published_model():
    model = load_preset("paper").pretrain.model
    assert (model.width, model.layers, model.heads, model.channels) == (1024, 16, 16, 80)
    assert (model.encoder.image_size, model.encoder.width) == (512, 768)
    assert not model.align
    assert model.view_channels == 0


def test_a_video_model_of_another_family_is_taken_whole():
    small, other = load_preset("small"), load_preset("small-svd")
    assert (small.base.video.video.family, other.base.video.video.family) == ("wan", "svd")
    assert other.base.encoder == small.base.encoder
    assert other.video.training.precision == small.video.training.precision
    assert other.video.trainable == "temporal"
