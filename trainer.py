"""The fixed Trainer: drives any model of the contract and knows nothing of any one.

What a run leaves on disk is the business of its callbacks (`run_folder.py`).
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
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
from lab.convolutions import quicken
from lab.device import native_bf16, pick_device
from lab.settings import Settings


class TrainingError(RuntimeError):
    """Training cannot go on; says why, and where the last good state is."""


class Trainer:
    """Trains `submission.model` on a device, and can stop and go on at any step.

    Args:
        submission: a `contract.Submission`; the Trainer uses its model, vae_loss, visible,
            has_encoder, encode, decode and make_optimizers.
        settings: the knobs.
        train_set, valid_set: the datasets.
        callbacks: told of each epoch; see Callback.
        say: prints one line above the progress bar.
        progress: whether to show the bar.
    """

    WARMUP_SHARE = 0.05  # of all steps, with the cosine schedule
    BAD_STEPS_IN_A_ROW = 5  # then back to the last good state
    MAX_ROLLBACKS = 3  # without a good epoch between them

    def __init__(
        self,
        submission: Any,
        settings: Settings,
        train_set: MNISTDataset,
        valid_set: MNISTDataset,
        callbacks: Sequence[Callback] = (),
        say: Callable[[str], None] = tqdm.write,
        progress: bool = True,
    ) -> None:
        self.submission, self.settings = submission, settings
        self.callbacks, self.say, self.progress = callbacks, say, progress
        self.device = pick_device(settings.device)
        self.model: nn.Module = submission.model.to(self.device)
        self.compiled: Callable | None = None  # what a step calls of the model, with --compile
        self.batches = Batches(train_set, settings.batch_size, self.device, settings.seed)
        self.valid_images = torch.from_numpy(valid_set.images[: settings.eval_num]).to(self.device)
        self.valid_labels = torch.from_numpy(valid_set.labels[: settings.eval_num]).to(self.device)

        self.optimizers = self._make_optimizers()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.has_loss = hasattr(self.model, "compute_loss") or submission.vae_loss is not None
        self.has_loss &= not hasattr(self.model, "training_step")

        self.epoch = 0  # complete epochs
        self.batch = 0  # complete steps of the epoch under way
        self.step = 0  # complete steps of the run
        self.finished = False
        self.lr_scale = 1.0  # halved at each rollback
        self.skipped_steps = 0
        self.bad_in_a_row = 0
        self.rollbacks = 0
        self.mean_norm: float | None = None  # running mean of the gradient's norm
        self.sums: dict[str, float] = {}  # of each named part since the last row of history
        self.seconds = 0.0  # of training, validation left out, over all sittings
        self.history: list[dict] = []
        self.best_loss = math.inf
        self.best_epoch = 0

        set_seed(settings.seed)
        self.bf16 = False
        has_step = hasattr(self.model, "training_step")
        if settings.compile == "no" and not has_step:
            quicken(self.model, self._try_step, submission.try_encode, submission.try_decode)
        self.bf16 = self._choose_precision()
        if settings.compile == "yes" and has_step:
            self.say("a model with its own training_step compiles what it wants to by itself")
        elif settings.compile == "yes":
            self.compiled = self._compiled()
        self.last_good = self._snapshot()

    # ------------------------------------------------------------ the loop

    def fit(self, stop: threading.Event | None = None) -> bool:
        """Train to the last epoch; False if `stop`, or a signal (Ctrl-C), stopped it before."""
        listening = stop_requests() if stop is None else nullcontext(stop)
        with listening as stop, self._bar() as bar:
            self._tell("on_start")
            while self.epoch < self.settings.epochs:
                if not self._run_epoch(bar, stop):
                    self._tell("on_interrupt")
                    return False
            if not self.finished:
                self.finished = True
                self._tell("on_finish")
        return True

    def _run_epoch(self, bar: tqdm, stop: threading.Event) -> bool:
        """Run what is left of the epoch under way; False if a stop was asked for."""
        self.model.train()
        started = time.perf_counter()
        for x, labels in self.batches.epoch(self.epoch, skip=self.batch):
            if stop.is_set():
                return False
            parts = self.training_step(x, self.submission.visible(labels))
            self.step += 1
            self.batch += 1
            self._count(parts)
            bar.update(len(x))
            if parts:
                bar.set_postfix({k: f"{v:.4g}" for k, v in parts.items()}, refresh=False)
            if self.bad_in_a_row >= self.BAD_STEPS_IN_A_ROW:
                self._roll_back(f"{self.bad_in_a_row} steps in a row were not finite")
            due = self.settings.pred_step and self.step % self.settings.pred_step == 0
            self.seconds += time.perf_counter() - started
            if due and self.batch < len(self.batches):  # the epoch's end validates anyhow
                self._validate()
            started = time.perf_counter()
        self.epoch, self.batch = self.epoch + 1, 0
        bar.set_description(self._bar_text())
        row = self._validate()
        if not self._is_finite(row):
            self._roll_back("the epoch ended with numbers that are not finite")
        elif self.bad_in_a_row == 0:
            self.last_good = self._snapshot()
            self.rollbacks = 0
            if row.get("valid_loss", -self.epoch) < self.best_loss:
                self.best_loss = row.get("valid_loss", -self.epoch)
                self.best_epoch = self.epoch
        self._tell("on_epoch_end")
        return True

    def training_step(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Take one step on x (B, 1, 28, 28) and labels (B,).

        Returns the named parts of the loss, or nothing when a loss or gradient that is not
        finite made it skip the step.
        """
        self._set_lr()
        if hasattr(self.model, "training_step"):
            with self._autocast():
                parts = self.model.training_step(x, labels, self.optimizers, self.step)
            values = _to_floats(parts)
            return values if all(map(math.isfinite, values.values())) else {}

        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        parts = self.losses(x, labels)
        parts["loss"].backward()
        norm = self._gradient_norm()
        numbers = [_detached(value, like=norm) for value in parts.values()]
        *values, norm_value = torch.stack([*numbers, norm]).tolist()  # one wait for the device
        if not all(map(math.isfinite, [*values, norm_value])):
            self._restore_buffers()
            return {}
        self._clip(norm_value)
        for optimizer in self.optimizers:
            optimizer.step()
        return dict(zip(parts, values))

    def losses(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss and its named parts, the loss computed in fp32."""
        # Validation runs the model as it is: its sizes and modes would each be compiled anew.
        compiled = self.compiled is not None and self.model.training
        if hasattr(self.model, "compute_loss"):
            compute_loss = self.compiled if compiled else self.model.compute_loss
            with self._autocast():
                parts = compute_loss(x, labels, self.settings.var)
            return {**parts, "loss": parts["loss"].float()}
        with self._autocast():
            recon_x, mu, log_var = (self.compiled if compiled else self.model)(x, labels)
        recon_x, mu, log_var = recon_x.float(), mu.float(), log_var.float()
        loss = self.submission.vae_loss(recon_x, x, mu, log_var, var=self.settings.var)
        with torch.no_grad():
            # KL(N(mu, sigma^2) || N(0, 1)), Kingma and Welling 2014, appendix B; nats an image.
            kl = (mu.square() + log_var.exp() - 1 - log_var).sum() / (2 * len(x))
        return {"loss": loss.float(), "kl": kl}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Score the validation images: the training loss, and mse and ssim at the posterior mean.

        The generators of random numbers are left as they were, so validation never changes
        how training goes on. A reconstruction that is not finite scores nan.
        """
        sums: dict[str, float] = {}
        self.model.eval()
        with own_randomness(self.settings.seed), self._full_precision():
            if self.has_loss:
                for images, labels in self._chunks(self.valid_images, self.valid_labels):
                    parts = self.losses(to_float(images), self.submission.visible(labels))
                    for name, value in _to_floats(parts).items():
                        sums[name] = sums.get(name, 0) + value * len(images)
            scores = {
                f"valid_{name}": total / len(self.valid_images) for name, total in sums.items()
            }
            if self.submission.has_encoder:
                scores |= self._reconstruction_scores()
        self.model.train()
        return scores

    def _reconstruction_scores(self) -> dict[str, float]:
        try:
            recon = [
                to_uint8(self.reconstruct(to_float(images), labels))
                for images, labels in self._chunks(self.valid_images, self.valid_labels)
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

    def fit_prior(self) -> None:
        """Let the model, which must offer it, fit its prior to the codes of the training images."""
        codes = [
            self.submission.encode(to_float(images), labels)
            for images, labels in self._chunks(self.batches.images, self.batches.labels)
        ]
        before = _shapes(self.model)
        with own_randomness(self.settings.seed):
            self.model.fit_prior(torch.cat(codes), self.submission.visible(self.batches.labels))
        if _shapes(self.model) != before:
            names = sorted(set(_shapes(self.model).items()) ^ set(before.items()))
            raise TrainingError(
                f"fit_prior changed the shape or number of the model's tensors ({names[0][0]}), so "
                "its checkpoint would not load; make them in __init__ with register_buffer."
            )

    def _chunks(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Cut images and labels into pieces that fit in memory as a training batch does."""
        size = self.batches.batch_size
        return zip(images.split(size), labels.split(size))

    # ------------------------------------------------------------ the pieces of a step

    def lr_at(self, step: int) -> float:
        """Return the factor on the learning rate at a step: warm-up, then half a cosine."""
        if self.settings.lr_schedule == "constant":
            return self.lr_scale
        total = self.settings.epochs * len(self.batches)
        warmup = max(1, round(self.WARMUP_SHARE * total))
        if step < warmup:
            return self.lr_scale * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return self.lr_scale * 0.5 * (1 + math.cos(math.pi * progress))

    def _set_lr(self) -> None:
        factor = self.lr_at(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def _gradient_norm(self) -> Tensor:
        """Return the norm of all gradients; torch's get_total_norm takes twice as long."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        return torch.linalg.vector_norm(torch.stack(norms or [torch.zeros((), device=self.device)]))

    def _clip(self, norm: float) -> None:
        """Clip at a multiple of the running mean of the norm, whatever the loss's own scale.

        A fixed bound would mean one thing for a loss averaged over the batch and
        another for one that is summed, and submissions have both.
        """
        if self.mean_norm is None:
            self.mean_norm = norm
        bound = self.settings.grad_clip * self.mean_norm
        if bound and norm > bound:
            nn.utils.clip_grads_with_norm_(self.parameters, bound, torch.tensor(norm))
            norm = bound
        self.mean_norm += 0.05 * (norm - self.mean_norm)

    def _count(self, parts: dict[str, float]) -> None:
        if not parts:
            self.skipped_steps += 1
            self.bad_in_a_row += 1
            return
        self.bad_in_a_row = 0
        self.sums["steps"] = self.sums.get("steps", 0) + 1
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def _validate(self) -> dict:
        """Add a row to the history and tell of it."""
        sums, self.sums = self.sums, {}
        steps = sums.pop("steps", 0)
        row = {
            "epoch": self.epoch,
            "step": self.step,
            "lr": self.settings.lr * self.lr_at(max(0, self.step - 1)),
            **{f"train_{name}": total / steps for name, total in sums.items()},
            **self.validate(),
            "skipped_steps": self.skipped_steps,
            "seconds": round(self.seconds, 3),
        }
        self.history.append(row)
        for callback in self.callbacks:
            callback.on_validation(self, row)
        return row

    # ------------------------------------------------------------ when numbers go bad

    def _is_finite(self, row: dict) -> bool:
        scores = [value for name, value in row.items() if name.startswith("valid_")]
        weights = all(bool(torch.isfinite(p).all()) for p in self.parameters)
        return weights and all(map(math.isfinite, scores))

    def _restore_buffers(self) -> None:
        """Undo what a batch that was not finite did to BatchNorm's running statistics."""
        for name, buffer in self.model.named_buffers():
            good = self.last_good["model"].get(name)  # None for a buffer that is not kept
            if good is not None and not torch.isfinite(buffer).all():
                buffer.copy_(good)

    def _roll_back(self, why: str) -> None:
        """Go back to the last good state with half the learning rate, or give up."""
        self._restore(self.last_good)
        self.bad_in_a_row = 0
        if self.rollbacks == self.MAX_ROLLBACKS:
            self._tell("on_failure")
            raise TrainingError(
                f"training gave up at step {self.step}: {why}, also after {self.MAX_ROLLBACKS} "
                "returns to the last good state, each with half the learning rate. Look for a log "
                "or a division that can meet zero in your loss, or try a lower --lr."
            )
        self.rollbacks += 1
        self.lr_scale /= 2
        self.say(
            f"step {self.step}: {why}; back to the last good state "
            f"with learning rate {self.settings.lr * self.lr_scale:.3g}"
        )

    def _snapshot(self) -> dict:
        return copy.deepcopy(
            {
                "model": self.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "mean_norm": self.mean_norm,
                "step": self.step,
            }
        )

    def _restore(self, snapshot: dict) -> None:
        # Optimizers keep the tensors that they are given, so a copy goes in.
        snapshot = copy.deepcopy(snapshot)
        self.model.load_state_dict(snapshot["model"])
        for optimizer, state in zip(self.optimizers, snapshot["optimizers"]):
            optimizer.load_state_dict(state)
        self.mean_norm = snapshot["mean_norm"]

    # ------------------------------------------------------------ stopping and going on

    # What is counted rather than learned; all of it goes into a checkpoint as it is.
    COUNTERS = (
        *("epoch", "batch", "step", "finished", "seconds", "sums", "history"),
        *("lr_scale", "skipped_steps", "bad_in_a_row", "rollbacks", "mean_norm"),
        *("best_loss", "best_epoch"),
    )

    def state_dict(self) -> dict:
        """Return all that training needs to go on exactly as if it had not stopped."""
        first, *others = [optimizer.state_dict() for optimizer in self.optimizers]
        return {
            "epoch": self.epoch,
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": first,
            "other_optimizer_state_dicts": others,
            "counters": {name: getattr(self, name) for name in self.COUNTERS},
            "rng_state": rng_state(),
            # None where the state saved is itself the last good one, as at most epochs' ends.
            "last_good": self.last_good if self.last_good["step"] != self.step else None,
            "bf16": self.bf16,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state_dict of a Trainer with the same settings (epochs may differ)."""
        self.model.load_state_dict(state["model_state_dict"])
        states = [state["optimizer_state_dict"], *state["other_optimizer_state_dicts"]]
        for optimizer, optimizer_state in zip(self.optimizers, states):
            optimizer.load_state_dict(optimizer_state)
        for name in self.COUNTERS:
            setattr(self, name, state["counters"][name])
        self.finished &= self.epoch >= self.settings.epochs  # more epochs may be asked for now
        restore_rng_state(state["rng_state"])
        self.bf16 = state["bf16"]
        self.last_good = state["last_good"] or self._snapshot()

    # ------------------------------------------------------------ setting up

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        if hasattr(self.model, "configure_optimizers"):
            return self.submission.make_optimizers(self.settings.lr)
        fused = self.device.type in ("cpu", "cuda")
        return [torch.optim.Adam(self.model.parameters(), lr=self.settings.lr, fused=fused)]

    def _compiled(self) -> Callable:
        """Return what a step calls of the model, compiled; on a GPU as one graph."""
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        return torch.compile(getattr(self.model, "compute_loss", self.model), mode=mode)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @contextmanager
    def _full_precision(self) -> Iterator[None]:
        before, self.bf16 = self.bf16, False
        try:
            yield
        finally:
            self.bf16 = before

    def _choose_precision(self) -> bool:
        """Whether to train in bf16: asked for or native here, and the submission runs in it."""
        wanted = self.settings.precision
        if wanted == "fp32" or (wanted == "auto" and not native_bf16(self.device)):
            return False
        if hasattr(self.model, "training_step"):
            return wanted == "bf16"  # a trial step would train; adversarial losses want fp32
        self.bf16 = True
        try:
            if math.isfinite(self._try_step()):
                return True
            reason = "its loss is not finite there"
        except Exception as error:  # whatever a student's code raises; fp32 is tried next
            reason = (str(error) or type(error).__name__).splitlines()[0]
        self.say(f"this submission does not run in bf16 ({reason}); it trains in fp32")
        return False

    def _try_step(self) -> float:
        """Return the loss of a step on a few images; weights, buffers and randomness stay."""
        before = {name: value.detach().clone() for name, value in self._tensors()}
        try:
            with own_randomness(self.settings.seed):
                x, labels = next(self.batches.epoch(0))
                loss = self.losses(x[:8], self.submission.visible(labels[:8]))["loss"]
                loss.backward()
            return loss.item()
        finally:
            self.model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, value in self._tensors():
                    value.copy_(before[name])

    def _tensors(self) -> list[tuple[str, Tensor]]:
        return [*self.model.named_parameters(), *self.model.named_buffers()]

    def _bar(self) -> tqdm:
        images = len(self.batches.images)
        done = self.epoch * images + self.batch * self.batches.batch_size
        return tqdm(
            total=self.settings.epochs * images,
            initial=min(done, self.settings.epochs * images),
            desc=self._bar_text(),
            unit=" images",
            unit_scale=True,
            disable=not self.progress,
            dynamic_ncols=True,
        )

    def _bar_text(self) -> str:
        return f"epoch {min(self.epoch + 1, self.settings.epochs)}/{self.settings.epochs}"

    def _tell(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def _detached(value: Tensor | float, like: Tensor) -> Tensor:
    """Return a named part, which a student may have made a plain number, as a 0-d tensor."""
    return torch.as_tensor(value, device=like.device).detach().float().reshape(())


def _to_floats(parts: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(torch.as_tensor(value).detach()) for name, value in parts.items()}
