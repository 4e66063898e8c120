"""A VAE that fits the contract, but computes nan in some training steps.

The class attributes set the first such step and the number of such steps.
"""

import torch
from torch import nn


class VAE(nn.Module):
    first_bad, bad_steps = 3, 10**9

    def __init__(self, latent_dim=20):
        super().__init__()
        self.steps = 0
        self.norm = nn.BatchNorm1d(784)
        self.stats = nn.Linear(784, 2 * latent_dim)
        self.dec = nn.Linear(latent_dim, 784)

    def encode(self, x, labels):
        x = x.flatten(1)
        if self.training and torch.is_grad_enabled() and len(x) > 8:
            self.steps += 1
            if self.first_bad < self.steps <= self.first_bad + self.bad_steps:
                x = x / 0
        return self.stats(self.norm(x)).chunk(2, dim=1)

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z, labels):
        return torch.sigmoid(self.dec(z))

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    recon = (recon_x - x.flatten(1)).square().sum(1) / (2 * var)
    kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)
    return (recon + kl).mean()
