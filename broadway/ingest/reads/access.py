"""Reads of tokens, and of the audit log."""

from collections.abc import Sequence
from dataclasses import dataclass

from broadway.domain.access import AccessToken, TokenKind
from broadway.domain.audit import AuditRecord
from broadway.domain.pages import Slice, cursor, sliced
from broadway.ingest.reads.stores import AuditQueries, TokenQueries


@dataclass(frozen=True, slots=True)
class TokenReads:
    """Reads of the tokens that the API has handed out."""

    tokens: TokenQueries

    async def one(self, course: str, identity: str) -> AccessToken | None:
        """Return a course's token, valid or not, or None."""
        return await self.tokens.one_of_course(course, identity)

    async def of_course(
        self, course: str, kinds: Sequence[TokenKind], *, student: str | None = None, after: str | None, limit: int
    ) -> Slice[AccessToken]:
        """Return a page of a course's tokens, latest first; only those of a student if one is given.

        Raises:
            CursorError: ``after`` is not a cursor.
        """
        found = await self.tokens.of_course(course, kinds, student=student, before=after, limit=limit + 1)
        return sliced(found, limit, lambda token: cursor(token.created_at, token.id))


@dataclass(frozen=True, slots=True)
class AuditReads:
    """Reads of the audit log."""

    records: AuditQueries

    async def latest(
        self,
        *,
        course: str | None,
        name: str | None = None,
        operation: str | None = None,
        paths: Sequence[str] = (),
        after: str | None,
        limit: int,
    ) -> Slice[AuditRecord]:
        """Return a page of the records, latest first; only those that have the given values.

        With ``paths``, only those whose object is one of them, or goes on from one.

        Raises:
            CursorError: ``after`` is not a cursor.
        """
        found = await self.records.latest(
            course=course, name=name, operation=operation, paths=paths, before=after, limit=limit + 1
        )
        return sliced(found, limit, lambda record: cursor(record.at, record.id))
