"""Images of a report, as PNG data for `<img src="data:...">`. Digits are white on black."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from lab.latent_plane import label_colors, ramp_colors

PLANE = 560  # side of the plane of codes, in pixels


def png(pixels: np.ndarray) -> str:
    """Return uint8 pixels, (H, W) grey or (H, W, 4) with transparency, as base64 of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")  # optimize=True: 2 % smaller, far slower
    return base64.b64encode(buffer.getvalue()).decode()


def mosaic(rows: Sequence[np.ndarray], gap: int = 2) -> str:
    """Return rows of images, each uint8 (columns, 28, 28), as one PNG with transparent gaps."""
    columns, cell = max(len(row) for row in rows), 28 + gap
    pixels = np.zeros((len(rows) * cell - gap, columns * cell - gap, 4), np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            place = pixels[y * cell : y * cell + 28, x * cell : x * cell + 28]
            place[..., :3], place[..., 3] = image[..., None], 255
    return png(pixels)


def sprites(rows: Sequence[np.ndarray]) -> str:
    """Return rows of images without gaps, so that a page can show one image of them."""
    return png(np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0))


def difference(images: np.ndarray, recon: np.ndarray) -> np.ndarray:
    """Return |images - recon|, uint8 (N, 28, 28)."""
    return np.abs(images.astype(np.int16) - recon).astype(np.uint8)


def plane(codes: np.ndarray, values: np.ndarray, by_label: bool) -> str:
    """Return codes (N, 2) as points on a transparent square, coloured by their values (N,).

    by_label: values are labels 0 to 9, which have a color each; otherwise they are amounts, which
    are coloured from low to high by their rank.
    """
    low, high = np.percentile(codes, [0.2, 99.8], axis=0)
    share = (codes - low) / np.maximum(high - low, 1e-9)  # (N, 2)
    inside = ((share >= 0) & (share <= 1)).all(axis=1)
    across = np.round(share[inside, 0] * (PLANE - 3)).astype(int)
    down = np.round((1 - share[inside, 1]) * (PLANE - 3)).astype(int)
    colors = label_colors(values) if by_label else ramp_colors(values)
    pixels = np.zeros((PLANE, PLANE, 4), np.uint8)
    for right, below in np.ndindex(2, 2):  # a point is 2 x 2 pixels
        pixels[down + below, across + right, :3] = colors[inside]
        pixels[down + below, across + right, 3] = 255
    return png(pixels)
