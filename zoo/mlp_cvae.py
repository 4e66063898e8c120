"""Conditional VAE of small networks: encoder and decoder also see the label.

Sohn, Lee and Yan, Learning Structured Output Representation using Deep Conditional Generative
Models, NeurIPS 2015. Here mu and log sigma come from two separate networks, and only that of mu has
a ReLU.

Expected: ssim 0.7843, mse 0.01704, fid 4.983, raw 25.118 (test split; 39 s)
Command:  python train.py --task Genwithlabel --submission zoo/mlp_cvae.py --latent_dim 10
          --batch_size 100 --lr 3e-3 --epochs 20
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GenModel(nn.Module):
    """The one-hot label is appended to the pixels and to z."""

    hidden = 200

    def __init__(self, latent_dim: int = 10) -> None:
        super().__init__()
        self.to_mu = nn.Sequential(
            nn.Linear(784 + 10, self.hidden),  # (B, hidden)
            nn.ReLU(),
            nn.Linear(self.hidden, latent_dim),  # (B, latent_dim)
        )
        self.to_log_sigma = nn.Sequential(
            nn.Linear(784 + 10, self.hidden),  # (B, hidden)
            nn.Linear(self.hidden, latent_dim),  # (B, latent_dim)
        )
        self.to_image = nn.Sequential(
            nn.Linear(latent_dim + 10, self.hidden),  # (B, hidden)
            nn.ReLU(),
            nn.Linear(self.hidden, 784),  # (B, 784)
            nn.Sigmoid(),
        )

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x, label), each (B, latent_dim)."""
        pixels = with_label(x.flatten(1), labels)  # (B, 794)
        return self.to_mu(pixels), 2 * self.to_log_sigma(pixels)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return z = mu + sigma * noise, (B, latent_dim)."""
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim) and labels (B,): (B, 784), in [0, 1]."""
        return self.to_image(with_label(z, labels))

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return recon_x (B, 784), mu and log_var."""
        mu, log_var = self.encode(x, labels)  # (B, latent_dim) each
        z = self.reparameterize(mu, log_var)  # (B, latent_dim)
        return self.decode(z, labels), mu, log_var


def with_label(values: Tensor, labels: Tensor) -> Tensor:
    """Append the one-hot label to the values: (B, n) to (B, n + 10)."""
    return torch.cat([values, F.one_hot(labels, 10).to(values.dtype)], dim=1)


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return the mean over the batch of ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I))."""
    squared_error = (x.flatten(1) - recon_x).square().sum(dim=1)  # (B,)
    # The lower bound of Sohn et al. 2015, with N(0, I) as the prior of every label. The KL is from
    # Kingma and Welling 2014, appendix B: KL = -1/2 sum(1 + log sigma^2 - mu^2 - sigma^2).
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()
