"""The doors by which strangers' files come in: the command, or the stage function behind it, and what it did of each.

All of this runs in the child of `tests.hostile.runner`, which watches its time and memory.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from orchestration.cli.terminal import printable
from orchestration.errors import OrbitforgeError
from stages.errors import InputError
from stages.sandbox import Limits
from tests.hostile.case import MARK, Attack, Place

LIMITS = Limits(seconds=8, wall=20, gigabytes=1.0)
"""Of one call in a sandbox; those of a user are ten times as large."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")

FACTS = ("cameras that are", "elevation", "views of 1 x 1")
"""What labels take no part in, and `validate` judges."""

Start = Callable[[str], None]
Done = Callable[[str, str], None]
Door = Callable[[Sequence[tuple[Attack, Place]], Start, Done], None]


def each(through: Callable[[Any, Place], str | None]) -> Door:
    """A door that takes one attack after another. `through` gets what the attack made and returns the reason of a
    quarantine, or None when all was taken."""

    def door(attacks: Sequence[tuple[Attack, Place]], start: Start, done: Done) -> None:
        for attack, place in attacks:
            made = attack.make(place)
            start(attack.name)
            done(attack.name, outcome(attack, place, lambda made=made, place=place: through(made, place)))

    return door


def outcome(attack: Attack, place: Place, call: Callable[[], str | None]) -> str:
    with home(place):
        try:
            reason = call()
        except (InputError, OrbitforgeError) as error:
            told = "error: " + printable(str(error))
        except BaseException as error:  # whatever else it is, it is what this looks for
            if isinstance(error, KeyboardInterrupt):
                raise
            told = f"TRACEBACK: {type(error).__name__}: {' '.join(printable(str(error)).split())[:150]}"
        else:
            told = f"quarantined: {reason}" if reason else taken(attack)
    return judged(told, attack, place)


def taken(attack: Attack) -> str:
    return f"harmless: {attack.harmless}" if attack.harmless else "TAKEN: without a word"


def judged(told: str, attack: Attack, place: Place) -> str:
    """What was told, unless something worse happened meanwhile."""
    if place.ran.exists() or list(place.project.rglob("ran")):
        return "RAN CODE"
    if escaped := [path for path in place.root.rglob(f"*{MARK}*") if not path.is_relative_to(place.given)]:
        return f"WROTE OUTSIDE: {escaped[0]}"
    if attack.harmless and not told.startswith("harmless"):
        return f"REFUSED, though it does no harm: {told}"
    if "\n" in told.strip():
        return f"MANY LINES: {printable(told)[:150]}"
    for table in place.project.rglob("*.csv"):
        if cells := [cell for row in pl.read_csv(table, infer_schema=False).iter_rows() for cell in row if cell]:
            if any(cell.startswith(FORMULA) for cell in cells):
                return f"FORMULA in {table.name}"
            if any(printable(cell) != cell for cell in cells):
                return f"CONTROL CHARACTERS in {table.name}"
    return told


@contextmanager
def home(place: Place) -> Iterator[None]:
    """Inside of the user's project. A `gs` that leaves a mark stands first in the path."""
    place.project.mkdir(parents=True, exist_ok=True)
    program = place.root / "bin" / "gs"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ntouch {place.ran}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    before, cwd = dict(os.environ), Path.cwd()
    os.environ |= {
        "ORBITFORGE_ROOT": str(place.project),
        "ORBITFORGE_PRESET": "nano",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "TMPDIR": str(place.root),
        "COLUMNS": "1000",
    }
    os.chdir(place.project)
    tempfile.tempdir = None  # it keeps the first one that it saw
    (place.project / "workspace.yaml").write_text("")
    try:
        yield
    finally:
        os.chdir(cwd)
        tempfile.tempdir = None
        os.environ.clear()
        os.environ.update(before)


def command(*arguments: str) -> str | None:
    """A command of the command line. Returns what it said was quarantined; raises OrbitforgeError with its one line."""
    from typer.testing import CliRunner

    from orchestration.cli.main import app

    result = CliRunner().invoke(app, list(arguments))
    said = result.stdout + result.stderr
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    if bad := [line for line in said.split("\n") if printable(line) != line]:
        raise AssertionError(f"control characters on the terminal: {bad[0]!r}")
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if result.exit_code:
        if result.exit_code == 1 and (len(lines) != 1 or not result.stderr.rstrip().endswith(lines[0])):
            raise AssertionError(f"no one line: {said[-300:]!r}")
        raise OrbitforgeError(lines[0].removeprefix("error: ") if lines else said.strip().splitlines()[-1])
    quarantined = [line for line in said.splitlines() if line.startswith("quarantined ")]
    return quarantined[0].partition(": ")[2] if quarantined else None


# meshes, and what holds them


def objects(attacks: Sequence[tuple[Attack, Place]], start: Start, done: Done) -> None:
    """`orbitforge import`: all of them in one go, as neighbours."""
    from stages.objects.collections.folder import Folder
    from stages.objects.collections.item import Item
    from stages.objects.collections.screen import screened
    from stages.objects.intake import take_in

    project = attacks[0][1].root.parent / "intake"
    scratch = project / "scratch"
    scratch.mkdir(parents=True)
    came: dict[str, list[str]] = {}
    told: dict[str, str] = {}

    def items() -> Iterator[Item]:
        for number, (attack, place) in enumerate(attacks):
            with home(place):
                attack.make(place)
                start(attack.name)
                came[attack.name] = []
                try:
                    for item in screened(Folder(place.given, licence="CC0-1.0", name=str(number)).items(scratch)):
                        came[attack.name].append(item.id)
                        yield item
                except InputError as error:
                    told[attack.name] = "error: " + printable(str(error))
            done(attack.name, "")

    take_in(items(), project, limits=LIMITS)
    refused = {row["id"]: row for row in pl.read_parquet(project / "quarantine.parquet").to_dicts()}
    table = pl.read_parquet(project / "objects.parquet")
    for attack, place in attacks:
        ids = came[attack.name]
        bad = [refused[id_] for id_ in ids if id_ in refused and refused[id_]["reason"] != "near-duplicate"]
        rows = table.filter(pl.col("id").is_in(ids)).drop("faces").to_dicts()
        if attack.name in told:
            found = told[attack.name]
        elif not ids:
            found = "error: nothing was taken in"
        elif lost := set(ids) - set(refused) - {row["id"] for row in rows}:
            found = f"LOST: {lost}"
        elif bad:
            found = f"quarantined: {bad[0]['reason']}: {printable(bad[0]['error'] or '')[:80]}"
        else:
            found = taken(attack)
        if any(printable(str(value)) != str(value) for row in rows for value in row.values()):
            found = "CONTROL CHARACTERS in objects.parquet"
        done(attack.name, judged(found.replace("\n", " "), attack, place))


def object_tables(attacks: Sequence[tuple[Attack, Place]], start: Start, done: Done) -> None:
    """The same of tables that describe a mesh."""
    from tests.stages.awkward import TRIANGLE

    for _, place in attacks:
        place.given.mkdir(parents=True, exist_ok=True)
        (place.given / "a.obj").write_text(TRIANGLE + "f 1 2 3\n")
    objects(attacks, start, done)


# clips and their tables


def clips(attacks: Sequence[tuple[Attack, Place]], start: Start, done: Done) -> None:
    """`orbitforge import-clips`: all of them in one go."""
    import json

    from stages.corpus.clip_files import ClipFormat
    from stages.corpus.imported import take_in_clips
    from stages.prompts.screen import ScreenConfig, read_unsafe

    folder = attacks[0][1].given.parent
    project = attacks[0][1].root.parent / "clips"
    project.mkdir()
    rows, names = [], {}
    for attack, place in attacks:
        row = {"text": f"a chair {place.given.name}", "licence": "CC0-1.0", **attack.make(place)}
        clip = row["clip"]
        row["clip"] = clip if clip.startswith("/") else f"{place.given.name}/{clip}"
        rows.append(row)
        names[row["clip"]] = attack
    keys = {key for row in rows for key in row}
    table = project / "clips.json"
    table.write_text(json.dumps([dict.fromkeys(keys) | row for row in rows]))
    waiting = [attack.name for attack, _ in attacks]

    def report(event: dict[str, Any]) -> None:
        done(names[event["message"]].name, "")
        waiting.remove(names[event["message"]].name)
        if waiting:
            start(waiting[0])

    start(waiting[0])
    with home(attacks[0][1]):
        take_in_clips(
            folder,
            table,
            project,
            ClipFormat(frames=4, size=16, radius=1.5, focal=0.75),
            licence=None,
            creator=None,
            unsafe=read_unsafe(),
            screen=ScreenConfig.model_validate({}),
            shard_size=100,
            limits=LIMITS,
            report=report,
        )
    refused = {row["clip"]: row for row in pl.read_parquet(project / "clips-quarantine.parquet").to_dicts()}
    prompts = pl.read_parquet(project / "prompts.parquet")
    for row, (attack, place) in zip(rows, attacks, strict=True):
        mine = prompts.filter(pl.col("source") == f"imported: {row['clip']}").to_dicts()
        if row["clip"] in refused:
            bad = refused[row["clip"]]
            found = f"quarantined: {bad['reason']}: {printable(bad['error'] or '')[:80]}"
        else:
            found = taken(attack) if mine else "LOST"
        if any(printable(str(value)) != str(value) for each in mine for value in each.values()):
            found = "CONTROL CHARACTERS in prompts.parquet"
        done(attack.name, judged(found.replace("\n", " "), attack, place))


def _clip_table(made: Path, place: Place) -> str | None:
    return command(
        *("import-clips", str(place.given), "--table", str(made), "--output", "data/mine", "--by", "Ada"),
        *("--licence", "MIT", "--seconds", "5"),
    )


def _prompts(made: Path, place: Place) -> str | None:
    return command("prompts", "--from", str(made), "--output", "out.csv", "--licence", "MIT")


# pictures, sentences, cameras, models


def _small_model() -> Path:
    from tests.orchestration.test_reconstruct_command import young_model

    folder = Path(os.environ["HOSTILE"]) / "model"
    return folder if folder.is_dir() else young_model(folder)


QUICK = ("--grid", "8", "--texture", "16")


def _picture(made: Path, place: Place) -> str | None:
    return command("reconstruct", str(made), "--output", "out.glb", "--checkpoint", str(_small_model()), *QUICK)


def _pictures(made: Path, place: Place) -> str | None:
    """In a batch, where the bad one costs its own row."""
    good = place.project / "good.png"
    if not good.exists():
        from tests.hostile.images import PNG

        good.write_bytes(PNG)
    try:
        return command(
            "reconstruct", str(good), str(made), "--output", "out", "--checkpoint", str(_small_model()), *QUICK
        )
    finally:
        assert (place.project / "out" / "good.glb").is_file(), "the neighbour was lost"


def _upload(made: Path, place: Place) -> str | None:
    from orchestration.demo.maker import Maker
    from stages.reconstruction.config import ExportConfig
    from stages.reconstruction.load import load

    if not made.is_file():  # a page uploads files alone
        raise InputError("a picture is wanted")
    small = {"mesh": {"grid": 8, "texture": 16}, "turntable": {"frames": 2, "size": 16, "rate": 2}}
    config = ExportConfig.model_validate(small)
    Maker(load(_small_model(), config=config), place.project / "made").from_picture(made, None)
    return None


def _sentence(made: str, place: Place) -> str | None:
    from orchestration.cli.painting import worded

    worded(made)
    return None


def _views(made: dict[str, Any], place: Place) -> str | None:
    from stages.flexrm.views import RingsOfViews, read_views

    folder = place.given / made["clip"]
    read_views(sorted(folder.glob("*.png")), 16, folder / "transforms.json", RingsOfViews(), 0.8)
    return None


def _checkpoint(made: Path, place: Place) -> str | None:
    from tests.hostile.images import PNG

    (place.project / "chair.png").write_bytes(PNG)
    named = made if made.is_file() else made.parent
    return command("reconstruct", "chair.png", "--output", "out.glb", "--checkpoint", str(named), *QUICK)


def public_weights(attacks: Sequence[tuple[Attack, Place]], start: Start, done: Done) -> None:
    """What `orbitforge import-weights` calls, in the sandbox that it calls it in."""
    from orchestration.presets.schema import load_preset
    from stages.base.public import card_licence, take
    from stages.sandbox import Sandbox, SandboxError

    base = load_preset("nano").base

    def through(made: tuple[Path, str], place: Place) -> str | None:
        folder, part = made
        if (folder / "README.md").is_file() and not card_licence(folder):
            raise InputError("names no licence")
        output = place.project / "out" / part
        output.mkdir(parents=True)
        try:
            child(part, folder, output, getattr(base, part))
        except SandboxError as error:
            raise OrbitforgeError(str(error)) from None
        if kept := [path for path in output.rglob("*") if path.suffix == ".py" or path.name == "secret.json"]:
            raise AssertionError(f"{kept[0]} was taken along")
        return None

    with Sandbox(take, Limits(seconds=10, wall=120, gigabytes=1.5)) as child:
        each(through)(attacks, start, done)


# shards


def _validate(made: Any, place: Place) -> str | None:
    """By a relative name, as people type it."""
    link = place.project / "given"
    if not link.exists():
        link.symlink_to(place.given)
    os.chdir(link)
    return command("validate", ".")


def _labelled(made: Any, place: Place) -> str | None:
    """As clips that came with labels."""
    from stages.quality.clips import Broken, count_clips, read_clips

    try:
        for tar in place.given.rglob("views.tar"):
            count_clips(tar)
        found = [clip for tar in place.given.rglob("views.tar") for clip in read_clips(tar)]
    except ValueError as error:
        raise InputError(str(error)) from None
    broken = [clip.reason for clip in found if isinstance(clip, Broken)]
    if not found:
        raise InputError("no clip in it")
    return broken[0] if broken else None


# settings


def _preset(made: Path, place: Place) -> str | None:
    from tests.hostile.project import sources

    sources(place.project)
    return command("plan", "--preset", str(made))


def _vocabulary(made: Path, place: Place) -> str | None:
    return command("prompts", "--count", "3", "--vocabulary", str(made), "--output", "out.csv")


def _protocol(made: Path, place: Place) -> str | None:
    from stages.evaluation.protocols import read_protocol

    read_protocol(str(made))
    return None


def _policy(made: Path, place: Place) -> str | None:
    from orchestration.lineage.policy import load_policy

    (place.project / "policy.yaml").write_bytes(made.read_bytes())
    load_policy()
    return None


# what lies in the project


def _pointer(made: Any, place: Place) -> str | None:
    from rich.console import Console

    from orchestration.cli.sample import fetch_sample

    (place.project / ".dvc").mkdir(exist_ok=True)
    (place.project / ".dvc" / "config").write_text(
        "[core]\n    analytics = false\n    no_scm = true\n['remote \"sample\"']\n    url = ../dvc-sample\n"
    )
    fetch_sample(Console(stderr=True, file=open(os.devnull, "w")))  # noqa: SIM115, PTH123
    return None


def _ledger(made: Any, place: Place) -> str | None:
    from tests.hostile.project import sources

    sources(place.project)
    return command("lineage", "nano/lrm_finetuned")


def _glb(made: Path, place: Place) -> str | None:
    from tests.hostile.project import sources

    sources(place.project)
    return command("lineage", str(made))


def doors() -> dict[str, tuple[Door, Sequence[Attack]]]:
    """Name -> what takes files in, and the attacks on it."""
    from tests.hostile import archives, images, meshes, pointers, presets, sentences, shards, tables, weights
    from tests.hostile import clips as clip_files

    return {
        "meshes": (objects, meshes.ATTACKS),
        "archives": (objects, archives.ATTACKS),
        "tables of objects": (object_tables, tables.OBJECTS),
        "tables of prompts": (each(_prompts), tables.PROMPTS),
        "clips": (clips, clip_files.ATTACKS),
        "tables of clips": (each(_clip_table), tables.CLIP_TABLES),
        "pictures": (each(_picture), images.ATTACKS),
        "uploads": (each(_upload), images.ATTACKS),
        "sentences": (each(_sentence), sentences.ATTACKS),
        "cameras": (each(_views), [attack for attack in clip_files.ATTACKS if attack.name.startswith("transforms")]),
        "checkpoints": (each(_checkpoint), weights.CHECKPOINTS),
        "public weights": (public_weights, weights.LAYOUTS),
        "shards": (each(_validate), shards.ATTACKS),
        "labelled clips": (each(_labelled), [attack for attack in shards.ATTACKS if not attack.name.startswith(FACTS)]),
        "presets": (each(_preset), presets.PRESETS),
        "vocabularies": (each(_vocabulary), presets.VOCABULARIES),
        "protocols": (each(_protocol), presets.PROTOCOLS),
        "policies": (each(_policy), presets.POLICIES),
        "DVC's pointers": (each(_pointer), pointers.POINTERS),
        "ledgers": (each(_ledger), pointers.LEDGERS),
        "GLBs asked about": (each(_glb), pointers.GLBS),
    }
