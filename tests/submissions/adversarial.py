"""A tiny GAN: two optimizers and its own training_step, no encoder and no vae_loss."""

import torch
from torch import nn


class GenModel(nn.Module):
    def __init__(self, latent_dim=20):
        super().__init__()
        self.latent_dim = latent_dim
        self.generator = nn.Sequential(nn.Linear(latent_dim, 784), nn.Sigmoid())
        self.critic = nn.Linear(784, 1)

    def decode(self, z, labels):
        return self.generator(z)

    def configure_optimizers(self, lr):
        return [
            torch.optim.RMSprop(self.critic.parameters(), lr=lr),
            torch.optim.RMSprop(self.generator.parameters(), lr=lr),
        ]

    def training_step(self, x, labels, optimizers, step):
        critic_optimizer, generator_optimizer = optimizers
        z = torch.randn(len(x), self.latent_dim, device=x.device)
        fake = self.decode(z, labels)
        critic_loss = (self.critic(fake.detach()) - self.critic(x.flatten(1))).mean()
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        with torch.no_grad():
            for parameter in self.critic.parameters():
                parameter.clamp_(-0.05, 0.05)
        generator_loss = -self.critic(fake).mean()
        generator_optimizer.zero_grad()
        generator_loss.backward()
        generator_optimizer.step()
        return {"critic": critic_loss, "generator": generator_loss}
