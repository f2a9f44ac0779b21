"""The normal form of a recording: the same for every recording of a version, on any day and any host.

Random ids get names after the object that they identify; ids that are derived from a key, such as an Idempotency-Key,
stay as they are. Times, hosts, ports, process ids and secrets become placeholders. Everything else is exact.
"""

import base64
import hashlib
import hmac
import itertools
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from recordings.capture import TYPE
from recordings.recording import Entry, Recording, compact

from broadway.messages.batches import parts_of
from broadway.messages.envelope import decode, encode

Grouped = dict[tuple[str, ...], list[str]]
Held = Mapping[str, list[Entry]]  # documents by collection

_HEX_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{24}(?![0-9a-f])")
_SHAPES = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), r"<time \2>"),
    (re.compile(r"\d\d? [A-Z][a-z]{2} (?!2020|2099)\d{4}, \d\d:\d\d(:\d\d)? [A-Z]+"), "<time in words>"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"deleted-[0-9a-f]{16}"), "deleted-<pseudonym>"),
    (re.compile(r"sha256\$[0-9a-f]{32}\$[0-9a-f]{64}"), "<hashed token>"),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])"), "<keyed hash>"),  # a grader's proof
    (re.compile(r"(?<=:job\.requeued\.v1:)[\d.]+"), "<time>"),
    (re.compile(r"<host>:\d+"), "<host>:<number>"),
)
_CONSTANT_TIMES = ("2026-03-01T12:00:00.5Z",)

# Fields that differ in every recording: of any collection, and by collection.
_ALWAYS_DRAWN = {"writer"}
_DRAWN = {
    "grading_job": {"revision"},  # events that arrive close together are written at once
    "worker_node": {"session", "secret"},
    "access_token": {"digest"},
    "page_session": {"digest"},
    "callback_endpoint": {"secret", "previous_secret", "holder"},
    "roster": {"revision"},
    "migration": {"holder"},
    "service_secret": {"value"},
}
# Messages that more than one service may send, in any order: a run's next step, which any service may take, and orders
# to graders, which are repeated until heartbeats show that they were received. The command to publish a log is repeated
# after some seconds, and its grader may repeat lines then.
_ANNOUNCED = {TYPE.format("run.advanced"), TYPE.format("job.queued")}
_REPEATED = {TYPE.format("grader.order"), TYPE.format("log.watch"), TYPE.format("log.chunk")}
_ANY = "any service"
_BATCHES = "io.broadway.jobs."


@dataclass(frozen=True)
class Normal:
    """Messages by subject and sender, in the order in which they were sent; documents by collection and id."""

    messages: Grouped
    documents: Grouped


@dataclass
class _Names:
    """Names for a recording's random ids, and the ids that must be the same in every recording."""

    host: re.Pattern[str]
    names: dict[str, str] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    @cached_property
    def drawn(self) -> re.Pattern[str]:
        return re.compile("|".join(self.names))

    def text(self, text: str) -> str:
        """Replace random ids by their names, and times, hosts and secrets by placeholders."""
        if text in _CONSTANT_TIMES:
            return text
        text = self.host.sub("<host>", text)
        text = self.drawn.sub(lambda found: self.names[found[0]], text)
        text = _HEX_ID.sub(lambda found: found[0] if found[0] in self.kept else "<id>", text)
        for shape, placeholder in _SHAPES:
            text = shape.sub(placeholder, text)
        return text

    def value(self, value: Any) -> Any:
        """Do the same in a JSON value, keeping the order of keys, and reduce dates and durations to their types."""
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.value(each) for each in value]
            case {"$date": _}:
                return {"$date": "<time>"}
            case dict():
                return {self.text(key): _timeless(key, self.value(each)) for key, each in value.items()}
        return value


def _timeless(key: str, value: Any) -> Any:
    is_duration = isinstance(value, float) or (isinstance(value, dict) and "$numberDouble" in value)
    return "<seconds>" if key == "seconds" and is_duration else value


def normalized(recording: Recording) -> Normal:
    """Return the normal form of a recording."""
    names = _names(recording)
    groups: Grouped = defaultdict(list)
    handed_over: set[str] = set()
    for message in itertools.chain.from_iterable(map(_single, recording.messages)):
        if message["routing_key"] == "ping" or _is_start_of_grader(message) or _is_renewal(message):
            continue  # their number depends only on time
        if _is_hand_over(message) and message["properties"]["message_id"] in handed_over:
            continue  # the dispatcher repeats it if it does not know that the broker has it
        handed_over.add(message["properties"].get("message_id", ""))
        key, text = _message(message, names)
        groups[key].append(text)
    for (_, sender, *kinds), texts in groups.items():
        if sender == _ANY:
            texts[:] = sorted(set(texts) if _REPEATED.issuperset(kinds) else texts)
    ends = {_ended(each["grading_job_id"], "next_generation", each): each for each in _of(recording, "job_outcome")}
    return Normal(dict(groups), dict(_document(_with_start(entry, ends), names) for entry in recording.documents))


def _with_start(entry: Entry, ends: Mapping[tuple[str, str], Entry]) -> Entry:
    """Return an entry, that of an ended job with its start: if both are written at once, the outcome alone has it."""
    job = entry["document"]
    end = ends.get(_ended(_id(job), "generation", job)) if entry["collection"] == "grading_job" else None
    if end is None:
        return entry
    attempts = {each["execution_id"]: each for each in [*job["attempts"], *end["attempts"]]}
    start = {name: end[name] or job[name] for name in ("started_at", "execution_id", "worker_id")}
    return {**entry, "document": {**job, **start, "attempts": list(attempts.values())}}


def _ended(job_id: str, generation: str, document: Entry) -> tuple[str, str]:
    return job_id, compact([document[generation], document["finished_at"]])


def _of(recording: Recording, collection: str) -> list[Entry]:
    return [entry["document"] for entry in recording.documents if entry["collection"] == collection]


def _is_start_of_grader(message: Entry) -> bool:
    """Return whether a message is a start that a grader reports itself: it does so if the job is not short."""
    properties = message["properties"]
    return properties.get("type") == TYPE.format("job.started") and "-grader-" in properties.get("user_id", "")


def _is_hand_over(message: Entry) -> bool:
    """Return whether a message hands a job over to the graders of a pool."""
    return bool(message["properties"].get("type") == TYPE.format("job.dispatched"))


def _is_renewal(message: Entry) -> bool:
    """Return whether a message repeats the command to publish a log: the sender has lines of it already."""
    is_watch = message["properties"].get("type") == TYPE.format("log.watch")
    return is_watch and not json.loads(message["body"])["backlog"]


def _single(message: Entry) -> list[Entry]:
    """Return a message, or the single forms of the events in a batch: the number of messages depends on time."""
    if not message["properties"].get("type", "").startswith(_BATCHES):
        return [message]
    batch = decode(message["headers"], message["body"].encode())
    singles = []
    for part in parts_of(batch):
        wire = encode(part, source=message["headers"]["ce-source"])
        properties = {**message["properties"], "message_id": wire.message_id, "type": wire.type}
        headers = {**wire.headers, "ce-time": message["headers"]["ce-time"]}
        singles.append(
            {
                **message,
                "properties": properties,
                "headers": {key: headers[key] for key in sorted(headers)},
                "body": wire.body.decode(),
            }
        )
    return singles


def _message(message: Entry, names: _Names) -> tuple[tuple[str, ...], str]:
    sender, kind = message["properties"].get("app_id", ""), message["properties"].get("type", "")
    kinds: tuple[str, ...] = ()
    if kind in _ANNOUNCED | _REPEATED:
        source = message["headers"]["ce-source"]
        message = json.loads(compact(message).replace(source, _ANY).replace(sender, _ANY))
        sender, kinds = _ANY, (kind,)
    shown = names.value({**message, "body": _parsed(message["body"])})
    subject = str(shown["headers"].get("ce-subject", ""))
    return (subject, names.text(sender), *kinds), compact(shown)


def _parsed(body: Any) -> Any:
    """Parse a body, keeping the order of keys; return it unchanged if it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, TypeError):
        return body


def _document(entry: Entry, names: _Names) -> tuple[tuple[str, ...], list[str]]:
    drawn = _ALWAYS_DRAWN | _DRAWN.get(entry["collection"], set())
    if entry["document"].get("trigger"):  # the digest covers the time of the delivery
        drawn = drawn | {"request_digest"}
    if entry["collection"] == "audit" and entry["document"]["operation"].startswith("graders_"):
        drawn = drawn | {"before", "after"}  # a grader's state depends on its last heartbeat
    document = {key: "<drawn>" if key in drawn and value else value for key, value in entry["document"].items()}
    if entry["collection"] == "grade_entries":
        document["content"] = json.loads(zlib.decompress(_binary(document["content"])))
    shown = names.value(document)
    for booked in shown["content"] if entry["collection"] == "grade_entries" else ():
        if "regraded" in booked:  # stored in the order of random ids
            booked["regraded"].sort()
    fields = [f"{key}: {json.dumps(shown[key], sort_keys=True, ensure_ascii=False)}" for key in sorted(shown)]
    return (entry["database"], entry["collection"], compact(shown["_id"])), fields


def _names(recording: Recording) -> _Names:
    held: dict[str, list[Entry]] = defaultdict(list)
    for entry in recording.documents:
        held[entry["collection"]].append(entry["document"])
    names = _Names(re.compile(rf"(?<![\w.-]){re.escape(recording.about['host'])}(?![\w.-])"))
    runs = _named_runs(held)
    keyed = {_id(run) for run in held["grading_run"] if run["request_digest"]}
    names.names |= {run: f"<{name}>" for run, name in runs.items() if run not in keyed}
    large = [run["students_env"] for run in held["grading_run"] if isinstance(run["students_env"], dict)]
    names.names |= {reference["token"]: "<token>" for reference in large}
    kept = ("hook_delivery", "hook_quota", "submission", "regrade", "removal")
    names.kept |= keyed | {str(each["_id"]) for name in kept for each in held[name]}
    tickets = next(_binary(secret["value"]) for secret in held["service_secret"] if secret["_id"] == "tickets")
    ends = {outcome["_id"]: outcome["attempts"] for outcome in held["job_outcome"]}
    for job in held["grading_job"]:
        name = f"{runs[job['grading_run_id']]}, {job['type'].split()[0]} {job['index']['$numberInt']}"
        if job["grading_run_id"] in keyed:
            names.kept.add(_id(job))
        else:
            names.names[_id(job)] = f"<job of {name}>"
        cancelled = [log["execution_id"] for log in held["job_log"] if log["grading_job_id"] == _id(job)]
        names.names |= _of_job(job, name, tickets, ends, cancelled)
    # A dead letter's id is derived from its message's, which may name an execution.
    names.names |= {letter["_id"]: "<letter>" for letter in held["dead_letter"] if letter["message_id"]}
    names.names |= _of_people(held) | _of_grades(held)
    names.names |= _of_callbacks(held, names)
    return names


def _named_runs(held: Held) -> dict[str, str]:
    """Return names for runs: their number in the order of their starts, and those of regrades by the regrade's part."""
    parts = {}
    for part in held["regrade_part"]:
        run_id = hashlib.sha256(f"regrade/{part['_id']}".encode()).hexdigest()[:24]
        parts[run_id] = f"run {part['number']['$numberInt']} of regrade {part['regrade']}"
    others = sorted((run for run in held["grading_run"] if _id(run) not in parts), key=_started)
    return {_id(run): f"run {number}" for number, run in enumerate(others, 1)} | parts


def _of_people(held: Held) -> dict[str, str]:
    """Return names for the ids of audit records, tokens and sessions."""
    actions = sorted(held["audit"], key=lambda each: (json.dumps(each["at"]), each["operation"], each["object"]))
    tokens = held["access_token"]
    return {
        **{_id(record): f"<record {number}>" for number, record in enumerate(actions, 1)},
        **{each["_id"]: f"<{each['kind']} of {each['course']} {each['name']}>" for each in tokens},
        **{each["_id"]: f"<session of {each['kind']} {each['name']}>" for each in held["page_session"]},
    }


def _of_grades(held: Held) -> dict[str, str]:
    """Return names for the plans of regrades, and for the entries of grade books, by the first version with them."""
    plans = {plan: f"<plan {n}>" for regrade in held["regrade"] for n, plan in enumerate(regrade["plans"], 1)}
    versions = sorted(held["grade_book"], key=lambda each: str(each["_id"]), reverse=True)
    chunks = {chunk[0]: f"<chunk {n} of {each['_id']}>" for each in versions for n, chunk in enumerate(each["chunks"])}
    return plans | chunks


def _of_callbacks(held: Held, names: _Names) -> dict[str, str]:
    """Return names for the ids of endpoints, events and deliveries; ``names`` has those of their subjects."""
    endpoints = {each["id"]: f"<endpoint {each['name']}>" for each in held["callback_endpoint"]}
    subjects = replace(names, names=names.names | endpoints)
    events = {each["_id"]: f"{each['type']} {subjects.text(each['subject'])}" for each in held["callback_event"]}
    deliveries = {
        _id(each): f"<{events[each['event']]} for {endpoints[each['endpoint']]}>" for each in held["callback_delivery"]
    }
    return endpoints | {event: f"<event {name}>" for event, name in events.items()} | deliveries


def _of_job(
    job: Entry, name: str, tickets: bytes, ends: Mapping[str, list[Entry]], cancelled: Sequence[str]
) -> dict[str, str]:
    """Return names for a job's executions and tickets; an execution that was cancelled at once has only a log."""
    generations = range(1, int(job["generation"]["$numberInt"]) + 1)
    unreported = [attempt for each in generations for attempt in ends.get(f"{_id(job)}:{each}", [])]
    reported = [attempt["execution_id"] for attempt in [*job["attempts"], *unreported]]
    executions = dict.fromkeys([*reported, *cancelled])
    return {
        **{each: f"<execution {number} of {name}>" for number, each in enumerate(executions, 1)},
        **{_ticket(tickets, _id(job), each): f"<ticket of {name}, generation {each}>" for each in generations},
    }


def _ticket(key: bytes, job_id: str, generation: int) -> str:
    """A job's ticket, by the rule of 98c4bea: graders keep tickets while services are updated."""
    return hmac.digest(key, f"{job_id}:{generation}".encode(), "sha256")[:16].hex()


def _id(document: Entry) -> str:
    return str(document["_id"]["$oid"])


def _started(run: Entry) -> int:
    return int(run["started_at"]["$date"]["$numberLong"])


def _binary(value: Entry) -> bytes:
    return base64.b64decode(value["$binary"]["base64"])
