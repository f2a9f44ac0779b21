"""A course of 30 students, graded by its own Broadway: `python -m demo`, or `make demo`."""
