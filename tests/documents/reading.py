"""The documents of the project, and the code blocks in them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sybil import Document, Example, Region
from sybil.example import SybilFailure
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
API = "127.0.0.1:1470"  # its address in documents
FOLDERS = ("docs", "compose", "demo", "deploy", "tests")

Evaluator = Callable[[Example], str | None]


def documents(root: Path = ROOT) -> list[Path]:
    """Return all documents, both at the root and in folders."""
    found = [*root.glob("*.md"), *(path for folder in FOLDERS for path in (root / folder).rglob("*.md"))]
    return sorted(found)


def name(path: Path) -> str:
    """Return a document's path as messages and test ids show it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


class Blocks:
    """A parser that takes the fenced blocks of every language; a block of an unknown language is a failure."""

    def __init__(self, evaluators: Mapping[str, Evaluator]) -> None:
        self._evaluators = evaluators

    def __call__(self, document: Document) -> Iterator[Region]:
        for region in FencedCodeBlockLexer(".*")(document):
            region.parsed = str(region.lexemes["source"])
            region.evaluator = self._evaluators.get(str(region.lexemes["language"]), _unknown)
            yield region


def _unknown(example: Example) -> str:
    return f"no check is known for blocks of {str(example.region.lexemes['language'])!r}"


def unchecked(_: Example) -> None:
    """Accept a block that another test checks."""


def failures(path: Path, evaluators: Mapping[str, Evaluator], **namespace: Any) -> list[str]:
    """Evaluate a document's blocks in their order; return a line or more for each one that fails."""
    document = Document.parse(str(path), Blocks(evaluators))
    document.namespace.update(namespace)
    return list(_failures(path, document))


def _failures(path: Path, examples: Iterable[Example]) -> Iterator[str]:
    for example in examples:
        try:
            example.evaluate()
        except SybilFailure as failure:
            yield f"{name(path)}:{example.line}: {failure.result}"
