"""submit.py makes one zip, and staff.collect takes it as it is."""

from __future__ import annotations

import io
import json
import os
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from conftest import ROOT, assert_clear_error, run

from lab import checkpoint
from lab.hand_in import HandInError, misfit, trained, zip_bytes
from staff.collect.__main__ import collect
from staff.collect.table import read_collected

TASK = "VAEwolabel"


def submit(folder: Path, tiny_run: Path, *more: object):
    """Submit model.py with the tiny run of one task."""
    words = ["--submission", ROOT / "model.py", "--task", TASK, f"--{TASK}", tiny_run]
    return run("submit.py", *words, *more, cwd=folder)


@pytest.fixture(scope="module")
def submitted(tmp_path_factory, tiny_run) -> tuple[str, Path]:
    """What submit.py printed, and the zip that it wrote."""
    folder = tmp_path_factory.mktemp("submitted")
    result = submit(folder, tiny_run, "--helped_by", "Bob: the KL")
    assert result.returncode == 0, result.stderr
    return result.stdout, folder / "submission.zip"


def test_the_zip_has_the_code_a_small_checkpoint_and_a_manifest(submitted, tiny_run):
    printed, file = submitted
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert list(files) == ["submission.py", f"{TASK}.pth", "manifest.json"]
    assert files["submission.py"] == (ROOT / "model.py").read_bytes()
    assert len(files[f"{TASK}.pth"]) < 0.4 * (tiny_run / "best.pth").stat().st_size
    stated = json.loads(files["manifest.json"])
    assert stated["help"] == "Bob: the KL" and stated["tasks"][TASK]["same_code"] is True
    assert len(stated["tasks"][TASK]["history"]) == 2
    for name, known in stated["files"].items():
        assert known["sha256"] == sha256(files[name]).hexdigest()
    assert "completion points" in printed
    for words in (
        "Genwithlabel.pth is not in it",
        "theory.pdf is not beside",
        "the file to hand in",
    ):
        assert words in printed
    assert "no help is declared" not in printed


def test_the_small_checkpoint_has_the_same_model(submitted, tiny_run, tmp_path):
    with zipfile.ZipFile(submitted[1]) as archive:
        archive.extract(f"{TASK}.pth", tmp_path)
    small, whole = checkpoint.load(tmp_path / f"{TASK}.pth"), checkpoint.load(tiny_run / "best.pth")
    assert small.keys() == whole.keys() and small["optimizer_state_dict"] == {}
    for name, weight in whole["model_state_dict"].items():
        assert torch.equal(small["model_state_dict"][name], weight)
    result = run(
        *("train.py", "--load_from_checkpoint", "--checkpoint", tmp_path / f"{TASK}.pth"),
        *("--submission", "model.py", "--save_dir", tmp_path / "again", "--epochs", 3),
    )
    assert_clear_error(result, "the checkpoint does not fit")


def test_the_same_files_give_the_same_zip(submitted, tiny_run, tmp_path):
    result = submit(tmp_path, tiny_run, "--helped_by", "Bob: the KL")
    assert result.stdout == submitted[0]
    assert (tmp_path / "submission.zip").read_bytes() == submitted[1].read_bytes()


def test_staff_collect_the_zip_as_it_is(submitted, tmp_path):
    download = tmp_path / "download" / "Ada Lovelace_7_assignsubmission_file_"
    download.mkdir(parents=True)
    (download / "submission.zip").write_bytes(submitted[1].read_bytes())
    (tmp_path / "roster.csv").write_text("id,name\n1,Ada Lovelace\n", encoding="utf-8")
    collect(tmp_path / "download", tmp_path / "roster.csv", tmp_path / "out", None)
    (row,) = read_collected(tmp_path / "out" / "collected.csv")
    assert (row["notes"], row["help"]) == ("", "Bob: the KL")
    assert sorted(file.name for file in (tmp_path / "out" / "1").iterdir()) == [
        *(f"{TASK}.pth", "manifest.json", "submission.py")
    ]


def test_what_is_missing_is_one_sentence(tmp_path, tiny_run):
    result = run("submit.py", "--submission", ROOT / "model.py", "--no_check", cwd=tmp_path)
    assert_clear_error(result, "runs holds no run of VAEwolabel", "--task Genwithlabel")
    assert_clear_error(run("submit.py", cwd=tmp_path), "submission.py does not exist")
    assert not list(tmp_path.iterdir())
    with pytest.raises(HandInError, match="is of VAEwolabel; expected a run of Genwithlabel"):
        trained("Genwithlabel", tmp_path, tiny_run)


def test_code_that_was_edited_is_a_warning_and_says_whether_the_weights_fit(tiny_run, tmp_path):
    one = trained(TASK, tmp_path, tiny_run)
    code = tmp_path / "submission.py"
    text = (ROOT / "model.py").read_text(encoding="utf-8")
    assert misfit(one, ROOT / "model.py") == ""
    code.write_text(text + "\n# a comment\n", encoding="utf-8")
    assert "The weights fit" in misfit(one, code)
    code.write_text(text.replace("512", "64").replace("400", "64").replace("256", "64"))
    assert "do not fit it, so they score 0" in misfit(one, code)
    code.write_text("class VAE:\n    pass\n")
    assert "do not fit it, so they score 0" in misfit(one, code)


def test_the_newest_run_counts_and_papers_go_in(tiny_run, tmp_path):
    for name, time in (("old", 1_760_000_000), ("new", 1_770_000_000)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        for file in ("best.pth", "hyperparams.json"):
            copy = tmp_path / "runs" / name / file
            copy.write_bytes((tiny_run / file).read_bytes())
            os.utime(copy, (time, time))
    (tmp_path / "submission.py").write_bytes((ROOT / "model.py").read_bytes())
    (tmp_path / "theory.pdf").write_bytes(b"%PDF")
    result = run("submit.py", "--task", TASK, "--no_check", cwd=tmp_path)
    assert str(Path("runs", "new", "best.pth")) in result.stdout, result.stderr
    assert "theory.pdf is not" not in result.stdout and "no help is declared" in result.stdout
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert archive.read("theory.pdf") == b"%PDF" and "report.pdf" not in archive.namelist()
        assert json.loads(archive.read("manifest.json"))["checked"] is None


def test_a_time_that_a_zip_cannot_hold():
    with zipfile.ZipFile(io.BytesIO(zip_bytes({"a": b"1"}, 0))) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
