"""Fingerprints of one source file: the program that `code.py` starts, in a process with limits.

    python -I -S staff/integrity/syntax.py ROOT < submission.py

The source is parsed and never run. Statements that do nothing are left out first, and helper
functions and variables put where they are used (`straight.py`). The syntax tree of each function
then becomes a sequence of words in which names that a student can choose, numbers, texts,
annotations and comments do not count; the operands of a sum and of a product are sorted; a variable
that nothing reads is left out. Functions are taken by themselves, so their order does not matter.
Of the hashes of all runs of K words, winnowing keeps the smallest in each window (Schleimer,
Wilkerson and Aiken, Winnowing: Local Algorithms for Document Fingerprinting, SIGMOD 2003): a common
run of K + WINDOW - 1 words leaves at least one common fingerprint.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any

K, WINDOW = 8, 2
MAX_PRINTS = 20_000
LIMITS = {"AS": 1 << 30, "CPU": 10, "FSIZE": 0, "NPROC": 0, "CORE": 0}  # see setrlimit(2)
LEFT_OUT = (ast.expr_context, ast.Import, ast.ImportFrom)
FIELDS_LEFT_OUT = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx"}
BUILTINS = frozenset(dir(builtins))

Word = tuple[str, int]  # a word and the line that it is on
Print = tuple[int, int, int]  # a hash of 60 bits, and the first and last line of its words


def prints_of(source: str) -> list[Print]:
    """Return the fingerprints of Python source.

    Raises SyntaxError or ValueError if it is no Python, RecursionError, MemoryError.
    """
    from staff.integrity.straight import straighten

    tree = ast.parse(source)
    straighten(tree)
    reader = _Reader(_imported(tree))
    found: dict[Print, None] = {}
    for words in reader.units(tree):
        found |= dict.fromkeys(_winnowed(words))
    return list(found)[:MAX_PRINTS]


def _imported(tree: ast.AST) -> dict[str, str]:
    """Return the names that imports bind and what each stands for, such as torch.nn.functional."""
    bound = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
    return bound


class _Reader:
    """Turns a syntax tree into words.

    Args:
        imported: what `_imported` returned.
    """

    def __init__(self, imported: dict[str, str]) -> None:
        self.imported = imported
        self.unread: set[str] = set()  # variables of the current function that nothing reads

    def units(self, tree: ast.AST) -> Iterator[list[Word]]:
        """Yield the words of each function, and of the statements outside of functions."""
        outside: list[Word] = []
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.ClassDef):
                yield from self.units(node)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
                read = {one.id for one in names if isinstance(one.ctx, ast.Load)}
                self.unread = {one.id for one in names} - read
                yield self.words(node, 0)
                self.unread = set()
                inner = [one for one in ast.walk(node) if isinstance(one, ast.ClassDef)]
                for one in inner:
                    yield from self.units(one)
            else:
                outside += self.words(node, 0)
        yield outside

    def words(self, node: ast.AST, line: int) -> list[Word]:
        """Return the words of a node, itself before its parts."""
        line = getattr(node, "lineno", line)
        if isinstance(node, LEFT_OUT) or self._does_nothing(node):
            return []
        if isinstance(node, ast.Name):
            return [(self.name_of(node), line)]
        if isinstance(node, ast.Constant):
            return [(_constant(node.value), line)]
        if isinstance(node, ast.Attribute):
            return self.attribute(node, line)
        if isinstance(node, ast.arg):
            return [("arg", line)]
        if isinstance(node, ast.keyword):
            return [(f"{node.arg}=", line), *self.words(node.value, line)]
        if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            return self.words(node.operand, line)  # -1 is a number
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
            sides = [self.words(side, line) for side in _operands(node, type(node.op))]
            sides.sort(key=lambda words: [word for word, _ in words])
            return [(type(node.op).__name__, line), *(word for side in sides for word in side)]
        found = [(type(node).__name__, line)]
        for name, value in ast.iter_fields(node):
            if name in FIELDS_LEFT_OUT:
                continue
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, ast.AST):
                    found += self.words(one, line)
        return found

    def _does_nothing(self, node: ast.AST) -> bool:
        """Return whether a statement only sets variables that nothing reads, without a call."""
        if not isinstance(node, (ast.Assign, ast.AnnAssign)):
            return False
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        unread = all(isinstance(one, ast.Name) and one.id in self.unread for one in targets)
        return unread and not any(isinstance(one, ast.Call) for one in ast.walk(node))

    def name_of(self, node: ast.Name) -> str:
        if node.id in self.imported:
            return self.imported[node.id]
        return node.id if node.id in BUILTINS or node.id == "self" else "name"

    def attribute(self, node: ast.Attribute, line: int) -> list[Word]:
        """Return `torch.nn.Linear` as one word, an attribute of self as its kind alone."""
        parts, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            parts.append(base.attr)
            base = base.value
        if isinstance(base, ast.Name) and base.id in self.imported:
            return [(".".join([self.imported[base.id], *reversed(parts)]), line)]
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return [("self.name", line)]
        return [(f".{node.attr}", line), *self.words(node.value, line)]


def _operands(node: ast.expr, kind: type) -> list[ast.expr]:
    """Return the operands of a sum or product of any length."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, kind):
        return [*_operands(node.left, kind), *_operands(node.right, kind)]
    return [node]


def _constant(value: object) -> str:
    if isinstance(value, (bool, type(None))):
        return repr(value)
    return "text" if isinstance(value, (str, bytes)) else "number"


def _winnowed(words: list[Word]) -> Iterator[Print]:
    """Yield the fingerprints of a sequence of words: of each window, the smallest hash."""
    hashes = []
    for first in range(len(words) - K + 1):
        run = words[first : first + K]
        digest = hashlib.blake2b("\n".join(word for word, _ in run).encode(), digest_size=8)
        lines = [line for _, line in run]
        value = int.from_bytes(digest.digest(), "big") >> 4
        hashes.append((value, min(lines), max(lines)))
    last = -1
    for first in range(max(len(hashes) - WINDOW + 1, min(len(hashes), 1))):
        window = range(first, min(first + WINDOW, len(hashes)))
        smallest = min(window, key=lambda place: (hashes[place][0], -place))
        if smallest != last:
            last = smallest
            yield hashes[smallest]


# ---------------------------------------------------------------- the process


def limit() -> None:
    """Lower what this process may use. Only on Linux, where submissions are graded."""
    if sys.platform == "linux":
        import resource

        for name, most in LIMITS.items():
            which = getattr(resource, f"RLIMIT_{name}")
            _, hard = resource.getrlimit(which)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(which, (most, most))


def main() -> None:
    """Read source from standard input; write what is known of it, or an error, as JSON."""
    sys.path.insert(0, sys.argv[1])
    from lab.code_digest import code_digest
    from staff.integrity.sites import sites_of

    limit()
    answer: dict[str, Any]
    try:
        source = sys.stdin.buffer.read().decode("utf-8-sig")
        answer = {"digest": code_digest(source), "prints": prints_of(source)}
        answer["sites"] = sites_of(source)
    except (SyntaxError, ValueError):
        answer = {"error": "is no Python"}
    except (RecursionError, MemoryError):
        answer = {"error": "is nested too deeply to be compared"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
