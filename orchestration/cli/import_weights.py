"""`orbitforge import-weights`: public weights become a part of base_models, with their licence and a ledger row."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from orchestration import paths, pipeline
from orchestration.adopt import adopt
from orchestration.cli.progress import working
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.lineage.current import Current
from orchestration.lineage.licences import spdx
from orchestration.lineage.people import given_reason, named_person
from orchestration.steps import Step
from stages.sandbox import Limits, Sandbox, SandboxError
from stages.text import unfit

HUB = "hub:"
BETWEEN = " | "
"""Stands between what is known of each part."""


def import_weights_command(
    source: str, part: str, *, licence: str | None, reason: str, by: str | None, download: bool, limits: Limits
) -> None:
    from stages.base.public import card_licence, take

    words, person = given_reason(reason), named_person(by)
    here = pipeline.current()
    step = here.find("base_models")
    assert isinstance(step, Step)
    folder, origin = _found(source, download)
    terms = licence or card_licence(folder)
    if terms and (why := unfit(terms)):
        raise OrbitforgeError(f"the licence that {folder} names is none: {why}; name it with --licence")
    if not terms:
        raise OrbitforgeError(f"{folder} names no licence (license: in the head of README.md); name it with --licence")
    aside = paths.work() / "import-weights"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with plain_errors(f"copying {folder}"), working(Console(stderr=True), f"taking in {part}"):
            if (now := paths.data() / step.folder(here.preset.name)).is_dir():
                shutil.copytree(now, aside, ignore=shutil.ignore_patterns(part))
            (aside / part).mkdir(parents=True)
            with Sandbox(take, limits) as child:  # a config alone may ask for any size
                try:
                    child(part, folder, aside / part, getattr(here.preset.base, part))
                except SandboxError as error:
                    raise OrbitforgeError(f"{folder} cannot be taken as {part}: {error}") from None
        before = Current(here).row(step.name, None)
        told = f"{part}: {origin}, {spdx(terms)}; {words}"
        row = adopt(
            here, step, aside, reason=BETWEEN.join([told, *_of_others(before and before.reference, part)]), by=person
        )
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    Console(stderr=True).print(
        f"{row.folder}/{part} is {origin}, {spdx(terms)}; the next run makes what depends on it",
        style="bold green",
        soft_wrap=True,
        highlight=False,
    )


def _of_others(reference: str | None, part: str) -> list[str]:
    """What the row before said of the parts that stay."""
    return [told for told in (reference or "").split(BETWEEN) if told and not told.startswith(f"{part}: ")]


def _found(source: str, download: bool) -> tuple[Path, str]:
    """The folder, and how the ledger names it."""
    if not source.startswith(HUB):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise OrbitforgeError(f"{source} is no folder; name one that holds the weights, or hub:REPO")
        return folder.resolve(), f"the folder {folder.resolve().name}"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = source.removeprefix(HUB).partition("@")
    try:
        found = snapshot_download(
            repo,
            revision=revision or None,
            local_files_only=not download,
            allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md"],
        )
    except HFValidationError as error:
        raise OrbitforgeError(f"{source}: {' '.join(str(error).split())}") from None
    except LocalEntryNotFoundError:
        raise OrbitforgeError(
            f"{repo}{revision and f' at {revision}'} is not in the hub's cache; fetch it with `hf download {repo}`, or "
            "say --download"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise OrbitforgeError(f"{source} cannot be fetched: {' '.join(str(error).split())[:200]}") from None
    return Path(found), f"{HUB}{repo}@{Path(found).name}"
