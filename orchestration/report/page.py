"""The report: one HTML file that needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestration import paths, pipeline
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.lineage.current import Current
from orchestration.pipeline import Pipeline
from orchestration.report import figures, flexrm, gallery, provenance
from orchestration.report.splats import packed
from orchestration.report.tables import (
    EVALUATION,
    FLEXRM,
    TRENDS,
    Evaluation,
    FlexRM,
    Trends,
    read_evaluation,
    read_flexrm,
    read_trends,
)
from stages.errors import InputError

HERE = Path(__file__).parent
SPDX = "https://spdx.org/licenses/{}.html"


def write(output: Path, of: Pipeline | None = None) -> Path:
    """Write the page of a preset (default the current one) to `output`, all of it or nothing; returns `output`.

    Equal artifacts and an equal ledger give equal bytes. Raises OrbitforgeError when there is nothing to report, when
    an artifact is damaged, or when `output` cannot be written.
    """
    text = render(of or pipeline.current())
    if output.is_dir():
        raise OrbitforgeError(f"{output} is a folder; name the file, such as {output / 'report.html'}")
    with plain_errors(f"writing {output}"):
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = output.with_name(f".{output.name}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(output)
        finally:
            temporary.unlink(missing_ok=True)
    return output


def render(of: Pipeline) -> str:
    """The text of the page. Raises as `write` does."""
    folder = paths.data() / of.preset.name
    evaluation, trends = read_evaluation(folder / EVALUATION), read_trends(folder / TRENDS)
    many = read_flexrm(folder / FLEXRM)
    current = Current(of)
    model = provenance.model_row(current, evaluation.shown if evaluation else None)
    if evaluation is None and trends is None and many is None and model is None:
        raise OrbitforgeError(
            f"nothing to report: {folder} holds no evaluation, no trends and no model; make them with "
            f"`orbitforge run --preset {of.preset.name}`"
        )
    commands = provenance.commands(current, model)
    style = _read("page.css")
    script = "".join(map(_read, ("turning.js", "viewer.js", *(("splats.js",) if many else ()))))
    return _environment().get_template("page.html").render(
        preset=of.preset,
        policy=_policy(style, script),
        style=Markup(style),  # ours, and no data in it
        script=Markup(script),
        shown=evaluation.shown if evaluation else model.asset if model else "",
        lineage=provenance.lineage(current, model) if model else None,
        versions=provenance.versions(current, model),
        commands=commands,
        widest=max(len(command) for command, _ in commands),
        **_measured(evaluation),
        **_trends(trends),
        **_many(many),
    )  # fmt: skip


def _measured(evaluation: Evaluation | None) -> dict[str, Any]:
    if evaluation is None:
        return {"evaluation": None, "items": [], "pictures": 0}
    measured = figures.measured(evaluation)
    shown = evaluation.values.filter(model=evaluation.shown)
    return {
        "evaluation": evaluation,
        "measured": measured,
        "headline": figures.headline(measured, evaluation.shown),
        "compared": figures.compared(evaluation),
        "failures": figures.failures(evaluation),
        "objects": shown["object"].n_unique(),
        "protocol": json.dumps(evaluation.protocol, indent=1, sort_keys=True, ensure_ascii=False),
        "items": gallery.items(evaluation),
        "pictures": len(evaluation.gallery),
    }


def _trends(trends: Trends | None) -> dict[str, Any]:
    found = figures.experiments(trends) if trends else []
    drawings = trends.drawings if trends else {}
    return {
        "trends": trends,
        "sizes": [each for each in found if each.over_a_size],
        "ablations": [each for each in found if not each.over_a_size],
        "drawings": {name: _uri("image/svg+xml", svg) for name, svg in drawings.items()},
    }


def _many(many: FlexRM | None) -> dict[str, Any]:
    """The reconstruction from any number of views."""
    if many is None:
        return {"many": None}
    try:
        splats, lacking = packed(many.folder / "splats.ply"), ""
    except InputError as error:
        splats, lacking = None, str(error).replace(f"{many.folder}/", "")
    drawing = flexrm.chart(many.figures)
    return {"many": many, "lines": flexrm.lines(many.figures), "chart": drawing, "splats": splats, "no_splats": lacking}


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["spdx"] = lambda licence: SPDX.format(licence) if _plain(licence) else ""
    return made


def _plain(licence: str) -> bool:
    """Whether it is one SPDX identifier, which has a page."""
    return (
        not licence.startswith("LicenseRef")
        and licence != "unknown"
        and all(c.isalnum() or c in ".-+" for c in licence)
    )


def _policy(style: str, script: str) -> str:
    """No request leaves, and no style or script runs but these two, whatever the data hold."""
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    return f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'"


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
