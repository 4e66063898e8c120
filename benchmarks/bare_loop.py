"""Compare the Trainer with a loop in plain PyTorch, and with the machine's peak performance.

    python -m benchmarks.bare_loop model.py --epochs 11
    python -m benchmarks.bare_loop zoo/conv_vae.py

Both sides train the same model on the same batches. On each batch both take one step, the Trainer
first on every second batch, so a change in the machine's load affects both. The plain loop uses no
code of the lab. Validation, checkpoints and pictures are not timed. The last line is JSON.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.commands import make_parser
from benchmarks.usual import LATENT_DIM, load_model, print_json
from data_utils import Batches, MNISTDataset, set_seed
from lab import ROOT
from lab.callbacks import Callback, Training
from lab.device import keep_freed_memory
from lab.settings import Settings
from lab.split_model import Submission
from trainer import Trainer

MATRIX_SIZE = 2048  # rows and columns of the matrices that measure the machine's peak
PRODUCTS = 5  # matrix products per measurement, so that a GPU is kept busy


def wait(device: torch.device) -> None:
    """Wait until a GPU has finished the work in its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class PlainLoop:
    """The training loop of a VAE in plain PyTorch, with the usual optimizations.

    The images are in memory on the device, a batch is selected by its indices, Adam is fused, and
    autocast computes in the precision that the Trainer uses.

    Args:
        module: the model's file, imported.
        train_set: the training images.
        settings: seed, batch size, learning rate and variance.
        device: the device of the Trainer.
        bf16: whether the Trainer computes in bf16.
    """

    def __init__(
        self,
        module: ModuleType,
        train_set: MNISTDataset,
        settings: Settings,
        device: torch.device,
        bf16: bool,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device, self.bf16 = settings, device, bf16
        self.images = torch.from_numpy(train_set.images).to(device)  # (N, 28, 28) uint8
        self.labels = torch.from_numpy(train_set.labels).to(device)  # (N,) int64
        self.model = module.VAE(LATENT_DIM).to(device).train()
        self.vae_loss = module.vae_loss
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.lr, fused=True)

    def indices(self, epoch: int) -> tuple[Tensor, ...]:
        """Return the indices of each batch of an epoch, in the order of `data_utils.Batches`."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.images), generator=generator).to(self.device)
        return order.split(self.settings.batch_size)

    def step(self, index: Tensor) -> None:
        """Take a step on the images of the given indices, (B,)."""
        # index_select copies whole images; self.images[index] takes several times as long.
        x = self.images.index_select(0, index).unsqueeze(1) / 255  # (B, 1, 28, 28)
        no_labels = torch.zeros_like(index)  # a VAE gets zeros in place of labels
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            recon_x, mu, log_var = self.model(x, no_labels)
        var = self.settings.var
        loss = self.vae_loss(recon_x.float(), x, mu.float(), log_var.float(), var)
        loss.backward()
        self.optimizer.step()


class InTurn(Batches, Callback):
    """The batches of the Trainer; the plain loop takes a step on each, before or after it.

    Attributes:
        pairs: the seconds of each epoch, the Trainer's and the plain loop's. Both include the
            time to make the batches.
    """

    def __init__(self, trainer: Trainer, train_set: MNISTDataset, plain: PlainLoop) -> None:
        settings = trainer.settings
        super().__init__(train_set, settings.batch_size, trainer.device, settings.seed)
        self.plain = plain
        self.plain_seconds = 0.0  # of the plain loop in this epoch
        self.seconds_before = 0.0  # of training, when this epoch started
        self.pairs: list[tuple[float, float]] = []

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch."""
        started = time.perf_counter()
        indices = self.plain.indices(epoch)[skip:]
        self.plain_seconds += time.perf_counter() - started
        for number, ((x, labels), index) in enumerate(zip(super().epoch(epoch, skip), indices)):
            if epoch == 0 and not torch.equal(labels, self.plain.labels[index]):
                raise RuntimeError(f"batch {number}: the two sides have different images")
            if number % 2:
                self._plain_step(index)
            yield x, labels
            if not number % 2:
                self._plain_step(index)

    def _plain_step(self, index: Tensor) -> None:
        wait(self.plain.device)  # so that work still in the queue counts for the Trainer
        started = time.perf_counter()
        self.plain.step(index)
        wait(self.plain.device)
        self.plain_seconds += time.perf_counter() - started

    def on_epoch_end(self, trainer: Training) -> None:
        """Keep the seconds of both sides; the Trainer's clock includes the plain loop."""
        both = trainer.state.seconds - self.seconds_before
        self.pairs.append((both - self.plain_seconds, self.plain_seconds))
        self.plain_seconds, self.seconds_before = 0.0, trainer.state.seconds


def flops_per_epoch(module: ModuleType, settings: Settings, train_set: MNISTDataset) -> int:
    """Return the floating-point operations of an epoch, forward and backward."""
    batches = Batches(train_set, settings.batch_size, "cpu", settings.seed)
    x, labels = next(batches.epoch(0))
    with FlopCounterMode(display=False) as counter:
        recon_x, mu, log_var = module.VAE(LATENT_DIM)(x, torch.zeros_like(labels))
        module.vae_loss(recon_x, x, mu, log_var, settings.var).backward()
    return counter.get_total_flops() * len(train_set) // len(x)


def peak_flops(device: torch.device, dtype: torch.dtype, repeats: int = 20) -> float:
    """Return the operations per second of matrix products, the best of `repeats`."""
    a, b = (torch.randn(MATRIX_SIZE, MATRIX_SIZE).to(device, dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        wait(device)
        started = time.perf_counter()
        for _ in range(PRODUCTS):
            a @ b
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * PRODUCTS * MATRIX_SIZE**3 / best


def main() -> None:
    """Time both sides without the first epoch, and print a line of JSON."""
    parser = make_parser("benchmarks.bare_loop", __doc__)
    parser.add_argument("submission", type=Path, help="a file with VAE and vae_loss")
    parser.add_argument("--epochs", type=int, default=4, help="the first is not counted")
    args = parser.parse_args()
    keep_freed_memory()  # as train.py does; the plain loop gains from it as well
    settings = Settings(epochs=args.epochs, eval_num=100)
    train_set = MNISTDataset(ROOT / "dataset" / "train")
    module = load_model(args.submission)
    set_seed(settings.seed)
    submission = Submission(args.submission, "VAEwolabel", LATENT_DIM)
    trainer = Trainer(submission, settings, train_set, train_set)
    trainer.prepare()
    plain = PlainLoop(module, train_set, settings, trainer.device, trainer.precision.bf16)
    in_turn = InTurn(trainer, train_set, plain)
    trainer.batches, trainer.callbacks = in_turn, [in_turn]
    trainer.fit()
    peak = peak_flops(trainer.device, torch.bfloat16 if trainer.precision.bf16 else torch.float32)
    print_json(
        pairs=in_turn.pairs[1:],
        device=str(trainer.device),
        precision="bf16" if trainer.precision.bf16 else "fp32",
        flops=flops_per_epoch(module, settings, train_set),
        peak=peak,
    )


if __name__ == "__main__":
    main()
