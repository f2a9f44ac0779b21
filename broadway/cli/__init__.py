"""`broadway`: one command for operators and course staff. Commands import what they need when they run."""
