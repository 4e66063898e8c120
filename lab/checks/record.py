"""Run a submission's methods on small inputs and keep what they return.

Each TODO is run by itself. `forward` gets a recorded `encode` and `decode`, `vae_loss` gets tensors
and no model. So a fault of one TODO does not show in another. Nothing is judged here: `model.py`
and `loss.py` do that, from the recording alone.
"""

from __future__ import annotations

from pathlib import Path

from lab.checks.experiments import unfinished
from lab.checks.record_loss import LossRecorder
from lab.checks.record_model import ModelRecorder
from lab.checks.recording import IMAGE_SHAPES, PUBLIC, Recording, Setting
from lab.loading import ContractError, load_module
from lab.time_limit import TooLongError, time_limit

IMPORT = 6  # times the patience of an experiment: a file may import large packages


def record(path: Path, setting: Setting = PUBLIC) -> Recording:
    """Run the classes and functions of a submission file and return what they gave.

    The file's own exceptions are in the recording and are not raised.
    """
    recording = Recording()
    try:
        with time_limit(IMPORT * setting.seconds):
            module = load_module(path)
    except (ContractError, SystemExit, TooLongError) as error:
        text = str(error) if isinstance(error, ContractError) else "the file ends the program"
        if isinstance(error, TooLongError):
            text = unfinished(error, path, "import", IMPORT * setting.seconds)
        recording.problems["file"] = text
        return recording
    images: tuple[int, ...] = IMAGE_SHAPES[0]
    for name in ("VAE", "GenModel"):
        model = ModelRecorder(module, name, path, setting, recording)
        model.record()
        if name == "VAE":
            images = model.images or images
    LossRecorder(module, path, setting, recording, images).record()
    return recording
