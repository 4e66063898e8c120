"""The programs that read files, and how their files are damaged.

A reader of a damaged file must raise an error of its own, or return an answer that is right: the
one that an independent and simpler reader returns, or one that every later step can use.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import grade
import inference
import train
from data_utils import OUR_IMAGES, DataError, MNISTDataset, set_seed
from lab import checkpoint
from lab.arrays import ArrayError, npy_bytes, read_array
from lab.checkpoint import CheckpointError
from lab.loading import ContractError
from lab.outputs import OutputsError
from lab.settings import SettingsError
from lab.split_model import Submission
from staff.idx import LABELS, gzipped, idx_bytes
from staff.submissions import HandedInError, Student, take
from sweeps import plan, report
from sweeps.search import Grid
from tests.faults.mutations import (
    changed_value,
    damaged,
    damaged_json,
    damaged_png,
    damaged_zip,
    gzip_bomb,
)
from trainer import Trainer, TrainingError

COUNT = 5  # images
DRAWN = np.random.default_rng(0)
IMAGES = DRAWN.integers(0, 256, (COUNT, 28, 28), dtype=np.uint8)
DIGITS = np.arange(COUNT, dtype=np.uint8)
CODES = DRAWN.normal(size=(COUNT, 3)).astype(np.float16)
BIG = 48 << 20  # bytes that a small compressed file unpacks to

MODEL = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self, latent_dim=3):
        super().__init__()
        self.mu = nn.Linear(784, latent_dim)
        self.out = nn.Linear(latent_dim, 784)

    def decode(self, z, labels):
        return self.out(z).sigmoid()

    def encode(self, x, labels):
        return self.mu(x.flatten(1)), torch.zeros(len(x), self.mu.out_features)

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def forward(self, x, labels):
        mu, log_var = self.encode(x, labels)
        return self.decode(self.reparameterize(mu, log_var), labels), mu, log_var

def vae_loss(recon_x, x, mu, log_var, var=0.5):
    return (recon_x - x.flatten(1)).square().sum(1).mean() / (2 * var) + mu.square().sum(1).mean()
"""


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
        name: of the format.
        errors: what it may raise for a damaged file.
        files: valid files, by name.
        damage: returns the damaged files of a case, by name.
        read: reads the files in a folder; raises AssertionError if the answer is wrong.
        share: of the cases of a full run that this reader gets; less for a slow one.
    """

    name: str
    errors: tuple[type[Exception], ...]
    files: Callable[[], dict[str, bytes]]
    damage: Callable[[dict[str, bytes], random.Random], dict[str, bytes]]
    read: Callable[[Path], None]
    share: float = 1.0


# ---------------------------------------------------------------- IDX


def _idx_files() -> dict[str, bytes]:
    return {OUR_IMAGES: gzipped(idx_bytes(IMAGES)), LABELS: gzipped(idx_bytes(DIGITS))}


def _damage_idx(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    name, how = draw.choice(list(files)), draw.random()
    inner = gzip.decompress(files[name])
    if how < 0.3:
        return {name: damaged(files[name], draw)}
    if how < 0.305:
        return {name: gzip_bomb(inner[:8] + draw.choice((inner[8:16], b"\xff" * 8)), BIG)}
    inner = damaged(inner, draw)
    return {name: inner if draw.random() < 0.5 else gzip.compress(inner, 1, mtime=0)}


def _read_idx(folder: Path) -> None:
    dataset = MNISTDataset(folder)
    images, labels = (_unpacked(folder / name) for name in (OUR_IMAGES, LABELS))
    assert dataset.images.tobytes() == images[16:] and dataset.images.dtype == np.uint8
    assert dataset.labels.tolist() == list(labels[8:]) and dataset.labels.dtype == np.int64
    assert dataset.images.shape == (len(labels) - 8, 28, 28) and max(labels[8:]) < 10
    dataset.sha256  # noqa: B018


def _unpacked(file: Path) -> bytes:
    content = file.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


# ---------------------------------------------------------------- Arrow and Parquet


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _table(images: Any, labels: Any, kind: str, **how: Any) -> bytes:
    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

    table = pyarrow.table({"image": images, "label": labels})
    buffer = io.BytesIO()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, buffer, **how)
    else:
        make = pyarrow.ipc.new_stream if kind == "stream" else pyarrow.ipc.new_file
        options = pyarrow.ipc.IpcWriteOptions(**how)
        with make(buffer, table.schema, options=options) as writer:
            writer.write_table(table)
    return buffer.getvalue()


def _arrow_files() -> dict[str, bytes]:
    cells = [_png(image) for image in IMAGES]
    return {
        "data.arrow": _table([{"bytes": cell, "path": "x"} for cell in cells], [*DIGITS], "file")
    }


def _damage_arrow(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    import pyarrow as pa

    kind, how = draw.choice(("file", "stream")), draw.random()
    pictures = [_png(image) for image in IMAGES]
    cells: Any = list(pictures)
    labels: Any = DIGITS.tolist()
    if how < 0.5:
        compression = draw.choice((None, None, "zstd", "lz4"))
        content = files["data.arrow"]
        if draw.random() < 0.5:
            content = _table(cells, labels, kind, compression=compression)
        return {"data.arrow": damaged(content, draw)}
    if how < 0.7:  # cells of another kind
        wrong = (None, b"", b"x", damaged_png(pictures[0], draw), pictures[0][:40])
        cells[draw.randrange(COUNT)] = draw.choice(wrong)
        if draw.random() < 0.3:
            cells = [{"bytes": cell} for cell in cells]
    elif how < 0.85:  # labels of another kind
        labels = draw.choice(
            (
                [0.5] * COUNT,
                [None] * COUNT,
                ["1"] * COUNT,
                [2**40] * COUNT,
                [-1] * COUNT,
                [[1]] * COUNT,
                [True] * COUNT,
                pa.array(labels, pa.uint64()),
                pa.array(labels).dictionary_encode(),
                pa.nulls(COUNT),
                pa.array([float("nan")] * COUNT),
            )
        )
    else:  # many rows in few bytes
        count = draw.choice((10**6, 10**9, 2**31 - 1))
        labels = cells = pa.Array.from_buffers(pa.null(), count, [None])  # of no bytes
        if draw.random() < 0.5:
            ends = pa.array([count], pa.int64())
            labels = pa.RunEndEncodedArray.from_arrays(ends, pa.array([1]))
    return {"data.arrow": _table(cells, labels, kind)}


def _read_table(folder: Path) -> None:
    dataset = MNISTDataset(folder)
    count = len(dataset)
    assert dataset.images.shape == (count, 28, 28) and dataset.images.dtype == np.uint8
    assert dataset.labels.shape == (count,) and dataset.labels.dtype == np.int64
    assert dataset.labels.min() >= 0 and dataset.labels.max() < 10


def _parquet_files() -> dict[str, bytes]:
    return {"data.parquet": _table([_png(image) for image in IMAGES], [*DIGITS], "parquet")}


def _damage_bytes(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    name = draw.choice(list(files))
    return {name: damaged(files[name], draw)}


# ---------------------------------------------------------------- npy


def _npy_files() -> dict[str, bytes]:
    return {"codes.npy": npy_bytes(CODES)}


def _damage_npy(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    how = draw.random()
    if how < 0.5:
        return {"codes.npy": damaged(files["codes.npy"], draw)}
    shape = draw.choice(
        (CODES.shape, (COUNT,), (COUNT, -1), (2**40, 3), (0, 3), (COUNT, 2**62), ())
    )
    descr = draw.choice(("<f2", ">f2", "|u1", "<f8", "|O", "<U9", "V6", "<c8", "|b1", "<M8[s]"))
    header = {"descr": descr, "fortran_order": draw.random() < 0.2, "shape": shape}
    if how < 0.6:
        header = {key: value for key, value in header.items() if draw.random() < 0.7}
    if how < 0.65:
        header["x"] = draw.choice(("__import__('os')", [()] * 40))
    text = f"{header}".encode().ljust(117) + b"\n"
    values = draw.choice((CODES.tobytes(), bytes(6), b"\xff" * 30, b"\x7c" * 30))
    return {"codes.npy": b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + values}


def _read_npy(folder: Path) -> None:
    with open(folder / "codes.npy", "rb") as stream:
        codes = read_array(stream, "codes.npy", np.float16, (COUNT, None))
    expected = np.load(folder / "codes.npy", allow_pickle=False)
    assert codes.tobytes() == expected.tobytes() and codes.shape == expected.shape
    assert codes.dtype == np.float16 and np.isfinite(codes).all()


# ---------------------------------------------------------------- the older outputs: JSON and PNG


def _outputs_files() -> dict[str, bytes]:
    facts = {"task": "Genwithlabel", "latent_dim": 3, "submission_sha256": "0", "n": 1, "seed": 4}
    files = {"hyperparams.json": json.dumps(facts).encode(), "recon/recon_0.png": _png(IMAGES[0])}
    return files | {f"gen/{n}/0.png": _png(IMAGES[n % COUNT]) for n in range(10)}


def _damage_facts(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    return {"hyperparams.json": damaged_json(json.loads(files["hyperparams.json"]), draw)}


def _damage_png(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    name = draw.choice(("recon/recon_0.png", "gen/0/0.png"))
    how = draw.random()
    if how < 0.6:
        return {name: damaged_png(files[name], draw)}
    if how < 0.7:  # other kinds of pixels, and other formats
        kind, mode = draw.choice(
            (("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"), ("PNG", "LA"), ("PNG", "I;16"))
            + (("GIF", "L"), ("BMP", "L"), ("TIFF", "F"), ("JPEG", "L"))
        )
        buffer, picture = io.BytesIO(), Image.open(io.BytesIO(files[name]))
        picture.convert("L" if mode == "I;16" else mode).convert(mode).save(buffer, kind)
        return {name: buffer.getvalue()}
    return {name: damaged(files[name], draw)}


def _read_outputs(folder: Path) -> None:
    """Grade the outputs; the score must be that of the facts and images as they are read simply."""
    dataset = _one_image(folder)
    result = grade.grade(dataset, {"Genwithlabel": folder}, gen_num=1)["Genwithlabel"]
    facts = json.loads((folder / "hyperparams.json").read_bytes())
    assert result["latent_dim"] == facts["latent_dim"] and type(facts["latent_dim"]) is int
    assert 1 <= facts["latent_dim"] <= 784 and facts.get("task", "Genwithlabel") == "Genwithlabel"
    json.dumps(result, allow_nan=False)
    assert 0 <= result["raw"] <= 1.2 * 30 and result["score"] <= 30
    # From memory: from a file, Pillow makes room for as much as a damaged chunk states.
    content = (folder / "recon" / "recon_0.png").read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture.convert("L")) / 255
    mse = float(np.square(pixels - dataset.images[0] / 255).mean())
    assert math.isclose(result["mse"], mse, abs_tol=1e-12)


def _one_image(folder: Path) -> MNISTDataset:
    dataset = object.__new__(MNISTDataset)
    dataset.path, dataset.images, dataset.labels = folder, IMAGES[:1], np.zeros(1, np.int64)
    return dataset


# ---------------------------------------------------------------- checkpoints


class Training:
    """A run of a tiny model whose checkpoint is damaged and then continued."""

    def __init__(self, folder: Path) -> None:
        (folder / "submission.py").write_text(MODEL, encoding="utf-8")
        for name, content in _idx_files().items():
            (folder / name).write_bytes(content)
        self.options = train.TrainOptions(
            submission=folder / "submission.py",
            save_dir=folder,
            latent_dim=3,
            epochs=2,
            batch_size=3,
            eval_num=1,
            train_data=folder,
            valid_data=folder,
            precision="fp32",
            convolutions="torch",
        )

    def trainer(self, options: train.TrainOptions) -> Trainer:
        """Return a Trainer, ready to continue."""
        task, latent_dim = options.task, options.latent_dim
        submission = Submission(options.submission, task, latent_dim, options.variant)
        data = MNISTDataset(options.train_data), MNISTDataset(options.valid_data)
        trainer = Trainer(
            submission, options.settings, *data, say=lambda text: None, progress=False
        )
        trainer.prepare()
        return trainer


def _checkpoint_files() -> dict[str, bytes]:
    """Return a checkpoint after one of two epochs, in both formats of torch.save.

    The first is the same each time, so that a case can be made again from its seed.
    """
    set_seed(0)
    with tempfile.TemporaryDirectory() as name:
        training = Training(Path(name))
        trainer = training.trainer(training.options)
        trainer.settings = train.Settings(**{**asdict(trainer.settings), "epochs": 1})
        trainer.fit()
        for times in (vars(trainer.state), *trainer.state.history):
            times["seconds"] = 1.0
        facts = {
            "task": "VAEwolabel",
            "latent_dim": 3,
            "variant": "",
            "submission": "submission.py",
        }
        facts |= {"train_data": "data", "valid_data": "data"}
        facts["settings"] = asdict(training.options.settings)
        facts["submission_sha256"] = hashlib.sha256(MODEL.encode()).hexdigest()
        checkpoint.save(Path(name) / "epoch_1.pth", {**trainer.state_dict(), **facts})
        new = (Path(name) / "epoch_1.pth").read_bytes()
    old = io.BytesIO()
    state = torch.load(io.BytesIO(new), weights_only=True)
    torch.save(state, old, _use_new_zipfile_serialization=False)
    return {"epoch_1.pth": new, "older.pth": old.getvalue(), "submission.py": MODEL.encode()} | (
        _idx_files()
    )


def _damage_checkpoint_bytes(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    how = draw.random()
    if how < 0.45:
        return {"epoch_1.pth": damaged_zip(files["epoch_1.pth"], draw)}
    return {"epoch_1.pth": damaged(files[draw.choice(("epoch_1.pth", "older.pth"))], draw)}


def _damage_checkpoint_values(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    state = torch.load(io.BytesIO(files["epoch_1.pth"]), weights_only=True)
    for _ in range(draw.randint(1, 2)):
        if draw.random() < 0.3 and isinstance(state, dict):
            state = {**state, **_changed_tensor(state, draw)}
        else:
            state = changed_value(state, draw)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return {"epoch_1.pth": buffer.getvalue()}


def _changed_tensor(state: Any, draw: random.Random) -> dict[str, Any]:
    """Replace one of the model's tensors by one of another shape, type or content."""
    if not isinstance(state.get("model_state_dict"), dict):
        return {}
    weights = dict(state["model_state_dict"])
    name = draw.choice(["mu.weight", "mu.bias", "out.bias", "x"])
    some = weights.get(name, torch.zeros(3))
    plain = isinstance(some, torch.Tensor) and some.is_floating_point() and not some.is_sparse
    small = plain and not some.is_meta and some.numel() < 10**6
    some = some.float() if small else torch.zeros(3)
    weights[name] = draw.choice(
        (
            some.double(),
            some.half(),
            some.int(),
            some * math.nan,
            some.clone().fill_(math.inf),
            some.T if some.dim() == 2 else some[:-1],
            torch.zeros(1).expand(10**9),
            torch.zeros(0),
            some.to_sparse(),
            some.to(torch.complex64),
            torch.zeros((), device="meta"),
            torch.empty(some.shape, device="meta"),
        )
    )
    return {"model_state_dict": weights}


def _read_checkpoint(folder: Path) -> None:
    """Continue training and load for inference; the numbers that come out must be finite."""
    options = train.TrainOptions(save_dir=folder, train_data=folder, valid_data=folder)
    failed: list[Exception] = []
    try:
        _continue_training(options, folder)
    except CHECKPOINT_ERRORS as error:
        failed.append(error)
    _read_for_inference(folder)
    if failed:
        raise failed[0]


def _read_for_inference(folder: Path) -> None:
    path = folder / "epoch_1.pth"
    asked = inference.InferenceOptions(checkpoint_path=path, data_path=folder, gen_num=1)
    submission = inference.load_submission(path, checkpoint.load(path), asked)
    images = submission.generate(torch.arange(2), seed=0)
    assert torch.isfinite(images).all()


def _continue_training(options: train.TrainOptions, folder: Path) -> None:
    before = Training(folder).options
    completed, state = train.resume(options, {"train_data", "valid_data"})
    small = completed.epochs <= 50 and completed.batch_size >= 1
    if not small or completed.pred_step not in (0, before.pred_step):
        completed = before  # a valid but long run
    trainer = Training(folder).trainer(completed)
    train._load_state(trainer, state)
    with contextlib.redirect_stdout(io.StringIO()):
        train.fit(trainer, None, resumed=True)
    assert all(torch.isfinite(value).all() for value in trainer.model.parameters())


CHECKPOINT_ERRORS = (CheckpointError, SettingsError, ContractError, DataError, TrainingError)


# ---------------------------------------------------------------- records of a sweep


def _record_files() -> dict[str, bytes]:
    options = {name: values[0] for name, values in _values(Path()).items()}
    options = {
        name: str(value) if isinstance(value, Path) else value for name, value in options.items()
    }
    record = {"status": "finished", "submission_sha256": "0" * 64, "total_seconds": 1.5}
    record |= {"process": "here:1", "epochs_done": 2, "seconds": 1.0, "skipped_steps": 0}
    record |= {"epoch_seconds": 0.5, "threads": 1, "torch": "2", "ssim": 0.5, "mse": 0.01}
    record |= {"fid": None, "raw": 7.25, "score": 7.25, "options": options}
    return {"trial.json": json.dumps(record).encode(), "submission.py": MODEL.encode()}


def _values(folder: Path) -> dict[str, list]:
    values = {name: [value] for name, value in vars(plan._train_parser().parse_args([])).items()}
    return {**values, "submission": [folder / "submission.py"]}


def _damage_record(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    record = json.loads(files["trial.json"])
    if draw.random() < 0.3:
        record |= {"status": draw.choice(("waiting", "running", "interrupted", "failed", "done"))}
    return {"trial.json": damaged_json(record, draw)}


def _read_records(folder: Path) -> None:
    """Read the record as sweep.py does, for both searches, and write the tables."""
    sweep_dir = folder / "sweep"
    options = {"search": "grid", "trials": None, "overwrite": False, "report": True}
    options |= {"retry_failed": False}
    values = _values(folder)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(sweep_dir)
    search = plan.make_search(options, values, sweep_dir)
    assert isinstance(search, Grid)
    (trial,) = search.trials.values()
    trial.folder.mkdir(parents=True)
    shutil.copy(folder / "trial.json", trial.folder / "trial.json")
    records = plan.read_records(search, options)
    report.write_tables(sweep_dir, search, records)
    report.best_of(report.rows_of(search, records), search.names)
    (record,) = records.values()
    if record["status"] == "finished":
        assert all(
            record.get(name) is None or math.isfinite(record[name]) for name in report.SCORES
        )
    with contextlib.suppress(plan.SweepError):  # a record of other code
        plan.read_records(search, {**options, "report": False})
    plan.make_search(
        {**options, "search": "tpe", "trials": 3}, {**values, "var": [0.1, 0.5]}, sweep_dir
    )


# ---------------------------------------------------------------- zips of students


def _zip_files() -> dict[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ada/submission.py", MODEL)
        archive.writestr("ada/VAEwolabel.pth", DRAWN.bytes(500))
    return {"ada.zip": buffer.getvalue()}


def _damage_zip(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    if draw.random() < 0.3:
        return {"ada.zip": damaged_zip(files["ada.zip"], draw)}
    return {"ada.zip": damaged(files["ada.zip"], draw)}


def _read_zip(folder: Path) -> None:
    """Take the submission out of the zip; what is taken must be what the zip holds."""
    shutil.rmtree(folder / "taken", ignore_errors=True)
    taken = take(Student("ada", "ada", "", "", folder / "ada.zip"), folder / "taken")
    with zipfile.ZipFile(folder / "ada.zip") as archive:
        members = {archive.read(name) for name in archive.namelist()}
    for file in (taken.code, *taken.checkpoints.values()):
        assert file.read_bytes() in members, file.name


READERS = {
    reader.name: reader
    for reader in (
        Reader("IDX", (DataError,), _idx_files, _damage_idx, _read_idx),
        Reader("Arrow", (DataError,), _arrow_files, _damage_arrow, _read_table),
        Reader("Parquet", (DataError,), _parquet_files, _damage_bytes, _read_table),
        Reader("npy", (ArrayError,), _npy_files, _damage_npy, _read_npy),
        Reader("hyperparams.json", (OutputsError,), _outputs_files, _damage_facts, _read_outputs),
        Reader("PNG", (OutputsError,), _outputs_files, _damage_png, _read_outputs),
        Reader(
            "checkpoint, bytes",
            CHECKPOINT_ERRORS,
            _checkpoint_files,
            _damage_checkpoint_bytes,
            _read_for_inference,
        ),
        Reader(
            "checkpoint, values",
            CHECKPOINT_ERRORS,
            _checkpoint_files,
            _damage_checkpoint_values,
            _read_checkpoint,
            share=0.3,
        ),
        Reader("sweep record", (plan.SweepError,), _record_files, _damage_record, _read_records),
        Reader("zip", (HandedInError,), _zip_files, _damage_zip, _read_zip, share=0.03),
    )
}
