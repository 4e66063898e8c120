"""What the experiments of `record.py` are run with, and what they return.

Only numpy is used here: the grader reads recordings that untrusted code may have forged.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PIXELS = 784
IMAGE_SHAPES = ((PIXELS,), (28, 28), (1, 28, 28))
MAX_VALUES = 1 << 16  # of an array that is kept; of a larger one only the shape
MAX_NAMES = 1000
MAX_DIMENSIONS = 8
MAX_BYTES, MAX_HEAD = 1 << 24, 1 << 18  # of a recording, and of its line of JSON
FAR = 30.0  # multiplies codes, to see the ends of the range of pixels
DRAWS = 12  # calls of forward
LOG_VAR = 1.2  # the recorded log_var is this or its negative
NEAR_END = 0.35  # a decoder that is trained to must come this near to 0 and to 1
VARS = (0.5, 0.25, 1.0, 0.05)
LINE = (0.0, 0.25, 0.5, 0.75, 1.0)  # places between x and a poor reconstruction
KL_DRAWS = 40


@dataclass(frozen=True)
class Setting:
    """The sizes and the patience of a recording.

    The sizes differ from each other, so that mistakes can be told apart.

    Attributes:
        latent_dim: d, the width of the codes.
        other_dim: a second width, to see whether a model follows it.
        batch: B, the number of images.
        seed: of the images, codes and labels.
        seconds: by the clock, after which an experiment is stopped; most take milliseconds.
    """

    latent_dim: int = 20
    other_dim: int = 8
    batch: int = 5
    seed: int = 0
    seconds: float = 10.0


PUBLIC = Setting()


def hidden_setting(rng: np.random.Generator) -> Setting:
    """Return other sizes than the public ones: an even latent_dim, an odd batch."""
    latent_dim, other_dim = rng.choice([6, 10, 12, 14, 16, 24], size=2, replace=False).tolist()
    batch = int(rng.choice([3, 7, 9, 11]))
    return Setting(latent_dim, other_dim, batch, int(rng.integers(1, 2**31)))


@dataclass
class Recording:
    """What a submission's methods returned, by the names of the experiments.

    Attributes:
        arrays: float32. "VAE.encode.mu" is mu of VAE.encode; "VAE.encode.mu shape" is its shape.
        problems: instead of an array, the sentence about what was raised or returned.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the recording as a line of JSON and the values of all arrays."""
        shapes = {name: array.shape for name, array in self.arrays.items()}
        head = json.dumps({"shapes": shapes, "problems": self.problems}).encode()
        values = [array.astype("<f4").tobytes() for array in self.arrays.values()]
        return b"\n".join([head, b"".join(values)])

    @classmethod
    def from_bytes(cls, content: bytes) -> Recording:
        """Read what `to_bytes` returned. Raises ValueError for anything else."""
        if len(content) > MAX_BYTES:
            raise ValueError("the recording is too large")
        head, _, values = content.partition(b"\n")
        try:
            found: Any = json.loads(head if len(head) <= MAX_HEAD else b"")
            shapes, problems = dict(found["shapes"]), dict(found["problems"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError("the recording is not readable") from None
        if len(shapes) > MAX_NAMES or len(problems) > MAX_NAMES:
            raise ValueError("the recording has too many entries")
        if not all(isinstance(text, str) for text in problems.values()):
            raise ValueError("the recording has a problem that is no text")
        arrays: dict[str, np.ndarray] = {}
        place = 0
        for name, shape in shapes.items():
            if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
                raise ValueError("the recording has a shape that is none")
            if not all(_is_size(size) for size in shape):
                raise ValueError("the recording has a shape that is none")
            size = math.prod(shape)
            if size > MAX_VALUES or place + 4 * size > len(values):
                raise ValueError("the recording is too short or an array too large")
            arrays[name] = np.frombuffer(values, "<f4", size, place).reshape(shape)
            place += 4 * size
        return cls(arrays, {str(name): text[:1000] for name, text in problems.items()})


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_VALUES


def loss_inputs(setting: Setting) -> dict[str, Any]:
    """Return what vae_loss is called with.

    Returns:
        x: (B, 1, 28, 28), each pixel 0 or 1.
        recon: (4, B, 1, 28, 28), worse and worse reconstructions, in [0, 1].
        kl: mu and log_var, (KL_DRAWS, B, d) each.
    """
    rng = np.random.default_rng(setting.seed)
    shape = (setting.batch, 1, 28, 28)
    x = (rng.random(shape) < 0.2).astype(np.float32)
    recon = [x + share * (rng.random(shape) - x) for share in (0.2, 0.4, 0.7, 0.9)]
    draws = (KL_DRAWS, setting.batch, setting.latent_dim)
    scale = rng.uniform(0.2, 1.5, (KL_DRAWS, 1, 1))
    mu = scale * rng.standard_normal(draws)
    log_var = rng.uniform(-1.5, 1.0, (KL_DRAWS, 1, 1)) + 0.5 * rng.standard_normal(draws)
    return {
        "x": x,
        "recon": np.stack(recon).astype(np.float32),
        "kl": (mu.astype(np.float32), log_var.astype(np.float32)),
    }
