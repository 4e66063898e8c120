"""Two commands in one folder: the second is refused, unless the first is dead."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from conftest import ROOT, start

import inference
import train
from lab.lock import FolderInUseError, only_one

HOLD = """import sys, time
from pathlib import Path
from lab.lock import only_one

with only_one(Path(sys.argv[1]), "--save_dir"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path / "run"."""
    script = tmp_path / "hold.py"
    script.write_text(HOLD, encoding="utf-8")
    process = start(script, tmp_path / "run")
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_lock_names_its_holder_and_ends_with_it(holder, tmp_path):
    folder = tmp_path / "run"
    expected = rf"in use by process {holder.pid} on .*wait until it ends, or .*\(--out\)"
    with pytest.raises(FolderInUseError, match=expected), only_one(folder, "--out"):
        pass
    holder.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    holder.communicate()
    for _ in range(2):  # once from the dead process, once from this one
        with only_one(folder, "--out"):
            pass


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (train, ["--train_data", "DATA", "--valid_data", "DATA", "--submission", "model.py"]),
        (inference, ["--checkpoint_path", "CHECKPOINT", "--data_path", "DATA"]),
    ],
)
def test_a_second_command_in_a_folder_is_refused(
    module, words, holder, tmp_path, tiny_data, tiny_run, monkeypatch, capsys
):
    folder = tmp_path / "run"
    places = {"DATA": tiny_data, "CHECKPOINT": tiny_run / "best.pth"}
    words = [str(places.get(word, word)) for word in words]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["command", *words, "--save_dir", str(folder)])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    assert f"error: {folder} is in use by process {holder.pid} on" in capsys.readouterr().err
    assert [file.name for file in Path(folder).iterdir()] == [".lock"]
