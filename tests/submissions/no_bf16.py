"""A VAE that raises in bf16, so that the Trainer must fall back to fp32."""

import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, latent_dim=20):
        super().__init__()
        self.mu = nn.Linear(784, latent_dim)
        self.log_var = nn.Linear(784, latent_dim)
        self.dec = nn.Linear(latent_dim, 784)
        self.mix = nn.Parameter(torch.eye(latent_dim))

    def encode(self, x, labels):
        mu = self.mu(x.flatten(1))
        if mu.dtype != torch.float32:
            raise RuntimeError("this layer is written for float32")
        return mu, self.log_var(x.flatten(1))

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z, labels):
        return torch.sigmoid(self.dec(z @ self.mix))

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    recon = (recon_x - x.flatten(1)).square().sum(1) / (2 * var)
    kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)
    return (recon + kl).mean()
