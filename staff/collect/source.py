"""Whose a file or folder of a download is, as the platform says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Whose a file or folder of a download is.

    Attributes:
        platform: moodle, canvas or gradescope; "" for a folder or zip that someone named.
        name: of the student or group, as the platform wrote it.
        number: the platform's number for the student or group; "" if it is not stated.
        id, email: the student's, where the platform states them.
        submitted: the time in ISO 8601; "" if it is not stated.
        late: None if it is not stated.
        file: the name that the student gave to a file; "" for a folder.
        upload: larger for a later upload; 0 if it is not stated.
    """

    platform: str
    name: str
    number: str = ""
    id: str = ""
    email: str = ""
    submitted: str = ""
    late: bool | None = None
    file: str = ""
    upload: int = 0
