"""Grading on Gradescope: build autograder.zip, and run in its container."""
