"""Signing in to the pages and out again: sessions, which begin with a credential and end with it at the latest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex, token_urlsafe
from typing import Protocol

from broadway.domain.access import AccessToken, Kind, Principal, SecretPrefix, TokenKind, is_secret
from broadway.domain.page_session import NOTED_AFTER, PageRole, PageSession, session_of
from broadway.ingest.commands.links import PersonalLinks
from broadway.ingest.commands.tokens import TokensBySecret

KEPT_AFTER_END = timedelta(days=1)
MOST_LISTED = 200  # sessions
MAX_SECRET = 100  # characters of a cookie's value


class StoredSessions(Protocol):
    """The stored sessions."""

    async def add(self, session: PageSession) -> None:
        """Store a new session."""

    async def of_secret(self, secret: str) -> PageSession | None:
        """Return the session with a secret, valid or not, or None."""

    async def note_seen(self, session: PageSession) -> None:
        """Store the time of the session's last request."""

    async def end(self, identity: str, now: datetime) -> None:
        """End a session; ending it again changes nothing."""

    async def open(
        self, kind: Kind | None, courses: tuple[str, ...], student: str, now: datetime, *, limit: int
    ) -> list[PageSession]:
        """Return sessions that have not ended, latest first: of a kind, of any of some courses, and of a student."""

    async def remove_gone(self, before: datetime) -> None:
        """Remove sessions that were over before a moment."""


class TokensById(TokensBySecret, Protocol):
    """Tokens that the API has handed out, by their secrets and ids."""

    async def of_ids(self, identities: Sequence[str]) -> list[AccessToken]:
        """Return the tokens with some public ids."""

    async def use(self, identity: str, user: str, now: datetime) -> bool:
        """Count a use of a token; return False if it is invalid now, or has no uses left."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An accepted credential: its principal, the courses, words for it, and its public id if it was handed out.

    ``roles`` are those between which the person may change.
    """

    principal: Principal
    courses: tuple[str, ...]
    words: str
    origin: str = ""
    roles: tuple[PageRole, ...] = ()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session, and its secret for the cookie."""

    session: PageSession
    secret: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """Begins, finds and ends sessions."""

    sessions: StoredSessions
    tokens: TokensById
    links: PersonalLinks
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def begin(self, credential: Credential) -> SignedIn:
        """Begin a session of a credential."""
        now, secret = self.now(), token_urlsafe(32)
        await self.sessions.remove_gone(now - KEPT_AFTER_END)
        session = session_of(
            secret,
            credential.principal,
            credential.courses,
            created_by=credential.words,
            origin=credential.origin,
            now=now,
            roles=credential.roles,
        )
        await self.sessions.add(session)
        return SignedIn(session, secret)

    async def by_link(self, secret: str) -> SignedIn | None:
        """Begin a session by the secret of a personal link, and count its use; None if the link is not valid."""
        if not is_secret(secret, SecretPrefix.LINK):
            return None
        link = await self.tokens.of_secret(secret)
        if (
            link is None
            or link.kind is not TokenKind.LINK
            or not await self.tokens.use(link.id, token_hex(8), self.now())
        ):
            return None
        kind = Kind.STUDENT if link.student else Kind.OPERATOR
        principal = Principal(kind, link.name, link.course or None, link.student or None, expires_at=link.expires_at)
        # A link for one use is over after it; the session goes on until its own end.
        origin = link.id if link.uses_left is None else ""
        until = principal if link.uses_left is None else replace(principal, expires_at=None)
        courses = (link.course,) if link.course else ()
        return await self.begin(Credential(until, courses, "personal link", origin))

    async def find(self, secret: str) -> PageSession | None:
        """Return the valid session with a secret; None if there is no such session, or the token behind it is over."""
        if not secret or len(secret) > MAX_SECRET or not secret.isascii():
            return None
        now = self.now()
        session = await self.sessions.of_secret(secret)
        if session is None or not session.is_valid(now) or not await self._is_backed(session, now):
            return None
        if now - session.seen_at >= NOTED_AFTER:
            session = replace(session, seen_at=now)
            await self.sessions.note_seen(session)
        return session

    async def end(self, session: PageSession) -> None:
        """Sign out."""
        await self.sessions.end(session.id, self.now())

    async def listed(self, viewer: PageSession) -> list[PageSession]:
        """Return the open sessions that a person may end.

        A student has the own ones, staff those of the course and of its students, operators those of operators.
        """
        kind = None if viewer.kind is Kind.COURSE else viewer.kind
        return await self.sessions.open(kind, viewer.courses, viewer.student, self.now(), limit=MOST_LISTED)

    async def end_other(self, viewer: PageSession, identity: str) -> bool:
        """End one of the sessions that a person may end; return False if there is no such session."""
        found = next((each for each in await self.listed(viewer) if each.id == identity), None)
        if found is None:
            return False
        await self.end(found)
        return True

    async def of_course(self, course: str, *, limit: int) -> list[PageSession]:
        """Return the latest open sessions of a course, of its staff and its students."""
        return await self.sessions.open(None, (course,), "", self.now(), limit=limit)

    async def end_of_course(self, course: str, identity: str) -> bool:
        """End one of the listed sessions of a course; return False if there is no such session."""
        found = next((each for each in await self.of_course(course, limit=MOST_LISTED) if each.id == identity), None)
        if found is None:
            return False
        await self.end(found)
        return True

    async def _is_backed(self, session: PageSession, now: datetime) -> bool:
        """Return whether the handed-out token behind a session, if any, is still valid."""
        if not session.origin:
            return True
        found = await self.tokens.of_ids([session.origin])
        return bool(found) and found[0].is_valid(now)
