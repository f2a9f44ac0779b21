"""Grades a function, as a question's external grader does."""

import json
import sys
from pathlib import Path

data = json.loads(Path("/grade/data/data.json").read_text())
sys.path.insert(0, "/grade/student")
try:
    import answer
except SyntaxError:
    results = {"gradable": False, "format_errors": ["Your code has a syntax error."]}
else:
    points = [2 * (answer.double(value) == 2 * value) for value in (1, 2, 0)]
    tests = [
        {"name": f"double {index}", "points": got, "max_points": 2, "message": f"of {len(data['params'])} parameters"}
        for index, got in enumerate(points)
    ]
    results = {"succeeded": True, "gradable": True, "score": sum(points) / 6, "max_points": 6, "tests": tests}
Path("/grade/results/results.json").write_text(json.dumps(results))
