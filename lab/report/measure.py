"""Measure a run for a report: its settings and history, and its model on a data set."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from data_utils import MNISTDataset
from lab import checkpoint, metrics
from lab.convolutions import use_fast_convolutions
from lab.device import pick_device
from lab.evaluation.bounds import kl_per_dimension
from lab.evaluation.evaluate import evaluate
from lab.pictures import interpolate, pairs
from lab.report.measured import STEPS, Measured
from lab.split_model import Submission
from lab.stages import decode_codes, encode_images, generate_samples
from lab.trained import load_trained

TRAVERSED = 10  # dimensions, those with the largest KL


def measure(
    path: Path,
    dataset: MNISTDataset,
    train: MNISTDataset | None = None,
    gen_num: int = 100,
    seed: int = 42,
) -> Measured:
    """Load a run and measure it as inference.py and grade.py do.

    Args:
        path: folder of a run (its best checkpoint is taken), or a checkpoint.
        dataset: the images.
        train: the training images, if the slower measures of docs/metrics.md are wanted.
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
        task=task,
        facts={
            **_read_json(path.parent / "hyperparams.json"),
            "checkpoint": path.name,
            "checkpoint_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
        history=_read_history(path.parent / "history.csv"),
        scores=metrics.score_task(task, recon, images, labels, d, scored),
        samples=samples,
    )
    if codes is not None and recon is not None:
        found.add_reconstructions(codes, recon, images)
        found.kl = kl_per_dimension(submission, images, labels)
        starts, ends = pairs(task, labels)
        between = interpolate(submission, codes[starts], codes[ends], labels[starts])
        found.walks = images[starts], between, images[ends]
        found.traversals = _traversals(submission, found, labels)
    if train is not None:
        var = state.get("settings", {}).get("var")
        found.diagnostics = evaluate(submission, var, dataset, train, recon, scored)
    return found


def _traversals(submission: Submission, found: Measured, labels: np.ndarray) -> np.ndarray:
    """Decode walks along the dimensions that say most, from the code of one image."""
    assert found.codes is not None and found.order is not None
    codes = found.codes.astype(np.float32)
    spread = codes.std(axis=0)
    chosen = found.order[:TRAVERSED]
    start = int(np.flatnonzero(labels == labels.max())[0])
    walks = np.repeat(codes[start][None], len(chosen) * len(STEPS), axis=0)
    for row, dimension in enumerate(chosen):
        some = slice(row * len(STEPS), (row + 1) * len(STEPS))
        walks[some, dimension] = codes[:, dimension].mean() + STEPS * spread[dimension]
    same = np.full(len(walks), labels[start])
    decoded = decode_codes(submission, walks.astype(np.float16), same)
    return decoded.reshape(len(chosen), len(STEPS), 28, 28)


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
