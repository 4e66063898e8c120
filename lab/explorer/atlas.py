"""Images in place of a decoder that does not export; the page shows that of the nearest code."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from data_utils import NUM_CLASSES, to_uint8
from lab.explorer.facts import Subject

SAMPLES = 60  # from N(0, I), the same for each label
SWEPT = 8  # dimensions
STEPS = 9  # per dimension that is swept
SIDE = 15  # of the grid over the plane, for latent_dim 2
CHUNK = 1000


def make_atlas(subject: Subject) -> dict[str, np.ndarray]:
    """Return the atlas: codes (M, d), labels (M,), images uint8 (M, 28, 28), and samples.

    The samples are codes (SAMPLES, d), of which the page draws instead of N(0, I). The atlas holds
    the codes of the images to pick from, and for each label the samples, and steps along the
    dimensions that carry most; for latent_dim 2, a grid over the plane.
    """
    latent_dim = subject.submission.latent_dim
    samples = torch.randn(SAMPLES, latent_dim, generator=torch.Generator().manual_seed(0))
    one = subject.facts["labels_choose"] != "decoder"
    z, labels = zip(
        *(_codes_of(subject, samples, label) for label in range(1 if one else NUM_CLASSES))
    )
    codes, chosen = torch.cat(z), torch.cat(labels)  # (M, d), (M,)
    if subject.codes is not None:
        codes = torch.cat([subject.codes, codes])
        chosen = torch.cat([torch.from_numpy(subject.labels), chosen])
    images = [
        to_uint8(subject.submission.decode(some, y))
        for some, y in zip(codes.split(CHUNK), chosen.split(CHUNK))
    ]
    return {
        "atlas_samples": samples.numpy(),
        "atlas_z": codes.numpy(),
        "atlas_labels": chosen.numpy().astype(np.uint8),
        "atlas_images": np.concatenate(images),
    }


def _codes_of(subject: Subject, samples: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """Return the codes (n, d) to decode with one label, and the label n times."""
    dimensions = subject.facts["dimensions"]
    latent_dim = len(dimensions)
    codes = [torch.zeros(1, latent_dim), samples]
    if "typical" in subject.arrays and subject.facts["labels_choose"] == "codes":
        codes.append(torch.from_numpy(subject.arrays["typical"]))  # (10, d)
    if latent_dim == 2:
        low, high = (torch.tensor(_of_each(dimensions, end)) for end in ("low", "high"))
        axes = [torch.linspace(a, b, SIDE) for a, b in zip(low.tolist(), high.tolist())]
        codes.append(torch.cartesian_prod(*axes))  # (SIDE SIDE, 2)
    for each in dimensions[:SWEPT]:
        steps = torch.zeros(STEPS, latent_dim)
        steps[:, each["index"]] = torch.linspace(each["low"], each["high"], STEPS)
        codes.append(steps)
    together = torch.cat(codes)
    return together, torch.full((len(together),), label)


def _of_each(dimensions: list[dict], end: str) -> list[float]:
    """Return one end of the range of each dimension, in the order of the code."""
    return [each[end] for each in sorted(dimensions, key=lambda each: each["index"])]
