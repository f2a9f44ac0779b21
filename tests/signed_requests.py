"""Sign generated deliveries as GitHub does: schemathesis loads this module and calls it before each request."""

from typing import Any

import requests
import schemathesis
from pushes import signature

SECRET = "a-secret-of-this-hook"


class GitHubSignature(requests.auth.AuthBase):
    """Signs the exact bytes of a request's body."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        request.headers["X-Hub-Signature-256"] = signature(body.encode() if isinstance(body, str) else body, SECRET)
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):  # headers of another signature scheme
            request.headers.pop(name, None)
        return request


@schemathesis.hook
def before_call(_context: Any, _case: Any, kwargs: dict[str, Any]) -> None:
    kwargs["auth"] = GitHubSignature()
