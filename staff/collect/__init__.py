"""Read a platform's download into one folder and one row per student: `python -m staff.collect`."""
