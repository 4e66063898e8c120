"""The speed benchmarks: both sides do the same work, and documents show the stored figures."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import ROOT, run

from benchmarks import bare_loop, growth, headline, records_page, speed, speed_page
from benchmarks.markdown import block_in
from benchmarks.usual import load_model
from lab.settings import Settings
from lab.split_model import Submission
from trainer import Trainer

FIGURES = json.loads(speed.FIGURES.read_text(encoding="utf-8"))
# Rows that docs/speed.md marks as behind. The commands import torch whole, which takes 60 MiB more
# than the parts of it that the lab needs.
BEHIND = {"peak_memory"}
# Ratios that the stored figures must reach, beyond being ahead.
AT_LEAST = {
    "epoch_conv": 2.5,
    "epoch_conv_validated": 3.0,
    "grade_process": 4.0,
    "peak_memory": 0.85,
    "pythae_mlp": 1.25,
    "lightning_mlp": 1.25,
    "pythae_conv": 1.0,
    "lightning_conv": 1.0,
    "pythae_conv_as_shipped": 1.5,
    "lightning_conv_as_shipped": 1.5,
}


def last_line(result) -> dict:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_the_usual_pipeline_trains_infers_and_scores_as_the_lab_does(tiny_data, tmp_path):
    usual = "benchmarks.usual"
    arrow, outputs = tmp_path / "tiny.arrow", tmp_path / "outputs"
    assert run(usual, "arrow", tiny_data, arrow).returncode == 0
    words = [ROOT / "model.py", "--train", arrow, "--valid", arrow, "--epochs", 2]
    found = last_line(run(usual, "train", *words, "--out", tmp_path / "usual.pth"))
    assert len(found["epochs"]) == len(found["validated"]) == 2
    words = [ROOT / "model.py", "--data", arrow, "--checkpoint", tmp_path / "usual.pth"]
    assert last_line(run(usual, "infer", *words, "--out", outputs))["seconds"] > 0
    theirs = last_line(run(usual, "grade", "--data", arrow, "--outputs", outputs))

    # The lab's grader can read its folders of PNG files: both must compute the same scores.
    (outputs / "hyperparams.json").write_text('{"latent_dim": 20}', encoding="utf-8")
    result = tmp_path / "grade.json"
    words = ["--no-VAEwolabel", "--Genwithlabel_output_dir", outputs, "--output", result]
    assert run("grade.py", "--test_data_path", tiny_data, *words).returncode == 0
    ours = json.loads(result.read_text(encoding="utf-8"))["Genwithlabel"]
    for score in ("ssim", "mse", "fid"):
        assert ours[score] == pytest.approx(theirs[score], abs=1e-9)


def test_the_labs_side_is_timed_from_inside(tiny_data, tmp_path):
    ours = "benchmarks.ours"
    words = ["--submission", "model.py", "--epochs", 3, "--save_dir", tmp_path / "run"]
    found = last_line(
        run(ours, "train", *words, "--train_data", tiny_data, "--valid_data", tiny_data)
    )
    assert len(found["epochs"]) == 3
    assert all(with_all > alone for alone, with_all in zip(found["epochs"], found["validated"]))
    words = ["--checkpoint_path", tmp_path / "run" / "best.pth", "--data_path", tiny_data]
    assert last_line(run(ours, "infer", *words))["seconds"] > 0
    assert (tmp_path / "run" / "inference" / "recon.npy").exists()


def trainer_and_plain_loop(tiny_set, epochs: int) -> tuple[Trainer, bare_loop.PlainLoop]:
    """Return both sides of the comparison, on the same model, data and settings."""
    module = load_model(ROOT / "model.py")
    settings = Settings(epochs=epochs, batch_size=64, eval_num=50, device="cpu")
    submission = Submission(ROOT / "model.py", "VAEwolabel", 20)
    trainer = Trainer(submission, settings, tiny_set, tiny_set, progress=False)
    trainer.prepare()
    plain = bare_loop.PlainLoop(module, tiny_set, settings, trainer.device, trainer.precision.bf16)
    return trainer, plain


def test_the_trainer_and_the_plain_loop_get_the_same_batches(tiny_set):
    trainer, plain = trainer_and_plain_loop(tiny_set, epochs=2)
    before = [parameter.detach().clone() for parameter in plain.model.parameters()]
    in_turn = bare_loop.InTurn(trainer, tiny_set, plain)
    for epoch in (0, 1):
        batches = [labels for _, labels in in_turn.epoch(epoch)]
        assert len(batches) == len(in_turn)
        for labels, index in zip(batches, plain.indices(epoch)):
            assert torch.equal(labels, plain.labels[index])
    after = list(plain.model.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after))
    assert {type(layer).__module__.split(".")[0] for layer in plain.model.children()} == {"torch"}

    plain.labels = plain.labels.roll(1)
    with pytest.raises(RuntimeError, match="different images"):
        list(in_turn.epoch(0))


def test_the_seconds_of_both_sides_are_kept_per_epoch(tiny_set):
    trainer, plain = trainer_and_plain_loop(tiny_set, epochs=3)
    in_turn = bare_loop.InTurn(trainer, tiny_set, plain)
    trainer.batches, trainer.callbacks = in_turn, [in_turn]
    assert trainer.fit()
    assert len(in_turn.pairs) == 3
    assert all(ours > 0 and theirs > 0 for ours, theirs in in_turn.pairs)
    assert sum(map(sum, in_turn.pairs)) == pytest.approx(trainer.state.seconds)


def test_an_exponent_is_the_slope_of_the_last_points():
    assert growth.exponent([1, 2, 4, 8], [9, 10, 80, 640]) == pytest.approx(3)


def test_sides_run_in_turn():
    order = []
    sides = {name: lambda name=name: order.append(name) or {} for name in "ab"}
    assert len(speed.in_turn(sides, rounds=2)) == 2
    assert order == ["b", "a", "a", "b"]


def test_every_promised_figure_is_stored():
    for name in speed.GIVES:
        if not name.startswith("headline"):
            assert FIGURES["ratios"][name]["n"] >= 3, name
        else:
            assert FIGURES["seconds"][name]["n"] == len(headline.SEEDS), name
    assert set(speed_page.RATIOS) | set(speed_page.COSTS) == set(FIGURES["ratios"])
    assert speed_page.behind(FIGURES) == BEHIND
    assert FIGURES["minutes"] <= 15
    assert block_in(speed_page.PAGE, "speed") == speed_page.render(FIGURES)
    summary = block_in(speed_page.README, "speed-summary")
    assert summary == speed_page.render_summary(FIGURES) and "(docs/speed.md)" in summary


@pytest.mark.parametrize(("name", "least"), AT_LEAST.items())
def test_ratios_reach_their_bounds(name, least):
    assert FIGURES["ratios"][name]["median"] >= least


def test_ratios_say_how_many_times_as_fast_the_lab_is(monkeypatch, tmp_path):
    """The usual side is ten times as slow; the first epoch of both is slow and not counted."""
    one = speed.Speed(tmp_path, [])
    one.workers = 0
    epochs = {"epochs": [99.0, 1.0], "validated": [99.0, 2.0], "peak_mib": 100}
    slow = {"epochs": [1.0, 10.0], "validated": [1.0, 60.0], "peak_mib": 300}
    monkeypatch.setattr(one, "our_train", lambda *_: epochs)
    monkeypatch.setattr(one, "usual_train", lambda *_: slow)
    monkeypatch.setattr(one, "library", lambda *_: lambda: slow)
    monkeypatch.setattr(speed, "find_spec", lambda name: name == "pythae")
    ratios = one.epochs("mlp")["ratios"]
    assert {name: row["median"] for name, row in ratios.items()} == {
        "epoch_mlp": 10,
        "epoch_mlp_validated": 30,
        "pythae_mlp": 10,
        "pythae_mlp_as_shipped": 10,
        "epoch_mlp_validated_as_often": 30,
        "peak_memory": 3,
    }
    assert ratios["epoch_mlp"]["theirs"] == 10 and ratios["epoch_mlp"]["ours"] == 1


def test_a_row_that_is_behind_is_marked_behind():
    slow = {"ratios": {"grade_process": speed.compared([1, 1, 1], [0.5, 0.99, 5.0])}}
    assert "| behind |" in speed_page.table(slow) and "| ahead |" not in speed_page.table(slow)
    assert speed_page.behind(slow) == {"grade_process"}
    fast = {"ratios": {"grade_process": speed.compared([1, 1, 1], [0.5, 1.01, 5.0])}}
    assert "| ahead |" in speed_page.table(fast) and not speed_page.behind(fast)


@pytest.mark.parametrize(
    ("kind", "name", "bound"),
    [
        ("ratios", "trainer_over_bare_mlp", 1.05),
        ("ratios", "trainer_over_bare_conv", 1.0),
        ("seconds", "headline_vae_train_s", 4.0),
        ("seconds", "headline_vae_total_s", 8.0),
        ("seconds", "headline_gen_train_s", 8.0),
    ],
)
def test_a_cost_or_time_above_its_bound_is_behind(kind, name, bound):
    for value, word in ((bound, "ahead"), (bound + 0.01, "behind")):
        figures = {kind: {name: {**speed.summary([value]), "ours": value, "theirs": 1.0}}}
        assert f"| {word} |" in speed_page.table(figures)
        assert speed_page.behind(figures) == ({name} if word == "behind" else set())


def test_one_failure_does_not_lose_the_rest(monkeypatch):
    def fails(self):
        raise RuntimeError("no")

    monkeypatch.setattr(speed.Speed, "headline", fails)
    monkeypatch.setattr(speed.Speed, "grade", lambda self: {"ratios": {"grade_process": 7}})
    kept = []
    assert speed.measure_all({"headline", "grade"}, [], kept.append) == ["headline"]
    assert kept[-1]["ratios"] == {"grade_process": 7}


def test_the_record_tables_show_the_stored_runs():
    records = json.loads(headline.FIGURES.read_text(encoding="utf-8"))
    priors = json.loads(headline.PRIORS_FIGURES.read_text(encoding="utf-8"))
    for name, block in records_page.blocks(records, priors).items():
        assert block_in(headline.RECORDS / "README.md", name) == block, name
    newest = {}
    for record in records:
        assert record["log"] is None or (headline.RECORDS / record["log"]).is_file()
        for name, rows in record["rows"].items():
            newest[name] = record["recipes"][name]
            assert {row["seed"] for row in rows} == set(headline.SEEDS)
            for row in rows:
                headline.check(name, row)
                assert name == "vae" or all(row[key] > 0 for key in headline.JUDGED)
                # A line without a date has no seconds: they are not those of a busy machine.
                assert all((row[key] is None) == (not record["timed"]) for key in headline.SECONDS)
    assert newest == headline.RECIPES


def test_a_line_has_its_labels_if_every_run_has_them():
    record = {"rows": {"gen": [{"judge_accuracy": 0.99}, {"judge_accuracy": 0.95}], "vae": [{}]}}
    assert records_page.is_labelled(record, "gen") and not records_page.is_labelled(record, "vae")
    record["rows"]["gen"][1]["judge_accuracy"] = 0.949
    assert not records_page.is_labelled(record, "gen")


def test_a_line_run_again_must_repeat_its_scores(monkeypatch, tmp_path):
    row = {"seed": 42, "raw": 29.5, "judge_accuracy": 0.96, "train": None}
    rows = [row | {"seed": seed} for seed in headline.SEEDS]
    record = {"recipes": {"gen": "a"}, "rows": {"gen": rows}, "timed": None}
    new = {"raw": 29.505, **dict.fromkeys(headline.SECONDS, 3.0)}
    monkeypatch.setattr(headline, "run", lambda *args, judge: new)
    headline.again([record], tmp_path, timed=True)
    assert record["timed"] and {row["train"] for row in rows} == {3.0}
    assert all(row["raw"] == 29.5 for row in rows)
    new["raw"] = 29.6
    with pytest.raises(headline.MissedError, match=r"raw 29\.6000; its line has 29\.5000"):
        headline.again([record], tmp_path, timed=True)


def test_the_mixture_maps_codes_to_normal_numbers_and_back():
    """The codes lie on a curve, which one Gaussian misses; float16 rounds as in inference."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4000) % 10
    codes = torch.randn(4000, 4, generator=generator)
    codes[:, 1] = codes[:, 0].square() + 0.1 * codes[:, 1]
    misses = {}
    for splits in (0, 3):
        path = ROOT / "benchmarks" / "records" / "mixture.py"
        model = Submission(path, "Genwithlabel", 4, f"splits={splits}").model.eval()
        model.fit_prior(codes, labels)
        z = model.to_standard(codes, labels)
        assert z.mean(dim=0).abs().max() < 0.1 and (z.std(dim=0) - 1).abs().max() < 0.1
        errors = (model.from_standard(z.half().float(), labels) - codes).abs().amax(dim=1)
        assert errors.median() < 0.01 and errors.quantile(0.99) < 0.1
        drawn = model.from_standard(torch.randn(4000, 4, generator=generator), labels)
        assert (drawn.mean(dim=0) - codes.mean(dim=0)).abs().max() < 0.1
        misses[splits] = (drawn[:, 1] - drawn[:, 0].square()).abs().mean()
    assert misses[3] < 0.6 * misses[0]
