"""Ports: every protocol has its own name, and the docstring of every method states its promise."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import broadway

PACKAGE = Path(broadway.__file__).parent


@cache
def protocols() -> list[tuple[str, ast.ClassDef]]:
    return list(_protocols())


def _protocols() -> Iterator[tuple[str, ast.ClassDef]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and any(name_of(base) == "Protocol" for base in node.bases):
                yield f"{file.relative_to(PACKAGE.parent)}:{node.lineno}", node


def name_of(base: ast.expr) -> str:
    base = base.value if isinstance(base, ast.Subscript) else base
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")


def test_no_two_protocols_have_the_same_name() -> None:
    names = Counter(protocol.name for _, protocol in protocols())
    assert names, "there are some"
    assert [name for name, times in names.items() if times > 1] == []


def test_every_protocol_and_each_of_its_methods_has_a_docstring() -> None:
    silent = []
    for place, protocol in protocols():
        methods = [node for node in protocol.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        silent += [f"{place} {protocol.name}"] if not ast.get_docstring(protocol) else []
        silent += [f"{place} {protocol.name}.{method.name}" for method in methods if not ast.get_docstring(method)]
    assert silent == []


def test_no_two_protocols_promise_the_same_of_the_same_operation() -> None:
    promised: dict[tuple[str, str], list[str]] = {}
    for place, protocol in protocols():
        for method in protocol.body:
            if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                signature = f"{method.name}({ast.unparse(method.args)}) -> {ast.unparse(method.returns or method)}"
                promise = ast.get_docstring(method) or ""
                promised.setdefault((signature, promise), []).append(f"{place} {protocol.name}")
    assert {signature: places for (signature, _), places in promised.items() if len(places) > 1} == {}
