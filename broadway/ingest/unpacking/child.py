"""The program that unpacks one archive: it reads standard input and writes plain files into its working directory.

It runs as a user without rights if it can, with little memory and time. It writes lines of JSON: one when it begins,
one for each file, and at last one for the refusal, for a failure of this host, or for the end.
"""

import codecs
import hashlib
import json
import os
import resource
import sys

from broadway.domain.files import FileLimits, FileRefusedError
from broadway.ingest.unpacking.archives import Entry, entries

MEMORY = 512 * 1024 * 1024  # bytes of address space
CPU_SECONDS = 20
OPEN_FILES = 32
NOBODY = 65534  # the user and the group without rights
_KINDS = (
    (resource.RLIMIT_AS, MEMORY),
    (resource.RLIMIT_CPU, CPU_SECONDS),
    (resource.RLIMIT_NOFILE, OPEN_FILES),
    (resource.RLIMIT_CORE, 0),
)


def main(upload: str, unpacked: str, files: str) -> None:
    """Unpack the archive on standard input."""
    limits = FileLimits(int(upload), int(unpacked), int(files))
    _resign()
    for kind, most in (*_KINDS, (resource.RLIMIT_FSIZE, limits.unpacked)):
        resource.setrlimit(kind, (most, most))
    _say({"begun": True})
    try:
        for number, entry in enumerate(entries(sys.stdin.buffer, limits)):
            _say(_write(number, entry))
    except FileRefusedError as refusal:
        _say({"refused": str(refusal)})
    except OSError as error:  # of the files that are written; the archive's own errors are refusals
        _say({"failed": error.strerror or str(error)})
    else:
        _say({"done": True})


def _resign() -> None:
    """Give up root's rights. Modules that the reading needs are loaded before, from places only root may read."""
    codecs.lookup("cp437")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _write(number: int, entry: Entry) -> dict[str, object]:
    digest, size = hashlib.sha256(), 0
    with open(str(number), "xb") as file:  # noqa: PTH123 - relative to the working directory on purpose
        for piece in entry.pieces:
            file.write(piece)
            digest.update(piece)
            size += len(piece)
    return {"path": entry.path, "sha256": digest.hexdigest(), "size": size, "mode": entry.mode}


def _say(record: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
