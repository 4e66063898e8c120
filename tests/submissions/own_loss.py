"""A GenModel with optional methods: compute_loss, configure_optimizers, fit_prior."""

import torch
from torch import nn


class GenModel(nn.Module):
    def __init__(self, latent_dim=20):
        super().__init__()
        self.enc = nn.Linear(784, latent_dim)
        self.dec = nn.Linear(latent_dim, 784)
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("fits", torch.zeros(()))

    def encode(self, x, labels):
        mu = self.enc(x.flatten(1))
        return mu, torch.zeros_like(mu)

    def decode(self, z, labels):
        return torch.sigmoid(self.dec(z + self.mean))

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        return self.decode(mu - self.mean, labels), mu, log_var

    def compute_loss(self, x, labels, var):
        recon_x, mu, _ = self(x, labels)
        recon = (recon_x.float() - x.flatten(1)).square().sum(1).mean() / (2 * var)
        weight = mu.float().square().sum(1).mean()
        return {"loss": recon + 0.01 * weight, "recon": recon.detach(), "weight": weight.detach()}

    def configure_optimizers(self, lr):
        return torch.optim.SGD(self.parameters(), lr=lr / 100, momentum=0.9)

    def fit_prior(self, codes, labels):
        assert codes.shape[0] == labels.shape[0]
        self.mean += codes.mean(0)
        self.fits += 1
