"""A VAE without reparameterize: forward draws the noise itself, in evaluation mode too."""

import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, latent_dim=20):
        super().__init__()
        self.enc = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.Tanh())
        self.stats = nn.Linear(64, 2 * latent_dim)
        self.dec = nn.Sequential(nn.Linear(latent_dim, 784), nn.Sigmoid())

    def encode(self, x, labels):
        return self.stats(self.enc(x)).chunk(2, dim=1)

    def decode(self, z, labels):
        return self.dec(z).view(-1, 1, 28, 28)

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        z = mu + torch.exp(0.5 * log_var) * torch.randn(mu.shape, device=mu.device)
        return self.decode(z=z, labels=labels), mu, log_var


GenModel = VAE


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    recon = torch.sum((recon_x - x) ** 2, dim=(1, 2, 3)) / (2 * var)
    kl = -0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=1)
    return torch.mean(recon + kl)
