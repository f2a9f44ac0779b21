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
from broadway.ingest.commands.callbacks import Callbacks
from broadway.ingest.commands.courses import CourseSettings
from broadway.ingest.commands.decide import Decider
from broadway.ingest.commands.forget_graders import ForgottenGraders
from broadway.ingest.commands.grade_submissions import GradingStarts, HooksAndUploads
from broadway.ingest.commands.graders import GraderJoins, GraderOrders
from broadway.ingest.commands.hooks import HookSettings
from broadway.ingest.commands.join_tokens import JoinTokens
from broadway.ingest.commands.limits import Limits
from broadway.ingest.commands.links import PersonalLinks
from broadway.ingest.commands.operations import Operations
from broadway.ingest.commands.pools import Pools
from broadway.ingest.commands.receive import Receiver
from broadway.ingest.commands.register import Registration
from broadway.ingest.commands.remove_submissions import SubmissionRemoval
from broadway.ingest.commands.rerun import Reruns
from broadway.ingest.commands.retry_letters import LetterRetries
from broadway.ingest.commands.sign_in import SignIn
from broadway.ingest.commands.start import RunStarts
from broadway.ingest.commands.stores import HandInRules
from broadway.ingest.commands.submit import NewRuns
from broadway.ingest.commands.tokens import TokenSettings
from broadway.ingest.commands.undecided import UndecidedDeliveries
from broadway.ingest.commands.upload import Room, Uploads
from broadway.ingest.gateway.broker_accounts import BrokerAccounts
from broadway.ingest.gateway.changes import JobChanges
from broadway.ingest.gateway.gateway import Gateway
from broadway.ingest.gateway.handouts import Handouts
from broadway.ingest.gateway.results import Results
from broadway.ingest.gateway.sessions import Sessions
from broadway.ingest.grade_composition import grade_commands, grade_reads, regrade_reads, standing_reads
from broadway.ingest.http.auth import Authenticator
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.shares import ReadShares
from broadway.ingest.live.feed import Feed
from broadway.ingest.live.logs import LiveLogs
from broadway.ingest.openid_composition import openid_of
from broadway.ingest.reads.access import AuditReads, TokenReads
from broadway.ingest.reads.artifacts import ArtifactReads
from broadway.ingest.reads.assignments import AssignmentReads
from broadway.ingest.reads.callbacks import CallbackReads
from broadway.ingest.reads.class_jobs import ClassJobs
from broadway.ingest.reads.extensions import ExtensionReads
from broadway.ingest.reads.grade_sheets import GradeSheets
from broadway.ingest.reads.graders import GraderReads
from broadway.ingest.reads.grades import GradeReads
from broadway.ingest.reads.hooks import HookReads
from broadway.ingest.reads.job_files import JobFilesReads
from broadway.ingest.reads.jobs import JobReads
from broadway.ingest.reads.members import MemberReads
from broadway.ingest.reads.operations import OperationReads
from broadway.ingest.reads.pools import PoolLoads
from broadway.ingest.reads.progress import ProgressReads
from broadway.ingest.reads.reads import Reads
from broadway.ingest.reads.recent_works import RecentWorks
from broadway.ingest.reads.reports import ReportReads
from broadway.ingest.reads.run_tables import RunTables
from broadway.ingest.reads.runs import RunReads
from broadway.ingest.reads.standings import StandingReads
from broadway.ingest.reads.student_export import StudentExports
from broadway.ingest.reads.submissions import SubmissionReads
from broadway.ingest.reads.waiting import WaitingReads
from broadway.ingest.retention_composition import deletion_of, retention_of
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
    store, base = opened.store, _basis(settings, opened, later=later, answer_within=answer_within)
    return Deps(
        settings=settings,
        limits=base.limits,
        store=store,
        rabbit=opened.rabbit,
        announcements=base.announcements,
        gateway=base.gateway,
        feed=Feed(store.jobs),
        live_logs=_live_logs(opened),
        health=opened.health,
        shares=base.shares,
        authenticator=_authenticator(settings, opened, base.admission),
        auditor=Auditor(opened.shared.audit, later),
        tokens=TokenSettings(store.access_tokens, store.rosters),
        sign_in=base.sign_in,
        openid=openid_of(settings, store, opened.shared.courses, base.sign_in),
        reads=_reads(opened, base),
        registration=Registration(store.assignments, base.limits),
        assignment_settings=SettingsChanges(store.assignments, store.assignment_settings, store.rosters),
        uploads=_uploads(settings, opened, base.limits, base.receiver, base.standings),
        artifacts=_artifacts(settings, store),
        submission_removal=SubmissionRemoval(store.submissions, store.stored_bytes),
        hook_settings=HookSettings(store.hooks, store.rosters, base.limits, store.assignment_settings),
        callbacks=_callbacks(settings, store),
        starts=_starts(store, base),
        grades=grade_commands(store, base.limits, base.standings, base.orders, base.announcements),
        orders=base.orders,
        reruns=base.reruns,
        receiver=base.receiver,
        admission=base.admission,
        operations=_operations(opened, base),
        courses=CourseSettings(store.courses, opened.rabbit),
        retention=retention_of(settings.retention, store),
        student_deletion=deletion_of(store),
        joins=_joins(settings, opened, base.admission),
        grader_orders=GraderOrders(store.graders, base.announcements, opened.accounts, base.gateway.sessions),
    )


def _live_logs(opened: Opened) -> LiveLogs:
    store = opened.store
    vouching = Vouching(opened.tickets, store.graders)
    return LiveLogs(store.jobs, store.graders, opened.rabbit, vouching, opened.name)


@dataclass(frozen=True, slots=True)
class _Basis:
    """The parts that several other ones need."""

    limits: Limits
    shares: ReadShares
    announcements: Announcements
    orders: Orders
    reruns: Reruns
    new_runs: NewRuns
    grades: GradeReads
    standings: StandingReads
    receiver: Receiver
    gateway: Gateway
    admission: Admission
    sign_in: SignIn


def _basis(settings: IngestSettings, opened: Opened, *, later: Later, answer_within: float) -> _Basis:
    store, shared, rabbit = opened.store, opened.shared, opened.rabbit
    limits = Limits.of(settings)
    announcements = Announcements(Announcer(runs=shared.runs, jobs=shared.jobs, publisher=rabbit), rabbit, later)
    orders = Orders(shared.runs, store.jobs, announcements)
    new_runs = NewRuns(shared.assignments, shared.runs, shared.jobs, limits, Backlogs(store.jobs))
    grades = grade_reads(store, RecentWorks(store.grades.works))
    standings = standing_reads(store, grades)
    decider = _decider(opened, new_runs, orders, announcements, standings)
    return _Basis(
        limits=limits,
        shares=ReadShares.of(settings.http),
        announcements=announcements,
        orders=orders,
        reruns=Reruns(orders, store.assignments, limits, store.courses),
        new_runs=new_runs,
        grades=grades,
        standings=standings,
        receiver=_receiver(opened, decider, limits, later, answer_within=answer_within),
        gateway=_gateway(settings, store=store, rabbit=rabbit, later=later),
        admission=Admission(store.graders, store.access_tokens, store.pools, _cluster_token(settings)),
        sign_in=SignIn(store.page_sessions, store.access_tokens, PersonalLinks(store.access_tokens)),
    )


def _starts(store: Store, base: _Basis) -> RunStarts:
    rosters, announcements = store.rosters, base.announcements
    return RunStarts(base.new_runs, store.runs, store.assignments, rosters, announcements, store.submissions)


def _operations(opened: Opened, base: _Basis) -> Operations:
    store = opened.store
    return Operations(
        pools=pools_of(store),
        join_tokens=JoinTokens(store.access_tokens),
        forgotten_graders=ForgottenGraders(store.graders, store.jobs, opened.accounts),
        letter_retries=LetterRetries(store.dead_letters, store.jobs, store.runs, base.reruns),
    )


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
        metrics_token=settings.metrics_token.get_secret_value() if settings.metrics_token else None,
    )


def _decider(
    opened: Opened, new_runs: NewRuns, orders: Orders, announcements: Announcements, rules: HandInRules
) -> Decider:
    store, shared = opened.store, opened.shared
    return Decider(
        courses=shared.courses,
        hooks=HooksAndUploads(store.hooks, store.assignment_settings),
        rosters=store.rosters,
        deliveries=shared.deliveries,
        quotas=store.quotas,
        runs=shared.runs,
        jobs=store.jobs,
        new_runs=new_runs,
        orders=orders,
        announcements=announcements,
        rules=rules,
        outbox=store.callbacks.events,
    )


def _receiver(opened: Opened, decider: Decider, limits: Limits, later: Later, *, answer_within: float) -> Receiver:
    shared = opened.shared
    return Receiver(
        courses=shared.courses,
        hooks=opened.store.hooks,
        deliveries=shared.deliveries,
        undecided=UndecidedDeliveries(shared.deliveries, decider.decide),
        limits=limits,
        later=later,
        answer_within=answer_within,
    )


def _artifacts(settings: IngestSettings, store: Store) -> ArtifactUploads:
    return ArtifactUploads(store.blobs, store.artifacts, timedelta(days=settings.artifact_days))


def _callbacks(settings: IngestSettings, store: Store) -> Callbacks:
    endpoints, deliveries, events = store.callbacks.endpoints, store.callbacks.deliveries, store.callbacks.events
    return Callbacks(endpoints, deliveries, events, settings.callback.rules, settings.callback.endpoints)


def _uploads(
    settings: IngestSettings, opened: Opened, limits: Limits, receiver: Receiver, rules: HandInRules
) -> Uploads:
    store, unpacker = opened.store, Unpacker(settings.http.spool_dir)
    grading = GradingStarts(store.assignment_settings, store.submissions, receiver)
    room = Room(opened.shared.courses, limits, store.stored_bytes)
    return Uploads(store.assignment_settings, store.blobs, store.submissions, unpacker, room, grading, rules)


def _reads(opened: Opened, base: _Basis) -> Reads:
    store, shared = opened.store, opened.shared
    jobs = JobReads(store.jobs, store.runs, store.logs)
    members = MemberReads(store.rosters, store.grades.claims, store.grades.choices)
    progress = ProgressReads(shared.runs, store.progress, store.jobs, turn=base.shares.shared_turn)
    return Reads(
        assignments=AssignmentReads(store.assignments, store.rosters, store.hooks, store.assignment_settings),
        members=members,
        extensions=ExtensionReads(store.grades.extensions, store.assignment_settings, members),
        standings=base.standings,
        grades=base.grades,
        sheets=GradeSheets(base.grades, store.rosters),
        regrades=regrade_reads(store, base.grades),
        runs=RunReads(store.runs, store.jobs, store.assignments),
        progress=progress,
        run_tables=RunTables(progress, store.jobs, store.reports, store.assignment_settings),
        jobs=jobs,
        waiting=WaitingReads(jobs, store.jobs),
        reports=ReportReads(store.reports),
        hooks=HookReads(store.hooks, store.deliveries),
        callbacks=CallbackReads(store.callbacks.endpoints, store.callbacks.deliveries, store.callbacks.events),
        graders=GraderReads(store.graders),
        tokens=TokenReads(store.access_tokens),
        audit=AuditReads(store.audit),
        submissions=SubmissionReads(store.submissions, store.blobs, store.deliveries, store.jobs),
        job_files=JobFilesReads(store.jobs, store.submissions, opened.tickets),
        artifacts=ArtifactReads(store.artifacts),
        operations=OperationReads(store.graders, store.courses, store.jobs, store.dead_letters),
        pools=PoolLoads(store.graders, store.jobs, opened.rabbit),
        class_jobs=ClassJobs(store.runs, store.jobs, store.rosters),
        ids=store.ids,
        removed=store.removals,
        student_exports=StudentExports(store.student_data, store.blobs),
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
