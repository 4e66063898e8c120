"""Estimate the time and disk space of a sweep from its first trials."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from data_utils import NUM_CLASSES, MNISTDataset
from inference import InferenceOptions
from sweeps.trial import Trial

CHECKPOINTS_AT_ONCE = 7  # of a running trial: five epochs, the best, and one being written
PICTURE_BYTES = 1_000_000  # per trial


def expected_seconds(epochs: list[int], timed: list[dict[str, Any]], at_once: int) -> float:
    """Return the expected seconds of all trials.

    Args:
        epochs: the number of epochs of each trial.
        timed: records with epoch_seconds, epochs_done and total_seconds. Their mean time outside
            the epochs (loading, scoring) is added for every trial.
        at_once: the number of trials that run at the same time.
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
    """Return the size of the largest checkpoint that any trial has written, in bytes."""
    files = (file for trial in trials for file in trial.folder.glob("*.pth"))
    return max((file.stat().st_size for file in files), default=0)


class Room:
    """Estimates the disk space that trials need.

    Args:
        trial: one of the trials; its options give the size of the arrays.
        checkpoint: the size of a checkpoint in bytes.
    """

    def __init__(self, trial: Trial, checkpoint: int) -> None:
        images = len(MNISTDataset(trial.root / trial.options["valid_data"]))
        self.checkpoint = checkpoint
        self.arrays = images * (28 * 28 + 2 * trial.options["latent_dim"])  # recon and codes
        self.always = NUM_CLASSES * InferenceOptions().gen_num * 28 * 28 + PICTURE_BYTES

    def needed(self, trials: int, at_once: int, keep_weights: bool) -> int:
        """Return the number of bytes that trials need if `at_once` of them run at the same time."""
        kept = self.always + (self.arrays + self.checkpoint if keep_weights else 0)
        running = self.arrays + CHECKPOINTS_AT_ONCE * self.checkpoint
        return trials * kept + min(trials, at_once) * running


def in_words(seconds: float) -> str:
    """Return a duration as text, such as "5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
