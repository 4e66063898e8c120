"""imports.py: torch is there sooner, what is left out comes when wanted, the end comes sooner."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

TORCH_SOONER = """
import sys
from lab.imports import META, Later, import_torch

import_torch()
import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 4))
noise = torch.randn(6, 1, 5, 5, generator=torch.Generator().manual_seed(0))
assert model.eval()(noise).shape == (6, 4)
assert type(sys.modules[META]) is Later  # nobody asked for it
import_torch()  # twice is once
assert type(sys.modules[META]) is Later
def noisy(x, generator):
    return x + torch.randn(3, generator=generator)
draw = noisy(torch.zeros(3), torch.Generator().manual_seed(1))
compiled = torch.compile(noisy, backend="eager")
assert torch.equal(compiled(torch.zeros(3), torch.Generator().manual_seed(1)), draw)
from torch._meta_registrations import meta_conv
assert meta_conv.__module__ == META and type(sys.modules[META]) is not Later
assert model.to("meta")(noise.to("meta")).shape == (6, 4)
"""


COMPILER_LATER = """
import inspect
import sys
import torch
from lab.imports import import_compiler_later

import_compiler_later()
weight = torch.ones(3, requires_grad=True)
optimizer = torch.optim.Adam([weight], lr=0.1)
optimizer.zero_grad()
weight.sum().backward()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
assert weight[0].item() < 1
inspect.getmodule(sys._getframe())  # looks at every module there is
assert "torch._dynamo.convert_frame" not in sys.modules  # nobody asked for the compiler
compiled = torch.compile(lambda x: x.sin() + 1, backend="eager")
assert compiled(torch.zeros(2)).tolist() == [1, 1]
assert "torch._dynamo.convert_frame" in sys.modules
from torch._dynamo.utils import counters
assert counters["frames"]["ok"] == 1
"""


ENDS_WITH_PYTHON = """
import atexit, ctypes, sys
from pathlib import Path

libc = ctypes.CDLL(None)
abort = ctypes.cast(libc.abort, ctypes.c_void_p)
libc.on_exit(abort, None)  # as a library that was loaded before has its destructors run
from lab.imports import end_with_python
end_with_python()
atexit.register(Path("said.txt").write_text, "at exit")
file = open("open.txt", "w")
file.write("not flushed")
print("printed")
sys.exit(3)
"""


@pytest.mark.parametrize("script", [TORCH_SOONER, COMPILER_LATER], ids=["torch", "compiler"])
def test_what_is_left_out_is_imported_when_it_is_wanted(script):
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="by a call of glibc's")
def test_a_process_ends_with_python_and_loses_nothing(tmp_path):
    command = [sys.executable, "-c", ENDS_WITH_PYTHON]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 3 and done.stdout == "printed\n", done.stderr
    assert (tmp_path / "said.txt").read_text() == "at exit"
    assert (tmp_path / "open.txt").read_text() == "not flushed"
