"""The files of a run: checkpoints, history, pictures, the log.

epoch_{n}.pth   checkpoints of the newest five epochs; best.pth has the lowest validation loss
submission.py   a copy of the trained code, so that the checkpoints can be used later
hyperparams.json, history.csv, loss_curve.png, train.log
progress/       one frame per epoch; with --video, training.gif and training.mp4 show them
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data_utils import MNISTDataset, to_float, to_uint8
from lab import checkpoint, plots
from lab.callbacks import Callback, Training
from lab.checkpoint import temporary_folder, write_whole
from lab.command import as_typed
from lab.loading import ContractError
from lab.prior import PriorError, fit_prior
from lab.recovery import TrainingError
from lab.settings import SettingsError

FRAME_COLUMNS = 10  # one per label
FRAME_SAMPLE_ROWS = 4
PRIOR_FAILED = "prior_failed"  # in the last checkpoint: all is done but fit_prior, which failed
RUN_FILES = (
    "*.pth",
    "hyperparams.json",
    "history.csv",
    "loss_curve.png",
    "train.log",
    "training.*",
    "*.html",
)


class RunFolder(Callback):
    """Writes the files of a run while it trains.

    Args:
        path: the folder; created if it does not exist.
        facts: what a checkpoint must hold to rebuild its run (task, submission, settings, ...).
        valid_set: its first image of each label is in every frame.
        save_loss_plot, video: whether to write loss_curve.png and training.gif at the end.
    """

    def __init__(
        self,
        path: Path,
        facts: dict[str, Any],
        valid_set: MNISTDataset,
        save_loss_plot: bool = True,
        video: bool = False,
    ) -> None:
        self.path, self.facts = path, facts
        self.save_loss_plot, self.video = save_loss_plot, video
        labels = torch.from_numpy(valid_set.labels)
        firsts = [(labels == label).nonzero().flatten()[:1] for label in range(FRAME_COLUMNS)]
        chosen = torch.cat(firsts)  # indices of one image per label
        self.frame_images = valid_set.images[chosen.numpy()]  # (10, 28, 28)
        self.frame_labels = labels[chosen]  # (10,)

    # ------------------------------------------------------------ before training

    def claim(self, resuming: bool, overwrite: bool) -> None:
        """Create the folder. Raises SettingsError if it has another run or submission."""
        self.path.mkdir(parents=True, exist_ok=True)
        if any(self.path.glob("*.pth")) and not (resuming or overwrite):
            raise SettingsError(
                f"{self.path} holds a run already; continue it (--load_from_checkpoint), "
                "replace it (--overwrite), or choose another folder (--save_dir)."
            )
        is_run = (self.path / "hyperparams.json").exists()
        if (self.path / "submission.py").exists() and not is_run:
            raise SettingsError(
                f"{self.path} holds a submission.py but no run. A run would replace this file with "
                "its copy of the trained code; give the run its own folder (--save_dir)."
            )

    def clear(self) -> None:
        """Remove the files of an earlier run, and nothing else."""
        for pattern in RUN_FILES:
            for file in self.path.glob(pattern):
                file.unlink()
        for folder in ("progress", "inference", "tensorboard"):
            shutil.rmtree(self.path / folder, ignore_errors=True)

    def start(self, code: bytes, parameters: int) -> None:
        """Write what is known before the first step: the code, and the settings as JSON."""
        hyperparams = {**self.facts, **self.facts["settings"], "trainable_parameters": parameters}
        del hyperparams["settings"]
        hyperparams["learning_rate"] = hyperparams.pop("lr")  # the older layout's name
        self.code, self.hyperparams = code, json.dumps(hyperparams, indent=2).encode()
        self._write_start()

    def _write_start(self) -> None:
        # In this order: a submission.py alone would look like a student's own work (see claim).
        with write_whole(self.path / "hyperparams.json") as file:
            file.write(self.hyperparams)
        with write_whole(self.path / "submission.py") as file:
            file.write(self.code)

    def adopt(self, state: dict[str, Any]) -> None:
        """Store the checkpoint of another run, which this run continues, as the best so far."""
        path = checkpoint.epoch_path(self.path, state["epoch"])
        checkpoint.save(path, state)
        checkpoint.mark_best(self.path, path)

    def say(self, text: str) -> None:
        """Print a line above the progress bar and keep it in train.log."""
        tqdm.write(text)
        self.note(text)

    def note(self, text: str) -> None:
        """Keep a line in train.log."""
        with open(self.path / "train.log", "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(text + "\n")

    # ------------------------------------------------------------ during training

    def on_start(self, trainer: Training) -> None:
        """Repair best.pth after a kill between saving an epoch and marking it."""
        path = checkpoint.epoch_path(self.path, trainer.state.best_epoch)
        if path.is_file():
            checkpoint.mark_best(self.path, path)

    def on_validation(self, trainer: Training, row: dict[str, Any]) -> None:
        """Write history.csv again as a whole, so that it is complete at any time."""
        columns = list(dict.fromkeys(key for row in trainer.state.history for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(trainer.state.history)
        with write_whole(self.path / "history.csv") as file:
            file.write(text.getvalue().encode())

    def on_epoch_end(self, trainer: Training) -> None:
        """Draw the frame of this epoch, then save its checkpoint.

        In this order: after a failure between them, the resumed run repeats the epoch.
        """
        path = checkpoint.epoch_path(self.path, trainer.state.epoch)
        self._write_frame(
            trainer, f"epoch_{trainer.state.epoch:04d}", f"epoch {trainer.state.epoch}"
        )
        self._save(trainer, path)
        if trainer.state.best_epoch == trainer.state.epoch:
            checkpoint.mark_best(self.path, path)
        checkpoint.prune(self.path)

    def on_interrupt(self, trainer: Training) -> None:
        """Save the step at which training stopped."""
        self._save(trainer, self.path / checkpoint.INTERRUPTED)
        self._write_pictures(trainer)

    def on_failure(self, trainer: Training) -> None:
        """Save the last good state."""
        path = checkpoint.epoch_path(self.path, trainer.state.epoch)
        self._save(trainer, path)
        self.say(f"the last good state is in {path}")
        self._write_pictures(trainer)

    def on_finish(self, trainer: Training) -> None:
        """Fit the prior where a model has one, and draw the pictures of the run.

        The last checkpoint, which says that all of this is done, is saved last.
        """
        if trainer.submission.fit_prior is None:
            self._write_pictures(trainer)
            return
        with self._clear_failure(trainer):
            self._fit_priors(trainer)
            self._write_frame(trainer, "prior", f"epoch {trainer.state.epoch}, prior fitted")
        self._write_pictures(trainer)
        last = checkpoint.epoch_path(self.path, trainer.state.epoch)
        self._save(trainer, last)
        if trainer.state.best_epoch == trainer.state.epoch:
            checkpoint.mark_best(self.path, last)

    def _fit_priors(self, trainer: Training) -> None:
        """Fit the prior for the best weights, in best.pth, and for the last ones, in the model."""
        best = self.path / checkpoint.BEST
        if trainer.state.best_epoch != trainer.state.epoch and best.is_file():
            state = checkpoint.load(best)
            last_weights = {k: v.clone() for k, v in trainer.model.state_dict().items()}
            trainer.model.load_state_dict(state["model_state_dict"])
            self._fit_prior(trainer)
            state["submission_sha256"] = self.facts["submission_sha256"]  # fit_prior may be new
            checkpoint.save(best, {**state, "model_state_dict": trainer.model.state_dict()})
            trainer.model.load_state_dict(last_weights)
        self._fit_prior(trainer)

    def _fit_prior(self, trainer: Training) -> None:
        fit_prior(trainer.submission, trainer.batches, trainer.settings.seed)

    @contextmanager
    def _clear_failure(self, trainer: Training) -> Iterator[None]:
        """Say that only the prior failed, what is kept, and how to go on. Raises TrainingError."""
        kept = f"the weights of all epochs are kept in {self.path}"
        try:
            yield
        except PriorError as error:
            raise TrainingError(f"{error} Training is complete; {kept}.") from error
        except ContractError as error:
            last = checkpoint.epoch_path(self.path, trainer.state.epoch)
            checkpoint.save(last, {**checkpoint.load(last), PRIOR_FAILED: True})
            given = ("--submission", self.facts["submission"])
            again = ("--load_from_checkpoint", "--save_dir", self.path, *given)
            raise TrainingError(
                f"{str(error).rstrip('.')}; training is complete and {kept}. "
                "Correct fit_prior, and what forward and decode do with it, then: "
                f"{as_typed('train.py', *again)}"
            ) from error

    def _save(self, trainer: Training, path: Path) -> None:
        checkpoint.save(path, {**trainer.state_dict(), **self.facts})
        if not (self.path / "hyperparams.json").exists():  # the folder was removed meanwhile
            self._write_start()

    # ------------------------------------------------------------ pictures

    def _write_frame(self, trainer: Training, name: str, title: str) -> None:
        """Draw the same images, and samples of the same z, each time."""
        labels = self.frame_labels.to(trainer.device)
        recon = np.empty((0, 28, 28), np.uint8)
        if trainer.submission.has_encoder:
            x = to_float(torch.from_numpy(self.frame_images).to(trainer.device))
            recon = to_uint8(trainer.reconstruct(x, labels))  # (10, 28, 28)
        wanted = torch.arange(FRAME_COLUMNS).repeat(FRAME_SAMPLE_ROWS)
        made = trainer.submission.generate(wanted, seed=trainer.settings.seed)
        samples = to_uint8(made).reshape(FRAME_SAMPLE_ROWS, FRAME_COLUMNS, 28, 28)
        with write_whole(self.path / "progress" / f"{name}.png") as file:
            plots.frame(file, self.frame_images, recon, samples, title)

    def _write_pictures(self, trainer: Training) -> None:
        if self.save_loss_plot and trainer.state.history:
            with write_whole(self.path / "loss_curve.png") as file:
                plots.loss_curve(file, trainer.state.history)
        if self.video:
            self._write_video()

    def _write_video(self) -> None:
        # "epoch_0001" sorts before "prior", the last frame of a model that fits one.
        frames = sorted(str(path) for path in (self.path / "progress").glob("*.png"))
        if not frames:
            return
        with write_whole(self.path / "training.gif") as file:
            plots.gif(file, frames)
        self.say(f"video: {self.path / 'training.gif'}")
        # ffmpeg needs a path, not a file object. After a kill, the next run removes this folder.
        with temporary_folder(self.path / "training.mp4") as folder:
            video = folder / "training.mp4"
            if plots.mp4(str(video), frames):
                video.replace(self.path / "training.mp4")
                self.say(f"video: {self.path / 'training.mp4'}")
