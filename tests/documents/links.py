"""Finds dead links, missing paths, and names that their file does not define."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from documents.reading import ROOT, name
from markdown_it import MarkdownIt
from markdown_it.token import Token

MARKDOWN = MarkdownIt("commonmark").enable("table")

_ATTRIBUTE = re.compile(r"""\b(?:href|src)=["']([^"']+)["']""")
_ID = re.compile(r"""<\w+[^>]*\b(?:id|name)=["']([^"']+)["']""")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?")
_PATH = re.compile(
    r"(?:\.ci|benchmarks|broadway|compose|demo|deploy|docs|requirements|scripts|tests)/[\w./@*{},-]*[\w/}*]"
)


@cache
def tokens(path: Path) -> Sequence[Token]:
    return MARKDOWN.parse(path.read_text())


def inlines(path: Path) -> Iterator[tuple[int, Sequence[Token]]]:
    """Yield the line and the parts of each paragraph, heading and table cell."""
    for token in tokens(path):
        if token.type == "inline" and token.map and token.children:
            yield token.map[0] + 1, token.children


def targets(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the target of each link and image."""
    for line, parts in inlines(path):
        for part in parts:
            if part.type in ("link_open", "image"):
                yield line, str(part.attrGet("href") or part.attrGet("src"))
            elif part.type == "html_inline":
                yield from ((line, target) for target in _ATTRIBUTE.findall(part.content))
    for token in tokens(path):
        if token.type == "html_block" and token.map:
            yield from ((token.map[0] + 1, target) for target in _ATTRIBUTE.findall(token.content))


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the anchors of a document, as GitHub makes them of headings."""
    found: list[str] = []
    for opening, inline in pairwise(tokens(path)):
        if opening.type == "heading_open":
            text = "".join(part.content for part in inline.children or () if part.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return frozenset([*found, *_ID.findall(path.read_text())])


def dead_links(path: Path, root: Path = ROOT) -> list[str]:
    """Return a line for each dead link of a document; links to other servers are not checked."""
    return [
        f"{name(path)}:{line}: {target}: {problem}"
        for line, target in targets(path)
        if (problem := _problem(path, target, root))
    ]


def _problem(path: Path, target: str, root: Path) -> str | None:
    url = urlsplit(target)
    if url.scheme:
        return None if url.scheme == "mailto" or (url.scheme in ("http", "https") and url.netloc) else "no address"
    file = (path.parent / unquote(url.path)).resolve() if url.path else path
    if not file.is_relative_to(root) or not file.exists():
        return "no such file in the repository"
    if not url.fragment:
        return None
    if file.suffix != ".md":
        return "only documents have anchors that stay"
    return None if url.fragment in anchors(file) else f"{name(file)} has no such heading"


def missing_paths(path: Path, root: Path = ROOT) -> list[str]:
    """Return a line for each path of the repository, written as code, that does not exist."""
    return [
        f"{name(path)}:{line}: no {part.content}"
        for line, parts in inlines(path)
        for part in parts
        if part.type == "code_inline" and _PATH.fullmatch(part.content)
        if not any(list(root.glob(each.rstrip("/"))) for each in _alternatives(part.content))
    ]


def _alternatives(path: str) -> list[str]:
    """Expand `{a,b}`."""
    if not (group := re.search(r"\{([^}]*)\}", path)):
        return [path]
    return [f"{path[: group.start()]}{each}{path[group.end() :]}" for each in group[1].split(",")]


def named(path: Path) -> Iterator[tuple[int, Path, str]]:
    """Yield the line, the file and the name for each name that follows a link to Python code: [`a.py`](a.py) `name`."""
    for line, parts in inlines(path):
        linked, file = "", None
        for part in parts:
            if part.type == "link_open":
                linked, file = str(part.attrGet("href")), None
            elif part.type == "link_close":
                file = path.parent / linked if linked.endswith(".py") else None
            elif part.type == "code_inline":
                if file and _NAME.fullmatch(part.content):
                    yield line, file, part.content.removesuffix("()")
                file = None
            elif part.content.strip():
                file = None


def missing_names(path: Path) -> list[str]:
    """Return a line for each name that a document places in a file and that the file does not define."""
    return [
        f"{name(path)}:{line}: {name(file.resolve())} defines no {symbol}"
        for line, file, symbol in named(path)
        if file.exists() and not _defines(ast.parse(file.read_text()).body, symbol.split("."))
    ]


def _defines(body: Sequence[ast.stmt], names: Sequence[str]) -> bool:
    first, *rest = names
    for statement in body:
        match statement:
            case ast.ClassDef(name=defined, body=inner) if defined == first:
                return not rest or _defines(inner, rest)
            case ast.FunctionDef(name=defined) | ast.AsyncFunctionDef(name=defined) if defined == first:
                return not rest
            case ast.Assign(targets=[ast.Name(id=defined)]) | ast.AnnAssign(target=ast.Name(id=defined)):
                if defined == first:
                    return not rest
    return False
