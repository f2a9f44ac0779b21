"""Tokens that the API hands out: named ones of courses, and those of students."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from broadway.domain.access import AccessToken, Principal, SecretPrefix, TokenKind, digest, new_secret, token_id
from broadway.ingest.commands.join_tokens import NewTokens, NoTokenError

MAX_OF_COURSE = 200  # valid tokens
MAX_OF_STUDENT = 20  # valid tokens
OF_COURSES = (TokenKind.COURSE, TokenKind.QUERY)
OF_STUDENTS = (TokenKind.STUDENT,)
OF_STUDENTS_AND_LINKS = (TokenKind.STUDENT, TokenKind.LINK)
NOTHING_TO_REVOKE = "there is no such token, or it is revoked already"


class NoStudentError(ValueError):
    """The student is in no roster of the course."""


class TokenLimitError(Exception):
    """The course or the student has another valid token of that name, or as many as are allowed."""


class TokensBySecret(Protocol):
    """Tokens that the API has handed out."""

    async def of_secret(self, secret: str) -> AccessToken | None:
        """Return the token with a secret, valid or not, or None."""


class ValidTokens(Protocol):
    """The valid tokens of courses."""

    async def valid(
        self, course: str, kinds: Sequence[TokenKind], now: datetime, *, student: str | None = None
    ) -> list[AccessToken]:
        """Return a course's valid tokens of some kinds; only those of a student if one is given."""


class CourseTokens(NewTokens, ValidTokens, Protocol):
    """The stored tokens of courses and students."""

    async def revoke_of_course(
        self, course: str, kinds: Sequence[TokenKind], identity: str, now: datetime
    ) -> AccessToken | None:
        """Revoke a course's token of one of the kinds; return it as changed, or None if there is none to revoke."""


class StudentsOfCourses(Protocol):
    """The students in the rosters of courses."""

    async def has_student(self, course: str, student: str) -> bool:
        """Return whether a student is in a roster of the course."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token, and its secret, which is shown this once."""

    token: AccessToken
    secret: str


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Creates and revokes tokens."""

    tokens: CourseTokens
    students: StudentsOfCourses

    async def add(self, course: str, kind: TokenKind, name: str, *, days: int | None, by: Principal) -> Issued:
        """Create a named token of a course.

        Raises:
            TokenLimitError: A valid token has that name, or the course has ``MAX_OF_COURSE``.
        """
        now = datetime.now(UTC)
        known = await self.tokens.valid(course, OF_COURSES, now)
        if any(token.name == name for token in known):
            raise TokenLimitError(f"name: the course has a valid token of the name {name!r}; revoke that first")
        _check(len(known), MAX_OF_COURSE, "the course")
        return await self._issue(kind, course, name, now=now, days=days, by=by)

    async def add_for_student(self, course: str, student: str, name: str, *, days: int | None, by: Principal) -> Issued:
        """Create a token of a student.

        Raises:
            NoStudentError: The student is in no roster of the course.
            TokenLimitError: The student has ``MAX_OF_STUDENT`` valid tokens.
        """
        await self.demand_student(course, student)
        now = datetime.now(UTC)
        _check(len(await self.tokens.valid(course, OF_STUDENTS, now, student=student)), MAX_OF_STUDENT, student)
        return await self._issue(TokenKind.STUDENT, course, name or student, now=now, days=days, by=by, student=student)

    async def demand_student(self, course: str, student: str) -> None:
        """Return if a student is in a roster of the course.

        Raises:
            NoStudentError: The student is in none.
        """
        if not await self.students.has_student(course, student):
            raise NoStudentError(f"student: {student} is in no roster of the course")

    async def revoke(self, course: str, kinds: Sequence[TokenKind], identity: str) -> None:
        """Revoke a token of a course or of one of its students; it is refused from now on.

        Raises:
            NoTokenError: There is no such token, or it is revoked already.
        """
        if await self.tokens.revoke_of_course(course, kinds, identity, datetime.now(UTC)) is None:
            raise NoTokenError(NOTHING_TO_REVOKE)

    async def _issue(
        self,
        kind: TokenKind,
        course: str,
        name: str,
        *,
        now: datetime,
        days: int | None,
        by: Principal,
        student: str | None = None,
    ) -> Issued:
        secret = new_secret(SecretPrefix.STUDENT if student else SecretPrefix.COURSE)
        token = AccessToken(
            id=token_id(secret),
            digest=digest(secret),
            kind=kind,
            name=name,
            created_at=now,
            course=course,
            student=student or "",
            expires_at=now + timedelta(days=days) if days else None,
            created_by=by.name,
        )
        await self.tokens.add(token)
        return Issued(token, secret)


def _check(known: int, most: int, owner: str) -> None:
    if known >= most:
        raise TokenLimitError(f"{owner} has {known} valid tokens, and {most} are allowed: revoke some first")
