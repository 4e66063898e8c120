"""Which piece of a download is whose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from staff.collect.fixes import ALL, Fix
from staff.collect.layouts import Piece
from staff.collect.roster import UNKNOWN, Person, Roster
from staff.collect.source import Source

SAY = "say in fixes.csv whose it is (take as: all)"


@dataclass
class Share:
    """What of a download is a student's.

    Attributes:
        pieces: the files and folders.
        sources: what the platform says about each.
        group: the ids of the others who handed in the same.
    """

    pieces: list[Piece] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    group: set[str] = field(default_factory=set)

    def add(self, piece: Piece, source: Source | None, members: Iterable[str]) -> None:
        """Add a piece; members: the ids of all whose it is."""
        if piece not in self.pieces:
            self.pieces.append(piece)
        if source is not None:
            self.sources.append(source)
        self.group |= set(members)


def assign(
    pieces: list[Piece], roster: Roster, fixes: list[Fix]
) -> tuple[dict[str, Share], list[tuple[str, str]]]:
    """Return the share of each student of the roster who has one, and what is nobody's.

    The second is the label of each such piece, and why nobody has it.
    """
    given = {fix.file: fix.student for fix in fixes if fix.take_as == ALL}
    shares: dict[str, Share] = defaultdict(Share)
    nobodys = []
    claims = [(piece, source, *roster.find(source)) for piece in pieces for source in piece.sources]
    strangers = _same_name(claims)
    for piece in pieces:
        if piece.label in given:
            source = piece.sources[0] if len(piece.sources) == 1 else None
            shares[given[piece.label]].add(piece, source, ())
            continue
        own = [claim for claim in claims if claim[0] is piece]
        members = [person.id for _, _, people, _ in own for person in people]
        for _, source, people, why in own:
            for person in people:
                if (person.id, source.platform) in strangers and len(people) == 1:
                    why = f"{person.id} has submissions under two numbers with this name"
                    continue
                shares[person.id].add(piece, source, (one for one in members if one != person.id))
            if why:
                name = f"{source.name}: " if why == UNKNOWN else ""
                nobodys.append((piece.label, f"{name}{why}; {SAY}"))
        if not own:
            nobodys.append((piece.label, f"nobody's; {SAY}"))
    return dict(shares), nobodys


def _same_name(
    claims: list[tuple[Piece, Source, list[Person], str]],
) -> set[tuple[str, str]]:
    """Return the students, with the platform, whose name several accounts of a platform have.

    At most one of the accounts can be theirs, and nothing says which.
    """
    numbers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for _, source, people, _ in claims:
        if len(people) == 1 and source.number and people[0].number != source.number:
            numbers[people[0].id, source.platform].add(source.number)
    return {who for who, found in numbers.items() if len(found) > 1}
