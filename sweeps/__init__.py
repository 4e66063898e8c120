"""The parts of a sweep: one trial, the choice of trials, running them, and the report."""
