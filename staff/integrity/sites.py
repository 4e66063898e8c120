"""Places in a submission that questions can be asked about: lines of sums, layers, activations, ...

`syntax.py` runs it in a process with limits. The source is parsed and never run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

ACTIVATIONS = {"relu", "gelu", "silu", "elu", "leaky_relu", "tanh", "softplus", "mish"}
LAYERS = {"Linear": 2, "Conv2d": 3, "ConvTranspose2d": 3}  # leading numbers that are read
NAMES = {"in_features", "out_features", "in_channels", "out_channels", "kernel_size"}
MAX_SITES = 500


@dataclass(frozen=True)
class Site:
    """One place.

    Attributes:
        kind: "sum" and "mean" of the loss, "exp" of half of log_var, "layer", "activation",
            "one_hot", "sigmoid" or "noise".
        line: its number.
        where: the function that it is in.
        detail: of a sum "kl" or "recon"; of a layer its type; of an activation its name.
        sizes: of a layer, the numbers it begins with.
    """

    kind: str
    line: int
    where: str
    detail: str = ""
    sizes: tuple[int, ...] = ()


def sites_of(source: str) -> list[dict[str, Any]]:
    """Return the places as plain values. Raises what `ast.parse` raises."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            found += [asdict(site) for site in _in_function(node)]
    return sorted(found, key=lambda site: site["line"])[:MAX_SITES]


def _in_function(function: ast.FunctionDef) -> Iterator[Site]:
    arguments = [one.arg for one in function.args.args]
    where, is_loss = function.name, function.name == "vae_loss" and len(arguments) >= 4
    for node in ast.walk(function):
        if is_loss and isinstance(node, ast.Return) and _calls(node, "mean"):
            yield Site("mean", node.lineno, where)
        if not isinstance(node, ast.Call):
            continue
        name = _name(node.func)
        if is_loss and name == "sum" and (node.keywords or _numbers(node)):
            detail = _term(node, arguments)
            if detail:
                yield Site("sum", node.lineno, where, detail)
        elif name == "exp" and not is_loss and any(map(_halves, ast.walk(node))):
            yield Site("exp", node.lineno, where)
        elif name in LAYERS:
            sizes = _numbers(node)[: LAYERS[name]]
            if len(sizes) == LAYERS[name]:
                yield Site("layer", node.lineno, where, name, tuple(sizes))
        elif name in ACTIVATIONS and where in ("encode", "decode", "forward"):
            yield Site("activation", node.lineno, where, name)
        elif name == "one_hot" or name == "eye" and _numbers(node) == [10]:
            yield Site("one_hot", node.lineno, where)
        elif name in ("sigmoid", "Sigmoid"):
            yield Site("sigmoid", node.lineno, where)
        elif name in ("randn_like", "randn", "rsample"):
            yield Site("noise", node.lineno, where)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _calls(node: ast.AST, name: str) -> bool:
    return any(isinstance(one, ast.Call) and _name(one.func) == name for one in ast.walk(node))


def _numbers(call: ast.Call) -> list[int]:
    """Return the whole numbers among the arguments of a call, in order."""
    values = [*call.args, *(one.value for one in call.keywords if one.arg in NAMES)]
    return [
        one.value
        for one in values
        if isinstance(one, ast.Constant) and type(one.value) is int and 0 <= one.value < 1_000_000
    ]


def _term(call: ast.Call, arguments: list[str]) -> str:
    """Return which term of the loss a sum is, by the arguments of vae_loss that are in it."""
    used = {one.id for one in ast.walk(call) if isinstance(one, ast.Name)}
    if used >= set(arguments[2:4]):
        return "kl"
    return "recon" if used >= set(arguments[:2]) else ""


def _halves(node: ast.AST) -> bool:
    """Return whether an expression halves something."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Mult, ast.Div)):
        return False
    sides = [one.value for one in (node.left, node.right) if isinstance(one, ast.Constant)]
    return (0.5 if isinstance(node.op, ast.Mult) else 2) in sides
