"""The style sheet and the script: read once, addressed by their contents, kept by browsers for a year."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

DIRECTORY = Path(__file__).parent / "static"
PATH = "/ui/static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file: its name with the hash of its content, its content as it is and compressed, and its type."""

    name: str
    content: bytes
    packed: bytes
    media_type: str


@cache
def files() -> Mapping[str, StaticFile]:
    """Return all files by their names in the directory."""
    return {path.name: _read(path) for path in sorted(DIRECTORY.iterdir()) if path.suffix in _TYPES}


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    name = f"{path.stem}.{sha256(content).hexdigest()[:16]}{path.suffix}"
    return StaticFile(name, content, gzip.compress(content, 9, mtime=0), _TYPES[path.suffix])


def address(name: str) -> str:
    """Return the address of a file, which changes with its content."""
    return f"{PATH}/{files()[name].name}"


def served(request: Request) -> Response | None:
    """Return the file in the path, or None."""
    wanted = request.path_params["file"]
    found = next((file for file in files().values() if file.name == wanted), None)
    if found is None:
        return None
    headers = {"Cache-Control": _FOREVER, "Vary": "Accept-Encoding"}
    if accepts_gzip(request):
        headers["Content-Encoding"] = "gzip"
        return Response(found.packed, headers=headers, media_type=found.media_type)
    return Response(found.content, headers=headers, media_type=found.media_type)


def accepts_gzip(request: Request) -> bool:
    """Return whether a client takes compressed answers."""
    return "gzip" in request.headers.get("accept-encoding", "").lower()
