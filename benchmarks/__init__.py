"""Benchmarks of Broadway and its alternatives. `python -m benchmarks --list` names all measurements."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for the tests' hostile submissions, which are measured, too
