"""The Trainer against the shortest loop that trains the same model, and against the machine.

A round times one of both in turn; the ratio of a round is free of the machine's drift.
Validation, checkpoints and pictures are outside both sides. speed.py starts this in a process of
its own: python benchmarks/bare_loop.py model.py --epochs 4 --rounds 5
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.commands import ROOT  # noqa: E402
from benchmarks.usual import say  # noqa: E402
from contract import Submission  # noqa: E402
from convolutions import quicken  # noqa: E402
from data_utils import Batches, MNISTDataset, set_seed  # noqa: E402
from device import keep_freed_memory, native_bf16, pick_device  # noqa: E402
from settings import Settings  # noqa: E402
from trainer import Trainer  # noqa: E402

MATRIX = 2048  # rows and columns of the products that show the machine's peak
PRODUCTS = 5  # in a row, so that a GPU has something to do


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def bare_epoch(path: Path, settings: Settings, train_set: MNISTDataset) -> float:
    """Seconds an epoch of the shortest loop that trains the model."""
    set_seed(settings.seed)
    device = pick_device(settings.device)
    submission = Submission(path, "VAEwolabel", 20)
    model, vae_loss = submission.model.to(device).train(), submission.vae_loss
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
    batches = Batches(train_set, settings.batch_size, device, settings.seed)
    bf16 = native_bf16(device)
    # As in the Trainer: what is compared is the loop.
    quicken(model, submission.try_encode, submission.try_decode)
    wait(device)
    started = time.perf_counter()
    for x, labels in (batch for epoch in range(settings.epochs) for batch in batches.epoch(epoch)):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            recon_x, mu, log_var = model(x, torch.zeros_like(labels))
        loss = vae_loss(recon_x.float(), x, mu.float(), log_var.float(), settings.var)
        loss.backward()
        optimizer.step()
    wait(device)
    return (time.perf_counter() - started) / settings.epochs


def trainer_epoch(path: Path, settings: Settings, train_set: MNISTDataset) -> float:
    """Seconds an epoch of the same in the Trainer, with its progress bar."""
    set_seed(settings.seed)
    trainer = Trainer(Submission(path, "VAEwolabel", 20), settings, train_set, train_set)
    trainer.fit()
    return trainer.seconds / settings.epochs


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
    """Time both sides in turn, after a round that does not count; print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("submission", type=Path)
    parser.add_argument("--epochs", type=int, default=1, help="of each side in a round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    keep_freed_memory()  # as train.py does
    settings = Settings(epochs=args.epochs, eval_num=100)
    train_set = MNISTDataset(ROOT / "dataset" / "train")
    sides = [trainer_epoch, bare_epoch]
    pairs = []
    for number in range(args.rounds + 1):
        first_last = sides if number % 2 else sides[::-1]  # neither is always the warmer one
        seconds = {side: side(args.submission, settings, train_set) for side in first_last}
        pairs.append([seconds[side] for side in sides])
    device = pick_device(settings.device)
    bf16 = native_bf16(device)
    peak = peak_flops(device, torch.bfloat16 if bf16 else torch.float32)
    say(
        pairs=pairs[1:],
        device=str(device),
        precision="bf16" if bf16 else "fp32",
        flops=flops_of_an_epoch(args.submission, settings, train_set),
        peak=peak,
    )


if __name__ == "__main__":
    main()
