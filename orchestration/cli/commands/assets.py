"""From an image or a sentence to a 3D asset: reconstruct and generate; and how good that is: evaluate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestration.cli.app import (
    CheckpointOption,
    DeviceOption,
    JsonOption,
    KindOption,
    PresetOption,
    SaliencyOption,
    prepare,
)
from orchestration.errors import OrbitforgeError

commands = typer.Typer()


class Form(StrEnum):
    glb = "glb"
    obj = "obj"
    ply = "ply"


class Up(StrEnum):
    y = "y"
    z = "z"


class Model(StrEnum):
    lrm = "lrm"
    flexrm = "flexrm"


ElevationOption = Annotated[
    str | None, typer.Option(help="Degrees above the object from which it is seen, or auto for the estimator.")
]
FormatOption = Annotated[Form | None, typer.Option("--format", "-f", help="Default what OUT ends in, or glb.")]
TextureOption = Annotated[int | None, typer.Option(help="Pixels a side of the texture.")]
VertexColoursOption = Annotated[bool, typer.Option("--vertex-colours", help="Instead of a texture.")]
FacesOption = Annotated[int | None, typer.Option(help="At most so many; 0 leaves what marching cubes made.")]
GridOption = Annotated[int | None, typer.Option(help="Points a side of the grid of marching cubes.")]
ThresholdOption = Annotated[float | None, typer.Option(help="Density of the surface; default automatic.")]
ScaleOption = Annotated[float | None, typer.Option(help="Units of the longest side.")]
UpOption = Annotated[Up | None, typer.Option("--up-axis", help="Which axis points up in the file; default y.")]
ModelOption = Annotated[
    Model,
    typer.Option(help="lrm takes one picture of each object; flexrm takes views of one object, and makes splats too."),
]
SplatsOption = Annotated[Path | None, typer.Option(help="With flexrm: where the Gaussians go, a 3DGS .ply.")]
VideoOption = Annotated[Path | None, typer.Option(help="Where a turntable .mp4 goes.")]


def _asset_changes(
    texture: int | None,
    vertex_colours: bool,
    faces: int | None,
    grid: int | None,
    threshold: float | None,
    scale: float | None,
    up: Up | None,
) -> dict[str, Any]:
    """What the options change of the export's config; -1 stands for null."""
    if vertex_colours and texture is not None:
        raise OrbitforgeError("--texture and --vertex-colours exclude each other; choose one")
    return {
        "mesh.texture": -1 if vertex_colours else texture,
        "mesh.faces": -1 if faces == 0 else faces,
        "mesh.grid": grid,
        "mesh.threshold": threshold,
        "scale": scale,
        "up": up.value if up else None,
    }


@commands.command()
def reconstruct(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of one object each; alpha is used where it is.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .glb, .obj or .ply for one image; else a folder.")],
    model: ModelOption = Model.lrm,
    cameras: Annotated[
        str | None,
        typer.Option(
            help="With flexrm: of the views, a nerfstudio transforms.json or a ring: orbit, elevations, candidates. "
            "One picture without cameras becomes a pool of candidate views first."
        ),
    ] = None,
    splats: SplatsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="With flexrm: of the candidate views.")] = 0,
    video: VideoOption = None,
    turntable: Annotated[bool, typer.Option("--turntable", help="Write an .mp4 beside each asset.")] = False,
    elevation: ElevationOption = None,
    checkpoint: CheckpointOption = None,
    kind: KindOption = None,
    device: DeviceOption = "cpu",
    form: FormatOption = None,
    texture: TextureOption = None,
    vertex_colours: VertexColoursOption = False,
    faces: FacesOption = None,
    grid: GridOption = None,
    threshold: ThresholdOption = None,
    scale: ScaleOption = None,
    up: UpOption = None,
    saliency: SaliencyOption = None,
    as_json: JsonOption = False,
    preset: PresetOption = None,
) -> None:
    """Turn images into 3D assets, with the preset's fine-tuned model or another."""
    prepare(preset)
    changes = _asset_changes(texture, vertex_colours, faces, grid, threshold, scale, up)
    if model is Model.flexrm:
        _refuse("--model flexrm", {"--elevation": elevation, "--kind": kind, "--turntable": turntable or None})
        from orchestration.cli.flexiview import reconstruct_views_command

        reconstruct_views_command(
            images,
            output,
            cameras=cameras,
            splats=splats,
            video=video,
            seed=seed,
            checkpoint=checkpoint,
            device=device,
            saliency=saliency,
            changes=changes,
            as_json=as_json,
        )
        return
    _refuse("--model lrm", {"--cameras": cameras, "--splats": splats})
    from orchestration.cli.reconstruct import reconstruct_command

    reconstruct_command(
        images,
        output,
        video=video,
        turntable=turntable,
        form=form.value if form else None,
        elevation=elevation,
        checkpoint=checkpoint,
        kind=kind,
        device=device,
        saliency=saliency,
        changes=changes,
        as_json=as_json,
    )


def _refuse(model: str, options: dict[str, Any]) -> None:
    """Raises OrbitforgeError for options that were given and mean nothing to this model."""
    if given := [name for name, value in options.items() if value is not None]:
        raise OrbitforgeError(f"{given[0]} is not for {model}; leave it out")


@commands.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What is wanted: one object.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .glb, .obj or .ply.")],
    seed: Annotated[int, typer.Option(min=0, help="Another one draws another picture.")] = 0,
    model: ModelOption = Model.lrm,
    picture: Annotated[Path | None, typer.Option(help="Where the drawn .png goes.")] = None,
    splats: SplatsOption = None,
    video: VideoOption = None,
    elevation: ElevationOption = None,
    checkpoint: CheckpointOption = None,
    kind: KindOption = None,
    device: DeviceOption = "cpu",
    texture: TextureOption = None,
    vertex_colours: VertexColoursOption = False,
    faces: FacesOption = None,
    grid: GridOption = None,
    threshold: ThresholdOption = None,
    scale: ScaleOption = None,
    up: UpOption = None,
    preset: PresetOption = None,
) -> None:
    """Turn a sentence into a 3D asset: draw a picture of it, reconstruct that."""
    prepare(preset)
    changes = _asset_changes(texture, vertex_colours, faces, grid, threshold, scale, up)
    if model is Model.flexrm:
        _refuse("--model flexrm", {"--elevation": elevation, "--kind": kind})
        from orchestration.cli.flexiview import generate_views_command

        generate_views_command(
            prompt,
            output,
            seed=seed,
            picture=picture,
            splats=splats,
            video=video,
            checkpoint=checkpoint,
            device=device,
            changes=changes,
        )
        return
    _refuse("--model lrm", {"--splats": splats})
    from orchestration.cli.generate import generate_command

    generate_command(
        prompt,
        output,
        seed=seed,
        picture=picture,
        video=video,
        elevation=elevation,
        checkpoint=checkpoint,
        kind=kind,
        device=device,
        changes=changes,
    )


@commands.command()
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="An asset (lrm_finetuned), a checkpoint, ours or published, mlflow:NAME@ALIAS, or a folder that any "
            "model filled: <object>.glb, .obj, .ply, or <object>/<view>.png with alpha.",
        ),
    ],
    protocol: Annotated[
        str | None,
        typer.Option(help="held-out, text, pictures, a .yaml, or a folder of pictures; default the preset's."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A model that the others are compared with, pair by pair.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new folder for tables, comparisons and gallery.")
    ] = None,
    kind: KindOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    preset: PresetOption = None,
) -> None:
    """Measure models on held-out objects, prompts or pictures: means with intervals, and what failed and why."""
    prepare(preset)
    from orchestration.cli.evaluate import evaluate_command

    evaluate_command(
        models, protocol=protocol, against=against, output=output, kind=kind, device=device, as_json=as_json
    )
