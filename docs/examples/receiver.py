"""A receiver of callbacks: it checks each signature, and handles each event once.

    CALLBACK_SECRETS="whsec_..." python receiver.py 8080

Several secrets are separated by blanks, for the hours in which a secret is replaced. Run it behind a server with TLS.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

MAX_BODY = 20_000  # bytes; a callback has fewer
MAX_AGE = 300  # seconds; an older request may be a recorded copy
KEYS = [base64.b64decode(secret.removeprefix("whsec_")) for secret in os.environ["CALLBACK_SECRETS"].split()]

handled: set[str] = set()  # keep it in a database: an event may arrive again after a restart, for 30 days


def is_genuine(identity: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Return whether one of the signatures is right, and recent."""
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > MAX_AGE:
        return False
    content = f"{identity}.{timestamp}.".encode() + body
    expected = [base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in KEYS]
    given = [each.removeprefix("v1,") for each in signatures.split() if each.startswith("v1,")]
    return any(hmac.compare_digest(one, other) for one in expected for other in given)


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to genuine callbacks, and 401 to all other requests."""

    timeout = 10

    def do_POST(self) -> None:
        """Check a callback, and handle its event unless it was handled before."""
        body = self.rfile.read(min(int(self.headers.get("content-length") or 0), MAX_BODY))
        identity, timestamp, signatures = (
            self.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
        )
        if not is_genuine(identity, timestamp, signatures, body):
            self.answer(401)
            return
        if identity not in handled:
            handled.add(identity)
            event = json.loads(body)
            print(event["type"], json.dumps(event["data"]), flush=True)
        self.answer(204)

    def answer(self, status: int) -> None:
        """Send an answer without a body."""
        self.send_response(status)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
