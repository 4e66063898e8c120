"""The documents as a site of HTML pages that opens from disk: `python -m staff.site.build`."""

FOLDER = "docs/site"  # of the students' half, in the handout
