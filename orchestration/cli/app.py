"""What all commands share: the app with its errors, what stands before them, options that several themes take."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestration import telemetry
from orchestration.cli.terminal import printable, tame
from orchestration.errors import OrbitforgeError, StoppedError, in_plain_words
from orchestration.last_words import refuse_too_little
from orchestration.signals import terminated_like_interrupted
from stages.errors import InputError


class PlainErrors(TyperGroup):
    """Tells what a person can put right in one line, without a traceback, and exits with 1; with 130 when stopped."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with terminated_like_interrupted():
                return super().invoke(ctx)
        except (OrbitforgeError, InputError) as error:
            if trace := getattr(error, "trace", ""):
                typer.echo(trace, err=True)
            words, code = str(error), getattr(error, "exit_code", 1)
        except KeyboardInterrupt:
            words, code = "stopped; what is finished is kept", StoppedError.exit_code
        except BaseException as error:  # polars' panics are none of Exception
            words, code = in_plain_words(error), 1
            if words is None:
                raise
        self._stop(words, code)  # here the memory is free that the error held

    @staticmethod
    def _stop(message: str, exit_code: int) -> None:
        typer.secho(f"error: {printable(' '.join(message.splitlines()))}", fg="red", err=True)
        sys.exit(exit_code)


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
        help="nano, tiny, small-cpu, furniture, small, small-svd, paper or a .yaml; default ORBITFORGE_PRESET or tiny.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
ReasonOption = Annotated[str, typer.Option(help="In words; it stands in the lineage for good.")]
ByOption = Annotated[str | None, typer.Option(help="Who decides; default the name that git signs with.")]
CheckpointOption = Annotated[
    str | None,
    typer.Option(help="A file or folder of weights, ours or published, or mlflow:NAME@ALIAS; default the preset's."),
]
KindOption = Annotated[
    str | None, typer.Option(help="orbitforge, vfusion3d, openlrm-small, -base or -large; default what it looks like.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
SaliencyOption = Annotated[
    Path | None, typer.Option(help="An .onnx that finds objects on any background, such as u2net.onnx.")
]


def prepare(preset: str | None) -> None:
    """What must stand before anything heavy is imported: the preset, one thread, no telemetry."""
    refuse_too_little()
    telemetry.silence()
    tame()
    # results differ bitwise between thread counts
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if preset:
        os.environ["ORBITFORGE_PRESET"] = preset
