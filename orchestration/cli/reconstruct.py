"""`orbitforge reconstruct`: images in, 3D assets out."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from orchestration.cli.checkpoint import reconstructor, saliency_config, told_height
from orchestration.cli.progress import working
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.presets.schema import current_preset
from stages.errors import InputError
from stages.reconstruction.files import FORMATS

if TYPE_CHECKING:
    from stages.reconstruction.asset import Asset, Height, Reconstructor
    from stages.reconstruction.picture import Picture

REPORT = "report.json"


def reconstruct_command(
    images: list[Path],
    output: Path,
    *,
    video: Path | None,
    turntable: bool,
    form: str | None,
    elevation: str | None,
    checkpoint: str | None,
    kind: str | None,
    device: str,
    saliency: Path | None,
    changes: dict[str, Any],
    as_json: bool,
) -> None:
    """One image and a file: that asset, and the video if one is wanted, or neither. Otherwise a folder with an asset an
    image and a report; a bad image costs its own row. Raises OrbitforgeError at the end if there were any.
    """
    preset = current_preset()
    single = len(images) == 1 and output.suffix != "" and not output.is_dir()
    if single:
        refuse_suffix(output, FORMATS)
        if form and output.suffix != f".{form}":
            raise OrbitforgeError(f"{output} does not end in .{form}, the format that was asked for")
        if video:
            refuse_suffix(video, (".mp4",))
        if not images[0].is_file():
            raise OrbitforgeError(f"{images[0]} is no file; name a picture of one object")
    elif video:
        raise OrbitforgeError(f"--video {video} is for one image and one file; --turntable writes one for each image")
    elif output.is_file() or (output.suffix in FORMATS and not output.is_dir()):
        raise OrbitforgeError(f"{output} is for one image, {len(images)} were given; name a folder")
    changes = {**changes, "saliency": saliency_config(saliency)}
    model = reconstructor(preset, checkpoint, kind=kind, device=device, changes=changes)
    height = told_height(preset, elevation)
    console = Console(stderr=True)
    if single:
        with working(console, "reconstructing"):
            made = model(images[0], height)
        for note in made.notes:
            console.print(f"{images[0]}: {note}", style="dim", markup=False, highlight=False, soft_wrap=True)
        with working(console, "writing"):
            files = save(made, output, video or (output.with_suffix(".mp4") if turntable else None), images=images)
        rows = [_row(images[0], files=[str(file) for file in files], made=made)]
    else:
        rows = _batch(images, output, model, height, form or "glb", turntable, console)
    if as_json:
        print(json.dumps(rows))
    elif single:
        for file in rows[0]["files"]:
            Console().print(file, highlight=False, soft_wrap=True)
    bad = [row for row in rows if row["reason"]]
    if bad:
        raise OrbitforgeError(
            f"{len(bad)} of {len(rows)} images gave no asset; {output / REPORT} says why: {bad[0]['reason']}"
        )


def _batch(
    images: list[Path],
    output: Path,
    model: Reconstructor,
    height: float | Height | None,
    form: str,
    turntable: bool,
    console: Console,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    taken: set[str] = set()
    with plain_errors(f"writing {output}"):
        output.mkdir(parents=True, exist_ok=True)
    for image in images:
        name = next(
            name for k in range(len(images) + 1) if (name := image.stem + (f"-{k + 1}" if k else "")) not in taken
        )
        taken.add(name)
        try:
            if not image.is_file():
                raise InputError(f"{image} is no file")
            with working(console, "reconstructing") as tell:
                tell({"step": len(rows), "of": len(images), "message": image.name})
                made = model(image, height)
            asset, video = output / f"{name}.{form}", output / f"{name}.mp4" if turntable else None
            files = save(made, asset, video, images=images)
            rows.append(_row(image, files=[file.name for file in files], made=made))
        except InputError as error:
            rows.append(_row(image, reason=str(error)))
        said = rows[-1]["reason"] or ", ".join(rows[-1]["files"])
        console.print(f"{len(rows)}/{len(images)} {said}", markup=False, highlight=False, soft_wrap=True)
        with plain_errors(f"writing {output / REPORT}"):  # after each: what is done is known after a kill
            unfinished = output / f".{REPORT}.{os.getpid()}"
            unfinished.write_text(json.dumps(rows, indent=1) + "\n")
            unfinished.replace(output / REPORT)
    return rows


def _row(image: Path, *, files: list[str] | None = None, reason: str | None = None, made: Asset | None = None) -> dict:
    """What the report says of an image."""
    told: dict[str, Any] = {"image": str(image), "files": files or [], "reason": reason}
    if made is not None:
        told |= {**made.extras, "notes": list(made.notes), "faces": len(made.mesh.faces)}
    return told


def save(
    made: Asset,
    output: Path,
    video: Path | None,
    picture: tuple[Path, Picture] | None = None,
    *,
    images: Sequence[Path] = (),
    further: Mapping[Path, Callable[[Path], object]] = {},  # read alone
) -> list[Path]:
    """Write the asset, video and picture if they are wanted, and what `further` writes: all files, or none. Raises
    InputError when one would take the place of another, of a folder, or of one of `images`."""
    with plain_errors(f"writing {output}"):
        for path in filter(None, (output, video, picture and picture[0], *further)):
            path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(output) as folder:
            files = [(file, output.parent / file.name) for file in made.write(folder / output.name)]
            if video:
                made.write_turntable(folder / "turntable.mp4")
                files.append((folder / "turntable.mp4", video))
            if picture:
                picture[1].save(folder / "picture.png")
                files.append((folder / "picture.png", picture[0]))
            for number, (path, write) in enumerate(further.items()):
                unfinished = folder / f"further-{number}{path.suffix}"
                write(unfinished)
                files.append((unfinished, path))
            places = [finished.resolve() for _, finished in files]
            for place in places:
                if place.is_dir():  # else the file would be moved into it
                    raise InputError(f"{place} is a folder; name a file")
                if places.count(place) > 1 or place in [image.resolve() for image in images]:
                    raise InputError(f"{place} would be written over; name another output")
            for unfinished, finished in files:
                shutil.move(unfinished, finished)
            return [finished for _, finished in files]


@contextmanager
def _beside(output: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".orbitforge-", dir=output.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_suffix(path: Path, wanted: tuple[str, ...]) -> None:
    if path.suffix not in wanted:
        raise OrbitforgeError(f"{path} should end in {' or '.join(wanted)}; that is what is written")
