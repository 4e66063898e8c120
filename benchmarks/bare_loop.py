"""What the Trainer costs over a bare loop on the same model, batches and precision.

Each round times one training epoch of both, in turn; the ratio of a round is free of the
machine's drift. Validation, checkpoints and pictures are outside both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from contract import Submission  # noqa: E402
from data_utils import Batches, MNISTDataset, set_seed  # noqa: E402
from device import native_bf16  # noqa: E402
from settings import Settings  # noqa: E402
from trainer import Trainer  # noqa: E402

MODELS = {
    "mlp": (ROOT / "model.py", Settings(epochs=8, batch_size=1024)),  # an epoch is half a second
    "conv": (ROOT / "submission.py", Settings(epochs=1, batch_size=256, lr=3e-3, var=0.02)),
}


def bare_epoch(path: Path, settings: Settings, train_set: MNISTDataset) -> float:
    """Seconds an epoch of the shortest loop that trains the model."""
    set_seed(settings.seed)
    submission = Submission(path, "VAEwolabel", 20)
    model, vae_loss = submission.model.train(), submission.vae_loss
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
    batches = Batches(train_set, settings.batch_size, "cpu", settings.seed)
    bf16 = native_bf16(torch.device("cpu"))
    started = time.perf_counter()
    for x, labels in (batch for epoch in range(settings.epochs) for batch in batches.epoch(epoch)):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            recon_x, mu, log_var = model(x, torch.zeros_like(labels))
        loss = vae_loss(recon_x.float(), x, mu.float(), log_var.float(), settings.var)
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - started) / settings.epochs


def trainer_epoch(path: Path, settings: Settings, train_set: MNISTDataset) -> float:
    """Seconds an epoch of the same in the Trainer, with its progress bar."""
    set_seed(settings.seed)
    submission = Submission(path, "VAEwolabel", 20)
    trainer = Trainer(submission, settings, train_set, train_set)
    trainer.fit()
    return trainer.seconds / settings.epochs


def measure(name: str, rounds: int) -> dict:
    """Time both sides in turn, after one round that does not count."""
    path, settings = MODELS[name]
    settings = Settings(**{**vars(settings), "device": "cpu", "eval_num": 100})
    train_set = MNISTDataset(ROOT / "dataset" / "train")
    pairs = []
    for number in range(rounds + 1):
        sides = [trainer_epoch, bare_epoch]
        first_last = sides if number % 2 else sides[::-1]  # neither is always the warmer one
        seconds = {side: side(path, settings, train_set) for side in first_last}
        pairs.append([seconds[side] for side in sides])
    del pairs[0]
    ratios = [trainer / bare for trainer, bare in pairs]
    return {
        "trainer_s": statistics.median(trainer for trainer, _ in pairs),
        "bare_s": statistics.median(bare for _, bare in pairs),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "n": rounds,
    }


def main() -> None:
    """Measure, print a row a model, write the numbers if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=MODELS, help="one model only")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds (default 7)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    results = {}
    for name in [args.only] if args.only else MODELS:
        row = results[name] = measure(name, args.rounds)
        print(
            f"{name:5} Trainer {row['trainer_s']:.2f} s, bare loop {row['bare_s']:.2f} s an epoch; "
            f"ratio {row['ratio']:.3f} ({row['ratio_min']:.3f} to {row['ratio_max']:.3f}, "
            f"n = {row['n']}), {torch.get_num_threads()} threads, torch {torch.__version__}"
        )
    if args.json:
        machine = {"cores": os.cpu_count(), "torch": torch.__version__}
        args.json.write_text(json.dumps({"machine": machine, "models": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
