"""The objects of actions: which records of the audit log are about an assignment, a run, a hook and so on. Pure.

A record names its object by the path of its request, of a page or of an interface of the API. Actions on a part of an
object, whose path goes on, are about the object, too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

# Paths by the kind of an object; {c} is its course and {n} its name.
_PATHS: Mapping[str, Sequence[str]] = {
    "assignment": (
        "/ui/c/{c}/a/{n}",
        "/api/v2/courses/{c}/assignments/{n}",
        "/api/v1/grading_config/{c}/{n}",
        "/api/v1/grading_run/{c}/{n}",
    ),
    "roster": (
        "/ui/c/{c}/a/{n}/roster",
        "/api/v2/courses/{c}/assignments/{n}/roster",
        "/api/v2/courses/{c}/assignments/{n}/student-links",
    ),
    "grades": (
        "/ui/c/{c}/a/{n}/grades",
        "/api/v2/courses/{c}/assignments/{n}/grades",
        "/api/v2/courses/{c}/assignments/{n}/adjustments",
    ),
    "run": ("/ui/c/{c}/r/{n}", "/api/v2/courses/{c}/runs/{n}"),
    "job": ("/ui/j/{n}", "/api/v2/courses/{c}/jobs/{n}"),
    "regrade": ("/ui/c/{c}/regrades/{n}", "/api/v2/courses/{c}/regrades/{n}"),
    "hook": ("/ui/c/{c}/hooks/{n}", "/api/v2/courses/{c}/hooks/{n}"),
    "callback": ("/ui/c/{c}/callbacks/{n}", "/api/v2/courses/{c}/callbacks/{n}"),
    "tokens": ("/ui/c/{c}/tokens", "/api/v2/courses/{c}/tokens", "/api/v2/courses/{c}/student-tokens"),
    "grader": ("/ui/ops/graders/{n}", "/api/v2/graders/{n}"),
    "graders": ("/ui/ops/graders", "/api/v2/graders"),
}
_ABOUT = re.compile(r"(?P<kind>[a-z]{1,20})(?::(?P<name>[A-Za-z0-9_-]{1,200}))?")


@dataclass(frozen=True, slots=True)
class About:
    """An object: its kind, and its name among those of its kind."""

    kind: str
    name: str = ""

    @classmethod
    def of(cls, text: str) -> Self | None:
        """Return the object in a text such as ``run:42`` or ``graders``; None if it names no known kind."""
        found = _ABOUT.fullmatch(text)
        return cls(found["kind"], found["name"] or "") if found and found["kind"] in _PATHS else None

    @property
    def text(self) -> str:
        """The object as a text."""
        return f"{self.kind}:{self.name}" if self.name else self.kind

    def paths(self, course: str) -> tuple[str, ...]:
        """Return the paths of the object, each of which may go on."""
        return tuple(path.format(c=course, n=self.name) for path in _PATHS[self.kind])
