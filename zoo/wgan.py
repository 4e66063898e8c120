"""Wasserstein GAN: a generator learns from a critic whose weights are clipped.

Arjovsky, Chintala and Bottou, Wasserstein Generative Adversarial Networks, ICML 2017. It has no
encoder, so only its samples are scored. It does not use the label: compare its pooled FID.

Expected: fid 18.623, pooled fid 0.392, raw 0.000 (test split; 315 s)
Command:  python train.py --task Genwithlabel --submission zoo/wgan.py --batch_size 128 --lr 2e-4
          --lr_schedule constant --epochs 60
"""

import torch
from torch import Tensor, nn


class GenModel(nn.Module):
    """The generator takes one step for every n_critic steps of the critic."""

    n_critic = 5
    clip = 0.01  # the weights of the critic stay in [-clip, clip]

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.generator = nn.Sequential(
            nn.Linear(latent_dim, 128),  # (B, 128)
            nn.LeakyReLU(0.01),
            nn.Linear(128, 256),  # (B, 256)
            nn.BatchNorm1d(256, eps=0.1),
            nn.LeakyReLU(0.01),
            nn.Linear(256, 512),  # (B, 512)
            nn.BatchNorm1d(512, eps=0.1),
            nn.LeakyReLU(0.01),
            nn.Linear(512, 1024),  # (B, 1024)
            nn.BatchNorm1d(1024, eps=0.1),
            nn.LeakyReLU(0.01),
            nn.Linear(1024, 784),  # (B, 784)
            nn.Tanh(),
        )
        self.critic = nn.Sequential(
            nn.Linear(784, 512),  # (B, 512)
            nn.LeakyReLU(0.01),
            nn.Linear(512, 256),  # (B, 256)
            nn.LeakyReLU(0.01),
            nn.Linear(256, 1),  # (B, 1)
        )

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of z (B, latent_dim): (B, 784), in [0, 1]."""
        return (self.generator(z) + 1) / 2

    def configure_optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Return one optimizer for the generator and one for the critic."""
        networks = (self.generator, self.critic)
        return [torch.optim.RMSprop(network.parameters(), lr=lr) for network in networks]

    def training_step(
        self, x: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer], step: int
    ) -> dict[str, float]:
        """Train the critic, and every n_critic steps the generator; return the critic's distance.

        The distance estimates, up to a constant factor, the Wasserstein distance between real and
        generated images.
        """
        generator_optimizer, critic_optimizer = optimizers
        real = 2 * x.flatten(1) - 1  # (B, 784), in [-1, 1] like the generator's
        z = torch.randn(len(x), self.latent_dim, device=x.device)
        # Equation 2 of Arjovsky et al. 2017: the critic f maximises E[f(real)] - E[f(generated)].
        distance = self.critic(real).mean() - self.critic(self.generator(z).detach()).mean()
        take_step(critic_optimizer, -distance)
        with torch.no_grad():
            for weight in self.critic.parameters():
                weight.clamp_(-self.clip, self.clip)
        if step % self.n_critic == 0:
            z = torch.randn(len(x), self.latent_dim, device=x.device)
            take_step(generator_optimizer, -self.critic(self.generator(z)).mean())
        return {"distance": distance.item()}


def take_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Change the parameters of the optimizer by one step down the gradient of the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
