"""Write a program without the detours that a copy may take: helper functions and variables.

A function of the student's own that computes what its last line returns stands where it is called;
statements that do nothing are left out; what a variable that is read once is set to stands where it
is read. So `h = step(x)` with `value = f(x)`, `str(value)`, `return value` in `step` becomes
`h = f(x)`. The result is only compared and never run: names may be mixed up.
"""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Iterator
from dataclasses import dataclass

BUILTINS = frozenset(dir(builtins))
CONTRACT = {"encode", "decode", "forward", "reparameterize", "vae_loss", "fit_prior"}
BLOCKS = ("body", "orelse", "finalbody")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
REPEATED = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)


def straighten(tree: ast.AST) -> None:
    """Change a syntax tree in place."""
    for node in ast.walk(tree):
        for block in _blocks(node):
            block[:] = [one for one in block if not does_nothing(one)]
    helpers = _helpers(tree)
    placing = _Placing(helpers)
    for node in list(ast.walk(tree)):
        if isinstance(node, FUNCTIONS) and node.name not in helpers:
            placing.into(node)
            _put_variables(node)
    for node in ast.walk(tree):  # what stands where it is called does not count again
        for block in _blocks(node):
            block[:] = [one for one in block if getattr(one, "name", "") not in placing.placed]


def does_nothing(statement: ast.stmt) -> bool:
    """Return whether a statement is a text, a number, a name, or a call of a builtin alone."""
    if not isinstance(statement, ast.Expr):
        return isinstance(statement, ast.Pass)
    value = statement.value
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in BUILTINS
    return isinstance(value, (ast.Constant, ast.Name))


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the lists of statements that a statement has."""
    for name in BLOCKS:
        if isinstance(block := getattr(node, name, None), list):
            yield block


# ---------------------------------------------------------------- functions


@dataclass(frozen=True)
class _Helper:
    """A function that can stand where it is called: its parameters, its statements, its value."""

    parameters: list[str]
    defaults: dict[str, ast.expr]
    statements: list[ast.stmt]
    value: ast.expr


def _helpers(tree: ast.AST) -> dict[str, _Helper]:
    """Return the functions, by name, that are defined once and return in their last line alone."""
    found: dict[str, list[_Helper | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            found.setdefault(node.name, []).append(_helper(node))
    return {
        name: ones[0]
        for name, ones in found.items()
        if len(ones) == 1 and ones[0] and name not in CONTRACT
    }


def _helper(node: ast.FunctionDef | ast.AsyncFunctionDef) -> _Helper | None:
    arguments, body = node.args, [one for one in node.body if not _leaves(one)]
    last = body.pop() if body else None
    if not isinstance(last, ast.Return) or last.value is None:
        return None
    others = (ast.Return, ast.Yield, ast.YieldFrom, *FUNCTIONS)
    if any(isinstance(one, others) for line in body for one in ast.walk(line)):
        return None
    if arguments.vararg or arguments.kwarg:
        return None
    parameters = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
    defaults = dict(zip(reversed(parameters), reversed(arguments.defaults)))
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        parameters.append(one.arg)
        if default:
            defaults[one.arg] = default
    return _Helper(parameters, defaults, body, last.value)


def _leaves(statement: ast.stmt) -> bool:
    """Return whether a statement only raises, or returns nothing computed, on some condition."""
    if not isinstance(statement, ast.If) or len(statement.body) != 1 or statement.orelse:
        return False
    only = statement.body[0]
    value = only.value if isinstance(only, ast.Return) else None
    return isinstance(only, ast.Raise) or (
        isinstance(only, ast.Return) and isinstance(value, (ast.Constant, ast.Name, type(None)))
    )


class _Placing(ast.NodeTransformer):
    """Puts helpers in the place of their calls.

    Attributes:
        placed: the names of those that were.
    """

    def __init__(self, helpers: dict[str, _Helper]) -> None:
        self.helpers = helpers
        self.placed: set[str] = set()
        self.inside: list[str] = []  # helpers that are being placed: a recursion ends here
        self.number = 0

    def into(self, function: ast.AST) -> None:
        """Place the helpers that a function calls."""
        for node in list(ast.walk(function)):
            for block in _blocks(node):
                block[:] = [line for one in block for line in self._lines(one)]
        self.generic_visit(function)

    def _lines(self, statement: ast.stmt) -> list[ast.stmt]:
        """Return a statement with the lines of the helper before it that its whole value calls."""
        call = getattr(statement, "value", None)
        name = self._called(call)
        if not isinstance(call, ast.Call) or not name:
            return [statement]
        before, value = self._body(call, name)
        self.inside.append(name)
        lines = [line for one in before for line in self._lines(one)]
        statement.value = value  # type: ignore[attr-defined]
        last = self._lines(statement)
        self.inside.pop()
        return [*lines, *last]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = self._called(node)
        if not name or self.helpers[name].statements:
            return node
        before, value = self._body(node, name)
        for one in before:  # the arguments
            value = _Put(one.targets[0].id, one.value).visit(value)  # type: ignore[attr-defined]
        self.inside.append(name)
        value = self.visit(value)
        self.inside.pop()
        return value

    def _called(self, node: ast.AST | None) -> str:
        """Return the name of the helper that a call runs; "" for any other."""
        if not isinstance(node, ast.Call):
            return ""
        function, name = node.func, ""
        if isinstance(function, ast.Name):
            name = function.id
        elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            name = function.attr if function.value.id == "self" else ""
        return name if name in self.helpers and name not in self.inside else ""

    def _body(self, call: ast.Call, name: str) -> tuple[list[ast.stmt], ast.expr]:
        """Return the statements of a helper, its arguments set before them, and its value."""
        helper = self.helpers[name]
        self.placed.add(name)
        self.number += 1
        method = isinstance(call.func, ast.Attribute) and helper.parameters[:1] == ["self"]
        given = {**helper.defaults, **dict(zip(helper.parameters[method:], call.args))}
        given |= {one.arg: one.value for one in call.keywords if one.arg in helper.parameters}
        lines: list[ast.stmt] = [
            ast.Assign([ast.Name(parameter, ast.Store())], given[parameter])
            for parameter in helper.parameters
            if parameter in given and parameter != "self"
        ]
        own = copy.deepcopy([*helper.statements, ast.Expr(helper.value)])
        lines += own
        stored = [one for line in lines for one in ast.walk(line) if isinstance(one, ast.Name)]
        names = {one.id for one in stored if isinstance(one.ctx, ast.Store)}
        for line in own:
            self._mark(line, names, call.lineno)
        for line in lines[: -len(own)]:
            self._mark(line.targets[0], names, call.lineno)  # type: ignore[attr-defined]
            line.lineno = call.lineno
        assert isinstance(own[-1], ast.Expr)
        return lines[:-1], own[-1].value

    def _mark(self, line: ast.AST, names: set[str], number: int) -> None:
        """Give the helper's own variables names of their own, and all the line of the call."""
        for one in ast.walk(line):
            if isinstance(one, ast.Name) and one.id in names:
                one.id = f"{one.id} {self.number}"
            if hasattr(one, "lineno"):
                one.lineno = number


# ---------------------------------------------------------------- variables


def _put_variables(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Put the value of each variable that is read once in the place where it is read."""
    body, number = function.body, 0
    while number < len(body):
        name, value = _set_in(body[number])
        readers = _readers(name, body[number + 1 :], isinstance(value, ast.Name)) if name else []
        for reader in readers:
            _Put(name, value).visit(reader)
        if readers:
            del body[number]
        else:
            number += 1


def _set_in(statement: ast.stmt) -> tuple[str, ast.expr]:
    """Return the variable that a statement sets, and its value; "" if it does more or less."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            return target.id, statement.value
    return "", ast.Constant(None)


def _readers(name: str, later: list[ast.stmt], often: bool) -> list[ast.stmt]:
    """Return the statements that read a variable, if it is read once, or `often` is true.

    Empty if it is read where it may be read several times: in a loop, a branch or a function.
    """
    found, count = [], 0
    for statement in later:
        uses = [one for one in ast.walk(statement) if isinstance(one, ast.Name) and one.id == name]
        if not uses:
            continue
        if any(isinstance(one, REPEATED) or hasattr(one, "body") for one in ast.walk(statement)):
            return []
        reads = sum(isinstance(one.ctx, ast.Load) for one in uses)
        count += reads
        found += [statement] if reads else []
        if len(uses) > reads:  # from here on it has another value
            break
    return found if count == 1 or often else []


class _Put(ast.NodeTransformer):
    """Puts an expression in the place of a variable that is read."""

    def __init__(self, name: str, value: ast.expr) -> None:
        self.name, self.value = name, value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        read = node.id == self.name and isinstance(node.ctx, ast.Load)
        return self.value if read else node
