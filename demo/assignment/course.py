"""The stages' requests to the course's own server, whose address is in COURSE_SERVER."""

import os
import time
import urllib.error
import urllib.request

ATTEMPTS = 3
TIMEOUT = 5  # seconds for each attempt


def get(path: str) -> bytes:
    """Fetch the content at a path of the server."""
    return _request("GET", path, None)


def put(path: str, content: bytes) -> None:
    """Store content at a path of the server."""
    _request("PUT", path, content)


def run_path(name: str) -> str:
    """Return the server's path for a file of this grading run."""
    return f"/runs/{os.environ['GRADING_RUN_ID']}/{name}"


def _request(method: str, path: str, content: bytes | None) -> bytes:
    address = os.environ["COURSE_SERVER"] + path
    request = urllib.request.Request(address, data=content, method=method)  # noqa: S310 - the course's own address
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - as above
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: the course server answers {error.code} {error.reason}") from None
        except OSError as error:
            if attempt == ATTEMPTS:
                raise SystemExit(f"{method} {path}: {error}") from None
            time.sleep(attempt)
    raise AssertionError
