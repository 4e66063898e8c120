"""The pictures of inference: decode the images that they show, and write the files."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np

from data_utils import NUM_CLASSES
from lab import plots
from lab.checkpoint import write_whole
from lab.latent_plane import draw_codes
from lab.moments import slant
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
            values, at = manifold_values(submission.task)
            square, quantiles = manifold(submission, values), manifold(submission, at)
            plots.manifold(file, square, values, quantiles, at)
    if not submission.has_encoder:
        return
    codes = arrays["codes"]
    with write_whole(folder / "recon.png") as file:
        plots.reconstructions(file, images, arrays["recon"])
    with write_whole(folder / "interpolation.png") as file:
        starts, ends = pairs(submission.task, labels)
        walks = interpolate(submission, codes[starts], codes[ends], labels[starts])
        plots.interpolation(file, images[starts], walks, images[ends])
    with write_whole(folder / "latent.png") as file:
        draw_codes(file, codes, labels, slant(images))


def pairs(task: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the images at the two ends of each row of interpolations.

    These are two images of each label, or for the VAE, which does not see labels, an image of each
    label and one of the next label. A label with a single image is paired with itself.
    """
    firsts = {label: np.flatnonzero(labels == label)[:2] for label in range(NUM_CLASSES)}
    known = [pair for pair in firsts.values() if len(pair)]
    starts = np.array([pair[0] for pair in known])
    ends = np.array([pair[-1] for pair in known]) if task == "Genwithlabel" else np.roll(starts, -1)
    return starts, ends


def interpolate(
    submission: Submission,
    starts: np.ndarray,
    ends: np.ndarray,
    labels: np.ndarray,
    steps: int = 11,
) -> np.ndarray:
    """Decode codes in equal steps between the codes `starts` and `ends`, (rows, latent_dim) each.

    labels: (rows,), the label that each row is decoded with.
    Returns uint8 (rows, steps, 28, 28).
    """
    shares = np.linspace(0, 1, steps)[:, None]  # (steps, 1)
    walks = (1 - shares) * starts[:, None] + shares * ends[:, None]  # (rows, steps, latent_dim)
    walks = walks.reshape(-1, starts.shape[1]).astype(np.float16)  # (rows steps, latent_dim)
    images = decode_codes(submission, walks, np.repeat(labels, steps))
    return images.reshape(len(starts), steps, 28, 28)


def manifold_values(task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes along one side of the two grids, in equal steps and at quantiles of N(0, 1).

    The second splits N(0, 1) into n equal shares and takes the middle of each.
    """
    n = 11 if task == "Genwithlabel" else 21  # odd, so that 0 is one of them
    equal = np.linspace(-MANIFOLD_SIDE / 2, MANIFOLD_SIDE / 2, n)
    normal = NormalDist()
    return equal, np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])


def manifold(submission: Submission, values: np.ndarray) -> np.ndarray:
    """Decode the codes (x, y) for all pairs of values (n,): uint8 (panels, n, n, 28, 28).

    There is one panel per label, or one in all for the VAE. y falls from row to row, so that the
    larger values are at the top of the picture.
    """
    panel_labels = range(NUM_CLASSES) if submission.task == "Genwithlabel" else range(1)
    n = len(values)
    across, up = np.meshgrid(values, values[::-1])
    codes = np.stack([across.ravel(), up.ravel()], axis=1).astype(np.float16)  # (n n, 2)
    panels = [decode_codes(submission, codes, np.full(n * n, label)) for label in panel_labels]
    return np.stack(panels).reshape(-1, n, n, 28, 28)
