"""Do pictures drawn from text show what was said? Colour and category, as judges see them in renders and in pictures.

The peer of a drawn figure is what the same judge says of renders, whose colour and category are known.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestration import paths, pipeline
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

EACH = 2
"""Pictures of each colour and kind."""
KNOWN = {"views": 2, "variants": 4, "invented": 2500}
"""Renders that teach the judge of category."""
UNSEEN, YARDSTICK = "renders of unseen inventions", {"views": 2, "variants": 1, "invented": 400}
OTHERS_VIEWS = 8
BATCH = 24


def measure(report: Callable[[str], None]) -> list[Row]:
    """Every colour with every kind. The peer of a judge is guessing."""
    import polars as pl
    import torch

    from stages.corpus.first_frames import FirstFrames, Frame
    from stages.evaluation.text_agreement import (
        KindJudge,
        Shown,
        Words,
        agreement,
        known_renders,
        named_colours,
        unknown_renders,
    )
    from stages.objects.splits import HELD_OUT
    from stages.prompts.vocabulary import read_vocabulary, with_articles
    from stages.shards import composite

    here = pipeline.current()
    preset, base = here.preset, paths.data() / "base_models"
    for part in ("encoder", "text_to_image"):
        if not (base / part).is_dir():
            raise OrbitforgeError(f"{base / part} is missing; run `orbitforge run` or `orbitforge base` first")
    objects, meshes = here.table("objects"), paths.data() / preset.source.folder
    words = Words.of(read_vocabulary())

    def renders(sizes: dict[str, int], seed: int, *, invented_alone: bool) -> Shown:
        rendering = preset.rendering.model_copy(update=sizes)
        return known_renders(words, objects, meshes, rendering, seed=seed, invented_alone=invented_alone)

    known = renders(KNOWN, preset.seed + 1, invented_alone=False)
    judge = KindJudge(base / "encoder", known, seed=preset.seed)
    rulers = {
        UNSEEN: renders(YARDSTICK, preset.seed + 2, invented_alone=True),
        "renders of held-out objects": unknown_renders(
            words,
            objects.filter(pl.col("split") == HELD_OUT),
            meshes,
            preset.rendering,
            views=OTHERS_VIEWS,
            seed=preset.seed,
        ),
    }
    rulers = {name: shown for name, shown in rulers.items() if len(shown.images)}
    report(f"judges: {len(words.colours)} colours, {len(words.kinds)} kinds")
    wanted = [(c, k) for c in range(len(words.colours)) for k in range(len(words.kinds)) for _ in range(EACH)]
    asked = [
        {
            "id": f"bench-{number}",
            "text": with_articles(f"a {words.colours[colour]} {words.kinds[kind]}"),
            "object": None,
            "seed": number,
        }
        for number, (colour, kind) in enumerate(wanted)
    ]
    frames = FirstFrames(meshes, base / "text_to_image", preset.corpus, preset.rendering, preset.seed)
    began = time.process_time()
    drawn = [frame for at in range(0, len(asked), BATCH) for frame in frames.draw(asked[at : at + BATCH])]
    seconds = time.process_time() - began
    usable = [number for number, frame in enumerate(drawn) if isinstance(frame, Frame)]
    images = torch.cat([torch.from_numpy(composite(f.rgba)) for f in drawn if isinstance(f, Frame)])
    colour, kind = torch.tensor([wanted[number] for number in usable]).unbind(1)
    pictures = Shown(images, colour, kind)
    share = len(usable) / len(asked)
    rows = [
        Row("pictures that a clip can begin with", "share", share, at_least=True),
        Row("drawing", "CPU s a picture", seconds / len(asked)),
    ]
    judges = {
        "colour": (len(words.colours), lambda shown: agreement(shown.colour, named_colours(words, shown.images))),
        "category": (len(words.kinds), lambda shown: agreement(shown.kind, judge(shown.images))),
    }
    for name, (choices, judged) in judges.items():
        seen = {ruler: judged(shown) for ruler, shown in rulers.items()}
        for ruler, value in seen.items():
            rows.append(Row(f"{name}: {ruler} ({len(rulers[ruler].images)})", "share", value, 1 / choices))
        own = seen[UNSEEN]
        rows.append(
            Row(
                f"{name}: drawn pictures ({len(images)}) of 1 in {choices}",
                "share",
                judged(pictures),
                own,
                at_least=True,
            )
        )
    return rows
