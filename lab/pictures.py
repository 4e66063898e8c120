"""The pictures of inference: decode the images that they show, and write the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_utils import NUM_CLASSES
from lab import plots
from lab.checkpoint import write_whole
from lab.split_model import Submission
from lab.stages import decode_codes

MANIFOLD_SIDE = 15.0  # of the square around the origin


def draw_outputs(
    submission: Submission,
    images: np.ndarray,
    labels: np.ndarray,
    arrays: dict[str, np.ndarray],
    folder: Path,
) -> None:
    """Write the pictures of a model's arrays (codes, recon, samples) into a folder.

    images: uint8 (N, 28, 28); labels: int64 (N,).
    """
    with write_whole(folder / "samples.png") as file:
        plots.samples(file, arrays["samples"], submission.task == "Genwithlabel")
    if submission.latent_dim == 2:
        with write_whole(folder / "manifold.png") as file:
            plots.manifold(file, manifold(submission), MANIFOLD_SIDE)
    if not submission.has_encoder:
        return
    codes = arrays["codes"]
    with write_whole(folder / "recon.png") as file:
        plots.reconstructions(file, images, arrays["recon"])
    with write_whole(folder / "interpolation.png") as file:
        plots.interpolation(file, interpolate(submission, codes, labels))
    with write_whole(folder / "latent.png") as file:
        plots.latent(file, codes, labels)


def interpolate(
    submission: Submission, codes: np.ndarray, labels: np.ndarray, steps: int = 11
) -> np.ndarray:
    """Decode points in equal steps between two codes of the same label, for each label.

    For the VAE, which does not see labels, each row goes from a code of one label to a code of the
    next label. A label with a single image gives a row of equal images.
    Returns uint8 (rows, steps, 28, 28).
    """
    firsts = {label: np.flatnonzero(labels == label)[:2] for label in range(NUM_CLASSES)}
    if submission.task == "Genwithlabel":
        pairs = [(pair[0], pair[-1]) for pair in firsts.values() if len(pair)]
    else:
        known = [pair[0] for pair in firsts.values() if len(pair)]
        pairs = list(zip(known, known[1:] + known[:1]))
    starts, ends = np.array(pairs).T  # (rows,) each
    shares = np.linspace(0, 1, steps)[:, None]  # (steps, 1)
    walks = (1 - shares) * codes[starts, None] + shares * codes[ends, None]
    walks = walks.reshape(-1, codes.shape[1]).astype(np.float16)  # (rows steps, latent_dim)
    images = decode_codes(submission, walks, np.repeat(labels[starts], steps))
    return images.reshape(len(pairs), steps, 28, 28)


def manifold(submission: Submission) -> np.ndarray:
    """Decode a grid over the square, one panel per label: uint8 (panels, n, n, 28, 28)."""
    panel_labels = range(NUM_CLASSES) if submission.task == "Genwithlabel" else range(1)
    n = 20 if len(panel_labels) == 1 else 10
    axis = np.linspace(-MANIFOLD_SIDE / 2, MANIFOLD_SIDE / 2, n)
    across, up = np.meshgrid(axis, axis[::-1])  # the larger values are at the top of the picture
    codes = np.stack([across.ravel(), up.ravel()], axis=1).astype(np.float16)  # (n n, 2)
    panels = [decode_codes(submission, codes, np.full(n * n, label)) for label in panel_labels]
    return np.stack(panels).reshape(-1, n, n, 28, 28)
