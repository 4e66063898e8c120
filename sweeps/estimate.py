"""What a sweep will take, in time and in room on disk, from what its first trials took."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from data_utils import NUM_CLASSES, MNISTDataset
from inference import InferenceOptions
from sweeps.trial import Trial

CHECKPOINTS_AT_ONCE = 7  # of a trial under way: five epochs, the best, and one being written
PICTURE_BYTES = 1_000_000  # what a trial draws


def expected_seconds(epochs: list[int], timed: list[dict[str, Any]], at_once: int) -> float:
    """Return how long trials of so many epochs each will take, so many at once.

    timed: records that hold epoch_seconds, epochs_done and total_seconds. What is beyond
    the epochs in a record, loading and scoring, is expected of every trial.
    """
    if not timed or not epochs:
        return 0.0
    epoch = statistics.fmean(record["epoch_seconds"] for record in timed)
    beyond = statistics.fmean(
        record["total_seconds"] - record["epoch_seconds"] * record["epochs_done"]
        for record in timed
    )
    trials = [each * epoch + max(0.0, beyond) for each in epochs]
    return max(max(trials), sum(trials) / at_once)


def checkpoint_bytes(trials: Iterable[Trial]) -> int:
    """Return the size of the largest checkpoint that any of the trials has written."""
    files = (file for trial in trials for file in trial.folder.glob("*.pth"))
    return max((file.stat().st_size for file in files), default=0)


class Room:
    """How much disk trials need.

    Args:
        trial: one of them, for the size of its arrays.
        checkpoint: bytes of a checkpoint.
    """

    def __init__(self, trial: Trial, checkpoint: int) -> None:
        images = len(MNISTDataset(trial.root / trial.options["valid_data"]))
        self.checkpoint = checkpoint
        self.arrays = images * (28 * 28 + 2 * trial.options["latent_dim"])  # recon and codes
        self.always = NUM_CLASSES * InferenceOptions().gen_num * 28 * 28 + PICTURE_BYTES

    def needed(self, trials: int, at_once: int, keep_weights: bool) -> int:
        """Return the bytes that so many trials need, with so many under way at once."""
        kept = self.always + (self.arrays + self.checkpoint if keep_weights else 0)
        under_way = self.arrays + CHECKPOINTS_AT_ONCE * self.checkpoint
        return trials * kept + min(trials, at_once) * under_way


def in_words(seconds: float) -> str:
    """Return a span of time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
