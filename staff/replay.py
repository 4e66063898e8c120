"""Replay: does a checkpoint come from the code that was handed in with it?

The sandbox repeats the first steps of the training with that code, from the seed and settings that
the checkpoint states, and returns their losses. They are compared with the losses that the
checkpoint states. A second number, the error of the checkpoint's weights on the validation images,
is compared with the checkpoint's history, so that the weights belong to the history too.

On the processor and with the torch that trained it, with one thread, the losses are equal to the
last bit. Elsewhere they differ by rounding, and with a GPU by the noise that it draws;
`benchmarks/integrity.py` measures by how much.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from staff import sandbox
from staff.integrity.weights import Record
from staff.statuses import GRADER_ERROR
from staff.walls import Limits

ACCEPTED, REJECTED, UNKNOWN = "comes from this code", "does not come from this code", "not replayed"
DOES_NOT_FIT = "The names or shapes of its layers are not those of the code."
STEPS = 20  # at most
LEAST_STEPS = 5
FIRST = 5  # steps whose losses hardly depend on the noise that is drawn
# Relative differences of losses, measured by benchmarks/integrity.py. Of the first steps, at the
# largest: other noise, as a GPU draws it, 0.005; bf16 0.0003; another slope of a LeakyReLU 0.016,
# another activation 0.03. Half the KL differs by 0.004 only: on the machine that trained it, the
# last bit tells; elsewhere such an edit passes. Of all steps, in the median: other noise 0.012.
FIRST_TOLERANCE = 0.008
MEDIAN_TOLERANCE = 0.03
MSE_TOLERANCE = 0.05  # of the error of the weights on the validation images


@dataclass(frozen=True)
class Verdict:
    """What a replay showed.

    Attributes:
        kind: ACCEPTED, REJECTED, or UNKNOWN, which says nothing about the student.
        why: one sentence for staff.
        difference: the largest relative difference of a loss; None if there is none.
        exact: whether all losses are equal to the last bit.
    """

    kind: str
    why: str
    difference: float | None = None
    exact: bool = False


def replay(
    code: Path,
    checkpoint: Path,
    record: Record,
    splits: dict[str, Path],
    limits: Limits,
    isolation: str = sandbox.BUBBLEWRAP,
) -> Verdict:
    """Repeat the first steps of a training and compare.

    Args:
        code, checkpoint: the files that were handed in.
        record: what the checkpoint states.
        splits: the folders of the splits "train" and "valid".
        limits: what the stage may use.
        isolation: see `sandbox.run_stage`.

    Raises SandboxError.
    """
    if "seed" not in record.settings:
        return Verdict(UNKNOWN, "the checkpoint states no seed: an older version trained it.")
    if len(record.first_losses) < LEAST_STEPS:
        return Verdict(
            UNKNOWN, "the checkpoint does not state the losses of its first steps: it is older."
        )
    inputs = {"submission.py": code, "checkpoint.pth": checkpoint}
    for name, folder in splits.items():
        inputs |= {f"{name}/{file.name}": file for file in sorted(folder.glob("*ubyte*"))}
    steps = min(STEPS, len(record.first_losses))
    outcome = sandbox.run_stage("replay", inputs, limits, isolation, steps=steps)
    if outcome.status == GRADER_ERROR:
        return Verdict(UNKNOWN, f"the replay itself failed: {outcome.message}")
    if outcome.facts.get("train_sha256") is False:
        return Verdict(UNKNOWN, "it was trained on other images than the lab's training split.")
    if outcome.status != "done":
        return Verdict(UNKNOWN, f"{outcome.status}: {outcome.message}")
    try:
        answer = json.loads(outcome.array)
        losses = [float(loss) for loss in answer["losses"]]
        mse = None if answer["valid_mse"] is None else float(answer["valid_mse"])
        fits = answer["fits"] is True
    except (ValueError, KeyError, TypeError):
        return Verdict(UNKNOWN, "the code forged the answer of its replay; look at it.")
    verdict = compare(record, losses, mse)
    return verdict if fits else replace(verdict, why=f"{verdict.why} {DOES_NOT_FIT}")


def compare(record: Record, losses: Sequence[float], mse: float | None) -> Verdict:
    """Return the verdict on what a replay returned: losses, and the error of the weights."""
    stated = record.first_losses[: len(losses)]
    if len(stated) < LEAST_STEPS:
        return Verdict(UNKNOWN, f"only {len(stated)} steps could be repeated.")
    differences = [relative(a, b) for a, b in zip(losses, stated)]
    largest, exact = max(differences), list(losses) == list(stated)
    for step, difference in enumerate(differences[:FIRST]):
        if difference > FIRST_TOLERANCE:
            why = (
                f"with this code the loss of step {step + 1} is {losses[step]:.6g}; the checkpoint "
                f"states {stated[step]:.6g}."
            )
            return Verdict(REJECTED, why, largest)
    if median(differences) > MEDIAN_TOLERANCE:
        percent = 100 * median(differences)
        why = f"with this code half of the losses differ by more than {percent:.2g} %."
        return Verdict(REJECTED, why, largest)
    errors = [row["valid_mse"] for row in record.history if "valid_mse" in row]
    # Any row, because best.pth may be of another epoch than the last.
    if mse is not None and errors and all(relative(mse, one) > MSE_TOLERANCE for one in errors):
        why = (
            f"the losses are those of this code, but the weights have a validation mse of {mse:.5f}"
            f", and the history ends with {errors[-1]:.5f}."
        )
        return Verdict(REJECTED, why, largest)
    same = "equal to the last bit" if exact else f"equal within {100 * largest:.2g} %"
    return Verdict(ACCEPTED, f"the losses of {len(losses)} steps are {same}.", largest, exact)


def relative(a: float, b: float) -> float:
    """Return the difference of two numbers relative to the larger one; infinite for nan."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b), 1e-12)


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for JSON and for pages."""
    return {"kind": verdict.kind, "why": verdict.why, "exact": verdict.exact}
