"""Sessions of people who have signed in to the pages. Pure.

The cookie holds a random secret, of which only the hash is stored.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broadway.domain.access import Kind, Principal, digest, token_id

STAFF_LIFETIME = timedelta(hours=12)
STUDENT_LIFETIME = timedelta(days=7)
IDLE = timedelta(hours=12)  # without a request, after which a session ends
NOTED_AFTER = timedelta(minutes=5)  # between two writes of the time of the last request


MOST_ROLES = 200  # of one person


@dataclass(frozen=True, slots=True)
class PageRole:
    """A right that a person may take: of an operator, of the staff of courses, or of a student of one course."""

    kind: Kind
    courses: tuple[str, ...] = ()
    student: str = ""

    @property
    def words(self) -> str:
        """The role for people."""
        if self.kind is Kind.OPERATOR:
            return "operator"
        return f"{'student' if self.kind is Kind.STUDENT else 'staff'} of {', '.join(self.courses)}"


@dataclass(frozen=True, slots=True)
class PageSession:
    """A signed-in person.

    Args:
        id: Its public id, for lists and for ending it.
        digest: The hash of its secret.
        kind: The right that it gives: of an operator, of course staff, or of a student.
        name: The name in the audit log.
        courses: The courses that it belongs to; empty for an operator.
        student: The student that it belongs to; empty for others.
        created_at: The time of signing in.
        created_by: The credential with which the person has signed in, in words.
        seen_at: The time of about the last request.
        expires_at: The time at which it ends in any case.
        origin: The id of the handed-out token behind it, whose end is the session's; empty for other credentials.
        ended_at: The time at which it was ended; None while it is not.
        roles: The roles between which the person may change, with that of the session; empty if there is no other.
    """

    id: str
    digest: str = field(repr=False)
    kind: Kind
    name: str
    courses: tuple[str, ...]
    student: str
    created_at: datetime
    created_by: str
    seen_at: datetime
    expires_at: datetime
    origin: str = ""
    ended_at: datetime | None = None
    roles: tuple[PageRole, ...] = ()

    def is_valid(self, now: datetime) -> bool:
        """Return whether the session is valid at a moment; its origin is checked elsewhere."""
        return self.ended_at is None and now < min(self.expires_at, self.seen_at + IDLE)

    @property
    def gone_at(self) -> datetime:
        """The time at which it ends if no request comes any more."""
        return min(self.expires_at, self.seen_at + IDLE)

    def admits_to(self, course: str) -> bool:
        """Return whether it belongs to a course."""
        return course in self.courses

    def principal(self, course: str | None = None) -> Principal:
        """Return the person as a principal, in one of the courses."""
        return Principal(self.kind, self.name, course, self.student or None, expires_at=self.expires_at)


def session_of(
    secret: str,
    principal: Principal,
    courses: tuple[str, ...],
    *,
    created_by: str,
    origin: str,
    now: datetime,
    roles: tuple[PageRole, ...] = (),
) -> PageSession:
    """Return a new session with a random secret; it ends with the credential behind it at the latest."""
    lifetime = STUDENT_LIFETIME if principal.kind is Kind.STUDENT else STAFF_LIFETIME
    return PageSession(
        id=token_id(secret),
        digest=digest(secret),
        kind=principal.kind,
        name=principal.name,
        courses=courses,
        student=principal.student or "",
        created_at=now,
        created_by=created_by,
        seen_at=now,
        expires_at=min(now + lifetime, principal.expires_at or now + lifetime),
        origin=origin,
        roles=roles,
    )
