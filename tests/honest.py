"""Honest, unusual designs, which have all completion points. Each is a whole submission."""

from __future__ import annotations

from mistakes import BASE, KL, MEAN, RECON

START = """
import torch
from torch import nn
import torch.nn.functional as F


class Base(nn.Module):
    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    recon = (recon_x.flatten(1) - x.flatten(1)).square().sum(1) / (2 * var)
    return (recon + 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)).mean()

"""
TRANSFORMER = (
    START
    + '''
class VAE(Base):
    """16 patches of 7 x 7, each a token; one more token is read out."""

    def __init__(self, latent_dim=20, classes=0):
        super().__init__()
        self.classes = classes
        self.patch = nn.Linear(49, 32)
        self.place = nn.Parameter(0.02 * torch.randn(17, 32))
        layer = lambda: nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer(), 1, enable_nested_tensor=False)
        self.head = nn.Linear(32, 2 * latent_dim)
        self.start = nn.Linear(latent_dim + classes, 16 * 32)
        self.decoder = nn.TransformerEncoder(layer(), 1, enable_nested_tensor=False)
        self.pixels = nn.Linear(32, 49)
        self.summary = nn.Linear(max(classes, 1), 32)

    def label(self, labels):
        if self.classes:
            return F.one_hot(labels, self.classes).float()
        return torch.ones(len(labels), 1)

    def encode(self, x, labels):
        patches = F.unfold(x, 7, stride=7).transpose(1, 2)  # (B, 16, 49)
        first = self.summary(self.label(labels)).unsqueeze(1)
        tokens = torch.cat([first, self.patch(patches)], 1) + self.place
        return self.head(self.encoder(tokens)[:, 0]).chunk(2, dim=1)

    def decode(self, z, labels):
        if self.classes:
            z = torch.cat([z, self.label(labels)], 1)
        tokens = self.start(z).reshape(len(z), 16, 32)
        patches = self.pixels(self.decoder(tokens)).transpose(1, 2)  # (B, 49, 16)
        return torch.sigmoid(F.fold(patches, 28, 7, stride=7))


class GenModel(VAE):
    def __init__(self, latent_dim=20):
        super().__init__(latent_dim, 10)
'''
)
RESIDUAL = (
    START
    + '''
class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.b(F.silu(self.a(F.silu(self.norm(x)))))


class VAE(Base):
    """Label planes: a label is 10 more channels of the image and of the decoder's maps."""

    def __init__(self, latent_dim=20, planes=0):
        super().__init__()
        self.planes = planes
        self.encoder = nn.Sequential(
            nn.Conv2d(1 + planes, 16, 4, 2, 1), Block(16), nn.Conv2d(16, 32, 4, 2, 1), Block(32)
        )
        self.mu, self.log_var = nn.Linear(32 * 49, latent_dim), nn.Linear(32 * 49, latent_dim)
        self.grow = nn.Linear(latent_dim, 32 * 49)
        self.decoder = nn.Sequential(
            nn.Conv2d(32 + planes, 32, 1), Block(32), nn.ConvTranspose2d(32, 16, 4, 2, 1),
            Block(16), nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid(),
        )

    def with_planes(self, maps, labels):
        if not self.planes:
            return maps
        y = F.one_hot(labels, 10).float()[:, :, None, None]
        return torch.cat([maps, y.expand(-1, -1, *maps.shape[2:])], 1)

    def encode(self, x, labels):
        h = self.encoder(self.with_planes(x, labels)).flatten(1)
        return self.mu(h), self.log_var(h)

    def decode(self, z, labels):
        maps = self.grow(z).reshape(-1, 32, 7, 7)
        return self.decoder(self.with_planes(maps, labels))


class GenModel(VAE):
    def __init__(self, latent_dim=20):
        super().__init__(latent_dim, 10)
'''
)
EMBEDDING = (
    START
    + '''
class VAE(Base):
    def __init__(self, latent_dim=20):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.LayerNorm(128), nn.ELU())
        self.codes = nn.Linear(128, 2 * latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 128), nn.LayerNorm(128), nn.ELU(), nn.Linear(128, 784)
        )

    def encode(self, x, labels):
        return self.codes(self.encoder(x)).chunk(2, 1)

    def decode(self, z, labels):
        return self.decoder(z).sigmoid()


class GenModel(VAE):
    """The label is an embedding, added to z. The encoder does not see it."""

    def __init__(self, latent_dim=20):
        super().__init__(latent_dim)
        self.embedding = nn.Embedding(10, latent_dim)

    def decode(self, z, labels):
        return super().decode(z + self.embedding(labels), labels)
'''
)
MIXED_DECODERS = (
    START
    + '''
class VAE(Base):
    """No ReLU at all: sine activations, and images (B, 28, 28)."""

    def __init__(self, latent_dim=20):
        super().__init__()
        self.a, self.b = nn.Linear(784, 64), nn.Linear(64, latent_dim)
        self.c = nn.Linear(64, latent_dim)
        self.d, self.e = nn.Linear(latent_dim, 64), nn.Linear(64, 784)

    def encode(self, x, labels):
        h = torch.sin(self.a(x.reshape(len(x), 784)))
        return self.b(h), self.c(h).clamp(-8, 8)

    def decode(self, z, labels):
        return torch.sigmoid(self.e(torch.sin(self.d(z)))).reshape(-1, 28, 28)


class GenModel(VAE):
    """Ten decoders, one per label."""

    def __init__(self, latent_dim=20):
        super().__init__(latent_dim)
        self.e = nn.Linear(64, 784 * 10)

    def decode(self, z, labels):
        images = self.e(torch.sin(self.d(z))).reshape(-1, 10, 28, 28)
        return torch.sigmoid(images[torch.arange(len(z)), labels])
'''
)
LEARNED_PRIOR = (
    START
    + '''
class VAE(Base):
    """The prior of each label is a Gaussian whose mean and scale are trained with the rest.

    forward standardises z, so that N(0, I) is what decode expects; decode undoes this. The scale
    does not start at 1, and the mean not at 0.
    """

    def __init__(self, latent_dim=20, classes=1):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ELU())
        self.codes = nn.Linear(128, 2 * latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 128), nn.ELU(), nn.Linear(128, 784))
        self.prior_mean = nn.Parameter(2 * torch.randn(classes, latent_dim))
        self.prior_log_scale = nn.Parameter(0.5 + torch.randn(classes, latent_dim))

    def encode(self, x, labels):
        return self.codes(self.encoder(x)).chunk(2, 1)

    def to_standard(self, z, labels):
        return (z - self.prior_mean[labels]) * torch.exp(-self.prior_log_scale[labels])

    def from_standard(self, z, labels):
        return self.prior_mean[labels] + z * torch.exp(self.prior_log_scale[labels])

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        z = self.to_standard(self.reparameterize(mu, log_var), labels)
        return self.decode(z, labels), mu, log_var

    def decode(self, z, labels):
        return self.decoder(self.from_standard(z, labels)).sigmoid()

    def compute_loss(self, x, labels, var):
        recon_x, mu, log_var = self(x, labels)
        scale = self.prior_log_scale[labels]
        mu, log_var = self.to_standard(mu, labels), log_var - 2 * scale
        return {"loss": vae_loss(recon_x, x, mu, log_var, var)}


class GenModel(VAE):
    def __init__(self, latent_dim=20):
        super().__init__(latent_dim, 10)
'''
)
OLD_STYLE = '''
import torch
import torch.nn as nn


class VAE(nn.Module):
    """As the original scaffold's students write it: forward flattens, encode(x) has no labels."""

    def __init__(self, input_dim=784, hidden_dim=100, latent_dim=20):
        super(VAE, self).__init__()
        self.encoder = nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.BatchNorm1d(hidden_dim),
                                     nn.ReLU())
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, hidden_dim), nn.BatchNorm1d(hidden_dim),
                                     nn.ReLU(), nn.Linear(hidden_dim, input_dim), nn.Sigmoid())

    def encode(self, x):
        h = self.encoder(x)
        return self.mu(h), self.log_var(h)

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(log_var / 2) * torch.randn(mu.shape)

    def decode(self, z, labels=None):
        return self.decoder(z)

    def forward(self, x, labels):
        x = x.view(-1, 784)
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        return self.decode(z, labels), mu, log_var


class GenModel(nn.Module):
    def __init__(self, input_dim=784, hidden_dim=100, latent_dim=20, num_classes=10):
        super(GenModel, self).__init__()
        self.num_classes = num_classes
        self.encoder = nn.Sequential(nn.Linear(input_dim + num_classes, hidden_dim), nn.ReLU())
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim + num_classes, hidden_dim), nn.ReLU(),
                                     nn.Linear(hidden_dim, input_dim), nn.Sigmoid())

    def one_hot(self, labels):
        return torch.eye(self.num_classes)[labels.long().view(-1)]

    def encode(self, x, labels):
        h = self.encoder(torch.cat([x, self.one_hot(labels)], dim=-1))
        return self.mu(h), self.log_var(h)

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(log_var / 2) * torch.randn(mu.shape)

    def decode(self, z, labels):
        return self.decoder(torch.cat([z, self.one_hot(labels)], dim=-1)).view(-1, 28, 28)

    def forward(self, x, labels):
        mu, log_var = self.encode(x.reshape(-1, 784), labels)
        z = self.reparameterize(mu, log_var)
        return self.decode(z, labels), mu, log_var


def vae_loss(recon_x, x, mu, log_var, var=0.5):
    x = x.view(-1, 784)
    recon = torch.sum((x - recon_x.view(-1, 784)) ** 2) / (2 * var)
    kld = -0.5 * torch.sum(1 + log_var - mu ** 2 - torch.exp(log_var))
    return (recon + kld) / x.shape[0]
'''


def _edited(*edits: tuple[str, str]) -> str:
    text = BASE.read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


BCE = "F.binary_cross_entropy(recon_x.view(B, -1), x.view(B, -1), reduction='none').sum(1)"
HONEST = {
    "fully connected": BASE.read_text(encoding="utf-8"),
    "transformer": TRANSFORMER,
    "residual network with label planes": RESIDUAL,
    "embedding added to z": EMBEDDING,
    "a decoder per label, sine activations": MIXED_DECODERS,
    "a learned prior, standardised in forward": LEARNED_PRIOR,
    "old style, forward flattens": OLD_STYLE,
    "BCE, weighed by var": _edited((RECON, f"{BCE} / (2 * var)")),
    "L1 distance": _edited(
        (RECON, "(recon_x.view(B, -1) - x.view(B, -1)).abs().sum(1) / (2 * var)")
    ),
    "sums divided by the batch size": _edited(
        (RECON, RECON.replace("sum(dim=1)", "sum()")),
        (KL, KL.replace("sum(dim=1)", "sum()")),
        (MEAN, "return (recon + kl) / B"),
    ),
    "torch.distributions": _edited(
        (
            KL,
            "torch.distributions.kl_divergence(torch.distributions.Normal(mu, (0.5 * log_var)."
            "exp()), torch.distributions.Normal(0.0, 1.0)).sum(1)",
        ),
    ),
    "GaussianNLL and batch of images": _edited(
        (
            RECON,
            "F.gaussian_nll_loss(recon_x.view(B, -1), x.view(B, -1), torch.full((B, 784), var),"
            " reduction='none').sum(1) - 392 * torch.tensor(var).log()",
        ),
    ),
    "drawn without the method": _edited(
        (
            "z = self.reparameterize(mu, log_var)",
            "z = torch.distributions.Normal(mu, (0.5 * log_var).exp()).rsample()",
        ),
    ),
}
