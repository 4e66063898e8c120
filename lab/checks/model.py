"""Judge what a class returned, `VAE` or `GenModel`, from its recording alone."""

from __future__ import annotations

from lab.checks.decode import DecodeJudge
from lab.checks.encode import EncodeJudge
from lab.checks.forward import ForwardJudge
from lab.checks.layers import LayersJudge
from lab.checks.recording import Recording, Setting
from lab.checks.seen import Checked, Seen

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


def notes(recording: Recording, setting: Setting) -> list[str]:
    """Return what is allowed in a submission but may surprise its author."""
    if Seen("GenModel", recording, setting).encode_ignores_the_label():
        return ["encode of GenModel does not use the label; that is allowed"]
    return []
