"""Wasserstein GAN with a gradient penalty, told the label.

Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017: in place of a box for the
critic's weights, its slope between real and made images is held near 1; no BatchNorm in the critic,
for each image is penalised by itself. It has no encoder, so only its samples are scored.

Expected: fid 1.475, pooled fid 0.207, raw 10.013 (test split; 281 s)
Command:  python train.py --task Genwithlabel --submission zoo/wgan_gp.py --batch_size 128
          --lr 5e-4 --epochs 15
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GenModel(nn.Module):
    """The generator learns once every n_critic steps of the critic."""

    n_critic = 3
    penalty = 10.0

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        layers: list[nn.Module] = []
        widths = (latent_dim + 10, 256, 512, 1024)
        for inputs, outputs in zip(widths, widths[1:]):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
        self.generator = nn.Sequential(*layers, nn.Linear(1024, 784), nn.Sigmoid())
        self.critic = nn.Sequential(
            *(nn.Linear(784 + 10, 1024), nn.LeakyReLU(0.2)),
            *(nn.Linear(1024, 512), nn.LeakyReLU(0.2)),
            nn.Linear(512, 1),
        )

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of z (B, latent_dim) and labels (B,), in [0, 1]."""
        return self.generator(beside_label(z, labels))  # (B, 784)

    def configure_optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Return one optimizer for the generator and one for the critic."""
        nets = (self.generator, self.critic)
        return [torch.optim.Adam(net.parameters(), lr=lr, betas=(0.0, 0.9)) for net in nets]

    def training_step(
        self, x: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer], step: int
    ) -> dict[str, float]:
        """Teach the critic, and now and then the generator; return the critic's distance."""
        of_generator, of_critic = optimizers
        real = x.flatten(1)  # (B, 784)
        made = self.decode(self._noise(x), labels).detach()  # (B, 784)
        distance = (self._judge(real, labels) - self._judge(made, labels)).mean()
        _step(of_critic, self.penalty * self._slope_error(real, made, labels) - distance)
        if step % self.n_critic == 0:
            made = self.decode(self._noise(x), labels)
            _step(of_generator, -self._judge(made, labels).mean())
        return {"distance": distance.item()}

    def _noise(self, x: Tensor) -> Tensor:
        return torch.randn(len(x), self.latent_dim, device=x.device)

    def _judge(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.critic(beside_label(images, labels))  # (B, 1)

    def _slope_error(self, real: Tensor, made: Tensor, labels: Tensor) -> Tensor:
        """Mean of (||slope|| - 1)^2 at random places between real and made: equation 3."""
        share = torch.rand(len(real), 1, device=real.device)
        between = (share * real + (1 - share) * made).requires_grad_()
        scores = self._judge(between, labels).sum()
        (slope,) = torch.autograd.grad(scores, between, create_graph=True)  # (B, 784)
        return (slope.norm(dim=1) - 1).square().mean()


def beside_label(values: Tensor, labels: Tensor) -> Tensor:
    """Put ten one-hot numbers beside the values: (B, n) to (B, n + 10)."""
    return torch.cat([values, F.one_hot(labels, 10).to(values.dtype)], dim=1)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
