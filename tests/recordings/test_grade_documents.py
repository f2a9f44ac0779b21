"""Documents of earlier versions about files, grades, callbacks and people, read by the store's own methods."""

from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from recordings.recording import Recording, of

from broadway.domain.grade_book import ChunkRef
from broadway.mongo.store import Store

LATER = datetime(9000, 1, 1, tzinfo=UTC)


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("_id", "writer", *names)}


def holds(read: Any, recorded: dict[str, Any]) -> bool:
    """Return whether an object of the domain has the recorded values; its lists may be tuples."""
    values = {name: getattr(read, name) for name in recorded}
    return {name: list(each) if isinstance(each, tuple) else each for name, each in values.items()} == recorded


def assignments(recording: Recording, collection: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return documents by course and assignment."""
    found = defaultdict(list)
    for document in of(recording, collection):
        course, assignment, *_ = document["_id"].split("/")
        found[course, assignment].append(document)
    return found


async def test_the_audit_log_and_pools_are_read(recording: Recording, store: Store) -> None:
    records = {each.id: each for each in await store.audit.latest(limit=1000)}
    for document in of(recording, "audit"):
        assert holds(records[str(document["_id"])], without(document))
    pools = {pool.id: pool for pool in await store.pools.all()}
    documents = {document["_id"]: document for document in of(recording, "pool")}
    assert await store.pools.has_switches() is (documents.pop("*", None) is not None)
    for name, document in documents.items():
        assert holds(pools[name], without(document))


async def test_settings_are_read(recording: Recording, store: Store) -> None:
    for (course, assignment), documents in assignments(recording, "assignment_settings").items():
        read = await store.assignment_settings.latest(course, assignment, before=None, limit=100)
        for version, document in zip(reversed(read), documents, strict=True):
            assert (version.at, version.by) == (document["at"], document["by"])
            settings = version.settings.model_dump(mode="json", exclude_unset=True)
            assert settings == document["settings"]


async def test_submissions_and_their_contents_are_read(recording: Recording, store: Store) -> None:
    for document in of(recording, "submission"):
        submission = await store.submissions.get(document["course"], document["_id"])
        assert submission is not None
        assert holds(submission, without(document, "files", "due_at", "graded"))
        assert [asdict(file) for file in submission.files] == document["files"]
    for document in of(recording, "blob"):
        if ":" not in document["_id"]:
            content = b"".join([part async for part in store.blobs.read(document["_id"])])
            assert (sha256(content).hexdigest(), len(content)) == (document["_id"], document["size"])
    for document in of(recording, "stored_bytes"):
        course, size = document["_id"], document["bytes"]
        assert not await store.stored_bytes.take(course, 1, most=size)
        assert await store.stored_bytes.take(course, 1, most=size + 1)
        await store.stored_bytes.give_back(course, 1)


async def test_reports_and_results_of_works_are_read(recording: Recording, store: Store) -> None:
    for document in of(recording, "job_report"):
        read = await store.reports.of_execution(document["grading_job_id"], str(document["_id"]))
        for stage, recorded in zip(read, document["stages"], strict=True):
            assert stage.stage == recorded["stage"]
            assert (stage.reported.report is None) is (recorded["report"] is None)
            for file in stage.reported.files:
                content = await store.reports.file(file.sha256)
                assert content is not None
                assert sha256(content).hexdigest() == file.sha256
    results = of(recording, "work_result")
    for course, assignment in {(each["course"], each["assignment"]) for each in results}:
        read_results = {f"{r.job}:{r.generation}": r for r in await store.grades.works.results(course, assignment)}
        for document in results:
            if (document["course"], document["assignment"]) == (course, assignment):
                result = read_results[document["_id"]]
                assert holds(result, {name: document[name] for name in ("outcome", "finished_at", "execution")})
                assert holds(result.handed_in, {name: document[name] for name in ("student", "at", "regrade")})


async def test_exceptions_of_a_policy_are_read(recording: Recording, store: Store) -> None:
    for (course, assignment), documents in assignments(recording, "extension").items():
        read = await store.grades.extensions.of_assignment(course, assignment)
        for extension, document in zip(read, documents, strict=True):
            assert (extension.at, extension.by) == (document["at"], document["by"])
            assert extension.order.model_dump(mode="json", exclude_defaults=True) == document["order"]
    for (course, assignment), documents in assignments(recording, "late_day_claim").items():
        days = {document["student"]: document["days"] for document in documents}
        assert await store.grades.claims.of_assignment(course, assignment) == days
    for (course, assignment), documents in assignments(recording, "chosen_submission").items():
        chosen = {document["student"]: document["submission"] for document in documents}
        assert await store.grades.choices.of_assignment(course, assignment) == chosen
    for (course, assignment), documents in assignments(recording, "grade_adjustment").items():
        recorded = {document["_id"].partition(f"{assignment}/")[2]: document for document in documents}
        for adjustment in await store.grades.adjustments.of_assignment(course, assignment):
            made = recorded.pop(adjustment.id)
            points = None if adjustment.points is None else str(adjustment.points)
            assert holds(adjustment, without(made, "points"))
            assert points == made["points"]
            withdrawal = recorded.pop(f"{adjustment.id}/withdrawn", {"at": None, "by": "", "reason": ""})
            assert holds(adjustment, {f"withdrawn_{name}": withdrawal[name] for name in ("at", "by", "reason")})
        assert not recorded


async def test_grade_books_are_read(recording: Recording, store: Store) -> None:
    books = store.grades.books
    for document in of(recording, "grade_book_published"):
        pointer = await books.published(document["course"], document["assignment"])
        assert pointer is not None
        assert holds(pointer, without(document))
    used = set()
    for document in of(recording, "grade_book"):
        version = await books.version(document["course"], document["assignment"], document["number"])
        assert version is not None
        assert holds(version, without(document, "chunks"))
        assert version.chunks == tuple(ChunkRef(*chunk) for chunk in document["chunks"])
        entries = await books.entries(version.chunks)
        assert [entries[0].student, len(entries)] == document["chunks"][0][1:]
        assert all(entry.grade.lines for entry in entries)
        used |= {chunk.digest for chunk in version.chunks}
    assert used == {document["_id"] for document in of(recording, "grade_entries")}


async def test_regrades_are_read(recording: Recording, store: Store) -> None:
    parts = {document["_id"]: document for document in of(recording, "regrade_part")}
    for document in of(recording, "regrade"):
        regrade = await store.grades.regrades.get(document["course"], document["_id"])
        assert regrade is not None
        assert holds(regrade, without(document, "order", "is_active"))
        assert holds(regrade.order, document["order"])
        for part in await store.grades.regrades.parts(regrade):
            recorded = parts.pop(part.id)
            assert holds(part, without(recorded, "items", "seen"))
            assert [asdict(item) for item in part.items] == recorded["items"]
            seen = [[each.student, each.counting, list(each.submissions), each.is_listed] for each in part.seen]
            assert seen == recorded["seen"]
    assert not parts


async def test_callbacks_are_read(recording: Recording, store: Store) -> None:
    callbacks = store.callbacks
    for document in of(recording, "callback_endpoint"):
        endpoint = await callbacks.endpoints.get(document["course"], document["name"])
        assert endpoint is not None
        assert holds(endpoint, without(document, "holder", "held_until"))
    events = await callbacks.events.get_many([document["_id"] for document in of(recording, "callback_event")])
    for document in of(recording, "callback_event"):
        assert holds(events[document["_id"]], without(document, "due_at", "tries"))
    due = {each.event.id: (each.due_at, each.tries) for each in await callbacks.events.due(LATER, limit=1000)}
    waiting = [document for document in of(recording, "callback_event") if document["due_at"]]
    assert due == {document["_id"]: (document["due_at"], document["tries"]) for document in waiting}
    for document in of(recording, "callback_delivery"):
        delivery = await callbacks.deliveries.get(document["endpoint"], str(document["_id"]))
        assert delivery is not None
        assert holds(delivery, without(document, "answers"))
        assert [asdict(answer) for answer in delivery.answers] == document["answers"]


async def test_tokens_and_sessions_are_read(recording: Recording, store: Store) -> None:
    documents = {document["_id"]: document for document in of(recording, "access_token")}
    tokens = {token.id: token for token in await store.access_tokens.of_ids(list(documents))}
    for identity, document in documents.items():
        assert holds(tokens[identity], without(document))
    for document in of(recording, "page_session"):
        courses = tuple(document["courses"])
        read = await store.page_sessions.open(None, courses, document["student"], document["seen_at"], limit=100)
        found = {session.id: session for session in read}
        assert (document["_id"] in found) is (document["ended_at"] is None)
        if session := found.get(document["_id"]):
            assert holds(session, without(document, "gone_at"))
