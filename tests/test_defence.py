"""The oral defence: questions whose condition holds, on the student's own lines and figures."""

from __future__ import annotations

import re
import shutil

import pytest
from classmates import HONEST
from conftest import ROOT, run
from handed_in import needs_bubblewrap

from staff import questions as asked
from staff.integrity.code import Code, read_code
from staff.questions import TEMPLATES, Facts, questions

STUDENT = (ROOT / "tests" / "submissions" / "student.py").read_text(encoding="utf-8")
ROWS = [
    {"epoch": 1, "train_loss": 60.0, "valid_loss": 50.0, "skipped_steps": 0},
    {"epoch": 2, "train_loss": 45.0, "valid_loss": 44.0, "skipped_steps": 0},
    {"epoch": 3, "train_loss": 40.0, "valid_loss": 47.0, "skipped_steps": 0},
]
FIGURES = {
    "kl": [0.01, 3.2, 0.02, 2.5],
    "sigma": [0.99, 0.1, 0.98, 0.2],
    "effect": [1e-6, 0.02, 2e-6, 0.01],
    "squared_error": 31.4,
    "parameters": {"fc1.weight": 200704, "fc3.weight": 200704},
}
LABELS = [{"label": k, "ssim": 0.9 - 0.01 * k, "mse": 0.01 + 0.001 * k} for k in range(10)]


CODE = read_code(STUDENT.encode())


def facts(code: Code = CODE, **named) -> Facts:
    settings = {"var": 0.5, "batch_size": 256, "lr": 5e-3, "lr_schedule": "cosine"}
    own = {"history": ROWS, "figures": FIGURES, "per_label": LABELS, **named}
    return Facts("Genwithlabel", code.lines, code.sites, settings, **own)


def test_five_questions_on_own_lines_and_figures():
    found = questions(facts())
    assert len(found) == 5 and sum(bool(one.line) for one in found) >= 2
    texts = " ".join(one.asked.en for one in found)
    assert "Dimension 0 of your code has a KL of 0.010" in texts
    assert "rose after epoch 2" in texts
    for one in found:
        if one.line:
            assert f"ine {one.line}" in one.asked.en and f"第 {one.line} 行" in one.asked.zh
        for text in (one.asked, one.answer, one.expect):
            numbers = [sorted(re.findall(r"\d+\.\d+", words)) for words in (text.en, text.zh)]
            assert numbers[0] == numbers[1] and text.en.isascii() and not text.zh.isascii()


def test_the_quoted_lines_are_the_right_ones():
    lines = STUDENT.splitlines()
    places = CODE.sites
    expected = {
        "sum": ".sum(", "mean": ".mean()", "exp": "exp", "layer": "nn.", "one_hot": "one_hot",
        "sigmoid": "sigmoid", "noise": "randn", "activation": "relu",
    }  # fmt: skip
    assert {site.kind for site in places} == set(expected)
    for site in places:
        assert expected[site.kind] in lines[site.line - 1], site
    assert {site.detail for site in places if site.kind == "sum"} == {"kl", "recon"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.__name__)
def test_each_template_asks_only_where_its_condition_holds(template):
    nothing = Facts("VAEwolabel", (), (), {}, ())
    assert template(nothing) is None
    used = {**FIGURES, "kl": [1.0, 3.2, 2.0, 2.5]}
    falling = ROWS[:2]
    skipped = [{**ROWS[0], "skipped_steps": 3}]
    gap = [{**ROWS[0], "train_loss": 40.0}]
    none = {**FIGURES, "kl": [0.01, 0.02, 0.03, 0.04]}
    unused = {**FIGURES, "effect": [0.0] * 4}
    some = [
        facts(figures=none),
        facts(figures=unused),
        facts(),
        facts(figures=used),
        facts(history=falling),
        facts(history=skipped),
    ]
    some.append(facts(history=gap))
    assert any(template(one) for one in some)


def test_the_answers_are_the_figures():
    weak = asked.weakest_dimension(facts())
    assert weak and "0.000001" in weak.answer.en and "3.20" in weak.answer.en
    rose = asked.loss_rose(facts())
    assert rose and "44.00 in epoch 2" in rose.answer.en and "overfits" in rose.expect.en
    noisy = [*ROWS[:2], {**ROWS[2], "train_loss": 46.0}]
    rose = asked.loss_rose(facts(history=noisy))
    assert rose and "not overfitting" in rose.expect.en
    mean = asked.sum_or_mean(facts())  # of the KL, over 4 dimensions
    assert mean and "divided by 4" in mean.answer.en and "the KL 5.7;" in mean.answer.en
    worst = asked.worst_label(facts())
    assert worst and "digit 9 are the worst and those of 0 the best" in worst.asked.en


def test_what_is_expected_is_true_of_this_submission():
    lean = [{**one, "mse": 0.02 - one["mse"]} for one in LABELS]  # ssim and mse disagree
    worst = asked.worst_label(facts(per_label=lean))
    assert worst and "The mse says the opposite" in worst.expect.en
    best_is_one = [{**one, "label": (one["label"] + 1) % 10} for one in LABELS]
    for rows, said in ((LABELS, False), (best_is_one, True)):
        worst = asked.worst_label(facts(per_label=rows))
        assert worst and ("a 1 is one stroke" in worst.expect.en) == said
    # A dimension that still changes the image is not ignored; a decoder without z uses none.
    moving = {**FIGURES, "effect": [0.005, 0.02, 0.004, 0.01]}
    assert asked.weakest_dimension(facts(figures=moving)) is None
    blind = facts(figures={**FIGURES, "kl": [1.0, 3.2, 0.0, 0.0], "effect": [0.0] * 4})
    for template in (asked.weakest_dimension, asked.strongest_dimension, asked.unused_dimensions):
        assert template(blind) is None
    assert asked.ignored_code(blind) and not asked.ignored_code(facts())
    wide = {**FIGURES, "kl": [0.2, 0.4, 0.3, 0.2], "sigma": [0.9, 0.8, 0.85, 0.9]}
    strong = asked.strongest_dimension(facts(figures=wide))
    assert strong and "is narrower than" in strong.expect.en and "much" not in strong.expect.en


def test_each_task_is_asked_about_its_own_class_and_nothing_twice():
    code = read_code(HONEST[3].encode())
    gen = facts(code)
    vae = Facts("VAEwolabel", gen.lines, gen.sites, gen.settings, ROWS, FIGURES, LABELS)
    start = HONEST[3][: HONEST[3].index("class GenModel")].count("\n")
    end = HONEST[3][: HONEST[3].index("def vae_loss")].count("\n")
    for one, inside in ((vae, False), (gen, True)):
        places = [*one.of_kind("layer"), *one.of_kind("activation"), *one.of_kind("noise")]
        assert places and all((start < place.line <= end) == inside for place in places)
    inherits = facts()  # from VAE, whose places come after its own
    lines = [place.line for place in inherits.of_kind("activation")]
    assert lines[0] > lines[-1] and inherits.of_kind("layer")
    first = questions(vae)
    second = questions(gen, first)
    assert len(first) == 5 and len(second) >= 3
    assert not {one.asked for one in first} & {one.asked for one in second}


def test_forged_figures_ask_nothing_and_break_nothing():
    for forged in (
        {"kl": "many", "effect": None},
        {"kl": [float("nan")] * 4, "effect": [1.0]},
        {"kl": [], "effect": [], "sigma": "x", "squared_error": "y"},
    ):
        for template in TEMPLATES:
            template(facts(figures={**forged, "parameters": {}}))


@pytest.mark.parametrize("number", range(20))
def test_every_design_is_asked_about_its_lines(number):
    found = questions(facts(read_code(HONEST[number].encode())))
    assert len(found) == 5 and sum(bool(one.line) for one in found) >= 2


@needs_bubblewrap
def test_a_page_per_student(tmp_path, tiny_run):
    own = tmp_path / "class" / "ada"
    own.mkdir(parents=True)
    shutil.copy(tiny_run / "submission.py", own)
    shutil.copy(tiny_run / "best.pth", own / "VAEwolabel.pth")
    (tmp_path / "class" / "<i>bob").mkdir()
    for language, words in (("en", "Answer:"), ("zh", "答案：")):
        out = tmp_path / language
        done = run("staff.defence", tmp_path / "class", out, "--language", language)
        assert done.returncode == 0 and "2 pages" in done.stdout, done.stderr
        page = (out / "ada.html").read_text(encoding="utf-8")
        assert page.count(words) == 5 and "could not be measured" not in page
        other = next(file for file in out.glob("*.html") if file.name != "ada.html")
        page = other.read_text(encoding="utf-8")
        assert "&lt;i&gt;bob" in page and "<i>bob" not in page
