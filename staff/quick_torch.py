"""Import torch in half the time, for the stages of the sandbox: a class needs hundreds of them.

Two parts, which a trained model does not need, are imported only when they are used: the tables of
result shapes (the device "meta") and the compiler. Students' commands import torch as usual.
"""

from __future__ import annotations

import gc
import importlib
import sys
import types
from typing import Any

META = "torch._meta_registrations"
COMPILER = "torch._dynamo"
PRIMITIVES = "torch._prims.rng_prims"


def import_torch() -> None:
    """Import torch without META and COMPILER. Does nothing if torch is already imported."""
    if "torch" in sys.modules:
        return
    sys.modules[META] = Later(META)
    gc.disable()  # an import leaves no garbage; searching for it takes 10 % of the time
    try:
        import torch

        try:  # what torch.Generator needs of PRIMITIVES, which META would have imported
            from torch._opaque_base import OpaqueBaseMeta

            torch._C._set_generator_metaclass(OpaqueBaseMeta)
        except (ImportError, AttributeError):  # another version of torch
            importlib.import_module(PRIMITIVES)
        if COMPILER not in sys.modules:
            torch._dynamo = sys.modules[COMPILER] = Later(COMPILER, PRIMITIVES)
    finally:
        gc.freeze()  # what was imported is not searched again
        gc.enable()


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
