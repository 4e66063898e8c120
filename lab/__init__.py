"""The code behind the commands. Students do not need to open this folder.

| subject | files |
| --- | --- |
| a submission | loading, split_model (splits it at `decode`), contract, checks |
| training | callbacks, run_folder, training_state, recovery, gradients, schedule, prior |
| inference and grading | stages, outputs, arrays, pictures, metrics, diagnostics |
| speed | device, precision, convolutions, conv_functions, trial_step |
| shared by commands | command, settings, checkpoint, plots, progress_bar, cluster |
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the project

# PyTorch's OpenMP threads spin while they wait for each other, and slow down everything else on
# the machine. With this number of turns instead of some hundred thousand, training alone is at most
# 3 % slower, and training next to another process is up to twice as fast. libgomp reads the
# variable when torch is imported.
SPIN_COUNT = "1000"
if sys.platform == "linux":
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
