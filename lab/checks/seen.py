"""What was seen of a class, and what the judges of its TODOs share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lab.checks.found import Problem, raised, untested
from lab.checks.recording import Recording, Setting

Checked = dict[str, "Problem | None"]
ROUNDING = 1e-3  # two results that should be equal may differ by this
NO_GRADIENT, CONSTANT_MU, CONSTANT_IMAGES = "no gradient", "constant mu", "constant images"
LAYERS = {"VAE": "2.2.1", "GenModel": "3.1"}  # the TODO that comes before all others of a class


class Seen:
    """The recording of one class.

    Args:
        name: "VAE" or "GenModel".
        recording: what the class returned.
        setting: the sizes of the recording.
    """

    def __init__(self, name: str, recording: Recording, setting: Setting) -> None:
        self.name, self.recording, self.setting = name, recording, setting
        self.todo = LAYERS[name]

    def attempt(self, check: Callable[[], Problem | None]) -> Problem | None:
        """Run a check. A result that it cannot read, such as an empty one, is a problem."""
        try:
            return check()
        except Exception:
            return Problem(
                "unusable",
                "what it returned cannot be judged: empty, or of an unexpected shape",
                "print the shapes of what encode, decode and forward return",
            )

    def array(self, name: str) -> np.ndarray | None:
        """Return what an experiment kept; None if nothing."""
        return self.recording.arrays.get(f"{self.name}.{name}")

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of what an experiment returned; None if nothing."""
        found = self.array(f"{name} shape")
        return None if found is None else tuple(int(size) for size in found)

    def missing(self, name: str) -> Problem:
        """Return the problem of an experiment that has no result."""
        built = self.array("built") is not None
        for place in (name, name.split(".")[0]):
            text = self.recording.problems.get(f"{self.name}.{place}")
            # Without layers, forward may miss what __init__ has not made.
            if text is not None and (built or "has no attribute" not in text):
                return raised(text)
        return untested(f"TODO {self.todo}")

    def moved(self, method: str, what: str) -> Problem | None:
        """Return the problem of a method that changes its input; None if it does not."""
        moved = self.array(f"{method}.moved")
        if moved is None:
            return self.missing(f"{method}.moved")
        if moved > 0:
            return Problem(
                f"{method} in place",
                f"{method} changes {what} in place",
                f"write {what} = ... instead of {what}[...] = ..., {what} -= ... or a method_()",
            )
        return None

    def differs(self, method: str) -> bool:
        """Return whether two calls with the same inputs and other random numbers differ."""
        again = self.array(f"{method}.again")
        first = self.codes() if method == "encode" else self.array("decode.images")
        return again is not None and first is not None and not near(again, first)

    def codes(self) -> np.ndarray | None:
        """Return mu and log_var side by side; None if there are none, or of different rank."""
        mu, log_var = self.array("encode.mu"), self.array("encode.log_var")
        if mu is None or log_var is None or mu.ndim != log_var.ndim:
            return None
        return np.concatenate([mu, log_var], axis=-1) if mu.ndim else mu

    def encode_ignores_the_label(self) -> bool:
        """Return whether other labels give the same codes."""
        codes, changed = self.codes(), self.array("encode.labels")
        return codes is not None and changed is not None and near(changed, codes)

    def makes_layers(self) -> bool:
        """Return whether calls make layers, which layers_are_used counts."""
        made = self.array("layers.made")
        return made is not None and bool(made)

    def is_constant(self, name: str) -> bool:
        """Return whether all rows of a result are the same."""
        found = self.array(name)
        return found is not None and len(found) > 0 and np.abs(found - found[:1]).max() < 1e-6


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two results are equal, up to rounding."""
    return a.shape == b.shape and np.allclose(a, b, rtol=ROUNDING, atol=1e-4)


def about(a: float, b: float, error: float) -> bool:
    """Return whether a is b, up to a relative error."""
    return abs(a - b) < error * b
