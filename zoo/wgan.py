"""Wasserstein GAN: a generator learns from a critic, whose weights are kept in a small box.

Arjovsky, Chintala and Bottou, Wasserstein Generative Adversarial Networks, ICML 2017. It has no
encoder, so only its samples are scored, and it does not look at the label: compare its pooled FID.

Expected: fid 18.623, pooled fid 0.392, raw 0.000 (test split; 315 s)
Command:  python train.py --task Genwithlabel --submission zoo/wgan.py --batch_size 128 --lr 2e-4
          --lr_schedule constant --epochs 60
"""

import torch
from torch import Tensor, nn


class GenModel(nn.Module):
    """The generator learns once every n_critic steps of the critic."""

    n_critic = 5
    box = 0.01  # weights of the critic are kept within -box and box

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        layers: list[nn.Module] = [nn.Linear(latent_dim, 128), nn.LeakyReLU(0.01)]
        for inputs, outputs in ((128, 256), (256, 512), (512, 1024)):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs, eps=0.1)]
            layers += [nn.LeakyReLU(0.01)]
        self.generator = nn.Sequential(*layers, nn.Linear(1024, 784), nn.Tanh())
        self.critic = nn.Sequential(
            *(nn.Linear(784, 512), nn.LeakyReLU(0.01)),
            *(nn.Linear(512, 256), nn.LeakyReLU(0.01)),
            nn.Linear(256, 1),
        )

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of z (B, latent_dim), in [0, 1]."""
        return (self.generator(z) + 1) / 2  # (B, 784)

    def configure_optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Return one optimizer for the generator and one for the critic."""
        nets = (self.generator, self.critic)
        return [torch.optim.RMSprop(net.parameters(), lr=lr) for net in nets]

    def training_step(
        self, x: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer], step: int
    ) -> dict[str, float]:
        """Teach the critic, and now and then the generator; return the critic's distance."""
        of_generator, of_critic = optimizers
        real = 2 * x.flatten(1) - 1  # (B, 784), in [-1, 1] as the generator's
        z = torch.randn(len(x), self.latent_dim, device=x.device)
        # The critic's mean on real images minus that on made ones tends to the distance between
        # the two distributions: equation 2 of the paper.
        distance = self.critic(real).mean() - self.critic(self.generator(z).detach()).mean()
        _step(of_critic, -distance)
        with torch.no_grad():
            for weight in self.critic.parameters():
                weight.clamp_(-self.box, self.box)
        if step % self.n_critic == 0:
            z = torch.randn(len(x), self.latent_dim, device=x.device)
            _step(of_generator, -self.critic(self.generator(z)).mean())
        return {"distance": distance.item()}


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
