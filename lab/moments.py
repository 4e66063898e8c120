"""What an image of a digit looks like, in numbers: its slant and the width of its strokes.

Both come from moments of the pixels, seen as masses; see Hu, Visual pattern recognition by moment
invariants, IRE Transactions on Information Theory 1962.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def slant(images: np.ndarray) -> np.ndarray:
    """Return how far digits lean to the right: float64 (N,), about -1 to 1, 0 if upright.

    The slope of the line that fits the pixels best, column by row: the central moments
    mu_11 / mu_02, with rows counted upwards. 0 for a blank image.

    images: uint8 (N, 28, 28).
    """
    rows, columns = (place.ravel().astype(np.float64) for place in np.mgrid[28:0:-1, 0:28])
    powers = [np.ones(784), rows, columns, rows * rows, rows * columns]
    mass = images.reshape(-1, 784).astype(np.float64)  # (N, 784)
    total, *sums = (mass @ np.stack(powers, axis=1)).T  # (N,) each
    row, column, squares, products = sums / np.maximum(total, 1e-9)
    return (products - row * column) / np.maximum(squares - row * row, 1e-9)


def stroke_width(images: np.ndarray) -> np.ndarray:
    """Return the mean width of the strokes in pixels: float64 (N,), 0 for a blank image.

    The area of the ink divided by the length of its edge on one side: 2 area / edge.

    images: uint8 (N, 28, 28).
    """
    ink = images > 127  # (N, 28, 28)
    cross = ndimage.generate_binary_structure(2, 1)[None]
    edge = ink & ~ndimage.binary_erosion(ink, cross)
    return 2 * ink.sum(axis=(1, 2)) / np.maximum(edge.sum(axis=(1, 2)), 1)
