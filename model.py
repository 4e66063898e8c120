"""An example to copy from: a small fully connected VAE, and the same with labels.

python train.py --submission model.py                       (about 15 s on two cores)
python train.py --submission model.py --task Genwithlabel
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VAE(nn.Module):
    """784 - 400 - latent_dim - 400 - 784, LeakyReLU(0.2), sigmoid output.

    label_dim: the number of values that the label adds to both inputs; 0 without labels.
    """

    def __init__(self, latent_dim: int = 20, hidden_dim: int = 400, label_dim: int = 0) -> None:
        super().__init__()
        self.hidden = nn.Linear(784 + label_dim, hidden_dim)  # (B, hidden_dim)
        self.mu = nn.Linear(hidden_dim, latent_dim)  # (B, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)  # (B, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim + label_dim, hidden_dim),  # (B, hidden_dim)
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, 784),  # (B, 784)
            nn.Sigmoid(),
        )

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x), each (B, latent_dim)."""
        hidden = F.leaky_relu(self.hidden(x.flatten(1)), 0.2)  # (B, hidden_dim)
        return self.mu(hidden), self.log_var(hidden)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return z = mu + sigma * noise, a sample of N(mu, sigma^2), (B, latent_dim)."""
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim): (B, 784), in [0, 1]."""
        return self.decoder(z)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return recon_x (B, 784), mu and log_var."""
        mu, log_var = self.encode(x, labels)
        return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var


class GenModel(VAE):
    """A conditional VAE: the one-hot label (10 numbers) is appended to the pixels and to z."""

    def __init__(self, latent_dim: int = 20, hidden_dim: int = 400) -> None:
        super().__init__(latent_dim, hidden_dim, label_dim=10)

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x, label), each (B, latent_dim)."""
        return super().encode(torch.cat([x.flatten(1), F.one_hot(labels, 10)], dim=1), labels)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim) and labels (B,): (B, 784), in [0, 1]."""
        return super().decode(torch.cat([z, F.one_hot(labels, 10)], dim=1), labels)


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return the mean over the batch of ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I))."""
    squared_error = F.mse_loss(recon_x.flatten(1), x.flatten(1), reduction="none").sum(dim=1)
    # Kingma and Welling 2014, appendix B: KL = -1/2 sum(1 + log sigma^2 - mu^2 - sigma^2).
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()
