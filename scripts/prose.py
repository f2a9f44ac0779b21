"""Bounds on words that stand in place of nouns: the figures of the package's and the documents' prose may only fall.

scripts/prose.py          fail if a figure exceeds its bound in prose.toml, and list the newest offenders
scripts/prose.py --lower  lower the bounds to the present figures
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
BOUNDS = Path(__file__).with_name("prose.toml")
SHOWN = 10  # offenders of each figure

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "broadway": ("broadway/**/*.py",),
    "pages": ("broadway/ingest/ui/templates/*.html",),
    "documents": ("README.md", "CONTRIBUTING.md", "docs/**/*.md"),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A pattern to count: in occurrences per 1,000 words, or in percent of the texts that begin with it.

    Bounds are never lowered below ``target``, since most of these words have a proper use, too.
    """

    pattern: re.Pattern[str]
    target: float
    is_of_starts: bool = False


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


FIGURES: Mapping[str, Figure] = {
    "what": Figure(_words("what|whatever"), 2.0),
    "who": Figure(_words("who|whom"), 1.0),
    "somebody": Figure(_words("(?:no|some|any|every)body|whoever|someone else's"), 0.0),
    "that-which": Figure(_words(r"(?:that|those)\s+which|whichever|the\s+things?\s+that"), 0.0),
    "none": Figure(re.compile(r"\bnone\b"), 0.5),  # not None
    "mend": Figure(_words("mend(?:s|ed|ing)?"), 0.0),
    "tell": Figure(_words("tells?|told|telling"), 0.5),
    "starts-with-what": Figure(re.compile(r"what\b", re.IGNORECASE), 1.0, is_of_starts=True),
    "starts-with-whether": Figure(re.compile(r"whether\b", re.IGNORECASE), 1.0, is_of_starts=True),
}

_TAGS = re.compile(r"<code>.*?</code>|<[^>]*>|\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
_WORD = re.compile(r"[A-Za-z']+")
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_DIRECTIVE = re.compile(r"#+\s*(?:noqa(?::\s*[A-Z0-9, ]+)?|type:\s*ignore(?:\[[\w, -]+\])?)?(?:\s+- )?")
_TEXTS = frozenset({"description", "help", "summary"})  # arguments that users read: of settings, models, commands


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of prose and its place; ``is_text`` marks docstrings, headings, paragraphs and cells."""

    path: Path
    line: int
    text: str
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Offender:
    """A place that counts towards a figure."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure's present value, and the places that make it up."""

    value: float
    offenders: tuple[Offender, ...]


def passages(root: Path, patterns: Iterable[str]) -> Iterator[Passage]:
    """Yield the prose of all files that match one of ``patterns``, without code."""
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            read = _READERS[path.suffix]
            for passage in read(path.relative_to(root), path.read_text()):
                yield Passage(passage.path, passage.line, _without_code(passage.text), passage.is_text)


def _of_template(path: Path, source: str) -> Iterator[Passage]:
    """Yield the words between the tags of a template, without its expressions."""
    text = _TAGS.sub(lambda tag: re.sub(r"[^\n]", " ", tag[0]), source)
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.strip():
            yield Passage(path, number, words, is_text=True)


def _without_code(text: str) -> str:
    """Blank code spans, and keep their line breaks."""
    return _CODE.sub(lambda span: re.sub(r"[^\n]", " ", span[0]), text)


def _of_python(path: Path, source: str) -> Iterator[Passage]:
    """Yield docstrings, comments, and the arguments that users read."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case (
                ast.Module(body=body)
                | ast.ClassDef(body=body)
                | ast.FunctionDef(body=body)
                | ast.AsyncFunctionDef(body=body)
            ):
                yield from _docstring(path, body)
            case ast.keyword(arg=name, value=value) if name in _TEXTS:
                yield from _strings(path, value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(path, token.start[0], _DIRECTIVE.sub("", token.string, count=1))


def _docstring(path: Path, body: list[ast.stmt]) -> Iterator[Passage]:
    match body:
        case [ast.Expr(ast.Constant(str(text)) as constant), *_]:
            yield Passage(path, constant.lineno, text, is_text=True)


def _strings(path: Path, expression: ast.expr) -> Iterator[Passage]:
    for part in ast.walk(expression):
        match part:
            case ast.Constant(str(text)):
                yield Passage(path, part.lineno, text)


def _of_markdown(path: Path, source: str) -> Iterator[Passage]:
    """Yield paragraphs, headings and table cells."""
    for token in MarkdownIt("commonmark").enable("table").parse(source):
        if token.type == "inline" and token.map:
            yield Passage(path, token.map[0] + 1, token.content, is_text=True)


def measure(prose: Iterable[Passage]) -> dict[str, Measured]:
    """Return each figure of a section."""
    prose = list(prose)
    words = sum(len(_WORD.findall(passage.text)) for passage in prose)
    texts = [passage for passage in prose if passage.is_text]
    measured = {}
    for name, figure in FIGURES.items():
        among, unit, total = (texts, 100, len(texts)) if figure.is_of_starts else (prose, 1000, words)
        found = tuple(offender for passage in among for offender in _offenders(figure, passage))
        measured[name] = Measured(len(found) * unit / max(total, 1), found)
    return measured


def _offenders(figure: Figure, passage: Passage) -> Iterator[Offender]:
    if figure.is_of_starts:
        found = figure.pattern.match(passage.text.lstrip())
        matches = [0] if found else []
    else:
        matches = [match.start() for match in figure.pattern.finditer(passage.text)]
    lines = passage.text.split("\n")
    for start in matches:
        number = passage.text.count("\n", 0, start)
        yield Offender(passage.path, passage.line + number, lines[number].strip())


def newest(root: Path, offenders: Iterable[Offender]) -> list[Offender]:
    """Sort by the time of the last change of their lines, latest first; lines that are not committed come first."""
    offenders = list(offenders)
    changed: dict[tuple[Path, int], int] = {}
    for path in {offender.path for offender in offenders}:
        changed |= {(path, line): time for line, time in _times(root, path)}
    return sorted(offenders, key=lambda offender: -changed.get((offender.path, offender.line), sys.maxsize))


def _times(root: Path, path: Path) -> Iterator[tuple[int, int]]:
    """Yield each line's number and the time of its last change; nothing for a file that git does not know."""
    command = ["git", "blame", "--line-porcelain", "--", str(path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    number = 0
    for line in done.stdout.split("\n"):
        if header := re.match(r"[0-9a-f]{40} \d+ (\d+)", line):
            number = int(header[1])
        elif line.startswith("committer-time "):
            yield number, int(line.removeprefix("committer-time "))


def lowered(value: float, figure: Figure, bound: float | None) -> float:
    """Return the bound that fits a value: a tenth above at most, the target at least, and never above the old one."""
    fitting = max(ceil(value * 10) / 10, figure.target)
    return fitting if bound is None else min(bound, fitting)


def check(root: Path, bounds: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a complaint for each figure above its bound."""
    complaints = []
    for section, patterns in SECTIONS.items():
        for name, measured in measure(passages(root, patterns)).items():
            bound = bounds.get(section, {}).get(name, FIGURES[name].target)
            if measured.value > bound:
                worst = [f"  {offender}" for offender in newest(root, measured.offenders)[:SHOWN]]
                head = f"{section}: {name} is {measured.value:.2f}, the bound is {bound}; the latest of"
                complaints.append("\n".join([f"{head} {len(measured.offenders)}:", *worst]))
    return complaints


def lower(root: Path, bounds: Mapping[str, Mapping[str, float]]) -> str:
    """Return the text of prose.toml with bounds that fit the present figures."""
    lines = ["# The bounds of scripts/prose.py, per 1,000 words or percent. They only fall: scripts/prose.py --lower"]
    for section, patterns in SECTIONS.items():
        lines += ["", f"[{section}]"]
        old = bounds.get(section, {})
        for name, measured in measure(passages(root, patterns)).items():
            lines.append(f"{name} = {lowered(measured.value, FIGURES[name], old.get(name))}")
    return "\n".join([*lines, ""])


_READERS = {".py": _of_python, ".md": _of_markdown, ".html": _of_template}


def main() -> int:
    """Check the bounds or lower them; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lower", action="store_true", help="lower the bounds to the present figures")
    bounds = tomllib.loads(BOUNDS.read_text()) if BOUNDS.exists() else {}
    if parser.parse_args().lower:
        BOUNDS.write_text(lower(ROOT, bounds))
        return 0
    complaints = check(ROOT, bounds)
    print("\n".join(complaints) or "Prose: no figure exceeds its bound.")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
