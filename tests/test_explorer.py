"""The explorer: a real browser runs every part of the page, from disk and without network."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from browsers import Opened, address_of, chromium, needs_browser
from conftest import ROOT, SUBMISSIONS
from playwright.sync_api import Browser

import explore
import train
from benchmarks import zoo
from data_utils import MNISTDataset, to_float, to_uint8
from lab import checkpoint
from lab.explorer import document, export, update_runtime
from lab.metrics import mse_per_image, ssim_per_image
from lab.split_model import Submission
from lab.trained import load_trained

# By name: the submission, its task and latent_dim.
MODELS = {
    "gen": ("submission.py", "Genwithlabel", 20),  # fit_prior, and a triangular system in forward
    "vae": ("submission.py", "VAEwolabel", 20),
    "plane": ("model.py", "Genwithlabel", 2),
    "gan": ("zoo/wgan.py", "Genwithlabel", 20),
    "no_encoder": (SUBMISSIONS / "not_exportable.py", "VAEwolabel", 8),
    "no_decoder": (SUBMISSIONS / "not_exportable.py", "Genwithlabel", 8),
}
DRAWING = ("gen", "vae", "plane")  # those with an encoder that runs in the browser
TOLERANCE = 1e-3
# `make test-faults` takes all models of the zoo; here MODELS has convolutions and wgan.
LONG = os.environ.get("FAULTS") == "long"
ZOO = sorted({file.stem for file in (ROOT / "zoo").glob("*.py")} - {"wgan"})
ZOO = ZOO if LONG else ["record"]


# ---------------------------------------------------------------- runs and pages


@pytest.fixture(scope="module", autouse=True)
def one_registry() -> Iterator[None]:
    """Keep the exporter's table of operators, which torch makes again in each export."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(ONNXRegistry.from_torchlib)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(once))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data) -> dict[str, Path]:
    """A run of each model, trained for some steps, with its page."""
    folder = tmp_path_factory.mktemp("explored")
    before = sys.argv
    for name, (file, task, latent_dim) in MODELS.items():
        sys.argv = [
            *("train.py", "--submission", str(ROOT / file), "--task", task),
            *("--latent_dim", str(latent_dim), "--save_dir", str(folder / name)),
            *("--train_data", str(tiny_data), "--valid_data", str(tiny_data)),
            *("--epochs", "2", "--batch_size", "12", "--lr", "3e-3", "--var", "0.05"),
            *("--precision", "fp32", "--no-save_loss_plot"),
        ]
        train.main()
        sys.argv = [*("explore.py", str(folder / name), "--data_path", str(tiny_data), "--no_open")]
        explore.main()
    sys.argv = before
    return {name: folder / name for name in MODELS}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


class Explorer(Opened):
    """The page of a model, loaded, and what a reader does with it."""

    def __init__(self, browser: Browser, file: Path, **context) -> None:
        super().__init__(browser, f"{address_of(file)}?debug", **context)
        self.page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)

    def image(self, canvas: str) -> str:
        return self.page.evaluate("id => document.getElementById(id).toDataURL()", canvas)

    def changes(self, canvas: str, act) -> None:
        """Check that an action changes the image of a canvas."""
        before = self.image(canvas)
        act()
        self.page.wait_for_function(
            "([id, before]) => document.getElementById(id).toDataURL() !== before",
            arg=[canvas, before],
            timeout=10_000,
        )

    def settle(self) -> None:
        """Wait until everything that was asked for is drawn."""
        self.page.evaluate("async () => { await pause(); await inTurn(() => 0); await pause(); }")

    def number(self, name: str) -> float:
        return float(self.page.inner_text(f"#{name}").replace("−", "-"))


@pytest.fixture(scope="module")
def opened(runs, browser):
    """Return a function that opens the page of a model, once."""
    pages: dict[str, Explorer] = {}

    def open_page(name: str) -> Explorer:
        if name not in pages:
            pages[name] = Explorer(browser, runs[name] / "explorer.html", locale="en-US")
        return pages[name]

    return open_page


# ---------------------------------------------------------------- what one can do


@needs_browser
@pytest.mark.parametrize("name", MODELS)
def test_generate(opened, name):
    shown = opened(name)
    page = shown.page
    shown.changes("picture", lambda: page.click("#surprise"))
    page.click("#reset")  # around which an atlas has images
    shown.settle()
    slider = page.locator("#sliders input").first
    for value in ("min", "max"):
        move = f"one => {{ one.value = one.{value}; one.dispatchEvent(new Event('input')) }}"
        shown.changes("picture", lambda move=move: slider.evaluate(move))
    if name == "gan":
        assert page.is_hidden("#label-buttons")
        return
    for label in "18":
        shown.changes("picture", lambda label=label: page.click(f"#label-buttons >> text={label}"))
    assert page.get_attribute("#label-buttons >> text=8", "aria-pressed") == "true"


@needs_browser
@pytest.mark.parametrize("name", MODELS)
def test_samples_morph_and_traversal(opened, name):
    shown = opened(name)
    page = shown.page
    grid = "() => [...document.querySelectorAll('#samples-grid canvas')].map(c => c.toDataURL())"
    before = page.evaluate(f"({grid})().join()")
    page.click("#fresh")
    page.wait_for_function(f"before => ({grid})().join() !== before", arg=before)
    shown.settle()
    shown.changes("picture", lambda: page.locator("#samples-grid button").nth(13).click())

    way = "(one, value) => { one.value = value; one.dispatchEvent(new Event('input')) }"
    page.locator("#morph-way").evaluate(way, 0)
    shown.settle()
    shown.changes("morph-picture", lambda: page.locator("#morph-way").evaluate(way, 1))
    shown.changes("morph-a", lambda: page.click("#morph-new-a"))
    shown.settle()

    page.click("#reset")
    page.select_option("#traverse-dimension", index=1)
    shown.settle()
    shown.changes("picture", lambda: page.locator("#traverse-strip button").first.click())
    shown.changes("picture", lambda: page.locator("#traverse-strip button").last.click())


@needs_browser
@pytest.mark.parametrize("name", DRAWING)
def test_drawing(opened, runs, name):
    """While one draws, mu, the reconstruction and the scores move, and they are torch's."""
    shown = opened(name)
    page = shown.page
    page.click("#clear")
    shown.settle()
    bars = "() => [...document.querySelectorAll('#posterior .mu')].map(b => b.outerHTML).join()"
    before = page.evaluate(bars)
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in STROKE]

    def draw() -> None:
        page.mouse.move(*at[0])
        page.mouse.down()
        for place in at[1:]:
            page.mouse.move(*place, steps=4)

    shown.changes("recon", draw)
    page.wait_for_function(f"before => ({bars})() !== before", arg=before)
    page.mouse.up()
    page.click("#centre")
    shown.settle()

    drawn = page.evaluate(
        "() => { const all = document.getElementById('pad').getContext('2d')"
        ".getImageData(0, 0, 28, 28).data; return [...all].filter((_, i) => i % 4 === 0) }"
    )
    image = np.array(drawn, np.uint8).reshape(1, 28, 28)
    assert image.max() == 255 and 30 < (image > 127).sum() < 200
    path = runs[name] / "best.pth"
    submission = load_trained(path, checkpoint.load(path))
    labels = torch.tensor(
        [
            int(
                page.evaluate(
                    "() => document.querySelector('#pad-labels [aria-pressed=true]').textContent"
                )
            )
        ]
    )
    codes = submission.encode(to_float(torch.from_numpy(image)), labels)
    recon = to_uint8(submission.decode(codes, labels))
    # The page draws with fractions of a grey level, the canvas has whole ones.
    assert shown.number("ssim") == pytest.approx(ssim_per_image(recon, image)[0], abs=5e-3)
    assert shown.number("mse") == pytest.approx(mse_per_image(recon, image)[0], abs=2e-3)


STROKE = ((0.35, 0.25), (0.65, 0.25), (0.5, 0.5), (0.45, 0.8))


@needs_browser
@pytest.mark.parametrize("name", [*DRAWING, "no_encoder"])
def test_picked_images_have_torchs_scores(opened, runs, name, tiny_data):
    shown = opened(name)
    path = runs[name] / "best.pth"
    submission = load_trained(path, checkpoint.load(path))
    dataset = MNISTDataset(tiny_data)  # sorted by label, so the page has its images in this order
    for i in (0, 40, 119):
        shown.page.locator("#images button").nth(i).click()
        shown.settle()
        image = dataset.images[i : i + 1]
        label = torch.from_numpy(dataset.labels[i : i + 1])
        codes = submission.encode(to_float(torch.from_numpy(image)), label)
        recon = to_uint8(submission.decode(codes, label))
        assert shown.number("ssim") == pytest.approx(ssim_per_image(recon, image)[0], abs=TOLERANCE)
        assert shown.number("mse") == pytest.approx(mse_per_image(recon, image)[0], abs=TOLERANCE)
    if name != "no_encoder":  # whose posterior was computed beforehand, without noise
        shown.changes("recon", lambda: shown.page.click("#redraw"))
    shown.changes("picture", lambda: shown.page.click("#take"))


@needs_browser
@pytest.mark.parametrize("name", MODELS)
def test_the_browser_computes_what_torch_computes(opened, name):
    differences = opened(name).page.evaluate("() => measured.differences")
    names = {"gan": {"images"}, "no_decoder": {"mu", "log_var"}, "no_encoder": {"images"}}
    everything = {"images", "mu", "log_var", "reconstructions"}
    assert set(differences) == names.get(name, everything)
    assert max(differences.values()) < TOLERANCE, differences
    said = opened(name).page.inner_text("#agreement")
    assert "stored as float16" in said and "differ by 0.0" in said


@needs_browser
def test_a_decoder_that_exports_for_one_image_only(opened):
    batch = "() => facts.decoder.batch"
    assert opened("no_encoder").page.evaluate(batch) == 1
    assert opened("gen").page.evaluate(batch) is None


@needs_browser
def test_the_plane_follows_the_pointer_and_the_keys(opened):
    shown = opened("plane")
    page = shown.page
    page.locator("#plane-map").scroll_into_view_if_needed()
    shown.changes("plane-picture", lambda: page.locator("#plane-map").hover())
    place = page.inner_text("#plane-place")
    page.focus("#plane-map")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    shown.settle()
    assert page.inner_text("#plane-place") != place
    shown.changes("plane-map", lambda: page.click("#plane-dots"))
    assert opened("vae").page.is_hidden("#plane")


@needs_browser
def test_the_page_says_what_it_lacks(opened):
    def notices(name: str) -> str:
        return opened(name).page.inner_text("#notices")

    assert notices("gen") == notices("vae") == notices("plane") == ""
    assert "no encoder" in notices("gan") and opened("gan").page.is_hidden("#encode")
    assert "cannot draw" in notices("no_encoder") and "decoder" not in notices("no_encoder")
    assert "made by PyTorch beforehand" in notices("no_decoder")
    assert opened("no_encoder").page.is_hidden("#clear")


@needs_browser
@pytest.mark.parametrize("name", ZOO)
def test_a_model_of_the_zoo_runs_in_the_browser(name, browser, tiny_set, tmp_path):
    """Untrained, as export and browser do not depend on the values of the weights."""
    torch.manual_seed(0)
    task = "Genwithlabel" if "Genwithlabel" in zoo.command_of(name) else "VAEwolabel"
    submission = Submission(ROOT / "zoo" / f"{name}.py", task, 4)
    submission.model.eval()
    if name == "record":  # when fitted, it refines its codes, but not in the browser
        submission.model.flow_epochs = 1
        submission.model.fit_prior(torch.randn(200, 4), torch.arange(200) % 10)
    text, held = document.build(submission, tiny_set, {"name": name, "epoch": 0, "var": None})
    assert held and all(half["precision"] for half in held.values()), held
    (tmp_path / "explorer.html").write_text(text, encoding="utf-8")
    shown = Explorer(browser, tmp_path / "explorer.html", locale="en-US")
    page = shown.page
    for value in ("min", "max"):
        move = f"one => {{ one.value = one.{value}; one.dispatchEvent(new Event('input')) }}"
        slider = page.locator("#sliders input").first
        shown.changes("picture", lambda move=move, slider=slider: slider.evaluate(move))
    for label in "18":
        press = f"#label-buttons >> text={label}"
        shown.changes("picture", lambda press=press: page.click(press))
    differences = page.evaluate("() => measured.differences")
    expected = {"images", "mu", "log_var", "reconstructions"} if "encoder" in held else {"images"}
    assert set(differences) == expected and max(differences.values()) < TOLERANCE, differences
    assert page.evaluate("() => measured.errors") == shown.complaints == []
    shown.context.close()


# ---------------------------------------------------------------- for everyone


@needs_browser
@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_cut_off_on_a_phone(opened, name):
    page = opened(name).page
    page.set_viewport_size({"width": 390, "height": 844})
    outside = page.evaluate(
        """() => [...document.querySelectorAll("body *:not(script)")].filter(one => {
          const box = one.getBoundingClientRect();
          return box.width > 0 && (box.left < 0 || box.right > 390.5);
        }).map(one => one.outerHTML.slice(0, 80))"""
    )
    assert outside == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 900})


@needs_browser
@pytest.mark.parametrize("name", ["gen", "plane", "gan"])
def test_the_keyboard_reaches_everything(opened, name):
    shown = opened(name)
    page = shown.page
    page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0) }")
    all_controls = """() => [...document.querySelectorAll("button, input, select, [tabindex]")]
      .filter(one => one.checkVisibility() && one.tabIndex >= 0).length"""
    reached = set()
    for _ in range(page.evaluate(all_controls)):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("""() => {
          const one = document.activeElement;
          return [...document.querySelectorAll("*")].indexOf(one);
        }""")
        )
    assert len(reached) == page.evaluate(all_controls)
    # Of a gallery, one image is reached with Tab, and the others with arrows.
    page.locator("#samples-grid button[tabindex='0']").focus()
    page.keyboard.press("Home")
    for key, place in (("ArrowRight", 1), ("ArrowDown", 11), ("ArrowUp", 1), ("End", 49)):
        page.keyboard.press(key)
        position = "() => [...document.querySelectorAll('#samples-grid button')]"
        assert page.evaluate(f"{position}.indexOf(document.activeElement)") == place
    shown.changes("picture", lambda: page.keyboard.press("Enter"))


@needs_browser
def test_drawing_with_the_keyboard(opened):
    shown = opened("vae")
    page = shown.page
    page.focus("#pad")
    page.keyboard.press("Delete")
    shown.settle()

    def draw() -> None:
        page.keyboard.press(" ")
        for _ in range(10):
            page.keyboard.press("ArrowDown")

    shown.changes("recon", draw)


@needs_browser
@pytest.mark.parametrize(
    "theme, names", [("light", ("gen", "plane", "no_decoder")), ("dark", ("gen", "no_decoder"))]
)
def test_accessibility(opened, theme, names):
    for name in names:
        page = opened(name).page
        if page.evaluate("() => document.documentElement.dataset.theme") != theme:
            page.click("#theme")
        faults = Axe().run(page).response["violations"]
        assert [(fault["id"], fault["nodes"][0]["html"][:90]) for fault in faults] == []


@needs_browser
def test_language_and_theme_follow_the_system_until_one_chooses(runs, browser):
    chinese = Explorer(
        browser, runs["no_decoder"] / "explorer.html", locale="zh-CN", color_scheme="dark"
    )
    page = chinese.page
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert page.get_attribute("html", "data-theme") == "dark"
    assert page.inner_text("h1") == "潜空间探索"
    page.click("#language")
    assert page.inner_text("h1") == "Latent space explorer"
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") == "light"
    assert chinese.complaints == []
    chinese.context.close()


@needs_browser
@pytest.mark.parametrize("name", MODELS)
def test_no_complaint_and_no_network(opened, name):
    """After everything above: nothing in the console, and no request to a network."""
    assert opened(name).complaints == []
    assert opened(name).page.evaluate("() => measured.errors") == []


@needs_browser
def test_times_are_shown_with_debug(opened):
    shown = opened("gen")
    times = shown.page.evaluate("() => measured.sliderMs")
    assert len(times) >= 2 and min(times) > 0
    assert "slider: last" in shown.page.inner_text("#debug")
    assert shown.page.evaluate("() => measured.loadMs") > 0


# ---------------------------------------------------------------- without a browser


def test_both_languages_have_the_same_texts():
    texts = json.loads((document.HERE / "page" / "texts.json").read_text(encoding="utf-8"))
    assert list(texts["en"]) == list(texts["zh"])
    page = (document.HERE / "page" / "page.html").read_text(encoding="utf-8")
    for key, english in texts["en"].items():
        assert sorted(placeholders(english)) == sorted(placeholders(texts["zh"][key])), key
    for key in re.findall(r'data-(?:text|label)="([^"]+)"', page):
        assert key in texts["en"]


def placeholders(text: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", text)


def test_the_vendored_runtime_is_the_stated_one():
    folder = document.HERE / "runtime"
    facts = json.loads((folder / "runtime.json").read_text())
    assert set(facts["sha256"]) == set(document.RUNTIME)
    for name, digest in facts["sha256"].items():
        content = gzip.decompress((folder / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == digest
        if name.endswith(".mjs"):
            assert f"ONNX Runtime Web v{facts['version']}".encode() in content[:200]
    assert (folder / "LICENSE").read_text().startswith("MIT License")


def test_the_runtime_is_updated_whole(tmp_path):
    files = {
        "package.json": json.dumps({"version": "9.9.9", "license": "MIT"}).encode(),
        **{f"dist/{name}": name.encode() for name in document.RUNTIME},
    }
    assert update_runtime.write(files, tmp_path)["version"] == "9.9.9"
    stated = json.loads((tmp_path / "runtime.json").read_text())["sha256"]
    for name in document.RUNTIME:
        content = gzip.decompress((tmp_path / f"{name}.gz").read_bytes())
        assert content == name.encode() and stated[name] == hashlib.sha256(content).hexdigest()
    files["package.json"] = json.dumps({"version": "9.9.9", "license": "other"}).encode()
    with pytest.raises(update_runtime.UpdateError, match="under other; expected MIT"):
        update_runtime.write(files, tmp_path)


def test_weights_stay_fp32_where_rounding_changes_a_figure(monkeypatch, tiny_set):
    submission = Submission(ROOT / "model.py", "VAEwolabel", 4)
    monkeypatch.setattr(document, "TOLERANCE", 0)
    _, held = document.build(submission, tiny_set, {"name": "run", "epoch": 1, "var": 0.5})
    assert {half["precision"] for half in held.values()} == {"fp32"}


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_triangular_systems(n, upper):
    generator = torch.Generator().manual_seed(n)
    matrix = torch.randn(3, n, n, generator=generator) / n + 2 * torch.eye(n)
    matrix = matrix.triu() if upper else matrix.tril()
    right = torch.randn(3, n, 2, generator=generator)
    expected = torch.linalg.solve_triangular(matrix, right, upper=upper)
    assert torch.allclose(export.solve_triangular(matrix, right, upper), expected, atol=1e-5)


def test_names_cannot_end_the_element_they_stand_in():
    assert "<" not in document._json({"name": "</script><script>alert(1)</script>"})


def test_without_the_packages_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(export, "PACKAGES", ("onnx", "not_installed_here"))
    monkeypatch.setattr(sys, "argv", ["explore.py", "nowhere"])
    with pytest.raises(SystemExit) as stop:
        explore.main()
    assert stop.value.code == 2
    words = capsys.readouterr().err
    assert words.count("\n") == 1
    assert "not_installed_here" in words and "requirements/explore.txt" in words
    assert "onnx and" not in words  # which is installed


def test_a_page_is_opened_only_where_there_are_windows(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(explore.webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not explore.show(tmp_path / "explorer.html") and opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    assert explore.show(tmp_path / "explorer.html")
    assert opened == [(tmp_path / "explorer.html").as_uri()]


def test_a_folder_without_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["explore.py", str(tmp_path), "--no_open"])
    with pytest.raises(SystemExit) as stop:
        explore.main()
    assert stop.value.code == 2 and "holds no checkpoint" in capsys.readouterr().err
