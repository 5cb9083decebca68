"""What can be measured on a clip without learning: is there one object, does it stay whole, and does it turn?

A good clip shows one object in full, on white, while the camera goes once around it at one height. Each number below
answers to one way of failing; `measure` names them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from stages.quality.masks import connected


def measure(images: Float[np.ndarray, "v 3 h w"], mask: Bool[np.ndarray, "v h w"]) -> dict[str, float]:
    """Statistics of one clip whose views go once around, in order. RGB in 0..1; all values are finite.

    share_*       foreground share of the image; border_*: of the border pixels (cropping)
    motion_*      mean change between neighbouring views inside the silhouettes (a frozen clip has none);
                  motion_peak is the largest over the mean (a cut, a vanished object, shuffled views)
    aligned       the same after moving the centroids together, over motion (a pan has almost none)
    closure       change from the last view back to the first, over motion
    stride        change over two steps, over motion (views in no order change as much over one step as over two)
    reach         change from each view to the opposite one, over motion
    overlap_*     IoU of neighbouring silhouettes
    opposite      IoU of a silhouette with the mirrored opposite one: silhouettes from opposite sides are mirror images
    card          change from the opposite view to the view's own mirror image, over motion (a flat card has little)
    sway, heave   spread of the centroid across and up, in image sizes; stature: spread of height over mean height
    sharp_*       edge strength inside silhouettes; sharp_fall: of the back half of the orbit over the front half
    grain         what a median filter removes from the views: noise
    drift         largest change of mean colour against view 0; drift_trend: how steadily it grows
    pieces        share of foreground outside the largest piece
    """
    count = len(images)
    area = mask.mean((1, 2))
    following, second, half = (np.roll(np.arange(count), -step) for step in (1, 2, count // 2))
    motion = _change(images, images[following], mask | mask[following])
    mean_motion = max(float(motion.mean()), 1e-3)
    centred, centred_mask = _centred(images, mask)
    aligned = _change(centred, centred[following], centred_mask | centred_mask[following])
    stride = _change(images, images[second], mask | mask[second])
    reach = _change(images, images[half], mask | mask[half])
    mirrored, mirrored_mask = images[half, :, :, ::-1], mask[half, :, ::-1]
    card = _change(images, mirrored, mask | mirrored_mask)
    overlap = _iou(mask, mask[following])
    rows, columns = _centroids(mask)
    heights = mask.any(2).sum(1) / mask.shape[1]
    sharp = _edges(images, mask)
    back = np.abs(np.arange(count) - count / 2) <= count / 4
    colours = _colours(images, mask)
    drift = np.linalg.norm(colours - colours[0], axis=1)
    border = np.concatenate((mask[:, 0], mask[:, -1], mask[:, 1:-1, 0], mask[:, 1:-1, -1]), 1).mean(1)
    values = {
        "share_mean": area.mean(),
        "share_least": area.min(),
        "share_spread": area.std() / max(area.mean(), 1e-3),
        "border_mean": border.mean(),
        "border_most": border.max(),
        "motion_mean": motion.mean(),
        "motion_peak": motion.max() / mean_motion,
        "aligned": aligned.mean() / mean_motion,
        "closure": motion[-1] / mean_motion,
        "stride": stride.mean() / mean_motion,
        "reach": reach.mean() / mean_motion,
        "overlap_mean": overlap.mean(),
        "overlap_least": overlap.min(),
        "opposite": _iou(centred_mask, centred_mask[half, :, ::-1]).mean(),
        "card": card.mean() / mean_motion,
        "sway": columns.std(),
        "heave": rows.std(),
        "stature": heights.std() / max(heights.mean(), 1e-3),
        "sharp_mean": sharp.mean(),
        "sharp_fall": sharp[back].mean() / max(sharp[~back].mean(), 1e-3),
        "grain": np.abs(images - _median(images)).mean(),
        "drift": drift.max(),
        "drift_trend": _trend(drift),
        "pieces": _outside_largest(mask).mean(),
    }
    return {name: float(value) for name, value in values.items()}


def _median(images: Float[np.ndarray, "v 3 h w"]) -> Float[np.ndarray, "v 3 h w"]:
    """The median of each pixel and its eight neighbours, border pixels repeated; ndimage's filter takes four times as
    long. Of columns sorted by three, the middle is the median of: greatest least, median middle, least greatest."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    low, middle, high = _sorted(padded[..., :-2, :], padded[..., 1:-1, :], padded[..., 2:, :])
    left, centre, right = slice(None, -2), slice(1, -1), slice(2, None)
    greatest = np.maximum(np.maximum(low[..., left], low[..., centre]), low[..., right])
    least = np.minimum(np.minimum(high[..., left], high[..., centre]), high[..., right])
    return _sorted(greatest, _sorted(middle[..., left], middle[..., centre], middle[..., right])[1], least)[1]


def _sorted(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    small, large = np.minimum(a, b), np.maximum(a, b)
    return np.minimum(small, c), np.maximum(small, np.minimum(large, c)), np.maximum(large, c)


def _change(
    a: Float[np.ndarray, "v 3 h w"], b: Float[np.ndarray, "v 3 h w"], where: Bool[np.ndarray, "v h w"]
) -> Float[np.ndarray, " v"]:
    """Mean absolute difference inside `where`, 0 where it is empty."""
    difference = np.abs(a - b).mean(1)
    return (difference * where).sum((1, 2)) / np.maximum(where.sum((1, 2)), 1)


def _iou(a: Bool[np.ndarray, "v h w"], b: Bool[np.ndarray, "v h w"]) -> Float[np.ndarray, " v"]:
    return (a & b).sum((1, 2)) / np.maximum((a | b).sum((1, 2)), 1)


def _centroids(mask: Bool[np.ndarray, "v h w"]) -> tuple[Float[np.ndarray, " v"], Float[np.ndarray, " v"]]:
    """Row and column of the centre of the silhouette in 0..1; the middle of the image where nothing is."""
    size = np.maximum(mask.sum((1, 2)), 1)
    rows = (mask.sum(2) * (np.arange(mask.shape[1]) + 0.5)).sum(1) / size / mask.shape[1]
    columns = (mask.sum(1) * (np.arange(mask.shape[2]) + 0.5)).sum(1) / size / mask.shape[2]
    empty = ~mask.any((1, 2))
    rows[empty], columns[empty] = 0.5, 0.5
    return rows, columns


def _centred(
    images: Float[np.ndarray, "v 3 h w"], mask: Bool[np.ndarray, "v h w"]
) -> tuple[Float[np.ndarray, "v 3 h w"], Bool[np.ndarray, "v h w"]]:
    """Views shifted by whole pixels so that each silhouette's centre lies in the middle."""
    rows, columns = _centroids(mask)
    moves = [
        (round((0.5 - row) * mask.shape[1]), round((0.5 - column) * mask.shape[2]))
        for row, column in zip(rows, columns, strict=True)
    ]
    shifted = [np.roll(image, move, (1, 2)) for image, move in zip(images, moves, strict=True)]
    return np.stack(shifted), np.stack([np.roll(m, move, (0, 1)) for m, move in zip(mask, moves, strict=True)])


def _edges(images: Float[np.ndarray, "v 3 h w"], mask: Bool[np.ndarray, "v h w"]) -> Float[np.ndarray, " v"]:
    """Mean gradient length inside the silhouette."""
    down, right = np.gradient(images.mean(1), axis=(1, 2))
    return (np.hypot(down, right) * mask).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)


def _colours(images: Float[np.ndarray, "v 3 h w"], mask: Bool[np.ndarray, "v h w"]) -> Float[np.ndarray, "v 3"]:
    inside = (images * mask[:, None]).sum((2, 3))
    return inside / np.maximum(mask.sum((1, 2)), 1)[:, None]


def _trend(values: Float[np.ndarray, " v"]) -> float:
    """Correlation with time; 0 for a constant."""
    spread = values.std()
    if spread < 1e-6:
        return 0.0
    time = np.arange(len(values)) - (len(values) - 1) / 2
    return float((time * (values - values.mean())).mean() / (time.std() * spread))


def _outside_largest(mask: Bool[np.ndarray, "v h w"]) -> Float[np.ndarray, " v"]:
    """Share of each view's foreground that is not of its largest piece; 0 where nothing is."""
    sizes = [np.bincount(pieces.ravel(), minlength=2)[1:] for pieces in connected(mask, diagonal=True)]
    return np.array([1 - of.max() / max(of.sum(), 1) if of.any() else 0.0 for of in sizes])
