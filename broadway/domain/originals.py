"""The files from which a report was read: kept by hash, compressed on their way, and bounded. Pure."""

import base64
import binascii
import hashlib
import zlib
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadway.domain.bounds import Reason
from broadway.domain.report import Digest, Name, Report

MAX_FILE = 1024 * 1024  # bytes of one results file
MAX_FILES = 200  # of one stage
MAX_ALL = 2 * 1024 * 1024  # bytes of all results files of a stage
_MAX_DATA = 2 * MAX_FILE  # characters of a compressed file


class CorruptFileError(ValueError):
    """The bytes of a kept file are not those of its hash."""


class OriginalFile(BaseModel):
    """A results file: its path below ``/job``, the hash and the number of its bytes, and the bytes themselves.

    ``data`` is the Base64 form of the compressed bytes; empty where the bytes are stored by their hash.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    path: Name
    sha256: Digest
    size: Annotated[int, Field(ge=0, le=MAX_FILE)]
    data: Annotated[str, Field(max_length=_MAX_DATA, pattern=r"^[A-Za-z0-9+/=]*$")] = ""

    @classmethod
    def of(cls, path: str, content: bytes) -> Self:
        """Return the file with this content, which has at most ``MAX_FILE`` bytes."""
        data = base64.b64encode(zlib.compress(content)).decode("ascii")
        return cls(path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content), data=data)

    def compressed(self) -> bytes:
        """Return the compressed bytes, after checking that they are those of the hash.

        Raises:
            CorruptFileError: They are not.
        """
        try:
            packed = base64.b64decode(self.data, validate=True)
        except binascii.Error:
            raise CorruptFileError(f"{self.path}: its data are not Base64") from None
        content = unpacked(packed)
        if len(content) != self.size or hashlib.sha256(content).hexdigest() != self.sha256:
            raise CorruptFileError(f"{self.path}: its data are not those of its hash")
        return packed


def unpacked(packed: bytes) -> bytes:
    """Return the bytes of a compressed file.

    Raises:
        CorruptFileError: They are not complete, or more than ``MAX_FILE``.
    """
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(packed, MAX_FILE + 1)
    except zlib.error:
        raise CorruptFileError("the data cannot be decompressed") from None
    if not reader.eof or len(content) > MAX_FILE:
        raise CorruptFileError(f"the data are not complete, or have more than {MAX_FILE} bytes")
    return content


class Reported(BaseModel):
    """A stage's report with its original files.

    A file that is missing or broken gives no ``report``; ``problem`` then names the file, the field and the expected
    form.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, serialize_by_alias=True)

    report: Report | None = None
    problem: Reason = ""
    files: Annotated[list[OriginalFile], Field(max_length=MAX_FILES)] = []

    @model_validator(mode="after")
    def _within_bounds(self) -> Self:
        if sum(file.size for file in self.files) > MAX_ALL:
            raise ValueError(f"files: should have at most {MAX_ALL} bytes together")
        if (self.report is None) is not bool(self.problem):
            raise ValueError("problem: should be given exactly if there is no report")
        return self

    @property
    def size(self) -> int:
        """Bytes of the report and of its files, as sent."""
        report = len(self.report.stored().encode()) if self.report else 0
        return report + sum(len(file.data) for file in self.files)

    def without_bytes(self) -> "Reported":
        """Return a copy whose files have their hashes only."""
        return self.model_copy(update={"files": [file.model_copy(update={"data": ""}) for file in self.files]})


@dataclass(frozen=True, slots=True)
class StageReport:
    """The report of one stage of one execution of a job. ``stage`` is the stage's index."""

    job_id: str
    execution_id: str
    stage: int
    reported: Reported
