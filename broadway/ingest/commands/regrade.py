"""Regrades: start one, refresh it, publish its grades, or discard it."""

from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Protocol

import structlog

from broadway.domain.course import Course
from broadway.domain.grade_book import MAX_NOTE, MadeFrom, Version
from broadway.domain.handed_in import digest_of_config
from broadway.domain.regrade import Regrade, RegradeOrder, RegradeStateError, grading_part, regrade_id
from broadway.domain.regrade_diff import Diff, entries_to_publish, parted_group
from broadway.domain.regrade_terms import Publish, RegradeState
from broadway.ingest.commands.grades import BookMovedError, GradeChanges, Publication, is_repeated
from broadway.ingest.commands.limits import Limits, QuotaError, RejectedError, allowed
from broadway.ingest.commands.regrade_plan import NothingToRegradeError, RegradePlanner
from broadway.ingest.commands.submit import KeyReusedError
from broadway.lifecycle.grade_books import BookQueries, history
from broadway.lifecycle.regrades import RegradeStore
from broadway.lifecycle.stores import AssignmentConfigs
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

MAX_ACTIVE = 10  # regrades of a course that are under way
LOOKED_THROUGH = 100  # latest published versions, for one that a crash or a repetition has kept from its regrade


class RegradeMovedError(Exception):
    """Another process has changed the regrade, or the class has changed since it ran; the text says so."""


class Diffs(Protocol):
    """The differences that regrades make."""

    async def diff(self, regrade: Regrade) -> Diff:
        """Return the difference that a regrade makes, now."""


@dataclass(frozen=True, slots=True)
class RegradePublication:
    """The order to publish a regrade. ``note`` is for its students, and ``students`` are the chosen ones."""

    publish: Publish
    note: str
    students: frozenset[str] = frozenset()
    keep_old: bool = False
    by: str = ""
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Regrades:
    """Changes of the regrades of any course."""

    regrades: RegradeStore
    planner: RegradePlanner
    assignments: AssignmentConfigs
    limits: Limits
    diffs: Diffs
    books: BookQueries
    grades: GradeChanges

    async def start(
        self, course: Course, assignment: str, order: RegradeOrder, *, by: str, key: str | None
    ) -> tuple[Regrade, bool]:
        """Store a regrade with the assignment's present config; return it, and whether it is new.

        Raises:
            NothingToRegradeError: The order fits no submission.
            QuotaError: The course has as many regrades under way as it may have.
            RejectedError: The assignment has no config, or the config exceeds a limit.
            KeyReusedError: Another regrade had that key.
            UnstorableError: The config is too large for the store.
        """
        identity = regrade_id(course.id, assignment, key or token_hex(16))
        if known := await self.regrades.get(course.id, identity):
            return _same(known, order), False
        if (present := await self.regrades.count_active(course.id)) >= MAX_ACTIVE:
            raise QuotaError(
                f"regrade: {course.id} has {present} regrades under way, {MAX_ACTIVE} are allowed; wait for one, or "
                "discard it"
            )
        config = await self.assignments.get(course.id, assignment)
        if config is None:
            raise RejectedError("assignment configuration not found")
        used = grading_part(allowed(config, self.limits.of_course(course), course=course.id))
        await self.planner.check(course.id, assignment, order)
        regrade = Regrade(
            id=identity,
            course=course.id,
            assignment=assignment,
            order=order,
            config=used,
            config_digest=digest_of_config(used),
            created_at=now(),
            by=by,
        )
        is_new = await self.regrades.add(regrade)
        await reach(Point.REGRADE_STORED)
        stored = await self.regrades.get(course.id, identity)
        return _same(stored or regrade, order), is_new

    async def refresh(self, regrade: Regrade) -> Regrade:
        """Grade those students again whose submissions have changed, or with whose the infrastructure failed.

        The others are compared with the version that is published now.

        Raises:
            RegradeStateError: The regrade is neither ready nor stale.
            RegradeMovedError: Another process has changed it.
        """
        regrade = await self.settled(regrade)
        regrade.refresh("", 0, 0)  # raises if the state does not allow it
        diff = await self.diffs.diff(regrade)
        again = {row.student for row in diff.rows if row.needs_run}
        planned = await self.planner.plan(regrade, only=again)
        await self.regrades.put_parts(planned.parts)
        await reach(Point.REGRADE_PARTS_STORED)
        return await self._moved(regrade.refresh(planned.plan, regrade.submissions, planned.base))

    async def publish(self, regrade: Regrade, order: RegradePublication) -> tuple[Regrade, Version]:
        """Publish the grades of a regrade as a new version of the grade book, based on the one it was compared with.

        A regrade that was published and taken back may be published again.

        Raises:
            RegradeStateError: The regrade is not ready, or its version is the published one.
            RegradeMovedError: The class has changed since it ran: it is stale now.
            InfraErrorsError: The infrastructure failed with some submissions, and their old grades are not kept.
            NothingToRegradeError: A chosen student has no row.
            BookMovedError: Another version was published meanwhile; nothing that students see has changed.
            KeyReusedError: Another publication had that key.
        """
        regrade = await self.settled(regrade)
        regrade.begin_publishing(now())  # raises if the state does not allow it
        diff = await self.diffs.diff(regrade)
        wanted = _publication(regrade, order, diff)
        if order.key and regrade.version is not None and (known := await self._repeated(regrade, wanted)):
            return regrade, known
        if regrade.version is not None and regrade.version == diff.pointer:
            raise RegradeStateError(f"the regrade is published as version {regrade.version} already")
        if diff.is_stale:
            await self._mark_stale(regrade)
            raise RegradeMovedError("the class has changed since the regrade ran; refresh it, and look at it again")
        if unknown := order.students - {row.student for row in diff.rows}:
            raise NothingToRegradeError(f"students: {min(unknown)} is not in this regrade")
        if parted := parted_group(diff, order.students):
            raise NothingToRegradeError(f"students: {parted[0]} and {parted[1]} handed in together; choose both")
        entries = entries_to_publish(diff, order.publish, students=order.students, keep_old=order.keep_old)
        regrade = await self._moved(regrade.begin_publishing(now()))
        await reach(Point.REGRADE_PUBLISHING)
        try:
            version = await self.grades.publish(regrade.course, regrade.assignment, replace(wanted, entries=entries))
        except (BookMovedError, KeyReusedError):
            await self.regrades.move(regrade.end_publishing())
            raise
        await reach(Point.REGRADE_PUBLISHED)
        return await self._note(regrade, version), version

    async def discard(self, regrade: Regrade, *, by: str) -> Regrade:
        """Give a regrade up: its jobs are cancelled, and its reports and logs are removed. The grade book stays.

        Raises:
            RegradeStateError: It was published, or is discarded.
            RegradeMovedError: Another process has changed it.
        """
        regrade = await self.settled(regrade)
        moved = await self._moved(regrade.discard(now(), by=by))
        await reach(Point.REGRADE_DISCARDED)
        log.info("regrade discarded", regrade=regrade.id)
        return moved

    async def settled(self, regrade: Regrade) -> Regrade:
        """Return a regrade after noting a version that was published of it by a process that died then."""
        if regrade.publishing_at is None:
            return regrade
        found = await history(self.books, regrade.course, regrade.assignment, limit=LOOKED_THROUGH)
        own = [each for each in found if each.made_from is MadeFrom.REGRADE and each.source == regrade.id]
        return await self._note(regrade, own[0]) if own and own[0].number != regrade.version else regrade

    async def resume(self, regrade: Regrade) -> None:
        """End the publication of a regrade whose process has died."""
        settled = await self.settled(regrade)
        if settled.publishing_at is not None:
            await self.regrades.move(settled.end_publishing())

    async def _repeated(self, regrade: Regrade, wanted: Publication) -> Version | None:
        """Return the version of an earlier request for the same publication, also one that was taken back, or None.

        Raises:
            KeyReusedError: That request had the same key, and was another one.
        """
        found = await history(self.books, regrade.course, regrade.assignment, limit=LOOKED_THROUGH)
        return next((each for each in found if each.source == regrade.id and is_repeated(each, wanted)), None)

    async def _note(self, regrade: Regrade, version: Version) -> Regrade:
        """Store the version as which a regrade is published, unless another process has stored the same."""
        after = regrade.publish_as(version.number, version.at, by=version.by, note=version.note)
        if await self.regrades.move(after):
            return after
        stored = await self.regrades.get(regrade.course, regrade.id)
        if stored is None or stored.version == version.number:
            return stored or after
        return await self._note(stored, version) if stored.state is not RegradeState.DISCARDED else stored

    async def _mark_stale(self, regrade: Regrade) -> None:
        if regrade.state is RegradeState.READY:
            await self.regrades.move(regrade.mark_stale())

    async def _moved(self, after: Regrade) -> Regrade:
        if not await self.regrades.move(after):
            raise RegradeMovedError("another process has changed the regrade just now; look at it again")
        return after


def _publication(regrade: Regrade, order: RegradePublication, diff: Diff) -> Publication:
    """Return the publication that an order asks for, without its entries."""
    return Publication(
        entries=(),
        based_on=diff.pointer,
        made_from=MadeFrom.REGRADE,
        settings_version=diff.settings_version,
        by=order.by,
        reason=f"regrade: {regrade.order.reason}"[:MAX_NOTE] if regrade.order.reason else "regrade",
        note=order.note,
        source=regrade.id,
        configs=diff.configs,
        images=diff.images,
        key=f"regrade/{regrade.id}/{order.key or token_hex(16)}",
        choice=repr((order.publish.value, sorted(order.students), order.keep_old)),
    )


def _same(known: Regrade, order: RegradeOrder) -> Regrade:
    """Return a stored regrade if it has the same order.

    Raises:
        KeyReusedError: It has another one.
    """
    if known.order != order:
        raise KeyReusedError("Idempotency-Key: another regrade had the same one")
    return known
