"""Grading on Gradescope: what goes into autograder.zip, and what runs there."""
