"""Conditional Wasserstein GAN with gradient penalty.

Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017. In place of clipped weights,
the norm of the critic's gradient is kept near 1 between real and generated images. The critic has
no BatchNorm, because each image is penalised on its own. There is no encoder, so only samples are
scored.

Expected: fid 1.475, pooled fid 0.207, raw 10.013 (test split; 281 s)
Command:  python train.py --task Genwithlabel --submission zoo/wgan_gp.py --batch_size 128
          --lr 5e-4 --epochs 15
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GenModel(nn.Module):
    """The generator takes one step for every n_critic steps of the critic."""

    n_critic = 3
    penalty = 10.0  # the weight of the gradient penalty, lambda in the paper

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.generator = nn.Sequential(
            nn.Linear(latent_dim + 10, 256),  # (B, 256)
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Linear(256, 512),  # (B, 512)
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Linear(512, 1024),  # (B, 1024)
            nn.BatchNorm1d(1024),
            nn.ReLU(),
            nn.Linear(1024, 784),  # (B, 784)
            nn.Sigmoid(),
        )
        self.critic = nn.Sequential(
            nn.Linear(784 + 10, 1024),  # (B, 1024)
            nn.LeakyReLU(0.2),
            nn.Linear(1024, 512),  # (B, 512)
            nn.LeakyReLU(0.2),
            nn.Linear(512, 1),  # (B, 1)
        )

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of z (B, latent_dim) and labels (B,): (B, 784), in [0, 1]."""
        return self.generator(with_label(z, labels))

    def configure_optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Return one optimizer for the generator and one for the critic."""
        networks = (self.generator, self.critic)
        return [torch.optim.Adam(net.parameters(), lr=lr, betas=(0.0, 0.9)) for net in networks]

    def training_step(
        self, x: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer], step: int
    ) -> dict[str, float]:
        """Train the critic, and every n_critic steps the generator; return the critic's distance.

        The distance estimates, up to a constant factor, the Wasserstein distance between real and
        generated images.
        """
        generator_optimizer, critic_optimizer = optimizers
        real = x.flatten(1)  # (B, 784)
        generated = self.decode(self._noise(x), labels).detach()  # (B, 784)
        distance = (self._scores(real, labels) - self._scores(generated, labels)).mean()
        # Equation 3 of Gulrajani et al. 2017: E[f(generated)] - E[f(real)] + lambda penalty.
        penalty = self.penalty * self._gradient_penalty(real, generated, labels)
        take_step(critic_optimizer, penalty - distance)
        if step % self.n_critic == 0:
            generated = self.decode(self._noise(x), labels)
            take_step(generator_optimizer, -self._scores(generated, labels).mean())
        return {"distance": distance.item()}

    def _noise(self, x: Tensor) -> Tensor:
        """Return z ~ N(0, I) for a batch as large as x, (B, latent_dim)."""
        return torch.randn(len(x), self.latent_dim, device=x.device)

    def _scores(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the critic's scores of images (B, 784), (B, 1)."""
        return self.critic(with_label(images, labels))

    def _gradient_penalty(self, real: Tensor, generated: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of (||gradient|| - 1)^2 at random points between pairs of images."""
        share = torch.rand(len(real), 1, device=real.device)
        between = (share * real + (1 - share) * generated).requires_grad_()  # (B, 784)
        scores = self._scores(between, labels).sum()
        (gradient,) = torch.autograd.grad(scores, between, create_graph=True)  # (B, 784)
        return (gradient.norm(dim=1) - 1).square().mean()


def with_label(values: Tensor, labels: Tensor) -> Tensor:
    """Append the one-hot label to the values: (B, n) to (B, n + 10)."""
    return torch.cat([values, F.one_hot(labels, 10).to(values.dtype)], dim=1)


def take_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Change the parameters of the optimizer by one step down the gradient of the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
