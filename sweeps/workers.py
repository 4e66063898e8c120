"""Start or find the workers of a sweep: this machine's cores or GPUs, or a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lab import cluster
from lab.workers import Workers, local_workers
from sweeps.plan import SweepError

GIB_PER_WORKER = 1.5  # the reference solution needs 0.9 at a batch size of 1024


@contextmanager
def workers_for(options: dict[str, Any], trials: int, device: str) -> Iterator[tuple[Workers, int]]:
    """Yield the workers and the number of CPU threads per trial; 0 leaves it to the workers.

    Args:
        options: of sweep.py: scheduler, insecure_scheduler, workers, trials_per_gpu.
        trials: the number of trials; by default, no more workers than trials run on CPUs.
        device: "cpu", "cuda" or "mps".

    Raises SweepError, ClusterError.
    """
    if options["scheduler"]:
        for name in ("workers", "trials_per_gpu"):
            if options[name] is not None:
                raise SweepError(
                    f"--{name} is for this machine; with --scheduler, the number of workers and "
                    "their GPUs are set where the workers are started."
                )
        insecure = options["insecure_scheduler"]
        with cluster.scheduler_at(options["scheduler"], insecure) as workers:
            yield workers, 0
        return
    for name in ("workers", "trials_per_gpu"):
        if options[name] is not None and options[name] < 1:
            raise SweepError(f"--{name} is {options[name]}; expected 1 or more.")
    environments: list[dict[str, str]] = [{}]
    if device == "cpu":
        if options["trials_per_gpu"] is not None:
            raise SweepError("--trials_per_gpu is given, but the trials use no GPU; omit it.")
        fitting = cluster.fitting_workers(min(cluster.cores(), trials), GIB_PER_WORKER)
        count = options["workers"] or fitting
    else:
        gpus = _gpus() if device == "cuda" else [""]
        environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
        count = options["workers"] or len(gpus) * (options["trials_per_gpu"] or 1)
    with local_workers(count, environments) as local:
        yield local, max(1, cluster.cores() // count)


def _gpus() -> list[str]:
    """Return the CUDA names of the GPUs that this process may use."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
