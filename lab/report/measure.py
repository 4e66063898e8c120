"""What a report shows of a run: its settings and history, and its model measured on a data set."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_utils import MNISTDataset, own_randomness, to_float
from lab import checkpoint, metrics
from lab.convolutions import use_fast_convolutions
from lab.device import pick_device
from lab.pictures import interpolate, pairs
from lab.split_model import Submission
from lab.stages import CPU_BATCH_SIZE, decode_codes, encode_images, generate_samples
from lab.trained import load_trained

COLLAPSED = 0.05  # nats: a dimension with a smaller KL says next to nothing about the image
TRAVERSED = 10  # dimensions, those with the largest KL
STEPS = np.linspace(-3, 3, 13)  # of a traversal, in standard deviations of the codes


@dataclass
class Measured:
    """A run, measured.

    Attributes:
        name: of the run's folder.
        folder: of the run.
        checkpoint: the file that was measured.
        sha256: of the checkpoint.
        submission: the trained model.
        facts: hyperparams.json of the run; {} if it is missing.
        history: rows of history.csv; numbers, or None where a cell is empty.
        scores: what `metrics.score_task` returns.
        samples: uint8 (10, n, 28, 28).
        codes: float16 (N, latent_dim); None for a model without an encoder, like the following.
        recon: uint8 (N, 28, 28).
        ssim, mse: (N,), of each reconstruction.
        kl: (latent_dim,), the mean KL divergence of each dimension in nats; None if the model has
            no mu and log_var.
        walks: (starts, images between them, ends) of interpolations.
        traversals: uint8 (dimensions, steps, 28, 28), of the first dimensions of `order`.
        order: the dimensions by falling KL, or variance where the KL is not known.
    """

    name: str
    folder: Path
    checkpoint: Path
    sha256: str
    submission: Submission
    facts: dict[str, Any]
    history: list[dict[str, float | None]]
    scores: dict[str, Any]
    samples: np.ndarray
    codes: np.ndarray | None = None
    recon: np.ndarray | None = None
    ssim: np.ndarray | None = None
    mse: np.ndarray | None = None
    kl: np.ndarray | None = None
    walks: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    traversals: np.ndarray | None = None
    order: np.ndarray | None = None

    @property
    def task(self) -> str:
        """The task of the run."""
        return self.submission.task

    @property
    def collapsed(self) -> list[int]:
        """The dimensions, from 1, whose KL is next to nothing."""
        return [] if self.kl is None else [int(i) + 1 for i in np.flatnonzero(self.kl < COLLAPSED)]


def measure(path: Path, dataset: MNISTDataset, gen_num: int = 100, seed: int = 42) -> Measured:
    """Load a run and measure it as inference.py and grade.py do.

    Args:
        path: folder of a run (its best checkpoint is taken), or a checkpoint.
        dataset: the images.
        gen_num: samples per label.
        seed: of the samples.

    Raises CheckpointError, ContractError, InferenceError, SettingsError.
    """
    if path.is_dir():
        path = checkpoint.best_or_newest(path)
    state = checkpoint.load(path)
    submission = load_trained(path, state)
    submission.model.to(pick_device("auto"))
    use_fast_convolutions(submission.model, submission.try_encode, submission.try_decode)
    images, labels = dataset.images, dataset.labels
    samples = generate_samples(submission, gen_num, seed)
    codes = recon = None
    if submission.has_encoder:
        codes = encode_images(submission, images, labels)
        recon = decode_codes(submission, codes, labels)
    scored = samples if submission.task == "Genwithlabel" else None
    task, d = submission.task, submission.latent_dim
    found = Measured(
        name=path.parent.resolve().name,
        folder=path.parent,
        checkpoint=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        submission=submission,
        facts=_read_json(path.parent / "hyperparams.json"),
        history=_read_history(path.parent / "history.csv"),
        scores=metrics.score_task(task, recon, images, labels, d, scored),
        samples=samples,
    )
    if codes is not None and recon is not None:
        found.codes, found.recon = codes, recon
        found.ssim = metrics.ssim_per_image(recon, images)
        found.mse = metrics.mse_per_image(recon, images)
        found.kl = kl_per_dimension(submission, images, labels)
        starts, ends = pairs(task, labels)
        between = interpolate(submission, codes[starts], codes[ends], labels[starts])
        found.walks = images[starts], between, images[ends]
        _traverse(found, labels)
    return found


@torch.no_grad()
def kl_per_dimension(
    submission: Submission, images: np.ndarray, labels: np.ndarray
) -> np.ndarray | None:
    """Return the KL divergence of q(z|x) from N(0, I) of each dimension, its mean over the images.

    In nats, (latent_dim,); Kingma and Welling 2014, appendix B. None if forward of the model does
    not return mu and log_var of this width.
    """
    total = np.zeros(submission.latent_dim)
    submission.model.eval()
    for first in range(0, len(images), CPU_BATCH_SIZE):
        some = slice(first, first + CPU_BATCH_SIZE)
        x = to_float(torch.from_numpy(images[some])).to(submission.device)  # (B, 1, 28, 28)
        y = submission.visible(torch.from_numpy(labels[some]).to(submission.device))
        with own_randomness(0):
            outputs = submission.model(x, y)
        if not isinstance(outputs, (tuple, list)) or len(outputs) != 3:
            return None
        mu, log_var = (part.double() for part in outputs[1:])
        if mu.shape != (len(x), submission.latent_dim):
            return None
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var)  # (B, latent_dim)
        total += kl.sum(dim=0).cpu().numpy()
    return total / len(images)


def _traverse(found: Measured, labels: np.ndarray) -> None:
    """Decode walks along the most informative dimensions, from the code of one image."""
    assert found.codes is not None
    codes = found.codes.astype(np.float32)
    spread = codes.std(axis=0)
    found.order = np.argsort(-(spread if found.kl is None else found.kl))
    count = min(TRAVERSED, len(found.order))
    start = int(np.flatnonzero(labels == labels.max())[0])
    walks = np.repeat(codes[start][None], count * len(STEPS), axis=0)
    for row, dimension in enumerate(found.order[:count]):
        some = slice(row * len(STEPS), (row + 1) * len(STEPS))
        walks[some, dimension] = codes[:, dimension].mean() + STEPS * spread[dimension]
    same = np.full(len(walks), labels[start])
    decoded = decode_codes(found.submission, walks.astype(np.float16), same)
    found.traversals = decoded.reshape(count, len(STEPS), 28, 28)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_history(file: Path) -> list[dict[str, float | None]]:
    try:
        with open(file, encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
    except OSError:
        return []
    return [{name: _number(cell) for name, cell in row.items()} for row in rows]


def _number(cell: str | None) -> float | None:
    try:
        return float(cell or "")
    except ValueError:
        return None
