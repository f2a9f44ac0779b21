"""The dependencies of request handlers."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.commands.admission import Admission
from broadway.ingest.commands.artifacts import ArtifactUploads
from broadway.ingest.commands.assignment_settings import SettingsChanges
from broadway.ingest.commands.audit import Auditor
from broadway.ingest.commands.callbacks import Callbacks
from broadway.ingest.commands.courses import CourseSettings
from broadway.ingest.commands.grade_commands import GradeCommands
from broadway.ingest.commands.graders import GraderJoins, GraderOrders
from broadway.ingest.commands.hooks import HookSettings
from broadway.ingest.commands.limits import Limits
from broadway.ingest.commands.openid import OpenIdSignIn
from broadway.ingest.commands.operations import Operations
from broadway.ingest.commands.receive import Receiver
from broadway.ingest.commands.register import Registration
from broadway.ingest.commands.remove_submissions import SubmissionRemoval
from broadway.ingest.commands.rerun import Reruns
from broadway.ingest.commands.retention import Retention
from broadway.ingest.commands.sign_in import SignIn
from broadway.ingest.commands.start import RunStarts
from broadway.ingest.commands.student_deletion import StudentDeletion
from broadway.ingest.commands.tokens import TokenSettings
from broadway.ingest.commands.upload import Uploads
from broadway.ingest.gateway.gateway import Gateway
from broadway.ingest.http.auth import Authenticator
from broadway.ingest.http.outages import StoreOutages
from broadway.ingest.http.shares import ReadShares
from broadway.ingest.live.feed import Feed
from broadway.ingest.live.logs import LiveLogs
from broadway.ingest.live.run_changes import RunChanges
from broadway.ingest.reads.reads import Reads
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.orders import Orders
from broadway.mongo.store import Store
from broadway.rabbit.client import Rabbit
from broadway.runtime.health import Health
from broadway.settings.programs import IngestSettings


@dataclass(slots=True)
class Deps:
    """Services, stores and settings that handlers use."""

    settings: IngestSettings
    limits: Limits
    store: Store
    rabbit: Rabbit
    announcements: Announcements
    gateway: Gateway
    feed: Feed
    live_logs: LiveLogs
    health: Health
    shares: ReadShares
    authenticator: Authenticator
    auditor: Auditor
    tokens: TokenSettings
    sign_in: SignIn
    reads: Reads
    registration: Registration
    assignment_settings: SettingsChanges
    uploads: Uploads
    artifacts: ArtifactUploads
    submission_removal: SubmissionRemoval
    hook_settings: HookSettings
    callbacks: Callbacks
    starts: RunStarts
    grades: GradeCommands
    orders: Orders
    reruns: Reruns
    receiver: Receiver
    admission: Admission
    joins: GraderJoins
    operations: Operations
    courses: CourseSettings
    retention: Retention
    student_deletion: StudentDeletion
    grader_orders: GraderOrders
    openid: OpenIdSignIn | None = None
    is_stopping: bool = False
    outages: StoreOutages = field(init=False)
    run_changes: RunChanges = field(init=False)

    def __post_init__(self) -> None:
        self.outages = StoreOutages(self.health)
        self.run_changes = RunChanges(self.reads.progress)


Handler = Callable[[Request, Deps], Coroutine[Any, Any, Response]]
