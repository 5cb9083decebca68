"""What the branch of many views would take, see `orchestration.planning`.

Networks are counted. Splatting, support and SIFT are none: where they take long, `orbitforge plan --measure` shows it
as a lower rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log
from statistics import NormalDist

from models.config import SVDConfig, TextToImageConfig, VideoConfig
from models.flops import BACKWARD, FlexRMFlops, MultiviewFlops, encoder_flops, parameters, video_flops
from models.multiview_config import BackboneConfig, MultiviewConfig
from orchestration.errors import OrbitforgeError
from orchestration.planning import FLOAT, Rates, Scale, Work
from orchestration.presets.schema import Preset

QUERIES = 2
"""Front and back: assumed of every pool, where the back may be refused."""
LOFTR = 2_269_692, 512
"""Operations of kornia's LoFTR: for each pixel of a pair of views, and for each pair of coarse positions, of which 64
pixels are one. Counted on views of up to 256 px, without the fine matches."""
EVALUATED = 3
"""Reconstructions from each pool of the evaluation: as it is, half spoiled, and what curation kept of that."""
SHEET = (1, 4, 16)
"""Numbers of views that the evaluation also makes a picture of."""
ROW = 100.0
"""Bytes of a row."""


def flexiview_works(preset: Preset, scale: Scale, rates: Rates) -> Iterator[Work]:
    """The work of each asset of the branch, in its order.

    Raises OrbitforgeError for a multi-view model whose shapes the preset does not tell.
    """
    rings, rendering, passes = preset.rings, preset.rendering, 1 + BACKWARD
    heights = len(rings.elevations)
    orbits = scale.objects * rings.variants + scale.object_shards * rings.invented
    views, samples = heights * rings.azimuths, (rendering.size * rendering.supersampling) ** 2
    yield Work(
        *("ring_views", orbits, scale.object_shards, "samples"),
        *(orbits * views * samples, orbits * views * rates.bytes_of_view(rendering.size)),
    )
    yield Work("ring_manifest", orbits, 1, "rows", orbits, ROW * orbits)

    multiview, training = _multiview(preset), preset.multiview.training
    # the UNet alone is trained
    sample = heights * multiview.encode + multiview.text + passes * (multiview.denoise - multiview.text)
    amount = training.steps * training.batch * sample
    yield Work("multiview_model", training.steps, 1, "flops", amount, FLOAT * multiview.parameters)

    config, shards = preset.candidates, scale.prompt_shards
    prompts = min(scale.prompts, config.prompts * shards) if config.prompts else scale.prompts
    pools, pool = prompts * config.samples, heights + config.views
    each = multiview.encode + config.steps * multiview.denoise + heights * multiview.decode + _orbit(preset)
    size = rates.bytes_of_view(preset.base.video.video.size)
    yield Work("candidate_views", pools, shards, "flops", pools * each, pools * pool * size)

    curating = _curating(preset, pool)
    # a pool's scores taken to be normal: where they are not, or there is no fault, another share is kept
    kept = NormalDist().cdf(preset.curation.spread) * pool
    stored = pools * (kept * size + pool * ROW)
    yield Work("curated_views", pools, shards, "flops", pools * curating, stored)
    yield Work("curated_manifest", pools, 1, "rows", pools, ROW * pools)

    flops, protocol = FlexRMFlops.of(preset.flexrm.model), preset.flexrm.protocol
    steps = preset.flexrm.volume.steps + preset.flexrm.gaussians.steps
    yield Work("flexrm", steps, 1, "flops", _training(preset, flops, views), FLOAT * parameters(preset.flexrm.model))

    counts = [*protocol.counts, *(count for count in protocol.counts if count in SHEET)]
    seen = [*counts, *(EVALUATED - 1) * protocol.pools * [pool], *protocol.pools * [kept]]
    each = sum(flops.planes(count) + flops.gaussians(count) for count in seen) + protocol.pools * curating
    objects = min(scale.held_out, protocol.most or scale.held_out)
    rows = objects * (len(protocol.counts) + EVALUATED * protocol.pools)
    yield Work("flexrm_evaluation", objects * len(seen), 1, "flops", objects * each, ROW * rows)


def input_views(most: int) -> list[float]:
    """How likely a step of FlexRM has 1, 2, ... `most` input views: `stages.flexrm.data.draw_count`."""
    return [log((count + 1) / count) / log(most + 1) for count in range(1, most + 1)]


def _training(preset: Preset, flops: FlexRMFlops, rings: int) -> float:
    """Both stages, on objects that are seen in `rings` views; as if all weights were trained."""
    config, passes = preset.flexrm, 1 + BACKWARD
    total = 0.0
    for number, odds in enumerate(input_views(config.draws.most), 1):
        views = min(number, rings)
        volume = passes * (flops.planes(views) + config.draws.rays * flops.ray(views))
        made = flops.planes(views) + flops.gaussians(views)
        # clean Gaussians are made of every object some of whose views are to be imperfect
        imperfect = 1 - (1 - config.imperfect.share) ** views
        splats = volume + passes * flops.gaussians(views) + imperfect * made
        total += odds * config.volume.steps * config.volume.batch * volume
        total += odds * config.gaussians.steps * config.gaussians.batch * splats
    return total


def _multiview(preset: Preset) -> MultiviewFlops:
    config, base = preset.multiview, preset.base.text_to_image
    shapes: BackboneConfig | TextToImageConfig | None = config.backbone
    if shapes is None and config.at is None and base is not None:
        shapes = base.model
    if shapes is None:
        told = f"multiview.at is {config.at}" if config.at else "base.text_to_image is null"
        raise OrbitforgeError(
            f"preset {preset.name}: {told}, and no shapes are told: name those of the pipeline in multiview.backbone"
        )
    size, elevations = preset.rendering.size, preset.rings.elevations
    settings = MultiviewConfig(size=size, elevations=elevations, columns=config.columns, objective=config.objective)
    return MultiviewFlops.of(shapes, settings)


def _orbit(preset: Preset) -> float:
    """Of one orbit by the video model, see `stages.candidates.orbit`."""
    video, corpus, frames = preset.base.video.video, preset.corpus, preset.candidates.views
    clips = 1.0
    if isinstance(video, SVDConfig):
        video: VideoConfig = video.model_copy(update={"frames": frames})
    else:
        clips = frames / video.frames
    denoise, decode = video_flops(video)
    guided = 2 if max(corpus.sampling.guidance) > 1 else 1
    return clips * (corpus.steps * guided * denoise + decode)


def _curating(preset: Preset, pool: int) -> float:
    """Of one pool of `pool` views: the classifier looks at the orbit, the matcher at all."""
    encoder, matcher, orbit = preset.base.encoder.encoder, preset.curation.matcher, preset.candidates.views
    judged = ceil(orbit / max(1, orbit // preset.quality.elevation.views)) * encoder_flops(encoder)
    if matcher.kind == "tokens":
        return judged + pool * encoder_flops(encoder.model_copy(update={"image_size": matcher.size}))
    if matcher.kind == "loftr":
        pixels = matcher.size**2
        return judged + QUERIES * pool * (LOFTR[0] * pixels + LOFTR[1] * (pixels / 64) ** 2)
    return judged
