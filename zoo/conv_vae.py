"""Convolutional VAE: two to four convolutions that halve the image, and a mirrored decoder.

The loss is that of Kingma and Welling 2014; the layers follow Radford, Metz and Chintala,
Unsupervised Representation Learning with Deep Convolutional GANs, ICLR 2016. Variants: --variant
depth=4, depth=0 (fully connected layers only), attention=True (self-attention over the positions of
the smallest feature maps), kaiming=False (PyTorch's initial weights).

Expected: ssim 0.9066, mse 0.00882, raw 10.678 (test split; 72 s)
Command:  python train.py --submission zoo/conv_vae.py --var 0.05
"""

import torch
from torch import Tensor, nn

SIDES = (28, 14, 7, 4, 2)  # of the feature maps, after 0 to 4 convolutions
CHANNELS = (1, 32, 64, 128, 256)


class Attention(nn.Module):
    """Self-attention over the positions of the feature maps, with a residual connection.

    Vaswani et al., Attention Is All You Need, NeurIPS 2017.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, num_heads=4, batch_first=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape, (B, C, H, W)."""
        positions = maps.flatten(2).transpose(1, 2)  # (B, H W, C)
        attended, _ = self.attention(positions, positions, positions, need_weights=False)
        return maps + attended.transpose(1, 2).reshape(maps.shape)


class VAE(nn.Module):
    """depth convolutions down, depth transposed convolutions up; depth 0 is one hidden layer."""

    depth = 3
    attention = False
    kaiming = True  # see init_kaiming; False: PyTorch's initial weights

    def __init__(self, latent_dim: int = 20) -> None:
        super().__init__()
        channels, side = CHANNELS[self.depth], SIDES[self.depth]
        down: list[nn.Module] = []
        for i in range(self.depth):
            conv = nn.Conv2d(CHANNELS[i], CHANNELS[i + 1], 3, stride=2, padding=1)
            if self.kaiming:
                init_kaiming(conv)
            down.append(conv)  # (B, CHANNELS[i + 1], SIDES[i + 1], SIDES[i + 1])
            down.append(nn.LeakyReLU(0.2))
        up: list[nn.Module] = []
        for i in reversed(range(self.depth)):
            extra = 1 - SIDES[i] % 2  # an even side is twice the smaller one, an odd side one less
            conv_t = nn.ConvTranspose2d(CHANNELS[i + 1], CHANNELS[i], 3, 2, 1, output_padding=extra)
            # The last layer keeps PyTorch's smaller weights: first images are near grey.
            if self.kaiming and i > 0:
                init_kaiming(conv_t)
            up.append(nn.LeakyReLU(0.2))
            up.append(conv_t)  # (B, CHANNELS[i], SIDES[i], SIDES[i])
        if self.attention:
            down.append(Attention(channels))
            up.insert(0, Attention(channels))
        if self.depth == 0:
            width = 400
            down = [
                nn.Flatten(),  # (B, 784)
                nn.Linear(784, width),  # (B, width)
                nn.LeakyReLU(0.2),
            ]
            up = [
                nn.LeakyReLU(0.2),
                nn.Linear(width, 784),  # (B, 784)
                nn.Unflatten(1, (1, 28, 28)),  # (B, 1, 28, 28)
            ]
        else:
            width = channels * side * side
            down.append(nn.Flatten())  # (B, width)
            up.insert(0, nn.Unflatten(1, (channels, side, side)))  # (B, channels, side, side)
        self.to_features = nn.Sequential(*down)
        self.to_mu = nn.Linear(width, latent_dim)  # (B, latent_dim)
        self.to_log_var = nn.Linear(width, latent_dim)  # (B, latent_dim)
        self.to_image = nn.Sequential(
            nn.Linear(latent_dim, width),  # (B, width)
            *up,  # (B, 1, 28, 28)
            nn.Sigmoid(),
        )

    def encode(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log_var of q(z|x), each (B, latent_dim)."""
        features = self.to_features(x)  # (B, width)
        return self.to_mu(features), self.to_log_var(features)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """Return z = mu + sigma * noise, (B, latent_dim)."""
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the images of codes z (B, latent_dim): (B, 1, 28, 28), in [0, 1]."""
        return self.to_image(z)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return recon_x (B, 1, 28, 28), mu and log_var."""
        mu, log_var = self.encode(x, labels)  # (B, latent_dim) each
        z = self.reparameterize(mu, log_var)  # (B, latent_dim)
        return self.decode(z, labels), mu, log_var


def init_kaiming(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Initialise a layer of stride 2 so that its output has the variance of its input.

    He et al., Delving Deep into Rectifiers, ICCV 2015. PyTorch's default weights shrink the signal:
    after four layers the input hardly affects the output, and the loss stays constant for epochs.
    """
    if isinstance(layer, nn.ConvTranspose2d):
        nn.init.kaiming_normal_(layer.weight, a=0.2, mode="fan_out")  # its weight is (in, out, ...)
        # With stride 2, only a quarter of the kernel reaches each output pixel.
        layer.weight.data *= 2
    else:
        nn.init.kaiming_normal_(layer.weight, a=0.2, mode="fan_in")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def vae_loss(recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, var: float = 0.5) -> Tensor:
    """Return the mean over the batch of ||x - recon_x||^2 / (2 var) + KL(q(z|x) || N(0, I))."""
    squared_error = (x - recon_x).square().flatten(1).sum(dim=1)  # (B,)
    # Kingma and Welling 2014, appendix B: KL = -1/2 sum(1 + log sigma^2 - mu^2 - sigma^2).
    kl_divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,)
    return (squared_error / (2 * var) + kl_divergence).mean()
