"""The least that an answer to a push costs, as a program: ``bare_hook DSN PORT``.

A route of Starlette's checks the signature, decodes the body, and stores one document with the durability of Broadway's
writes.
"""

import asyncio
import hmac
import json
import sys
from hashlib import sha256
from typing import Any

import uvicorn
from pymongo import AsyncMongoClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broadway.mongo.store import DURABLE

SECRET = "a-secret-of-this-hook"  # noqa: S105 - of this measurement
UNAUTHORIZED = 401


async def main() -> None:
    """Answer deliveries until a signal."""
    dsn, port = sys.argv[1:]
    async with AsyncMongoClient[dict[str, Any]](dsn) as mongodb:
        deliveries = mongodb.get_database("bare", write_concern=DURABLE)["delivery"]

        async def deliver(request: Request) -> Response:
            body = await request.body()
            expected = hmac.new(SECRET.encode(), body, sha256).hexdigest()
            if not hmac.compare_digest(f"sha256={expected}", request.headers.get("x-hub-signature-256", "")):
                return Response(status_code=UNAUTHORIZED)
            delivery = request.headers["x-github-delivery"]
            await deliveries.insert_one({"_id": delivery, "body": body.decode(), "push": json.loads(body)})
            return JSONResponse({"id": delivery}, 202)

        app = Starlette(routes=[Route("/hook", deliver, methods=["POST"])])
        options: dict[str, Any] = {"host": "127.0.0.1", "log_level": "warning", "access_log": False}
        await uvicorn.Server(uvicorn.Config(app, port=int(port), **options)).serve()


if __name__ == "__main__":
    asyncio.run(main())
