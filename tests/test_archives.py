"""Archives of students are read by a process with limits, and names become plain text."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
import zipfile
from pathlib import Path

import archives
import pytest
from conftest import ROOT, run
from hypothesis import given
from hypothesis import strategies as some

from staff import unzip
from staff.class_folder import MAX_KEY, keys_of, students_in
from staff.submissions import HandedInError, take
from staff.text import as_line, as_text, name_as_text

HONEST = {"submission.py": b"x = 1\n" * 100, "VAEwolabel.pth": bytes(range(256)) * 5000}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")

TAKE_ALL = """
import json, resource, sys
from pathlib import Path
from staff.class_folder import students_in
from staff.submissions import HandedInError, take

def peak(who):
    return resource.getrusage(who).ru_maxrss // 1024  # MiB

folder, into = map(Path, sys.argv[1:])
before, messages = peak(resource.RUSAGE_SELF), {}
for student in students_in(folder):
    try:
        take(student, into / student.key)
        messages[student.key] = "taken"
    except HandedInError as error:
        messages[student.key] = str(error)
grown = peak(resource.RUSAGE_SELF) - before
print(json.dumps([messages, grown, peak(resource.RUSAGE_CHILDREN)]))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[dict[str, str], int, int]:
    """Messages about hostile archives, and how much memory it took to read them all."""
    folder = tmp_path_factory.mktemp("hostile")
    archives.write(folder, HONEST)
    program = folder.parent / "take_all.py"
    program.write_text(TAKE_ALL)
    result = run(program, folder, folder.parent / "taken", env={})  # memory of a process of its own
    assert result.returncode == 0, result.stderr
    messages, grown, child = json.loads(result.stdout)
    return messages, grown, child


@on_linux
@pytest.mark.parametrize("name", archives.MESSAGES)
def test_a_hostile_archive_is_refused(hostile, name):
    assert archives.MESSAGES[name] in hostile[0][name]


@on_linux
def test_hostile_archives_take_no_memory(hostile):
    _, grown, child = hostile
    assert grown < archives.BOMB >> 21  # half of a bomb, in MiB
    assert child < unzip.LIMITS["AS"] >> 22  # a quarter of what it may have, in MiB


def zipped(folder: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    file = folder / "ada.zip"
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def taken(folder: Path) -> dict[str, bytes]:
    """Take the only student in a folder; return the content of the files."""
    (student,) = students_in(folder)
    handed_in = take(student, folder / ".taken")
    found = {"submission.py": handed_in.code, **handed_in.checkpoints}
    return {name: file.read_bytes() for name, file in found.items()}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("inside", ["", "lab/", "Müller/模型/"])
def test_an_honest_zip_is_taken_byte_by_byte(tmp_path, method, inside):
    more = {"notes.txt": b"", "__MACOSX/._submission.py": b"x", f"{inside}runs/": b""}
    zipped(tmp_path, more | {f"{inside}{name}": HONEST[name] for name in HONEST}, method)
    found = taken(tmp_path)
    assert found == {"submission.py": HONEST["submission.py"], "VAEwolabel": [*HONEST.values()][1]}


def test_a_zip_with_a_comment_is_taken(tmp_path):
    with zipfile.ZipFile(zipped(tmp_path, HONEST), "a") as archive:
        archive.comment = b"c" * 65_535
    assert set(taken(tmp_path)) == {"submission.py", "VAEwolabel"}


def test_an_encrypted_zip_says_what_to_do(tmp_path):
    content = bytearray(zipped(tmp_path, HONEST).read_bytes())
    for magic, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        content[content.index(magic) + place] |= unzip.ENCRYPTED
    (tmp_path / "ada.zip").write_bytes(content)
    with pytest.raises(HandedInError, match="without a password"):
        taken(tmp_path)


@on_linux
def test_the_reader_can_open_and_write_no_file(tmp_path):
    """The attempt stands for a defect of zlib that lets a member run code in the process."""
    file = zipped(tmp_path, HONEST)
    attempt = (
        "import sys; sys.path.insert(0, {root!r})\n"
        "from staff import unzip\n"
        "def attack(archive, member):\n"
        "    for path, mode in (('/etc/passwd', 'rb'), ({new!r}, 'wb')):\n"
        "        try:\n"
        "            open(path, mode)\n"
        "            unzip.send(b'!')\n"
        "        except OSError: pass\n"
        "    open(0, 'rb', closefd=False).read(0)\n"
        "unzip.send_content = attack\n"
        "sys.argv = ['unzip.py', {file!r}]\n"
        "unzip.main()\n"
    ).format(root=str(ROOT), new=str(tmp_path / "new"), file=str(file))
    completed = subprocess.run([sys.executable, "-c", attempt], input=b"0\n", capture_output=True)
    assert completed.stdout.startswith(unzip.MEMBER) and b"!\0\0\0\0" not in completed.stdout
    assert completed.stdout.endswith(unzip.DONE + bytes(4)), completed.stderr
    assert not (tmp_path / "new").exists()


@on_linux
def test_a_reader_that_uses_too_much_memory_is_one_sentence(tmp_path, monkeypatch):
    zipped(tmp_path, HONEST)
    broken = tmp_path / "broken.py"
    broken.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom staff import unzip\n"
        "unzip.open_zip = lambda file: bytearray(unzip.LIMITS['AS'])\nunzip.main()\n"
    )
    monkeypatch.setattr(unzip, "__file__", str(broken))
    with pytest.raises(HandedInError, match="too much memory"):
        taken(tmp_path)


@pytest.mark.parametrize("program", ["import time; time.sleep(1000)", "print('no message')", ""])
def test_a_reader_that_does_not_answer_is_one_sentence(tmp_path, monkeypatch, program):
    zipped(tmp_path, HONEST)
    (tmp_path / "broken.py").write_text(program)
    monkeypatch.setattr(unzip, "__file__", str(tmp_path / "broken.py"))
    monkeypatch.setattr("staff.archives.SECONDS", 0.5)
    with pytest.raises(HandedInError, match=r"ada.zip could not be read within"):
        taken(tmp_path)


def test_the_reader_imports_no_package_of_the_lab():
    code = "import sys, unzip; print(*{'lab', 'staff', 'numpy', 'torch'} & set(sys.modules))"
    words = [sys.executable, "-S", "-c", code]
    completed = subprocess.run(words, cwd=ROOT / "staff", capture_output=True, text=True)
    assert completed.returncode == 0 and completed.stdout.strip() == ""


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a\x1b[2Jb", "a?[2Jb"),
        ("a\u202egnp.exe", "a?gnp.exe"),
        ("a\tb\u00a0c\u3000d", "a b c d"),
        ("Zoë 王明\nsecond", "Zoë 王明\nsecond"),
        ("\udce9\ud800\x00\x7f\x9b", "?????"),
    ],
)
def test_text_is_safe_to_print(words, expected):
    assert as_text(words) == expected


@given(some.text())
def test_any_text_can_be_printed_and_written(words):
    line = as_line(words)
    line.encode("utf-8")
    assert all(c.isprintable() for c in line) and len(line) == len(words)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are UTF-8 there")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"caf\xe9", "café"), ("café".encode(), "café"), (b"a\x1b[31m\xff", "a?[31mÿ")],
)
def test_the_bytes_of_a_name_become_text(raw, expected):
    assert name_as_text(os.fsdecode(raw)) == expected


@pytest.mark.parametrize(
    "names",
    [
        ("ada", "ADA", "Ada.zip", "ada.zip"),
        ("é", "e\u0301", "É", "\uff45\u0301"),
        ("a" * 200, "A" * 200, "a" * 199 + "b"),
        ("straße", "STRASSE"),
        ("王" * 80, "王" * 81),
        ("a\x01", "a\x02", "a?"),
        ("...", "-", "student"),
    ],
)
def test_keys_differ_on_every_file_system_and_depend_on_no_order(names):
    keys = dict(zip(names, keys_of(names)))
    assert len({key.casefold() for key in keys.values()}) == len(names)
    assert keys == dict(zip(reversed(names), keys_of(reversed(names))))
    for key in keys.values():
        assert len(key) <= MAX_KEY and len(key.encode()) < 255 and key[0] not in ".-"


def test_a_name_cannot_take_the_key_of_another():
    (ada, _) = keys_of(["ada", "ADA"])
    assert len(set(keys_of(["ada", "ADA", ada]))) == 3


@given(some.lists(some.text(string.printable + "éÉß王\u0301\ud800", min_size=1), unique=True))
def test_any_names_have_keys(names):
    names = [name for name in names if "\ud800" not in name and "/" not in name]
    keys = keys_of(names)
    assert len({key.casefold() for key in keys}) == len(names)
