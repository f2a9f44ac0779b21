"""`broadway`: one command for operators and course staff. Commands import their dependencies when they run."""
