"""What a checkpoint says about its training, and how alike the weights of two checkpoints are.

The sandbox returns a record of each checkpoint as JSON. It comes from a file that a student can
forge, so every value is checked here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from staff.integrity.sketch import CHANGE, MAX_TENSORS, UNITS, WIDTH
from staff.text import as_line

MAX_BYTES = 4 << 20  # of a record
MAX_ROWS = 2000  # of history
# Two units are the same above this cosine. Measured by benchmarks/integrity.py: after an epoch of
# fine-tuning above 0.999; between models of one seed whose codes differ a little, 0.6 to 0.95.
SAME_UNIT = 0.98
ALIKE = 0.5  # the share of the weights that are in matrices of the same units
# Cosine of what two trainings of one seed changed. After 240 steps, an epoch of fine-tuning gives
# 0.95 to 0.99 at half the rate or less, and 0.92 to 0.93 at the full rate; codes that compute
# something else 0.3 to 0.9, those that compute nearly the same (batches of 250, not 256) to 0.96.
SAME_CHANGE = 0.94
REORDERED = 0.8  # the same, where one has its units in another order: a disguise
FEW_LOSSES = 10  # of first steps; fewer say nothing about how alike two trainings are
# How far the logarithm of the ratio of two losses is from its median, in the median of the first
# steps: nearly the same computation 0 to 0.006; another activation, rate or KL 0.012 to 0.13.
SAME_CURVE = 0.008
SHORT = 200  # steps; two trainings of one seed have hardly parted by then
FEW_ROWS = 2  # of history; fewer rows with equal times may be a coincidence
HEX = re.compile(r"[0-9a-f]*")


@dataclass(frozen=True)
class Record:
    """What a checkpoint states, and the sketches of its weights.

    Attributes:
        task, latent_dim: as the checkpoint states them.
        submission_sha256, code_sha256: of the code it was trained from; "" in older ones.
        settings: of the training: seed, lr, batch_size, ...
        history: one row of numbers per validation.
        first_losses: the loss of each of the first steps; may be empty.
        sketches: see `sketch.sketch_of`.
        reordered: how many tensors have their units in another order than the code creates them.
    """

    task: str
    latent_dim: int
    submission_sha256: str
    code_sha256: str
    settings: Mapping[str, Any]
    history: tuple[Mapping[str, float], ...]
    first_losses: tuple[float, ...]
    sketches: tuple[Mapping[str, Any], ...]
    reordered: int = 0

    @property
    def times(self) -> tuple[float, ...]:
        """The seconds of training at each row of history: no two runs have the same."""
        return tuple(row.get("seconds", 0.0) for row in self.history)


def read_record(content: bytes) -> Record | None:
    """Return the record that the sandbox returned; None if it is not of the expected form."""
    if len(content) > MAX_BYTES:
        return None
    try:
        values = json.loads(content)
        return Record(
            as_line(str(values["task"]))[:100],
            int(values["latent_dim"]),
            _hexadecimal(values["submission_sha256"]),
            _hexadecimal(values["code_sha256"]),
            _plain(values["settings"]),
            tuple(_numbers(row) for row in values["history"][:MAX_ROWS]),
            tuple(float(loss) for loss in values["first_losses"][:1000]),
            tuple(_checked(one) for one in values["sketches"][:MAX_TENSORS]),
            int(values.get("reordered", 0)),  # earlier years do not have it
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def as_plain(record: Record) -> dict[str, Any]:
    """Return a record as plain values, as `read_record` reads them."""
    return {name: getattr(record, name) for name in Record.__dataclass_fields__}


def _hexadecimal_of(value: str, count: int) -> str:
    """Return the hexadecimal digits of so many bytes, or of none."""
    if len(bytes.fromhex(value)) not in (0, count):
        raise ValueError("not the sketch of a change")
    return value


def _hexadecimal(value: object) -> str:
    return value if isinstance(value, str) and HEX.fullmatch(value) and len(value) <= 64 else ""


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (str, int, float, bool, type(None))
    return {
        as_line(str(name))[:100]: as_line(value)[:200] if isinstance(value, str) else value
        for name, value in list(values.items())[:100]
        if isinstance(value, kinds)
    }


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        as_line(str(name))[:100]: float(value)
        for name, value in list(row.items())[:100]
        if isinstance(value, (int, float))
    }


def _checked(sketch: Mapping[str, Any]) -> dict[str, Any]:
    shape = [int(size) for size in sketch["shape"]]
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError("not the shape of a matrix")
    found: dict[str, Any] = {"shape": shape, "values": _hexadecimal(sketch["values"])}
    found["initial"] = _hexadecimal(sketch["initial"])
    found["change"] = _hexadecimal_of(sketch.get("change", ""), CHANGE)
    for before in ("", "changed_"):
        for name, count in zip(("rows", "columns"), shape):
            units = bytes.fromhex(sketch[before + name])
            if len(units) != min(count, UNITS) * WIDTH:
                raise ValueError("not the sketch of a matrix")
            found[before + name] = sketch[before + name]
    return found


# ---------------------------------------------------------------- two checkpoints


def same_run(one: Record, other: Record) -> bool:
    """Return whether both carry the record of one run: the same times, to a thousandth of a second.

    One may have been trained for longer than the other.
    """
    common = [a == b and a > 0 for a, b in zip(one.times, other.times)]
    return len(common) >= FEW_ROWS and all(common) or _same_single_row(one, other)


def _same_single_row(one: Record, other: Record) -> bool:
    """Return whether histories of a single row are equal in every number."""
    rows = one.history[:1], other.history[:1]
    return rows[0] == rows[1] and bool(rows[0]) and one.times[0] > 0


def same_settings(one: Record, other: Record) -> bool:
    """Return whether both state the same seed and settings, so that equal code gives equal weights.

    Options of the machine alone do not count.
    """
    free = {"device", "compile", "convolutions", "precision", "eval_num", "pred_step"}
    a, b = (
        {name: value for name, value in record.settings.items() if name not in free}
        for record in (one, other)
    )
    return "seed" in a and a == b and one.latent_dim == other.latent_dim


def began_alike(one: Record, other: Record) -> bool:
    """Return whether a matrix of both had the same values before the training, and not after it.

    After little training from one seed, even the changes are alike: all follow the mean image.
    """
    initial = {sketch["initial"] for sketch in one.sketches} - {""}
    values = {sketch["values"] for sketch in one.sketches}
    return any(two["initial"] in initial for two in other.sketches) and not any(
        two["values"] in values for two in other.sketches
    )


def change_in_common(one: Record, other: Record) -> float:
    """Return how alike the changes are of the weights that began alike: a cosine, 0 if none did.

    It is the smallest one of the matrices that hold a tenth of these weights or more: what all
    trainings from one seed learn first, the mean image, is in the last layer.
    """
    found: list[tuple[float, float]] = []
    for sketch in one.sketches:
        cosines = [
            float(_unit(sketch["change"]) @ _unit(two["change"]))
            for two in other.sketches
            if two["initial"] == sketch["initial"] and two["shape"] == sketch["shape"]
            if sketch["initial"] and sketch["change"] and two["change"]
        ]
        if cosines:
            found.append((math.prod(sketch["shape"]), max(cosines)))
    total = sum(size for size, _ in found)
    return min((cosine for size, cosine in found if size >= total / 10), default=0.0)


def least_change(one: Record, other: Record) -> float:
    """Return the `change_in_common` that two models of one seed hardly reach independently."""
    return REORDERED if one.reordered or other.reordered else SAME_CHANGE


def trained_alike(one: Record, other: Record) -> bool:
    """Return whether the losses of the first steps rise and fall alike, or are unknown.

    Their unit does not count: Adam takes the same steps if the loss is twice as large.
    """
    pairs = list(zip(one.first_losses, other.first_losses))
    if len(pairs) < FEW_LOSSES or not all(0 < min(pair) < max(pair) * 1e6 for pair in pairs):
        return True
    ratios = np.array([math.log(a / b) for a, b in pairs])
    return bool(np.median(np.abs(ratios - np.median(ratios))) < SAME_CURVE)


def steps_of(record: Record) -> int:
    """Return the number of steps that a checkpoint states; 0 if it states none."""
    return int(max((row.get("step", 0.0) for row in record.history), default=0.0))


def likeness(one: Record, other: Record) -> float:
    """Return which share of the weights is alike up to names and hidden units, 0 to 1.

    Each matrix counts by its size, and is compared with all of its shape in the other model.
    """
    alike = total = 0.0
    for sketch in one.sketches:
        size = math.prod(sketch["shape"])
        same_shape = [two for two in other.sketches if two["shape"] == sketch["shape"]]
        alike += size * max((_matched(sketch, two) for two in same_shape), default=0.0)
        total += size
    return alike / total if total else 0.0


def _matched(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return which share of the units of a matrix are in another one too.

    Where both began with the same values, as equal seeds make them, only the changes count.
    """
    if one["values"] and one["values"] == other["values"]:
        return 1.0
    began_alike = bool(one["initial"]) and one["initial"] == other["initial"]
    shares = []
    for name in ("changed_rows", "changed_columns") if began_alike else ("rows", "columns"):
        cosines = _points(one[name]) @ _points(other[name]).T
        shares.append(float((cosines.max(axis=1) > SAME_UNIT).mean()))
    return max(shares)


def _unit(numbers: str) -> np.ndarray:
    """Return the sketch of a change as a vector of length 1."""
    vector = np.frombuffer(bytes.fromhex(numbers), np.int8).astype(np.float64)
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _points(units: str) -> np.ndarray:
    """Return the units of a sketch as rows of length 1."""
    points = np.frombuffer(bytes.fromhex(units), np.int8).reshape(-1, WIDTH).astype(np.float64)
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
