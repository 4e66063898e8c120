"""A VAE that raises for latent_dim 7 and ends its process for 6, until a file exists."""

import os

import torch
import torch.nn as nn


class VAE(nn.Module):
    def __init__(self, latent_dim=20):
        super().__init__()
        if not os.path.exists(os.environ["ALL_IS_FINE"]):
            if latent_dim == 7:
                raise RuntimeError("seven is too many")
            if latent_dim == 6:
                os._exit(1)
        print("built with", latent_dim)
        self.encoder = nn.Linear(784, 2 * latent_dim)
        self.decoder = nn.Linear(latent_dim, 784)

    def encode(self, x, labels):
        return self.encoder(x.flatten(1)).chunk(2, dim=1)

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z, labels):
        return torch.sigmoid(self.decoder(z))

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    error = (recon_x - x.flatten(1)).square().sum(1) / (2 * var)
    kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)
    return (error + kl).mean()
