"""A digest of what code does: equal for files that differ in comments, docstrings and layout only.

A checkpoint states it beside the hash of the file, so that a file whose comments were edited after
training is still recognised. Nothing is run; the source is only parsed.
"""

from __future__ import annotations

import ast
import hashlib


def code_digest(source: bytes | str) -> str:
    """Return the SHA-256 of the syntax tree of Python source, without docstrings.

    Empty fields are left out, so that the digest does not depend on the version of Python.
    Raises SyntaxError or ValueError if it is no Python, and RecursionError or MemoryError if it is
    nested too deeply for Python itself.
    """
    digest = hashlib.sha256()
    left: list[ast.AST | str] = [ast.parse(source)]
    while left:  # without recursion, because sums of hundreds of terms are nested as deeply
        node = left.pop()
        if isinstance(node, ast.AST):
            left += reversed(_parts(node))
        else:
            digest.update(node.encode(errors="replace") + b"\n")
    return digest.hexdigest()


def _parts(node: ast.AST) -> list[ast.AST | str]:
    """Return the name of a node's type, and its fields by name, in order."""
    found: list[ast.AST | str] = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment") or value is None and name != "value":
            continue
        for one in value if isinstance(value, list) else [value]:
            if name == "body" and _is_text(one):
                continue
            found += [f"{name}:", one] if isinstance(one, ast.AST) else [f"{name}={one!r}"]
    return [*found, "."]


def _is_text(node: object) -> bool:
    """Return whether a statement is only a text, as a docstring is."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
