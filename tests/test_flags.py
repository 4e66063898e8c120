"""Flags for staff: what raises one, and that honest models and real digits raise none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from classmates import HONEST
from conftest import ROOT
from scipy import ndimage

from benchmarks import honest
from benchmarks.markdown import block_in
from data_utils import MNISTDataset, set_seed
from lab.settings import Settings
from lab.split_model import Submission
from lab.stages import same_codes
from staff import class_split, flags
from staff.copies import known_images, nearest
from staff.secret import NAME, generator, secret_in
from staff.seeds import SeedError
from trainer import Trainer

# ---------------------------------------------------------------- copies


@pytest.fixture(scope="module")
def some_images(valid_set) -> np.ndarray:
    return valid_set.images[:4000]


@pytest.fixture(scope="module")
def known(some_images, tiny_set):
    return known_images({"valid": some_images, "test": tiny_set.images})


def turned(images: np.ndarray, degrees: float) -> np.ndarray:
    return ndimage.rotate(images, degrees, axes=(2, 1), reshape=False, order=1)


def shifted(images: np.ndarray) -> np.ndarray:
    return ndimage.shift(images, (0, 1.5, -1.5), order=1)


def smaller(images: np.ndarray) -> np.ndarray:
    matrix = np.diag([1, 1 / 0.9, 1 / 0.9])
    offset = [0, 13.5 - 13.5 / 0.9, 13.5 - 13.5 / 0.9]
    return ndimage.affine_transform(images, matrix, offset, order=1)


@pytest.mark.parametrize(
    "change", [lambda x: x, lambda x: turned(x, 4), lambda x: turned(x, -12), shifted, smaller]
)
def test_changed_copies_are_found(some_images, known, change):
    ratio, index = nearest(change(some_images[1000:1060]), known)
    assert (ratio < flags.SAME).mean() > 0.7
    found = ratio < flags.SAME
    assert (index[found] == np.arange(1000, 1060)[found]).mean() > 0.9


def test_real_digits_are_no_copies_of_others(some_images, known):
    ratio, _ = nearest(some_images[200:300], known, list(range(200, 300)))
    assert (ratio < flags.SAME).mean() < flags.COPIES


def test_noise_is_a_copy_of_nothing(known):
    """What a model that is hardly trained draws: grey, with a bright middle, and noise."""
    rng = np.random.default_rng(0)
    place = np.linspace(-1, 1, 28)
    bright = np.exp(-4 * np.add.outer(place**2, place**2))
    samples = 0.3 + 0.2 * bright + 0.12 * rng.standard_normal((60, 28, 28))
    ratio, _ = nearest((255 * samples.clip(0, 1)).astype(np.uint8), known)
    assert (ratio < flags.SAME).mean() < flags.COPIES


def test_the_split_of_a_copy_is_named(valid_set, known):
    own = known.images[-120:].numpy().reshape(10, 12, 28, 28)
    shares = flags.copied(turned(own.reshape(-1, 28, 28), 4).reshape(own.shape), known)
    assert shares[0] > 0.7 and shares[1] == "test"
    assert known.split_of(3999) == "valid" and known.split_of(4000) == "test"
    # What shows nothing is no copy, but counts as a sample.
    assert flags.copied(own // 64, known) == (0.0, "")
    own[:5] //= 64
    assert 0.3 < flags.copied(own, known)[0] <= 0.5


# ---------------------------------------------------------------- codes that carry too little


def probed(images: np.ndarray, codes: np.ndarray, decode) -> list[str]:
    """Return the flags for a decoder: a function of codes, float16 (n, d)."""
    probe = flags.probes(codes, np.random.default_rng(0))
    recon, more = decode(codes), decode(probe.codes)
    labels = np.zeros(len(images), np.int64)
    return flags.of_probes(flags.probe_values(recon, more, probe, labels))


@pytest.fixture(scope="module")
def pieces(valid_set):
    """Images, and their 20 principal components with the way back: an honest linear model."""
    images = valid_set.images[:400]
    flat = images.reshape(len(images), -1).astype(float)
    mean = flat.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(flat, rowvar=False))
    basis = axes[:, -20:]
    codes = ((flat - mean) @ basis / 1000).astype(np.float16)

    def decode(z: np.ndarray) -> np.ndarray:
        pixels = 1000 * z.astype(float) @ basis.T + mean
        return np.rint(pixels.clip(0, 255)).astype(np.uint8).reshape(-1, 28, 28)

    return images, codes, decode


def test_an_honest_decoder_has_no_flag(pieces):
    assert probed(*pieces) == []


def test_a_collapsed_model_has_no_flag(pieces):
    """All reconstructions are alike, so it does not matter what the codes carry."""
    images, codes, _ = pieces
    assert probed(images, codes, lambda z: np.repeat(images[:1], len(z), axis=0)) == []


def test_codes_that_float16_cannot_change_have_no_flag(pieces):
    images, codes, decode = pieces
    coarse = (codes / 1000 + 1).astype(np.float16)  # the change is smaller than float16's step
    assert probed(images, coarse, lambda z: decode(1000 * (z.astype(float) - 1))) == []


def test_a_decoder_that_uses_the_position_is_flagged(pieces):
    images, codes, _ = pieces
    rng = np.random.default_rng(1)
    found = probed(images, codes * 0, lambda z: images[rng.permutation(len(images))[: len(z)]])
    assert found == ["equal codes are decoded to different images: does decode use their position?"]


def test_a_hash_in_the_code_is_flagged(pieces):
    images, _, _ = pieces
    codes = np.random.default_rng(2).permutation(len(images))[:, None].astype(np.float16)
    place = np.argsort(codes[:, 0])
    found = probed(
        images, codes, lambda z: images[place[z[:, 0].round().astype(int).clip(0, len(images) - 1)]]
    )
    assert found == ["small changes of the codes give other images: does decode look images up?"]


def test_a_decoder_that_returns_stored_images_is_flagged(pieces):
    images, codes, _ = pieces

    def stored(z: np.ndarray) -> np.ndarray:
        distances = np.square(z[:, None].astype(float) - codes[None].astype(float)).sum(axis=2)
        return images[distances.argmin(axis=1)]

    found = probed(images, codes, stored)
    assert found == ["small changes of the codes change no pixel: does decode look images up?"]


# ---------------------------------------------------------------- labels and gaps


def test_a_label_without_effect_is_flagged_and_a_small_effect_is_not(valid_set):
    """The same z with ten labels: images that follow z alone, and others that follow both."""
    images = valid_set.images[:20]
    blind = np.repeat(images[None], 10, axis=0)  # (10, 20, 28, 28)
    own = np.stack([valid_set.images[valid_set.labels == label][:20] for label in range(10)])
    weak = (0.1 * own + 0.9 * blind).astype(np.uint8)  # which nobody can read
    values = {"copies": 0.0, "copied_split": "", "spread": 1.0}
    assert flags.label_effect(blind) == 0.0
    found = flags.of_samples({**values, "label_effect": flags.label_effect(blind)})
    assert len(found) == 1 and "the same image for every label" in found[0]
    for samples in (weak, own, np.repeat(own[:, :1], 20, axis=1)):
        assert flags.of_samples({**values, "label_effect": flags.label_effect(samples)}) == []


def test_honest_models_that_are_hardly_trained_use_their_label(tmp_path, tiny_set):
    """Eight independent designs after four steps, whose samples are noise."""
    own = Settings(batch_size=30, epochs=1, device="cpu", precision="fp32", lr=3e-3)
    for number, text in enumerate(HONEST[:8]):
        file = tmp_path / "submission.py"
        file.write_text(text, encoding="utf-8")
        set_seed(0)
        submission = Submission(file, "Genwithlabel", 4)
        trainer = Trainer(submission, own, tiny_set, tiny_set, say=str, progress=False)
        trainer.prepare()
        for x, labels in trainer.batches.epoch(0):
            assert trainer.training_step(x, labels)
        effect = flags.label_effect(same_codes(submission, flags.SAME_CODES, 0))
        assert effect > 2 * flags.LABEL_EFFECT, number


def test_a_model_that_ignores_its_label_has_no_effect(tmp_path):
    demo = (ROOT / "model.py").read_text(encoding="utf-8")
    file = tmp_path / "submission.py"
    file.write_text(demo.replace("F.one_hot(labels, 10)", "0 * F.one_hot(labels, 10)"), "utf-8")
    submission = Submission(file, "Genwithlabel", 4)
    assert flags.label_effect(same_codes(submission, flags.SAME_CODES, 0)) == 0.0


def test_gaps_between_splits_are_flagged():
    errors = {"ssim_error": 0.002, "mse_error": 0.0002}
    test = {"ssim": 0.90, "mse": 0.010}
    near = flags.gaps(test, {"ssim": 0.89, "mse": 0.011, **errors})
    assert flags.of_gap(near) == []
    far = flags.gaps({"ssim": 0.99, "mse": 0.001}, {"ssim": 0.80, "mse": 0.02, **errors})
    assert len(flags.of_gap(far)) == 2
    few = flags.gaps(test, {"ssim": 0.85, "mse": 0.011, "ssim_error": 0.02, "mse_error": 0.002})
    assert flags.of_gap(few) == []  # chance explains it


# ---------------------------------------------------------------- the secret and the split


def test_a_secret_is_made_once_and_is_for_its_owner_alone(tmp_path):
    secret = secret_in(tmp_path / "private")
    assert secret == secret_in(tmp_path / "private") != secret_in(tmp_path / "other")
    assert len(secret) == 64
    for path in (tmp_path / "private", tmp_path / "private" / NAME):
        assert path.stat().st_mode & 0o077 == 0
    (tmp_path / "other" / NAME).write_text("abc")
    with pytest.raises(SeedError, match="can be guessed"):
        secret_in(tmp_path / "other")


def test_each_purpose_has_its_own_numbers():
    first, second = (generator("a", purpose).permutation(1000) for purpose in ("one", "two"))
    assert (first != second).mean() > 0.9
    assert np.array_equal(first, generator("a", "one").permutation(1000))


def test_a_class_split_depends_on_the_secret_and_on_nothing_else(tmp_path, tiny_data, tiny_set):
    made = {
        secret: MNISTDataset(class_split.class_split(tmp_path / secret, tiny_data, secret, 50))
        for secret in ("a", "b")
    }
    again = MNISTDataset(class_split.class_split(tmp_path / "again", tiny_data, "a", 50))
    assert again.sha256 == made["a"].sha256 != made["b"].sha256
    assert len(again) == 50 and len(np.unique(again.labels)) > 5
    same = (again.images[:, None] == tiny_set.images[None]).all(axis=(2, 3))
    assert not same.any()  # every image is changed


# ---------------------------------------------------------------- honest models, measured


def test_the_table_of_honest_models_is_current_and_has_no_false_flag():
    stored = json.loads(honest.FIGURES.read_text(encoding="utf-8"))
    assert block_in(ROOT / "docs" / "security.md", "honest") == honest.render(stored)
    assert honest.false_flags(stored) == []
    assert len(stored["models"]) == len(honest.MODELS) >= 10


def test_stored_values_raise_the_stored_flags():
    """A bound that is changed without a new measurement is found here."""
    for one in json.loads(honest.FIGURES.read_text(encoding="utf-8"))["models"].values():
        measured = one["measured"]
        found = flags.of_probes(measured["probes"]) if "probes" in measured else []
        found += flags.of_samples(measured["samples"]) if "samples" in measured else []
        found += flags.of_gap(measured["gap"]) if "gap" in measured else []
        assert found == one["flags"], one["name"]
