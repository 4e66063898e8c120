"""One task of one student: the stages in the sandbox, their outputs checked and scored out here.

Codes, reconstructions and samples come back as bytes, are read as plain arrays of the dtype, shape
and range expected or not at all, and are scored by the same `grade.py` that the student runs.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from data_utils import MNISTDataset
from grade import grade
from lab import metrics, plots
from lab.checkpoint import write_whole
from lab.outputs import OutputsError
from staff import flags, sandbox
from staff.job import Job, npy_bytes
from staff.returned import Breach, is_count, read_array
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR

SHOWN = 64  # test images in the feedback
SCORES = ("score", "cap", "raw", "ssim", "mse", "fid", "bonus", "latent_dim", "n")


class GraderFault(Exception):
    """The grader itself did not work; the student has nothing to do with it."""


class Task:
    """Runs the stages of one task of a student and scores what they returned."""

    def __init__(
        self, task: str, inputs: dict[str, Path], job: Job, work: Path, folder: Path
    ) -> None:
        self.task, self.inputs, self.job, self.work, self.folder = task, inputs, job, work, folder
        self.labelled = task == "Genwithlabel"
        self.stages: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}
        self.log = ""
        for picture in folder.glob(f"{task}_*"):  # of an earlier grading
            picture.unlink()

    def run(self) -> dict[str, Any]:
        """Return the task's result: status, message, flags, stages, scores if there are any."""
        result: dict[str, Any] = {"status": GRADED, "message": "", "flags": [], "score": 0.0}
        try:
            scores = self._scores()
            result |= {name: scores[name] for name in (*SCORES, "per_label", "data_sha256")}
            result["flags"] += self._flags()
            if self.job.private_data is not None and scores["ssim"] is not None:
                result["private"] = self._private_scores()
                result["flags"] += flags.of_gap(result, result["private"])
            result["status"] = FLAGGED if result["flags"] else GRADED
        except _Failed as failure:
            result |= {"status": failure.status, "message": failure.message}
        except (Breach, OutputsError) as error:
            result |= {"status": "contract breach", "message": str(error)}
        if result["status"] not in (GRADED, FLAGGED):
            result["score"] = 0.0
        result |= {"stages": self.stages, "log": self.log}
        result["signature"] = self._signature()
        return result

    def _scores(self) -> dict[str, Any]:
        """Run the stages on the test split and score what came back."""
        outputs, dataset = self.work / "test", _dataset(self.job.test_data)
        outputs.mkdir(parents=True)
        codes, recon = self._reconstructions("test", dataset)
        if recon is not None:
            np.save(outputs / "codes.npy", codes, allow_pickle=False)
            np.save(outputs / "recon.npy", recon, allow_pickle=False)
        elif self.labelled:
            only = {"task": self.task, "generates_only": True}
            only["latent_dim"] = self.facts["latent_dim"]
            (outputs / "hyperparams.json").write_text(json.dumps(only), encoding="utf-8")
        else:
            raise Breach("the model has no encode; VAEwolabel is graded on reconstructions.")
        if self.labelled:
            more = {"gen_num": self.job.gen_num, "seed": self.job.seed}
            said = self._stage("test", "generate", {}, **more)
            samples = read_array(said, "samples", np.uint8, (10, self.job.gen_num, 28, 28))
            np.save(outputs / "samples.npy", samples, allow_pickle=False)
        scores = grade(dataset, {self.task: outputs}, self.job.gen_num)[self.task]
        self._draw(outputs, dataset)
        return scores

    def _private_scores(self) -> dict[str, float]:
        """Return ssim and mse on the private split; samples would be the same again."""
        dataset = _dataset(self.job.private_data)
        _, recon = self._reconstructions("private", dataset)
        if recon is None:
            raise Breach("the model has no encode for some images.")
        pair = recon, dataset.images
        ssim, mse = metrics.ssim_per_image(*pair), metrics.mse_per_image(*pair)
        return {"ssim": float(ssim.mean()), "mse": float(mse.mean())}

    def _reconstructions(
        self, split: str, dataset: MNISTDataset
    ) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Encode and decode a split, two stages that share the codes alone.

        Returns codes and reconstructions; None, None for a model that only generates.
        """
        given, count = self.job.inputs(split), len(dataset)
        labels = {"labels.npy": given / "labels.npy"} if self.labelled else {}
        said = self._stage(split, "encode", {"images.npy": given / "images.npy", **labels})
        latent_dim = self.facts.get("latent_dim")
        if not is_count(latent_dim, 784):
            raise Breach(f"the checkpoint says latent_dim {latent_dim!r}; expected 1 to 784.")
        if not said:
            return None, None
        codes = read_array(said, "codes", np.float16, (count, latent_dim))
        file = self.work / f"{split}_codes.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, codes, allow_pickle=False)
        file.chmod(0o644)
        said = self._stage(split, "decode", {"codes.npy": file, **labels})
        return codes, read_array(said, "recon", np.uint8, (count, 28, 28))

    def _stage(self, split: str, stage: str, more: dict[str, Path], **asked: Any) -> bytes:
        """Run a stage in the sandbox and return the bytes of its array."""
        inputs = {**self.inputs, **more}
        job = self.job
        outcome = sandbox.run_stage(
            stage, inputs, job.limits, job.isolation, task=self.task, **asked
        )
        name = stage if split == "test" else f"{stage} ({split})"
        self.stages[name] = {
            "status": outcome.status,
            "seconds": round(outcome.seconds, 3),
            "cpu_seconds": round(outcome.cpu_seconds, 3),
            "peak_bytes": outcome.peak_bytes,
        }
        if outcome.log.strip() and split == "test":  # what is private is not shown to students
            self.log += f"--- {name}\n{outcome.log.strip()}\n"
        self.facts = self.facts or outcome.facts
        if outcome.status == GRADER_ERROR:
            raise GraderFault(f"{outcome.message} {outcome.log.strip()[-500:]}")
        if outcome.status != "done":
            said = outcome.message if split == "test" else "it failed on the private split."
            raise _Failed(outcome.status, f"{stage}: {said}")
        said = self.facts.get("task")
        if said != self.task:
            raise Breach(f"the checkpoint was trained for {said!r}, not for {self.task}.")
        return outcome.array

    def _flags(self) -> list[str]:
        sizes = (self.inputs[name].stat().st_size for name in ("checkpoint.pth", "submission.py"))
        found = flags.of_files(self.facts, *sizes)
        samples = self.work / "test" / "samples.npy"
        if samples.exists() and self.job.train_data is not None:
            real = _calibration(self.job.train_data, self.job.test_data)
            found += flags.of_samples(np.load(samples, allow_pickle=False), real)
        return found

    def _signature(self) -> list[float]:
        values = self.facts.get("signature")
        if not isinstance(values, list) or len(values) > 5000:
            return []
        return [float(value) for value in values if isinstance(value, (int, float))]

    def _draw(self, outputs: Path, dataset: MNISTDataset) -> None:
        """Keep what the feedback and the report show: pictures, and the error of each image."""
        if (outputs / "recon.npy").exists():
            recon = np.load(outputs / "recon.npy", allow_pickle=False)
            with write_whole(self.folder / f"{self.task}_recon.png") as file:
                plots.reconstructions(file, dataset.images[:SHOWN], recon[:SHOWN])
            errors = metrics.mse_per_image(recon, dataset.images).astype(np.float32)
            with write_whole(self.folder / f"{self.task}_errors.npy") as file:
                file.write(npy_bytes(errors))
        if (outputs / "samples.npy").exists():
            samples = np.load(outputs / "samples.npy", allow_pickle=False)
            with write_whole(self.folder / f"{self.task}_samples.png") as file:
                plots.samples(file, samples, labelled=True)


class _Failed(Exception):
    """A stage ended otherwise than it should."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


# ---------------------------------------------------------------- the same for all students


@functools.lru_cache(maxsize=4)
def _dataset(path: Path) -> MNISTDataset:
    return MNISTDataset(path)


@functools.lru_cache(maxsize=1)
def _calibration(train_data: Path, test_data: Path) -> flags.Calibration:
    test = _dataset(test_data)
    return flags.calibrate(MNISTDataset(train_data).images, test.images, test.labels)
