"""The three stages of inference: encode, decode, generate. They take and return arrays.

inference.py runs them one after another. The staff's sandbox runs each in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from data_utils import NUM_CLASSES, to_float, to_uint8
from lab.split_model import Submission

CPU_BATCH_SIZE = 1000  # images at a time; the intermediate results of more do not fit the cache


class InferenceError(ValueError):
    """Inference cannot run as requested; the message says what to do."""


def encode_images(
    submission: Submission, images: np.ndarray, labels: np.ndarray, batch_size: int = CPU_BATCH_SIZE
) -> np.ndarray:
    """Return the codes, float16 (N, latent_dim), of images uint8 (N, 28, 28).

    labels: int64 (N,). Raises InferenceError if a code is outside the range of float16, and
    ContractError if the model breaks the contract.
    """
    codes = [
        submission.encode(to_float(x), y).half().cpu().numpy()
        for x, y in _batches(submission, images, labels, batch_size)
    ]
    all_codes = np.concatenate(codes)  # (N, latent_dim)
    if not np.isfinite(all_codes).all():
        raise InferenceError(
            "the codes do not fit float16 (beyond 65504, or not finite); "
            "train with a lower --lr or a larger --var."
        )
    return all_codes


def decode_codes(
    submission: Submission, codes: np.ndarray, labels: np.ndarray, batch_size: int = CPU_BATCH_SIZE
) -> np.ndarray:
    """Return the reconstructions, uint8 (N, 28, 28), of codes float16 (N, latent_dim).

    labels: int64 (N,). Raises ContractError.
    """
    recon = [
        to_uint8(submission.decode(z.float(), y))
        for z, y in _batches(submission, codes, labels, batch_size)
    ]
    return np.concatenate(recon)  # (N, 28, 28)


def generate_samples(
    submission: Submission, gen_num: int, seed: int, batch_size: int = CPU_BATCH_SIZE
) -> np.ndarray:
    """Return `gen_num` samples of each label, uint8 (10, gen_num, 28, 28). Raises ContractError."""
    labels = torch.arange(NUM_CLASSES).repeat_interleave(gen_num)  # (10 n,)
    images = submission.generate(labels, seed, _images_at_once(submission, batch_size))
    return to_uint8(images).reshape(NUM_CLASSES, gen_num, 28, 28)


def same_codes(submission: Submission, count: int, seed: int) -> np.ndarray:
    """Return images of the same codes with each label, uint8 (10, count, 28, 28).

    Row k shows the label k; a column shows one z ~ N(0, I). Raises ContractError.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(count, submission.latent_dim, generator=generator)  # (n, d)
    codes = codes.to(submission.device)
    images = [
        submission.decode(codes, torch.full((count,), label, device=submission.device))
        for label in range(NUM_CLASSES)
    ]
    return to_uint8(torch.cat(images)).reshape(NUM_CLASSES, count, 28, 28)


def _batches(
    submission: Submission, values: np.ndarray, labels: np.ndarray, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    at_once = _images_at_once(submission, batch_size)
    for first in range(0, len(values), at_once):
        chunk = slice(first, first + at_once)
        yield (
            torch.from_numpy(values[chunk]).to(submission.device),
            torch.from_numpy(labels[chunk]).to(submission.device),
        )


def _images_at_once(submission: Submission, batch_size: int) -> int:
    return min(batch_size, CPU_BATCH_SIZE) if submission.device.type == "cpu" else batch_size
