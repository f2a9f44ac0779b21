"""A class with one student in every collection, and a walk over all documents of a deployment."""

import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from classes import CONFIG, HandIn
from old_classes import BEFORE_DUE, BEST, OldClass
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.access import AccessToken, Kind, TokenKind
from broadway.domain.audit import AuditRecord
from broadway.domain.callback import CallbackEvent
from broadway.domain.extension import Extension, ExtensionOrder, Target
from broadway.domain.grade_book import AdjustmentKind, StoredAdjustment
from broadway.domain.page_session import PageSession
from broadway.domain.regrade import Item, Part, PartKind, Regrade, RegradeOrder, Seen
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.domain.roster import RosterEntry
from broadway.domain.run import Run, RunState
from broadway.domain.webhook import Delivery, DeliveryState, Push, Quota, quota_key
from broadway.ingest.commands.grades import GradeChanges, PublishOrder

Database = AsyncDatabase[dict[str, Any]]
LARGE = "x" * 200_000  # characters of a variable: two of them make a run's list too large for its document
# Collections whose documents others share with the student, that change by themselves, or that have only keys of names.
SHARED = {
    *("student_deletion", "service_lease", "service_secret", "stored_bytes", "hook_quota"),
    *("grade_book", "grade_book_published", "grade_entries"),
}
NOW = datetime.now(UTC)


class TracedClass(OldClass):
    """Ada, bob, and a team of yan and zed; the names of ada and zed are in no other text of the deployment."""

    @property
    def ada(self) -> str:
        return f"ada-{self.course}"

    @property
    def bob(self) -> str:
        return f"bob-{self.course}"

    @property
    def zed(self) -> str:
        return f"zed-{self.course}"

    @property
    def team(self) -> str:
        return f"team-{self.course}"

    async def make(self) -> None:
        """Store all of it."""
        team = RosterEntry(student=self.team, members=(f"yan-{self.course}", self.zed))
        own = RosterEntry(student=self.ada, env={"EMAIL": f"{self.ada}@example.org"}, repository=f"cs/{self.ada}")
        await self.prepare([own, self.bob, team], BEST)
        scores = ((self.ada, 1, "3"), (self.ada, 2, "9"), (self.bob, 1, "4"), (self.team, 1, "2"))
        await self.hand_in_old(*(HandIn(who, BEFORE_DUE, score=score, number=n) for who, n, score in scores))
        for number, padding in ((5, {}), (6, {"PAD": LARGE})):
            await self.run_over_roster(number, padding)
        await self.publish()
        await self.decide()
        await self.publish_again()
        await self.leave_traces(self.ada)

    async def run_over_roster(self, number: int, padding: Mapping[str, str]) -> None:
        """Store an ended run of bob and ada, with their jobs and outcomes."""
        run, later = f"{number}{self.course[2:]}".ljust(24, "a"), BEFORE_DUE + timedelta(hours=number)
        await self.grade([HandIn(self.bob, later, number=number), HandIn(self.ada, later, number=number)], run=run)
        envs = [{"BROADWAY_STUDENT": who, "EMAIL": f"{who}@example.org", **padding} for who in (self.bob, self.ada)]
        stored = Run(run, self.course, "mp1", RunState.FINISHED, NOW, CONFIG, envs, finished_at=NOW, students=2)
        assert await self.store.runs.insert(stored)

    async def publish_again(self) -> None:
        order = PublishOrder(based_on=1, by="staff")
        await GradeChanges(self.store.grades.books, self.reads).publish_draft(self.course, "mp1", order)

    async def decide(self) -> None:
        """Store decisions of staff, and choices."""
        grades = self.store.grades
        for number, who in enumerate((self.ada, self.bob), 1):
            order = ExtensionOrder(target=Target.STUDENT, name=who, add_days=1, reason=f"{who} was ill")
            assert await grades.extensions.add(self.course, "mp1", Extension("", order, NOW, "staff"), number=number)
            await grades.claims.put(self.course, "mp1", who, 1)
            await grades.choices.put(self.course, "mp1", who, self.submission(who))
            made = StoredAdjustment(f"a{number}", who, AdjustmentKind.EXCUSED, None, f"{who} was ill", NOW, "staff")
            assert all(await grades.adjustments.add(self.course, "mp1", [made]))

    async def leave_traces(self, who: str) -> None:
        """Store tokens, deliveries, events, records and parts of a regrade that name a student."""
        store, course = self.store, self.course
        await store.access_tokens.add_all(
            [AccessToken(f"{who}-t", TokenKind.STUDENT, "d", NOW, name=f"{who} laptop", course=course, student=who)]
        )
        session = PageSession(
            f"{who}-s", "d", Kind.STUDENT, who, (course,), who, NOW, "token", NOW, NOW + timedelta(days=1)
        )
        await store.page_sessions.add(session)
        push = Push("v1", student=who, repository=f"cs/{who}")
        unmatched = Push("v2", repository=f"cs/{self.ada}")
        for name, state, pushed in (("a", DeliveryState.IGNORED, push), ("b", DeliveryState.UNMATCHED, unmatched)):
            made = Delivery(f"{who}-{name}", course, "h", "mp1", name, NOW, state, pushed, body=f"from {who}")
            assert await store.deliveries.insert(made)
        await store.quotas.take(quota_key(course, "mp1", who), "run", Quota(submissions=2, seconds=60), NOW)
        for event in (
            replace(CallbackEvent.job_finished(course, "a" * 24, 1, run_id="", at=NOW), data={"student": who}),
            CallbackEvent.hook_unmatched(course, "h", "b", reason=f"no entry for cs/{who}", at=NOW),
        ):
            await store.callbacks.events.store(event)
        body = f'{{"course": "{course}", "student": "{who}"}}'.encode()
        await store.dead_letters.put(message_id=who, subject="s", queue="q", reason="r", body=body)
        await store.audit.add(self.record(who, f"/api/v2/courses/{course}/students/{who}/export"))
        await store.audit.add(self.record("staff", "/x", given=f'{{"students":[{{"student":"{who}"}}]}}'))
        regrade = Regrade(f"{course}-r", course, "mp1", RegradeOrder(Select.ALL), {}, "", NOW, plans=("p",))
        over = replace(regrade, state=RegradeState.DISCARDED, discarded_at=NOW)
        assert await store.grades.regrades.add(over)
        items = tuple(Item(self.submission(each), {"BROADWAY_STUDENT": each}) for each in (self.bob, who))
        seen = tuple(Seen(each, None, (), is_listed=True) for each in (self.bob, who))
        await store.grades.regrades.put_parts([Part(regrade.id, "p", 0, PartKind.NEW, items, seen)])

    def record(self, name: str, path: str, **more: Any) -> AuditRecord:
        texts = {"given": None, "before": None, "after": None, **more}
        return AuditRecord(
            str(ObjectId()), NOW, "student", name, "", "students_export", path, self.course, 200, **texts
        )


async def documents(database: Database) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield all documents of both databases of a deployment, with the names of their collections."""
    logs = database.client[database.name.removesuffix("_ag") + "_logs"]
    for place in (database, logs):
        for name in await place.list_collection_names():
            async for each in place[name].find({}):
                yield name, each


async def naming(database: Database, *names: str) -> list[str]:
    """Return the collections and ids of all documents that have one of some names anywhere, packed bytes included."""
    return [
        f"{collection} {document['_id']}"
        async for collection, document in documents(database)
        if any(name in text for text in texts(document) for name in names)
    ]


async def of_others(database: Database, name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return all documents that do not name a student, nor one of the student's jobs and runs, by collection and id.

    Those that change by themselves are left out.
    """
    jobs = await database["grading_job"].find({"handed_in.student": name}).to_list()
    alone = {each["grading_run_id"] for each in jobs} - {
        each["grading_run_id"] async for each in database["grading_job"].find({"handed_in.student": {"$ne": name}})
    }
    names = [name, *(str(each["_id"]) for each in jobs), *alone]
    return {
        (collection, str(document["_id"])): document
        async for collection, document in documents(database)
        if collection not in SHARED and not any(each in text for text in texts(document) for each in names)
    }


def texts(value: Any) -> list[str]:
    """Return all texts in a value, keys included; bytes as they are and unpacked."""
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in texts(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in texts(each)]
    if isinstance(value, bytes):
        try:
            return [zlib.decompress(value).decode(errors="replace")]
        except zlib.error:
            return [bytes(value).decode(errors="replace")]
    return [str(value)]
