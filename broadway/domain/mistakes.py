"""The sentences for input that does not fit its shape: the only place that turns pydantic's errors into words.

They name the place, and say what is expected there. They never contain the input itself, which may be a secret.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Place = tuple[str | int, ...]

_SHOWN = 40  # names in a list of those that exist
_OURS = ("value_error", "assertion_error")  # their texts are written in this repository

# The words for a type of error; names in braces are its context.
_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "json_invalid": "expected JSON",
    "greater_than": "should be greater than {gt}",
    "greater_than_equal": "should be {ge} or more",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be {le} or less",
    "multiple_of": "should be a multiple of {multiple_of}",
    "finite_number": "should be a finite number",
    "too_short": "should have {min_length} or more entries, not {actual_length}",
    "too_long": "should have at most {max_length} entries",
    "string_too_short": "should have {min_length} or more characters",
    "string_too_long": "should have at most {max_length} characters",
    "string_not_ascii": "should have ASCII characters only",
    "string_unicode": "should be text without halves of surrogate pairs",
    "literal_error": "should be {expected}",
    "enum": "should be {expected}",
    "bool_parsing": "expected true, t, yes, y, on or 1, or false, f, no, n, off or 0",
    "int_parsing": "should be a whole number",
    "int_parsing_size": "should be a whole number of fewer digits",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "decimal_parsing": "should be a number",
    "decimal_max_digits": "should be a number of at most {max_digits} digits",
    "decimal_max_places": "should be a number with at most {decimal_places} decimal places",
    "decimal_whole_digits": "should be a number with at most {whole_digits} digits before the decimal point",
    "none_required": "should be null",
    "union_tag_invalid": "should have {discriminator} as one of {expected_tags}",
    "union_tag_not_found": "should have {discriminator}",
    "invalid_key": "should have text as its keys",
    "bytes_too_short": "should have {min_length} or more bytes",
    "bytes_too_long": "should have at most {max_length} bytes",
    "recursion_loop": "should not contain itself",
}
# The words for a value that pydantic does not know as a list, such as a secret.
_LENGTHS: Mapping[str, str] = {
    "too_short": "should have a length of {min_length} or more, not {actual_length}",
    "too_long": "should have a length of at most {max_length}",
}
# The nouns for types whose errors end in these words, such as `string_type`.
_NOUNS: Mapping[str, str] = {
    "string": "text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "deque": "a list",
    "iterable": "a list",
    "dict": "an object",
    "mapping": "an object",
    "model": "an object",
    "model_attributes": "an object",
    "dataclass": "an object",
    "bytes": "text",
    "date": "a date, such as 2026-11-30",
    "datetime": "a time, such as 2026-11-30T12:00:00Z",
    "time": "a time of day, such as 12:00:00",
    "time_delta": "a duration in seconds",
    "timezone": "a time with its zone, such as 2026-11-30T12:00:00Z",
    "path": "a path",
    "url": "an address, such as https://host:port",
    "uuid": "a UUID",
    "json": "text with JSON in it",
}
# The words for the patterns of our own shapes.
_PATTERNS: Mapping[str, str] = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){0,7}$": (
        "should be a path below /job of letters, digits, dots, dashes and underscores, such as out/answer"
    ),
    r"^[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,63}(/[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,63}){0,7}$": (
        "should be a path below /job of letters, digits, dots, dashes, underscores, * and ?, such as out/TEST-*.xml"
    ),
    r"^https?://": "should start with http:// or https://",
    r"^[0-9a-f]{64}$": "should be a SHA-256 hash: 64 digits from 0 to 9 and a to f",
    r"^[0-9a-f]*$": "should consist of the digits 0 to 9 and a to f",
    r"^[A-Za-z0-9_-]+$": "should consist of letters, digits, dashes and underscores",
    r"^[A-Za-z_][A-Za-z0-9_]{0,63}$": "should be a variable's name: letters, digits and underscores, no digit first",
    r"^[0-9]*[1-9][0-9]*(\.[0-9]+)?[kKmMgGtT]?[bB]?$": "should be a size above zero, such as 512m or 2g",
    r'^[^/\\. "$*<>:|?\x00]+$': "should be a name without blanks, dots, slashes and signs such as $ and *",
    r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$": "should be a time of day from 00:00 to 23:59",
    r"\S": "should not be blank",
    r"^[A-Za-z0-9.-]*$": "should be a domain, such as example.edu",
    r"^([A-Za-z0-9.\[\]:_-]+)?$": "should be a registry, as in images' names, such as registry.example.edu:5000",
    r"^([A-Za-z0-9.\[\]:_-]+(,[A-Za-z0-9.\[\]:_-]+)*)?$": "should be registries, separated by commas",
    r"^[^:\x00-\x1f]*$": "should be a user name without colons and control characters",
    r"^(engine|docker-daemon:|registry|(oci|oci-archive|docker-archive):[^:\x00]+)$": (
        "should be engine, registry, oci:DIR, oci-archive:FILE or docker-archive:FILE"
    ),
    r"^(draft|published|[1-9][0-9]{0,8})$": "should be draft, published or the number of a version",
    r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$": "should be DEBUG, INFO, WARNING, ERROR or CRITICAL",
    r"^(?i:S|M|H|D|W[0-6]|midnight)$": "should be S, M, H, D, W0 to W6, or midnight",
}


def mistakes(error: ValidationError, shape: type[BaseModel] | None = None, *, whole: str = "") -> list[str]:
    """Return a sentence for each mistake, with its place; ``shape`` is the class that the input should fit.

    ``whole`` names the input itself, for mistakes that concern all of it.
    """
    found = error.errors(include_url=False, include_input=False)
    return [_with_place(each, known_names(shape, each["loc"][:-1]), whole) for each in found]


def _with_place(mistake: ErrorDetails, known: Sequence[str], whole: str) -> str:
    where = ".".join(str(part) for part in mistake["loc"] if not _is_tag(part)) or whole
    text = sentence(mistake, known)
    return f"{where}: {text}" if where else text


def _is_tag(part: str | int) -> bool:
    """Return whether a part of a place is the tag of a union's member, which is no key."""
    return isinstance(part, str) and part.startswith("(") and part.endswith(")")


def sentence(mistake: ErrorDetails, known: Sequence[str] = ()) -> str:
    """Return what is wrong at the place of a mistake; ``known`` are the keys that may stand beside an unknown one."""
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind in _OURS:
        return str(context.get("error", mistake["msg"]))
    if kind == "extra_forbidden":
        return f"no such key; {alternatives(str(mistake['loc'][-1]), known)}" if known else "no such key"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"should match {context['pattern']}")
    if kind in _WORDS:
        plain = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
        words = _LENGTHS if context.get("field_type") == "Value" else {}
        return words.get(kind, _WORDS[kind]).format_map(_Shown(plain))
    return f"should be {_noun(kind)}"


class _Shown(dict[str, Any]):
    """The context of a mistake; a value that pydantic does not give has a word."""

    def __missing__(self, key: str) -> str:
        return "another"


def _noun(kind: str) -> str:
    """Return the noun for the longest known beginning of a type of error, such as ``time_delta_parsing``."""
    beginnings = [name for name in _NOUNS if kind.startswith(f"{name}_")]
    return _NOUNS[max(beginnings, key=len)] if beginnings else "of another kind"


def alternatives(name: str, known: Sequence[str]) -> str:
    """Return the name that was probably meant by an unknown one, or all that exist."""
    names = list(dict.fromkeys(known))
    if close := closest(name, names):
        return f"did you mean {close}?"
    more = ", ..." if len(names) > _SHOWN else ""
    return f"there are {', '.join(names[:_SHOWN])}{more}"


def closest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that is most like another, whatever its case and its dashes; None if none is."""
    plain = {_plain(each): each for each in known}
    found = get_close_matches(_plain(name)[:200], list(plain), n=1, cutoff=0.75)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")


def known_names(shape: type[BaseModel] | None, place: Place) -> list[str]:
    """Return the keys of the object at a place of a shape; empty if the place is no such object."""
    found: list[Any] = [shape] if shape else []
    for part in place:
        if _is_tag(part):
            continue
        found = [inner for each in found for inner in _inside(each, part)]
    return [name for each in found for model in _models(each) for name in model.model_fields]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for each in _members(annotation):
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield each


def _inside(annotation: Any, part: str | int) -> Iterator[Any]:
    """Yield the annotations below one part of a place; a part that names a member of a union leads nowhere deeper."""
    for each in _members(annotation):
        origin, inner = get_origin(each), get_args(each)
        if isinstance(each, type) and issubclass(each, BaseModel):
            if part in each.model_fields:
                yield each.model_fields[str(part)].annotation
            elif part == each.__name__:
                yield each
        elif origin in (list, tuple, set, frozenset) and isinstance(part, int) and inner:
            yield inner[0]
        elif isinstance(origin, type) and issubclass(origin, Mapping) and len(inner) > 1:
            yield inner[1]


def _members(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for each in get_args(annotation):
            yield from _members(each)
    else:
        yield annotation
