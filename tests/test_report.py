"""report.py: one page from disk with the scores of grade.py, for one run and for several."""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsers import CUT_OFF, LAPTOP, PHONE, Opened, address_of, chromium, needs_browser
from conftest import ROOT, assert_clear_error, run, tiny_training
from scipy import ndimage

import report as command
from data_utils import MNISTDataset
from lab import checkpoint, metrics
from lab.moments import slant, stroke_width
from lab.report import charts
from lab.report.measure import kl_per_dimension, measure
from lab.report.measured import Measured
from lab.report.references import STORED, measure_simple, references
from lab.trained import load_trained
from staff.build_references import DIGITS, LATENT_DIMS, rounded
from staff.model_report import write_model_report
from staff.stage import HISTORY

LARGEST = 3_000_000  # bytes of a report of one run


class Page(HTMLParser):
    """Collects what a test asks about: addresses, texts by language, ids and links to them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.languages: list[str] = []
        self.ids: list[str] = []
        self.buttons = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.addresses += [values[name] for name in ("src", "href") if values.get(name)]
        self.languages += [values["lang"]] if tag == "span" and "lang" in values else []
        self.ids += [values["id"]] if "id" in values else []
        self.buttons += tag == "button"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data, tiny_run) -> dict[str, Path]:
    """Runs of a VAE, of a conditional model and of a GAN, trained for moments."""
    folder = tmp_path_factory.mktemp("runs")
    found = {"VAE": tiny_run}
    for name, more in {
        "CVAE": ["--task", "Genwithlabel", "--var", 0.1],
        "GAN": ["--task", "Genwithlabel", "--submission", "zoo/wgan.py"],
    }.items():
        found[name] = folder / name
        result = run("train.py", *tiny_training(tiny_data, folder / name, epochs=1), *more)
        assert result.returncode == 0, result.stderr
    return found


def report(folder, tiny_data, *paths) -> str:
    """Run report.py in this process, which keeps the components of the training images."""
    file = folder / "report.html"
    words = ["report.py", *paths, "--data_path", tiny_data, "--output", file]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", [str(word) for word in words])
        command.main()
    assert str(file) in printed.getvalue()
    assert file.stat().st_size < LARGEST * len(paths)
    return file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory, tiny_data, runs) -> dict[str, Path]:
    """Reports of each run, and of all together."""
    folder = tmp_path_factory.mktemp("pages")
    for name, paths in {**{k: [v] for k, v in runs.items()}, "all": runs.values()}.items():
        (folder / name).mkdir()
        report(folder / name, tiny_data, *paths)
    _write_handed_in(
        folder / "handed in", measure(runs["CVAE"], MNISTDataset(tiny_data)), tiny_data
    )
    return {file.parent.name: file for file in folder.glob("*/report.html")}


def _write_handed_in(folder: Path, found: Measured, tiny_data: Path) -> None:
    """Write the page that staff link from a student's feedback, of the arrays of a run."""
    folder.mkdir()
    for name in ("codes", "recon", "samples"):
        np.save(folder / f"{name}.npy", getattr(found, name))
    history = [[row.get(name) for name in HISTORY] for row in found.history]
    more = {"submission_sha256": "0" * 64}, history, folder, found.task, MNISTDataset(tiny_data)
    write_model_report(folder, found.scores, *more).rename(folder / "report.html")


def test_a_report_has_the_scores_of_grade_py_and_needs_no_network(tmp_path, tiny_data, runs, pages):
    text = pages["CVAE"].read_text(encoding="utf-8")
    page = Page(text)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "http" not in re.sub(r"data:[^\"']*", "", text)
    assert page.languages.count("en") == page.languages.count("zh-CN") > 20
    assert page.buttons == 2 + 120  # the switches, and one per reconstruction

    words = ["--checkpoint_path", runs["CVAE"] / "best.pth", "--save_dir", tmp_path / "outputs"]
    assert run("inference.py", *words, "--data_path", tiny_data).returncode == 0
    words = ["--Genwithlabel_output_dir", tmp_path / "outputs", "--test_data_path", tiny_data]
    assert run("grade.py", *words, "--output", tmp_path / "grade.json").returncode == 0
    graded = json.loads((tmp_path / "grade.json").read_text(encoding="utf-8"))["Genwithlabel"]
    assert f"{graded['raw']:.3f}" in text and f"{graded['ssim']:.4f}" in text
    for row in graded["per_label"]:
        assert f"{row['fid']:.3f}" in text
    assert "--task Genwithlabel" in text and "--var 0.1" in text  # the command
    for title in ("Loss over the steps", "KL divergence per dimension", "Learning rate"):
        assert f"<title>{title}</title>" in text


def test_models_without_an_encoder_or_labels_have_reports_too(pages):
    text = pages["GAN"].read_text(encoding="utf-8")
    assert "Samples of each label" in text and "Reconstructions, from" not in text
    text = pages["VAE"].read_text(encoding="utf-8")
    assert "this model does not see labels" in text and "Reconstructions, from" in text


def test_the_page_for_the_feedback_says_what_it_leaves_out(pages):
    text = pages["handed in"].read_text(encoding="utf-8")
    assert "test images" in text and "run report.py on your own run" in text
    assert "images that you have not seen" not in text and "<pre>" not in text
    assert "Variance of the codes per dimension" in text and "Loss over the steps" in text
    assert "Samples of each label" in text and "From one image to another" not in text
    assert "run report.py on your own run" not in pages["CVAE"].read_text(encoding="utf-8")


def test_several_runs_are_compared(pages):
    text = pages["all"].read_text(encoding="utf-8")
    page = Page(text)
    assert [name for name in page.ids if name.startswith("run-")] == ["run-0", "run-1", "run-2"]
    table = text.split("<table>")[1].split("</table>")[0]
    for name in ("task", "var", "submission"):  # what differs, and not what is equal
        assert f">{name}</th>" in table
    assert ">latent_dim</th>" not in table
    assert table.count('class="best"') == 2  # of each task


def test_a_folder_of_runs_stands_for_all_of_them(tmp_path, tiny_data, runs):
    file = tmp_path / "report.html"
    words = [runs["CVAE"].parent, "--data_path", tiny_data, "--output", file]
    result = run("report.py", *words)
    assert result.returncode == 0 and str(file) in result.stdout, result.stderr
    assert {"run-0", "run-1"} <= set(Page(file.read_text(encoding="utf-8")).ids)


def test_a_folder_without_a_run_is_a_clear_error(tmp_path):
    assert_clear_error(run("report.py", tmp_path), "holds no checkpoint")


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@needs_browser
def test_a_chosen_reconstruction_is_shown_closely_by_keyboard_too(pages, browser):
    shown = Opened(browser, address_of(pages["CVAE"]))
    first, last = (shown.page.locator("button.sprite").nth(place) for place in (0, 119))
    worst = json.loads(last.get_attribute("data-numbers"))
    assert first.get_attribute("aria-pressed") == "true"
    last.focus()
    shown.page.keyboard.press("Enter")
    assert last.get_attribute("aria-pressed") == "true"
    assert first.get_attribute("aria-pressed") == "false"
    for name, value in worst.items():
        assert float(shown.page.inner_text(f'[data-of="{name}"]')) == value
    large = shown.page.locator(".large").first
    assert large.evaluate("one => one.style.getPropertyValue('--x')") == "119"
    assert shown.complaints == []


@needs_browser
def test_language_and_theme_follow_the_browser_until_one_chooses(pages, browser):
    shown = Opened(browser, address_of(pages["VAE"]), locale="zh-CN", color_scheme="dark")
    page = shown.page
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert "训练报告" in page.inner_text("h1") and "Report" not in page.inner_text("h1")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#language")
    assert "Report" in page.inner_text("h1") and "训练报告" not in page.inner_text("h1")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


@needs_browser
@pytest.mark.parametrize("name", ["CVAE", "GAN", "all", "handed in"])
def test_nothing_is_cut_off_on_a_phone(pages, browser, name):
    shown = Opened(browser, address_of(pages[name]), viewport=PHONE, locale="en-US")
    for language in ("en", "zh-CN"):
        assert shown.page.evaluate("document.documentElement.lang") == language
        assert shown.page.evaluate(CUT_OFF) == []
        width = "document.documentElement.scrollWidth"
        assert shown.page.evaluate(width) <= PHONE["width"]
        shown.page.click("#language")
    assert shown.complaints == []


@needs_browser
@pytest.mark.parametrize(("theme", "viewport"), [("light", PHONE), ("dark", LAPTOP)])
def test_accessibility(pages, browser, theme, viewport):
    shown = Opened(browser, address_of(pages["all"]), color_scheme=theme, viewport=viewport)
    found = Axe().run(shown.page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not serious, [(one["id"], one["nodes"][0]["html"][:200]) for one in serious]


# ---------------------------------------------------------------- what it measures


def test_kl_per_dimension_is_the_kl_of_the_validation(tiny_data, tiny_run):
    found = measure(tiny_run, MNISTDataset(tiny_data), gen_num=2)
    assert found.kl is not None and found.kl.shape == (2,) and (found.kl >= 0).all()
    data = MNISTDataset(tiny_data)
    path = tiny_run / "best.pth"
    submission = load_trained(path, checkpoint.load(path))
    again = kl_per_dimension(submission, data.images, data.labels)
    np.testing.assert_array_equal(found.kl, again)
    last = found.history[-1]["valid_kl_divergence"]  # of the first 20 images
    first = kl_per_dimension(submission, data.images[:20], data.labels[:20])
    assert first is not None and first.sum() == pytest.approx(last, rel=1e-4)


def test_pca_with_all_components_reconstructs_exactly(tiny_set):
    found = references("VAEwolabel", 784, tiny_set)
    assert found["pca"]["mse"] < 1e-4 and found["pca"]["ssim"] > 0.99
    few = references("VAEwolabel", 5, tiny_set)
    assert found["pca"]["mse"] < few["pca"]["mse"] < few["mean"]["mse"] < few["blank"]["mse"]
    expected = metrics.mse_per_image(np.zeros_like(tiny_set.images), tiny_set.images).mean()
    assert few["blank"]["mse"] == expected


def test_the_stored_references_are_those_of_the_data(valid_set):
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert {one["split"] for one in stored.values()} == {"valid", "test"}
    found, known = rounded(measure_simple(valid_set, [20])), stored[valid_set.sha256]
    for name in ("blank", "mean", "mean_of_label", "real"):
        assert known[name] == pytest.approx(found[name], abs=10**-DIGITS)
    assert known["pca"]["20"] == pytest.approx(found["pca"]["20"], abs=1e-5)
    assert list(known["pca"]) == [str(d) for d in LATENT_DIMS]
    assert references("VAEwolabel", 20, valid_set)["pca"]["mse"] == known["pca"]["20"][1]


def test_slant_and_stroke_width_of_known_pictures():
    upright = np.zeros((28, 28), np.uint8)
    upright[4:24, 12:16] = 255
    leaning = np.zeros((28, 28), np.uint8)
    for row in range(4, 24):
        leaning[row, 20 - row // 2 : 24 - row // 2] = 255
    images = np.stack([upright, leaning, leaning[:, ::-1], np.zeros_like(upright)])
    assert slant(images) == pytest.approx([0, 0.5, -0.5, 0], abs=0.02)
    thick = ndimage.binary_dilation(upright > 0, iterations=3).astype(np.uint8) * 255
    thin, wide, none = stroke_width(np.stack([upright, thick, np.zeros_like(upright)]))
    assert none == 0 < thin < wide and 3 < thin < 5.5


def test_charts_hold_every_point_and_escape_names():
    curve = charts.Curve("<b>", [(0, 1.0), (1, 10.0), (2, float("nan")), (3, 100.0)], 0)
    drawn = str(charts.lines([curve], "step", "title", log=True))
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    assert len(points.split()) == 3 and "<b>" not in drawn
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)  # decades
    assert str(charts.lines([charts.Curve("none", [], 0)], "step", "title")) == ""
    bars = str(charts.bars([1.0, 0.01], ["a", "b"], "title", low=0.1))
    assert bars.count("<rect") == 2 and bars.count("pale") == 1


def test_the_page_is_described_in_the_readme():
    assert "report.py" in (ROOT / "README.md").read_text(encoding="utf-8")
