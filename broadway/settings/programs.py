"""The settings of the control plane's services, and all programs by name."""

import ssl
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from broadway.domain.artifacts import KEPT_FOR
from broadway.domain.assignment import Memory
from broadway.domain.bounds import MAX_STAGES
from broadway.domain.course import MAX_KEPT, MAX_STORED, MAX_STUDENTS, MAX_WAITING_JOBS
from broadway.domain.job import RetryPolicy
from broadway.settings.callbacks import CallbackSettings
from broadway.settings.every_program import DAY, ProgramSettings
from broadway.settings.grader import GraderSettings
from broadway.settings.http import HttpSettings, Networks
from broadway.settings.openid import OpenIdSettings
from broadway.settings.places import Place
from broadway.settings.retention import RetentionSettings
from broadway.settings.sections import MongoSettings, TraceSettings
from broadway.settings.values import MAX_TEXT, AmqpUrl, HeaderToken, HttpUrl, Id, PoolNames

JOB_OVERHEAD = 900  # seconds that a grader may hold a message besides the time limits of its job's stages


class ServiceSettings(ProgramSettings):
    """The settings that every service of the control plane has."""

    amqp_url: AmqpUrl = Field(
        default=SecretStr("amqp://guest:guest@localhost:5672/"), description="address of the broker for services"
    )
    mongodb: MongoSettings = MongoSettings()
    trace: TraceSettings = TraceSettings()
    heartbeat_interval: int = Field(default=10, ge=1, le=3600, description="seconds between two heartbeats of a grader")
    max_attempts: int = Field(
        default=3, ge=1, le=100, description="attempts of a job before it ends as an infrastructure error"
    )
    retry_backoff: float = Field(
        default=1.0, ge=0, le=3600, description="seconds before the second attempt; doubles with each further one"
    )

    @property
    def lease(self) -> timedelta:
        """The time without a heartbeat after which a running job counts as lost."""
        return timedelta(seconds=3 * self.heartbeat_interval)

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.max_attempts, timedelta(seconds=self.retry_backoff))


class DispatcherSettings(ServiceSettings):
    """`python -m broadway.dispatcher`."""

    ready_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="jobs to keep ready for graders while no slot is free, as a share of a pool's slots; at least one",
    )
    interactive_share: float = Field(
        default=0.05, ge=0, lt=1, description="share of a pool's slots that bulk jobs leave free, rounded down"
    )
    reconcile_interval: float = Field(
        default=5.0, gt=0, le=3600, description="seconds between two sweeps of the reconciler"
    )
    leader_ttl: float = Field(
        default=10.0, gt=0, le=3600, description="seconds until a standby takes over from a dead leader"
    )


class ResultsSettings(ServiceSettings):
    """`python -m broadway.results`."""


class NotifierSettings(ServiceSettings):
    """`python -m broadway.notifier`."""

    callback: CallbackSettings = CallbackSettings()


class IngestSettings(ServiceSettings):
    """`python -m broadway.ingest`."""

    token: HeaderToken | None = Field(
        default=None, min_length=1, description="cluster token, with which any grader may join; random by default"
    )
    operator_token: HeaderToken | None = Field(
        default=None,
        min_length=1,
        description="operators' token, for orders to graders, join tokens, pools and dead letters; none: all refused",
    )
    original_graders: PoolNames | None = Field(
        default=None,
        description="pools that admit graders of the original, which know only the cluster token: separated by commas",
    )
    bind_addr: Annotated[str, Place.HOST] = Field(
        default="localhost", max_length=MAX_TEXT, description="address to listen on"
    )
    bind_port: int = Field(default=1470, ge=0, le=65535, description="port to listen on")
    tls_cert: Path | None = Field(default=None, description="PEM file of the certificate for HTTPS")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's private key")
    course_config: Annotated[Path | None, Place.GIVEN_FILE] = Field(
        default=None, description="JSON file of courses; replaces the stored courses"
    )
    grader_amqp_url: AmqpUrl | None = Field(
        default=None, description="address of the broker for graders; by default that for services"
    )
    management_url: HttpUrl | None = Field(
        default=None,
        description="the broker's management API, with an administrator's login, to give each grader its own user",
    )
    offer_amqp: bool = Field(
        default=True, description="give the broker's address to joining graders; without it they poll over HTTP"
    )
    gateway_pool: Id = Field(default="default", description="pool of HTTP and WebSocket graders that name no pool")
    http: HttpSettings = HttpSettings()
    callback: CallbackSettings = CallbackSettings()
    retention: RetentionSettings = RetentionSettings()
    oidc: OpenIdSettings = OpenIdSettings()
    trusted_proxies: Networks = Field(
        default="",
        description="proxies whose X-Forwarded-For names the client: addresses and networks, separated by commas",
    )
    metrics_token: HeaderToken | None = Field(
        default=None,
        min_length=8,
        description="token for /metrics of this port and loads of pools; without it metrics are only at metrics_port",
    )
    max_body_size: int = Field(
        default=32 * 1024 * 1024, gt=0, le=1024**3, description="limit on a request's body, in bytes"
    )
    max_job_seconds: float = Field(
        default=3 * 3600, gt=0, le=30 * DAY, description="limit on the sum of a job's stage timeouts, in seconds"
    )
    consumer_timeout: float = Field(
        default=4 * 3600,
        gt=0,
        le=60 * DAY,
        description="seconds for which the broker lets a grader hold a message; equal to the broker's consumer_timeout",
    )
    allow_privileged: bool = Field(default=False, description="accept stages that ask for privileged containers")
    privileged_courses: str = Field(
        default="*",
        min_length=1,
        max_length=16 * MAX_TEXT,
        description="courses whose stages may ask for privileged containers: patterns, separated by commas",
    )
    no_network: bool = Field(default=False, description="refuse stages with a network")
    allow_images: str = Field(
        default="*",
        min_length=1,
        max_length=16 * MAX_TEXT,
        description="images that stages may use: patterns with * and ?, separated by commas",
    )
    max_memory: Memory | None = Field(default=None, description="limit on the memory of a stage, such as 8g")
    max_students: int = Field(
        default=20_000, ge=1, le=MAX_STUDENTS, description="limit on the students of a run, and of a roster"
    )
    max_waiting_jobs: int = Field(
        default=50_000, ge=1, le=MAX_WAITING_JOBS, description="limit on the jobs of a course that wait for a grader"
    )
    max_stages: int = Field(default=50, ge=1, le=MAX_STAGES, description="limit on the stages of a pipeline")
    max_assignments: int = Field(default=1000, ge=1, le=MAX_KEPT, description="limit on the assignments of a course")
    max_hooks: int = Field(default=100, ge=1, le=MAX_KEPT, description="limit on the webhooks of a course")
    max_deliveries: int = Field(
        default=20_000,
        ge=1,
        le=MAX_KEPT,
        description="deliveries of a webhook to keep; beyond that, the oldest decided ones are removed",
    )
    artifact_days: float = Field(
        default=KEPT_FOR, gt=0, le=36_500, description="days for which the artifacts of jobs are kept"
    )
    max_stored_bytes: int = Field(
        default=64 * 2**30, ge=1, le=MAX_STORED, description="limit on the bytes of all submissions of a course"
    )

    @field_validator("tls_key")
    @classmethod
    def _with_its_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        """Require both files or neither, and a key that belongs to the certificate."""
        certificate = info.data.get("tls_cert")
        if (certificate is None) is not (key is None):
            raise ValueError("tls_cert and tls_key are given together or not at all")
        if certificate and key:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            except OSError as error:
                raise ValueError(f"{certificate} and {key} cannot be used: {error.strerror or error}") from None
        return key

    @field_validator("operator_token")
    @classmethod
    def _not_of_graders(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if token is not None and token == info.data.get("token"):
            raise ValueError("should differ from token, which every host with a grader may know")
        return token

    @field_validator("privileged_courses")
    @classmethod
    def _only_if_allowed(cls, courses: str, info: ValidationInfo) -> str:
        if courses != "*" and not info.data.get("allow_privileged"):
            raise ValueError("only together with allow_privileged, which it narrows")
        return courses

    @field_validator("consumer_timeout")
    @classmethod
    def _above_the_longest_job(cls, seconds: float, info: ValidationInfo) -> float:
        """Require that the broker's timeout is above the longest job: otherwise the broker would end the job first."""
        longest = info.data.get("max_job_seconds", 0) + JOB_OVERHEAD
        if seconds <= longest:
            raise ValueError(
                f"should be above max_job_seconds and {JOB_OVERHEAD} s for pulling and reporting, {longest:g} s; "
                "allow shorter jobs, or raise consumer_timeout here and in the broker's configuration"
            )
        return seconds


class ApiSettings(IngestSettings, DispatcherSettings, ResultsSettings, NotifierSettings):
    """`python -m broadway.api`: ingest, dispatcher, results and notifier in one process."""


PROGRAMS: dict[str, type[BaseSettings]] = {
    "api": ApiSettings,
    "ingest": IngestSettings,
    "dispatcher": DispatcherSettings,
    "results": ResultsSettings,
    "notifier": NotifierSettings,
    "grader": GraderSettings,
}
