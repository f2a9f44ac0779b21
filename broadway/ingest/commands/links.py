"""Personal links, with which students sign in to the pages; and links for operators, for one use."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from broadway.domain.access import AccessToken, Principal, SecretPrefix, TokenKind, digest, new_secret, token_id
from broadway.domain.parts import in_parts
from broadway.ingest.commands.tokens import MAX_OF_STUDENT, Issued, TokenLimitError, ValidTokens

FOR_OPERATORS = timedelta(hours=1)
OF_LINKS = (TokenKind.LINK,)
STORED_AT_ONCE = 500


class LinkTokens(ValidTokens, Protocol):
    """The stored links."""

    async def add_all(self, tokens: Sequence[AccessToken]) -> None:
        """Store new tokens."""

    async def revoke_all(self, identities: Sequence[str], now: datetime) -> None:
        """Revoke tokens; those that are revoked already stay as they are."""


@dataclass(frozen=True, slots=True)
class PersonalLinks:
    """Makes links."""

    tokens: LinkTokens

    async def add(
        self, course: str, students: Sequence[str], *, days: int, replace: bool, by: Principal
    ) -> list[Issued]:
        """Make a link for each of some students; with ``replace``, their earlier links end.

        Raises:
            TokenLimitError: A student has ``MAX_OF_STUDENT`` valid links, and they are not replaced.
        """
        now, wanted = datetime.now(UTC), set(students)
        earlier = [each for each in await self.tokens.valid(course, OF_LINKS, now) if each.student in wanted]
        if not replace:
            _check(earlier)
        made = [
            _link(now, course=course, student=student, expires_at=now + timedelta(days=days), by=by)
            for student in students
        ]
        for some in in_parts(made, STORED_AT_ONCE):
            await self.tokens.add_all([issued.token for issued in some])
        if replace and earlier:
            await self.tokens.revoke_all([each.id for each in earlier], now)
        return made

    async def add_for_operator(self, *, by: Principal) -> Issued:
        """Make a link for one use of an operator, within an hour."""
        now = datetime.now(UTC)
        issued = _link(now, name=by.name, expires_at=now + FOR_OPERATORS, by=by, uses_left=1)
        await self.tokens.add_all([issued.token])
        return issued


def _check(earlier: Sequence[AccessToken]) -> None:
    for student, number in Counter(each.student for each in earlier).items():
        if number >= MAX_OF_STUDENT:
            raise TokenLimitError(f"{student} has {number} valid links: replace them")


def _link(
    now: datetime,
    *,
    expires_at: datetime,
    by: Principal,
    course: str = "",
    student: str = "",
    name: str = "",
    uses_left: int | None = None,
) -> Issued:
    secret = new_secret(SecretPrefix.LINK)
    token = AccessToken(
        id=token_id(secret),
        digest=digest(secret),
        kind=TokenKind.LINK,
        name=name or student,
        created_at=now,
        created_by=by.name,
        course=course,
        student=student,
        uses_left=uses_left,
        expires_at=expires_at,
    )
    return Issued(token, secret)
