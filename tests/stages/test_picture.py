"""Pictures of all kinds and states, as inputs of the reconstruction model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from stages.errors import InputError
from stages.reconstruction import picture as pictures
from stages.reconstruction.picture import object_mask, object_picture, read_picture
from tests.stages.test_features import darkness

RED = (200, 30, 30)


def drawn(mode: str = "RGB", ground: str = "white", size: tuple[int, int] = (90, 60)) -> Image.Image:
    """A red bar, 24 wide and 48 high, right of the middle."""
    image = Image.new("RGBA", size, (255, 255, 255, 0) if mode == "RGBA" else ground)
    image.paste(RED, (60, 5, 84, 53))
    return image.convert(mode)


def shown(path: Path) -> Tensor:
    return object_picture(read_picture(path), 32, 0.75)


def assert_bar(image: Tensor, colour: tuple[int, ...] = RED, tolerance: float = 0.03) -> None:
    rows, columns = (np.nonzero((image < 0.9).any(0).any(axis).numpy())[0] for axis in (1, 0))
    assert rows[-1] - rows[0] + 1 == pytest.approx(24, abs=1)
    assert columns[-1] - columns[0] + 1 == pytest.approx(12, abs=1)
    assert rows[0] + rows[-1] == pytest.approx(31, abs=1)
    assert columns[0] + columns[-1] == pytest.approx(31, abs=1)
    np.testing.assert_allclose(image[:, 16, 16], np.array(colour) / 255, atol=tolerance)
    assert (image[:, 0] == 1).all(), "white around"


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("RGB", "png"), ("RGB", "webp"), ("RGB", "bmp")])
def test_an_object_is_found_centred_and_sized(mode: str, suffix: str, tmp_path: Path) -> None:
    drawn(mode).save(tmp_path / f"x.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    assert_bar(shown(tmp_path / f"x.{suffix}"))


@pytest.mark.parametrize("ground", ["black", "#2060c0", "#808080"])
def test_a_plain_background_of_any_colour_is_removed(ground: str, tmp_path: Path) -> None:
    drawn(ground=ground).save(tmp_path / "x.png")
    assert_bar(shown(tmp_path / "x.png"))


def test_white_within_the_object_stays_object() -> None:
    image = drawn()
    image.paste("white", (66, 20, 78, 40))
    rgba = np.asarray(image.convert("RGBA"))
    assert object_mask(pictures.Picture(rgba, "x"))[30, 70]


def test_a_busy_background_needs_help(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="background cannot be told from the object"):
        shown(tmp_path / "x.png")


def test_a_saliency_network_finds_the_object_on_a_busy_background(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(150, 255, (60, 90, 3), dtype=np.uint8)
    noise[5:53, 60:84] = 20
    Image.fromarray(noise).save(tmp_path / "x.png")
    network = darkness(tmp_path / "u2net.onnx", size=64)
    assert_bar(object_picture(read_picture(tmp_path / "x.png"), 32, 0.75, network), (20, 20, 20))


def test_grey_and_its_sixteen_bits(tmp_path: Path) -> None:
    grey = drawn("L")
    level = int(np.asarray(grey)[30, 70])
    grey.save(tmp_path / "8.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(np.asarray(grey).astype(np.int32) * 257).save(tmp_path / "32.tiff")
    Image.fromarray((np.asarray(grey) / 255).astype(np.float32)).save(tmp_path / "float.tiff")
    for name in ("8.png", "16.png", "32.tiff", "float.tiff"):
        assert_bar(shown(tmp_path / name), (level,) * 3)
    assert "8 bit" in read_picture(tmp_path / "16.png").notes[0]
    Image.fromarray(np.full((4, 4), 7.0, dtype=np.float32)).save(tmp_path / "7.tiff")
    with pytest.raises(InputError, match="floats from 7 to 7"):
        read_picture(tmp_path / "7.tiff")


def test_grey_with_alpha_and_palettes(tmp_path: Path) -> None:
    drawn("RGBA").convert("LA").save(tmp_path / "la.png")
    drawn("RGB").convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    clear = drawn("RGB").convert("P", palette=Image.Palette.ADAPTIVE)
    clear.save(tmp_path / "clear.png", transparency=clear.getpixel((0, 0)))
    drawn("1").save(tmp_path / "1.png")
    assert_bar(shown(tmp_path / "la.png"), (81,) * 3)
    assert_bar(shown(tmp_path / "p.png"))
    assert read_picture(tmp_path / "clear.png").rgba[0, 0, 3] == 0
    assert_bar(shown(tmp_path / "clear.png"))
    assert read_picture(tmp_path / "1.png").rgba.shape == (60, 90, 4)


def test_cmyk_is_converted_and_said(tmp_path: Path) -> None:
    drawn("CMYK").save(tmp_path / "x.jpg", quality=95)
    assert "CMYK" in read_picture(tmp_path / "x.jpg").notes[0]
    assert_bar(shown(tmp_path / "x.jpg"), tolerance=0.06)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    blue = Image.new("RGB", (90, 60), "blue")
    drawn().save(tmp_path / "x.gif", save_all=True, append_images=[blue, Image.new("RGB", (90, 60), "green")])
    drawn().save(tmp_path / "x.webp", save_all=True, append_images=[blue], lossless=True)
    for name, count in (("x.gif", 3), ("x.webp", 2)):
        assert read_picture(tmp_path / name).notes == (f"the first of {count} frames is used",)
        assert_bar(shown(tmp_path / name))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_says_which_way_is_up(orientation: int, tmp_path: Path) -> None:
    back = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    stored = drawn()
    for turn in back:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    read = read_picture(tmp_path / "x.png")
    np.testing.assert_array_equal(read.rgba[..., :3], np.asarray(drawn()))
    assert "EXIF" in read.notes[0]


def test_large_pictures_are_made_smaller_and_very_large_ones_refused(tmp_path: Path) -> None:
    Image.new("L", (8000, 8000), 255).save(tmp_path / "grey.png", compress_level=1)
    big = Image.new("RGB", (8000, 8000), "white")
    big.paste(RED, (1000, 1000, 3000, 5000))
    big.save(tmp_path / "x.jpg", quality=50)
    with pytest.raises(InputError, match=r"grey\.png shows nothing"):
        shown(tmp_path / "grey.png")
    read = read_picture(tmp_path / "x.jpg")
    assert max(read.rgba.shape) <= pictures.LARGEST
    assert "8000 x 8000" in read.notes[0]
    assert_bar(object_picture(read, 32, 0.75))
    Image.new("1", (20000, 6000)).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match="20000 x 6000 pixels"):
        read_picture(tmp_path / "huge.png")


def test_an_upright_tiff_is_not_said_to_be_turned(tmp_path: Path) -> None:
    drawn().save(tmp_path / "x.tif")
    assert read_picture(tmp_path / "x.tif").notes == ()


def test_an_object_of_a_few_pixels_is_refused(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (64, 64))
    picture.paste((*RED, 255), (20, 20, 27, 24))
    picture.save(tmp_path / "speck.png")
    with pytest.raises(InputError, match=r"speck\.png shows an object of 7 pixels, at least 8"):
        shown(tmp_path / "speck.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
def test_files_cut_short_are_named(suffix: str, share: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper())
    )
    data = buffer.getvalue()
    (tmp_path / f"cut.{suffix}").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=rf"cut\.{suffix} is (no picture|damaged)"):
        read_picture(tmp_path / f"cut.{suffix}")


def test_pictures_that_show_nothing_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "white").save(tmp_path / "white.png")
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    for name, words in {
        "white": "shows nothing",
        "clear": "fully transparent",
        "text": "is no picture",
        "empty": "is no picture",
    }.items():
        with pytest.raises(InputError, match=rf"{name}\.png.*{words}"):
            shown(tmp_path / f"{name}.png")
