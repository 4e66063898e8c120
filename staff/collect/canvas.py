"""Canvas's "Download Submissions": all files of all students in one folder.

The rule is in Canvas's lib/content_zipper.rb (`get_filename`, `add_upload_submission`,
`add_text_or_url`). A file is

    NAME_USER_ATTACHMENT_FILE           lovelaceada_4711_815_submission.py
    NAME_LATE_USER_ATTACHMENT_FILE      the submission is late
    anon_ID_ATTACHMENT_FILE             anonymous grading; late ones begin with LATE_
    NAME_USER_text.html, _link.html     a text or a link instead of files

NAME is the sortable name, family name first, in lower case and without all that is not a letter,
digit or `_`; of a group assignment it is the group's name, and USER one of its members. Numbers of
attachments grow with time. Canvas renames a student's second `submission.py` to `submission-1.py`.
"""

from __future__ import annotations

import re

from staff.collect.source import Source

NAMES = (
    re.compile(r"(?P<late>LATE_)?(?P<name>anon_[^_]+)_(?P<upload>\d+)_(?P<file>.+)"),
    re.compile(r"(?P<name>.+?)(?P<late>_LATE)?_(?P<number>\d+)_(?P<upload>\d+)_(?P<file>.+)"),
    re.compile(r"(?P<name>.+?)(?P<late>_LATE)?_(?P<number>\d+)_(?P<file>(text|link)\.html)"),
)


def parse(name: str) -> Source | None:
    """Return whose a file is, by its name; None if it is not of Canvas."""
    for pattern in NAMES:
        if match := pattern.fullmatch(name):
            known = match.groupdict()
            return Source(
                "canvas",
                known["name"],
                known.get("number") or "",
                late=known["late"] is not None,
                file=known["file"],
                upload=int((known.get("upload") or "0")[:18]),
            )
    return None
