"""Find samples that copy known images, also images that were turned, shifted or scaled a little.

For each sample the most similar known images are found at low resolution, under several turns and
scales. Each of them is then laid over the sample as well as an affine map can (Lucas and Kanade, An
Iterative Image Registration Technique, IJCAI 1981). One of them fits a copy far better than the
others; a new digit fits all of them about equally well. This comparison needs no calibration: it
does not depend on how smooth or how thick the strokes of a model are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_utils import IMAGE_SIZE, to_float

CANDIDATES = 8  # known images that are laid over a sample
DIMENSIONS = 64  # of the space in which they are found
TURNS, SCALES = (-16, -8, 0, 8, 16), (0.88, 1.0, 1.12)  # degrees, and shares of the size
STEPS = 6  # of the alignment
# An alignment may change areas by this factor at most. Further steps from noise end in a map that
# enlarges one grey patch until it fills the image, which fits noise better than any digit does.
LARGEST = 2.0
CHUNK = 2000  # images at a time
KNOWN_CHUNK = 1000  # known images that samples are compared with at a time
BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # a binomial filter


@dataclass(frozen=True)
class Known:
    """Images that a model may have copied, and their codes at low resolution.

    Attributes:
        images: uint8 (M, 28, 28).
        splits: name of the split and number of its images, in the order of `images`.
        mean, axes: of the principal components, (196,) and (196, d).
        codes: of each image, (M, d).
        centre: mean centre of mass, x and y, each from -1 to 1.
    """

    images: Tensor
    splits: tuple[tuple[str, int], ...]
    mean: Tensor
    axes: Tensor
    codes: Tensor
    centre: Tensor

    def split_of(self, index: int) -> str:
        """Return the name of the split that an image is in."""
        for name, count in self.splits:
            if index < count:
                return name
            index -= count
        raise IndexError("there is no such image.")


def known_images(splits: Mapping[str, np.ndarray]) -> Known:
    """Prepare the images of each split, uint8 (N, 28, 28), for `nearest`."""
    images = torch.from_numpy(np.concatenate(list(splits.values())))
    small = torch.cat([_small(to_float(chunk)[:, 0]) for chunk in images.split(CHUNK)])  # (M, 196)
    mean = small.mean(dim=0)
    _, axes = torch.linalg.eigh(torch.cov(small.T))  # sorted: the last ones vary most
    axes = axes[:, -DIMENSIONS:].contiguous()
    some = images[:: max(len(images) // 1000, 1)]
    centre = _centres(to_float(some)[:, 0]).mean(dim=0)
    counts = tuple((name, len(own)) for name, own in splits.items())
    return Known(images, counts, mean, axes, (small - mean) @ axes, centre)


@torch.no_grad()
def nearest(
    samples: np.ndarray, known: Known, left_out: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much better each sample fits its nearest known image than other similar ones.

    Args:
        samples: uint8 (n, 28, 28).
        known: what `known_images` returned, at least two images.
        left_out: for each sample, the index of a known image that does not count: itself.

    Returns:
        ratio: (n,), the distance to the nearest image divided by the median of the distances to
            the other candidates. 0 for a copy, near 1 for a sample that is like no single image.
        index: (n,), of the nearest image.
    """
    ratios, indices = [], []
    out = None if left_out is None else torch.as_tensor(left_out)
    for first in range(0, len(samples), 50):  # the intermediate results of more need much memory
        some = slice(first, first + 50)
        x = to_float(torch.from_numpy(samples[some]))[:, 0]  # (B, 28, 28)
        found = _candidates(x, known, None if out is None else out[some])  # (B, k)
        k = found.shape[1]
        target = _blurred(x).repeat_interleave(k, dim=0)  # (B k, 28, 28)
        images = _blurred(to_float(known.images[found.flatten()])[:, 0])
        distances, order = _aligned_distances(images, target).view(-1, k).sort(dim=1)
        others = distances[:, 1:].median(dim=1).values.clamp(min=1e-6)
        ratios.append(distances[:, 0] / others)
        indices.append(found.gather(1, order[:, :1])[:, 0])
    return torch.cat(ratios).numpy(), torch.cat(indices).numpy()


# ---------------------------------------------------------------- candidates


def _small(images: Tensor) -> Tensor:
    """Return images (B, 28, 28) as vectors (B, 196) of length 1, at half the resolution."""
    return F.normalize(F.avg_pool2d(images[:, None], 2).flatten(1))


def _candidates(x: Tensor, known: Known, left_out: Tensor | None) -> Tensor:
    """Return the indices (B, k) of the known images most like x (B, 28, 28) in any warp."""
    turns = torch.stack([_turn(angle, scale) for angle in TURNS for scale in SCALES])  # (W, 2, 3)
    maps = turns.repeat(len(x), 1, 1)  # (B W, 2, 3)
    shifts = _centres(x) - known.centre
    maps[:, :, 2] = shifts.repeat_interleave(len(turns), dim=0)
    warped = _warp(x.repeat_interleave(len(turns), dim=0)[:, None], maps)[:, 0]
    codes = (_small(warped) - known.mean) @ known.axes  # (B W, d)
    # Half of the squared distance. Some known images at a time stay in the processor's cache.
    own = codes.square().sum(dim=1, keepdim=True) / 2  # (B W, 1)
    offsets = known.codes.square().sum(dim=1) / 2  # (M,)
    best = torch.empty(len(x), len(known.codes))  # (B, M)
    for first in range(0, len(known.codes), KNOWN_CHUNK):
        some = slice(first, first + KNOWN_CHUNK)
        likeness = codes @ known.codes[some].T - own  # (B W, m)
        best[:, some] = likeness.view(len(x), len(turns), -1).amax(dim=1) - offsets[some]
    if left_out is not None:
        best[torch.arange(len(x)), left_out] = -torch.inf
    count = min(CANDIDATES, len(known.images) - (left_out is not None))
    return best.topk(count, dim=1).indices


def _turn(degrees: float, scale: float) -> Tensor:
    """Return the affine map, (2, 3), that turns and scales about the centre."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    return torch.tensor([[cos, -sin, 0], [sin, cos, 0]])


# ---------------------------------------------------------------- alignment


def _grid() -> tuple[Tensor, Tensor]:
    """Return the x and y of each pixel, (28, 28) each, from -1 to 1."""
    line = (2 * torch.arange(IMAGE_SIZE) + 1) / IMAGE_SIZE - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def _centres(images: Tensor) -> Tensor:
    """Return the centre of mass, x and y, of images (B, 28, 28): (B, 2)."""
    mass = images.sum(dim=(1, 2)).clamp(min=1e-6)
    return torch.stack([(images * place).sum(dim=(1, 2)) / mass for place in _grid()], dim=1)


def _blurred(images: Tensor) -> Tensor:
    """Return images (B, 28, 28), blurred so that interpolation changes them less."""
    line = torch.tensor(BLUR)
    x = F.conv2d(images[:, None], line.view(1, 1, 5, 1), padding=(2, 0))
    return F.conv2d(x, line.view(1, 1, 1, 5), padding=(0, 2))[:, 0]


def _warp(images: Tensor, maps: Tensor) -> Tensor:
    """Return images (B, C, 28, 28) under the affine maps (B, 2, 3), interpolated linearly."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _aligned_distances(images: Tensor, targets: Tensor) -> Tensor:
    """Return the distance of each image to its target after the best affine map: (B,).

    Both are scaled to length 1, so that brightness does not count. The map starts at the shift
    between the centres of mass; Gauss-Newton steps on the squared distance improve it.
    """
    count = len(images)
    target = F.normalize(targets.flatten(1))  # (B, 784)
    place = torch.stack([*_grid(), torch.ones(IMAGE_SIZE, IMAGE_SIZE)]).flatten(1)  # (3, 784)
    # With each image its central differences in x and y, per unit of the grid.
    channels = torch.zeros(count, 3, IMAGE_SIZE, IMAGE_SIZE)
    channels[:, 0] = images
    channels[:, 1, :, 1:-1] = (images[:, :, 2:] - images[:, :, :-2]) * IMAGE_SIZE / 4
    channels[:, 2, 1:-1] = (images[:, 2:] - images[:, :-2]) * IMAGE_SIZE / 4
    maps = torch.eye(2, 3).repeat(count, 1, 1)  # (B, 2, 3)
    maps[:, :, 2] = _centres(images) - _centres(targets)
    best = torch.full((count,), torch.inf)
    for step in range(STEPS + 1):
        warped, by_x, by_y = _warp(channels, maps).flatten(2).unbind(dim=1)  # (B, 784) each
        length = warped.norm(dim=1, keepdim=True).clamp(min=1e-6)
        residual = target - warped / length
        area = torch.linalg.det(maps[:, :, :2])
        allowed = (area > 1 / LARGEST) & (area < LARGEST)
        best = torch.where(allowed, torch.minimum(best, residual.norm(dim=1)), best)
        if step == STEPS:
            break
        by_x, by_y = ((slope / length)[:, None] for slope in (by_x, by_y))  # (B, 1, 784)
        jacobian = torch.cat([by_x * place, by_y * place], dim=1)  # (B, 6, 784)
        squares = jacobian @ jacobian.mT  # (B, 6, 6)
        squares += 1e-3 * torch.diag_embed(squares.diagonal(dim1=1, dim2=2)) + 1e-6 * torch.eye(6)
        change = torch.linalg.solve(squares, jacobian @ residual[..., None])  # (B, 6, 1)
        maps = maps + change.view(count, 2, 3)
    return best
