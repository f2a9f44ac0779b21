"""Recognizable secrets are planted, and then searched for in everything that Broadway writes, answers or sends."""

import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote

import docker
import httpx2
import pytest
from faults.proxy import way
from faults.servers import Rabbit, Server, mongo
from harness import PATIENCE, Client, Command, broadway, free_port, until
from processes import QUICK, QUICK_DISPATCHER, Processes, processes
from pushes import push, signature
from pymongo import AsyncMongoClient

from broadway.local.store import Store
from broadway.messages.topology import CONTROL, DEAD_LETTERS, EVENTS, JOBS, LOGS, UNROUTED
from broadway.settings.loading import EX_USAGE

COURSE = "cs241"
TAP = "tap"  # a queue that gets a copy of every message
SCRIPT = "env; tr '\\0' '\\n' </proc/1/environ; cat /proc/1/cmdline; sleep 2"
SIGNS = {  # texts that show that the searched output is complete
    "answers": ("broadway_", '"outcome":"succeeded"', "GRADING_JOB_ID", "401", "503"),
    "commands": ("broker", "store", "engine", "a carriage return (CR)"),
    "containers": ("ReadonlyRootfs", "GRADING_JOB_ID"),
    "documents": ("GRADING_JOB_ID", '"in": "course"', '"in": "hook"', '"in": "dead_letter"'),
    "health files": ('"engine": false', '"store": false', '"broker": false'),
    "logs": ("ready to grade", "finished", "not connected", "no header can carry"),
    "messages": ("grader.heartbeat.v1", "job.dispatched.v1", "job.finished.v1", "GRADING_JOB_ID"),
}
LOGGED = ("ingest", "dispatcher", "results", "host1")


@dataclass(frozen=True)
class Place:
    """A deployment whose secrets are all known, and all its output."""

    running: Processes
    rabbit: Rabbit
    store: Server[Store]
    http: httpx2.AsyncClient
    engine: contextlib.AsyncExitStack  # closing it cuts the connection to the engine
    secrets: Mapping[str, str]
    outputs: dict[str, list[str]] = field(default_factory=dict)  # by kind of output

    def note(self, where: str, content: Any) -> None:
        self.outputs.setdefault(where, []).append(
            content if isinstance(content, str) else json.dumps(content, default=repr)
        )

    @property
    def client(self) -> Client:
        return Client(self.http)

    async def ask(self, method: str, path: str, body: Any = None, *, token: str = "course token") -> httpx2.Response:
        """Send a request of the staff, and keep the answer."""
        headers = {"Authorization": f"Bearer {self.secrets.get(token, token)}"}
        answer = await self.http.request(method, f"/api/{path}", json=body, headers=headers)
        self.note("answers", f"{method} {path} {answer.status_code} {answer.headers} {answer.text}")
        return answer

    async def is_reported_unavailable(self, part: str, *programs: str) -> bool:
        """Return True if the programs' health files report a part as unavailable. The files' texts are kept."""
        files = {name: (self.running.directory / f"{name}.health").read_text() for name in programs}
        for text in files.values():
            self.note("health files", text)
        return all(f'"{part}": false' in text for text in files.values())


def occurrences(secrets: Mapping[str, str], outputs: Mapping[str, list[str]]) -> list[str]:
    """Return which secrets are where, in all forms in which programs write them."""
    return [
        f"{name} in {where}: {text[max(0, text.index(form) - 200) : text.index(form)]!r}"
        for name, secret in secrets.items()
        for form in {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}
        for where, texts in outputs.items()
        for text in texts
        if form in text
    ]


async def with_password(store: Server[Store], user: str, password: str) -> str:
    """Return the address of a store with a new user's login in it."""
    async with AsyncMongoClient[dict[str, Any]](store.current.dsn) as mongodb:
        await mongodb["admin"].command("createUser", user, pwd=password, roles=["root"])
    scheme, _, rest = store.current.dsn.partition("://")
    server = rest.rpartition("@")[2]
    return f"{scheme}://{user}:{password}@{server}{'' if 'authSource' in server else '&authSource=admin'}"


@pytest.fixture
async def place(docker_host: str, tmp_path: Path) -> AsyncIterator[Place]:
    port, courses, socket = free_port(), tmp_path / "courses.json", tmp_path / "engine.sock"
    names = (
        *("cluster token", "operator token", "course token", "query token"),
        *("hook secret", "metrics token", "store's password"),
    )
    secrets = {name: f"canary-{token_hex(12)}" for name in names}
    courses.write_text(
        json.dumps({COURSE: {"tokens": [secrets["course token"]], "query_tokens": [secrets["query token"]]}})
    )
    async with (
        Rabbit.running(tmp_path / "rabbit") as rabbit,
        mongo(tmp_path / "mongo") as store,
        contextlib.AsyncExitStack() as engine,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http,
    ):
        await engine.enter_async_context(way(Path(docker_host.removeprefix("unix://")), socket))
        secrets["broker's password"] = rabbit.server.current.password
        environment = {
            "BROADWAY_AMQP_URL": rabbit.url,
            "BROADWAY_MONGODB_DSN": await with_password(store, "canary", secrets["store's password"]),
            "BROADWAY_MONGODB_TIMEOUT": "2",
            "BROADWAY_LOG_DIR": "",
            "BROADWAY_LOG_LEVEL": "DEBUG",
            "BROADWAY_TOKEN": secrets["cluster token"],
            "BROADWAY_OPERATOR_TOKEN": secrets["operator token"],
            "BROADWAY_METRICS_TOKEN": secrets["metrics token"],
            "BROADWAY_COURSE_CONFIG": str(courses),
            "BROADWAY_BIND_PORT": str(port),
            "DOCKER_HOST": f"unix://{socket}",
        }
        async with processes(tmp_path / "host", environment) as running:
            place = Place(running, rabbit, store, http, engine, secrets)
            await _start(place, f"http://127.0.0.1:{port}")
            yield place


async def _start(place: Place, address: str) -> None:
    directory = place.running.directory
    for name, flags in {"ingest": QUICK, "dispatcher": QUICK_DISPATCHER, "results": QUICK}.items():
        await place.running.service(name, *flags, "--health-file", str(directory / f"{name}.health"))
    await until(place.client.is_ready)
    own = ("--slots", "2", "--work-dir", str(directory / "work"), "--health-file", str(directory / "host1.health"))
    command = ("-m", "broadway.grader", place.secrets["cluster token"], "host1", "--api-host", address, *own)
    await place.running.start("host1", sys.executable, *command, without="BROADWAY_AMQP_URL")
    await until(lambda: "ready to grade" in place.running.log("host1"))
    place.secrets["grader's own secret"] = (directory / "work" / "host1.secret").read_text()


async def _tap(place: Place) -> None:
    """Copy every message from now on to a queue."""
    vhost = place.rabbit.name
    async with place.rabbit.management() as management:
        (await management.put(f"/api/queues/{vhost}/{TAP}", json={"durable": True})).raise_for_status()
        keys = {exchange.name: {"#"} for exchange in (EVENTS, LOGS, CONTROL, DEAD_LETTERS, UNROUTED)}
        routes = (await management.get(f"/api/exchanges/{vhost}/{JOBS.name}/bindings/source")).raise_for_status().json()
        keys[JOBS.name] = {route["routing_key"] for route in routes}
        assert keys[JOBS.name]
        for exchange, key in [(exchange, key) for exchange, each in keys.items() for key in each]:
            bind = await management.post(f"/api/bindings/{vhost}/e/{exchange}/q/{TAP}", json={"routing_key": key})
            bind.raise_for_status()
        garbage = {
            "properties": {"user_id": place.rabbit.server.current.username},
            "routing_key": f"job.finished.{COURSE}",
            "payload": "?",
            "payload_encoding": "string",
        }
        (await management.post(f"/api/exchanges/{vhost}/{EVENTS.name}/publish", json=garbage)).raise_for_status()


async def _is_dead_letter(place: Place) -> bool:
    """Return True if the message that no service understands has become a dead letter."""
    return bool((await place.ask("GET", "v2/dead-letters", token="operator token")).json()["items"])


async def _drain(place: Place) -> None:
    """Keep every message that was copied."""
    async with place.rabbit.management() as management:
        ask = {"count": 10_000, "ackmode": "ack_requeue_false", "encoding": "auto"}
        answer = await management.post(f"/api/queues/{place.rabbit.name}/{TAP}/get", json=ask)
        for message in answer.raise_for_status().json():
            place.note("messages", message)


async def _submissions(place: Place, image: str, api: docker.APIClient) -> None:
    """Submit by the API and by a hook, correctly and wrongly; keep the engine's data on the running containers."""
    stage = {"image": image, "entrypoint": ["sh", "-c", SCRIPT]}
    pipeline = [{**stage, "networking": False}, {**stage, "untrusted": True, "write": ["out"]}]
    await place.ask("POST", f"v1/grading_config/{COURSE}/mp1", {"student_pipeline": pipeline})
    hook = {"assignment": "mp1", "secrets": [place.secrets["hook secret"]]}
    assert (await place.ask("PUT", f"v2/courses/{COURSE}/hooks/git", hook)).is_success
    await place.ask("PUT", f"v2/courses/{COURSE}/hooks/git", {**hook, "secrets": hook["secrets"] * 3})
    roster = {"students": [{"student": "alice", "repository": "cs/alice", "env": {}}]}
    await place.ask("PUT", f"v2/courses/{COURSE}/assignments/mp1/roster", roster)
    runs = [(await _push(place, secret)).json().get("run") for secret in (place.secrets["hook secret"], "wrong")]
    assert (bool(runs[0]), runs[1]) == (True, None)
    seen: set[bool] = set()

    def are_both_seen() -> bool:
        for each in api.containers(filters={"label": "io.broadway.grader=host1"}):
            with contextlib.suppress(docker.errors.NotFound):
                inspected = api.inspect_container(each["Id"])
                seen.add(inspected["HostConfig"]["ReadonlyRootfs"])
                place.note("containers", inspected)
        return seen == {False, True}

    await until(are_both_seen)
    await _read(place, runs[0])


async def _push(place: Place, secret: str) -> httpx2.Response:
    raw = json.dumps(push("alice")).encode()
    headers = {
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": token_hex(8),
        "X-Hub-Signature-256": signature(raw, secret),
    }
    answer = await place.http.post(f"/api/v2/courses/{COURSE}/hooks/git", content=raw, headers=headers)
    place.note("answers", answer.text)
    return answer


async def _read(place: Place, run: str) -> None:
    """Send every kind of read of a run."""
    course = f"v2/courses/{COURSE}"

    async def is_over() -> bool:
        return (await place.ask("GET", f"{course}/runs/{run}")).json()["state"] in ("finished", "failed")

    await until(is_over)
    (job,) = (await place.ask("GET", f"{course}/runs/{run}/jobs")).json()["items"]
    assert job["outcome"] == "succeeded"
    paths = ["", "/assignments", "/assignments/mp1", "/assignments/mp1/roster", "/runs", "/hooks", "/hooks/git"]
    paths += ["/hooks/git/deliveries", *(f"/jobs/{job['id']}{part}" for part in ("", "/attempts", "/log"))]
    v1 = [f"grading_config/{COURSE}/mp1", f"grading_run_status/{COURSE}/{run}", f"grading_run_env/{COURSE}/{run}"]
    v1 += [f"grading_job_log/{COURSE}/{job['id']}", f"worker/{COURSE}/all", f"queue/{COURSE}/length"]
    for path in [*(course + path for path in paths), *(f"v1/{path}" for path in v1), "v2/courses"]:
        assert (await place.ask("GET", path)).is_success, path
    for path in ("v2/graders", "v2/graders/host1", "v2/dead-letters"):
        assert (await place.ask("GET", path, token="operator token")).is_success, path
    for token in ("query token", "cluster token", "operator token", "hook secret", "wrong"):
        await place.ask("GET", f"{course}/jobs/{job['id']}", token=token)
    scraper = {"Authorization": f"Bearer {place.secrets['metrics token']}"}
    assert (await place.http.get("/metrics", headers=scraper)).is_success
    for path in ("/metrics", "/readyz", "/livez"):
        place.note("answers", (await place.http.get(path, headers=scraper)).text)


async def _without(place: Place, part: str, *programs: str) -> None:
    """Keep the output while a part is unavailable: of running programs, of one that starts, and of the doctor."""

    async def is_reported() -> bool:
        return await place.is_reported_unavailable(part, *programs)

    await until(is_reported)
    await place.ask("POST", f"v1/grading_run/{COURSE}/mp1", {"students_env": [{"STUDENT_ID": "s"}]})
    await place.ask("GET", f"v2/courses/{COURSE}/runs")
    place.note("answers", (await place.http.get("/readyz")).text)
    for program in ("api", "grader"):
        more = ("token", "host2", "--work-dir", str(place.running.directory / "work")) if program == "grader" else ()
        examine = partial(broadway, "doctor", "--timeout", "2", program, *more, **place.running.environment)

        async def is_named(examine: Callable[[], Awaitable[Command]] = examine) -> Command | None:
            found = await examine()  # the store learns of a paused grader with its next heartbeat
            return found if found.exit_code == 1 else None

        checked = await until(is_named)
        place.note("commands", checked.stdout + checked.stderr)


async def _with_line_ends(place: Place) -> None:
    """Keep the output of programs whose secrets end as those of a file with Windows line ends do."""
    cluster, course = (f"{place.secrets[name]}\r" for name in ("cluster token", "course token"))
    url = str(place.http.base_url)
    commands = (
        ("run", "show", "0" * 24, "--server", url, "--course", COURSE, "--token", course),
        ("grader", "list", "--server", url, "--token", cluster),
        ("doctor", "grader", cluster, "host3", "--api-host", url),
        ("doctor", "ingest", "--mongodb-dsn", f"{place.running.environment['BROADWAY_MONGODB_DSN']}\r"),
        ("doctor", "--management-url", f"http://u:{place.secrets['query token']}\r@127.0.0.1:9"),
        ("doctor", "ingest", "--amqp-url", f"{place.rabbit.url}\r"),
        ("topology", "check", "--management-url", f"http://u:{place.secrets['query token']}\r@127.0.0.1:9"),
    )
    for command in commands:
        refused = await broadway(*command)
        assert refused.exit_code, command
        place.note("commands", refused.stdout + refused.stderr)
    name = "host3"
    await place.running.start(name, sys.executable, "-m", "broadway.grader", cluster, name, "--api-host", url)
    assert await place.running.running[name].wait() == EX_USAGE
    place.note("logs", place.running.log(name))


async def _documents(place: Place) -> None:
    """Keep the store's documents, except the secrets of hooks, which are needed to check signatures."""
    async with AsyncMongoClient[dict[str, Any]](place.store.current.dsn) as mongodb:
        for database in set(await mongodb.list_database_names()) - {"admin", "config", "local"}:
            for name in await mongodb[database].list_collection_names():
                async for document in mongodb[database][name].find():
                    if name == "hook":
                        assert document.pop("secrets") == [place.secrets["hook secret"]]
                    place.note("documents", {"in": name, **document})


@pytest.mark.timeout(240)
async def test_no_output_contains_a_secret(place: Place, hostile_image: str, api: docker.APIClient) -> None:
    await _tap(place)
    await until(partial(_is_dead_letter, place))
    await _submissions(place, hostile_image, api)
    await place.engine.aclose()
    await _without(place, "engine", "host1")
    async with place.store.away():
        await _without(place, "store", "ingest", "dispatcher", "results")
    await _with_line_ends(place)
    await _drain(place)
    await _documents(place)
    async with place.rabbit.server.away():
        await _without(place, "broker", "ingest", "dispatcher", "results", "host1")
    for name in LOGGED:
        place.note("logs", place.running.log(name))

    everything = {where: "".join(texts) for where, texts in place.outputs.items()}
    assert everything.keys() == SIGNS.keys()
    for where, signs in SIGNS.items():
        assert [sign for sign in signs if sign not in everything[where]] == [], f"{where} are not what they should be"
    assert occurrences(place.secrets, place.outputs) == []


def test_secrets_are_found_in_every_form() -> None:
    secrets = {"password": "a/b?c"}

    for text in ("amqp://u:a/b?c@h", "amqp://u:a%2Fb%3Fc@h", "Basic YS9iP2M="):
        assert len(occurrences(secrets, {"log": ["nothing", text]})) == 1
    assert occurrences(secrets, {"log": ["a/b"]}) == []
