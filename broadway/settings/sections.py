"""The settings that several programs have in a section of their own."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from broadway.settings.places import Place
from broadway.settings.values import MAX_TEXT, Database, HttpUrl, MongoDsn


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LogSettings(_Section):
    """The log files; log lines also go to stderr."""

    dir: Annotated[str, Place.DIRECTORY] = Field(
        default="logs", max_length=MAX_TEXT, description="directory of the log files; empty for stderr only"
    )
    level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$", description="lowest severity to log"
    )
    timestamps: bool = Field(default=True, description="log lines have a timestamp")
    rotate: str = Field(
        default="midnight",
        pattern="^(?i:S|M|H|D|W[0-6]|midnight)$",
        description="when to rotate a log file, as for Python's logging.handlers",
    )
    backup: int = Field(default=7, ge=0, le=10_000, description="number of rotated files to keep")


class TraceSettings(_Section):
    """The export of traces, by OTLP over HTTP."""

    endpoint: HttpUrl | None = Field(
        default=None, description="address of an OpenTelemetry collector, such as http://collector:4318/v1/traces"
    )
    share: float = Field(default=1.0, ge=0, le=1, description="share of traces to export")


class MongoSettings(_Section):
    """The store."""

    dsn: MongoDsn = Field(default="mongodb://localhost:27017", repr=False, description="address of the store")
    primary: Database = Field(default="AG", description="database of everything but job logs")
    logs: Database = Field(default="logs", description="database of job logs")
    timeout: int = Field(default=5, gt=0, le=3600, description="seconds to wait for a server of the store")
