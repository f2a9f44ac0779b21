"""Settings of every program: command line > environment > default. Nothing is read before a program's main()."""

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, CliApp, CliPositionalArg, SettingsConfigDict, SettingsError

from broadway.job import RetryPolicy

EX_CONFIG = 78

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LogSettings(_Section):
    """Where log lines go, besides stderr."""

    dir: str = Field(default="logs", description="directory of the log files; empty for none")
    level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$")
    timestamps: bool = True
    rotate: str = Field(
        default="midnight",
        pattern="^(?i:S|M|H|D|W[0-6]|midnight)$",
        description="when a log file is rotated, as logging.handlers has it",
    )
    backup: int = Field(default=7, ge=0, description="rotated files to keep")


class MongoSettings(_Section):
    """The store."""

    dsn: str = Field(default="mongodb://localhost:27017", repr=False)
    primary: str = Field(default="AG", description="database of everything but logs")
    logs: str = Field(default="logs", description="database of the logs")
    timeout: int = Field(default=5, gt=0, description="seconds to wait for a server")


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="BROADWAY_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        nested_model_default_partial_update=True,
        extra="forbid",
        allow_inf_nan=False,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_shortcuts={
            "log.dir": "log-dir",
            "log.level": "log-level",
            "log.timestamps": "log-timestamps",
            "log.rotate": "log-rotate",
            "log.backup": "log-backup",
            "mongodb.dsn": "mongodb-dsn",
            "mongodb.primary": "mongodb-primary",
            "mongodb.logs": "mongodb-logs",
            "mongodb.timeout": "mongodb-timeout",
        },
    )

    debug: bool = False
    log: LogSettings = LogSettings()


class ServiceSettings(_Settings):
    """What every service of the control plane needs."""

    amqp_url: SecretStr = Field(
        default=SecretStr("amqp://guest:guest@localhost:5672/"), description="the broker, as services reach it"
    )
    mongodb: MongoSettings = MongoSettings()
    heartbeat_interval: int = Field(default=10, ge=1, description="seconds between two heartbeats of a grader")
    max_attempts: int = Field(default=3, ge=1, description="starts of a job before the infrastructure gives up on it")
    retry_backoff: float = Field(
        default=1.0, ge=0, le=3600, description="seconds before the second start; doubles after that"
    )

    @property
    def lease(self) -> timedelta:
        """Time without a heartbeat after which a running job counts as lost."""
        return timedelta(seconds=3 * self.heartbeat_interval)

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.max_attempts, timedelta(seconds=self.retry_backoff))


class DispatcherSettings(ServiceSettings):
    """`python -m broadway.dispatcher`."""

    ready_share: float = Field(
        default=0.25, gt=0, le=1, description="jobs ready but not taken, as a share of a pool's slots; at least one"
    )
    interactive_share: float = Field(
        default=0.05, ge=0, lt=1, description="share of a pool's slots that bulk jobs leave free, rounded down"
    )
    reconcile_interval: float = Field(default=5.0, gt=0, description="seconds between two sweeps")
    leader_ttl: float = Field(default=10.0, gt=0, description="seconds until a standby takes over from a dead leader")


class ResultsSettings(ServiceSettings):
    """`python -m broadway.results`."""


class IngestSettings(ServiceSettings):
    """`python -m broadway.ingest`."""

    token: SecretStr | None = Field(default=None, description="the cluster token of graders; random when not given")
    bind_addr: str = "localhost"
    bind_port: int = Field(default=1470, ge=0, le=65535)
    course_config: Path | None = Field(default=None, description="JSON file of courses; replaces the stored ones")
    grader_amqp_url: SecretStr | None = Field(
        default=None, description="the broker, as graders reach it; the services' own when not given"
    )
    offer_amqp: bool = Field(
        default=True, description="tell graders that join where the broker is; without it they poll over HTTP"
    )
    gateway_pool: Id = Field(
        default="default", description="pool of graders that speak HTTP or WebSocket and name none"
    )
    max_body_size: int = Field(default=32 * 1024 * 1024, gt=0, description="bytes of a request's body at most")
    max_job_seconds: float = Field(
        default=3 * 3600, gt=0, description="time limits of a job's stages together, at most"
    )
    allow_privileged: bool = Field(default=False, description="accept stages that ask for privileged containers")


class ApiSettings(IngestSettings, DispatcherSettings, ResultsSettings):
    """`python -m broadway.api`: ingest, dispatcher and results in one process."""


class GraderSettings(_Settings):
    """`python -m broadway.grader TOKEN GRADER_ID`."""

    # The empty defaults are refused: they let the environment give what the command line does not.
    token: CliPositionalArg[SecretStr] = Field(default=SecretStr(""), min_length=1, description="the cluster token")
    grader_id: CliPositionalArg[Id] = Field(default="", description="letters, digits, dashes; unique in the cluster")
    api_host: str = Field(default="http://127.0.0.1:1470", description="the API to register with")
    amqp_url: SecretStr | None = Field(default=None, description="the broker, instead of asking the API for it")
    verbose: bool = Field(default=False, description="job output goes to the log")
    slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=512, description="jobs at a time")
    pool: Id = "default"
    work_dir: Path = Field(default=Path("broadway-work"), description="job directories and unreported outcomes")
    drain_timeout: float = Field(default=60.0, ge=0, description="seconds that running jobs get after SIGTERM")
    heartbeat_interval: int = Field(default=10, ge=1, description="seconds between heartbeats; the API's own wins")
    pids_limit: int = Field(default=256, ge=16, description="processes in a container")
    output_limit: int = Field(default=8 * 1024 * 1024, ge=1024, description="bytes a stage may write to its log")
    allow_privileged: bool = Field(default=False, description="run stages that ask for privileged containers")

    @model_validator(mode="after")
    def _known_scheme(self) -> "GraderSettings":
        scheme = self.api_host.partition("://")[0]
        if scheme not in ("http", "https"):
            raise ValueError(f"api_host: {self.api_host!r} should start with http:// or https://")
        return self


AnySettings = TypeVar("AnySettings", bound=BaseSettings)


def load(kind: type[AnySettings], *, prog: str, arguments: Sequence[str] | None = None) -> AnySettings:
    """Read settings from the command line and the environment; exit 78 with a line per problem if they are wrong."""
    named = type(
        kind.__name__, (kind,), {"model_config": SettingsConfigDict(cli_prog_name=prog), "__doc__": kind.__doc__}
    )
    try:
        return CliApp.run(named, cli_args=list(sys.argv[1:] if arguments is None else arguments))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        sys.stderr.writelines(f"{prog}: {_readable(problem)}\n" for problem in problems)
        raise SystemExit(EX_CONFIG) from None
    except SettingsError as error:
        sys.stderr.write(f"{prog}: {error}\n")
        raise SystemExit(EX_CONFIG) from None


def _readable(problem: ErrorDetails) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
