"""Twenty honest submissions that are written independently, and eleven disguises of a stolen one.

Each honest student solves every part in a way of their own, chosen among the ways that students
write. So two of them share idioms, and no two share a whole solution.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import re
from collections.abc import Callable

import numpy as np

START = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\n"

ONE_HOT = (
    "F.one_hot({y}, 10).float()",
    "torch.eye(10, device={y}.device)[{y}]",
    "torch.zeros(len({y}), 10, device={y}.device).scatter_(1, {y}.unsqueeze(1), 1.0)",
    "self.label_table({y})",
    "nn.functional.one_hot({y}.long(), num_classes=10).to(torch.float32)",
)
FLAT = (
    "{x}.flatten(1)",
    "{x}.view({x}.size(0), -1)",
    "{x}.reshape(-1, 784)",
    "torch.flatten({x}, start_dim=1)",
    "{x}.view(-1, 28 * 28)",
)
NOISE = (
    """        std = torch.exp(0.5 * log_var)
        eps = torch.randn_like(std)
        return mu + eps * std
""",
    """        return mu + (log_var / 2).exp() * torch.randn_like(mu)
""",
    """        sigma = log_var.exp().sqrt()
        noise = torch.randn(mu.shape, device=mu.device)
        return torch.addcmul(mu, sigma, noise)
""",
    """        return torch.distributions.Normal(mu, torch.exp(log_var * 0.5)).rsample()
""",
    """        noise = torch.empty_like(mu).normal_()
        noise = noise * log_var.mul(0.5).exp()
        return noise.add(mu)
""",
)
FORWARD = (
    """        mu, log_var = self.encode(x, labels)
        z = self.reparameterize(mu, log_var)
        recon_x = self.decode(z, labels)
        return recon_x, mu, log_var
""",
    """        m, s = self.encode(x, labels)
        return self.decode(self.reparameterize(m, s), labels), m, s
""",
    """        stats = self.encode(x, labels)
        code = self.reparameterize(*stats)
        return (self.decode(code, labels), *stats)
""",
)
RECON = (
    "    recon = ((recon_x.view(B, -1) - x.view(B, -1)) ** 2).sum(dim=1) / (2 * var)\n",
    """    recon = F.mse_loss(recon_x.reshape(B, -1), x.reshape(B, -1), reduction="none")
    recon = recon.sum(-1) * (0.5 / var)
""",
    """    difference = x.flatten(1) - recon_x.flatten(1)
    recon = torch.einsum("bi,bi->b", difference, difference).div(2 * var)
""",
    """    target, output = x.reshape(B, 784), recon_x.reshape(B, 784)
    recon = torch.pow(target - output, 2).sum(1)
    recon = recon / var / 2
""",
    """    recon = (recon_x.reshape_as(x) - x).square().flatten(1)
    recon = torch.sum(recon, dim=1).mul(1 / (2 * var))
""",
    """    nll = F.mse_loss(recon_x.reshape(B, 784), x.reshape(B, 784), reduction="sum")
    recon = nll / (2.0 * var * B)
""",
)
KL = (
    "    kl = -0.5 * (1 + log_var - mu.pow(2) - log_var.exp()).sum(dim=1)\n",
    """    variance = torch.exp(log_var)
    kl = 0.5 * torch.sum(variance + mu ** 2 - 1.0 - log_var, dim=1)
""",
    """    kl = 0.5 * ((mu * mu).sum(1) + log_var.exp().sum(1) - log_var.sum(1) - mu.shape[1])
""",
    """    posterior = torch.distributions.Normal(mu, torch.exp(0.5 * log_var))
    prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    kl = torch.distributions.kl_divergence(posterior, prior).sum(-1)
""",
    """    terms = torch.stack([mu.square(), log_var.exp(), -log_var])
    kl = (terms.sum(0) - 1).sum(1) / 2
""",
    """    kl = torch.expm1(log_var) - log_var
    kl = (kl + torch.pow(mu, 2)).mul(0.5).sum(-1)
""",
)
END = (
    "    return (recon + kl).mean()\n",
    "    return recon.mean() + kl.mean()\n",
    "    total = recon + kl\n    return torch.mean(total)\n",
)
ACTIVATIONS = ("F.relu", "F.gelu", "F.silu", "F.elu", "torch.tanh", "F.softplus", "F.leaky_relu")
MODULES = ("nn.ReLU", "nn.GELU", "nn.SiLU", "nn.ELU", "nn.Tanh", "nn.Mish", "nn.PReLU")
# Each way is the layers that __init__ makes and the lines that use them. W is the width of what an
# encoder makes and V that of what a decoder takes; A an activation, M its module; X the flat image.
ENCODERS = (
    ("self.fc = nn.Linear(784, W)", "out = A(self.fc(X))"),
    (
        "self.enc = nn.Sequential(nn.Linear(784, 256), nn.BatchNorm1d(256), M(), "
        "nn.Linear(256, W), M())",
        "out = self.enc(X)",
    ),
    (
        "self.c1 = nn.Conv2d(1, 8, kernel_size=3, stride=2, padding=1)\n"
        "self.c2 = nn.Conv2d(8, 16, kernel_size=3, stride=2, padding=1)\n"
        "self.fc = nn.Linear(16 * 7 * 7, W)",
        "maps = A(self.c1(x))\nmaps = A(self.c2(maps))\nout = A(self.fc(maps.flatten(1)))",
    ),
    (
        "sizes = [784, 200, W]\n"
        "self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, sizes[1:]))",
        "out = X\nfor layer in self.layers:\n    out = A(layer(out))",
    ),
    (
        "self.features = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), M(), nn.MaxPool2d(2), "
        "nn.Conv2d(8, 12, 5, padding=2), M(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(588, W))",
        "out = self.features(x)",
    ),
    (
        "self.first, self.again = nn.Linear(784, W), nn.Linear(W, W)\nself.drop = nn.Dropout(0.1)",
        "out = A(self.first(X))\nout = out + self.drop(A(self.again(out)))",
    ),
    (
        "self.patch = nn.Linear(49, 32)\nself.mix = nn.Linear(16 * 32, W)",
        "patches = F.unfold(x, 7, stride=7).transpose(1, 2)\n"
        "out = self.mix(A(self.patch(patches)).reshape(len(x), -1))",
    ),
    (
        "self.rows = nn.GRU(28, W, batch_first=True)",
        "steps, last = self.rows(x.squeeze(1))\nout = last[-1]",
    ),
)
HEADS = (
    (
        "self.mean = nn.Linear(W, D)\nself.spread = nn.Linear(W, D)",
        "return self.mean(out), self.spread(out)",
    ),
    (
        "self.head = nn.Linear(W, 2 * D)",
        "mu, log_var = self.head(out).chunk(2, dim=-1)\nreturn mu, log_var",
    ),
    (
        "self.head = nn.Linear(W, 2 * D)\nself.d = D",
        "both = self.head(out)\nreturn both[:, : self.d], both[:, self.d :].clamp(-10, 10)",
    ),
    (
        "self.head = nn.Linear(W, D * 2)",
        "mu, log_var = self.head(out).view(len(out), 2, -1).unbind(1)\nreturn mu, log_var",
    ),
    (
        "self.to_mu, self.to_log_var = (nn.Linear(W, D) for _ in range(2))",
        "spread = 5 * torch.tanh(self.to_log_var(out) / 5)\nreturn self.to_mu(out), spread",
    ),
    (
        "self.stats = nn.ModuleDict({'mu': nn.Linear(W, D), 'log_var': nn.Linear(W, D)})",
        "return tuple(self.stats[name](out) for name in ('mu', 'log_var'))",
    ),
)
# How the label joins a vector T of N values, which then has N + 10 values or as many as before.
JOINS = (
    (10, "", "T = torch.cat([T, ONEHOT], dim=1)"),
    (0, "self.U = nn.Embedding(10, N)", "T = T + self.U(labels)"),
    (10, "", "y = ONEHOT\nT = torch.hstack((T, y))"),
    (
        0,
        "self.U = nn.Linear(10, 2 * N)",
        "scale, shift = self.U(ONEHOT).chunk(2, 1)\nT = T * (1 + scale) + shift",
    ),
    (0, "self.U = nn.Parameter(0.1 * torch.randn(10, N))", "T = T + self.U[labels]"),
    (0, "self.U = nn.Embedding(10, N)", "gate = torch.sigmoid(self.U(labels))\nT = gate * T"),
    (10, "self.U = nn.Embedding(10, 10)", "T = torch.cat((T, self.U(labels)), -1)"),
)
DECODERS = (
    (
        "self.d1 = nn.Linear(V, 256)\nself.d2 = nn.Linear(256, 784)",
        "h = A(self.d1(z))\nreturn torch.sigmoid(self.d2(h))",
    ),
    (
        "self.dec = nn.Sequential(nn.Linear(V, 128), M(), nn.Linear(128, 300), M(), "
        "nn.Linear(300, 784), nn.Sigmoid())",
        "return self.dec(z).view(-1, 1, 28, 28)",
    ),
    (
        "self.grow = nn.Linear(V, 16 * 7 * 7)\n"
        "self.up1 = nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1)\n"
        "self.up2 = nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1)",
        "maps = self.grow(z).reshape(len(z), 16, 7, 7)\nmaps = A(self.up1(A(maps)))\n"
        "return self.up2(maps).sigmoid()",
    ),
    (
        "self.start = nn.Linear(V, 392)\nself.paint = nn.Conv2d(8, 8, 3, padding=1)\n"
        "self.last = nn.Conv2d(8, 1, 3, padding=1)",
        "maps = A(self.start(z)).unflatten(1, (8, 7, 7))\n"
        "maps = F.interpolate(maps, scale_factor=2)\nmaps = A(self.paint(maps))\n"
        "maps = F.interpolate(maps, scale_factor=2)\nreturn torch.sigmoid(self.last(maps))",
    ),
    (
        "widths = (V, 180, 360)\n"
        "self.steps = nn.ModuleList([nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:])])\n"
        "self.pixels = nn.Linear(360, 784)",
        "for step in self.steps:\n    z = A(step(z))\nimage = self.pixels(z)\n"
        "return 1 / (1 + torch.exp(-image))",
    ),
    (
        "self.wide = nn.Linear(V, 16 * 49)\nself.shuffle = nn.PixelShuffle(4)",
        "tiles = self.wide(z).reshape(-1, 16, 7, 7)\nreturn self.shuffle(tiles).sigmoid()",
    ),
    (
        "self.inner = nn.Linear(V, 240)\nself.norm = nn.LayerNorm(240)\n"
        "self.outer = nn.Linear(240, 784)",
        "z = self.norm(A(self.inner(z)))\nreturn (torch.tanh(self.outer(z)) + 1) / 2",
    ),
)


def honest(number: int) -> str:
    """Return the submission of student `number`, 0 to 19."""
    rng = np.random.default_rng(number)

    def pick(ways):
        return ways[int(rng.integers(len(ways)))]

    encoder, head, decoder = pick(ENCODERS), pick(HEADS), pick(DECODERS)
    joins, noise, forward = (pick(JOINS), pick(JOINS)), pick(NOISE), pick(FORWARD)
    words = {
        "A": pick(ACTIVATIONS),
        "M": pick(MODULES),
        "X": pick(FLAT).format(x="x"),
        "W": str(pick((96, 128, 160, 200))),
        "ONEHOT": pick(ONE_HOT).format(y="labels"),
    }
    text = START
    for name in ("VAE", "GenModel"):
        more = joins if name == "GenModel" else ((0, "", ""), (0, "", ""))
        (wider, table, join), (deeper, other_table, other_join) = more
        after = _with(words, encoder[0], W=words["W"])
        made = [after, _with(words, table, N=words["W"], U="label_in")]
        made += [_with(words, head[0], W=f"{words['W']} + {wider}" if wider else words["W"])]
        made += [_with(words, other_table, N="latent_dim", U="label_out")]
        made += [_with(words, decoder[0], V=f"latent_dim + {deeper}" if deeper else "latent_dim")]
        encode = [encoder[1], _with(words, join, T="out", U="label_in"), head[1]]
        decode = [_with(words, other_join, T="z", U="label_out"), decoder[1]]
        if name == "GenModel" and "label_table" in words["ONEHOT"]:
            made += ["self.label_table = nn.Embedding(10, 10)"]
        text += f"class {name}(nn.Module):\n    def __init__(self, latent_dim=20):\n"
        text += "        super().__init__()\n" + _indented(made)
        text += "\n    def encode(self, x, labels):\n"
        text += _indented(_with(words, line) for line in encode)
        text += "\n    def decode(self, z, labels):\n"
        text += _indented(_with(words, line) for line in decode)
        text += "\n    def reparameterize(self, mu, log_var):\n" + noise
        text += "\n    def forward(self, x, labels):\n" + forward + "\n\n"
    text += "def vae_loss(recon_x, x, mu, log_var, var=0.5):\n    B = x.shape[0]\n"
    return text + pick(RECON) + pick(KL) + pick(END)


def _with(words: dict[str, str], text: str, **more: str) -> str:
    """Put the words into a text in the place of their names."""
    values = {"D": "latent_dim", **words, **more}
    for _ in range(2):  # a word may have another one in it
        text = re.sub(r"\b[A-Z]+\b", lambda match: values.get(match[0], match[0]), text)
    return text


def _indented(blocks) -> str:
    """Return blocks of lines as the body of a method."""
    lines = [line for block in blocks for line in block.split("\n") if line]
    return "".join(f"        {line}\n" for line in lines)


HONEST = [honest(number) for number in range(20)]


# ---------------------------------------------------------------- disguises of one submission

Disguise = Callable[[str], str]
OWN = re.compile(r"\b(?:mu|log_var|std|eps|sigma|noise|h|x|z|y|recon|kl|maps|code|stats|m|s)\b")


def verbatim(text: str) -> str:
    """Return it unchanged."""
    return text


def other_comments(text: str) -> str:
    """Give every line a comment and every function a docstring."""
    lines = []
    for number, line in enumerate(text.split("\n")):
        plain = line.strip() and not line.rstrip().endswith((",", "(", "\\"))
        lines.append(f"{line}  # step {number}: my own idea" if plain and line[0] != "#" else line)
        if line.rstrip().endswith("):") and "def " in line:
            indent = " " * (len(line) - len(line.lstrip()) + 4)
            lines.append(f'{indent}"""This is what I thought about in week {number}."""')
    return "\n".join(lines)


class _Renamed(ast.NodeTransformer):
    """Gives new names to arguments, variables and attributes of self; keeps the contract's."""

    KEPT = {
        "self",
        "latent_dim",
        "encode",
        "decode",
        "forward",
        "reparameterize",
        "vae_loss",
        "var",
    }
    KEPT |= {"VAE", "GenModel", "torch", "nn", "F", "__init__", "super", "recon_x", "labels"}

    def __init__(self, tree: ast.AST) -> None:
        own = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _stored(n)}
        own |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        own |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _stored(n)}
        # vae_loss is called by name for var alone; forward gives x and labels by position.
        self.names = {name: f"thing_{i}" for i, name in enumerate(sorted(own - self.KEPT))}

    def visit_Name(self, node):
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node):
        node.arg = self.names.get(node.arg, node.arg)
        return node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            node.attr = self.names.get(node.attr, node.attr)
        return node


def _stored(node: ast.Name | ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def renamed(text: str) -> str:
    """Rename every variable, argument and layer."""
    tree = ast.parse(text)
    return ast.unparse(_Renamed(tree).visit(tree))


def reordered(text: str) -> str:
    """Turn the order of methods around, put the loss first, and swap the sides of sums."""

    class Swapped(ast.NodeTransformer):
        def visit_BinOp(self, node):
            self.generic_visit(node)
            if isinstance(node.op, (ast.Add, ast.Mult)):
                node.left, node.right = node.right, node.left
            return node

        def visit_ClassDef(self, node):
            self.generic_visit(node)
            node.body.reverse()
            return node

    tree = Swapped().visit(ast.parse(text))
    imports = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    rest = [n for n in tree.body if n not in imports and n not in classes]
    tree.body = [*imports, *rest, *classes]
    return ast.unparse(tree)


def numbers_changed(text: str) -> str:
    """Change the widths of the hidden layers."""
    for old, new in (("96", "104"), ("128", "140"), ("160", "150"), ("200", "220"), ("256", "240")):
        text = re.sub(rf"\b{old}\b", new, text)
    return re.sub(r"\b300\b", "310", text)


def with_dead_code(text: str) -> str:
    """Put a statement that does nothing after every second one."""

    class Padded(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            body = []
            for number, one in enumerate(node.body):
                body.append(one)
                if number % 2 == 0 and not isinstance(one, ast.Return):
                    body.append(ast.parse(f"unused_{number} = [{number}]").body[0])
            node.body = body
            return node

    return ast.unparse(ast.fix_missing_locations(Padded().visit(ast.parse(text))))


def extracted(text: str, steps: bool = False) -> str:
    """Move what long assignments and returns compute to functions of their own.

    steps: with a variable in each function, and a call that does nothing.
    """
    tree = ast.parse(text)
    made: list[str] = []
    for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
        if function.name not in ("vae_loss", "decode", "encode"):
            continue
        for one in function.body:
            if isinstance(one, (ast.Assign, ast.Return)) and len(list(ast.walk(one))) > 15:
                assert one.value is not None
                used = [n for n in ast.walk(one.value) if isinstance(n, ast.Name)]
                inner = {n.id for n in used if _stored(n)}  # of a comprehension
                names = sorted({n.id for n in used} - inner - {*dir(builtins), "torch", "nn", "F"})
                call, value = f"step_{len(made)}({', '.join(names)})", ast.unparse(one.value)
                short = f"    return {value}\n"
                long = f"    value = {value}\n    str(value)\n    return value\n"
                made.append(f"def {call}:\n{long if steps else short}")
                one.value = ast.parse(call, mode="eval").body
    tree.body[3:3] = ast.parse("\n".join(made)).body
    return ast.unparse(tree)


def extracted_in_steps(text: str) -> str:
    """Move what long assignments and returns compute to functions with two more statements."""
    return extracted(text, steps=True)


def one_call_per_line(text: str) -> str:
    """Give every call and every sum or product outside of __init__ a line and a variable."""
    tree, number = ast.parse(text), itertools.count()
    repeated = (ast.ListComp, ast.GeneratorExp)

    def taken_apart(one: ast.AST, lines: list[ast.stmt]) -> ast.AST:
        for name, value in () if isinstance(one, repeated) else ast.iter_fields(one):
            if isinstance(value, list):
                value = [taken_apart(part, lines) if isinstance(part, ast.expr) else part
                         for part in value]  # fmt: skip
            elif isinstance(value, ast.expr):
                value = taken_apart(value, lines)
            setattr(one, name, value)
        if not isinstance(one, (ast.Call, ast.BinOp)):
            return one
        name = f"part_{next(number)}"
        lines.append(ast.Assign([ast.Name(name, ast.Store())], one))
        return ast.Name(name, ast.Load())

    for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
        body: list[ast.stmt] = []
        for one in function.body:
            if isinstance(one, (ast.Assign, ast.Return)) and function.name != "__init__":
                taken_apart(one, body)
            body.append(one)
        function.body = body
    return ast.unparse(ast.fix_missing_locations(tree))


def everything(text: str) -> str:
    """Rename, reorder, extract, change numbers and pad."""
    return numbers_changed(renamed(reordered(extracted(with_dead_code(text)))))


def half(text: str) -> str:
    """Keep the two classes of the victim, under new names, and write the loss again."""
    loss = text.index("def vae_loss")
    own = honest(7)
    return renamed(text[:loss]) + "\n\n" + own[own.index("def vae_loss") :]


CODE_DISGUISES: dict[str, Disguise] = {
    one.__name__: one
    for one in (
        *(verbatim, other_comments, renamed, reordered, numbers_changed),
        *(with_dead_code, extracted, extracted_in_steps, one_call_per_line, half, everything),
    )
}
