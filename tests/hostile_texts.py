"""A course in which every field that takes a text has a hostile one: each begins with a marker of its own."""

import io
import json
import re
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

from classes import CONFIG, Class, HandIn
from graded import NOW, World, results
from pushes import push, signature
from regrading import ready

from broadway.domain.access import SecretPrefix, new_secret
from broadway.domain.callback import CallbackEvent
from broadway.domain.callback_delivery import Answer, Delivery, Endpoint
from broadway.domain.job import Outcome
from broadway.domain.originals import Reported
from broadway.domain.regrade_terms import Select
from broadway.domain.report import Report
from broadway.domain.run import Run, RunState
from broadway.messages.http import IDENTITY_HEADER

RUNS_NOTHING = (
    "<script>hurt=1</script><svg onload=hurt=1>\"'><img src=x onerror=hurt=1><a href=javascript:hurt=1>{{7*7}}"
)
ATTACK = f"{RUNS_NOTHING}\x1b]0;t\x07\x1b[31m\u202egnp\u2066\u200f\x00\x9b1m"
LONG = "W" * 60  # a word that no narrow window has room for
OBEYED = "\x00\x07\x08\x1b\x9b\u202e\u2066\u200f"
SECRET = "a-secret-of-this-hook"
POINTS = {"points": 10}
HOUR = timedelta(hours=1)


def hostile(marker: str, most: int = 200) -> str:
    """Return an attack of at most so many characters, which begins with a marker."""
    return f"{marker}{ATTACK}{LONG}"[:most]


def name_of(student: str) -> str:
    """Return the name of a student, in which rosters take no control characters."""
    return re.sub("[\x00-\x1f\x7f-\x9f]", "", hostile(f"name-{student}"))


@dataclass
class HostileCourse:
    """The course, and the parts of its addresses by name. ``markers`` are those of the texts that staff can see."""

    world: World
    ada: str = name_of("ada")
    bob: str = name_of("bob")
    cyd: str = name_of("cyd")
    markers: set[str] = field(default_factory=set)
    parts: dict[str, list[str]] = field(default_factory=dict)

    def text(self, marker: str, most: int = 200) -> str:
        """Return a hostile text that must be seen on some page."""
        self.markers.add(marker)
        return hostile(marker, most)

    async def fill(self) -> None:
        """Put hostile texts into all fields."""
        self.markers |= {"name-ada", "name-bob", "name-cyd"}
        await self._results()
        await self._upload()
        await self._grades()
        await self._regrade()
        await self._hook()
        await self._callback()
        await self._operations()
        await self._tokens()

    async def _demand(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = await self.world.ask(path, method, json=body, **more)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def _results(self) -> None:
        world = self.world
        await world.begin(self.ada, self.bob, self.cyd)
        formats = ("text", "html", "simple", "md", "ansi")
        test = {
            "key": self.text("test-key"),
            "name": {"body": self.text("test-name")},
            "number": self.text("test-number", 30 + len("test-number")),
            "status": "failed",
            "group": [hostile("test-group")],
            "tags": [self.text("test-tag", 60)],
        }
        tests = [
            {**test, "key": f"{test['key']}{each}", "output": {"body": self.text(f"output-{each}"), "format": each}}
            for each in formats
        ]
        messages = [{"body": self.text("report-message")}]
        fields = {"source": "gradescope", "score": 1, "max": 2, "log_visibility": "visible"}
        report = Report.model_validate({**fields, "tests": tests, "messages": messages})
        log = f"{self.text('log-line')}\n{hostile('log-long')}{'x' * 1_000_000}\n"
        await world.finish(self.ada, results(Reported(report=report)), stdout=log, stderr=hostile("log-stderr"))
        reason = self.text("job-reason")
        await world.finish(self.bob, [{"success": False}], outcome=Outcome.FAILED, reason=reason)
        await world.start(self.cyd, grader=self.text("grader-of-job", 100))
        extension = {"target": "student", "name": self.ada, "add_days": 1, "reason": self.text("extension-reason")}
        await self._demand("POST", "assignments/mp1/extensions", extension)
        self.parts |= {"run_id": [world.run], "job": list(world.jobs.values()), "student": [self.ada, self.bob]}

    async def _upload(self) -> None:
        """Hand in files with the most hostile names that are accepted, which is none with control characters."""
        name = f"{self.text('file-name', 0) or 'file-name'}{RUNS_NOTHING.replace('/', '')}"[:200]
        token = self.world.tokens[self.ada]
        given = {"files": (name, hostile("file-content").encode())}
        made = await self.world.ask("assignments/mp1/submissions", "POST", token=token, files=given)
        assert made.is_success, made.text
        job = made.json()["job"]
        self.parts["job"] += [job] if job else []
        self.parts |= {"path": [name], "submission": [made.json()["id"]]}
        for refused in OBEYED:  # the client escapes controls in the names of a form, so an archive has them
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr(f"a{refused}b" if refused != "\0" else "a\x01b", b"")
            answer = await self.world.ask(
                "assignments/mp1/submissions", "POST", token=token, files={"files": ("all.zip", packed.getvalue())}
            )
            assert answer.status_code in (400, 422), f"{refused!r} {answer.text}"
            assert not set(OBEYED) & set(answer.json()["detail"])

    async def _grades(self) -> None:
        adjust = {"student": self.ada, "kind": "points", "points": "1", "reason": self.text("adjustment-reason")}
        made = await self._demand("POST", "assignments/mp1/adjustments", {"items": [adjust, adjust]})
        withdrawn = self.text("withdrawn-reason")
        path = f"assignments/mp1/adjustments/{made['items'][0]['id']}"
        answer = await self.world.ask(path, "DELETE", params={"reason": withdrawn})
        assert answer.is_success, answer.text
        self.parts["adjustment"] = [made["items"][0]["id"]]
        body = {"based_on": 0, "reason": self.text("version-reason"), "note": self.text("version-note")}
        await self._demand("POST", "assignments/mp1/grades/publish", body)

    async def _regrade(self) -> None:
        """Let a regrade be ready in which a hostile student gets other points."""
        group, names = Class(self.world.opened.store, self.world.course, "mp2"), [self.ada, self.bob]
        await group.prepare(names, POINTS)
        run, given = token_hex(12), [HandIn(name, NOW, score="7") for name in names]
        await group.hand_in(*given, run=run)
        envs = [{"BROADWAY_STUDENT": each.student, "BROADWAY_SUBMITTED_AT": NOW.isoformat()} for each in given]
        stored = Run(run, group.course, "mp2", RunState.FINISHED, NOW, CONFIG, students_env=envs)
        assert await group.store.runs.insert(stored)
        order = {"select": Select.LATEST.value, "reason": self.text("regrade-reason")}
        made = await self._demand("POST", "assignments/mp2/regrades", order)
        await ready(group, made["id"], {name: HandIn(name, NOW, score="9") for name in names})
        again = await self._demand("POST", "assignments/mp2/regrades", {"select": Select.LATEST.value})
        self.parts["regrade"] = [made["id"]]
        await self._demand("POST", f"regrades/{again['id']}/discard")

    async def _hook(self) -> None:
        entries = [
            {"student": name, "env": {"NETID": name}, "repository": f"cs/{number}"}
            for number, name in enumerate((self.ada, self.bob, self.cyd))
        ]
        await self._demand("PUT", "assignments/mp1/roster", {"students": entries})
        await self._demand("PUT", "hooks/git", {"assignment": "mp1", "format": "github", "secrets": [SECRET]})
        for payload in (
            push("eve") | {"repository": {"id": 7, "full_name": self.text("repository")}},
            push("1", ref=f"refs/heads/{self.text('branch', 80)}"),
            push("1", head_commit={"id": "a" * 40, "message": hostile("commit")}),
        ):
            raw = json.dumps(payload).encode()
            headers = {"X-Hub-Signature-256": signature(raw, SECRET), "X-GitHub-Delivery": hostile_id()}
            path = f"/api/v2/courses/{self.world.course}/hooks/git"
            answer = await self.world.client.http.post(path, content=raw, headers=headers)
            assert answer.status_code in (200, 202, 422), answer.text
        self.parts |= {"hook": ["git"]}

    async def _callback(self) -> None:
        store, course, now = self.world.opened.store.callbacks, self.world.course, datetime.now(UTC)
        endpoint = Endpoint(
            token_hex(12), course, "lms", "https://example.org", "s", now, description=hostile("description"),
            failing_since=now, disabled=self.text("disabled"),
        )  # fmt: skip
        assert await store.endpoints.add(endpoint)
        event = CallbackEvent.hook_unmatched(course, "git", token_hex(6), reason=hostile("event"), at=now)
        delivery = Delivery.of(event, endpoint)
        answer = Answer(now, 500, error=self.text("callback-error"), body=hostile("callback-body"))
        await store.deliveries.add([delivery.answered(answer, now, 0)])
        self.parts |= {"callback": ["lms"]}

    async def _operations(self) -> None:
        letter, name = self.text("letter", 100), f"g-{token_hex(4)}"
        await self.world.opened.store.dead_letters.put(
            message_id=hostile("message"),
            subject=letter,
            queue=self.text("queue", 100),
            reason=self.text("letter-reason"),
            body=self.text("letter-body").encode(),
        )
        secret = new_secret(SecretPrefix.GRADER)
        headers = {"Authorization": "Bearer cluster-token", IDENTITY_HEADER: secret}
        body = {"hostname": self.text("hostname", 60)}
        http, path = self.world.client.http, f"/api/v2/graders/{name}"
        assert (await http.post(path, json=body, headers=headers)).is_success
        operator, order = {"Authorization": "Bearer operator-token"}, {"reason": self.text("pause-reason")}
        paused = await http.post(f"{path}/pause", json=order, headers=operator)
        assert paused.is_success, paused.text
        self.parts |= {"grader": [name]}

    async def _tokens(self) -> None:
        """Act with a token whose name is hostile, as far as names may be."""
        name = f"token-name{RUNS_NOTHING}\u202e"[:100]
        self.markers.add("token-name")
        made = await self._demand("POST", "tokens", {"name": name})
        body = {"reason": "by a token"}
        await self.world.ask(f"jobs/{self.world.jobs[self.bob]}/cancel", "POST", token=made["token"], json=body)
        extension = {"target": "student", "name": self.bob, "add_days": 1}
        answer = await self.world.ask("assignments/mp1/extensions", "POST", token=made["token"], json=extension)
        assert answer.is_success, answer.text
        self.parts["named token"] = [made["token"]]


def hostile_id() -> str:
    """Return an id of a delivery, as hostile as a header may be."""
    return f"{token_hex(8)}<script>hurt=1</script>"
