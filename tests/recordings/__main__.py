"""Record this version, with its own broker and store."""

import asyncio
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import structlog
from harness import Place
from recordings.record import record, served
from recordings.recording import DATA

from broadway.local.broker import broker
from broadway.local.store import store


async def main(name: str) -> None:
    """Add the recording ``name``, such as ``002-1a2b3c4``."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        async with broker(directory / "broker") as node, store(directory / "store") as server:
            place = Place(node.amqp_url, server.dsn, "recorded")
            made = await record(place, directory, node, version=name.rpartition("-")[2])
            async with served(made.documents, replace(place, name="restored")) as service:
                made = replace(made, answers=service.answers, openapi=service.openapi)
    made.save(DATA / name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recordings NNN-VERSION")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    asyncio.run(main(sys.argv[1]))
