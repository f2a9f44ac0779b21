"""The description of a backup, in its file ``manifest.json``, which is written last and marks a whole backup."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from broadway.local.secret import write

FILE = "manifest.json"
FORMAT = 1
MOST_BYTES = 4 * 2**20  # of the file
_Count = Annotated[int, Field(ge=0, le=2**63 - 1)]


class BackupError(Exception):
    """A backup cannot be made, used or restored; the message gives the reason and the remedy."""


class Part(BaseModel):
    """A collection: its place, the number of its documents and of their bytes, and the digest of its file."""

    model_config = ConfigDict(frozen=True)

    place: str = Field(pattern=r"^(primary|logs)/[^/\x00$]{1,200}$")
    documents: _Count
    bytes: _Count
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """A whole backup: all that was stored at ``begun_at``, with changes that services have made while it was read."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["broadway backup"] = "broadway backup"
    format: int = FORMAT
    version: str = Field(max_length=200)  # of the program that made it
    begun_at: AwareDatetime
    ended_at: AwareDatetime
    migrations: Sequence[str] = Field((), max_length=1000)  # that were made in the store
    parts: Sequence[Part] = Field(max_length=1000)

    @property
    def documents(self) -> int:
        return sum(part.documents for part in self.parts)

    @property
    def took(self) -> float:
        """The seconds that the backup has taken."""
        return (self.ended_at - self.begun_at).total_seconds()


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the description of a backup whose other files are durable."""
    write(directory / FILE, manifest.model_dump_json(indent=2) + "\n")


def read_manifest(directory: Path) -> Manifest:
    """Return the description of a backup.

    Raises:
        BackupError: The directory has no description, or one of a later version, or it is damaged.
    """
    file = directory / FILE
    try:
        with file.open("rb") as opened:
            found = json.loads(opened.read(MOST_BYTES))
    except FileNotFoundError:
        raise BackupError(
            f"{directory}: no {FILE}: expected the directory of a backup that has ended; name another one"
        ) from None
    except OSError as error:
        raise BackupError(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BackupError(f"{file}: expected JSON; the backup is damaged, use another one") from error
    number = found.get("format") if isinstance(found, dict) else None
    if isinstance(number, int) and number > FORMAT:
        made = str(found.get("version"))[:50]
        raise BackupError(
            f"{directory}: format {number}, made by version {made}; this version reads formats up to {FORMAT}: "
            "restore it with the version that made it, or a later one"
        )
    try:
        manifest = Manifest.model_validate(found)
    except ValidationError as error:
        (first, *_) = error.errors()
        where = ".".join(map(str, first["loc"])) or "it"
        raise BackupError(f"{file}: {where}: {first['msg']}; the backup is damaged, use another one") from error
    if len({part.place for part in manifest.parts}) < len(manifest.parts):
        raise BackupError(f"{file}: a place occurs twice; the backup is damaged, use another one")
    return manifest
