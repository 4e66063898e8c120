"""The code behind the commands. Students do not need to open this folder.

| subject | files |
| --- | --- |
| a submission | loading, split_model (splits it at `decode`), contract, code_digest, checks/ |
| training | callbacks, training_state, recovery, gradients, schedule, prior |
| beside training | run_folder, watch, tensorboard |
| inference and grading | trained, stages, outputs, arrays, pictures, metrics, evaluation |
| pages | pages (Jinja), report/ (report.html), explorer/ (explorer.html), latent_plane, moments |
| speed | device, deterministic, precision, convolutions, conv_functions, trial_step |
| `make demo` | demo |
| shared by commands | command, settings, checkpoint, lock, plots, progress_bar, workers, cluster |
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the project

# PyTorch's OpenMP threads spin while they wait for each other, which slows down every other process
# on the machine. Measured on 2 cores, ms per step of model.py, batch 1024, alone | beside a second
# training: 26 | 440 with libgomp's default, 26 | 58 with 3000 turns, 31 | 51 with 1000.
# libgomp reads the setting when torch is imported; a value that the user has set stays.
SPIN_COUNT = "3000"
if sys.platform == "linux":
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
