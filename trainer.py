"""The training loop: batches, steps, validation, epochs, stop.

It trains any model that fits the contract. Callbacks write files and pictures. Recovery, precision
and the learning-rate schedule are in `lab/`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data_utils import (
    Batches,
    MNISTDataset,
    own_randomness,
    restore_rng_state,
    rng_state,
    set_seed,
    to_float,
    to_uint8,
)
from lab import metrics
from lab.callbacks import Callback
from lab.command import stop_requests
from lab.convolutions import use_fast_convolutions
from lab.device import compiled, pick_device
from lab.gradients import clip_gradients, gradient_norm
from lab.precision import Precision
from lab.progress_bar import ProgressBar
from lab.recovery import Recovery, TrainingError, expect_fitting
from lab.schedule import learning_rate_factor
from lab.settings import Settings
from lab.split_model import Submission
from lab.training_state import TrainingState
from lab.trial_step import trial_loss


class Trainer:
    """Trains a submission's model on one device, and can stop and continue at any step.

    Call `prepare` once, then `load_state_dict` to resume a run, then `fit`.

    Args:
        submission: the model and its loss.
        settings: the hyper-parameters.
        train_set, valid_set: the datasets.
        callbacks: called at each event of the run; see `lab/callbacks.py`.
        say: prints one line above the progress bar.
        progress: whether to show the progress bar.
    """

    def __init__(
        self,
        submission: Submission,
        settings: Settings,
        train_set: MNISTDataset,
        valid_set: MNISTDataset,
        callbacks: Sequence[Callback] = (),
        say: Callable[[str], None] = tqdm.write,
        progress: bool = True,
    ) -> None:
        self.submission, self.settings = submission, settings
        self.callbacks, self.say, self.show_progress = callbacks, say, progress
        self.device = pick_device(settings.device)
        self.model = submission.model.to(self.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.batches = Batches(train_set, settings.batch_size, self.device, settings.seed)
        self.valid_images = torch.from_numpy(valid_set.images[: settings.eval_num]).to(self.device)
        self.valid_labels = torch.from_numpy(valid_set.labels[: settings.eval_num]).to(self.device)
        self.precision = Precision(self.device)
        self.state = TrainingState()

    def prepare(self) -> None:
        """Make the optimizers; choose convolutions and precision by trial steps.

        The Trainer runs no student's code before this.
        """
        own_step = self.submission.training_step is not None
        self.optimizers = self._make_optimizers()
        set_seed(self.settings.seed)
        self.run_compiled: Callable[..., Any] | None = None
        fast = self.settings.convolutions == "fast" and self.settings.compile == "no"
        if fast and not own_step:
            trials = self._trial_loss, self.submission.try_encode, self.submission.try_decode
            use_fast_convolutions(self.model, *trials)
        given_up = self.precision.choose(
            self.settings.precision, None if own_step else self._trial_loss
        )
        if given_up:
            self.say(f"this submission does not run in bf16 ({given_up}); it trains in fp32")
        if self.settings.compile == "yes" and own_step:
            self.say(
                "--compile has no effect: a model with its own training_step must compile itself"
            )
        elif self.settings.compile == "yes":
            self.run_compiled = compiled(self.submission.compute_loss or self.model, self.device)
        self.recovery = Recovery(self.model, self.optimizers, self.state)

    @property
    def parameter_count(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters)

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        if self.submission.configure_optimizers is not None:
            optimizers = self.submission.make_optimizers(self.settings.lr)
        else:
            fused = self.device.type in ("cpu", "cuda")
            adam = torch.optim.Adam(self.model.parameters(), lr=self.settings.lr, fused=fused)
            optimizers = [adam]
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        return optimizers

    # ------------------------------------------------------------ the loop

    def fit(self, stop: threading.Event | None = None) -> bool:
        """Train to the last epoch; return False if `stop` or Ctrl-C stopped it."""
        listening = stop_requests() if stop is None else nullcontext(stop)
        with listening as stop, self._progress_bar() as bar:
            self._tell("on_start")
            while self.state.epoch < self.settings.epochs:
                if not self._run_epoch(bar, stop):
                    self._tell("on_interrupt")
                    return False
            if not self.state.finished:
                if self.state.best_epoch == 0:
                    self._tell("on_failure")
                    raise TrainingError(
                        "no epoch ended with finite numbers, so the model is not trained. Look for "
                        "the logarithm of zero or a division by zero in your loss, or try a lower "
                        "--lr."
                    )
                self.state.finished = True
                self._tell("on_finish")
        return True

    def _run_epoch(self, bar: ProgressBar, stop: threading.Event) -> bool:
        """Run the rest of the current epoch; return False if a stop was requested."""
        state = self.state
        self.model.train()
        started = time.perf_counter()
        for x, labels in self.batches.epoch(state.epoch, skip=state.batch):
            if stop.is_set():
                return False
            parts = self.training_step(x, self.submission.visible(labels))
            state.count_step(parts)
            bar.step(len(x), parts)
            if self.recovery.needed:
                self._roll_back(f"{state.bad_in_a_row} steps in a row were not finite")
            due = self.settings.pred_step and state.step % self.settings.pred_step == 0
            state.seconds += time.perf_counter() - started
            if due and state.batch < len(self.batches):  # the end of the epoch validates anyway
                self._add_row()
            started = time.perf_counter()
        state.epoch, state.batch = state.epoch + 1, 0
        bar.epoch_end(state.epoch)
        row = self._add_row()
        if not self.recovery.is_finite(row):
            self._roll_back("the epoch ended with numbers that are not finite")
        elif state.new_steps and (state.bad_in_a_row == 0 or state.epoch == self.settings.epochs):
            self.recovery.keep()
            state.note_best(row)
        self._tell("on_epoch_end")
        return True

    def _roll_back(self, why: str) -> None:
        try:
            self.recovery.roll_back(why)
        except TrainingError:
            self._tell("on_failure")
            raise
        rate = self.settings.lr * self.state.lr_scale
        self.say(
            f"step {self.state.step}: {why}; back to the last good state "
            f"with learning rate {rate:.3g}"
        )

    def _progress_bar(self) -> ProgressBar:
        done = self.state.batch * self.batches.batch_size
        counts = self.settings.epochs, len(self.batches.images), self.state.epoch, done
        return ProgressBar(*counts, shown=self.show_progress)

    def _tell(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)

    # ------------------------------------------------------------ a step

    def training_step(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Take one step on x (B, 1, 28, 28) and labels (B,).

        Returns the named parts of the loss; an empty dict if the step was skipped because a
        loss or gradient is not finite.
        """
        self._set_learning_rate()
        if self.submission.training_step is not None:
            with self.precision.autocast():
                parts = self.submission.training_step(x, labels, self.optimizers, self.state.step)
            named = _to_floats(parts)
            return named if all(map(math.isfinite, named.values())) else {}

        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        parts = self.losses(x, labels)
        parts["loss"].backward()
        norm = gradient_norm(self.parameters, self.device)
        numbers = [_detached(value, like=norm) for value in parts.values()]
        *values, norm_value = torch.stack([*numbers, norm]).tolist()  # waits for the device once
        if not all(map(math.isfinite, [*values, norm_value])):
            self.recovery.restore_buffers()
            return {}
        self.state.mean_norm = clip_gradients(
            self.parameters, norm_value, self.state.mean_norm, self.settings.grad_clip
        )
        for optimizer in self.optimizers:
            optimizer.step()
        return dict(zip(parts, values))

    def losses(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss of a batch, in fp32, and its named parts."""
        compute_loss = self.submission.compute_loss
        run: Callable[..., Any] = self.model if compute_loss is None else compute_loss
        # Validation runs the model uncompiled: its batch sizes and modes would compile again.
        if self.run_compiled is not None and self.model.training:
            run = self.run_compiled
        if compute_loss is not None:
            with self.precision.autocast():
                parts = run(x, labels, self.settings.var)
            return {**parts, "loss": parts["loss"].float()}
        assert self.submission.vae_loss is not None
        with self.precision.autocast():
            recon_x, mu, log_var = run(x, labels)
        recon_x, mu, log_var = recon_x.float(), mu.float(), log_var.float()
        loss = self.submission.vae_loss(recon_x, x, mu, log_var, var=self.settings.var)
        with torch.no_grad():
            # KL(N(mu, sigma^2) || N(0, 1)), Kingma and Welling 2014, appendix B; nats per image.
            kl_divergence = (mu.square() + log_var.exp() - 1 - log_var).sum() / (2 * len(x))
        return {"loss": loss.float(), "kl_divergence": kl_divergence}

    def _set_learning_rate(self) -> None:
        factor = self._learning_rate_factor(self.state.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def _learning_rate_factor(self, step: int) -> float:
        total = self.settings.epochs * len(self.batches)
        return self.state.lr_scale * learning_rate_factor(step, total, self.settings.lr_schedule)

    def _trial_loss(self) -> float:
        """Return the loss of a trial step on a few images, which changes nothing."""
        return trial_loss(self.model, self._loss_of_a_few_images, self.settings.seed)

    def _loss_of_a_few_images(self) -> Tensor:
        x, labels = next(self.batches.epoch(0))
        return self.losses(x[:8], self.submission.visible(labels[:8]))["loss"]

    # ------------------------------------------------------------ validation

    def _add_row(self) -> dict[str, Any]:
        """Validate, add a row to the history and tell the callbacks."""
        state = self.state
        row = {
            "epoch": state.epoch,
            "step": state.step,
            "lr": self.settings.lr * self._learning_rate_factor(max(0, state.step - 1)),
            **self._columns("train", state.take_means()),
            **self.validate(),
            "skipped_steps": state.skipped_steps,
            "seconds": round(state.seconds, 3),
        }
        state.history.append(row)
        for callback in self.callbacks:
            callback.on_validation(self, row)
        return row

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the loss, and mse and ssim at the posterior mean, of the validation images.

        The generators of random numbers are left unchanged, so validation never changes how
        training continues. A reconstruction that is not finite scores nan.
        """
        sums: dict[str, float] = {}
        self.model.eval()
        with own_randomness(self.settings.seed), self.precision.full():
            if self.submission.has_loss:
                for images, labels in self._valid_batches():
                    parts = self.losses(to_float(images), self.submission.visible(labels))
                    for name, value in _to_floats(parts).items():
                        sums[name] = sums.get(name, 0) + value * len(images)
            count = len(self.valid_images)
            scores = self._columns("valid", {name: total / count for name, total in sums.items()})
            if self.submission.has_encoder:
                scores |= self._reconstruction_scores()
        self.model.train()
        return scores

    def _columns(self, prefix: str, means: dict[str, float]) -> dict[str, float]:
        """Return the columns of history for the means of the named parts.

        Where the model's loss is vae_loss, reconstruction_loss is the rest of it: loss - KL.
        """
        if self.submission.uses_vae_loss and {"loss", "kl_divergence"} <= means.keys():
            means = {**means, "reconstruction_loss": means["loss"] - means["kl_divergence"]}
        return {f"{prefix}_{name}": mean for name, mean in means.items()}

    def _reconstruction_scores(self) -> dict[str, float]:
        try:
            recon = [
                to_uint8(self.reconstruct(to_float(images), labels))
                for images, labels in self._valid_batches()
            ]
        except ArithmeticError:
            return {"valid_mse": math.nan, "valid_ssim": math.nan}
        pair = np.concatenate(recon), self.valid_images.cpu().numpy()
        return {
            "valid_mse": float(metrics.mse_per_image(*pair).mean()),
            "valid_ssim": float(metrics.ssim_per_image(*pair).mean()),
        }

    def reconstruct(self, x: Tensor, labels: Tensor) -> Tensor:
        """Encode at the posterior mean and decode: (B, 1, 28, 28) to (B, 28, 28)."""
        return self.submission.decode(self.submission.encode(x, labels), labels)

    def _valid_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield validation images and labels in pieces that fit in memory."""
        size = self.batches.batch_size
        return zip(self.valid_images.split(size), self.valid_labels.split(size))

    # ------------------------------------------------------------ stop and continue

    def state_dict(self) -> dict[str, Any]:
        """Return all that training needs to continue exactly as if it had not stopped."""
        first, *others = [optimizer.state_dict() for optimizer in self.optimizers]
        return {
            "epoch": self.state.epoch,
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": first,
            "other_optimizer_state_dicts": others,
            "counters": asdict(self.state),
            "rng_state": rng_state(),
            "last_good": self.recovery.state_dict(),
            "bf16": self.precision.bf16,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state_dict of a Trainer with the same settings (epochs may differ).

        Raises ValueError if its weights are not finite, and what torch raises if it does not fit.
        """
        self.model.load_state_dict(state["model_state_dict"])
        if not self.recovery.is_finite({}):
            raise ValueError("its weights are not finite")
        states = [state["optimizer_state_dict"], *state["other_optimizer_state_dicts"]]
        for optimizer, optimizer_state in zip(self.optimizers, states):
            expect_fitting(optimizer, optimizer_state)
            optimizer.load_state_dict(optimizer_state)
        self.state = self.recovery.state = TrainingState(**state["counters"])
        self.state.finished &= (
            self.state.epoch >= self.settings.epochs
        )  # the new run may have more epochs
        restore_rng_state(state["rng_state"])
        self.precision.bf16 = bool(state["bf16"])
        self.recovery.load_state_dict(state["last_good"])


def _detached(value: Tensor | float, like: Tensor) -> Tensor:
    """Return a named part, a tensor or a plain number, as a 0-d tensor."""
    return torch.as_tensor(value, device=like.device).detach().float().reshape(())


def _to_floats(parts: dict[str, Any]) -> dict[str, float]:
    return {name: float(torch.as_tensor(value).detach()) for name, value in parts.items()}
