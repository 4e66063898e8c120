"""The Trainer against the shortest loop that trains the same model, and against the machine.

Both take a step on each batch, so that both meet the same moments of a machine that others use too.
Validation, checkpoints and pictures are outside both sides. speed.py starts this in a process of
its own: python -m benchmarks.bare_loop model.py --epochs 11
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.commands import ROOT
from benchmarks.usual import say
from data_utils import Batches, MNISTDataset, set_seed
from lab.callbacks import Callback
from lab.convolutions import use_fast_convolutions
from lab.device import keep_freed_memory
from lab.settings import Settings
from lab.submission import Submission
from trainer import Trainer

MATRIX = 2048  # rows and columns of the products that show the machine's peak
PRODUCTS = 5  # in a row, so that a GPU has something to do


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def bare_step(path: Path, trainer: Trainer) -> Callable[[Tensor, Tensor], None]:
    """Return the shortest step that trains the model, on x (B, 1, 28, 28) and labels (B,)."""
    settings, device, bf16 = trainer.settings, trainer.device, trainer.precision.bf16
    set_seed(settings.seed)
    submission = Submission(path, "VAEwolabel", 20)
    model, vae_loss = submission.model.to(device).train(), submission.vae_loss
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
    # As in the Trainer: what is compared is the loop.
    use_fast_convolutions(model, submission.try_encode, submission.try_decode)

    def step(x: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            recon_x, mu, log_var = model(x, torch.zeros_like(labels))
        loss = vae_loss(recon_x.float(), x, mu.float(), log_var.float(), settings.var)
        loss.backward()
        optimizer.step()

    return step


class BesideBare(Batches, Callback):
    """The Trainer's batches, on each of which a bare step is taken too: in turn before and after.

    Attributes:
        pairs: seconds of each epoch, the Trainer's and the bare loop's; both with making batches.
    """

    def __init__(self, trainer: Trainer, train_set: MNISTDataset, step: Callable) -> None:
        settings = trainer.settings
        super().__init__(train_set, settings.batch_size, trainer.device, settings.seed)
        self.step, self.device = step, trainer.device
        self.making = self.stepping = self.seconds = 0.0
        self.pairs: list[list[float]] = []

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch."""
        batches = super().epoch(epoch, skip)
        for number in range(len(self)):
            started = time.perf_counter()
            batch = next(batches)
            self.making += time.perf_counter() - started
            if number % 2:
                self.take_step(*batch)
                yield batch
            else:
                yield batch
                self.take_step(*batch)

    def take_step(self, x: Tensor, labels: Tensor) -> None:
        """Take a bare step, and count its seconds."""
        wait(self.device)  # for the Trainer's step, which is the Trainer's own time
        started = time.perf_counter()
        self.step(x, labels)
        wait(self.device)
        self.stepping += time.perf_counter() - started

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Note the epoch: the Trainer's clock ran while bare steps were taken."""
        whole = trainer.state.seconds - self.seconds
        self.pairs.append([whole - self.stepping, self.making + self.stepping])
        self.making, self.stepping, self.seconds = 0.0, 0.0, trainer.state.seconds


def flops_of_an_epoch(path: Path, settings: Settings, train_set: MNISTDataset) -> int:
    """Count the operations of one step, forward and back, and return those of an epoch."""
    submission = Submission(path, "VAEwolabel", 20)
    batches = Batches(train_set, settings.batch_size, "cpu", settings.seed)
    x, labels = next(batches.epoch(0))
    with FlopCounterMode(display=False) as counter:
        recon_x, mu, log_var = submission.model(x, torch.zeros_like(labels))
        submission.vae_loss(recon_x, x, mu, log_var, settings.var).backward()
    return counter.get_total_flops() * len(train_set) // len(x)


def peak_flops(device: torch.device, dtype: torch.dtype, repeats: int = 20) -> float:
    """Operations a second of the best of some products of two square matrices."""
    a, b = (torch.randn(MATRIX, MATRIX).to(device, dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        wait(device)
        started = time.perf_counter()
        for _ in range(PRODUCTS):
            a @ b
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * PRODUCTS * MATRIX**3 / best


def main() -> None:
    """Time both sides, but not in the first epoch; print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("submission", type=Path)
    parser.add_argument("--epochs", type=int, default=4, help="the first does not count")
    args = parser.parse_args()
    keep_freed_memory()  # as train.py does
    settings = Settings(epochs=args.epochs, eval_num=100)
    train_set = MNISTDataset(ROOT / "dataset" / "train")
    set_seed(settings.seed)
    trainer = Trainer(Submission(args.submission, "VAEwolabel", 20), settings, train_set, train_set)
    beside = BesideBare(trainer, train_set, bare_step(args.submission, trainer))
    trainer.batches, trainer.callbacks = beside, [beside]
    trainer.fit()
    peak = peak_flops(trainer.device, torch.bfloat16 if trainer.precision.bf16 else torch.float32)
    say(
        pairs=beside.pairs[1:],
        device=str(trainer.device),
        precision="bf16" if trainer.precision.bf16 else "fp32",
        flops=flops_of_an_epoch(args.submission, settings, train_set),
        peak=peak,
    )


if __name__ == "__main__":
    main()
