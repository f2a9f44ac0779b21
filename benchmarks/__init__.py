"""How fast Broadway is, beside what people would use instead. `python -m benchmarks --list` says what is measured."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # whose hostile submissions are measured, too
