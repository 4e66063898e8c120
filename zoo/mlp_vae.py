"""Variational autoencoder with one hidden layer: codes follow a distribution, so it can be sampled.

Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014.

Expected: ssim 0.7583, mse 0.01893, raw 9.314 (test split; 28 s)
Command:  python train.py --submission zoo/mlp_vae.py --latent_dim 10 --batch_size 100
          --lr 3e-3 --epochs 20
"""

import torch
from torch import Tensor, nn


class VAE(nn.Module):
    """One hidden layer each way."""

    hidden = 120

    def __init__(self, latent_dim: int = 10) -> None:
        super().__init__()
        self.to_hidden = nn.Sequential(nn.Flatten(), nn.Linear(784, self.hidden), nn.ReLU())
        self.to_mu = nn.Linear(self.hidden, latent_dim)
        self.to_log_var = nn.Linear(self.hidden, latent_dim)
        self.to_image = nn.Sequential(
            *(nn.Linear(latent_dim, self.hidden), nn.ReLU()),
            *(nn.Linear(self.hidden, 784), nn.Sigmoid()),
        )

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x), each (B, latent_dim)."""
        hidden = self.to_hidden(x)  # (B, hidden)
        return self.to_mu(hidden), self.to_log_var(hidden)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return z = mu + sigma * noise."""
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)  # (B, latent_dim)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim), in [0, 1]."""
        return self.to_image(z)  # (B, 784)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstructions of x, mu and log_var."""
        mu, log_var = self.encode(x, labels)
        return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I)), a mean over the batch."""
    squared_error = (x.flatten(1) - recon_x).square().sum(dim=1)  # (B,)
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()
