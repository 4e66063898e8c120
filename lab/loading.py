"""Load a submission file, set the options of its classes, and explain its errors."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import nn

from data_utils import one_line

CLASS_OF_TASK = {"VAEwolabel": "VAE", "Genwithlabel": "GenModel"}


class ContractError(ValueError):
    """A submission breaks the contract; the message says what was expected and where to look."""


class NotFiniteError(ContractError, ArithmeticError):
    """A model's output is nan or infinite.

    The Trainer catches it as ArithmeticError and returns to the last good state.
    """


class _Loader(SourceFileLoader):
    """Compiles the file each time, and writes no `__pycache__` beside it.

    Python takes the compiled code of before for a file of the same size and second.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_module(path: Path) -> ModuleType:
    """Run a submission file as a module of its own. Raises ContractError."""
    if not path.is_file():
        raise ContractError(f"{path} does not exist; give a submission file with --submission.")
    name = f"submission_{abs(hash(str(path.resolve())))}"
    if path.suffix != ".py":
        raise ContractError(f"{path} is not a Python file; expected a name that ends in .py.")
    loader = _Loader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ContractError(explain(error, path, "import")) from error
    return module


def submission_file(checkpoint_path: Path, state: dict[str, Any]) -> Path:
    """Return the file that a checkpoint was trained from: the run's own copy, else the original.

    The copy keeps older checkpoints usable when the submission is edited later.
    Raises ContractError when neither is found.
    """
    candidates = [checkpoint_path.parent / "submission.py", Path(state.get("submission", ""))]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ContractError(
        f"the code that {checkpoint_path} was trained from is not beside it; "
        "give the file with --submission."
    )


# ---------------------------------------------------------------- options of a class


def class_options(build: type) -> dict[str, bool | int | float | str]:
    """Return the options that a class offers: its plain class attributes, such as `depth = 3`."""
    found = {
        name: getattr(build, name)
        for base in getattr(build, "__mro__", ())
        for name in vars(base)
        if base not in (nn.Module, object) and not name.startswith("_")
    }
    kinds = (bool, int, float, str)
    return {name: value for name, value in found.items() if isinstance(value, kinds)}


def set_options(build: type, variant: str, where: str) -> None:
    """Set options of a class from "name=value,name=value".

    where: names the class in messages. Raises ContractError.
    """
    offered = class_options(build)
    for pair in filter(None, variant.split(",")):
        name, _, text = pair.partition("=")
        if name not in offered:
            known = ", ".join(f"{name}={value}" for name, value in offered.items()) or "none"
            raise ContractError(
                f"{where} has no option {one_line(name)!r}, which --variant sets; it has: {known}."
            )
        kind = type(offered[name])
        try:
            value = {"True": True, "False": False}[text] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise ContractError(
                f"--variant gives {name} the value {one_line(text)!r}; expected "
                f"{kind.__name__}, as {name}={offered[name]} in {where}."
            ) from None
        setattr(build, name, value)


# ---------------------------------------------------------------- errors in a student's code


@contextmanager
def explained(action: str, path: Path, only_theirs: bool = False) -> Iterator[None]:
    """Turn an exception of a student's code into a ContractError with file and line.

    Args:
        action: what was being done, such as "forward"; the message says "during forward".
        path: the student's file.
        only_theirs: do not change exceptions that did not come from the student's file.
    """
    try:
        yield
    except (ContractError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if only_theirs and line_of(error, path) is None:
            raise
        raise ContractError(explain(error, path, action)) from error


def explain(error: Exception, path: Path, action: str) -> str:
    """Return one sentence: file, line, what was being done, and the error."""
    line = line_of(error, path)
    place = f"{path.name}, line {line}" if line else path.name
    reason = " ".join(str(error).split()) or "no message"
    return f"{place}, during {action}: {type(error).__name__}: {reason[:300]}"


def line_of(error: BaseException, path: Path) -> int | None:
    """Return the line of the student's file that is nearest to the error; None if there is none."""
    if isinstance(error, SyntaxError):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()]
    return lines[-1] if lines else None
