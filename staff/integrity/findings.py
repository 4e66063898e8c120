"""What is alike in a class: findings about pairs, put together into clusters, and notes.

A finding is a sign for a person to look at two submissions. Where something is alike that honest
work explains, such as the unchanged model.py trained with the same seed, it is a note.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from staff.integrity import code as codes
from staff.integrity import weights
from staff.integrity.code import Code, Rarity
from staff.integrity.subjects import Subject
from staff.integrity.weights import Record
from staff.replay import ACCEPTED, REJECTED

CODE, RUN, WEIGHTS, TRAINED = "code", "run", "weights", "trained with"


@dataclass(frozen=True)
class Finding:
    """Something that two submissions have in common.

    Attributes:
        pair: the two subjects.
        kind: CODE, RUN, WEIGHTS or TRAINED.
        words: what was found.
        likeness: 0 to 1, to sort by.
    """

    pair: tuple[Subject, Subject]
    kind: str
    words: str
    likeness: float


@dataclass
class Cluster:
    """Submissions that findings connect, and these findings, the strongest first."""

    subjects: list[Subject]
    findings: list[Finding]


@dataclass
class Findings:
    """Of a class: clusters, pairs that honest work explains, and notes on single submissions."""

    clusters: list[Cluster] = field(default_factory=list)
    explained: list[Finding] = field(default_factory=list)
    notes: list[tuple[Subject, str]] = field(default_factory=list)
    rarity: Rarity = field(default_factory=lambda: Rarity([]))


def findings_of(subjects: Sequence[Subject]) -> Findings:
    """Compare all pairs with at least one submission of this year, but not those of one group."""
    rarity = Rarity(one.code.own for one in _once_per_group(subjects))
    found: list[Finding] = []
    explained: list[Finding] = []
    for one, other in itertools.combinations(subjects, 2):
        if one.year and other.year or same_group(one, other):
            continue
        alike = rarity.likeness(one.code.own, other.code.own)
        if alike >= codes.ALIKE:
            words = f"{100 * alike:.0f} % of the code of the shorter one is in the other one too"
            found.append(Finding((one, other), CODE, words, alike))
        found += _trained_with(one, other)
        for task in sorted(one.records.keys() & other.records.keys()):
            finding, honest = _of_checkpoints(one, other, task, alike >= codes.ALIKE)
            if finding:
                (explained if honest else found).append(finding)
    names = {one.key: one.name for one in subjects if not one.year}
    notes = [(one, words) for one in subjects if not one.year for words in _notes(one, names)]
    return Findings(clusters(found), explained, notes, rarity)


def _of_checkpoints(
    one: Subject, other: Subject, task: str, codes_alike: bool
) -> tuple[Finding | None, bool]:
    """Return what two checkpoints of a task have in common, and whether honest work explains it."""
    a, b = one.records[task], other.records[task]
    if weights.same_run(a, b):
        words = f"{task}: both checkpoints carry the record of one run, with the same times"
        return Finding((one, other), RUN, words, 1.0), False
    alike = max(weights.likeness(a, b), weights.likeness(b, a))
    change = weights.change_in_common(a, b)
    if alike < weights.ALIKE and change < weights.least_change(a, b):
        return None, False
    words = f"{task}: {100 * alike:.0f} % of the weights are alike up to names and order"
    # The same computation with the same seed gives the same weights, without any copying.
    unchanged = one.code.is_baseline and other.code.is_baseline
    proven = all(
        task in subject.replays and subject.replays[task].kind == ACCEPTED
        for subject in (one, other)
    )
    honest = weights.same_settings(a, b) and (unchanged or proven) and not codes_alike
    if weights.began_alike(a, b) and not codes_alike:
        words = f"{task}: both began with the same weights, and the training changed them alike"
        words += f" (cosine {change:.2f})"
        replays = [own.replays[task].kind for own in (one, other) if task in own.replays]
        if explained := _explained(a, b, change, REJECTED in replays):
            words += f": {explained}"
        return Finding((one, other), WEIGHTS, words, max(alike, change)), bool(explained)
    if honest:
        words += ": " + (
            "both train the unchanged demo with the same seed and settings"
            if unchanged
            else "both come from their own code, which computes the same from the same seed"
        )
    return Finding((one, other), WEIGHTS, words, alike), honest


def _explained(a: Record, b: Record, change: float, rejected: bool) -> str:
    """Return what explains that two trainings changed the same initial weights alike, or "".

    rejected: whether a replay showed that one of them does not come from its code.
    """
    if change < weights.least_change(a, b):
        return "the same seed explains as much"
    if a.reordered or b.reordered or rejected:
        return ""
    if max(weights.steps_of(a), weights.steps_of(b)) < weights.SHORT:
        return f"fewer than {weights.SHORT} steps explain it; replay tells"
    if weights.trained_alike(a, b):
        return "their first losses are those of the same computation; replay tells"
    return ""


def _trained_with(one: Subject, other: Subject) -> Iterable[Finding]:
    """Yield findings where a checkpoint states the other's code, and not its own."""
    for owner, author in ((one, other), (other, one)):
        if author.code.is_baseline or not author.code.sha256:
            continue
        for task, record in owner.records.items():
            if _states(record, author.code) and not _states(record, owner.code):
                words = f"{task} of {owner.title} was trained with the code of {author.title}"
                yield Finding((one, other), TRAINED, words, 1.0)


def _states(record: Record, code: Code) -> bool:
    """Return whether a checkpoint states that it was trained with this code."""
    return record.submission_sha256 == code.sha256 or (
        bool(code.digest) and record.code_sha256 == code.digest
    )


def same_group(one: Subject, other: Subject) -> bool:
    """Return whether two students of this class handed in as one group."""
    return not (one.year or other.year) and (other.key in one.group or one.key in other.group)


def _once_per_group(subjects: Sequence[Subject]) -> Iterable[Subject]:
    """Yield the submissions without the copies that the other members of a group have."""
    seen: set[tuple[str, str]] = set()
    for one in subjects:
        members = [(key, one.code.sha256) for key in one.group]
        if one.year or not seen.intersection(members):
            yield one
        seen.add((one.key, one.code.sha256))


def _notes(one: Subject, names: Mapping[str, str]) -> Iterable[str]:
    """Yield what is to be known about one submission, none of which accuses anybody."""
    yield from one.problems
    if others := sorted(names[key] for key in one.group if key in names):
        yield f"one group with {', '.join(others)}; its members are not compared with each other."
    for task, record in one.records.items():
        if not record.submission_sha256:
            yield f"{task}: the checkpoint does not state its code: an older version trained it."
        elif record.submission_sha256 != one.code.sha256:
            if one.code.digest and record.code_sha256 == one.code.digest:
                yield f"{task}: only comments or layout of the code changed after the training."
            else:
                yield f"{task}: the checkpoint was trained with another version of the code."
        if record.reordered:
            yield (
                f"{task}: the hidden units of {record.reordered} tensors are in another order than "
                "that in which its code creates them. No training does this; ask how it came about."
            )
        if task in one.replays:
            verdict = one.replays[task]
            mark = "REPLAY: " if verdict.kind == REJECTED else ""
            yield f"{task}: {mark}the checkpoint {verdict.kind}: {verdict.why}"


# ---------------------------------------------------------------- clusters


def clusters(findings: Sequence[Finding]) -> list[Cluster]:
    """Put findings together that share a submission; the largest cluster comes first."""
    root: dict[int, int] = {}

    def find(key: int) -> int:
        while root.setdefault(key, key) != key:
            key = root[key]
        return key

    subjects: dict[int, Subject] = {}
    for finding in findings:
        for one in finding.pair:
            subjects[id(one)] = one
        first, second = (find(id(one)) for one in finding.pair)
        root[second] = first
    found: dict[int, Cluster] = {}
    for key, one in subjects.items():
        found.setdefault(find(key), Cluster([], [])).subjects.append(one)
    for finding in findings:
        found[find(id(finding.pair[0]))].findings.append(finding)
    for cluster in found.values():
        cluster.findings.sort(key=lambda finding: -finding.likeness)
        cluster.subjects.sort(key=lambda one: one.title)
    return sorted(found.values(), key=lambda cluster: -len(cluster.subjects))
