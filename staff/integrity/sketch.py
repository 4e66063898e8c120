"""Sketches of weights: small, and alike for models that are alike up to names and hidden units.

It runs in the sandbox, on the tensors of a checkpoint and without any of the student's code. Two
trainings from one seed begin with the same weights, and a short one changes them little. So what is
sketched of a matrix is also its change since then. The units should be `order.in_order`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_TENSORS = 12  # the largest ones of a model
LEAST = 64  # values of a tensor that is sketched
UNITS = 64  # rows of a matrix, and columns, that are kept
WIDTH = 16  # numbers that a row is projected to
CHANGE = 256  # numbers that the change of a whole matrix is projected to
LEVELS = 127  # of a number, kept as one byte


def sketch_of(
    tensors: Mapping[str, np.ndarray], initial: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Return the sketches of the largest matrices of a model.

    Args:
        tensors: the floating-point weights by name; the names are not used.
        initial: their values before the training, by the same names; {} if they are unknown.

    Each sketch has
        shape: of the matrix (n, m): the first dimension of the tensor, and all others together.
        values: a hash of the sorted values: equal after any renaming and permutation.
        rows, columns: as hexadecimal digits, the UNITS rows (columns) of greatest norm, each
            projected to WIDTH numbers and scaled to length 1: the same rows, in any order, after
            hidden units were permuted, and nearly the same after a little more training.
        initial: a hash of the sorted initial values; "" if they are unknown.
        changed_rows, changed_columns: the same as rows and columns, of the change since then.
        change: the change of the whole matrix, each value with a random sign added to one of CHANGE
            numbers (a count sketch), so that the angle between two changes is kept; "" if unknown.
    """
    chosen = [one for one in tensors.items() if one[1].ndim >= 2 and one[1].size >= LEAST]
    chosen.sort(key=lambda one: -one[1].size)
    return [_sketch(value, initial.get(name)) for name, value in chosen[:MAX_TENSORS]]


def _sketch(weights: np.ndarray, initial: np.ndarray | None) -> dict[str, Any]:
    matrix = _matrix(weights)
    before = np.zeros_like(matrix) if initial is None else _matrix(initial)
    return {
        "shape": list(matrix.shape),
        "values": _hash(matrix),
        "rows": _units(matrix),
        "columns": _units(matrix.T),
        "initial": "" if initial is None else _hash(before),
        "changed_rows": _units(matrix - before),
        "changed_columns": _units((matrix - before).T),
        "change": "" if initial is None else _whole(matrix - before),
    }


def _whole(matrix: np.ndarray) -> str:
    """Return the count sketch of a matrix, scaled so that its largest number is LEVELS."""
    rng = np.random.default_rng(matrix.size)
    places = rng.integers(0, CHANGE, matrix.size)
    signs = rng.integers(0, 2, matrix.size) * 2 - 1
    numbers = np.bincount(places, signs * matrix.ravel(), CHANGE)
    scale = LEVELS / max(float(np.abs(numbers).max()), 1e-12)
    return np.rint(numbers * scale).astype(np.int8).tobytes().hex()


def _matrix(weights: np.ndarray) -> np.ndarray:
    return np.nan_to_num(weights.reshape(len(weights), -1).astype(np.float64))


def _hash(matrix: np.ndarray) -> str:
    """Return a hash of the values in any order."""
    values = np.sort(matrix, axis=None).astype("<f4")
    return hashlib.sha256(values.tobytes()).hexdigest()[:32]


def _units(matrix: np.ndarray) -> str:
    """Return the rows of greatest norm, projected by numbers that the row's length decides."""
    strongest = np.argsort(-np.linalg.norm(matrix, axis=1), kind="stable")[:UNITS]
    width = matrix.shape[1]
    projection = np.random.default_rng(width).standard_normal((width, WIDTH))
    points = matrix[strongest] @ projection  # (UNITS, WIDTH)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    return np.rint(points * LEVELS).astype(np.int8).tobytes().hex()
