"""Moodle's "Download all submissions": a folder per student, or one folder with all files.

The rule is in Moodle's mod/assign/classes/downloader.php (before version 4.1, in
mod/assign/locallib.php, `download_submissions`). A prefix is

    FULL NAME_NUMBER             the participant's number, as in the grading worksheet
    Participant_NUMBER           with anonymous submissions; the word in the language of the site
    GROUP_NUMBER                 a team submission, once for the group; without a group, no number

in which each `_` of a name has become a space. Then follow, with "Download submissions in folders",

    PREFIX_assignsubmission_PLUGIN/the/student's/own/folders/FILE

where older versions end the folder's name with another `_`, and without that setting

    PREFIX_assignsubmission_PLUGIN_FILE

PLUGIN is `file` for what was uploaded and `onlinetext` for what was typed; a student who did both
has both. The names tell no time, and the members of the zip get the time of the download
(files/classes/local/archive_writer/zip_writer.php): see `roster.py` for the grading worksheet.
"""

from __future__ import annotations

import re

from staff.collect.source import Source

NAME = re.compile(
    r"(?P<name>.+?)(_(?P<number>\d+))?_assignsubmission_(?P<plugin>[a-z0-9]+)(_(?P<file>.*))?"
)


def parse(name: str) -> Source | None:
    """Return whose a file or folder is, by its name; None if it is not of Moodle."""
    if match := NAME.fullmatch(name):
        return Source("moodle", match["name"], match["number"] or "", file=match["file"] or "")
    return None
