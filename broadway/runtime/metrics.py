"""All metrics of all services, for Prometheus. Services observe at their edges; the domain does not know of metrics.

Labels have few values, which do not grow with students, jobs, runs or graders: courses, pools, queues, exchanges, and
words of closed vocabularies. An observation takes a few microseconds, so loops of a read must not observe.
"""

from collections import Counter as Tally
from collections.abc import Iterable
from enum import StrEnum

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase

from broadway import __version__
from broadway.domain.job import Attempt, FaultPhase, JobState, Outcome
from broadway.domain.moves import Moved

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would add a series with the process's start time for each series

_BRIEF = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # seconds
_LONG = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)  # seconds


class Retried(StrEnum):
    """The reason why a job waits for another attempt."""

    LOST = "lost"  # its grader is gone
    ERROR = "error"  # its grader reported an infrastructure error
    RETURNED = "returned"  # its grader gave it back, which does not count as an attempt


class Fault(StrEnum):
    """The kind of an infrastructure error."""

    ENGINE = "engine"  # the grader or its engine; another try may help
    ASSIGNMENT = "assignment"  # the assignment cannot be run: no image of that name, a bad entrypoint
    LOST = "lost"  # the grader is gone, and no attempt is left
    DEAD_LETTER = "dead-letter"  # a message that no service could handle


class Refusal(StrEnum):
    """The reason why a reported outcome is ignored."""

    STALE = "stale"  # of a generation that a rerun or a cancellation has ended
    DUPLICATE = "duplicate"  # the outcome of another execution was stored first
    RELEASED = "released"  # of an execution that its grader has given back
    REPEATED = "repeated"  # the outcome of this execution is already stored
    UNKNOWN = "unknown"  # the job does not exist, or does not run on this grader


class Repair(StrEnum):
    """The kinds of repairs, by the reconciler and by other checks."""

    ORDER = "order"  # an order that was stored and not carried out
    OUTBOX = "outbox"  # a phase whose jobs were not all published
    OUTCOME = "outcome"  # an outcome whose process died before it updated the job
    LEASE = "lease"  # a running job whose grader is gone
    HANDOVER = "handover"  # a dispatched job that is in no queue
    BACKLOG = "backlog"  # a queued job that is in no queue
    CONSUMER = "consumer"  # a consumer that receives no message although messages wait
    QUEUE = "queue"  # a queue that takes no message
    DELIVERY = "delivery"  # a webhook's delivery whose request ended before it was decided
    SUBMISSION = "submission"  # a submission whose grading had not begun when its request ended
    GRADER = "grader"  # a grader that stopped sending heartbeats without leaving


class Handled(StrEnum):
    """The result of handling a message."""

    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned"  # requeued: the process ends, the handler gave the message back, or the handler failed
    RETRIED = "retried"  # the handler asked for another try; the message stays with this process
    DEAD = "dead"
    FORGED = "forged"  # its sender may not send it


class HandedIn(StrEnum):
    """The results of submissions of files."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"  # the request was a repetition of an earlier one
    REFUSED = "refused"  # for the files, or since the course has no room for more


class Limit(StrEnum):
    """The limit that refused a connection or a request."""

    HEAD = "head"  # the head of a request, or what its body has besides its content, is too long
    CONNECTIONS = "connections"
    MEMORY = "memory"  # of request bodies and long heads
    SPOOL = "spool"  # of deliveries whose signature is not checked yet
    FAILURES = "failures"  # wrong tokens
    ADDRESS_RATE = "address-rate"
    TOKEN_RATE = "token-rate"  # noqa: S105 - no password
    READS = "reads"  # that are being answered, of one course or of all together
    SLOW = "slow"  # a client that does not read its answers


class Ignored(StrEnum):
    """The part of a heartbeat that does not count."""

    FOREIGN_POOL = "foreign-pool"  # all of it: its grader has joined another pool
    SLOTS = "slots"  # the slots beyond those that its grader may have


BUILD = Info("broadway_build", "The version that runs.")
BUILD.info({"version": __version__})

JOBS_SETTLED = Counter(
    "broadway_jobs_settled_total", "Jobs whose outcome this process has stored.", ["course", "outcome"]
)
JOBS_RETRIED = Counter("broadway_jobs_retried_total", "Jobs that wait for another attempt.", ["course", "reason"])
JOB_QUEUE_SECONDS = Histogram(
    "broadway_job_queue_seconds",
    "Time from a job's queueing to its first start.",
    ["course", "job_class"],
    buckets=_LONG,
)
JOB_RUN_SECONDS = Histogram(
    "broadway_job_run_seconds", "Time that the last attempt of a settled job held its slot.", ["course"], buckets=_LONG
)
INFRASTRUCTURE_ERRORS = Counter(
    "broadway_infrastructure_errors_total",
    "Attempts that failed through the infrastructure, by failed step and kind of fault.",
    ["phase", "reason"],
)
OUTCOMES_REFUSED = Counter(
    "broadway_outcomes_refused_total", "Reported outcomes that were refused, so that nothing changed.", ["reason"]
)
UNPROVEN = "unproven"  # the queue of dead letters whose sender may have made up their queue
DEAD_LETTERS = Counter("broadway_dead_letters_total", "Dead letters filed, by the queue that gave them up.", ["queue"])
DEAD_LETTERS_KEPT = Gauge(
    "broadway_dead_letters_kept", "Dead letters that no operator has handled yet. Of the active dispatcher."
)

JOBS = Gauge(
    "broadway_jobs",
    "Jobs that are not settled, as the active dispatcher knows them: queued, dispatched (on their way) and running.",
    ["course", "state"],
)
OLDEST_JOB_SECONDS = Gauge(
    "broadway_oldest_job_seconds",
    "Time for which the longest waiting job has waited to be handed over. Of the active dispatcher.",
    ["course", "pool", "job_class"],
)
SLOTS = Gauge("broadway_slots", "Slots of live graders that take jobs. Of the active dispatcher.", ["pool"])
SLOTS_USED = Gauge("broadway_slots_used", "Slots in which a job runs. Of the active dispatcher.", ["pool"])
GRADERS = Gauge("broadway_graders", "Live graders. Of the active dispatcher.", ["pool"])
GRADERS_WITHOUT_SLOTS = Gauge(
    "broadway_graders_without_slots",
    "Live graders that take no jobs: paused, draining, or broken. Of the active dispatcher.",
    ["pool"],
)
QUEUE_READY = Gauge(
    "broadway_queue_ready_messages", "Messages that waited in a queue at the dispatcher's last check.", ["queue"]
)
LEADING = Gauge("broadway_leading", "1 if this process is the active dispatcher.")
REPAIRS = Counter("broadway_repairs_total", "Repairs of lost or stuck work, by kind.", ["kind"])

LOOP_ERRORS = Counter(
    "broadway_loop_errors_total",
    "Unexpected errors about one course, grader, job or queue, which a loop has skipped.",
    ["loop"],
)
IGNORED = Counter("broadway_heartbeats_ignored_total", "Heartbeats that do not count, or not in full.", ["reason"])

PUBLISH_SECONDS = Histogram(
    "broadway_publish_seconds", "Time from a publish to the broker's confirm.", ["exchange"], buckets=_BRIEF
)
PUBLISH_FAILURES = Counter(
    "broadway_publish_failures_total",
    "Publishes that the broker refused, or whose result is unknown; each repetition counts.",
    ["exchange", "reason"],
)
MESSAGES = Counter("broadway_messages_handled_total", "Messages consumed.", ["event", "result"])

HTTP_REQUESTS = Counter("broadway_http_requests_total", "Requests answered.", ["route", "method", "status"])
HTTP_SECONDS = Histogram(
    "broadway_http_request_seconds",
    "Time from a request's head to its answer's; long polls wait on purpose.",
    ["route", "method"],
    buckets=_BRIEF,
)

HTTP_LIMITED = Counter(
    "broadway_http_limited_total", "Connections and requests that a limit on clients has refused, by limit.", ["limit"]
)
HTTP_CONNECTIONS = Gauge("broadway_http_connections", "Open connections of HTTP clients.")
HTTP_READS = Gauge("broadway_http_reads", "Reads that are being answered or wait for their turn, by size.", ["size"])
HTTP_BODY_BYTES = Gauge(
    "broadway_http_body_bytes", "Request bodies and long heads that are held, in memory and in the spool.", ["place"]
)

SUBMISSIONS = Counter("broadway_submissions_total", "Submissions of files, by their result.", ["course", "result"])
SUBMISSION_BYTES = Counter("broadway_submission_bytes_total", "Bytes of the files of accepted submissions.", ["course"])

WEBHOOK_DELIVERIES = Counter(
    "broadway_webhook_deliveries_total", "Webhook deliveries, by their decision.", ["course", "state"]
)
WEBHOOK_UNDECIDED = Gauge(
    "broadway_webhook_deliveries_undecided", "Webhook deliveries that wait for their decision in this process."
)

CALLBACK_ATTEMPTS = Counter(
    "broadway_callback_attempts_total", "Attempts to deliver callbacks, by their result.", ["course", "result"]
)

AUDIT_LOST = Counter(
    "broadway_audit_records_lost_total", "Records of the audit log that could not be stored; the log has them."
)

RETENTION_PASSES = Counter("broadway_retention_passes_total", "Passes of retention that have ended, without dry runs.")
RETENTION_REMOVED = Counter("broadway_retention_removed_total", "Things that retention has removed.", ["kind"])

PART_UP = Gauge("broadway_part_up", "1 if a part that this process needs answers.", ["part"])
PART_CHECK_SECONDS = Gauge(
    "broadway_part_check_seconds", "Time that the last check of a part took, up to its timeout.", ["part"]
)
DISK_FREE = Gauge("broadway_disk_free_bytes", "Free space on the disk of a directory of this process.", ["place"])
DISK_SIZE = Gauge("broadway_disk_size_bytes", "Size of the disk of a directory of this process.", ["place"])

GRADER_SLOTS = Gauge("broadway_grader_slots", "Jobs that this grader runs at a time.")
GRADER_SLOTS_USED = Gauge("broadway_grader_slots_used", "Jobs that this grader runs now.")
GRADER_PAUSED = Gauge("broadway_grader_paused", "1 while this grader takes no jobs; its log has the reason.")
GRADER_JOBS = Counter("broadway_grader_jobs_total", "Jobs that this grader has run to an outcome.", ["outcome"])
IMAGES_SECONDS = Histogram(
    "broadway_job_images_seconds", "Time until all images of a job are on the host, pulling included.", buckets=_LONG
)
STAGE_CREATE_SECONDS = Histogram("broadway_stage_create_seconds", "Time to create a stage's container.", buckets=_BRIEF)
STAGE_START_SECONDS = Histogram(
    "broadway_stage_start_seconds",
    "Time to start a stage's container, including the wait for its turn.",
    buckets=_BRIEF,
)
STAGE_WALL_SECONDS = Histogram("broadway_stage_wall_seconds", "Time that a stage's container ran.", buckets=_LONG)
STAGE_CPU_SECONDS = Histogram("broadway_stage_cpu_seconds", "CPU time of a stage.", buckets=_LONG)

# Series of rare events exist from the start: Prometheus sees no increase in a series that begins with its first event.
for _kind in Repair:
    REPAIRS.labels(_kind)
for _refusal in Refusal:
    OUTCOMES_REFUSED.labels(_refusal)
for _limit in Limit:
    HTTP_LIMITED.labels(_limit)
for _phase in FaultPhase:
    for _fault in Fault:
        INFRASTRUCTURE_ERRORS.labels(_phase, _fault)
DEAD_LETTERS.labels(UNPROVEN)

INSTRUMENTS = tuple(value for value in list(globals().values()) if isinstance(value, MetricWrapperBase))


def exposition(accept: str = "") -> tuple[bytes, str]:
    """Return all metrics in the format that an ``Accept`` header asks for, and their content type."""
    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY), content_type


def note_moves(moves: Iterable[Moved]) -> None:
    """Count starts, retries and outcomes of jobs in stored moves; every move must be a change."""
    settled: Tally[tuple[str, str]] = Tally()
    for moved in moves:
        _count_start(moved)
        if attempt := _failed_attempt(moved):
            _count_retry(moved.after.course, attempt)
        if moved.after.is_terminal:
            settled[moved.after.course, str(moved.after.outcome)] += 1
            _count_end(moved)
    for (course, outcome), number in settled.items():
        JOBS_SETTLED.labels(course, outcome).inc(number)


def _count_start(moved: Moved) -> None:
    job = moved.after
    if job.started_at and not moved.before.started_at:
        seconds = (job.started_at - job.queued_at).total_seconds()
        JOB_QUEUE_SECONDS.labels(job.course, job.job_class).observe(max(0.0, seconds))


def _count_retry(course: str, attempt: Attempt) -> None:
    if attempt.released:
        reason = Retried.RETURNED
    elif attempt.outcome is None:
        reason = Retried.LOST
        INFRASTRUCTURE_ERRORS.labels(FaultPhase.WAIT, Fault.LOST).inc()
    else:
        reason = Retried.ERROR
    JOBS_RETRIED.labels(course, reason).inc()


def _count_end(moved: Moved) -> None:
    job = moved.after
    if any(attempt.ended_at for attempt in job.attempts):
        JOB_RUN_SECONDS.labels(job.course).observe(job.seconds)
    # Errors that a grader has reported, and that close an attempt, are counted when the report is recorded.
    if job.outcome is Outcome.INFRASTRUCTURE_ERROR and job.attempts == moved.before.attempts:
        kind = Fault.DEAD_LETTER if job.fault_phase is FaultPhase.REPORT else Fault.LOST
        INFRASTRUCTURE_ERRORS.labels(job.fault_phase, kind).inc()


def _failed_attempt(moved: Moved) -> Attempt | None:
    """The attempt that a move ended without a final outcome, so that the job waits or runs again; or None."""
    before, after, known = moved.before, moved.after, len(moved.before.attempts)
    has_new = len(after.attempts) > known
    if after.generation != before.generation:
        return None
    if after.state is JobState.QUEUED and after.attempts and (has_new or before.state is not JobState.QUEUED):
        return after.attempts[-1]
    if before.state is JobState.RUNNING and known and (has_new or after.state is JobState.DISPATCHED):
        return after.attempts[known - 1]
    return None
