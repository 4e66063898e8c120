"""Variational autoencoder with one hidden layer: the codes follow a known distribution.

Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014. Unlike mlp_ae.py, it can be sampled:
decode z ~ N(0, I).

Expected: ssim 0.7583, mse 0.01893, raw 9.314 (test split; 28 s)
Command:  python train.py --submission zoo/mlp_vae.py --latent_dim 10 --batch_size 100
          --lr 3e-3 --epochs 20
"""

import torch
from torch import Tensor, nn


class VAE(nn.Module):
    """One hidden layer in the encoder and one in the decoder."""

    hidden = 120

    def __init__(self, latent_dim: int = 10) -> None:
        super().__init__()
        self.to_hidden = nn.Sequential(
            nn.Flatten(),  # (B, 784)
            nn.Linear(784, self.hidden),  # (B, hidden)
            nn.ReLU(),
        )
        self.to_mu = nn.Linear(self.hidden, latent_dim)  # (B, latent_dim)
        self.to_log_var = nn.Linear(self.hidden, latent_dim)  # (B, latent_dim)
        self.to_image = nn.Sequential(
            nn.Linear(latent_dim, self.hidden),  # (B, hidden)
            nn.ReLU(),
            nn.Linear(self.hidden, 784),  # (B, 784)
            nn.Sigmoid(),
        )

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x), each (B, latent_dim)."""
        hidden = self.to_hidden(x)  # (B, hidden)
        return self.to_mu(hidden), self.to_log_var(hidden)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return z = mu + sigma * noise, (B, latent_dim)."""
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim): (B, 784), in [0, 1]."""
        return self.to_image(z)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return recon_x (B, 784), mu and log_var."""
        mu, log_var = self.encode(x, labels)  # (B, latent_dim) each
        z = self.reparameterize(mu, log_var)  # (B, latent_dim)
        return self.decode(z, labels), mu, log_var


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return the mean over the batch of ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I))."""
    squared_error = (x.flatten(1) - recon_x).square().sum(dim=1)  # (B,)
    # Kingma and Welling 2014, appendix B: KL = -1/2 sum(1 + log sigma^2 - mu^2 - sigma^2).
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()
