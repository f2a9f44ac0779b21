"""Submissions by webhook: accepted and refused deliveries, and one run for each submission."""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from earlier_jobs import dispatched
from harness import Client, stage, token_of, until
from pushes import MAIN, push, signature
from pymongo.asynchronous.database import AsyncDatabase
from scraping import Scrape
from standardwebhooks.webhooks import Webhook

from broadway.domain.job import Attempt, RetryPolicy
from broadway.domain.webhook import Delivery, DeliveryState, Push, delivery_key
from broadway.mongo.deliveries import DeliveryMove
from broadway.mongo.store import Store

SECRET = "a-secret-of-this-hook"
ALICE, BOB = "alice", "bob"


@dataclass
class Hook:
    """A hook of a course, and a git server that calls it."""

    client: Client
    course: str
    name: str = "git"

    @property
    def path(self) -> str:
        return f"/api/v2/courses/{self.course}/hooks/{self.name}"

    @property
    def staff(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {token_of(self.course)}"}

    async def ask(self, method: str, path: str = "", body: Any = None) -> httpx2.Response:
        return await self.client.http.request(method, self.path + path, json=body, headers=self.staff)

    async def configure(self, **config: Any) -> None:
        answer = await self.ask("PUT", body={"assignment": "mp1", "secrets": [SECRET]} | config)
        assert answer.status_code == 200, answer.text

    async def roster(self, *students: str) -> None:
        entries = [{"student": name, "repository": f"cs/{name}", "env": {"NETID": name}} for name in students]
        url = f"/api/v2/courses/{self.course}/assignments/mp1/roster"
        answer = await self.client.http.put(url, json={"students": entries}, headers=self.staff)
        assert answer.status_code == 200, answer.text

    async def send(
        self, body: dict[str, Any] | bytes, *, delivery: str | None = None, event: str = "push", **headers: str
    ) -> httpx2.Response:
        """Send a signed delivery as GitHub does."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = {"X-GitHub-Event": event, "X-GitHub-Delivery": delivery or token_hex(16)}
        return await self.client.http.post(
            self.path, content=raw, headers={"X-Hub-Signature-256": signature(raw, SECRET), **own, **headers}
        )

    async def runs(self) -> list[dict[str, Any]]:
        """Return all runs of the course."""
        answer = await self.client.http.get(f"/api/v2/courses/{self.course}/runs?limit=500", headers=self.staff)
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def deliveries(self, query: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.ask("GET", f"/deliveries{query}")).json()["items"]
        return items


@pytest.fixture(scope="module", autouse=True)
def looks_often() -> Iterator[None]:
    """Let the service look for undecided deliveries more often than each 5 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("broadway.ingest.commands.undecided.SWEEP_INTERVAL", 0.3)
        yield


@pytest.fixture
async def hook(client: Client, course: str) -> Hook:
    """A hook with two students; their pushes to main are submissions."""
    await client.register(course, "mp1", students=[stage("exit", "0")])
    hook = Hook(client, course)
    await hook.configure()
    await hook.roster(ALICE, BOB)
    return hook


async def test_a_push_starts_a_run_of_the_repositorys_student(hook: Hook, store: Store) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    sent = push(BOB)
    answer = await hook.send(sent, delivery="first")
    assert answer.status_code == 202
    accepted = answer.json()
    assert (accepted["state"], accepted["student"], accepted["version"]) == ("accepted", BOB, sent["after"])

    run = await hook.client.describe(hook.course, accepted["run"])
    assert [job["id"] for job in run["jobs"]] == [accepted["job"]]
    assert (run["trigger"]["hook"], run["trigger"]["delivery"], run["trigger"]["student"]) == (
        "git",
        accepted["id"],
        BOB,
    )
    stages = (await store.jobs.stages([accepted["job"]]))[accepted["job"]]
    env = stages[0]["env"]
    assert (
        env.items()
        >= {
            "NETID": BOB,
            "BROADWAY_STUDENT": BOB,
            "BROADWAY_COMMIT": sent["after"],
            "BROADWAY_REF": MAIN,
            "BROADWAY_REPOSITORY": f"https://git.example/cs/{BOB}",
        }.items()
    )
    assert before <= datetime.fromisoformat(env["BROADWAY_SUBMITTED_AT"]) <= datetime.now(UTC)


async def test_a_ping_is_answered_and_not_stored(hook: Hook) -> None:
    answer = await hook.send({"zen": "Keep it logically awesome."}, event="ping")

    assert (answer.status_code, answer.json()) == (200, {"state": "pong"})
    assert await hook.deliveries() == []


@pytest.mark.parametrize(
    ("body", "event", "reason"),
    [
        (push(ALICE, deleted=True, after="0" * 40), "push", "refs/heads/main was deleted"),
        (push(ALICE, ref="refs/heads/try"), "push", "refs/heads/try is none of the branches and tags of this hook"),
        (push(ALICE, ref="refs/tags/v1"), "push", "refs/tags/v1 is none of the branches and tags of this hook"),
        ({"action": "opened"}, "issues", "issues is no push"),
    ],
)
async def test_a_delivery_without_a_submission_is_stored_as_ignored(
    hook: Hook, body: dict[str, Any], event: str, reason: str
) -> None:
    answer = await hook.send(body, event=event)

    assert (answer.status_code, answer.json()["state"], answer.json()["reason"]) == (200, "ignored", reason)
    assert await hook.runs() == []
    assert [each["state"] for each in await hook.deliveries()] == ["ignored"]


async def test_a_hook_can_accept_tags_only(hook: Hook) -> None:
    await hook.configure(branches=[], tags=["submit-*"])
    commit, tag = token_hex(20), token_hex(20)

    assert (await hook.send(push(ALICE))).json()["state"] == "ignored"
    accepted = (await hook.send(push(ALICE, ref="refs/tags/submit-1", commit=tag, head_commit={"id": commit}))).json()
    assert (accepted["state"], accepted["version"]) == ("accepted", commit), "of the tag's commit, not of the tag"


@pytest.mark.parametrize("by", ["the git server", "staff"])
async def test_an_ignored_push_is_accepted_after_its_branch_is_configured(hook: Hook, by: str) -> None:
    body = push(ALICE, ref="refs/heads/submit")
    ignored = (await hook.send(body, delivery="early")).json()
    assert ignored["state"] == "ignored"
    redelivered = await hook.ask("POST", f"/deliveries/{ignored['id']}/redeliver")
    assert (redelivered.status_code, redelivered.json()["state"]) == (200, "ignored")
    await hook.configure(branches=["submit"])

    if by == "staff":
        answer = await hook.ask("POST", f"/deliveries/{ignored['id']}/redeliver")
    else:
        answer = await hook.send(body, delivery="early")

    assert (answer.status_code, answer.json()["state"], answer.json()["reason"]) == (202, "accepted", "")
    assert answer.json()["received_at"] == ignored["received_at"]
    (run,) = await hook.runs()
    assert run["trigger"]["version"] == body["after"]


async def counted(hook: Hook) -> dict[str, float]:
    """Return the metric's count of the course's deliveries by state."""
    text = (await hook.client.metrics()).text
    return Scrape.of(text).by("broadway_webhook_deliveries_total", "state", course=hook.course)


async def test_each_state_of_a_delivery_is_counted_once(hook: Hook) -> None:
    body = push(ALICE)
    await asyncio.gather(*(hook.send(body, delivery="again") for _ in range(6)))
    await hook.send(push(ALICE, ref="refs/heads/try"))
    await hook.send({"action": "opened"}, event="issues")
    await hook.send(body)
    await hook.send(push("carol"), delivery="early")
    await hook.send(push("carol"), delivery="early")

    async def is_right() -> bool:
        return await counted(hook) == {"received": 5, "accepted": 1, "ignored": 2, "duplicate": 1, "unmatched": 2}

    await until(is_right)


async def test_one_of_several_changes_to_a_delivery_is_applied(hook: Hook, store: Store) -> None:
    delivery = await undecided(hook, store, 3600)
    other = DeliveryMove(delivery, {"state": DeliveryState.REFUSED, "reason": "another"})
    moves = [DeliveryMove(delivery, {"state": DeliveryState.REFUSED, "reason": "one"})] * 3

    assert sum(await store.deliveries.move_all([*moves, other])) == 1


@pytest.mark.parametrize("times", [2, 3])
async def test_a_repeated_delivery_is_one_run(hook: Hook, times: int) -> None:
    body = push(ALICE)
    answers = await asyncio.gather(*(hook.send(body, delivery="again") for _ in range(times)))

    assert sorted(answer.status_code for answer in answers) in ([200] * (times - 1) + [202], [202] * times)
    assert len({(answer.json()["id"], answer.json()["job"]) for answer in answers if answer.json()["run"]}) == 1
    assert len(await hook.runs()) == 1
    (delivery,) = await hook.deliveries()
    assert (delivery["state"], delivery["times"]) == ("accepted", times)
    assert (await hook.send(body, delivery="again")).status_code == 200


async def test_a_commit_that_was_submitted_before_is_a_duplicate(hook: Hook) -> None:
    body = push(ALICE)
    first = (await hook.send(body)).json()
    answer = await hook.send(body)

    assert (answer.status_code, answer.json()["state"]) == (200, "duplicate")
    assert (answer.json()["run"], answer.json()["job"]) == (first["run"], first["job"])
    assert len(await hook.runs()) == 1
    assert (await hook.send(push(BOB, body["after"]))).status_code == 202, "another student may have the same commit"


async def test_unsigned_and_wrongly_signed_deliveries_are_not_stored(hook: Hook) -> None:
    raw = json.dumps(push(ALICE)).encode()
    wrong = [
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": signature(raw, "a secret of somebody else")},
        {"X-Hub-Signature-256": signature(raw + b" ", SECRET)},
        {"X-Hub-Signature-256": signature(raw, SECRET).removeprefix("sha256=")},
        {"X-Hub-Signature-256": "", "X-Hub-Signature": "sha1=" + hmac.new(SECRET.encode(), raw, "sha1").hexdigest()},
        {"X-Hub-Signature-256": "", "Authorization": f"Bearer {token_of(hook.course)}"},
    ]
    for headers in wrong:
        answer = await hook.send(raw, **headers)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        assert "signature" in answer.json()["detail"]
    assert await hook.deliveries() == []
    assert await hook.runs() == []


@pytest.mark.parametrize(("minutes", "says"), [(-6, "too old"), (6, "too new")])
async def test_a_delivery_with_a_distant_timestamp_is_refused(hook: Hook, minutes: int, says: str) -> None:
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    raw = json.dumps(push(ALICE)).encode()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET.encode()).sign("msg_1", at, raw.decode()),
    }
    answer = await hook.client.http.post(hook.path, content=raw, headers=headers)

    assert answer.status_code == 401
    assert says in answer.json()["detail"]
    assert await hook.deliveries() == []


async def test_both_secrets_are_valid_during_a_rotation(hook: Hook) -> None:
    old, new = "the-secret-until-now", "the-secret-from-now-on"
    await hook.configure(secrets=[old, new])

    for secret in (old, new):
        raw = json.dumps(push(ALICE)).encode()
        assert (await hook.send(raw, **{"X-Hub-Signature-256": signature(raw, secret)})).status_code == 202
    await hook.configure(secrets=[new])
    raw = json.dumps(push(ALICE)).encode()
    assert (await hook.send(raw, **{"X-Hub-Signature-256": signature(raw, old)})).status_code == 401


async def test_a_hook_is_not_found_through_another_course(hook: Hook, other_course: str) -> None:
    path = hook.path.replace(hook.course, other_course)
    raw = json.dumps(push(ALICE)).encode()
    answer = await hook.client.http.post(path, content=raw, headers={"X-Hub-Signature-256": signature(raw, SECRET)})

    assert answer.status_code == 401
    wrong = {"X-Hub-Signature-256": signature(raw, "x" * 16)}
    for unknown in (path, hook.path.replace(hook.course, "nowhere"), f"{hook.path}-"):
        for headers in ({}, wrong, {"X-Hub-Signature-256": "sha1=x"}, {"webhook-signature": "v1,x"}):
            known = await hook.client.http.post(hook.path, content=raw, headers=headers)
            other = await hook.client.http.post(unknown, content=raw, headers=headers)
            assert (known.status_code, known.content) == (other.status_code, other.content), unknown
    staff = {"Authorization": f"Bearer {token_of(other_course)}"}
    for suffix in ("", "/deliveries"):
        assert (await hook.client.http.get(hook.path + suffix, headers=staff)).status_code == 401
        assert (await hook.client.http.get(path + suffix, headers=staff)).status_code == 404


NO_PUSHES: list[tuple[bytes, str]] = [
    (b"", "could not decode JSON"),
    (b"[]", "the body"),
    (b'{"ref": 1}', "ref"),
    (json.dumps(push(ALICE, after="main")).encode(), "after"),
    (json.dumps(push(ALICE, repository={"id": "1", "full_name": "a"})).encode(), "repository.id"),
    (json.dumps(push(ALICE, ref="refs/heads/\ud83d")).encode(), "ref"),
    (json.dumps({**push(ALICE), "repository": {"id": 2**63, "full_name": "a"}}).encode(), "repository.id"),
]


async def test_a_signed_body_that_is_not_a_push_is_refused(hook: Hook) -> None:
    for body, says in NO_PUSHES:
        answer = await hook.send(body)
        assert answer.status_code == 400, body
        assert says in answer.json()["detail"]
    assert await hook.deliveries() == []


async def test_a_form_is_refused_with_the_expected_content_type(hook: Hook) -> None:
    answer = await hook.send(b"payload=%7B%7D", **{"Content-Type": "application/x-www-form-urlencoded"})

    assert (answer.status_code, "expected application/json" in answer.json()["detail"]) == (400, True)


async def test_a_delivery_over_the_size_limit_is_refused(hook: Hook) -> None:
    answer = await hook.send(b"x" * (33 * 1024 * 1024))

    assert answer.status_code == 413
    assert await hook.deliveries() == []


async def test_a_truncated_delivery_is_not_stored(hook: Hook) -> None:
    raw = json.dumps(push(ALICE)).encode()
    url = hook.client.http.base_url
    head = f"POST {hook.path} HTTP/1.1\r\nHost: broadway\r\nX-Hub-Signature-256: {signature(raw, SECRET)}\r\n"
    head += f"X-GitHub-Delivery: cut\r\nContent-Length: {len(raw)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(head.encode() + raw[:-10])
    writer.write_eof()
    await reader.read()
    writer.close()

    assert (await hook.send(raw[:-10])).status_code == 400
    assert await hook.deliveries() == []


async def test_a_delivery_from_an_unknown_repository_waits_for_a_corrected_roster(hook: Hook) -> None:
    body = push("carol")
    answer = await hook.send(body, delivery="early")
    assert (answer.status_code, answer.json()["detail"]) == (422, "repository cs/carol is not in the roster of mp1")
    (before,) = await hook.deliveries()
    assert before["state"] == "unmatched"
    await hook.roster(ALICE, BOB, "carol")

    again = await hook.ask("POST", f"/deliveries/{before['id']}/redeliver")

    assert (again.status_code, again.json()["state"], again.json()["student"]) == (202, "accepted", "carol")
    (run,) = await hook.runs()
    assert run["trigger"]["received_at"] == before["received_at"], "submitted when it came first"
    repeated = await hook.ask("POST", f"/deliveries/{before['id']}/redeliver")
    assert (repeated.status_code, repeated.json()["run"]) == (200, run["id"])
    assert len(await hook.runs()) == 1


async def test_a_quota_holds_for_concurrent_deliveries(hook: Hook) -> None:
    await hook.configure(quota={"submissions": 2, "seconds": 3600})
    answers = await asyncio.gather(*(hook.send(push(ALICE), delivery=f"d{n}") for n in range(6)))

    assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429, 429]
    limited = next(answer for answer in answers if answer.status_code == 429)
    assert 3500 < int(limited.headers["retry-after"]) <= 3601
    assert limited.json()["detail"] == "2 submissions in 3600 s are allowed"
    assert (await hook.send(push(BOB))).status_code == 202, "each student has a quota"
    assert len(await hook.runs()) == 3
    waiting = await hook.deliveries("?state=limited")
    assert len(waiting) == 4
    await hook.configure()
    again = await hook.ask("POST", f"/deliveries/{waiting[-1]['id']}/redeliver")
    assert (again.status_code, again.json()["received_at"]) == (202, waiting[-1]["received_at"])


@pytest.mark.parametrize("by", ["the git server", "staff"])
async def test_a_limited_delivery_is_accepted_once_the_quota_has_room(hook: Hook, by: str) -> None:
    await hook.configure(quota={"submissions": 1, "seconds": 3600})
    body = push(ALICE)
    first = await hook.send(push(ALICE))
    limited = await hook.send(body, delivery="late")
    assert [first.status_code, limited.status_code] == [202, 429]
    (waiting,) = await hook.deliveries("?state=limited")
    await hook.configure(quota={"submissions": 2, "seconds": 3600})

    if by == "staff":
        again = await hook.ask("POST", f"/deliveries/{waiting['id']}/redeliver")
    else:
        again = await hook.send(body, delivery="late")

    assert again.status_code == 202, again.text
    (run, _) = await hook.runs()
    assert run["trigger"]["received_at"] == waiting["received_at"], "submitted when it came first"
    assert (await hook.send(push(ALICE))).status_code == 429, "and counted when it was accepted"


async def test_a_repeated_submission_does_not_count_against_a_quota(hook: Hook) -> None:
    await hook.configure(quota={"submissions": 2, "seconds": 3600})
    body = push(ALICE)
    for _ in range(4):
        assert (await hook.send(body)).status_code in (200, 202)

    assert (await hook.send(push(ALICE))).status_code == 202
    assert (await hook.send(push(ALICE))).status_code == 429


async def outcomes(hook: Hook, run_id: str) -> list[str | None]:
    return [job["outcome"] for job in (await hook.client.describe(hook.course, run_id))["jobs"]]


async def test_only_the_latest_submission_waits(hook: Hook, store: Store) -> None:
    await hook.configure(only_latest=True)
    first = (await hook.send(push(ALICE))).json()
    running = (await hook.send(push(BOB))).json()
    now = datetime.now(UTC)
    attempt = Attempt("e1", "g1", now)
    start: Callable[[Any], Any] = lambda job: dispatched(job, now).start(  # noqa: E731
        attempt, lease=timedelta(seconds=60), policy=RetryPolicy(), now=now
    )
    await store.jobs.move({running["job"]: start})
    second = (await hook.send(push(ALICE))).json()
    later = (await hook.send(push(BOB))).json()

    assert [(await outcomes(hook, each["run"])) for each in (first, second)] == [["superseded"], [None]]
    run = await hook.client.describe(hook.course, first["run"])
    assert (run["state"], run["jobs"][0]["reason"]) == ("failed", "a later submission of the student has come")
    assert [(await outcomes(hook, each["run"])) for each in (running, later)] == [[None], [None]], "what runs goes on"


@pytest.mark.parametrize("ref", [MAIN, "refs/tags/final"])
async def test_a_commit_that_a_later_push_brings_back_is_graded(hook: Hook, ref: str) -> None:
    await hook.configure(only_latest=True, branches=["main"], tags=["final"])
    good, bad = token_hex(20), token_hex(20)
    runs = [(await hook.send(push(ALICE, commit=commit, ref=ref))).json() for commit in (good, bad, good, bad, good)]

    assert [run["state"] for run in runs] == ["accepted"] * 5
    assert len({run["run"] for run in runs}) == 5
    assert [(await outcomes(hook, run["run"])) for run in runs] == [["superseded"]] * 4 + [[None]]
    again = (await hook.send(push(ALICE, commit=good, ref=ref))).json()
    assert (again["state"], again["run"]) == ("duplicate", runs[-1]["run"])


async def test_a_commit_whose_run_was_cancelled_is_graded_when_it_is_pushed_again(hook: Hook) -> None:
    await hook.configure()
    commit = token_hex(20)
    first = (await hook.send(push(ALICE, commit=commit))).json()
    assert (await hook.send(push(ALICE, commit=commit))).json()["state"] == "duplicate"
    path = f"/api/v2/courses/{hook.course}/runs/{first['run']}/cancel"
    cancelled = await hook.client.http.post(path, headers={"Authorization": f"Bearer {token_of(hook.course)}"})
    assert cancelled.status_code == 200

    second = (await hook.send(push(ALICE, commit=commit))).json()
    assert second["state"] == "accepted"
    assert [(await outcomes(hook, run["run"])) for run in (first, second)] == [["cancelled"], [None]]


async def test_an_earlier_submission_that_is_decided_later_is_superseded(hook: Hook) -> None:
    await hook.configure(only_latest=True, quota={"submissions": 1, "seconds": 3600})
    assert (await hook.send(push(ALICE))).status_code == 202
    assert (await hook.send(push(ALICE), delivery="limited")).status_code == 429
    await hook.configure(only_latest=True)
    assert (await hook.send(push(ALICE))).status_code == 202

    answer = await hook.send(push(ALICE), delivery="limited")

    assert (answer.status_code, answer.json()["state"]) == (200, "superseded")


async def undecided(hook: Hook, store: Store, seconds: float, student: str = ALICE) -> Delivery:
    """Store an undecided delivery, as left by a process that dies right after storing it."""
    now = datetime.now(UTC)
    delivery = Delivery(
        id=delivery_key(hook.course, hook.name, "lost"),
        course=hook.course,
        hook=hook.name,
        assignment="mp1",
        delivery_id="lost",
        received_at=now,
        state=DeliveryState.RECEIVED,
        push=Push(version=token_hex(20), ref=MAIN, repository=f"cs/{student}", repository_id=None),
        due_at=now + timedelta(seconds=seconds),
    )
    stored, is_new = await store.deliveries.keep(delivery)
    assert is_new
    return stored


async def test_a_delivery_whose_process_died_is_decided_by_another_process(hook: Hook, store: Store) -> None:
    delivery = await undecided(hook, store, -1)

    async def is_decided() -> bool:
        found = await store.deliveries.get(delivery.id)
        return bool(found and found.state is DeliveryState.ACCEPTED and found.due_at is None)

    await until(is_decided)
    assert len(await hook.runs()) == 1


async def test_a_delivery_whose_process_died_is_decided_on_redelivery(hook: Hook, store: Store) -> None:
    delivery = await undecided(hook, store, 3600)
    assert delivery.push

    answer = await hook.send(push(ALICE, commit=delivery.push.version), delivery="lost")

    assert (answer.json()["id"], answer.json()["state"]) == (delivery.id, "accepted")
    assert len(await hook.runs()) == 1


async def large_roster(hook: Hook) -> None:
    """Put a roster that makes Carol's job too large for the store: each of its stages contains her environment."""
    await hook.client.register(hook.course, "mp1", students=[stage("exit", "0")] * 18)
    students = [{"student": "carol", "repository": "cs/carol", "env": {f"LARGE{n}": "x" * 125_000 for n in range(8)}}]
    url = f"/api/v2/courses/{hook.course}/assignments/mp1/roster"
    answer = await hook.client.http.put(url, json={"students": students}, headers=hook.staff)
    assert answer.status_code == 200, answer.text


TOO_LARGE = "students_env.0: the stages of student_pipeline have"


async def test_a_submission_whose_job_is_too_large_is_refused(hook: Hook) -> None:
    await large_roster(hook)

    answer = await hook.send(push("carol"))

    assert (answer.status_code, answer.json()["detail"].startswith(TOO_LARGE)) == (422, True)
    assert [each["state"] for each in await hook.deliveries()] == ["refused"]
    assert await hook.runs() == []


async def test_the_sweep_refuses_a_submission_whose_job_is_too_large(hook: Hook, store: Store) -> None:
    await large_roster(hook)
    delivery = await undecided(hook, store, -1, "carol")

    async def is_refused() -> bool:
        found = await store.deliveries.get(delivery.id)
        return bool(found and found.state is DeliveryState.REFUSED and found.reason.startswith(TOO_LARGE))

    await until(is_refused)
    assert await hook.client.is_ready()


async def test_an_undecidable_delivery_does_not_block_other_deliveries(
    hook: Hook, other_course: str, store: Store, database: AsyncDatabase[dict[str, Any]]
) -> None:
    broken = Hook(hook.client, other_course)
    await broken.client.register(other_course, "mp1", students=[stage("exit", "0")])
    await broken.configure()
    unreadable = {"_id": f"{other_course}/mp1", "students": [{"student": ""}]}  # as another program may have stored it
    await database["roster"].insert_one(unreadable)
    stuck = await undecided(broken, store, -1000)
    behind = await undecided(hook, store, -1)
    assert stuck.due_at

    async def is_decided() -> bool:
        found = await store.deliveries.get(behind.id)
        return bool(found and found.state is DeliveryState.ACCEPTED)

    await until(is_decided)
    put_off = await store.deliveries.get(stuck.id)
    assert put_off
    assert put_off.due_at
    assert (put_off.state, put_off.due_at > stuck.due_at) == (DeliveryState.RECEIVED, True)
    answer = await broken.send(push(ALICE))
    assert (answer.status_code, answer.json()["state"]) == (202, "received"), "it is stored, so it is not refused"
    await broken.roster(ALICE)
    assert (await broken.ask("POST", f"/deliveries/{answer.json()['id']}/redeliver")).json()["state"] == "accepted"


@pytest.mark.parametrize("size", [200_000, 20_000_000])
async def test_an_env_that_is_too_large_for_a_program_is_refused(hook: Hook, size: int) -> None:
    await hook.configure(format="json")
    answer = await hook.send({"student": ALICE, "idempotency_key": "k1", "env": {"X": "x" * size}})

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("env: should have at most 131072 bytes as JSON, not ")
    assert await hook.deliveries() == []


async def test_a_submission_to_an_unregistered_assignment_waits_for_its_registration(
    client: Client, course: str
) -> None:
    hook = Hook(client, course)
    await hook.configure()
    await hook.roster(ALICE)
    answer = await hook.send(push(ALICE), delivery="early")
    assert (answer.status_code, answer.json()["detail"]) == (422, "assignment configuration not found")

    await client.register(course, "mp1", students=[stage("exit", "0")])

    assert (await hook.send(push(ALICE), delivery="early")).status_code == 202


async def test_a_front_end_without_git_can_submit(hook: Hook, store: Store) -> None:
    await hook.configure(format="json", env=["PART"])
    artifact = {"artifact_url": "https://files.example/1", "sha256": "0" * 64}
    body = {"student": ALICE, "idempotency_key": "k1", "env": {"PART": 2}, "assignment": "mp1", **artifact}
    first = await hook.send(body, **{"X-GitHub-Delivery": ""})
    assert first.status_code == 202
    assert (await hook.send(body, **{"X-GitHub-Delivery": ""})).json()["run"] == first.json()["run"]
    env = (await store.jobs.stages([first.json()["job"]]))[first.json()["job"]][0]["env"]
    assert env.items() >= {"NETID": ALICE, "PART": 2, "BROADWAY_ARTIFACT_SHA256": "0" * 64}.items()

    for wrong, says in (
        ({**body, "assignment": "mp2"}, "assignment: this hook is for mp1"),
        ({**body, "sha256": None}, "sha256: an artifact_url needs the hash"),
        ({**body, "artifact_url": "file:///etc/passwd"}, "artifact_url"),
        ({key: value for key, value in body.items() if key != "idempotency_key"}, "idempotency_key"),
        ({**body, "extra": 1}, "extra"),
    ):
        answer = await hook.send(wrong)
        assert (answer.status_code, says in answer.json()["detail"]) == (400, True), answer.text
    assert (await hook.send({**body, "student": "dave"})).status_code == 422


UNREAD: list[dict[str, Any]] = [
    {"x": {"a.b": 1, "$team": [{"$in": None}]}},
    {"commits": [{"message": "cut \ud83d", "\udcff": 1}]},
    {"sender": {"id": 2**63, "node": 10**400}},
    {"x": {"": {"\0": "\0"}}},
]


@pytest.mark.parametrize("more", UNREAD, ids=["keys", "surrogate", "number", "nul"])
async def test_parts_of_a_push_that_no_hook_reads_are_not_checked(hook: Hook, more: dict[str, Any]) -> None:
    body = push(ALICE) | more
    body["repository"] |= {"custom_properties": {"$team": "red"}}

    answer = await hook.send(body, delivery="odd")

    assert (answer.status_code, answer.json()["state"]) == (202, "accepted"), answer.text
    (delivery,) = await hook.deliveries()
    kept = (await hook.ask("GET", f"/deliveries/{delivery['id']}")).json()["body"]
    assert json.loads(kept) == json.loads(json.dumps(body)), "staff can read all of it"
    assert (await hook.send(body, delivery="odd")).json()["run"] == answer.json()["run"]


async def test_bytes_that_are_not_text_in_an_unread_part_of_a_push_are_kept(hook: Hook) -> None:
    body = json.dumps(push(ALICE) | {"commits": [{"author": "Ren?"}]}).encode().replace(b"Ren?", b"Ren\xe9")
    assert (await hook.send(body)).json()["state"] == "accepted"


RESERVED = ["GRADING_RUN_ID", "GRADING_JOB_ID", "BROADWAY_STUDENT", "BROADWAY_COMMIT", "BROADWAY_NEW"]
PROTECTED = [
    "PATH",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "BASH_ENV",
    "PYTHONPATH",
    "GIT_SSH_COMMAND",
    "https_proxy",
    "HOME",
]


@pytest.mark.parametrize("is_older", [False, True])
async def test_no_delivery_sets_variables_of_broadway_or_of_programs(
    hook: Hook, database: AsyncDatabase[dict[str, Any]], is_older: bool
) -> None:
    await hook.configure(format="json")
    if is_older:
        await database["hook"].update_one({"_id": f"{hook.course}/git"}, {"$unset": {"env": 1}})
    names = [*RESERVED, *PROTECTED, "A=B", "ü", "A" * 65]

    for name in names:
        answer = await form(hook, student=ALICE, idempotency_key=name, env={name: "x"})
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"].startswith("env: "), name

    assert await hook.runs() == []
    assert [each["state"] for each in await hook.deliveries()] == ["refused"] * len(names)


@pytest.mark.parametrize("name", [*RESERVED, *PROTECTED, "A=B", "ü", "A" * 65])
async def test_no_hook_allows_variables_of_broadway_or_of_programs(
    client: Client, course_of_module: str, name: str
) -> None:
    hook = Hook(client, course_of_module)
    refused = await hook.ask("PUT", body={"assignment": "mp1", "secrets": [SECRET], "env": [name]})
    assert (refused.status_code, refused.json()["detail"].split(":")[0]) == (400, "env")


async def test_a_delivery_sets_only_variables_that_its_hook_allows(hook: Hook, store: Store) -> None:
    await hook.configure(format="json", env=["PART", "NETID"])
    assert (await hook.ask("GET")).json()["env"] == ["PART", "NETID"]
    refused = await form(hook, student=ALICE, idempotency_key="k1", env={"PART": 1, "OTHER": 1})
    assert (refused.status_code, refused.json()["detail"]) == (
        422,
        "env: OTHER: this hook lets deliveries set PART, NETID (its key `env`)",
    )

    await hook.configure(format="json", env=["PART", "NETID", "OTHER"])
    (delivery,) = await hook.deliveries()
    accepted = (await hook.ask("POST", f"/deliveries/{delivery['id']}/redeliver")).json()
    answer = await form(hook, student=ALICE, idempotency_key="k2", env={"PART": 2, "NETID": "forged"})

    assert (await store.jobs.stages([accepted["job"]]))[accepted["job"]][0]["env"]["OTHER"] == 1
    job = answer.json()["job"]
    env = (await store.jobs.stages([job]))[job][0]["env"]
    assert (env["PART"], env["NETID"]) == (2, ALICE), "the roster takes precedence"


async def test_a_hook_from_before_the_list_takes_variables_that_no_other_source_sets(
    hook: Hook, store: Store, database: AsyncDatabase[dict[str, Any]]
) -> None:
    of_stage = stage("exit", "0", env={"MODE": "exam"})
    await hook.client.register(hook.course, "mp1", students=[of_stage], env={"TERM_ID": "fall"})
    await hook.configure(format="json")
    await database["hook"].update_one({"_id": f"{hook.course}/git"}, {"$unset": {"env": 1}})
    assert (await hook.ask("GET")).json()["env"] is None

    job = (await form(hook, student=ALICE, idempotency_key="k1", env={"PART": 2})).json()["job"]
    assert (await store.jobs.stages([job]))[job][0]["env"]["PART"] == 2
    for name in ("NETID", "TERM_ID", "MODE"):
        answer = await form(hook, student=ALICE, idempotency_key=name, env={name: "x"})
        assert (answer.status_code, f"env: {name}: the assignment or the roster" in answer.text) == (422, True)


async def test_an_undecided_delivery_of_an_earlier_version_keeps_its_variables(
    hook: Hook, store: Store, database: AsyncDatabase[dict[str, Any]]
) -> None:
    delivery = await undecided(hook, store, 3600)
    earlier = {"push.env": {"PART": 2, "BROADWAY_REF": MAIN}}
    await database["hook_delivery"].update_one({"_id": delivery.id}, {"$set": earlier, "$unset": {"push.delivered": 1}})

    found = await store.deliveries.get(delivery.id)

    assert found
    assert found.push
    assert (found.push.env, found.push.delivered) == ({"BROADWAY_REF": MAIN}, {"PART": 2})


async def form(hook: Hook, **submission: Any) -> httpx2.Response:
    """Send a submission as a front-end without delivery ids does."""
    return await hook.send(submission, **{"X-GitHub-Delivery": ""})


async def test_the_same_key_of_two_students_is_two_submissions(hook: Hook) -> None:
    await hook.configure(format="json")

    answers = [await form(hook, student=name, idempotency_key="upload-1") for name in (ALICE, BOB, ALICE)]

    assert [(each.status_code, each.json()["student"]) for each in answers] == [(202, ALICE), (202, BOB), (200, ALICE)]
    assert len(await hook.runs()) == 2
    await hook.roster("a", "a/b")
    for name, key in (("a", "b/c"), ("a/b", "c")):
        assert (await form(hook, student=name, idempotency_key=key)).status_code == 202


async def test_a_group_submits_like_a_student(hook: Hook) -> None:
    await hook.configure(format="json")
    await hook.roster("team-1")

    answer = await form(hook, group="team-1", idempotency_key="k1")

    assert (answer.status_code, answer.json()["student"]) == (202, "team-1")
    run = await hook.client.describe(hook.course, answer.json()["run"])
    assert run["jobs"][0]["env"]["BROADWAY_STUDENT"] == "team-1"
    for submitter in ({}, {"student": ALICE, "group": "team-1"}):
        refused = await form(hook, idempotency_key="k2", **submitter)
        assert (refused.status_code, "either student or group" in refused.json()["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"secrets": []}, "secrets"),
        ({"secrets": ["short"]}, "secrets.0"),
        ({"secrets": ["x" * 20] * 3}, "secrets"),
        ({"secrets": None}, "secrets"),
        ({"assignment": "a b"}, "assignment"),
        ({"format": "svn"}, "format"),
        ({"quota": {"submissions": 0, "seconds": 1}}, "quota.submissions"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_an_invalid_hook_is_not_stored(client: Client, course: str, config: dict[str, Any], says: str) -> None:
    hook = Hook(client, course)
    answer = await hook.ask("PUT", body={"assignment": "mp1", "secrets": [SECRET]} | config)

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(says)
    assert "x" * 20 not in answer.text
    assert (await hook.ask("GET")).status_code == 404


async def test_a_hook_stored_without_a_secret_accepts_nothing(
    hook: Hook, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await database["hook"].update_one({"_id": f"{hook.course}/git"}, {"$set": {"secrets": []}})

    assert (await hook.send(push(ALICE))).status_code == 401


async def test_no_answer_contains_a_secret(hook: Hook) -> None:
    sent = await hook.send(push(ALICE))
    identity = sent.json()["id"]
    paths = ["", "/deliveries", f"/deliveries/{identity}"]
    answers: list[Awaitable[httpx2.Response]] = [hook.ask("GET", path) for path in paths]
    for answer in [sent, *await asyncio.gather(*answers)]:
        assert answer.status_code in (200, 202)
        assert SECRET not in answer.text


async def test_a_hook_can_be_removed_and_its_deliveries_stay(hook: Hook, store: Store) -> None:
    accepted = (await hook.send(push(ALICE))).json()
    assert (await hook.ask("DELETE")).status_code == 204

    assert (await hook.send(push(ALICE))).status_code == 401
    assert (await hook.ask("DELETE")).status_code == 404
    assert await store.deliveries.get(accepted["id"])


@pytest.mark.parametrize("is_burst", [False, True])
async def test_deliveries_are_read_page_by_page(
    hook: Hook, database: AsyncDatabase[dict[str, Any]], *, is_burst: bool
) -> None:
    sent = [(await hook.send(push(ALICE))).json()["id"] for _ in range(5)]
    if is_burst:  # all within a millisecond
        same = {"$set": {"received_at": datetime.now(UTC)}}
        await database["hook_delivery"].update_many({"_id": {"$in": sent}}, same)
        sent.sort()
    found: list[str] = []
    after: str | None = None
    for _ in range(3):
        query = {"limit": "2"} | ({"after": after} if after else {})
        answer = await hook.client.http.get(f"{hook.path}/deliveries", params=query, headers=hook.staff)
        page = answer.json()
        found += [each["id"] for each in page["items"]]
        after = page["next"]

    assert after is None
    assert found == sent[::-1]
    assert (await hook.ask("GET", "/deliveries?limit=0")).status_code == 400
    assert (await hook.ask("GET", "/deliveries?after=yesterday")).json()["detail"].startswith("after")


@pytest.mark.parametrize(
    ("students", "says"),
    [
        ([{"student": "a"}, {"student": "a"}], "students.1.student: a is listed twice"),
        ([{"student": "a", "repository": "X/y"}, {"student": "b", "repository": "x/Y"}], "students.1.repository"),
        ([{"student": ""}], "students.0.student"),
        ([{"student": "a", "repositry": "x/y"}], "students.0.repositry: no such key; did you mean repository?"),
        ([{"student": "a", "repository": "https://x/y"}], "students.0.repository: expected owner/name"),
        ([{"student": "a"}, {"student": "b"}], "no push to the hook git would match"),
    ],
)
async def test_an_invalid_roster_is_refused(hook: Hook, students: list[Any], says: str) -> None:
    url = f"/api/v2/courses/{hook.course}/assignments/mp1/roster"
    answer = await hook.client.http.put(url, json={"students": students}, headers=hook.staff)

    assert (answer.status_code, says in answer.json()["detail"]) == (400, True)
    assert len((await hook.client.http.get(url, headers=hook.staff)).json()["students"]) == 2, "the old one is there"


async def test_a_hook_whose_pushes_no_student_could_match_is_refused(hook: Hook, client: Client) -> None:
    await client.register(hook.course, "mp2", students=[stage("exit", "0")])
    roster = {"students": [{"student": "a"}]}
    url = f"/api/v2/courses/{hook.course}/assignments/mp2/roster"
    assert (await client.http.put(url, json=roster, headers=hook.staff)).status_code == 200, "no hook needs more"

    body = {"assignment": "mp2", "secrets": [SECRET]}
    other = f"/api/v2/courses/{hook.course}/hooks/other"
    refused = await client.http.put(other, json=body, headers=hook.staff)
    of_students = await client.http.put(other, json={**body, "format": "json"}, headers=hook.staff)

    assert (refused.status_code, of_students.status_code) == (400, 200)
    assert "columns of these names), so no push to the hook other would match" in refused.json()["detail"]
