"""`train.py --tensorboard`: the history of a run for `tensorboard --logdir runs`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lab.callbacks import Callback, Training
from lab.settings import SettingsError


class TensorBoard(Callback):
    """Writes each row of the history as scalars into the folder `tensorboard` of a run.

    Names have a slash in place of the first underscore, so that TensorBoard puts train/loss and
    valid/loss into groups. Raises SettingsError if the package is not installed.
    """

    def __init__(self, run: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise SettingsError(
                "--tensorboard needs the package tensorboard; "
                "run `pip install -r requirements/tensorboard.txt`."
            ) from None
        self._make_writer = SummaryWriter
        self.folder = run / "tensorboard"

    def on_validation(self, trainer: Training, row: dict[str, Any]) -> None:
        """Add the numbers of a row; a file is opened and closed each time, so none is lost."""
        with self._make_writer(self.folder) as writer:
            for name, value in row.items():
                if isinstance(value, (int, float)) and math.isfinite(value) and name != "step":
                    writer.add_scalar(name.replace("_", "/", 1), value, row["step"])
