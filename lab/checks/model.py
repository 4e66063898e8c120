"""Judge what a class returned, `VAE` or `GenModel`, from its recording alone."""

from __future__ import annotations

import numpy as np

from lab.checks.decode import DecodeJudge
from lab.checks.encode import EncodeJudge
from lab.checks.forward import ForwardJudge
from lab.checks.layers import LayersJudge
from lab.checks.recording import Recording, Setting
from lab.checks.seen import Checked, near

JUDGES: tuple[type[LayersJudge | EncodeJudge | DecodeJudge | ForwardJudge], ...]
JUDGES = LayersJudge, EncodeJudge, DecodeJudge, ForwardJudge
NUMBERS = {  # of the TODOs of each class, in the order of the judges
    "VAE": ("2.2.1", "2.2.2", "2.2.3", "2.2.4"),
    "GenModel": ("3.1", "3.2", "3.3", "3.4"),
}


def judge_class(name: str, recording: Recording, setting: Setting) -> dict[str, Checked]:
    """Return what is wrong with a class by TODO and check; None where nothing is."""
    return {
        todo: judge(name, recording, setting).judge() for todo, judge in zip(NUMBERS[name], JUDGES)
    }


def notes(recording: Recording) -> list[str]:
    """Return what is allowed in a submission but may surprise its author."""
    arrays = recording.arrays
    names = ("mu", "log_var", "labels")
    found = [arrays.get(f"GenModel.encode.{name}") for name in names]
    mu, log_var, changed = found
    if mu is None or log_var is None or changed is None or mu.ndim != log_var.ndim:
        return []
    if near(changed, np.concatenate([mu, log_var], axis=-1)):
        return ["encode of GenModel does not use the label; that is allowed"]
    return []
