"""Convolutions with BatchNorm, extra constructor arguments, and a loss with cross-entropy."""

import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self, input_dim=784, hidden_dim=64, latent_dim=20, num_classes=10, img_size=28):
        super().__init__()
        self.img_size = img_size
        self.conv = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
        )
        self.fc = nn.Linear(16 * 16, hidden_dim)
        self.fc_mu = nn.Linear(hidden_dim, latent_dim)
        self.fc_var = nn.Linear(hidden_dim, latent_dim)
        self.up = nn.Linear(latent_dim, 16 * 7 * 7)
        self.deconv = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 3, 2, 1, output_padding=1),
            nn.Sigmoid(),
        )

    def encode(self, x, labels):
        h = F.relu(self.fc(self.conv(x)))
        return self.fc_mu(h), self.fc_var(h)

    def reparameterize(self, mu, log_var):
        if self.training:
            return mu + torch.randn_like(mu) * torch.exp(log_var / 2)
        return mu

    def decode(self, z, labels):
        return self.deconv(self.up(z).view(-1, 16, 7, 7))

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        z = self.reparameterize(mu, log_var)
        # (B, 28, 28)
        return self.decode(z, labels).squeeze(1), mu, log_var


class GenModel(VAE):
    def __init__(self, input_dim=784, hidden_dim=64, latent_dim=20, num_classes=10, img_size=28):
        super().__init__(input_dim, hidden_dim, latent_dim, num_classes, img_size)
        self.num_classes = num_classes
        self.label_fc = nn.Linear(num_classes, latent_dim)

    def decode(self, z, labels):
        """Decode with labels of rank 0, 1 or 2; others are an error."""
        assert labels.dim() in (0, 1, 2), "labels: (), (B,) or (B, 1)"
        if labels.dim() == 0:
            labels = labels.repeat(z.shape[0])
        if labels.dim() == 2:
            assert labels.shape[1] == 1
            labels = labels.squeeze(1)
        one_hot = F.one_hot(labels, self.num_classes).float()
        return super().decode(z + self.label_fc(one_hot), labels)


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    bce = F.binary_cross_entropy(recon_x.reshape(-1, 784), x.reshape(-1, 784), reduction="sum")
    kld = -0.5 * torch.sum(1 + log_var - mu**2 - torch.exp(log_var))
    return (bce / var + kld) / x.size(0)
