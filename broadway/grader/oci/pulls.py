"""Images from registries and archives, pulled as by an engine: one that is here is used now, and refreshed later."""

import asyncio
import errno
import hashlib
import json
import re
import time
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import structlog

from broadway.domain.assignment import is_image_name
from broadway.domain.job import FaultPhase
from broadway.grader.docker.failures import Failures
from broadway.grader.docker.images import PULLS
from broadway.grader.docker.registries import answer_in, demand_elsewhere, host_of
from broadway.grader.oci.entries import LayerError
from broadway.grader.oci.images import Source, Store
from broadway.grader.oci.names import Names
from broadway.grader.oci.places import REGISTRY
from broadway.grader.oci.skopeo import IMAGE, Skopeo, SkopeoError, TooLargeError
from broadway.grader.oci.sources import Layout
from broadway.grader.ports import ContainerError
from broadway.grader.sandbox.architectures import mismatch
from broadway.runtime.cancellation import end, finish

log = structlog.get_logger(__name__)

REFRESH_INTERVAL = 600.0  # seconds
TOO_LARGE = "it has more data than this grader takes (--images-max-size)"
OF_ARCHIVE = "the archive of the grader's images does not have it, or cannot be read; the grader's log has the reason"
_WRONG_DIGEST = re.compile(r"[Dd]igest did not match|unexpected EOF|does not match")
# The answers that another attempt does not change: the config of the assignment or of the grader has to change.
_LASTING = re.compile(
    r"manifest unknown|name unknown|denied|unauthorized|authentication required|no image found in|not found|"
    r"does not exist|no such file|no descriptor found|password file|invalid reference|no matching"
)


class Pulls:
    """An origin of images whose names are looked up by skopeo, and whose contents go into a store at once."""

    def __init__(self, skopeo: Skopeo, store: Store, *, timeout: float) -> None:
        self._skopeo = skopeo
        self._store = store
        self._timeout = timeout
        self._names = Names(store.directory, str(skopeo.place))
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._gates: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # by registry
        self._tried: dict[str, float] = {}
        self._failures = Failures()

    async def ensure(self, name: str) -> None:
        """See ``Origin``. Callers of the same image share one pull, also with other graders of this host."""
        if not is_image_name(name):
            raise ContainerError(f"image {name}: not the name of an image", phase=FaultPhase.PULL, retryable=False)
        known = self._names.get(name)
        if known is None or not self._store.has(known.image_id):
            self._failures.check(name)
            await asyncio.shield(self._begin(name))
        elif self._is_stale(name, known.asked_at):
            self._begin(name)

    async def find(self, name: str, phase: FaultPhase) -> str:
        """See ``Origin``."""
        known = self._names.get(name)
        if known is None or not self._store.has(known.image_id):
            raise ContainerError(f"image {name}: not found", phase=phase, retryable=True)  # removed since its pull
        return known.image_id

    def source(self, name: str, image_id: str) -> Source:  # noqa: ARG002 - the same for all
        """See ``Origin``; pulled images are in the store, so this one was removed at this moment."""

        def gone(_directory: Path) -> Any:
            raise OSError(errno.ENOENT, "it was removed meanwhile")

        return gone

    def collect(self) -> None:
        """See ``Origin``."""
        self._names.collect(self._store.has)

    async def close(self) -> None:
        """See ``Origin``."""
        await end(*self._pulls.values())

    def _is_stale(self, name: str, asked_at: float) -> bool:
        """Return True if the place was not asked for long, by this grader or by another one."""
        asked = time.time() - asked_at < REFRESH_INTERVAL
        tried = time.monotonic() - self._tried.get(name, -REFRESH_INTERVAL) < REFRESH_INTERVAL
        return not (asked or tried)

    def _begin(self, name: str) -> asyncio.Task[None]:
        """Return the running pull of an image, or start one."""
        if name not in self._pulls:
            self._tried[name] = time.monotonic()
            self._pulls[name] = task = asyncio.create_task(self._pull(name))
            task.add_done_callback(partial(self._pulled, name))
        return self._pulls[name]

    def _pulled(self, name: str, pull: asyncio.Task[None]) -> None:
        del self._pulls[name]
        error = None if pull.cancelled() else pull.exception()
        if isinstance(error, ContainerError):
            self._failures.note(name, error)
            log.warning("image not pulled", image=name, reason=str(error))
        elif error is None:
            self._failures.forget(name)

    async def _pull(self, name: str) -> None:
        """Pull an image.

        Raises:
            ContainerError: It cannot be had; the phase is pull.
        """
        is_of_registry = self._skopeo.place.kind == REGISTRY
        if is_of_registry and not self._skopeo.access.allow_local:
            await demand_elsewhere(name)
        registry = host_of(name) or "" if is_of_registry else ""
        try:
            async with self._gates.setdefault(registry, asyncio.Semaphore(PULLS)), asyncio.timeout(self._timeout):
                await self._obtain(name)
        except TimeoutError as error:
            raise _fault(name, f"not pulled within {self._timeout:g} s") from error
        except SkopeoError as error:
            log.warning("skopeo failed", image=name, error=str(error))
            reason = _reason(str(error), is_of_registry=is_of_registry)
            raise _fault(name, reason, is_lasting=bool(_LASTING.search(str(error)))) from error
        except TooLargeError as error:
            raise _fault(name, TOO_LARGE, is_lasting=True) from error
        except LayerError as error:
            raise _fault(name, str(error), is_lasting=True) from error
        except OSError as error:
            raise _fault(name, f"not unpacked: {error.strerror or type(error).__name__}") from error

    async def _obtain(self, name: str) -> None:
        began = time.time()
        async with self._names.pulling(name) as (directory, lock):
            known = self._names.get(name)
            if known and known.asked_at > began and self._store.has(known.image_id):
                return  # another grader of this host has pulled it
            image_id = _checked(await self._skopeo.config(name, directory, lock=lock), self._skopeo.machine)
            if not await asyncio.to_thread(self._store.has, image_id):
                await self._skopeo.copy(name, directory / "layout", lock=lock)
                image_id = await finish(asyncio.to_thread(self._add, directory / "layout"))
            self._names.put(name, image_id)

    def _add(self, directory: Path) -> str:
        """Unpack the image in a layout, whose digests are checked, and return its id; blocks."""
        layout = Layout(directory)
        image_id = layout.find(IMAGE, self._skopeo.machine)
        if image_id is None:
            raise LayerError("skopeo has copied no image")
        self._store.add(image_id, lambda _: layout.open(IMAGE, self._skopeo.machine)).close()
        return image_id


def _checked(config: bytes, machine: str) -> str:
    """Return an image's id for its config.

    Raises:
        LayerError: The config is not valid, or the image is made for another architecture.
    """
    try:
        document = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise LayerError(f"its config is not valid: {error}") from error
    found = document if isinstance(document, dict) else {}
    if problem := mismatch(f"{found.get('os') or ''}/{found.get('architecture') or ''}", machine):
        raise LayerError(problem)
    return f"sha256:{hashlib.sha256(config).hexdigest()}"


def _reason(text: str, *, is_of_registry: bool) -> str:
    """Return skopeo's reason for a course, without paths and addresses; the grader's log has all of it."""
    if _WRONG_DIGEST.search(text):
        return "a part of it does not have the content that its digest names"
    return answer_in(text) if is_of_registry else OF_ARCHIVE


def _fault(name: str, reason: str, *, is_lasting: bool = False) -> ContainerError:
    return ContainerError(f"image {name}: {reason}"[:400], phase=FaultPhase.PULL, retryable=not is_lasting)
