"""The sandbox's fast import of torch: deferred modules are imported when they are used."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT

SCRIPT = """
import sys
import inspect

from staff.quick_torch import COMPILER, META, SELDOM_USED, Later, import_torch

module_of = inspect.getmodule

import_torch()
import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 4))
noise = torch.randn(6, 1, 5, 5, generator=torch.Generator().manual_seed(0))
assert model.eval()(noise).shape == (6, 4)
assert all(type(sys.modules[name]) is Later for name in SELDOM_USED)  # none was used yet
import_torch()  # a second call does nothing
assert type(sys.modules[META]) is Later and inspect.getmodule is module_of
weight = torch.ones(3, requires_grad=True)
optimizer = torch.optim.Adam([weight], lr=0.1)
weight.sum().backward()
optimizer.step()
assert weight[0].item() < 1 and type(sys.modules[COMPILER]) is Later
def noisy(x, generator):
    return x + torch.randn(3, generator=generator)
draw = noisy(torch.zeros(3), torch.Generator().manual_seed(1))
compiled = torch.compile(noisy, backend="eager")
assert torch.equal(compiled(torch.zeros(3), torch.Generator().manual_seed(1)), draw)
from torch._meta_registrations import meta_conv
assert meta_conv.__module__ == META and type(sys.modules[META]) is not Later
assert model.to("meta")(noise.to("meta")).shape == (6, 4)

import torch.utils.data
from torch.distributions import Normal
from torch.quantization import QuantStub
pairs = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(noise), batch_size=4)
assert [len(some) for some, in pairs] == [4, 2]
assert Normal(0.0, 1.0).log_prob(torch.zeros(1)).item() < 0 and isinstance(QuantStub(), nn.Module)
assert torch.nn.intrinsic.ConvReLU2d and torch.masked.masked_tensor and torch.profiler.profile
exported = torch.export.export(nn.Linear(2, 1), (torch.ones(3, 2),))
assert exported.module()(torch.ones(3, 2)).shape == (3, 1)
"""


def test_deferred_modules_are_imported_when_they_are_used():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
