"""The private split: its seed reproduces it, it is like MNIST, and memorised images do not help."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, assert_clear_error, run, write_dataset

from data_utils import DataError, MNISTDataset
from lab import metrics
from lab.evaluation.judge import features_and_classes, load_judge
from staff import idx, private_split, seeds
from staff.permissions import PermissionsError

COMMAND = "staff.private_split"
SEED = "seventeen grey herons stand still"
PAIR = (idx.LABELS, idx.IMAGES)


@pytest.fixture(scope="module")
def test_set() -> tuple[np.ndarray, np.ndarray]:
    """Every 20th test image and its label: (500, 28, 28) and (500,)."""
    whole = MNISTDataset(ROOT / "dataset" / "test")
    return whole.images[::20], whole.labels[::20]


@pytest.fixture(scope="module")
def private(test_set) -> np.ndarray:
    return private_split.make_private(test_set[0], SEED)


@pytest.fixture(scope="module")
def made(tiny_data, tmp_path_factory):
    """A private split as the command makes it, and what the command printed."""
    out = tmp_path_factory.mktemp("made") / "private"
    result = run(COMMAND, *seeded(out.parent, SEED), "--data", tiny_data, "--out", out)
    assert result.returncode == 0, result.stderr
    return out, result


def seeded(folder: Path, seed: str) -> list[object]:
    """Return the option that reads a seed from a file, which this function writes."""
    file = folder / "seed.txt"
    file.write_text(f"{seed}\n", encoding="utf-8")
    file.chmod(0o600)
    return ["--seed_file", file]


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------- the seed


def test_the_same_seed_gives_the_same_bytes(made, tiny_data, tmp_path):
    out = tmp_path / "private"
    result = run(COMMAND, *seeded(tmp_path, SEED), "--data", tiny_data, "--out", out)
    assert result.returncode == 0, result.stderr
    assert contents(out) == contents(made[0])
    assert (out / PAIR[0]).read_bytes()[4:8] == bytes(4)  # gzip's date


def test_another_seed_gives_other_images(test_set, private):
    others = private_split.make_private(test_set[0], SEED + "s")
    assert metrics.ssim_per_image(others, private).mean() < 0.85
    assert not (others == private).all(axis=(1, 2)).any()


def test_images_differ_in_how_they_are_changed():
    same = np.tile(MNISTDataset(ROOT / "dataset" / "test").images[0], (1100, 1, 1))
    changed = private_split.make_private(same, SEED)
    assert len(np.unique(changed, axis=0)) == len(changed)


def test_the_seed_stays_secret(made):
    out, result = made
    for text in (*contents(out).values(), result.stdout.encode(), result.stderr.encode()):
        for secret in (SEED, hashlib.sha256(SEED.encode()).hexdigest()):
            assert secret.encode() not in text


def test_without_a_seed_one_is_generated_and_kept_for_its_owner(tiny_data, tmp_path):
    out, file = tmp_path / "private", tmp_path / "private.seed"
    words = (COMMAND, "--data", tiny_data, "--out", out)
    result = run(*words)
    assert result.returncode == 0 and str(file) in result.stdout, result.stderr
    seed = file.read_text(encoding="ascii").strip()
    assert len(seed) == 2 * seeds.GENERATED_BYTES and seed not in result.stdout + result.stderr
    if sys.platform != "win32":
        modes = [path.stat().st_mode & 0o777 for path in (file, out, *out.iterdir())]
        assert modes == [0o600, 0o700, *[0o600] * len(list(out.iterdir()))]
    first = contents(out)
    result = run(*words)  # the same seed, from the file
    assert result.returncode == 0 and str(file) not in result.stdout
    assert contents(out) == first
    other = seeds.seed_of(tmp_path / "other.seed")
    assert other[1] and other[0] != seed


@pytest.mark.parametrize(
    "seed",
    [
        *("", "   ", "42", "2026", "secret", "a b c d e f g h i j", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        *("12345678901234567890", "correct horse correct horse ", "hunter2hunter2hunter2"),
        *(" A long  secret phrase", "next year's phrase"),
    ],
)
def test_a_seed_that_can_be_guessed_is_refused(tmp_path, seed):
    _, file = seeded(tmp_path, seed)
    with pytest.raises(seeds.SeedError, match="can be guessed") as caught:
        seeds.seed_of(file)
    assert not seed.strip() or f"{seed.strip()}," not in str(caught.value)


def test_no_seed_of_the_documents_is_accepted():
    """What a document shows after the name of the command is known to everybody."""
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("staff/*.md")]:
        for line in document.read_text(encoding="utf-8").splitlines():
            assert "--seed " not in line or COMMAND not in line, line


def test_a_seed_that_others_can_read_is_refused(tmp_path):
    _, file = seeded(tmp_path, SEED)
    assert seeds.seed_of(file) == (SEED, False)
    if sys.platform != "win32":
        file.chmod(0o640)
        with pytest.raises(PermissionsError, match=r"mode 640.*chmod 600"):
            seeds.seed_of(file)


def test_a_typed_seed_is_not_shown(monkeypatch):
    monkeypatch.setattr("getpass.getpass", lambda prompt: f" {SEED} ")
    assert seeds.asked_seed() == SEED
    monkeypatch.setattr("getpass.getpass", lambda prompt: "four")
    with pytest.raises(seeds.SeedError, match="can be guessed"):
        seeds.asked_seed()


# ---------------------------------------------------------------- the files


def test_the_lab_reads_a_private_split(made, tiny_set):
    out, result = made
    split = MNISTDataset(out)
    assert split.images.shape == (TINY, 28, 28)
    assert np.array_equal(split.labels, tiny_set.labels)
    assert not (split.images == tiny_set.images).all(axis=(1, 2)).any()
    assert str(out) in result.stdout
    assert f"{TINY}/{TINY}" in result.stderr  # the bar


def test_its_checksums_are_verified(made, tmp_path):
    for name, content in contents(made[0]).items():
        (tmp_path / name).write_bytes(content)
    MNISTDataset(tmp_path)
    for name in PAIR:
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole + b"\0")
        with pytest.raises(DataError, match="does not match its checksum"):
            MNISTDataset(tmp_path)
        (tmp_path / name).write_bytes(whole)


def test_the_datasheet_describes_the_changes(made, tiny_set):
    sheet = json.loads((made[0] / private_split.DATASHEET).read_text(encoding="utf-8"))
    split = MNISTDataset(made[0])
    assert sheet["images"] == TINY
    assert sheet["source_sha256"] == tiny_set.sha256
    assert sheet["changes_at_most"]["rotation_degrees"] == private_split.ROTATION
    ssim = metrics.ssim_per_image(split.images, tiny_set.images).mean()
    assert sheet["to_the_originals"]["ssim"] == pytest.approx(ssim, abs=1e-4)


def test_the_preview_shows_originals_above_changed_ones(test_set, private):
    from io import BytesIO

    from PIL import Image

    def tile(row):
        return np.asarray(picture)[top + row * step :, left:][:56:2, :56:2]

    picture = Image.open(BytesIO(private_split.preview(test_set[0], private))).convert("L")
    # The first black tile's corner: everything before it is white paper and dark letters.
    step = 2 * 28 + private_split.plots.GAP
    dark = np.asarray(picture) == 0
    left = int(np.argmax(dark.sum(axis=0) > 5 * step))
    top = int(np.argmax(dark.sum(axis=1) > 8 * step))
    assert np.array_equal(tile(0), test_set[0][0])
    assert np.array_equal(tile(1), private[0])


# ---------------------------------------------------------------- what it is for


def test_the_judge_still_reads_the_labels(test_set, private):
    _, read = features_and_classes(load_judge(), private)
    assert (read == test_set[1]).mean() >= 0.985


def test_private_images_have_the_statistics_of_mnist(test_set, private):
    def look(images):
        edges = np.abs(np.diff(images.astype(float), axis=2)).mean()
        return np.array([images.mean(), (images == 0).mean(), edges])

    assert look(private) == pytest.approx(look(test_set[0]), rel=0.04)


def test_a_model_that_memorised_scores_lower(test_set, private):
    """Answering with the nearest memorised image gives ssim 1 and mse 0 on the test split."""
    known = test_set[0]
    flat, seen = (images.reshape(len(images), -1).astype(float) for images in (known, private))
    distances = (seen**2).sum(1)[:, None] - 2 * seen @ flat.T + (flat**2).sum(1)
    answer = known[distances.argmin(axis=1)]
    ssim = metrics.ssim_per_image(answer, private)
    assert ssim.mean() < 0.78  # an honest zoo/conv_vae.py has 0.90
    assert np.quantile(ssim, 0.95) < 0.92
    assert metrics.mse_per_image(answer, private).mean() > 0.02


def test_every_image_is_changed(test_set, private):
    assert metrics.ssim_per_image(test_set[0], private).max() < 0.97


def test_undoing_rotation_and_shift_is_not_enough(test_set, private, monkeypatch):
    monkeypatch.setattr(private_split, "ALPHA", 0.0)
    undistorted = private_split.make_private(test_set[0], SEED)
    assert metrics.ssim_per_image(undistorted, private).mean() < 0.93


def test_an_honest_model_scores_the_same(test_set, private, valid_set):
    """Twenty principal components of images that are in neither set."""
    flat = valid_set.images.reshape(len(valid_set), -1).astype(float)
    mean = flat.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(flat, rowvar=False))
    basis = axes[:, -20:]  # (784, 20)

    def score(images):
        codes = (images.reshape(len(images), -1) - mean) @ basis
        recon = np.rint((codes @ basis.T + mean).clip(0, 255)).astype(np.uint8)
        return metrics.ssim_per_image(recon.reshape(images.shape), images).mean()

    assert score(private) == pytest.approx(score(test_set[0]), abs=0.01)


# ---------------------------------------------------------------- refusals


def test_a_split_with_other_options_is_not_replaced_unasked(tiny_data, tmp_path):
    out, other = tmp_path / "private", SEED[::-1]

    def command(seed, *more):
        words = (*seeded(tmp_path, seed), "--data", tiny_data, "--out", out)
        return run(COMMAND, *words, *more)

    assert command(SEED).returncode == 0
    first = contents(out)
    assert_clear_error(command(other), "with other options", "--overwrite")
    assert contents(out) == first
    assert command(SEED).returncode == 0  # the same options again change nothing
    assert contents(out) == first
    assert command(other, "--overwrite").returncode == 0
    assert set(contents(out)) == set(first)
    assert contents(out)[PAIR[1]] != first[PAIR[1]]


def test_another_dataset_is_never_replaced(tiny_data, tiny_set, tmp_path):
    other = write_dataset(tmp_path / "other", tiny_set.images, tiny_set.labels)
    before = contents(other)
    words = (*seeded(tmp_path, SEED), "--data", tiny_data, "--overwrite", "--out")
    assert_clear_error(run(COMMAND, *words, other), "did not make")
    assert contents(other) == before
    before = contents(tiny_data)
    assert_clear_error(run(COMMAND, *words, tiny_data), "the source itself")
    assert contents(tiny_data) == before


def test_an_incomplete_split_is_refused(made, tiny_set, monkeypatch, tmp_path):
    images = private_split.make_private(tiny_set.images, "another")
    files = private_split.files_of(tiny_set, images)
    real = private_split.write_whole

    def full_disk(path):
        if path.name == stopped_at:
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(private_split, "write_whole", full_disk)
    for stopped_at in files:
        new, old = tmp_path / stopped_at / "new", tmp_path / stopped_at / "old"
        with pytest.raises(OSError):
            private_split.write(new, files)
        with pytest.raises(DataError):
            MNISTDataset(new)
        old.mkdir(mode=0o700, parents=True)
        for name, content in contents(made[0]).items():
            (old / name).write_bytes(content)
        with pytest.raises(OSError):
            private_split.write(old, files, overwrite=True)
        try:
            assert MNISTDataset(old).sha256 == MNISTDataset(made[0]).sha256
        except DataError as error:
            assert "does not match its checksum" in str(error)  # neither the old set nor the new


@pytest.mark.parametrize(
    "words, mention",
    [
        (("--seed", SEED), "--seed"),  # other accounts would see it
        (("--data", "nowhere"), "nowhere does not exist"),
        (("--seed_file", "a", "--ask_seed"), "not allowed with"),
    ],
)
def test_wrong_options_are_one_clear_error(words, mention, tmp_path):
    assert_clear_error(run(COMMAND, *words, "--out", tmp_path / "out"), mention)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_clear_error(tiny_data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    words = (*seeded(tmp_path, SEED), "--data", tiny_data)
    words += ("--out", tmp_path / "file" / "private")
    assert_clear_error(run(COMMAND, *words), "could not be written")
