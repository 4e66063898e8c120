"""This lab's side of a comparison, in a process of its own, timed from the inside.

    python -m benchmarks.ours train --submission model.py --epochs 5 --save_dir runs/speed
    python -m benchmarks.ours infer --checkpoint_path runs/speed/best.pth
    python -m benchmarks.ours command sweep.py --var 0.5 --lr 5e-3

Takes the options of train.py or of inference.py; or any command, and all the processes that it
starts. Ends with a line of JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

from benchmarks.usual import say


def train(words: list[str]) -> None:
    """Train; say the seconds of each epoch, without and with all that belongs to it."""
    import train
    from lab.callbacks import Callback, Training

    class Clock(Callback):
        def on_start(self, trainer: Training) -> None:
            self.before, self.trained = time.perf_counter(), 0.0

        def on_epoch_end(self, trainer: Training) -> None:
            # The run's folder was told first, so its checkpoint and its picture are in here.
            now = time.perf_counter()
            validated.append(now - self.before)
            plain.append(trainer.state.seconds - self.trained)
            self.before, self.trained = now, trainer.state.seconds

    plain: list[float] = []
    validated: list[float] = []
    options = train.TrainOptions(**vars(train.make_parser().parse_args(words)))
    train.train(options, callbacks=[Clock()])
    say(epochs=plain, validated=validated)


def infer(words: list[str]) -> None:
    """Do all that inference.py does; say the seconds after its imports."""
    import inference
    from lab import (
        contract,  # noqa: F401, imports are no part of the seconds
        convolutions,  # noqa: F401
    )

    options = inference.InferenceOptions(**vars(inference.make_parser().parse_args(words)))
    started = time.perf_counter()
    inference.infer(options)
    say(seconds=time.perf_counter() - started)


def command(words: list[str]) -> None:
    """Run a command; say its seconds and the peak memory of the largest of its processes."""
    started = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, *words], check=True, **quiet)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB, but bytes on macOS
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(json.dumps({"seconds": seconds, "peak_mib": peak / unit}))


if __name__ == "__main__":
    {"train": train, "infer": infer, "command": command}[sys.argv[1]](sys.argv[2:])
