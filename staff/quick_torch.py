"""Import torch in less than half the time, for the stages of the sandbox: a class needs hundreds.

What a trained model does not need is imported only when it is used: the tables of result shapes
(the device "meta"), the compiler, export, quantization, loaders of data and others. Students'
commands import torch as usual.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
import types
from typing import Any

META = "torch._meta_registrations"
COMPILER = "torch._dynamo"
PRIMITIVES = "torch._prims.rng_prims"
SELDOM_USED = (
    *(META, "torch.export", "torch.distributions", "torch.profiler", "torch.masked"),
    *("torch.quantization", "torch.nn.intrinsic", "torch.utils.data", "torchgen.model"),
)
MODULE_OF = inspect.getmodule


def import_torch() -> None:
    """Import torch without SELDOM_USED and COMPILER. Does nothing if torch is already imported."""
    if "torch" in sys.modules:
        return
    later = {name: Later(name) for name in SELDOM_USED}
    sys.modules.update(later)
    gc.disable()  # an import leaves no garbage; searching for it takes 10 % of the time
    # torch asks which module a frame is of, and inspect then looks for the files of all modules.
    inspect.getmodule = _module_of
    try:
        import torch

        try:  # what torch.Generator needs of PRIMITIVES, which META would have imported
            from torch._opaque_base import OpaqueBaseMeta

            torch._C._set_generator_metaclass(OpaqueBaseMeta)
        except (ImportError, AttributeError):  # another version of torch
            importlib.import_module(PRIMITIVES)
        if COMPILER not in sys.modules:
            compiler = torch._dynamo = sys.modules[COMPILER] = Later(COMPILER, PRIMITIVES)
            # What every optimizer asks of it. It changes nothing where nothing is compiled.
            vars(compiler).update(disable=_unchanged, graph_break=lambda *_, **__: None)
    finally:
        inspect.getmodule = MODULE_OF
        gc.freeze()  # what was imported is not searched again
        gc.enable()
    for name, module in later.items():  # as the import of a module does
        package, _, last = name.rpartition(".")
        if sys.modules.get(name) is module and package in sys.modules:
            setattr(sys.modules[package], last, module)


def _unchanged(function: Any = None, *_: Any, **__: Any) -> Any:
    return _unchanged if function is None else function  # also as a decorator with parentheses


def _module_of(object: object, _filename: str | None = None) -> types.ModuleType | None:
    """Return what inspect.getmodule returns; of a frame, by the name that its code has."""
    if inspect.isframe(object):
        return sys.modules.get(object.f_globals.get("__name__", ""))
    return MODULE_OF(object, _filename)


class Later(types.ModuleType):
    """A placeholder that imports a module when one of its attributes is first used.

    first: modules to import before it.
    """

    def __init__(self, name: str, *first: str) -> None:
        super().__init__(name)
        self._first = first

    def __getattr__(self, name: str) -> Any:
        # `inspect` asks every module for __file__; only __path__ means an import from inside it.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        for module in self._first:
            importlib.import_module(module)
        return getattr(importlib.import_module(self.__name__), name)
