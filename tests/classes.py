"""A class of 60 as each platform exports it, with what students hand in by mistake.

A student of the class is `Handed`: what they handed in, and what must be made of it. The same class
is written in each layout; where a layout cannot hold a mistake, it is handed in correctly.
"""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CODE, VAE, GEN = "submission.py", "VAEwolabel.pth", "Genwithlabel.pth"
LAYOUTS = ("moodle", "moodle-flat", "canvas", "gradescope")
FAMILIES: tuple[str, ...] = ("王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴")
FAMILIES += ("Lovelace", "Hopper", "O'Neil", "Müller", "Núñez", "Wang")
GIVEN = ("伟", "芳", "娜", "敏", "静", "秀英", "Ada", "Grace")
FIRST_NUMBER = 4711  # of a student on the platform
OLD, NEW = 1_760_000_000, 1_770_000_000  # times of files
RUN = json.dumps({"task": "VAEwolabel"}).encode()


@dataclass
class Handed:
    """What a student handed in.

    Attributes:
        id, name, number: of the student.
        files: by name; each with its content and time.
        expected: content by the name under which it must be collected.
        says: what the notes of the row must contain.
        late: whether the platform says so, where it says it.
        group: the id of the one whose submission is also this student's.
    """

    id: str
    name: str
    number: int
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    expected: dict[str, bytes] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    late: bool = False
    group: str = ""

    def content(self, kind: str, more: str = "") -> bytes:
        """Return the content of a file that nobody else has."""
        return f"{self.id} {kind} {more}".encode()

    def give(self, name: str, kind: str = "", more: str = "", time: int = NEW) -> bytes:
        """Hand in a file; with a kind, it must be collected as that."""
        content = self.content(kind or name, more)
        self.files[name] = content, time
        if kind:
            self.expected[kind] = content
        return content


def zipped(files: dict[str, tuple[bytes, int]]) -> bytes:
    """Return a zip of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, (content, time) in files.items():
            day = (2025, 11, 1) if time == OLD else (2026, 11, 1)
            archive.writestr(zipfile.ZipInfo(name, (*day, 12, 0, 0)), content)
    return buffer.getvalue()


def _correct(one: Handed) -> None:
    for kind in (CODE, VAE, GEN):
        one.give(kind, kind)


def _copy_of_a_browser(one: Handed) -> None:
    one.give("submission (1).py", CODE)
    one.give(VAE, VAE)
    one.give(GEN, GEN)
    one.says = ("is taken as submission.py",)


def _capitals(one: Handed) -> None:
    one.give("Submission.py", CODE)
    one.give("VAEwolabel.PTH", VAE)
    one.give("genwithlabel.pth", GEN)


def _two_checkpoints(one: Handed) -> None:
    _correct(one)
    one.give("VAEwolabel_old.pth", time=OLD)
    one.says = ("VAEwolabel_old.pth: is not taken as VAEwolabel.pth",)


def _one_zip(one: Handed) -> None:
    _correct(one)
    one.files = {"lab.zip": (zipped({f"lab/{k}": v for k, v in one.files.items()}), NEW)}


def _two_zips(one: Handed) -> None:
    """The first try has both models, the second only one, and new code."""
    first = {kind: (one.content(kind, "first"), OLD) for kind in (CODE, VAE, GEN)}
    _correct(one)
    del one.files[GEN]
    one.expected[GEN] = first[GEN][0]
    one.files = {"lab.zip": (zipped(first), OLD), "lab-1.zip": (zipped(one.files), NEW)}
    one.says = ("lab.zip/submission.py: is not taken", "lab.zip/VAEwolabel.pth: is not taken")


def _whole_runs(one: Handed) -> None:
    one.give(CODE, CODE)
    for run, kind in (("vae-var-0.05", VAE), ("Genwithlabel", GEN)):
        one.give(f"runs/{run}/best.pth", kind)
        one.give(f"runs/{run}/epoch_4.pth")
        one.give(f"runs/{run}/submission.py", more="copy")
    one.files["runs/vae-var-0.05/hyperparams.json"] = RUN, NEW
    one.files["runs/Genwithlabel/hyperparams.json"] = b"[", NEW
    one.files = {"hand-in.zip": (zipped(one.files), NEW)}


def _other_archive(one: Handed) -> None:
    one.files["lab.rar"] = b"Rar!\x1a\x07\x01\0" + one.content("rar"), NEW
    one.expected["lab.rar"] = one.files["lab.rar"][0]
    one.says = ("is a RAR archive", "put the same files into a zip")


def _seven_zip(one: Handed) -> None:
    _correct(one)
    one.files["old.7z"] = b"7z\xbc\xaf\x27\x1c" + one.content("7z"), NEW
    one.says = ("is a 7z archive",)


def _other_name(one: Handed) -> None:
    one.give("final_vae.py")
    one.give(VAE, VAE)
    one.give(GEN, GEN)
    one.says = ("if it is final_vae.py, say so in fixes.csv",)


def _online_text(one: Handed) -> None:
    _correct(one)
    one.files["onlinetext.html"] = b"<p>sorry, late</p>", NEW


def _nothing(one: Handed) -> None:
    one.says = ("nothing handed in",)


ODD: tuple[Callable[[Handed], None], ...] = (
    *(_copy_of_a_browser, _capitals, _two_checkpoints, _one_zip, _two_zips, _whole_runs),
    *(_other_archive, _seven_zip, _other_name, _online_text, _nothing),
)


def make_class(size: int = 60, kind: type[Handed] = Handed) -> list[Handed]:
    """Return a class: every mistake twice, late ones, a group of three, the rest correct.

    kind: of each student; its `content` decides what is in the files.
    """
    students = []
    for i in range(size):
        family, given = FAMILIES[i % len(FAMILIES)], GIVEN[i // len(FAMILIES) * 2 + i % 2]
        name = f"{given} {family}" if family.isascii() else f"{family}{given}"
        one = kind(f"2026{i:04}", name, FIRST_NUMBER + i, late=i % 7 == 3)
        if i < 2 * len(ODD):
            ODD[i // 2](one)
        else:
            _correct(one)
        students.append(one)
    leader = students[-3]
    for one in students[-2:]:
        one.group, one.expected, one.late = leader.id, leader.expected, leader.late
    assert len({one.name for one in students}) == size
    return students


def write_roster(students: list[Handed], file: Path) -> Path:
    """Write the roster; groups have their members' names on platforms that know only groups."""
    with open(file, "w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["ID", "Name", "Email", "Group"])
        leaders = {one.group for one in students if one.group}
        for one in students:
            group = "Group 7" if one.group or one.id in leaders else ""
            writer.writerow([one.id, one.name, f"{one.id}@example.edu", group])
    return file


def write_download(students: list[Handed], layout: str, folder: Path) -> Path:
    """Write what the students handed in as a platform exports it."""
    folder.mkdir(parents=True)
    {
        "moodle": lambda: _moodle(students, folder, folders=True),
        "moodle-flat": lambda: _moodle(students, folder, folders=False),
        "canvas": lambda: _canvas(students, folder),
        "gradescope": lambda: _gradescope(students, folder),
    }[layout]()
    return folder


def _write(file: Path, content: bytes, time: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (time, time))


def _who(one: Handed, students: list[Handed]) -> str:
    """Return the name under which a platform stores a submission: a group's, or a student's."""
    return "Group 7" if any(other.group == one.id for other in students) else one.name


def _moodle(students: list[Handed], folder: Path, folders: bool) -> None:
    for one in students:
        for name, (content, time) in one.files.items() if not one.group else ():
            plugin = "onlinetext" if name == "onlinetext.html" else "file"
            who = _who(one, students).replace("'", "")
            prefix = f"{who}_{one.number}_assignsubmission_{plugin}"
            path = f"{prefix}/{name}" if folders else f"{prefix}_{name}"
            _write(folder / path, content, time)


def _canvas(students: list[Handed], folder: Path) -> None:
    upload = 90_000
    for one in students:
        if one.group:
            continue
        words = _who(one, students).split()
        words = words if words[0] == "Group" else words[-1:] + words[:-1]  # sorted by family name
        name = "".join(c for c in "".join(words).lower() if c.isalnum())
        late = "_LATE" if one.late else ""
        for file, (content, _) in one.files.items():
            upload += 1
            text = file == "onlinetext.html"
            path = "text.html" if text else f"{upload}_{file}"
            _write(folder / f"{name}{late}_{one.number}_{path}", content, NEW)


def _gradescope(students: list[Handed], folder: Path) -> None:
    lines = []
    for one in students:
        if one.group or not one.files:
            continue
        label = f"submission_{one.number}"
        lines += [f"{label}:", "  :submitters:"]
        for person in [one, *(other for other in students if other.group == one.id)]:
            lines += [f"  - :name: {json.dumps(person.name, ensure_ascii=False)}"]
            lines += [f"    :sid: '{person.id}'", f"    :email: {person.id}@example.edu"]
        day = 21 if one.late else 19
        lines += [f"  :created_at: 2026-11-{day} 17:34:00.861687000 Z", "  :score: 0.0"]
        lines += ["  :results: !ruby/object:Results", "    output: |-", "      a: [b"]
        for file, (content, time) in one.files.items():
            _write(folder / label / file, content, time)
    (folder / "submission_metadata.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
