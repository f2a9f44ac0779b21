"""The settings of a grader."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import CliPositionalArg

from broadway.domain.assignment import Memory
from broadway.settings.every_program import DAY, ProgramSettings
from broadway.settings.images import ImageSettings
from broadway.settings.places import Place
from broadway.settings.setting_names import Names
from broadway.settings.values import MAX_TEXT, AmqpUrl, HeaderToken, Id, check_address


def one_per_cpu() -> int:
    return os.cpu_count() or 1


class GraderSettings(ProgramSettings):
    """`python -m broadway.grader TOKEN GRADER_ID`."""

    # The empty defaults are invalid. They allow that the environment or the config file has the values instead.
    token: CliPositionalArg[HeaderToken] = Field(
        default=SecretStr(""), min_length=1, description="join token or cluster token"
    )
    grader_id: Annotated[CliPositionalArg[Id], Names(file="id")] = Field(
        default="", description="letters, digits, dashes and underscores; unique in the cluster"
    )
    api_host: str = Field(
        default="http://127.0.0.1:1470", max_length=MAX_TEXT, description="address of the API; http(s):// or ws(s)://"
    )
    amqp_url: AmqpUrl | None = Field(default=None, description="address of the broker; by default the API gives it")
    verbose: Annotated[bool, Names(short="-v")] = Field(default=False, description="also log the output of jobs")
    slots: int = Field(default_factory=one_per_cpu, ge=1, le=512, description="jobs at a time")
    pool: Id = Field(default="default", description="pool whose jobs this grader takes")
    work_dir: Annotated[Path, Place.DIRECTORY] = Field(
        default=Path("broadway-work"), description="directory for job directories and unreported outcomes"
    )
    drain_timeout: float = Field(
        default=60.0, ge=0, le=7 * DAY, description="seconds for running jobs to finish after SIGTERM"
    )
    heartbeat_interval: int = Field(
        default=10, ge=1, le=3600, description="seconds between two heartbeats; the API's value takes precedence"
    )
    pids_limit: int = Field(default=256, ge=16, le=2**22, description="limit on the processes in a container")
    open_files: int = Field(
        default=1024,
        ge=64,
        le=1_048_576,
        description="files that a process in a container may have open; at most 1024 for untrusted stages",
    )
    output_limit: int = Field(
        default=8 * 1024 * 1024, ge=1024, le=1024**3, description="limit on the output of a stage, in bytes"
    )
    file_size: Memory = Field(default="1g", description="limit on the size of a file that a stage writes")
    disk_limit: Memory = Field(
        default="4g",
        description="limit on the data that a stage writes to its container's disk, outside the job's directory",
    )
    job_size: Memory = Field(default="1g", description="limit on the data in a job's directory")
    file_cache: Memory = Field(
        default="1g", description="limit on the files of submissions that a grader keeps for later jobs"
    )
    job_inodes: int = Field(
        default=200_000, ge=100, le=2**31 - 1, description="limit on the files and directories in a job's directory"
    )
    job_files: int = Field(
        default=50_000,
        ge=100,
        le=10_000_000,
        description="limit on the files and directories that an untrusted stage leaves, which are checked one by one",
    )
    max_memory: Memory | None = Field(
        default=None, description="limit on the memory of a stage, even if it asks for more"
    )
    cpus: float | None = Field(default=None, gt=0, le=10_000, description="CPUs that a stage may use at a time")
    runtime: Id | None = Field(
        default=None, description="container runtime: oci, docker, auto, or one of the engine's, such as runc or runsc"
    )
    oci_program: str = Field(
        default="crun", min_length=1, max_length=MAX_TEXT, description="with `--runtime oci`: name or path of crun"
    )
    oci_layout: Annotated[Path | None, Place.GIVEN_DIRECTORY] = Field(
        default=None, description="with `--runtime oci`: directory in the OCI image layout, used instead of an engine"
    )
    oci_unused_days: float = Field(
        default=14.0, gt=0, le=36_500, description="with `--runtime oci`: days until unused unpacked images are removed"
    )
    images: ImageSettings = ImageSettings()
    min_disk: Memory = Field(default="256m", description="free disk space below which the grader takes no jobs")
    pause_after: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="consecutive jobs with infrastructure errors after which the grader pauses if it is their cause",
    )
    pause: float = Field(
        default=30.0, gt=0, le=DAY, description="seconds of the first pause; doubles with each further one"
    )
    no_network: bool = Field(default=False, description="give no stage a network, even if it asks for one")
    allow_privileged: bool = Field(default=False, description="run stages that ask for privileged containers")
    stage_network: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="network of the engine for stages that have one; by default one whose containers do not reach one"
        " another",
    )
    allow_local_registries: bool = Field(
        default=False, description="pull images from registries at addresses of this host, such as localhost"
    )
    untrusted_uid: int = Field(
        default=70_000,
        ge=1000,
        le=2_000_000_000,
        description="first of the 20000 user ids of which each job's untrusted stages have one of their own",
    )
    allow_32_bit: bool = Field(default=False, description="let untrusted stages run 32-bit programs")

    @property
    def reported_runtime(self) -> str:
        """The runtime to report: the configured one, or `default` for the engine's default, which is not known here."""
        return self.runtime or "default"

    @field_validator("api_host")
    @classmethod
    def _known_scheme(cls, address: str) -> str:
        check_address(
            address, ("http", "https", "ws", "wss"), "should be an address, as in http://host:port (or https, ws, wss)"
        )
        return address.rstrip("/")
