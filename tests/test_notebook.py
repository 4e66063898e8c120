"""lab.ipynb: made from its source and the blank submission, and it runs from top to bottom."""

from __future__ import annotations

import shutil

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

from staff.handout import build, tracked
from staff.notebook import SOURCE, SUBMISSION, code_of
from staff.solutions import blank, leaks

REFERENCE = (ROOT / "submission.py").read_text(encoding="utf-8")
RECIPE = "--epochs 5 --batch_size 256"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return build(ROOT, tracked(ROOT, ROOT / "dist"))


@pytest.fixture
def book(files) -> nbformat.NotebookNode:
    return nbformat.reads(files["lab.ipynb"].decode("utf-8"), as_version=4)


def test_a_cell_writes_the_submission_of_the_handout(files, book):
    (cell,) = [cell for cell in book.cells if cell.source.startswith("%%writefile")]
    first, _, code = cell.source.partition("\n")
    assert first == "%%writefile submission.py" and f"{code}\n" == blank(REFERENCE)
    assert f"{code}\n".encode() == files["submission.py"]
    assert SUBMISSION not in files["lab.ipynb"].decode("utf-8")


def test_it_has_all_of_its_source_and_no_solution(files, book):
    cells = "\n".join(cell.source for cell in book.cells).replace(blank(REFERENCE).rstrip(), "")
    for line in SOURCE.read_text(encoding="utf-8").splitlines():
        assert line.startswith("```") or line == SUBMISSION or line in cells, line
    assert not list(leaks(REFERENCE, {"submission.py": code_of(files["lab.ipynb"]).encode()}))
    assert not [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")]


def test_it_runs_from_top_to_bottom(tmp_path, tiny_data, files, book, monkeypatch):
    """As a student runs it who copied model.py into the cell, with a tiny data set.

    Only the first command has a process of its own. The others run in the notebook's, to save the
    seconds in which each would import torch.
    """
    for name, content in files.items():
        if not name.startswith(("dataset/", "docs/")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    for split in ("train", "valid"):
        shutil.copytree(tiny_data, tmp_path / "dataset" / split)
    model = files["model.py"].decode("utf-8")
    for cell in book.cells:
        if cell.source.startswith("%%writefile"):
            cell.source = f"%%writefile submission.py\n{model}"
        assert ("recipe =" in cell.source) == (RECIPE in cell.source)
        cell.source = cell.source.replace(RECIPE, "--epochs 1 --batch_size 30 --eval_num 20")
        if "check.py" not in cell.source:
            cell.source = cell.source.replace("!{python} ", "%run ")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    printed = ["".join(out.get("text", "") for out in cell.outputs) for cell in code]
    pictures = [sum("image/png" in out.get("data", {}) for out in cell.outputs) for cell in code]
    assert (tmp_path / "submission.py").read_text(encoding="utf-8").rstrip() == model.rstrip()
    assert pictures == [0, 1, 0, 0, 0, 6, 0, 0]
    assert "47 of 47 completion points" in printed[3]
    assert "VAEwolabel" in printed[6] and "Genwithlabel" in printed[6] and "raw" in printed[6]
    assert printed[7].split() == ["VAEwolabel.pth", "Genwithlabel.pth"]
    assert all((tmp_path / name).is_file() for name in printed[7].split())
    assert not [text for text in printed if "Traceback" in text or "error:" in text]
