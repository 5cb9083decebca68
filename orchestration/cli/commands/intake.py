"""What users bring: meshes to render or to import, clips, weights, prompts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.app import ByOption, JsonOption, PresetOption, ReasonOption, prepare

commands = typer.Typer()


class Part(StrEnum):
    video = "video"
    encoder = "encoder"
    text_to_image = "text_to_image"


SourcesArgument = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="A folder of meshes, a .sh3f library, objaverse:COUNT or :UIDS.txt."),
]
TableOption = Annotated[
    Path | None,
    typer.Option(help="CSV or Parquet: file, and any of id, caption, licence, creator, category."),
]
LicenceOption = Annotated[
    list[str] | None, typer.Option("--licence", help="Take these alone, patterns such as 'CC-BY-*'; may be repeated.")
]
ShardSizeOption = Annotated[int, typer.Option(min=1, help="Objects a shard.")]
SecondsOption = Annotated[float, typer.Option(min=1, help="CPU seconds that reading one object may take.")]
GigabytesOption = Annotated[float, typer.Option(min=0.1, help="Memory that reading one object may take.")]
SourceFolderOption = Annotated[
    Path, typer.Option("--output", "-o", help="The source folder, such as data/mine; it may grow.")
]


@commands.command()
def render(
    sources: SourcesArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where shards and manifest go; a run resumes there.")],
    as_json: JsonOption = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Shards at once; default 2. Changes no bytes.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", "-p", help="Whose rendering section is used.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Pixels a side.")] = None,
    views: Annotated[int | None, typer.Option(min=2, help="Views of an orbit.")] = None,
    orbits: Annotated[int | None, typer.Option(min=1, help="Orbits of an object.")] = None,
    supersampling: Annotated[int | None, typer.Option(min=1, max=8, help="Samples a pixel and axis.")] = None,
    geometry: Annotated[bool, typer.Option("--geometry", help="Store depth and normals as well.")] = False,
    table: TableOption = None,
    licence: LicenceOption = None,
    shard_size: ShardSizeOption = 100,
    seed: Annotated[int, typer.Option(min=0, help="Decides the elevations.")] = 0,
    seconds: SecondsOption = 60,
    gigabytes: GigabytesOption = 4,
) -> None:
    """Render meshes to shards of views with cameras; bad files are quarantined, each with its reason."""
    prepare(preset)
    from orchestration.cli.render import render_command
    from stages.sandbox import Limits

    changes = {"size": size, "views": views, "orbits": orbits, "supersampling": supersampling}
    changes["geometry"] = geometry or None
    render_command(
        sources,
        output,
        preset=preset,
        changes=changes,
        table=table,
        licences=licence or [],
        shard_size=shard_size,
        workers=workers,
        seed=seed,
        limits=Limits(seconds, 5 * seconds, gigabytes),
        as_json=as_json,
    )


@commands.command(name="import")
def import_(
    sources: SourcesArgument,
    output: SourceFolderOption,
    table: TableOption = None,
    licence: LicenceOption = None,
    shard_size: ShardSizeOption = 100,
    prompts: Annotated[int | None, typer.Option(min=1, help="Default two for each training object.")] = None,
    seconds: SecondsOption = 60,
    gigabytes: GigabytesOption = 4,
) -> None:
    """Take meshes into a source folder that a preset names: `source: {folder: mine}` for data/mine."""
    prepare(None)
    from orchestration.cli.import_ import import_command
    from stages.sandbox import Limits

    import_command(
        sources,
        output,
        table=table,
        licences=licence or [],
        shard_size=shard_size,
        prompts=prompts,
        limits=Limits(seconds, 5 * seconds, gigabytes),
    )


@commands.command(name="import-clips")
def import_clips(
    folder: Annotated[Path, typer.Argument(help="Videos (.mp4, .webm, .gif, ...) and folders of frames.")],
    table: Annotated[
        Path,
        typer.Option(help="CSV, Parquet or JSON: clip, text, and any of licence, creator, camera, elevation, frames."),
    ],
    output: SourceFolderOption,
    licence: Annotated[
        str | None, typer.Option(help="Of the clips whose row names none; without any, quarantine.")
    ] = None,
    creator: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    frames: Annotated[
        int | None, typer.Option(min=2, help="Of a clip; default those of the preset's video model.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Pixels a side; default likewise.")] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Clips a shard.")] = 1000,
    seconds: SecondsOption = 60,
    gigabytes: GigabytesOption = 4,
    by: ByOption = None,
    preset: PresetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take clips that were made elsewhere into a source folder; the corpus takes them as they are."""
    prepare(preset)
    from orchestration.cli.import_clips import import_clips_command
    from stages.sandbox import Limits

    import_clips_command(
        folder,
        table,
        output,
        licence=licence,
        creator=creator,
        frames=frames,
        size=size,
        shard_size=shard_size,
        limits=Limits(seconds, 5 * seconds, gigabytes),
        by=by,
        as_json=as_json,
    )


@commands.command(name="import-weights")
def import_weights(
    source: Annotated[
        str, typer.Argument(help="A folder in the layout of diffusers or transformers, or hub:REPO[@REVISION].")
    ],
    as_: Annotated[Part, typer.Option("--as", help="Which of the base weights they become.")],
    reason: ReasonOption,
    licence: Annotated[
        str | None, typer.Option(help="Default what the model card says; without either, refused.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch from the hub what its cache lacks; else nothing is fetched.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, help="CPU seconds that looking at them may take.")] = 600,
    gigabytes: Annotated[float, typer.Option(min=0.1, help="Memory likewise.")] = 32,
    by: ByOption = None,
    preset: PresetOption = None,
) -> None:
    """Take public weights in as base weights, where the preset's shapes are theirs; safetensors alone."""
    prepare(preset)
    from orchestration.cli.import_weights import import_weights_command
    from stages.sandbox import Limits

    limits = Limits(seconds, 5 * seconds, gigabytes)
    import_weights_command(source, as_.value, licence=licence, reason=reason, by=by, download=download, limits=limits)


@commands.command()
def prompts(
    output: Annotated[Path, typer.Option("--output", "-o", help="The table, .parquet or .csv; it may grow.")],
    count: Annotated[int | None, typer.Option(min=1, help="Compose so many of the vocabulary.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which.")] = 0,
    vocabulary: Annotated[Path | None, typer.Option(help="YAML or JSON; default the one that comes along.")] = None,
    table: Annotated[
        Path | None,
        typer.Option("--from", help="Take in these: CSV or Parquet with a column text, or lines of a .txt."),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the prompts of --from whose row names none.")] = None,
    creator: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    unsafe: Annotated[Path | None, typer.Option(help="Words that no prompt may hold; default a list of ours.")] = None,
    longest: Annotated[int, typer.Option(min=1, help="Characters; longer ones are quarantined, never cut.")] = 400,
    shard_size: Annotated[int, typer.Option(min=1, help="Prompts a shard.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Compose prompts of a vocabulary, or take in a table of them; bad ones are quarantined, each with its reason."""
    prepare(None)
    from orchestration.cli.prompts import prompts_command

    prompts_command(
        output,
        count=count,
        seed=seed,
        vocabulary=vocabulary,
        table=table,
        licence=licence,
        creator=creator,
        unsafe=unsafe,
        longest=longest,
        shard_size=shard_size,
        as_json=as_json,
    )
