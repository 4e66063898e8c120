"""Grade one task of one student: run the stages in the sandbox, check what they return, score it.

Codes, reconstructions and samples come back as bytes. They are read only as plain arrays of the
expected dtype and shape, and are scored by the same `grade.py` that the student runs.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import DTypeLike

from data_utils import MAX_LATENT_DIM, MNISTDataset
from grade import grade
from lab import metrics, plots
from lab.arrays import ArrayError, npy_bytes, read_array
from lab.checkpoint import write_whole
from lab.outputs import OutputsError
from staff import flags, sandbox
from staff.copies import known_images
from staff.job import Job
from staff.model_report import write_model_report
from staff.secret import generator
from staff.statuses import FLAGGED, GRADED, GRADER_ERROR, STUDENT_ERROR, TIMEOUT

SHOWN = 64  # test images in the feedback
SCORES = ("score", "cap", "raw", "ssim", "mse", "fid", "bonus", "latent_dim", "n")
PER_IMAGE = {"errors": "mse", "ssim": "ssim"}  # kept: the names of files and of scores
MAX_SIGNATURE = 5000
CHECKPOINT_OF_STAGE = re.compile(r"[^\s()]*checkpoint\.pth")  # as a stage names it in a message
FAILED_UNSEEN = "it failed on images that are not published; make it work for any image."


class GraderFault(Exception):
    """The grader itself failed; the submission is not at fault."""


class Breach(Exception):
    """The submission's output or checkpoint breaks the contract; the message says how."""


class Task:
    """Runs the stages of one task of one student and scores what they returned.

    Args:
        task: "VAEwolabel" or "Genwithlabel".
        inputs: the student's files by the names that a stage reads: submission.py, checkpoint.pth.
        job: the settings of grading.
        work: a temporary folder for the arrays, which must not exist yet.
        folder: the student's folder of results, where the pictures are kept.
    """

    def __init__(
        self, task: str, inputs: dict[str, Path], job: Job, work: Path, folder: Path
    ) -> None:
        self.task, self.inputs, self.job, self.work, self.folder = task, inputs, job, work, folder
        self.labelled = task == "Genwithlabel"
        self.stages: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}
        self.log = ""
        self.submission = "".join(_sha256(file) for _, file in sorted(inputs.items()))
        self.measured: dict[str, Any] = {}  # what flags depend on
        self.private_stages: dict[str, dict[str, Any]] = {}
        self.private_failure = ""
        for picture in folder.glob(f"{task}_*"):  # of an earlier grading
            picture.unlink()

    def run(self) -> dict[str, Any]:
        """Return the result: status, message, flags, stages, and the scores if there are any.

        `message`, `stages` and `log` are for the student. `flags`, `measured` and `private` are for
        staff. Raises GraderFault.
        """
        result: dict[str, Any] = {"status": GRADED, "message": "", "flags": [], "score": 0.0}
        try:
            scores, private = self._scores()
            result |= {name: scores[name] for name in (*SCORES, "per_label", "data_sha256")}
            result["better_than_mean"] = _better_than_mean(scores, self.job.test_data)
            result["flags"] += self._flags()
            if self.job.private_data is not None and scores["ssim"] is not None:
                self._add_private(result, private)
            result["status"] = FLAGGED if result["flags"] else GRADED
        except _StageFailed as failure:
            result |= {"status": failure.status, "message": failure.message}
        except (Breach, ArrayError, OutputsError) as error:
            result |= {"status": "contract breach", "message": str(error)}
        if result["status"] not in (GRADED, FLAGGED):
            result["score"] = 0.0
        result |= {"stages": self.stages, "log": self.log, "measured": self.measured}
        result["signature"] = self._signature()
        return result

    def _scores(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Run the stages; return the scores on the test split, and ssim and mse on the private one.

        The latter are empty without a private split, or if a stage failed on it.
        """
        outputs, dataset = self.work / "test", _dataset(self.job.test_data)
        outputs.mkdir(parents=True)
        private: dict[str, float] = {}
        known: metrics.PerImage | None = None
        if pair := self._with_private(dataset):
            codes, recon = (array[: len(dataset)] for array in pair)
            np.save(outputs / "codes.npy", codes, allow_pickle=False)
            np.save(outputs / "recon.npy", recon, allow_pickle=False)
            known = metrics.per_image(recon, dataset.images)
            private = self._on_private(pair[1][len(dataset) :])
        elif self.labelled:
            facts = {
                "task": self.task,
                "generates_only": True,
                "latent_dim": self.facts["latent_dim"],
            }
            (outputs / "hyperparams.json").write_text(json.dumps(facts), encoding="utf-8")
        else:
            raise Breach("the model has no encode; VAEwolabel is graded on reconstructions.")
        if self.labelled:
            gen_num, more = self.job.gen_num, flags.SAME_CODES
            content = self._stage(
                "generate", {}, gen_num=gen_num, seed=self.job.seed, same_codes=more
            )
            samples = _read(content, "samples", np.uint8, (10, gen_num + more, 28, 28))
            np.save(outputs / "samples.npy", samples[:, :gen_num], allow_pickle=False)
            self.measured["samples"] = {"label_effect": flags.label_effect(samples[:, gen_num:])}
        scores = grade(dataset, {self.task: outputs}, self.job.gen_num, known)[self.task]
        self._draw(outputs, dataset, known)
        if self.job.reports:
            self._report(scores, outputs, dataset)
        return scores, private

    def _with_private(self, test: MNISTDataset) -> tuple[np.ndarray, np.ndarray] | None:
        """Return codes and reconstructions of the test split and, behind them, the private one.

        Both splits go through the same two stages, so a submission cannot tell their images apart.
        Nothing that these stages print, say or measure is for the student. If one of them fails,
        the test split runs again alone. What happens then may be shown; if nothing fails, only the
        reconstructions of the test split are returned.
        """
        if self.job.private_data is None:
            return self._reconstructions(test)
        private = _dataset(self.job.private_data)
        both = copy.copy(test)
        both.images = np.concatenate([test.images, private.images])
        both.labels = np.concatenate([test.labels, private.labels])
        try:
            return self._reconstructions(both, shown=False)
        except (_StageFailed, Breach, ArrayError) as error:
            if isinstance(error, _StageFailed) and error.status == TIMEOUT:
                raise  # the grader's own words; a second run would take as long
            self.private_failure = str(error)[:300]
        return self._reconstructions(test)

    def _on_private(self, recon: np.ndarray) -> dict[str, float]:
        """Return ssim and mse of reconstructions of the private split, and their standard errors.

        {} if there are no reconstructions.
        """
        if not len(recon):
            return {}
        assert self.job.private_data is not None
        images = _dataset(self.job.private_data).images
        found: dict[str, float] = {"n": len(images)}
        for name, of in (("ssim", metrics.ssim_per_image), ("mse", metrics.mse_per_image)):
            values = of(recon, images)
            found |= {name: float(values.mean())}
            found |= {f"{name}_error": float(values.std() / len(values) ** 0.5)}
        return found

    def _add_private(self, result: dict[str, Any], private: dict[str, float]) -> None:
        """Add the scores on the private split to the result, and the flags of what differs.

        Samples do not depend on the split, so the FID is that of the test split. If a stage failed
        only when it had private images, that is a flag. A student learns of it only if the private
        split counts, and then nothing but the fact.
        """
        counts = self.job.count == "private"
        result |= {"private": {**private, "stages": self.private_stages}, "counted": self.job.count}
        if not private:
            result["flags"].append(f"it failed on the private split: {self.private_failure}")
            if counts:
                raise _StageFailed(STUDENT_ERROR, FAILED_UNSEEN)
            return
        ssim, mse, latent_dim = private["ssim"], private["mse"], result["latent_dim"]
        raw = metrics.raw_score(self.task, ssim, mse, result["fid"], latent_dim)
        result["private"] |= {"raw": raw, "score": min(raw, result["cap"])}
        self.measured["gap"] = flags.gaps(result, private)
        result["flags"] += flags.of_gap(self.measured["gap"])
        if counts:
            result["score"] = result["private"]["score"]

    def _reconstructions(
        self, dataset: MNISTDataset, shown: bool = True
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Encode and decode images in two stages that share nothing but the codes.

        The images come in a secret order. Otherwise a submission could know the test images by
        their position. The codes come in another secret order, with those of `flags.probes` between
        them. The orders differ for each submission: one that prints them helps no later one.

        shown: whether the student may see what the stages print, and their times.

        Returns codes, float16 (N, latent_dim), and reconstructions, uint8 (N, 28, 28), in the order
        of the images; None for a model that only generates.
        """
        count, rng = len(dataset), self._generator(f"order of {len(dataset)} images")
        order = rng.permutation(count)
        inputs = {"images.npy": self._input("images", dataset.images[order])}
        labels = dataset.labels if self.labelled else np.zeros_like(dataset.labels)
        if self.labelled:
            inputs["labels.npy"] = self._input("labels", labels[order])
        content = self._stage("encode", inputs, shown)
        latent_dim = self.facts.get("latent_dim")
        if not is_count(latent_dim, MAX_LATENT_DIM):
            raise Breach(
                f"the checkpoint states latent_dim {latent_dim!r}; expected 1 to {MAX_LATENT_DIM}."
            )
        if not content:
            return None
        codes = np.empty((count, latent_dim), np.float16)
        codes[order] = _read(content, "codes", np.float16, codes.shape)

        probe = flags.probes(codes, rng)
        all_codes = np.concatenate([codes, probe.codes])
        order = rng.permutation(len(all_codes))
        inputs = {"codes.npy": self._input("codes", all_codes[order])}
        if self.labelled:
            all_labels = np.concatenate([labels, labels[probe.images], labels[probe.images]])
            inputs["labels.npy"] = self._input("labels", all_labels[order])
        content = self._stage("decode", inputs, shown)
        recon = np.empty((len(order), 28, 28), np.uint8)
        recon[order] = _read(content, "recon", np.uint8, recon.shape)
        values = flags.probe_values(recon[:count], recon[count:], probe, labels)
        self.measured["probes"] = values
        return codes, recon[:count]

    def _generator(self, purpose: str) -> np.random.Generator:
        """Return random numbers that the class's secret and the submission's files decide."""
        return generator(self.job.secret, f"{purpose} {self.submission}")

    def _input(self, name: str, array: np.ndarray) -> Path:
        """Write an array that a stage reads, and return its file."""
        file = self.work / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(npy_bytes(array))
        return file

    def _stage(
        self, stage: str, more: dict[str, Path], shown: bool = True, **options: int
    ) -> bytes:
        """Run a stage in the sandbox and return the bytes of its array.

        Args:
            more: further inputs, by name, in addition to the student's files.
            shown: whether the student may see what it prints, and its times.
            options: gen_num and seed, for the stage "generate".

        Raises _StageFailed, Breach, GraderFault.
        """
        outcome = sandbox.run_stage(
            stage,
            {**self.inputs, **more},
            self.job.limits,
            self.job.isolation,
            task=self.task,
            **options,
        )
        stages = self.stages if shown else self.private_stages
        stages[stage] = {
            "status": outcome.status,
            "seconds": round(outcome.seconds, 3),
            "cpu_seconds": round(outcome.cpu_seconds, 3),
            "peak_bytes": outcome.peak_bytes,
        }
        log = outcome.log.strip()
        if log and shown:
            self.log += f"--- {stage}\n{log}\n"
        self.facts = self.facts or outcome.facts
        if outcome.status == GRADER_ERROR:
            raise GraderFault(f"{outcome.message} {log[-500:]}")
        if outcome.status != "done":
            words = CHECKPOINT_OF_STAGE.sub(f"{self.task}.pth", outcome.message)
            raise _StageFailed(outcome.status, f"{stage}: {words}")
        trained_for = self.facts.get("task")
        if trained_for != self.task:
            raise Breach(f"the checkpoint was trained for {trained_for!r}, not for {self.task}.")
        return outcome.array

    def _flags(self) -> list[str]:
        checkpoint, code = self.inputs["checkpoint.pth"], self.inputs["submission.py"]
        found = flags.of_files(self.facts, checkpoint.stat().st_size, code.stat().st_size)
        if "probes" in self.measured:
            found += flags.of_probes(self.measured["probes"])
        samples = self.work / "test" / "samples.npy"
        if samples.exists():
            known = {**self.job.public_data, **self.job.splits}
            real = _calibration(tuple(known.items()), self.job.test_data)
            rng = self._generator("samples")
            values = flags.sample_values(np.load(samples, allow_pickle=False), real, rng)
            self.measured["samples"] |= values
            found += flags.of_samples(self.measured["samples"])
        return found

    def _signature(self) -> list[float]:
        """Return the values sampled from the weights; [] if the stage returned none."""
        values = self.facts.get("signature")
        if not isinstance(values, list) or len(values) > MAX_SIGNATURE:
            return []
        return [float(value) for value in values if isinstance(value, (int, float))]

    def _draw(self, outputs: Path, dataset: MNISTDataset, known: metrics.PerImage | None) -> None:
        """Keep pictures, and the scores of each image, which the report and leaderboard need."""
        if known is not None:
            recon = np.load(outputs / "recon.npy", allow_pickle=False)
            with write_whole(self.folder / f"{self.task}_recon.png") as file:
                plots.reconstructions(file, dataset.images[:SHOWN], recon[:SHOWN])
            for name, score in PER_IMAGE.items():
                values = getattr(known, score).astype(np.float32)
                with write_whole(self.folder / f"{self.task}_{name}.npy") as file:
                    file.write(npy_bytes(values))
        if (outputs / "samples.npy").exists():
            samples = np.load(outputs / "samples.npy", allow_pickle=False)
            with write_whole(self.folder / f"{self.task}_samples.png") as file:
                plots.samples(file, samples, labelled=True)

    def _report(self, scores: dict[str, Any], outputs: Path, dataset: MNISTDataset) -> None:
        """Write the page about the model.

        A stage that has private images too could draw them in place of test images. So the page has
        no more of its output than `_draw` shows.
        """
        identity = {
            "submission_sha256": _sha256(self.inputs["submission.py"]),
            "checkpoint_sha256": _sha256(self.inputs["checkpoint.pth"]),
        }
        history = self.facts.get("history")
        shown = None if self.job.private_data is None else SHOWN
        write_model_report(
            self.folder, scores, identity, history, outputs, self.task, dataset, shown
        )


class _StageFailed(Exception):
    """A stage ended with another status than "done"."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read(content: bytes, name: str, dtype: DTypeLike, shape: Sequence[int]) -> np.ndarray:
    """Read the array that a stage returned. Raises ArrayError."""
    return read_array(io.BytesIO(content), f"the array of {name}", dtype, shape)


def is_count(value: object, most: int) -> TypeGuard[int]:
    """Return whether a value is a whole number from 1 to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


# ---------------------------------------------------------------- loaded once for all students


@functools.lru_cache(maxsize=4)
def _dataset(path: Path) -> MNISTDataset:
    return MNISTDataset(path)


def _better_than_mean(scores: dict[str, Any], data: Path) -> bool:
    """Return whether a model beats one picture for all: the mean of the images.

    A model that only generates beats it if its FID is below that of each label's mean image.
    """
    mse, fid = _mean_picture(data)
    return scores["fid"] < fid if scores["mse"] is None else scores["mse"] < mse


@functools.lru_cache(maxsize=1)
def _mean_picture(data: Path) -> tuple[float, float]:
    """Return the mse of the mean image, and the FID of samples that are each label's mean image."""
    dataset = _dataset(data)
    pixels = dataset.images.reshape(len(dataset), -1) / 255.0  # (N, 784)
    labels = np.unique(dataset.labels)
    spreads = [pixels[dataset.labels == label].var(axis=0).sum() for label in labels]
    return float(pixels.var(axis=0).mean()), float(np.mean(spreads))


@functools.lru_cache(maxsize=1)
def _calibration(splits: tuple[tuple[str, Path], ...], test_data: Path) -> flags.Calibration:
    known = known_images({name: MNISTDataset(path).images for name, path in splits})
    test = _dataset(test_data)
    return flags.Calibration(known, flags.real_spread(test.images, test.labels))
