"""The `orbitforge` command. Everything heavy is imported inside the commands, so that `--help` stays quick."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestration import telemetry
from orchestration.errors import OrbitforgeError, in_plain_words
from stages.errors import InputError


class PlainErrors(TyperGroup):
    """Tells what a person can put right in one line, without a traceback, and exits with 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (OrbitforgeError, InputError) as error:
            if trace := getattr(error, "trace", ""):
                typer.echo(trace, err=True)
            self._stop(str(error))
        except OSError as error:
            words = in_plain_words(error)
            if words is None:
                raise
            self._stop(words)

    @staticmethod
    def _stop(message: str) -> None:
        typer.secho(f"error: {message}", fg="red", err=True)
        sys.exit(1)


app = typer.Typer(
    cls=PlainErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From real meshes to a model that turns one image into a 3D asset, every step versioned.",
)

PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        help="nano, tiny, small-cpu, small, small-svd, paper or a .yaml; default ORBITFORGE_PRESET or tiny.",
    ),
]


ReasonOption = Annotated[str, typer.Option(help="In words; it stands in the lineage for good.")]
ByOption = Annotated[str | None, typer.Option(help="Who decides; default the name that git signs with.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]


class Depth(StrEnum):
    one = "one"
    all = "all"


def _prepare(preset: str | None) -> None:
    """What must stand before anything heavy is imported: the preset, one thread, no telemetry."""
    telemetry.silence()
    # results differ bitwise between thread counts
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if preset:
        os.environ["ORBITFORGE_PRESET"] = preset


@app.command()
def run(
    preset: PresetOption = None,
    select: Annotated[
        str | None, typer.Option(help="Dagster's selection syntax: video_model, group:quality, +key:lrm_finetuned.")
    ] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Only what was made before and is out of date.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and why; change nothing.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many shards of each asset.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Where shards are made: local or ray; by default what the preset says.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Shards at once; default 2, or all of the cluster.")
    ] = None,
) -> None:
    """Make whatever is missing or stale, from the sample data to the 3D model."""
    _prepare(preset)
    said = {"ORBITFORGE_ENGINE": engine, "ORBITFORGE_WORKERS": workers}
    os.environ |= {name: str(value) for name, value in said.items() if value}
    from orchestration.cli.run import run_command

    run_command(select=select, only_stale=stale, dry_run=dry_run, limit=limit)


@app.command()
def status(
    preset: PresetOption = None,
    why: Annotated[bool, typer.Option("--why", help="Give the reasons.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what is fresh, stale, missing, failed or running."""
    _prepare(preset)
    from orchestration.cli.status import status_command

    status_command(why=why, as_json=as_json)


@app.command()
def plan(
    preset: PresetOption = None,
    rates: Annotated[Path | None, typer.Option(help="A file like orchestration/rates.yaml.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Print the rates of this machine, from what the ledger has of the preset.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what a preset would take: work, shards, hours, storage and cost of each asset. Starts nothing."""
    _prepare(preset)
    from orchestration.cli.plan import plan_command

    plan_command(rates=rates, measure=measure, as_json=as_json)


@app.command()
def cameras(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the picture goes, a .png.")],
    preset: PresetOption = None,
) -> None:
    """Draw the axes and the cameras of a preset."""
    _prepare(preset)
    from orchestration.cli.cameras import cameras_command

    cameras_command(output)


@app.command()
def validate(
    folder: Annotated[Path, typer.Argument(help="A shard, or a folder of rendered shards.")],
    every: Annotated[int, typer.Option(min=1, help="Look at every so manyth sample of a shard.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Prove that stored cameras belong to stored views: rays of object pixels meet what the other views show."""
    _prepare(None)
    from orchestration.cli.cameras import validate_command

    validate_command(folder, every=every, as_json=as_json)


@app.command()
def base(
    preset: PresetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and why; change nothing.")] = False,
) -> None:
    """Train the small base weights that ship with the project anew. Takes hours on two cores; resumes."""
    _prepare(preset)
    from orchestration.cli.run import run_command

    run_command(job="base", dry_run=dry_run)


class Form(StrEnum):
    glb = "glb"
    obj = "obj"
    ply = "ply"


class Up(StrEnum):
    y = "y"
    z = "z"


CheckpointOption = Annotated[
    str | None,
    typer.Option(help="A file or folder of weights, ours or published, or mlflow:NAME@ALIAS; default the preset's."),
]
KindOption = Annotated[
    str | None, typer.Option(help="orbitforge, vfusion3d, openlrm-small, -base or -large; default what it looks like.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
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


SaliencyOption = Annotated[
    Path | None, typer.Option(help="An .onnx that finds objects on any background, such as u2net.onnx.")
]


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


@app.command()
def reconstruct(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of one object each; alpha is used where it is.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .glb, .obj or .ply for one image; else a folder.")],
    video: Annotated[Path | None, typer.Option(help="Where a turntable .mp4 goes.")] = None,
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
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    preset: PresetOption = None,
) -> None:
    """Turn images into 3D assets, with the preset's fine-tuned model or another."""
    _prepare(preset)
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
        changes=_asset_changes(texture, vertex_colours, faces, grid, threshold, scale, up),
        as_json=as_json,
    )


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What is wanted: one object.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .glb, .obj or .ply.")],
    seed: Annotated[int, typer.Option(min=0, help="Another one draws another picture.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="Where the drawn .png goes.")] = None,
    video: Annotated[Path | None, typer.Option(help="Where a turntable .mp4 goes.")] = None,
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
    _prepare(preset)
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
        changes=_asset_changes(texture, vertex_colours, faces, grid, threshold, scale, up),
    )


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


@app.command()
def render(
    sources: SourcesArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where shards and manifest go; a run resumes there.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
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
    _prepare(preset)
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


@app.command(name="import")
def import_(
    sources: SourcesArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The source folder, such as data/mine; it may grow.")],
    table: TableOption = None,
    licence: LicenceOption = None,
    shard_size: ShardSizeOption = 100,
    prompts: Annotated[int | None, typer.Option(min=1, help="Default two for each training object.")] = None,
    seconds: SecondsOption = 60,
    gigabytes: GigabytesOption = 4,
) -> None:
    """Take meshes into a source folder that a preset names: `source: {folder: mine}` for data/mine."""
    _prepare(None)
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


@app.command(name="import-clips")
def import_clips(
    folder: Annotated[Path, typer.Argument(help="Videos (.mp4, .webm, .gif, ...) and folders of frames.")],
    table: Annotated[
        Path,
        typer.Option(help="CSV, Parquet or JSON: clip, text, and any of licence, creator, camera, elevation, frames."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The source folder, such as data/mine; it may grow.")],
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
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Take clips that were made elsewhere into a source folder; the corpus takes them as they are."""
    _prepare(preset)
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


class Part(StrEnum):
    video = "video"
    encoder = "encoder"
    text_to_image = "text_to_image"


@app.command(name="import-weights")
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
    by: ByOption = None,
    preset: PresetOption = None,
) -> None:
    """Take public weights in as base weights, where the preset's shapes are theirs; safetensors alone."""
    _prepare(preset)
    from orchestration.cli.import_weights import import_weights_command

    import_weights_command(source, as_.value, licence=licence, reason=reason, by=by, download=download)


@app.command()
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
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compose prompts of a vocabulary, or take in a table of them; bad ones are quarantined, each with its reason."""
    _prepare(None)
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


@app.command()
def audit(
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that read; default one for each CPU.")] = None,
    remote: Annotated[str | None, typer.Option(help="Ask this DVC remote, too, whether it holds everything.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    preset: PresetOption = None,
) -> None:
    """Read every byte anew and hold files, ledger, DVC, MLflow and Dagster against each other."""
    _prepare(preset)
    from orchestration.cli.audit import audit_command

    audit_command(workers=workers, remote=remote, as_json=as_json)


class Layout(StrEnum):
    tree = "tree"
    mermaid = "mermaid"
    modelcard = "modelcard"
    croissant = "croissant"
    cyclonedx = "cyclonedx"
    json = "json"


@app.command()
def lineage(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|ASSET|FILE", help="Also a row id, a data version, or the id of an object, prompt or label."
        ),
    ],
    layout: Annotated[Layout, typer.Option("--format", "-f", help="How to write it.")] = Layout.tree,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    forward: Annotated[
        bool, typer.Option("--forward", help="What was made of it, instead of what it came from.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; default standard output.")] = None,
    preset: PresetOption = None,
) -> None:
    """Say where something came from: corpus, labels, weights, meshes, licences, code, config, seeds, environment."""
    _prepare(preset)
    from orchestration.cli.lineage import lineage_command

    lineage_command(target, layout=Layout.json if as_json else layout, forward=forward, output=output)


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A version: an asset, models:/NAME/NUMBER, a row id.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    preset: PresetOption = None,
) -> None:
    """Say what lies between two versions: source rows, labels, clips, config, code, environment, metrics."""
    _prepare(preset)
    from orchestration.cli.diff import diff_command

    diff_command(first, second, as_json=as_json)


@app.command()
def accept(
    asset: Annotated[str, typer.Argument(help="Whose code was refactored.")],
    reason: ReasonOption,
    by: ByOption = None,
    preset: PresetOption = None,
) -> None:
    """After a refactoring: make one shard again and, if its bytes are equal, let the new code stand for the old."""
    _prepare(preset)
    from orchestration.cli.accept import accept_command

    accept_command(asset, reason, by)


@app.command()
def withdraw(
    id_: Annotated[str, typer.Argument(metavar="OBJECT|PROMPT|LABEL", help="An id of a source table.")],
    reason: ReasonOption,
    by: ByOption = None,
    purge: Annotated[bool, typer.Option("--purge", help="Remove its bytes from data/, cache and remotes.")] = False,
    dry_run: DryRunOption = False,
    preset: PresetOption = None,
) -> None:
    """Take something out of everything that is made from now on; what holds it becomes stale."""
    _prepare(preset)
    from orchestration.cli.withdraw import withdraw_command

    withdraw_command(id_, reason=reason, by=by, purging=purge, dry_run=dry_run)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A model version: models:/tiny-lrm_finetuned/3, a row id, an asset.")],
    reason: ReasonOption,
    to: Annotated[str, typer.Option(help="The alias.")] = "production",
    by: ByOption = None,
    preset: PresetOption = None,
) -> None:
    """Give a model an alias, unless audit, logged metrics, licence policy or a dirty tree speak against it."""
    _prepare(preset)
    from orchestration.cli.promote import promote_command

    promote_command(version, alias=to, reason=reason, by=by)


@app.command()
def restore(preset: PresetOption = None) -> None:
    """After the loss of Dagster's or MLflow's database, tell both again what the ledger knows."""
    _prepare(preset)
    from orchestration.cli.restore import restore_command

    restore_command()


@app.command()
def gc(
    keep: Annotated[str, typer.Option(help="promoted+ancestors, or promoted.")] = "promoted+ancestors",
    dry_run: DryRunOption = False,
    preset: PresetOption = None,
) -> None:
    """Remove from the cache what is neither current, nor named by git, nor promoted."""
    _prepare(preset)
    from orchestration.cli.gc import gc_command

    gc_command(keep, dry_run=dry_run)


@app.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="A model version, asset, row id or data version.")],
    depth: Annotated[Depth, typer.Option(help="The version alone, or all that was made on the way to it.")] = Depth.one,
    exact: Annotated[
        bool, typer.Option("--exact", help="With the code and libraries of then: a git worktree, an environment.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    preset: PresetOption = None,
) -> None:
    """Make a version again in scratch, of the inputs that the ledger names, and compare it byte by byte."""
    _prepare(preset)
    from orchestration.cli.reproduce import reproduce_command

    reproduce_command(version, everything=depth == Depth.all, exact=exact, as_json=as_json)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="Which bench; `list` names them.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    preset: PresetOption = None,
) -> None:
    """Measure ours beside the peer, or the plain implementation, on the same work."""
    _prepare(preset)
    from orchestration.cli.bench.registry import bench_command

    bench_command(name, as_json=as_json)


@app.command()
def label(
    by: Annotated[str | None, typer.Option(help="Who judges; without it, the page asks.")] = None,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.")] = 7860,
    browser: Annotated[bool, typer.Option(help="Open the page in your browser.")] = True,
    preset: PresetOption = None,
) -> None:
    """Judge clips of the corpus in a page on this machine; the classifier learns from the verdicts."""
    _prepare(preset)
    from orchestration.cli.label import label_command

    label_command(port, by=by, browser=browser)


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.")] = 7861,
    browser: Annotated[bool, typer.Option(help="Open the page in your browser.")] = True,
    checkpoint: CheckpointOption = None,
    kind: KindOption = None,
    device: DeviceOption = "cpu",
    saliency: SaliencyOption = None,
    preset: PresetOption = None,
) -> None:
    """Drop a picture into a page on this machine, or type a sentence: a mesh to turn around and to download."""
    _prepare(preset)
    from orchestration.cli.demo import demo_command

    demo_command(port, browser=browser, checkpoint=checkpoint, kind=kind, device=device, saliency=saliency)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Of Dagster.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Of MLflow.")] = 5000,
    preset: PresetOption = None,
) -> None:
    """Serve Dagster and MLflow on this machine, reachable from this machine alone."""
    _prepare(preset)
    from orchestration.cli.ui import ui_command

    ui_command(port, mlflow_port)


if __name__ == "__main__":
    app()
