"""OpenID Connect providers: one of a package, in a process of its own, and one that lies as a test says."""

import asyncio
import contextlib
import hashlib
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import uvicorn
from harness import free_port, until
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CLIENT = "broadway"
SECRET = "a secret/of+the client"


@contextlib.asynccontextmanager
async def kept_provider() -> AsyncIterator[str]:
    """Run the provider of a package, and return its issuer."""
    issuer = f"http://localhost:{(port := free_port())}"
    command = (sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with httpx2.AsyncClient() as http:

            async def answers() -> bool:
                with contextlib.suppress(httpx2.TransportError):
                    return (await http.get(f"{issuer}/.well-known/openid-configuration")).is_success
                return False

            await until(answers)
        yield issuer
    finally:
        process.kill()
        await process.wait()


Change = Callable[[dict[str, Any]], dict[str, Any]]


def as_it_is(fields: dict[str, Any]) -> dict[str, Any]:
    return fields


@dataclass
class Provider:
    """A provider whose answers a test changes. It checks PKCE, and takes each code once."""

    port: int = field(default_factory=free_port)
    claims: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] | None = None  # claims that only the endpoint for them has
    in_token: Change = as_it_is
    in_description: Change = as_it_is
    sign: Callable[[dict[str, Any]], str] | None = None
    is_down: bool = False
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, parameters={"kid": token_urlsafe(8)}))
    asked: dict[str, int] = field(default_factory=dict)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        return f"http://localhost:{self.port}"

    def grant(self, address: str) -> str:
        """Let the person in whom a browser has been sent for; return the code."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        code = token_urlsafe(16)
        self._codes[code] = asked
        return code

    def begin(self) -> None:
        """Be an honest provider that knows nobody."""
        self.claims, self.more, self.sign, self.is_down = {}, None, None, False
        self.in_token = self.in_description = as_it_is

    def signed(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Provider"]:
        routes = [
            Route("/.well-known/openid-configuration", self._describe),
            Route("/keys", self._keys),
            Route("/token", self._token, methods=["POST"]),
            Route("/userinfo", self._userinfo),
        ]
        config = uvicorn.Config(Starlette(routes=routes), host="localhost", port=self.port, log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())  # noqa: SLF001 - `serve` takes the process's signals
        try:
            await until(lambda: server.started)
            yield self
        finally:
            server.should_exit = True
            await serving

    def _count(self, request: Request) -> Response | None:
        self.asked[request.url.path] = self.asked.get(request.url.path, 0) + 1
        return Response("<h1>Sorry</h1>", 502) if self.is_down else None

    async def _describe(self, request: Request) -> Response:
        fields = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        fields |= {"userinfo_endpoint": f"{self.issuer}/userinfo"} if self.more is not None else {}
        return self._count(request) or JSONResponse(self.in_description(fields))

    async def _keys(self, request: Request) -> Response:
        return self._count(request) or JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def _userinfo(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer access"
        return self._count(request) or JSONResponse(self.more)

    async def _token(self, request: Request) -> Response:
        if failed := self._count(request):
            return failed
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        asked = self._codes.pop(form.get("code", ""), None)
        hashed = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = urlsafe_b64encode(hashed).rstrip(b"=").decode()
        if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "1", "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        token = (self.sign or self.signed)(self.in_token(claims | self.claims))
        return JSONResponse({"token_type": "Bearer", "access_token": "access", "id_token": token})
