"""第一次作业：变分自编码器。 encode takes x only; no type hints, comments in Chinese."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class VAE(nn.Module):
    def __init__(self, latent_dim=20):
        super().__init__()
        # 编码器：两个全连接层
        self.fc1 = nn.Linear(784, 200)
        self.fc21 = nn.Linear(200, latent_dim)
        self.fc22 = nn.Linear(200, latent_dim)
        # 解码器
        self.fc3 = nn.Linear(latent_dim, 200)
        self.fc4 = nn.Linear(200, 784)

    def encode(self, x):
        # 输入必须是 (B, 784)
        assert x.dim() == 2 and x.size(1) == 784
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def reparameterize(self, mu, log_var):
        std = torch.exp(0.5 * log_var)
        return mu + std * torch.randn_like(std)

    def decode(self, z, labels=None):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x, labels):
        # 先展平，再编码；在评估模式下也采样
        mu, log_var = self.encode(x.view(-1, 784))
        z = self.reparameterize(mu, log_var)
        return self.decode(z, labels), mu, log_var


class GenModel(VAE):
    def __init__(self, latent_dim=20):
        super().__init__(latent_dim)
        self.emb = nn.Embedding(10, latent_dim)

    def decode(self, z, labels=None):
        return super().decode(z + self.emb(labels))


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    # 对整个批次求和，而不是求平均
    recon = ((recon_x - x.view(-1, 784)) ** 2).sum() / (2 * var)
    kld = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
    return recon + kld
