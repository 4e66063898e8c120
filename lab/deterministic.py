"""--deterministic: the same bytes on every x86 machine, whatever its processor's instructions are.

Without it, results are equal on one machine, but libraries choose the widest instructions of a
processor and use all of its cores, and both change how they round.
"""

from __future__ import annotations

import os
import sys

# Read by the libraries when they are loaded. SSE 4.1 is in every x86-64 processor since 2008.
PINNED = {
    "ATEN_CPU_CAPABILITY": "default",  # torch's own kernels
    "MKL_CBWR": "COMPATIBLE",  # matrix products
    "ONEDNN_MAX_CPU_ISA": "SSE41",  # convolutions
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # matrix products on a GPU
}
# Threads divide sums among them. One and two threads give the same bytes, three give others.
THREADS = 2


def pin() -> None:
    """Pin the instructions and threads of torch's libraries. Call it before torch is imported.

    Raises RuntimeError if torch has been imported already and not with these settings.
    """
    pinned = PINNED.items() <= os.environ.items()
    if "torch" in sys.modules and not pinned:
        raise RuntimeError("pin() was called after torch was imported, which has no effect.")
    os.environ.update(PINNED)
    import torch

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(THREADS)
