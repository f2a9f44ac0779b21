"""Signing in through an OpenID Connect provider: from verified claims to a session."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from broadway.domain.access import Kind, Principal
from broadway.domain.openid import Attempt, Person, PersonRules
from broadway.domain.page_session import MOST_ROLES, STAFF_LIFETIME, PageRole, PageSession
from broadway.ingest.commands.sign_in import Credential, SignedIn, SignIn
from broadway.ingest.commands.tokens import StudentsOfCourses
from broadway.lifecycle.stores import CoursesById

WORDS = "OpenID Connect"
LIFETIME = STAFF_LIFETIME  # also of students: the provider asks for no password again


class ProviderUnavailableError(Exception):
    """The provider gives no usable answer now; the text says why, for operators."""


class SignInRefusedError(Exception):
    """The provider, or the check of its answer, refuses this sign-in; the text is for the person."""


class NoMemberError(Exception):
    """The person has no role here; the text has the name."""


class Provider(Protocol):
    """An OpenID Connect provider."""

    async def address(self, attempt: Attempt) -> str:
        """Return the address at the provider where a person signs in.

        Raises:
            ProviderUnavailableError: The provider's description cannot be had.
        """

    async def claims(self, code: str, attempt: Attempt, *, issuer: str) -> Mapping[str, Any]:
        """Exchange a code for the verified claims of a person. ``issuer`` is the one that the browser has brought.

        Raises:
            SignInRefusedError: The code or the answer is not acceptable.
            ProviderUnavailableError: The provider gives no usable answer.
        """


class CoursesOfStudents(StudentsOfCourses, Protocol):
    """Rosters by their students."""

    async def courses_of(self, student: str, *, limit: int) -> list[str]:
        """Return the ids of courses that have a student in a roster, in order."""


@dataclass(frozen=True, slots=True)
class OpenIdSignIn:
    """Signs people in. ``label`` has the words on the button, ``url`` the address of the pages in browsers."""

    provider: Provider
    rules: PersonRules
    courses: CoursesById
    rosters: CoursesOfStudents
    sign_in: SignIn
    label: str
    url: str

    async def address(self, secret: str) -> str:
        """Return the provider's address for the attempt that a browser keeps by a secret.

        Raises:
            ProviderUnavailableError: The provider's description cannot be had.
        """
        return await self.provider.address(Attempt.of(secret))

    async def finish(self, code: str, secret: str, *, issuer: str) -> SignedIn:
        """Begin a session of the person whom the provider names, in the role with most rights.

        Raises:
            SignInRefusedError: The code or the answer is not acceptable.
            ProviderUnavailableError: The provider gives no usable answer.
            PersonError: The claims give no acceptable name.
            NoMemberError: The person has no role here.
        """
        claims = await self.provider.claims(code, Attempt.of(secret), issuer=issuer)
        person = self.rules.person(claims)
        roles = await self._roles(person)
        if not roles:
            raise NoMemberError(person.name)
        until = self.sign_in.now() + LIFETIME
        principal = _principal(roles[0], person.name, Principal(Kind.ANYONE, person.name, expires_at=until))
        return await self.sign_in.begin(Credential(principal, roles[0].courses, WORDS, roles=several(roles)))

    async def change(self, session: PageSession, place: int) -> SignedIn | None:
        """Begin a session in another role of a person; None if the person has it no longer. It ends with the first."""
        if place >= len(session.roles):
            return None
        role = session.roles[place]
        if role.kind is Kind.STUDENT and not await self.rosters.has_student(role.courses[0], role.student):
            return None
        principal = _principal(role, session.name, session.principal())
        signed_in = await self.sign_in.begin(Credential(principal, role.courses, WORDS, roles=session.roles))
        await self.sign_in.end(session)
        return signed_in

    async def _roles(self, person: Person) -> tuple[PageRole, ...]:
        """Return the roles of a person, those with most rights first."""
        staff = [course for course in person.staff[:MOST_ROLES] if await self.courses.get(course) is not None]
        studies = await self.rosters.courses_of(person.name, limit=MOST_ROLES)
        as_student = [
            PageRole(Kind.STUDENT, (course,), person.name)
            for course in studies
            if await self.courses.get(course) is not None
        ]
        return (
            *((PageRole(Kind.OPERATOR),) if person.is_operator else ()),
            *((PageRole(Kind.COURSE, tuple(staff)),) if staff else ()),
            *as_student,
        )[:MOST_ROLES]


def several(roles: tuple[PageRole, ...]) -> tuple[PageRole, ...]:
    """Return roles between which a person can choose; no role if there is only one."""
    return roles if len(roles) > 1 else ()


def _principal(role: PageRole, name: str, before: Principal) -> Principal:
    course = role.courses[0] if len(role.courses) == 1 else None
    return replace(before, kind=role.kind, name=name, course=course, student=role.student or None)
