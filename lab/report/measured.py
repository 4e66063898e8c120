"""What a report shows of a run. No torch here: staff fill it with arrays from the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lab import metrics

COLLAPSED = 0.05  # nats: a dimension with a smaller KL says next to nothing about the image
# Where the KL is not known: a dimension with a smaller share of the largest variance hardly depends
# on the image. Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016, take
# the variance 0.01 itself; a VAE's largest is near 1, but codes without a prior have any scale.
INACTIVE = 0.01
STEPS = np.linspace(-3, 3, 13)  # of a traversal, in standard deviations of the codes


@dataclass
class Measured:
    """A run, measured.

    Attributes:
        name: the heading; the name of the run's folder.
        task: of the run.
        facts: the settings and identities to list, those of hyperparams.json.
        history: rows of history.csv; numbers, or None where a cell is empty.
        scores: what `metrics.score_task` returns.
        samples: uint8 (10, n, 28, 28); None if none were drawn.
        codes: float16 (N, latent_dim), of all images or of the first N; None for a model without an
            encoder, like the following.
        recon: uint8 (N, 28, 28).
        ssim, mse: (N,), of each reconstruction.
        kl: (latent_dim,), the mean KL divergence of each dimension in nats; None if it is not
            known, or if the model has no mu and log_var.
        walks: (starts, images between them, ends) of interpolations.
        traversals: uint8 (dimensions, steps, 28, 28), of the first dimensions of `order`.
        diagnostics: what `lab.evaluation.evaluate` returns; None if it was not measured.
    """

    name: str
    task: str
    facts: dict[str, Any]
    history: list[dict[str, float | None]]
    scores: dict[str, Any]
    samples: np.ndarray | None = None
    codes: np.ndarray | None = None
    recon: np.ndarray | None = None
    ssim: np.ndarray | None = None
    mse: np.ndarray | None = None
    kl: np.ndarray | None = None
    walks: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    traversals: np.ndarray | None = None
    diagnostics: dict[str, Any] | None = None

    def add_reconstructions(self, codes: np.ndarray, recon: np.ndarray, images: np.ndarray) -> None:
        """Set codes and recon, and how near each reconstruction is to its image (N, 28, 28)."""
        self.codes, self.recon = codes, recon
        self.ssim = metrics.ssim_per_image(recon, images)
        self.mse = metrics.mse_per_image(recon, images)

    @property
    def latent_dim(self) -> int:
        """The number of values in a code."""
        return self.scores["latent_dim"]

    @property
    def weights(self) -> np.ndarray | None:
        """What each dimension says of the image, (latent_dim,): its KL, or else the variance."""
        if self.kl is not None or self.codes is None:
            return self.kl
        return self.codes.astype(np.float64).var(axis=0)

    @property
    def order(self) -> np.ndarray | None:
        """The dimensions, those that say most first."""
        return None if self.weights is None else np.argsort(-self.weights)

    @property
    def least(self) -> float:
        """The weight below which a dimension says next to nothing."""
        if self.kl is not None or self.weights is None:
            return COLLAPSED
        return INACTIVE * float(self.weights.max())

    @property
    def collapsed(self) -> list[int]:
        """The dimensions, from 1, that say next to nothing."""
        if self.weights is None:
            return []
        return [int(i) + 1 for i in np.flatnonzero(self.weights <= self.least)]
