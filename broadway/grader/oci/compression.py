"""Compressed layers: gzip and zstd, recognized by their first bytes."""

import contextlib
import gzip
import sys
from collections.abc import Iterator
from typing import IO

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["uncompressed", "zstd"]

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_WINDOW = {int(zstd.DecompressionParameter.window_log_max): 27}  # 128 MiB of memory, the most that zstd itself writes


@contextlib.contextmanager
def uncompressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield the plain content of a file, which is closed at the end of the context."""
    with file:
        magic = file.read(len(_ZSTD))
        file.seek(0)
        if magic == _ZSTD:
            with zstd.open(file, options=_WINDOW) as plain:
                yield plain  # type: ignore[misc]
        elif magic.startswith(_GZIP):
            with gzip.open(file) as plain:
                yield plain  # type: ignore[misc]
        else:
            yield file
