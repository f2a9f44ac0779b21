"""Check the limits of size: lines of a file and of a function; and that no package has code in its ``__init__.py``.

A function's docstring does not count. Prints a line for each violation, and exits with 1 if there are any.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "broadway"
FILE_LINES = 400
FUNCTION_LINES = 40
HAS_CODE = {PACKAGE / "__init__.py"}  # the version, which is read by the build backend


def violations(file: Path) -> Iterator[str]:
    text, name = file.read_text(), file.relative_to(PACKAGE.parent)
    tree = ast.parse(text)
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"{name}: {lines} lines; {FILE_LINES} are allowed: split the file by task"
    if file.name == "__init__.py" and file not in HAS_CODE and any(not is_docstring(each) for each in tree.body):
        yield f"{name}: a package's own file holds its docstring only: move the code to a module with a name"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (length := length_of(node)) > FUNCTION_LINES:
            yield f"{name}:{node.lineno}: {node.name} has {length} lines; {FUNCTION_LINES} are allowed: split it"


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines from the signature to the end, without the docstring."""
    docstring = lines_of(function.body[0]) if is_docstring(function.body[0]) else 0
    return lines_of(function) - docstring


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def main() -> None:
    found = [problem for file in sorted(PACKAGE.rglob("*.py")) for problem in violations(file)]
    print("\n".join(found) or f"sizes: every file and function of {PACKAGE.name}/ is within its limits")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
