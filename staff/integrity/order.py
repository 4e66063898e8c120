"""Put the hidden units of a model back in the order in which its code creates them.

Exchanging the hidden units of a layer, and what reads them, gives a model that computes the same.
Training does not do so: a unit stays nearer to its own initial weights than to another unit's. So
units in another order are a sign of a disguise, and are put back before weights are compared. The
assignment of units is that of weight matching (Ainsworth, Hayase and Srinivasa, Git Re-Basin:
Merging Models modulo Permutation Symmetries, 2022), with the initial weights as the other model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

MAX_UNITS = 2048  # of a layer that is put back
READ = 1024  # weights of a unit that are compared
BY_CHANCE = 1.5  # times the cosine that the nearest of n random units of d weights has
CLEARER = 0.2  # cosine to the initial weights that another order must gain

Order = np.ndarray  # integers (n,): where the unit that belongs in each place is


def in_order(
    tensors: Mapping[str, np.ndarray], initial: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], int]:
    """Return the weights with their units in the initial order, and how many tensors had another.

    Args:
        tensors: the weights by name.
        initial: their values before the training, by the same names and of the same shapes.
    """
    names = [name for name, one in tensors.items() if one.ndim >= 2 and name in initial]
    matrices = {name: _matrix(tensors[name]) for name in names}
    begun = {name: _matrix(initial[name]) for name in names}
    orders: list[Order] = []
    changed: set[str] = set()
    for name in (*names, *names):  # twice: an order may be found behind where it is needed
        found = _restored(matrices[name], begun[name], orders)
        if found is not None:
            matrices[name] = found
            changed.add(name)
    back = {name: matrices[name].reshape(tensors[name].shape) for name in names}
    return {**tensors, **back}, len(changed)


def _matrix(tensor: np.ndarray) -> np.ndarray:
    return np.nan_to_num(tensor.reshape(len(tensor), -1).astype(np.float32))


def _restored(weights: np.ndarray, begun: np.ndarray, orders: list[Order]) -> np.ndarray | None:
    """Return a matrix in the orders of rows and columns that fit it best; None if it is in them.

    What is found out about rows or columns is added to `orders`, for the layers beside it.
    """
    rows: list[Order | None] = [None, *(one for one in orders if len(one) == len(weights))]
    columns: list[Order | None] = [None]
    columns += [one for one in (_blocks(order, weights.shape[1]) for order in orders) if len(one)]
    new = [_order(_moved(weights, None, column), begun) for column in columns]
    other = [_order(_moved(weights, row, None).T, begun.T) for row in rows]
    rows += [one for one in new if one is not None]
    columns += [one for one in other if one is not None]
    pairs = itertools.product(rows, columns)
    row, column = max(pairs, key=lambda pair: _cosine(_moved(weights, *pair), begun))
    found = _moved(weights, row, column)
    if _cosine(found, begun) < _cosine(weights, begun) + CLEARER:
        return None
    orders += [one for one in (row, column) if one is not None and not _known(one, orders)]
    return found


def _moved(weights: np.ndarray, row: Order | None, column: Order | None) -> np.ndarray:
    found = weights if row is None else weights[row]
    return found if column is None else found[:, column]


def _known(order: Order, orders: Sequence[Order]) -> bool:
    """Return whether an order is one of those, or made of blocks in one of those."""
    return any(np.array_equal(order, _blocks(one, len(order))) for one in orders)


def _blocks(order: Order, count: int) -> Order:
    """Return the order of columns of which each unit has several, as channels do; () if none."""
    size, rest = divmod(count, len(order))
    if rest:
        return order[:0]
    return (order[:, None] * size + np.arange(size)).ravel()


def _order(weights: np.ndarray, begun: np.ndarray) -> Order | None:
    """Return the order that brings rows to those they began as; None if it is that already."""
    count, width = weights.shape
    if not 1 < count <= MAX_UNITS:
        return None
    read = np.linspace(0, width - 1, min(width, READ)).astype(int)
    least = max(CLEARER, BY_CHANCE * math.sqrt(2 * math.log(count) / len(read)))
    near = _units(begun[:, read]) @ _units(weights[:, read]).T  # (n, n)
    own = near.diagonal()
    if np.mean(own >= near.max(axis=1)) > 0.5:  # as training leaves them
        return None
    from scipy.optimize import linear_sum_assignment

    _, order = linear_sum_assignment(near, maximize=True)
    gained = near[np.arange(count), order].mean() - own.mean()
    return order if gained > least else None


def _units(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(np.vdot(one, other) / max(lengths, 1e-12))
