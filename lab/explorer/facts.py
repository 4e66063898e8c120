"""What the page knows about a model beside its weights: images, their codes, and figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_utils import NUM_CLASSES, MNISTDataset, to_float, to_uint8
from lab.evaluation.samples import some_of_each_label
from lab.explorer.export import Encoder
from lab.metrics import mse_per_image, ssim_per_image
from lab.split_model import Submission

SHOWN_PER_LABEL = 20  # images to pick from
MEASURED_PER_LABEL = 100  # images behind the figures
CHECK_EACH = 20  # of the images to pick from, the page compares one with torch; debug.js has it too
ACTIVE = 0.01  # nats: a dimension with less KL has collapsed to the prior
VISIBLE = 1 / 255  # a change of one grey level
REACH = 3.0  # how many standard deviations a slider reaches


class Subject:
    """A trained model, measured on a dataset.

    Attributes:
        facts: plain values, for the page's JSON.
        arrays: the images, codes and expected results that the page holds, by name.
        images, labels: the images to pick from, uint8 (n, 28, 28) and int64 (n,).
        codes: their codes z at the posterior mean (n, d); None without an encoder.
    """

    def __init__(self, submission: Submission, dataset: MNISTDataset) -> None:
        self.submission = submission
        self.facts: dict[str, Any] = {
            "task": submission.task,
            "class_name": submission.class_name,
            "latent_dim": submission.latent_dim,
            "parameters": sum(each.numel() for each in submission.model.parameters()),
            "has_encoder": submission.has_encoder,
        }
        self.codes: Tensor | None = None
        shown = some_of_each_label(dataset.labels, SHOWN_PER_LABEL)
        measured = some_of_each_label(dataset.labels, MEASURED_PER_LABEL)
        self.images, self.labels = dataset.images[shown], dataset.labels[shown]
        self.arrays = {"images": self.images, "labels": self.labels.astype(np.uint8)}
        spread = torch.ones(submission.latent_dim)  # (d,), of the codes
        centre = torch.zeros(submission.latent_dim)  # (d,)
        kl = None
        if submission.has_encoder:
            self._show_codes()
            codes, kl = self._measure(dataset.images[measured], dataset.labels[measured])
            spread, centre = codes.std(dim=0, correction=0), codes.mean(dim=0)  # (d,) each
        self._find_use_of_labels()
        self._rank(spread, centre, kl)
        self._expect()

    # ------------------------------------------------------------ the encoder

    def posterior(self, images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return mu, log_var and z without noise, (N, d) each, of images uint8 (N, 28, 28)."""
        zeros = torch.zeros(len(images), self.submission.latent_dim)
        return self._encode(images, labels, zeros)

    @torch.no_grad()
    def _encode(
        self, images: np.ndarray, labels: np.ndarray, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        with self.submission.explained("forward"):
            encoder = Encoder(self.submission).eval()
            mu, log_var, z = encoder(
                to_float(torch.from_numpy(images)), torch.from_numpy(labels), noise
            )
        for name, tensor in (("mu", mu), ("log_var", log_var), ("z", z)):
            self.submission.expect_codes(name, tensor, len(images))
        return mu, log_var, z

    def _show_codes(self) -> None:
        """Store the codes of the images to pick from, and how z comes from mu."""
        mu, log_var, self.codes = self.posterior(self.images, self.labels)
        self.arrays |= {"mu": mu.numpy(), "log_var": log_var.numpy(), "codes": self.codes.numpy()}
        noise = torch.ones_like(mu)
        _, _, noisy = self._encode(self.images, self.labels, noise)
        others = (self.labels + 1) % NUM_CLASSES
        other_mu, _, _ = self.posterior(self.images, others)
        far = 1e-3 * (1 + mu.abs().max())
        self.facts |= {
            "random": bool((noisy - self.codes).abs().max() > 1e-6),
            "transformed": bool((self.codes - mu).abs().max() > far),
            "encoder_sees_label": bool((other_mu - mu).abs().max() > 1e-6),
        }

    def _measure(self, images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Store figures over images; return their codes (N, d) and the KL per dimension (d,)."""
        mu, log_var, codes = self.posterior(images, labels)
        recon = to_uint8(self.submission.decode(codes, torch.from_numpy(labels)))
        # Kingma and Welling 2014, appendix B: KL = -1/2 sum(1 + log sigma^2 - mu^2 - sigma^2).
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).mean(dim=0)  # (d,)
        self.facts |= {
            "measured": len(images),
            "ssim": float(ssim_per_image(recon, images).mean()),
            "mse": float(mse_per_image(recon, images).mean()),
            "kl": float(kl.sum()),
            "sigma": float((0.5 * log_var).exp().mean()),
            "active": int((kl > ACTIVE).sum()),
        }
        typical = [
            codes[labels == label].mean(dim=0) if (labels == label).any() else codes.mean(dim=0)
            for label in range(NUM_CLASSES)
        ]
        self.arrays["typical"] = torch.stack(typical).numpy()  # (10, d)
        return codes, kl

    # ------------------------------------------------------------ the decoder

    def starts(self) -> tuple[Tensor, Tensor]:
        """Return one code (10, d) and label (10,) per label: of images, or else from N(0, I)."""
        if self.codes is None:
            generator = torch.Generator().manual_seed(0)
            z = torch.randn(NUM_CLASSES, self.submission.latent_dim, generator=generator)
            return z, torch.arange(NUM_CLASSES)
        first = some_of_each_label(self.labels, 1)
        return self.codes[first], torch.from_numpy(self.labels[first])

    def _find_use_of_labels(self) -> None:
        """Store what a label can choose: the decoder's image, a typical code, or nothing."""
        z, _ = self.starts()
        first, second = (
            self.submission.decode(z, torch.full((len(z),), label)) for label in (1, 8)
        )
        if (first - second).abs().max() > VISIBLE:
            use = "decoder"
        else:
            use = "codes" if self.submission.has_encoder else "nothing"
        self.facts["labels_choose"] = use

    def _rank(self, spread: Tensor, centre: Tensor, kl: Tensor | None) -> None:
        """Store the dimensions, those that carry most first, with the range of their sliders."""
        if kl is None or self.facts["transformed"]:
            by, weight = "effect", self._effects(spread)
        elif self.facts["random"]:
            by, weight = "kl", kl
        else:
            by, weight = "variance", spread.square()
        low = torch.minimum(centre - REACH * spread, torch.tensor(-REACH))
        high = torch.maximum(centre + REACH * spread, torch.tensor(REACH))
        self.facts["ranked_by"] = by
        self.facts["dimensions"] = [
            {
                "index": int(k),
                "weight": float(weight[k]),
                "kl": None if kl is None else float(kl[k]),
                "low": float(low[k]),
                "high": float(high[k]),
            }
            for k in weight.argsort(descending=True)
        ]

    def _effects(self, spread: Tensor) -> Tensor:
        """Return how much each dimension changes the image, (d,).

        It is the root of the mean squared change of a pixel, in [0, 1], from one standard deviation
        below a code to one above.
        """
        z, labels = self.starts()
        effects = []
        for k in range(self.submission.latent_dim):
            step = torch.zeros_like(z)
            step[:, k] = spread[k]
            below, above = (self.submission.decode(z + way * step, labels) for way in (-1, 1))
            effects.append((above - below).square().mean().sqrt())
        return torch.stack(effects)

    def _expect(self) -> None:
        """Store what torch decodes, so that the page can compare what the browser decodes."""
        z, labels = self.starts()
        images = self.submission.decode(z, labels).flatten(1)  # (10, 784)
        self.arrays |= {
            "check_z": z.numpy(),
            "check_labels": labels.numpy().astype(np.uint8),
            "check_images": images.numpy(),
        }
        if self.codes is not None:
            labels = torch.from_numpy(self.labels)[::CHECK_EACH]
            recon = self.submission.decode(self.codes[::CHECK_EACH], labels)
            self.arrays["check_recon"] = recon.flatten(1).numpy()  # (n / CHECK_EACH, 784)
