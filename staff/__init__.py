"""Tools for the staff of the course. They are not part of the handout."""
