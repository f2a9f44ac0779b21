"""Composing the API from its parts: the use cases with the store and the broker that they need."""

import os
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import structlog

from broadway.connections import recorder_of
from broadway.ingest.commands.admission import Admission
from broadway.ingest.commands.artifacts import ArtifactUploads
from broadway.ingest.commands.assignment_settings import SettingsChanges
from broadway.ingest.commands.audit import Auditor
from broadway.ingest.commands.backlogs import Backlogs
from broadway.ingest.commands.decide import Decider
from broadway.ingest.commands.grade_submissions import GradingStarts, HooksAndUploads
from broadway.ingest.commands.graders import GraderJoins, GraderOrders
from broadway.ingest.commands.hooks import HookSettings
from broadway.ingest.commands.join_tokens import JoinTokens
from broadway.ingest.commands.limits import Limits
from broadway.ingest.commands.pools import Pools
from broadway.ingest.commands.receive import Receiver
from broadway.ingest.commands.register import Registration
from broadway.ingest.commands.remove_submissions import SubmissionRemoval
from broadway.ingest.commands.rerun import Reruns
from broadway.ingest.commands.start import RunStarts
from broadway.ingest.commands.submit import Submissions
from broadway.ingest.commands.tokens import TokenSettings
from broadway.ingest.commands.undecided import UndecidedDeliveries
from broadway.ingest.commands.upload import Room, Uploads
from broadway.ingest.gateway.broker_accounts import BrokerAccounts
from broadway.ingest.gateway.changes import JobChanges
from broadway.ingest.gateway.gateway import Gateway
from broadway.ingest.gateway.handouts import Handouts
from broadway.ingest.gateway.results import Results
from broadway.ingest.gateway.sessions import Sessions
from broadway.ingest.http.auth import Authenticator
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.outages import StoreOutages
from broadway.ingest.http.shares import ReadShares
from broadway.ingest.live.feed import Feed
from broadway.ingest.live.logs import LiveLogs
from broadway.ingest.reads.access import AuditReads, TokenReads
from broadway.ingest.reads.artifacts import ArtifactReads
from broadway.ingest.reads.assignments import AssignmentReads
from broadway.ingest.reads.graders import GraderReads
from broadway.ingest.reads.hooks import HookReads
from broadway.ingest.reads.job_files import JobFilesReads
from broadway.ingest.reads.jobs import JobReads
from broadway.ingest.reads.progress import ProgressReads
from broadway.ingest.reads.reads import Reads
from broadway.ingest.reads.reports import ReportReads
from broadway.ingest.reads.runs import RunReads
from broadway.ingest.reads.submissions import SubmissionReads
from broadway.ingest.reads.waiting import WaitingReads
from broadway.ingest.unpacking.unpack import Unpacker
from broadway.lifecycle.announce import Announcements, Announcer, Later
from broadway.lifecycle.orders import Orders
from broadway.lifecycle.vouching import Vouching
from broadway.messages.ticket import Tickets
from broadway.mongo.batched import Batched
from broadway.mongo.store import Store
from broadway.rabbit.client import Rabbit
from broadway.runtime.health import Health
from broadway.settings.programs import IngestSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """The store and the broker, with the parts of this process that need them; ``name`` is the process's."""

    name: str
    store: Store
    shared: Batched
    rabbit: Rabbit
    health: Health
    accounts: BrokerAccounts | None
    tickets: Tickets
    deployment: str


def compose(settings: IngestSettings, opened: Opened, *, later: Later, answer_within: float) -> Deps:
    """Return the parts of the API that its handlers need."""
    store, shared, rabbit = opened.store, opened.shared, opened.rabbit
    limits, shares = Limits.of(settings), ReadShares.of(settings.http)
    announcements = Announcements(Announcer(runs=shared.runs, jobs=shared.jobs, publisher=rabbit), rabbit, later)
    orders = Orders(shared.runs, store.jobs, announcements)
    submissions = Submissions(shared.assignments, shared.runs, shared.jobs, limits, Backlogs(store.jobs))
    receiver = _receiver(opened, submissions, orders, announcements, answer_within=answer_within)
    gateway, admission = _gateway(settings, store=store, rabbit=rabbit, later=later), _admission(settings, store)
    return Deps(
        settings=settings,
        limits=limits,
        store=store,
        rabbit=rabbit,
        announcements=announcements,
        gateway=gateway,
        feed=Feed(store.jobs),
        live_logs=LiveLogs(store.jobs, store.graders, rabbit, Vouching(opened.tickets, store.graders), opened.name),
        health=opened.health,
        outages=StoreOutages(opened.health),
        shares=shares,
        authenticator=_authenticator(settings, opened, admission),
        auditor=Auditor(shared.audit, later),
        tokens=TokenSettings(store.access_tokens, store.rosters),
        reads=_reads(opened, shares),
        registration=Registration(store.assignments, limits),
        assignment_settings=SettingsChanges(store.assignments, store.assignment_settings),
        uploads=_uploads(settings, opened, limits, receiver),
        artifacts=_artifacts(settings, store),
        submission_removal=SubmissionRemoval(store.submissions, store.stored_bytes),
        hook_settings=HookSettings(store.hooks, store.rosters, limits),
        starts=RunStarts(submissions, store.runs, store.assignments, store.rosters, announcements, store.submissions),
        orders=orders,
        reruns=Reruns(orders, store.assignments, limits, store.courses),
        receiver=receiver,
        admission=admission,
        join_tokens=JoinTokens(store.access_tokens),
        pools=pools_of(store),
        joins=_joins(settings, opened, admission),
        grader_orders=GraderOrders(store.graders, announcements, opened.accounts, gateway.sessions),
    )


def _admission(settings: IngestSettings, store: Store) -> Admission:
    return Admission(store.graders, store.access_tokens, store.pools, _cluster_token(settings))


def _joins(settings: IngestSettings, opened: Opened, admission: Admission) -> GraderJoins:
    graders, rabbit = opened.store.graders, opened.rabbit
    return GraderJoins(admission, graders, rabbit, opened.accounts, settings, opened.tickets, opened.deployment)


def _authenticator(settings: IngestSettings, opened: Opened, admission: Admission) -> Authenticator:
    store = opened.store
    return Authenticator(
        store.courses,
        opened.shared.courses,
        store.access_tokens,
        store.graders,
        admission,
        operator_token=settings.operator_token.get_secret_value() if settings.operator_token else None,
    )


def _receiver(
    opened: Opened, submissions: Submissions, orders: Orders, announcements: Announcements, *, answer_within: float
) -> Receiver:
    store, shared = opened.store, opened.shared
    decider = Decider(
        courses=shared.courses,
        hooks=HooksAndUploads(store.hooks, store.assignment_settings),
        rosters=store.rosters,
        deliveries=shared.deliveries,
        quotas=store.quotas,
        runs=shared.runs,
        jobs=store.jobs,
        submissions=submissions,
        orders=orders,
        announcements=announcements,
    )
    return Receiver(
        courses=shared.courses,
        hooks=store.hooks,
        deliveries=shared.deliveries,
        undecided=UndecidedDeliveries(shared.deliveries, decider.decide),
        limits=submissions.limits,
        later=announcements.later,
        answer_within=answer_within,
    )


def _artifacts(settings: IngestSettings, store: Store) -> ArtifactUploads:
    return ArtifactUploads(store.blobs, store.artifacts, timedelta(days=settings.artifact_days))


def _uploads(settings: IngestSettings, opened: Opened, limits: Limits, receiver: Receiver) -> Uploads:
    store, unpacker = opened.store, Unpacker(settings.http.spool_dir)
    grading = GradingStarts(store.assignment_settings, store.submissions, receiver)
    room = Room(opened.shared.courses, limits, store.stored_bytes)
    return Uploads(store.assignment_settings, store.blobs, store.submissions, unpacker, room, grading)


def _reads(opened: Opened, shares: ReadShares) -> Reads:
    store, shared = opened.store, opened.shared
    jobs = JobReads(store.jobs, store.runs, store.logs)
    return Reads(
        assignments=AssignmentReads(store.assignments, store.rosters, store.hooks, store.assignment_settings),
        runs=RunReads(store.runs, store.jobs, store.assignments),
        progress=ProgressReads(shared.runs, store.progress, store.jobs, turn=shares.shared_turn),
        jobs=jobs,
        waiting=WaitingReads(jobs, store.jobs),
        reports=ReportReads(store.reports),
        hooks=HookReads(store.hooks, store.deliveries),
        graders=GraderReads(store.graders),
        tokens=TokenReads(store.access_tokens),
        audit=AuditReads(store.audit),
        submissions=SubmissionReads(store.submissions, store.blobs, store.deliveries, store.jobs),
        job_files=JobFilesReads(store.jobs, store.submissions, opened.tickets),
        artifacts=ArtifactReads(store.artifacts),
        ids=store.ids,
    )


def pools_of(store: Store) -> Pools:
    """Return the settings of pools."""
    return Pools(store.pools, store.graders, store.courses)


def _gateway(settings: IngestSettings, *, store: Store, rabbit: Rabbit, later: Later) -> Gateway:
    recorder = recorder_of(settings, store, rabbit)
    graders, jobs, policy = store.graders, store.jobs, settings.retry_policy
    changes = JobChanges(graders, jobs, store.runs, rabbit, policy, later)
    results = Results(graders, jobs, recorder, changes)
    return Gateway(
        sessions=Sessions(
            name=f"{os.uname().nodename}:{settings.bind_port}",
            graders=graders,
            jobs=jobs,
            changes=changes,
            interval=settings.heartbeat_interval,
            lease=settings.lease,
        ),
        handouts=Handouts(graders, jobs, rabbit, recorder, results, changes, policy),
        results=results,
    )


def _cluster_token(settings: IngestSettings) -> str:
    if settings.token:
        return settings.token.get_secret_value()
    token = str(uuid4())
    # The operator needs the token, and the original logs it, too.
    log.info("token not given, using %s", token)
    return token
