"""A course of 30 students, graded by a Broadway of its own: `python -m demo`, or `make demo`."""
