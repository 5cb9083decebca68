"""`orbitforge reconstruct --model flexrm` and `generate --model flexrm`: views in, a mesh and splats out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from orchestration import paths
from orchestration.cli.checkpoint import changed, checkpoint_path, saliency_config
from orchestration.cli.progress import working
from orchestration.cli.reconstruct import refuse_suffix, save
from orchestration.errors import OrbitforgeError
from orchestration.presets.schema import Preset, current_preset
from stages.reconstruction.files import FORMATS

if TYPE_CHECKING:
    from stages.flexrm.asset import SplatAsset, ViewsReconstructor
    from stages.flexrm.views import PosedViews
    from stages.reconstruction.config import ExportConfig
    from stages.reconstruction.picture import Picture

MODEL = "flexrm"


def reconstruct_views_command(
    images: list[Path],
    output: Path,
    *,
    cameras: str | None,
    splats: Path | None,
    video: Path | None,
    seed: int,
    checkpoint: str | None,
    device: str,
    saliency: Path | None,
    changes: dict[str, Any],
    as_json: bool,
) -> None:
    """Views of one object with their cameras; or one picture without any, of which candidate views are made first."""
    preset = current_preset()
    refuse_outputs(output, splats, video)
    if cameras is None and len(images) > 1:
        raise OrbitforgeError(
            f"{len(images)} views without cameras: name their transforms.json with --cameras, or a ring they stand on "
            "(orbit, elevations, candidates)"
        )
    if missing := [image for image in images if not image.is_file()]:
        raise OrbitforgeError(f"{missing[0]} is no file; name pictures of one object")
    changes = {**changes, "saliency": saliency_config(saliency)}
    views = None if cameras is None else posed(preset, images, cameras)
    model = flexrm(preset, checkpoint, device=device, changes=changes)
    console = Console(stderr=True)
    if views is None:
        from stages.reconstruction.picture import read_picture

        picture = read_picture(images[0])
        with working(console, "making candidate views"):
            views = imagined(preset, picture, "", seed, model.config)
        views = replace(views, notes=picture.notes + views.notes)
    with working(console, "reconstructing"):
        made = model.from_views(views.images, views.cameras, views.notes)
    finish(made, output, splats=splats, video=video, images=images, as_json=as_json)


def generate_views_command(
    prompt: str,
    output: Path,
    *,
    seed: int,
    picture: Path | None,
    splats: Path | None,
    video: Path | None,
    checkpoint: str | None,
    device: str,
    changes: dict[str, Any],
) -> None:
    """Draw a picture of the prompt, make candidate views of it, curate them, reconstruct from those that stay."""
    from orchestration.cli.painting import painter, worded

    text = worded(prompt)
    refuse_outputs(output, splats, video)
    if picture:
        refuse_suffix(picture, (".png",))
    preset = current_preset()
    paint = painter(preset)
    model = flexrm(preset, checkpoint, device=device, changes=changes)
    with working(Console(stderr=True), "drawing") as tell:
        drawn = paint(text, seed)
        tell({"message": "making candidate views"})
        views = imagined(preset, drawn, text, seed, model.config.model_copy(update={"saliency": None}))
        tell({"message": "reconstructing"})
        made = model.from_views(views.images, views.cameras, views.notes).told(prompt=text, seed=seed)
    finish(made, output, splats=splats, video=video, picture=picture and (picture, drawn))


def refuse_outputs(output: Path, splats: Path | None, video: Path | None) -> None:
    refuse_suffix(output, FORMATS)
    if splats:
        refuse_suffix(splats, (".ply",))
    if video:
        refuse_suffix(video, (".mp4",))


def posed(preset: Preset, images: list[Path], cameras: str) -> PosedViews:
    """The views of files with the cameras of a file or of a ring, see `stages.flexrm.views`."""
    from stages.flexrm.views import RINGS, RingsOfViews, read_views

    config = preset.flexrm.model
    rings = RingsOfViews(
        elevation=preset.candidates.elevation,
        elevations=preset.rings.elevations,
        radius=preset.rendering.radius,
        focal=preset.rendering.focal,
    )
    named = cameras if cameras in RINGS else Path(cameras)
    if isinstance(named, Path) and not named.is_file():
        raise OrbitforgeError(f"--cameras {cameras}: neither a file nor one of the rings {', '.join(RINGS)}")
    return read_views(images, config.encoder.image_size, named, rings, config.box)


def imagined(preset: Preset, picture: Picture, caption: str, seed: int, config: ExportConfig) -> PosedViews:
    """Candidate views of one picture's object, those that curation keeps: the whole of Flex3D. Raises OrbitforgeError
    where a model is missing, InputError for a picture without an object."""
    from stages.candidates.draw import Candidates
    from stages.curation.curate import load_curator
    from stages.flexrm.views import PosedViews
    from stages.reconstruction.picture import object_picture

    home, encoder = paths.data() / preset.name, paths.data() / "base_models" / "encoder"
    for name in ("multiview_model", "video_model", "quality_classifier"):
        if not (home / name / "config.json").is_file():
            raise OrbitforgeError(
                f"{home / name} holds no model yet, and candidate views want one: make them with `orbitforge run` and "
                f"`orbitforge flexiview --preset {preset.name}`, or give views with --cameras"
            )
    candidates = Candidates(
        home / "multiview_model", home / "video_model", preset.candidates, preset.corpus, preset.rendering
    )
    view = object_picture(picture, candidates.size, config.fill, config.saliency)  # the generators' size, not FlexRM's
    (pool,) = candidates(view[None], ["picture"], [caption], seed)
    kept = load_curator(home / "quality_classifier", encoder, preset.curation, preset.quality)(pool).kept
    order = [pool.front, *(place for place in kept.nonzero()[0].tolist() if place != pool.front)]
    told = f"{len(order)} of {len(pool.views)} candidate views are kept"
    return PosedViews(pool.views[order], pool.cameras[order], (told,))


def flexrm(preset: Preset, checkpoint: str | None, *, device: str, changes: dict[str, Any]) -> ViewsReconstructor:
    """The preset's FlexRM, or the one at `checkpoint`, with the preset's way of making assets and these changes."""
    from stages.flexrm.asset import load_flexrm

    own = paths.data() / preset.name / MODEL
    if checkpoint is None and not (own / "config.json").is_file():
        raise OrbitforgeError(f"{own} holds no model yet; make it with `orbitforge flexiview --preset {preset.name}`")
    folder = own if checkpoint is None else checkpoint_path(preset, checkpoint)
    return load_flexrm(folder, device=device, config=changed(preset.flexrm.export, changes))


def finish(
    made: SplatAsset,
    output: Path,
    *,
    splats: Path | None,
    video: Path | None,
    images: list[Path] | None = None,
    picture: Any = None,
    as_json: bool = False,
) -> None:
    """Write all files, or none, and say which."""
    console = Console(stderr=True)
    for note in made.notes:
        console.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)
    further = {splats: made.write_splats} if splats else {}
    with working(console, "writing"):
        files = save(made, output, video, picture, images=images or [], further=further)
    if as_json:
        told = {**made.extras, "notes": list(made.notes), "faces": len(made.mesh.faces), "splats": len(made.gaussians)}
        print(
            json.dumps([{"images": [str(image) for image in images or []], "files": [str(f) for f in files], **told}])
        )
        return
    for file in files:
        Console().print(str(file), highlight=False, soft_wrap=True)
