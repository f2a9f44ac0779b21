"""The settings that every program has."""

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from broadway.runtime.tls import check_authorities, trust
from broadway.settings.places import Place
from broadway.settings.sections import LogSettings
from broadway.settings.setting_names import ENV_PREFIX, Names
from broadway.settings.values import MAX_TEXT

DAY = 24 * 3600  # seconds


class ProgramSettings(BaseSettings):
    """The settings that every program has."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        extra="forbid",
        allow_inf_nan=False,
    )

    health_file: Annotated[Path | None, Place.FILE] = Field(
        default=None, description="file for the report of unavailable parts that `broadway health` reads"
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of certificate authorities to trust besides the system's"
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="port of a separate endpoint for Prometheus; 0 for no endpoint"
    )
    metrics_addr: Annotated[str, Place.HOST] = Field(
        default="127.0.0.1", max_length=MAX_TEXT, description="address of the separate endpoint for Prometheus"
    )
    debug: Annotated[bool, Names(short="-d")] = Field(
        default=False, description="no effect; kept for compatibility with the original"
    )
    log: LogSettings = LogSettings()

    @field_validator("ca_file")
    @classmethod
    def _of_authorities(cls, file: Path | None) -> Path | None:
        try:
            if file is not None:
                check_authorities(file)
        except OSError as error:
            raise ValueError(f"{file}: expected certificates, in PEM: {error.strerror or error}") from None
        return file

    @property
    def tls(self) -> ssl.SSLContext:
        """The TLS context for connections to addresses that ask for TLS."""
        return trust(self.ca_file)
