"""What all experiments on a submission share: to keep a result, or what was raised instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_utils import own_randomness
from lab.checks.found import UNFINISHED
from lab.checks.recording import MAX_VALUES, Recording, Setting
from lab.loading import ContractError, explain, line_of
from lab.time_limit import TooLongError, time_limit


class Experiments:
    """What the experiments on one class or function share."""

    def __init__(self, name: str, path: Path, setting: Setting, recording: Recording) -> None:
        self.name, self.path, self.setting, self.recording = name, path, setting, recording

    @contextmanager
    def experiment(self, name: str, seed: int = 0) -> Iterator[None]:
        """Keep what the block raises as the experiment's problem. The seed is of its noise."""
        try:
            with own_randomness(self.setting.seed + seed), time_limit(self.setting.seconds):
                yield
        except (KeyboardInterrupt, MemoryError, GeneratorExit):
            raise
        except TooLongError as error:
            action = name.split(".")[0]
            text = unfinished(error, self.path, action, self.setting.seconds)
            self.recording.problems[f"{self.name}.{name}"] = text
            self.give_up(action, text)
        except BaseException as error:  # also SystemExit: a TODO may end the program
            clear = isinstance(error, (NotImplementedError, ContractError))  # a TODO, or our words
            action = name.split(".")[0]
            try:
                words = error if isinstance(error, Exception) else RuntimeError(repr(error))
                text = str(error) if clear else explain(words, self.path, action)
            except Exception:  # the student's exception cannot be printed
                text = f"{self.path.name}, during {action}: {type(error).__name__}"
            self.recording.problems[f"{self.name}.{name}"] = text

    def give_up(self, action: str, text: str) -> None:
        """An experiment did not end: what it called need not be called again."""

    def keep(self, name: str, value: object) -> None:
        """Keep a tensor, a number or a list of numbers, with its shape."""
        if not isinstance(value, Tensor):
            value = torch.tensor(value, dtype=torch.float32)
        if value.is_complex() or value.dtype == torch.bool:
            raise ContractError(f"{name.split('.')[0]} returned {value.dtype}; expected float32")
        array, name = self.recording.arrays, f"{self.name}.{name}"
        array[f"{name} shape"] = np.array(value.shape, np.float32)
        if value.numel() <= MAX_VALUES:
            array[name] = value.detach().float().cpu().numpy().copy()


def unfinished(error: TooLongError, path: Path, action: str, seconds: float) -> str:
    """Return one sentence about code that did not end: file, line, what was being done."""
    line = line_of(error, path)
    place = f"{path.name}, line {line}" if line else path.name
    return f"{place}, during {action}: it {UNFINISHED} {seconds:g} seconds"


def largest_gradients(output: Tensor, inputs: list[Tensor]) -> list[float]:
    """Return the largest gradient of an output's weighted sum with respect to each input."""
    if not output.requires_grad:
        return [0.0] * len(inputs)
    weights = torch.linspace(0.5, 1.5, output.numel()).reshape(output.shape)
    weighted = (output.float() * weights).sum()
    found = torch.autograd.grad(weighted, inputs, retain_graph=True, allow_unused=True)
    return [0.0 if one is None else float(one.abs().max()) for one in found]
