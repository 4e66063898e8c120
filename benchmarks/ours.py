"""The lab's side of a comparison, in its own process, with the time measured inside.

    python -m benchmarks.ours train --submission model.py --epochs 5 --save_dir runs/speed
    python -m benchmarks.ours infer --checkpoint_path runs/speed/best.pth
    python -m benchmarks.ours command sweep.py --var 0.5 --lr 5e-3

`train` and `infer` take the options of train.py and inference.py. `command` runs any command and
measures its time and peak memory. All print a line of JSON at the end.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

from benchmarks.commands import make_parser
from benchmarks.usual import print_json


def train(words: list[str]) -> None:
    """Train; print the seconds of each epoch: of training, and with validation and files."""
    import train
    from lab.callbacks import Callback, Training

    class Clock(Callback):
        def on_start(self, trainer: Training) -> None:
            self.before, self.trained = time.perf_counter(), 0.0

        def on_epoch_end(self, trainer: Training) -> None:
            # The callback of the run's folder came first, so checkpoint and picture are included.
            now = time.perf_counter()
            validated.append(now - self.before)
            plain.append(trainer.state.seconds - self.trained)
            self.before, self.trained = now, trainer.state.seconds

    plain: list[float] = []
    validated: list[float] = []
    options = train.TrainOptions(**vars(train.make_parser().parse_args(words)))
    train.train(options, callbacks=[Clock()])
    print_json(epochs=plain, validated=validated)


def infer(words: list[str]) -> None:
    """Do what inference.py does; print the seconds after its imports."""
    import inference
    from lab import (
        contract,  # noqa: F401, imports are not timed
        convolutions,  # noqa: F401
    )

    options = inference.InferenceOptions(**vars(inference.make_parser().parse_args(words)))
    started = time.perf_counter()
    inference.infer(options)
    print_json(seconds=time.perf_counter() - started)


def command(words: list[str]) -> None:
    """Run a command; print its seconds and the peak memory of its largest process."""
    started = time.perf_counter()
    output = subprocess.DEVNULL
    subprocess.run([sys.executable, *words], check=True, stdout=output, stderr=output)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB, but bytes on macOS
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(json.dumps({"seconds": seconds, "peak_mib": peak / unit}))


def main() -> None:
    """Run the subcommand with the options after it."""
    parser = make_parser("benchmarks.ours", __doc__)
    subcommands = {"train": train, "infer": infer, "command": command}
    parser.add_argument("subcommand", choices=subcommands)
    parser.add_argument("words", nargs=argparse.REMAINDER, help="the options of the subcommand")
    args = parser.parse_args()
    subcommands[args.subcommand](args.words)


if __name__ == "__main__":
    main()
