"""Autoencoder: one code per image and no distribution over codes, so it does not sample well.

Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, Science 2006.

Expected: ssim 0.8212, mse 0.01555, raw 9.888 (test split; 28 s)
Command:  python train.py --submission zoo/mlp_ae.py --latent_dim 10 --batch_size 100
          --lr 1e-3 --epochs 20
"""

import torch
from torch import Tensor, nn


class VAE(nn.Module):
    """One hidden layer in the encoder and one in the decoder; z is the code itself."""

    hidden = 256

    def __init__(self, latent_dim: int = 10) -> None:
        super().__init__()
        self.to_code = nn.Sequential(
            nn.Flatten(),  # (B, 784)
            nn.Linear(784, self.hidden),  # (B, hidden)
            nn.ReLU(),
            nn.Linear(self.hidden, latent_dim),  # (B, latent_dim)
        )
        self.to_image = nn.Sequential(
            nn.Linear(latent_dim, self.hidden),  # (B, hidden)
            nn.ReLU(),
            nn.Linear(self.hidden, 784),  # (B, 784)
            nn.Sigmoid(),
        )

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code, and zeros in place of log_var, each (B, latent_dim)."""
        code = self.to_code(x)  # (B, latent_dim)
        return code, torch.zeros_like(code)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return the code unchanged: this model is not random."""
        return mu

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim): (B, 784), in [0, 1]."""
        return self.to_image(z)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return recon_x (B, 784), the code and zeros."""
        code, zeros = self.encode(x, labels)  # (B, latent_dim) each
        return self.decode(self.reparameterize(code, zeros), labels), code, zeros


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return ||x - recon_x||^2, a sum over the pixels, as a mean over the batch."""
    # Hinton and Salakhutdinov 2006 train on the reconstruction error alone.
    return (x.flatten(1) - recon_x).square().sum(dim=1).mean()
