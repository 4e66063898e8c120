"""What spares a command the time to load torch and to let it go, most of a short command's time."""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

META = "torch._meta_registrations"
COMPILER = "torch._dynamo"
PRIMITIVES = "torch._prims.rng_prims"


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import what is large, as torch, a tenth quicker: it makes no garbage, so none is looked for.

    What is imported is never looked through again, which is quicker for all that follows.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_torch() -> None:
    """Import torch in two thirds of the time it takes, for a process that only runs models.

    Left out, until somebody asks for them, are the compiler and the modules that tell the shapes of
    results without computing them, on the device "meta": a trained model has no use for either.
    """
    if "torch" in sys.modules:
        return
    sys.modules[META] = Later(META)
    with quick_imports():
        import torch

        try:  # all that torch.Generator wants of PRIMITIVES, which META would have brought
            from torch._opaque_base import OpaqueBaseMeta

            torch._C._set_generator_metaclass(OpaqueBaseMeta)
        except (ImportError, AttributeError):  # another version of torch
            importlib.import_module(PRIMITIVES)
    import_compiler_later()


def end_with_python() -> None:
    """Spare this process the tenth of a second that libtorch takes to be taken apart at the end.

    Files are flushed and what `atexit` holds is done as ever: only the destructors of the libraries
    loaded so far are left out. By a call of glibc's; elsewhere, does nothing.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    on_exit = getattr(libc, "on_exit", None)  # a libc other than glibc has none
    if on_exit is not None:
        on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)  # is given the exit status


def import_compiler_later() -> None:
    """Spare this process the half second that torch's compiler takes to be imported.

    Every optimizer of torch imports it, only to tell it what it must not compile. Whoever does
    compile, with torch.compile, gets it then.
    """
    import torch

    if COMPILER not in sys.modules:
        torch._dynamo = sys.modules[COMPILER] = _CompilerLater(COMPILER, PRIMITIVES)


class Later(types.ModuleType):
    """Stands in for a module until something of it is asked for; others may have to come first."""

    def __init__(self, name: str, *first: str) -> None:
        super().__init__(name)
        self._first = first

    def __getattr__(self, name: str) -> Any:
        # `inspect` looks at every module's __file__; __path__ is for who wants a module inside.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        for module in self._first:
            importlib.import_module(module)
        return getattr(importlib.import_module(self.__name__), name)


class _CompilerLater(Later):
    """Stands in for torch's compiler until more is asked of it than to keep out of the way."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Say to the compiler what there is nobody to hear."""

    @staticmethod
    def disable(function: Callable, *_: Any, **__: Any) -> Callable:
        """Return the function, which nobody was about to compile."""
        return function
