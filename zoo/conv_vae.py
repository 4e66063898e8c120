"""Convolutional VAE: two to four layers that halve the image, and their mirror.

Kingma and Welling 2014 with the layers of Radford, Metz and Chintala, Unsupervised Representation
Learning with Deep Convolutional GANs, ICLR 2016. Variants: --variant depth=4, depth=0 (fully
connected only), attention=True (self-attention over the places of the last maps).

Expected: ssim 0.9066, mse 0.00882, raw 10.678 (test split; 72 s)
Command:  python train.py --submission zoo/conv_vae.py --var 0.05
"""

import torch
from torch import Tensor, nn

SIDES = (28, 14, 7, 4, 2)  # of the maps after each layer
CHANNELS = (1, 32, 64, 128, 256)


class Attention(nn.Module):
    """Let each place of the maps look at all others (Vaswani et al. 2017), added to what it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, num_heads=4, batch_first=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape (B, C, H, W)."""
        places = maps.flatten(2).transpose(1, 2)  # (B, H W, C)
        looked, _ = self.attention(places, places, places, need_weights=False)
        return maps + looked.transpose(1, 2).reshape(maps.shape)


class VAE(nn.Module):
    """depth convolutions down, depth transposed convolutions up; depth 0 is one dense layer."""

    depth = 3
    attention = False

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        channels, side = CHANNELS[self.depth], SIDES[self.depth]
        down, up = [], []
        for i in range(self.depth):
            layer = nn.Conv2d(CHANNELS[i], CHANNELS[i + 1], 3, stride=2, padding=1)
            down += [keep_the_signal(layer), nn.LeakyReLU(0.2)]
        for i in reversed(range(self.depth)):
            # An even side is twice the one below it, an odd one is one less.
            even = 1 - SIDES[i] % 2
            layer = nn.ConvTranspose2d(CHANNELS[i + 1], CHANNELS[i], 3, 2, 1, output_padding=even)
            # The last one makes the image, and does well to begin near grey.
            up += [nn.LeakyReLU(0.2), keep_the_signal(layer) if i else layer]
        if self.attention:
            down += [Attention(channels)]
            up = [Attention(channels), *up]
        if self.depth == 0:
            width = 400
            down = [nn.Flatten(), nn.Linear(784, width), nn.LeakyReLU(0.2)]
            up = [nn.LeakyReLU(0.2), nn.Linear(width, 784), nn.Unflatten(1, (1, 28, 28))]
        else:
            width = channels * side * side
            down = [*down, nn.Flatten()]
            up = [nn.Unflatten(1, (channels, side, side)), *up]
        self.to_features = nn.Sequential(*down)
        self.to_mu = nn.Linear(width, latent_dim)
        self.to_log_var = nn.Linear(width, latent_dim)
        self.to_image = nn.Sequential(nn.Linear(latent_dim, width), *up, nn.Sigmoid())

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x), each (B, latent_dim)."""
        features = self.to_features(x)  # (B, width)
        return self.to_mu(features), self.to_log_var(features)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return z = mu + sigma * noise."""
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)  # (B, latent_dim)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim), in [0, 1]."""
        return self.to_image(z)  # (B, 1, 28, 28)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstructions of x, mu and log_var."""
        mu, log_var = self.encode(x, labels)
        return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var


def keep_the_signal(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """Draw first weights with which a signal is as large after the layer as before it.

    He et al., Delving Deep into Rectifiers, ICCV 2015. torch's own shrink it: after four layers
    the image hardly moves the output, and training stands still for epochs.
    """
    upward = isinstance(layer, nn.ConvTranspose2d)
    mode = "fan_out" if upward else "fan_in"  # torch swaps the two where it is transposed
    nn.init.kaiming_normal_(layer.weight, a=0.2, mode=mode)
    nn.init.zeros_(layer.bias)
    if upward:  # with stride 2 a pixel meets a quarter of the kernel
        layer.weight.data *= 2
    return layer


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I)), a mean over the batch."""
    squared_error = (x - recon_x).square().flatten(1).sum(dim=1)  # (B,)
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()
