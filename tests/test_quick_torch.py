"""The sandbox's fast import of torch: deferred modules are imported when they are used."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT

SCRIPT = """
import sys
from staff.quick_torch import META, Later, import_torch

import_torch()
import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 4))
noise = torch.randn(6, 1, 5, 5, generator=torch.Generator().manual_seed(0))
assert model.eval()(noise).shape == (6, 4)
assert type(sys.modules[META]) is Later  # it was not used yet
import_torch()  # a second call does nothing
assert type(sys.modules[META]) is Later
weight = torch.ones(3, requires_grad=True)
optimizer = torch.optim.Adam([weight], lr=0.1)
weight.sum().backward()
optimizer.step()
assert weight[0].item() < 1
def noisy(x, generator):
    return x + torch.randn(3, generator=generator)
draw = noisy(torch.zeros(3), torch.Generator().manual_seed(1))
compiled = torch.compile(noisy, backend="eager")
assert torch.equal(compiled(torch.zeros(3), torch.Generator().manual_seed(1)), draw)
from torch._meta_registrations import meta_conv
assert meta_conv.__module__ == META and type(sys.modules[META]) is not Later
assert model.to("meta")(noise.to("meta")).shape == (6, 4)
"""


def test_deferred_modules_are_imported_when_they_are_used():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
