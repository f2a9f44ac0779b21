"""The settings of images that are used without an engine: their place, access to registries, and limits."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadway.domain.assignment import Memory
from broadway.settings.places import Place
from broadway.settings.values import MAX_TEXT

_SOURCE = r"^(engine|docker-daemon:|registry|(oci|oci-archive|docker-archive):[^:\x00]+)$"
_HOST = r"[A-Za-z0-9.\[\]:_-]+"


class ImageSettings(BaseModel):
    """Images for `--runtime oci`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        default="engine",
        pattern=_SOURCE,
        max_length=MAX_TEXT,
        description="with `--runtime oci`: place of images: engine, registry (through skopeo), oci:DIR,"
        " oci-archive:FILE or docker-archive:FILE",
    )
    dir: Annotated[Path | None, Place.DIRECTORY] = Field(
        default=None,
        description="with `--runtime oci`: directory of unpacked images, which graders of this host may share; by"
        " default in the work directory",
    )
    auth_file: Annotated[Path | None, Place.GIVEN_FILE] = Field(
        default=None, description="credentials for registries, in the format of skopeo and Docker"
    )
    registry: str = Field(
        default="",
        pattern=rf"^({_HOST})?$",
        max_length=MAX_TEXT,
        description="registry for which the user name and the password are, as in images' names",
    )
    username: str = Field(default="", pattern=r"^[^:\x00-\x1f]*$", max_length=MAX_TEXT, description="user there")
    password_file: Annotated[Path | None, Place.GIVEN_FILE] = Field(
        default=None, description="file with the password there"
    )
    certs: Annotated[Path | None, Place.GIVEN_DIRECTORY] = Field(
        default=None, description="directory with the registries' authorities, *.crt, and perhaps *.cert and *.key"
    )
    plain_http: str = Field(
        default="",
        pattern=rf"^({_HOST}(,{_HOST})*)?$",
        max_length=MAX_TEXT,
        description="registries without TLS, or with certificates that are not checked: separated by commas",
    )
    pull_timeout: float = Field(default=600.0, ge=1, le=24 * 3600, description="seconds for a pull through skopeo")
    max_size: Memory = Field(default="20g", description="limit on the data of an image, unpacked")
    max_files: int = Field(
        default=2_000_000, ge=100, le=2**31 - 1, description="limit on the files and directories of an image"
    )
    keep_size: Memory = Field(
        default="50g", description="unpacked images above this size are removed, beginning with the longest unused"
    )

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        given = [bool(self.registry), bool(self.username), self.password_file is not None]
        if any(given) and not all(given):
            raise ValueError("registry, username and password_file belong together: set all three, or use auth_file")
        if any(given) and self.auth_file:
            raise ValueError("auth_file and username exclude each other: put the user into the file")
        return self
