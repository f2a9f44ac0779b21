"""`broadway backup` and `broadway restore`."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from broadway import __version__
from broadway.backup.manifest import BackupError, Manifest
from broadway.backup.restore import Restored, checked
from broadway.backup.restore import restore as restoring
from broadway.backup.take import take
from broadway.cli import terminal
from broadway.cli.broker_access import settings_of
from broadway.cli.common import fail
from broadway.domain.counts import plural
from broadway.local.processes import LocalError, absolute
from broadway.local.store import store
from broadway.local.up_variables import locked
from broadway.mongo.errors import StoreUnreachableError
from broadway.mongo.raw_documents import RawDocuments
from broadway.ports import StoreError


def backup(directory: Path, arguments: Sequence[str] | None, *, up: Path | None, as_json: bool) -> None:
    """Make a backup; report each collection, and print the manifest."""

    async def work() -> Manifest:
        async with _site(arguments, up) as site:
            async for done in take(site, directory, version=__version__):
                if isinstance(done, Manifest):
                    return done
                terminal.message(f"{done.place}: {plural(done.documents, 'document')}")
        raise AssertionError("a backup ends with its manifest")

    with _failures():
        manifest = asyncio.run(work())
    if as_json:
        terminal.document(manifest.model_dump(mode="json"))
    else:
        terminal.line(f"{directory}: {_contents(manifest)}, in {manifest.took:.1f} s")


def restore(directory: Path, arguments: Sequence[str] | None, *, up: Path | None, check: bool, as_json: bool) -> None:
    """Check a backup and restore it, unless it is only to be checked; report each collection."""

    async def work() -> tuple[Manifest, list[Restored]]:
        manifest, restored = await checked(directory), list[Restored]()
        if check:
            return manifest, restored
        async with _site(arguments, up) as site:
            async for done in restoring(site, directory, manifest, by=f"broadway restore on {socket.gethostname()}"):
                restored.append(done)
                left = f", {done.left_out} left out, which are newer than the rest" if done.left_out else ""
                terminal.message(f"{done.place}: {plural(done.documents, 'document')}{left}")
        return manifest, restored

    with _failures():
        manifest, restored = asyncio.run(work())
    if as_json:
        terminal.document({"backup": manifest.model_dump(mode="json"), "restored": [asdict(each) for each in restored]})
    elif check:
        terminal.line(f"{directory}: whole, {_contents(manifest)}")
    else:
        terminal.line(f"restored {sum(each.documents for each in restored)} documents; start the services")


def _contents(manifest: Manifest) -> str:
    begun = manifest.begun_at.isoformat(timespec="seconds")
    return f"{plural(manifest.documents, 'document')} of {plural(len(manifest.parts), 'collection')}, begun at {begun}"


@contextlib.asynccontextmanager
async def _site(arguments: Sequence[str] | None, up: Path | None) -> AsyncIterator[RawDocuments]:
    """Connect to the store of the settings, or run that of a `broadway up` that does not run."""
    mongo = settings_of(arguments).mongodb
    async with contextlib.AsyncExitStack() as stack:
        dsn = mongo.dsn
        if up is not None:
            home = absolute(up)
            stack.enter_context(locked(home))
            dsn = (await stack.enter_async_context(store(home / "store"))).dsn
        names = {"primary": mongo.primary, "logs": mongo.logs}
        yield await stack.enter_async_context(RawDocuments.connect(dsn, **names, server_timeout=mongo.timeout))


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (BackupError, LocalError, StoreUnreachableError, StoreError) as error:
        raise fail(str(error)) from error
