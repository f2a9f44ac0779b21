"""XML, parsed within bounds: no document type and so no entities, few levels, elements and attributes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat  # the entity attacks need a document type, which is refused

from broadway.grader.grading.formats.malformed import MalformedError, malformed

MAX_DEPTH, MAX_ELEMENTS, MAX_ATTRIBUTES = 32, 50_000, 64
_CHUNK = 64 * 1024  # bytes
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# Characters that XML cannot have, and references to them: programs write what a test printed.
_FORBIDDEN = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|x0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]));"
)


@dataclass(slots=True)
class Element:
    """An element: its name without its namespace's prefix, its attributes, its children and its own text."""

    name: str
    attributes: dict[str, str]
    children: list["Element"] = field(default_factory=list)
    _texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text directly inside the element."""
        return "".join(self._texts)

    def add(self, text: str) -> None:
        """Append text."""
        self._texts.append(text)

    def named(self, *names: str) -> Iterator["Element"]:
        """Yield the children with one of some names."""
        return (child for child in self.children if child.name in names)


def parse(data: bytes) -> Element:
    """Return the root of a document. Forbidden control characters in it become U+FFFD.

    Raises:
        MalformedError: The bytes are not well-formed XML, or beyond the bounds.
    """
    try:
        return _Parsing().run(data)
    except expat.ExpatError as error:
        if not data.startswith(_UTF_16) and _FORBIDDEN.search(data):
            return _again(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}".encode(), data))
        raise malformed(f"line {error.lineno}", f"should be well-formed XML: {expat.ErrorString(error.code)}") from None


def _again(data: bytes) -> Element:
    try:
        return _Parsing().run(data)
    except expat.ExpatError as error:
        raise malformed(f"line {error.lineno}", f"should be well-formed XML: {expat.ErrorString(error.code)}") from None


class _Parsing:
    """One run of the parser."""

    def __init__(self) -> None:
        self._open: list[Element] = []
        self._root: Element | None = None
        self._elements = 0

    def run(self, data: bytes) -> Element:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            for start in range(0, len(data), _CHUNK):
                parser.Parse(data[start : start + _CHUNK], False)
            parser.Parse(b"", True)
        except MalformedError:
            raise
        except (LookupError, ValueError):  # an encoding that Python does not know, or of several bytes
            raise malformed("encoding", "should be UTF-8") from None
        assert self._root is not None  # noqa: S101 - a document without an element is not well-formed
        return self._root

    def _doctype(self, *_: Any) -> None:
        raise malformed("", "should not have a document type (DOCTYPE), which JUnit's files do not need")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise malformed("", f"should have at most {MAX_ELEMENTS} elements")
        if len(self._open) >= MAX_DEPTH:
            raise malformed("", f"should not be nested deeper than {MAX_DEPTH} levels")
        if len(attributes) > MAX_ATTRIBUTES:
            raise malformed(name, f"should have at most {MAX_ATTRIBUTES} attributes")
        element = Element(name.rsplit(":", 1)[-1], attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)

    def _end(self, _: str) -> None:
        self._open.pop()

    def _characters(self, text: str) -> None:
        if self._open:
            self._open[-1].add(text)
