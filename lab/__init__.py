"""What the commands stand on; a student never needs to open this folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the project
