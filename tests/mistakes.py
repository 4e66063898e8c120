"""Typical mistakes of students, and what each costs.

Each mistake edits `submissions/student.py`, which has all points. `costs` are the points that it
loses, per TODO; `words` are in the problem or the hint that the student reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BASE = Path(__file__).resolve().parent / "submissions" / "student.py"
EVERYWHERE = -1


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        name: what the student did.
        old, new: the edit.
        costs: the points lost, by TODO.
        words: parts of the message.
        which: the place of the edit among equal ones, from 0, or EVERYWHERE.
    """

    name: str
    old: str
    new: str
    costs: dict[str, int]
    words: tuple[str, ...]
    which: int = 0

    @property
    def text(self) -> str:
        """The submission with the mistake. Raises ValueError if the edit does not apply."""
        text = BASE.read_text(encoding="utf-8")
        parts = text.split(self.old)
        if len(parts) < 2 + max(self.which, 0):
            raise ValueError(f"{self.name}: {BASE.name} does not have {self.old!r}")
        if self.which == EVERYWHERE:
            return self.new.join(parts)
        before, after = parts[: self.which + 1], parts[self.which + 1 :]
        return self.old.join(before) + self.new + self.old.join(after)


RECON = "((recon_x.view(B, -1) - x.view(B, -1)) ** 2).sum(dim=1) / (2 * var)"
KL = "-0.5 * (1 + log_var - mu.pow(2) - log_var.exp()).sum(dim=1)"
SIGMOID = "torch.sigmoid(self.fc3(h))"
RETURNED = "return self.fc_mu(h), self.fc_log_var(h)"
OUTPUTS = "return recon_x, mu, log_var"
DECODED = "h = F.relu(self.fc2(torch.cat([z, y], dim=1)))"
DRAWN = "z = self.reparameterize(mu, log_var)"
MEAN = "return (recon + kl).mean()"

MISTAKES = [
    # ---------------------------------------------------------------- layers
    Mistake(
        "latent_dim ignored",
        "nn.Linear(256, latent_dim)",
        "nn.Linear(256, 20)",
        {"2.2.1": 1},
        ("latent_dim=8, mu has 20 values",),
        EVERYWHERE,
    ),
    Mistake(
        "layers not assigned to self",
        "self.fc1 = nn.Linear(784, 256)",
        "fc1 = nn.Linear(784, 256)",
        {"2.2.2": 4},
        ("no attribute 'fc1'", "in __init__"),
    ),
    Mistake(
        "super().__init__() forgotten",
        "super().__init__()\n",
        "pass\n",
        {"2.2.1": 4, "2.2.2": 4, "2.2.3": 4, "3.1": 4, "3.2": 4, "3.3": 6},
        ("super().__init__()",),
    ),
    Mistake(
        "a layer made in decode",
        "h = F.relu(self.fc2(z))",
        "h = F.relu(nn.Linear(self.latent_dim, 256)(z))",
        {"2.2.1": 1},
        ("in __init__",),
    ),
    Mistake(
        "a layer that nothing uses",
        "self.fc3 = nn.Linear(256, 784)",
        "self.fc3 = nn.Linear(256, 784)\n        self.extra = nn.Linear(5, 5)",
        {"2.2.1": 1},
        ("no gradient reaches extra",),
    ),
    # ---------------------------------------------------------------- encode
    Mistake(
        "image not flattened",
        "self.fc1(x.view(x.size(0), -1))",
        "self.fc1(x)",
        {"2.2.2": 4},
        ("flatten the image",),
    ),
    Mistake(
        "view(-1) that mixes rows",
        "self.fc1(x.view(x.size(0), -1))",
        "self.fc1(x.transpose(0, 3).reshape(x.size(0), -1))",
        {"2.2.2": 1},
        ("other images in the batch",),
    ),
    Mistake(
        "sigma for log_var",
        RETURNED,
        "return self.fc_mu(h), (0.5 * self.fc_log_var(h)).exp()",
        {"2.2.2": 1},
        ("log_var is never negative", "logarithm itself"),
    ),
    Mistake(
        "variance for log_var",
        RETURNED,
        "return self.fc_mu(h), self.fc_log_var(h).exp()",
        {"2.2.2": 1},
        ("log_var is never negative",),
    ),
    Mistake(
        "ReLU on mu and log_var",
        RETURNED,
        "return F.relu(self.fc_mu(h)), F.relu(self.fc_log_var(h))",
        {"2.2.2": 1},
        ("never negative", "no ReLU"),
    ),
    Mistake(
        "mu alone returned",
        RETURNED,
        "return self.fc_mu(h)",
        {"2.2.2": 4},
        ("expected mu and log_var",),
    ),
    Mistake(
        "detach on mu",
        RETURNED,
        "return self.fc_mu(h).detach(), self.fc_log_var(h)",
        {"2.2.2": 1},
        ("no gradient flows from mu", "detach"),
    ),
    Mistake(
        "x changed in place",
        "h = F.relu(self.fc1(x.view(x.size(0), -1)))",
        "x -= 0.1\n        h = F.relu(self.fc1(x.view(x.size(0), -1)))",
        {"2.2.2": 1},
        ("changes x in place",),
    ),
    Mistake(
        "squeeze() that breaks a batch of one",
        RETURNED,
        "return self.fc_mu(h).squeeze(), self.fc_log_var(h).squeeze()",
        {"2.2.2": 1},
        ("one image", "squeeze()"),
    ),
    Mistake(
        "dropout that never ends",
        "h = F.relu(self.fc1(x.view(x.size(0), -1)))",
        "h = F.dropout(F.relu(self.fc1(x.view(x.size(0), -1))))",
        {"2.2.2": 1},
        ("in evaluation mode", "nn.Dropout"),
    ),
    # ---------------------------------------------------------------- decode
    Mistake("no sigmoid", SIGMOID, "self.fc3(h)", {"2.2.3": 1}, ("expected [0, 1]", "sigmoid")),
    Mistake("no sigmoid, twice", SIGMOID, "self.fc3(h)", {"2.2.3": 1}, ("sigmoid",), EVERYWHERE),
    Mistake(
        "sigmoid twice",
        SIGMOID,
        f"torch.sigmoid({SIGMOID})",
        {"2.2.3": 1},
        ("and 0.7", "one sigmoid"),
    ),
    Mistake("tanh for sigmoid", SIGMOID, "torch.tanh(self.fc3(h))", {"2.2.3": 1}, ("sigmoid",)),
    Mistake(
        "all images in one row",
        ".view(-1, 1, 28, 28)",
        ".view(1, -1)",
        {"2.2.3": 1},
        ("(1, 3920)", "one image per code"),
    ),
    Mistake(
        "fixed batch size",
        ".view(-1, 1, 28, 28)",
        ".view(64, 1, 28, 28)",
        {"2.2.3": 4},
        ("depends on the batch",),
    ),
    Mistake(
        "codes mixed by batch statistics",
        "h = F.relu(self.fc2(z))",
        "h = F.relu(self.fc2((z - z.mean(0)) / (z.std(0, unbiased=False) + 1e-3)))",
        {"2.2.3": 1},
        ("other codes in the batch",),
    ),
    Mistake(
        "z does not reach the image",
        "h = F.relu(self.fc2(z))",
        "h = F.relu(self.fc2(0 * z))",
        {"2.2.1": 0, "2.2.3": 1},
        ("all codes have the same",),
    ),
    Mistake(
        "device fixed",
        "h = F.relu(self.fc2(z))",
        "h = F.relu(self.fc2(z.to('cuda')))",
        {"2.2.3": 4},
        ("do not name a device",),
    ),
    # ---------------------------------------------------------------- forward
    Mistake("decode(mu)", DRAWN, "z = mu", {"2.2.4": 1}, ("z is mu, without noise",)),
    Mistake(
        "mu and log_var swapped",
        OUTPUTS,
        "return recon_x, log_var, mu",
        {"2.2.4": 1},
        ("in the place of mu is log_var",),
    ),
    Mistake(
        "z returned for mu",
        OUTPUTS,
        "return recon_x, z, log_var",
        {"2.2.4": 1},
        ("in the place of mu is something else",),
    ),
    Mistake(
        "recon_x alone returned",
        OUTPUTS,
        "return recon_x",
        {"2.2.4": 3},
        ("expected recon_x, mu, log_var",),
    ),
    Mistake("detach on z", DRAWN, f"{DRAWN}.detach()", {"2.2.4": 1}, ("no gradient flows from z",)),
    Mistake(
        "decode twice",
        OUTPUTS,
        "self.decode(mu, labels)\n        " + OUTPUTS,
        {"2.2.4": 1},
        ("2 times",),
    ),
    Mistake(
        "exp(log_var) for the standard deviation",
        "torch.exp(0.5 * log_var)",
        "torch.exp(log_var)",
        {"2.2.4": 1},
        ("which is the variance",),
    ),
    Mistake(
        "noise drawn once, in __init__",
        "eps = torch.randn_like(std)",
        "eps = torch.linspace(-2, 2, std.numel()).reshape(std.shape)",
        {"2.2.4": 1},
        ("same noise in each call",),
    ),
    Mistake(
        "uniform noise around mu",
        "return mu + std * eps",
        "return mu + eps",
        {"2.2.4": 1},
        ("not multiplied by sigma",),
    ),
    # ---------------------------------------------------------------- the loss
    Mistake(
        "loss summed over the batch",
        MEAN,
        "return (recon + kl).sum()",
        {"2.3": 2},
        ("summed over the batch",),
    ),
    Mistake("a loss per image", MEAN, "return recon + kl", {"2.3": 2}, ("expected one number",)),
    Mistake("mean over pixels", RECON, RECON.replace("sum", "mean"), {"2.3": 2}, ("784 pixels",)),
    Mistake(
        "F.mse_loss as it comes",
        RECON,
        "F.mse_loss(recon_x.view(B, -1), x.view(B, -1)) / (2 * var)",
        {"2.3": 2},
        ("784 pixels",),
    ),
    Mistake(
        "2 var forgotten",
        RECON,
        RECON.removesuffix(" / (2 * var)"),
        {"2.3": 2},
        ("var has no effect", "2 * var"),
    ),
    Mistake(
        "divided by var",
        RECON,
        RECON.replace("(2 * var)", "var"),
        {"2.3": 2},
        ("2 times what it should be",),
    ),
    Mistake(
        "var squared",
        RECON,
        RECON.replace("2 * var", "2 * var**2"),
        {"2.3": 2},
        ("to the power 2",),
    ),
    Mistake(
        "a tutorial's BCE",
        RECON,
        "F.binary_cross_entropy(recon_x.view(B, -1), x.view(B, -1), reduction='sum') / B",
        {"2.3": 2},
        ("var has no effect",),
    ),
    Mistake(
        "no reconstruction term",
        MEAN,
        "return kl.mean()",
        {"2.3": 5},
        ("squared error of recon_x and x",),
    ),
    Mistake(
        "shapes that broadcast",
        RECON,
        "((recon_x.view(B, 784) - x.view(B, 1, 784)) ** 2).sum(dim=2).mean(dim=1) / (2 * var)",
        {"2.3": 3},
        ("pairs each image",),
    ),
    Mistake("KL sign", KL, KL.removeprefix("-"), {"2.3": 2}, ("wrong sign", "minus in front")),
    Mistake("KL factor", KL, KL.replace("0.5 * ", ""), {"2.3": 1}, ("1/2 is missing",)),
    Mistake(
        "KL averaged over dimensions",
        KL,
        KL.replace("sum", "mean"),
        {"2.3": 2},
        ("averaged over the 20 latent dimensions",),
    ),
    Mistake(
        "KL without the 1", KL, KL.replace("1 + ", ""), {"2.3": 1}, ("is the 1 in the formula",)
    ),
    Mistake(
        "KL with sigma for the variance",
        KL,
        KL.replace("log_var.exp()", "(0.5 * log_var).exp()"),
        {"2.3": 2},
        ("which is sigma",),
    ),
    Mistake(
        "KL without sigma",
        KL,
        KL.replace(" - log_var.exp()", ""),
        {"2.3": 2},
        ("expected 0.5 mu^2 + 0.5 exp(log_var)",),
    ),
    Mistake("mu not squared", KL, KL.replace("mu.pow(2)", "mu"), {"2.3": 2}, ("mu",)),
    Mistake(
        "no KL term",
        MEAN,
        "return recon.mean()",
        {"2.3": 6},
        ("does not depend on mu and log_var",),
    ),
    Mistake(
        "the loss as a number",
        MEAN,
        "return (recon + kl).mean().item()",
        {"2.3": 15},
        ("expected a tensor",),
    ),
    # ---------------------------------------------------------------- the label
    Mistake(
        "label ignored in decode",
        DECODED,
        "h = F.relu(self.fc2(torch.cat([z, 0 * y], dim=1)))",
        {"3.3": 3},
        ("the same image for every label",),
    ),
    Mistake(
        "label ignored in encode",
        "torch.cat([x.view(x.size(0), -1), y], dim=1)",
        "torch.cat([x.view(x.size(0), -1), 0 * y], dim=1)",
        {},
        ("does not use the label",),
    ),
    Mistake(
        "label ignored in both",
        "y = F.one_hot(labels, 10).float()",
        "y = torch.zeros(len(labels), 10)",
        {"3.1": 1, "3.3": 3},
        ("the same image for every label",),
        EVERYWHERE,
    ),
    Mistake(
        "label as a number",
        "y = F.one_hot(labels, 10).float()",
        "y = labels.float().view(-1, 1).repeat(1, 10)",
        {"3.3": 1},
        ("a label is a category",),
        EVERYWHERE,
    ),
    Mistake(
        "labels expected as (B, 1)",
        "y = F.one_hot(labels, 10).float()",
        "y = F.one_hot(labels, 10).float().squeeze(1)[:, labels[0, 0]]",
        {"3.3": 6},
        ("labels",),
        1,
    ),
    Mistake(
        "label not appended to z",
        DECODED,
        "h = F.relu(self.fc2(z))",
        {"3.3": 6},
        ("label missing",),
    ),
    Mistake(
        "label not appended to the image",
        "torch.cat([x.view(x.size(0), -1), y], dim=1)",
        "x.view(x.size(0), -1)",
        {"3.2": 4},
        ("label is missing",),
    ),
    Mistake(
        "decode twice, in GenModel",
        OUTPUTS,
        "recon_x = self.decode(z, labels)\n        " + OUTPUTS,
        {"3.4": 1},
        ("2 times",),
        1,
    ),
    Mistake(
        "labels lost on the way",
        "recon_x = self.decode(z, labels)",
        "recon_x = self.decode(z, torch.zeros_like(labels))",
        {"3.4": 1},
        ("does not give its labels to decode",),
        1,
    ),
]
