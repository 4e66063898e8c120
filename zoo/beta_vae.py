"""beta-VAE: a factor, beta, trades sharp reconstructions for codes that can be sampled.

Higgins et al., beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework,
ICLR 2017. Here the squared error is a mean over pixels and the KL divergence a mean over latent
dimensions, so beta = 1 weighs one dimension as much as 39 pixels. Variants: --variant beta=0.1,
beta=0 (an autoencoder), hidden1=400,hidden2=200.

Expected: ssim 0.7045, mse 0.02401, raw 8.599 (test split; 64 s)
Command:  python train.py --submission zoo/beta_vae.py --variant beta=0.05 --batch_size 128
          --lr 1e-3 --epochs 20
"""

import torch
from torch import Tensor, nn


class VAE(nn.Module):
    """Two hidden layers in the encoder and two in the decoder."""

    beta = 0.05
    hidden1 = 512
    hidden2 = 256

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        self.to_hidden = nn.Sequential(
            nn.Flatten(),  # (B, 784)
            nn.Linear(784, self.hidden1),  # (B, hidden1)
            nn.ReLU(),
            nn.Linear(self.hidden1, self.hidden2),  # (B, hidden2)
            nn.ReLU(),
        )
        self.to_mu = nn.Linear(self.hidden2, latent_dim)  # (B, latent_dim)
        self.to_log_var = nn.Linear(self.hidden2, latent_dim)  # (B, latent_dim)
        self.to_image = nn.Sequential(
            nn.Linear(latent_dim, self.hidden2),  # (B, hidden2)
            nn.ReLU(),
            nn.Linear(self.hidden2, self.hidden1),  # (B, hidden1)
            nn.ReLU(),
            nn.Linear(self.hidden1, 784),  # (B, 784)
            nn.Sigmoid(),
        )

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x), each (B, latent_dim)."""
        hidden = self.to_hidden(x)  # (B, hidden2)
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

    def compute_loss(self, x: Tensor, labels: Tensor, var: float) -> dict[str, Tensor]:
        """Return the loss, mse + beta * kl, and its two parts; var is not used."""
        recon_x, mu, log_var = (value.float() for value in self(x, labels))
        mse = (x.flatten(1) - recon_x).square().mean()
        # Kingma and Welling 2014, appendix B: KL = -1/2 sum(1 + log sigma^2 - mu^2 - sigma^2).
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).mean()
        # Higgins et al. 2017, equation 4: maximise E[log p(x|z)] - beta KL(q(z|x) || p(z)).
        return {"loss": mse + self.beta * kl, "mse": mse, "kl": kl}
