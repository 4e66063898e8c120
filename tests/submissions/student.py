"""What many students hand in: fully connected, each TODO written out. mistakes.py edits it."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class VAE(nn.Module):
    def __init__(self, latent_dim=20):
        super().__init__()
        self.latent_dim = latent_dim
        self.fc1 = nn.Linear(784, 256)
        self.fc_mu = nn.Linear(256, latent_dim)
        self.fc_log_var = nn.Linear(256, latent_dim)
        self.fc2 = nn.Linear(latent_dim, 256)
        self.fc3 = nn.Linear(256, 784)

    def encode(self, x, labels):
        h = F.relu(self.fc1(x.view(x.size(0), -1)))
        return self.fc_mu(h), self.fc_log_var(h)

    def reparameterize(self, mu, log_var):
        std = torch.exp(0.5 * log_var)
        eps = torch.randn_like(std)
        return mu + std * eps

    def decode(self, z, labels):
        h = F.relu(self.fc2(z))
        return torch.sigmoid(self.fc3(h)).view(-1, 1, 28, 28)

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        z = self.reparameterize(mu, log_var)
        recon_x = self.decode(z, labels)
        return recon_x, mu, log_var


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    B = x.size(0)
    recon = ((recon_x.view(B, -1) - x.view(B, -1)) ** 2).sum(dim=1) / (2 * var)
    kl = -0.5 * (1 + log_var - mu.pow(2) - log_var.exp()).sum(dim=1)
    return (recon + kl).mean()


class GenModel(VAE):
    def __init__(self, latent_dim=20):
        super().__init__(latent_dim)
        self.fc1 = nn.Linear(784 + 10, 256)
        self.fc2 = nn.Linear(latent_dim + 10, 256)

    def encode(self, x, labels):
        y = F.one_hot(labels, 10).float()
        h = F.relu(self.fc1(torch.cat([x.view(x.size(0), -1), y], dim=1)))
        return self.fc_mu(h), self.fc_log_var(h)

    def decode(self, z, labels):
        y = F.one_hot(labels, 10).float()
        h = F.relu(self.fc2(torch.cat([z, y], dim=1)))
        return torch.sigmoid(self.fc3(h)).view(-1, 1, 28, 28)

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        z = self.reparameterize(mu, log_var)
        recon_x = self.decode(z, labels)
        return recon_x, mu, log_var
