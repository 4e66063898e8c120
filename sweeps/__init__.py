"""The parts of a sweep: one trial, the choice of trials, and what a sweep shows."""
