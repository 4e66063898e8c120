"""Flags: signs that a person should look at a submission. None of them changes a score.

Flags are for staff and are never shown to students. `benchmarks/honest.py` measures honest models
against each bound; docs/security.md has its table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lab import metrics
from lab.evaluation.distances import mean_distance, pixel_rows
from staff.copies import Known, nearest

MAX_CHECKPOINT_BYTES = 100 * 1024**2  # three times the reference with its optimizer
MAX_CODE_BYTES = 100_000
MAX_INTEGER_BYTES = 1_000_000  # images are integers; a model needs few of them
CHECKED = 20  # samples per label that are compared with each other
COMPARED = 12  # samples per label that are compared with known images
SAME = 0.5  # a copy is nearer to one known image than this share of the distance to similar ones
COPIES = 0.1  # flagged above: share of copies
FAINT = 64  # an image without a pixel this bright shows nothing that could be a copy
ALIKE = 0.15  # flagged below: distance between samples of a label, relative to real images
# Flagged below: how much an image of the same z changes with the label, relative to how much it
# changes with z. It is exactly 0 without the label. A model that is hardly trained, whose samples
# nobody can read, is far above: the flag asks whether the label is used, not how well, which the
# FID scores.
LABEL_EFFECT = 0.003
SAME_CODES = 20  # codes that are decoded with each label
# Flagged above: gap between the test split and the private split, beyond what chance explains: so
# many standard errors of the mean over the private images, of which there may be few.
GAP = {"ssim": 0.035, "mse": 0.0025}
ERRORS = 3

# The decoder is also given some codes twice, and some that are changed a little.
PROBED = 200  # images
SMALL = 0.05  # standard deviation of the change, relative to that of each dimension of the codes
LEVEL = 1e-3  # mse between reconstructions of a label, below which they do not differ
UNEQUAL = 0.05  # flagged above: mse of equal codes, relative to that between images of a label
# Flagged above: the same for codes that are changed a little. A decoder that looks images up is
# near 1. One with a flow may stretch some codes, and an honest one was above 0.1.
JUMP = 0.3
STILL = 0.9  # flagged above: share of changed codes whose reconstruction is exactly the same


@dataclass(frozen=True)
class Calibration:
    """What samples are compared with, equal for every submission.

    Attributes:
        known: the images that a model may have copied.
        spread: mean distance between two real images of the same label.
    """

    known: Known
    spread: float


def real_spread(images: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean distance between two images of a label, uint8 (N, 28, 28) and (N,)."""
    own = [pixel_rows(images[labels == label][:100]) for label in np.unique(labels)]
    return float(np.mean([mean_distance(some) for some in own]))


def of_files(facts: dict[str, Any], checkpoint_bytes: int, code_bytes: int) -> list[str]:
    """Return the flags of the files of a submission.

    facts: of the checkpoint; see `stage.facts_of`.
    """
    flags = []
    if checkpoint_bytes > MAX_CHECKPOINT_BYTES:
        flags.append(f"the checkpoint has {checkpoint_bytes / 1e6:,.0f} MB: does it hold images?")
    if code_bytes > MAX_CODE_BYTES:
        flags.append(f"submission.py has {code_bytes / 1e3:,.0f} kB: does it hold images?")
    integers = facts.get("whole_number_bytes", 0)
    if isinstance(integers, int) and integers > MAX_INTEGER_BYTES:
        size = f"{integers / 1e6:,.1f} MB"
        flags.append(f"the weights hold {size} of integers: are they images?")
    return flags


def sample_values(
    samples: np.ndarray, real: Calibration, rng: np.random.Generator
) -> dict[str, Any]:
    """Measure samples, uint8 (10, n, 28, 28), one row per label.

    rng: chooses the samples that are examined; a student must not be able to predict it.

    Returns:
        copies, copied_split: see `copied`.
        spread: mean distance between two samples of a label, relative to real images.
    """
    order = rng.permutation(samples.shape[1])
    copies, split = copied(samples[:, order[:COMPARED]], real.known)
    chosen = samples[:, order[:CHECKED]]  # (10, CHECKED, 28, 28)
    spread = float(np.mean([mean_distance(pixel_rows(own)) for own in chosen]))
    return {
        "copies": copies,
        "copied_split": split,
        "spread": spread / real.spread,
    }


def of_samples(values: dict[str, Any]) -> list[str]:
    """Return the flags of what `sample_values` and, as "label_effect", that function returned."""
    flags = []
    if values["copies"] > COPIES:
        flags.append(
            f"{100 * values['copies']:.0f} % of the samples look like copies of images of the "
            f"{values['copied_split']} split"
        )
    if values["spread"] < ALIKE:
        flags.append("the samples of each label are all alike: does the model use z?")
    if values["label_effect"] < LABEL_EFFECT:
        flags.append("the same z gives the same image for every label: is the label used?")
    return flags


def copied(samples: np.ndarray, known: Known) -> tuple[float, str]:
    """Return the share of samples, uint8 (10, n, 28, 28), that are copies of known images.

    Also returns the name of the split that most of them are in; "" without copies. The black images
    of a model whose training collapsed are not copies.
    """
    images = samples.reshape(-1, 28, 28)
    shown = images[images.max(axis=(1, 2)) >= FAINT]
    if not len(shown):
        return 0.0, ""
    ratio, index = nearest(shown, known)
    splits = [known.split_of(int(i)) for i in index[ratio < SAME]]
    most = max(set(splits), key=splits.count) if splits else ""
    return len(splits) / len(images), most


def label_effect(images: np.ndarray) -> float:
    """Return how much an image changes with the label, relative to how much it changes with z.

    images: uint8 (10, n, 28, 28): a row per label, a column per z, n >= 2. The changes are mean
    squared differences, to the next label and to the next z.
    """
    flat = images.reshape(-1, 28, 28)
    by_label = metrics.mse_per_image(np.roll(images, 1, axis=0).reshape(-1, 28, 28), flat).mean()
    by_code = metrics.mse_per_image(np.roll(images, 1, axis=1).reshape(-1, 28, 28), flat).mean()
    return float(by_label / max(by_code, 1e-9)) if by_label else 0.0


# ---------------------------------------------------------------- what the decoder does with codes


@dataclass(frozen=True)
class Probes:
    """More codes for the decoder, beside those of the images.

    Attributes:
        images: indices of the images that they belong to, (n,).
        codes: those of these images again, then each changed a little, float16 (2 n, latent_dim).
    """

    images: np.ndarray
    codes: np.ndarray


def probes(codes: np.ndarray, rng: np.random.Generator) -> Probes:
    """Choose images by chance and return the probes of their codes, float16 (N, latent_dim)."""
    images = rng.permutation(len(codes))[:PROBED]
    own = codes[images].astype(np.float64)
    change = SMALL * codes.std(axis=0, dtype=np.float64) * rng.standard_normal(own.shape)
    most = np.finfo(np.float16).max
    changed = (own + change).clip(-most, most).astype(np.float16)
    return Probes(images, np.concatenate([codes[images], changed]))


def probe_values(
    recon: np.ndarray, probed: np.ndarray, probe: Probes, labels: np.ndarray
) -> dict[str, float]:
    """Return how reconstructions follow their codes.

    Args:
        recon: the reconstructions of the split, uint8 (N, 28, 28).
        probed: those of the probes' codes, uint8 (2 n, 28, 28).
        probe: the probes.
        labels: that the decoder was given, (N,).

    Returns:
        level: mse between reconstructions of different images of the same label.
        equal, changed: mse of those of equal codes, and of codes that are changed a little, to the
            image's own reconstruction, divided by `level`.
        still: share of the changed codes whose reconstruction is exactly the same.
    """
    images = probe.images
    own, again, changed = recon[images], *np.split(probed, 2)
    before, after = np.split(probe.codes, 2)
    moved = (before != after).any(axis=1)  # a change smaller than float16's step changes nothing
    same = (own == changed).all(axis=(1, 2))
    order = np.argsort(labels[images], kind="stable")
    pairs = [(a, b) for a, b in zip(order, order[1:]) if labels[images[a]] == labels[images[b]]]
    one, other = (np.array(side, dtype=int) for side in zip(*pairs)) if pairs else ([], [])
    level = float(metrics.mse_per_image(own[one], own[other]).mean()) if pairs else 0.0
    unit = max(level, 1e-9)
    return {
        "level": level,
        "equal": float(metrics.mse_per_image(own, again).mean()) / unit,
        "changed": float(metrics.mse_per_image(own, changed).mean()) / unit,
        "still": float(same[moved].mean()) if moved.any() else 0.0,
    }


def of_probes(values: dict[str, float]) -> list[str]:
    """Return the flags of what `probe_values` returned: the codes carry too little."""
    if values["level"] < LEVEL:
        return []  # the reconstructions are alike, so codes need to carry nothing
    if values["equal"] > UNEQUAL:
        return ["equal codes are decoded to different images: does decode use their position?"]
    if values["changed"] > JUMP:
        return ["small changes of the codes give other images: does decode look images up?"]
    if values["still"] > STILL:
        return ["small changes of the codes change no pixel: does decode look images up?"]
    return []


# ---------------------------------------------------------------- the two splits


def gaps(test: dict[str, Any], private: dict[str, Any]) -> dict[str, float]:
    """Return how much worse ssim and mse are on the private split; negative if they are better.

    private: its ssim and mse, and their standard errors, ssim_error and mse_error, which are
        returned too.
    """
    errors = {f"{name}_error": private[f"{name}_error"] for name in GAP}
    return {"ssim": test["ssim"] - private["ssim"], "mse": private["mse"] - test["mse"], **errors}


def gap_bound(name: str, values: dict[str, float]) -> float:
    """Return the largest gap of ssim or mse that is not flagged; values: what `gaps` returned."""
    return GAP[name] + ERRORS * values[f"{name}_error"]


def of_gap(values: dict[str, float]) -> list[str]:
    """Return the flags of what `gaps` returned."""
    return [
        f"{name} is worse by {values[name]:.4f} on the private split than on the test split: "
        "did the model memorise the test split?"
        for name in GAP
        if values[name] > gap_bound(name, values)
    ]
