"""Unpacked images: a cache on disk by digest, which graders of one host may share. Unused images are removed."""

import contextlib
import fcntl
import json
import math
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import structlog

from broadway.grader.oci.entries import LayerError
from broadway.grader.oci.layers import Room, in_root, unpack
from broadway.grader.oci.sources import Contents
from broadway.grader.oci.spec import ImageConfig
from broadway.grader.sandbox import kernel, tree

log = structlog.get_logger(__name__)

_MAX_ACCOUNT_FILE = 1024 * 1024  # bytes of a passwd or group file
_MAX_TEXT, _MAX_TEXTS = 128 * 1024, 1000  # the longest argument of a program, and the number of texts in a list
UNLIMITED = Room(2**60, 2**40)
_MIN_LAYERS = 2  # the minimum number of layers of an overlay without an upper layer

Source = Callable[[Path], AbstractContextManager[Contents]]


@dataclass(frozen=True, slots=True)
class Image:
    """An unpacked image: the directories of its layers, the highest first, and the lock that keeps them."""

    id: str
    config: ImageConfig
    layers: tuple[Path, ...]
    lock: int

    def close(self) -> None:
        os.close(self.lock)


@contextlib.contextmanager
def no_files() -> Iterator[Image]:
    """Yield an image without files, for a container of the grader's own."""
    with tempfile.TemporaryDirectory(prefix="broadway-") as empty:
        Path(empty).chmod(0o755)
        yield Image("", ImageConfig(), (Path(empty),), lock=-1)


def mount_overlay(layers: Sequence[Path], place: Path, *, upper: Path | None = None, work: Path | None = None) -> None:
    """Mount an overlay of layers, the highest first, in the calling thread's mount namespace.

    The kernel gets paths by descriptor, which are short and have no colons or commas, unlike the paths themselves.

    Raises:
        OSError: The system refuses.
    """
    with contextlib.ExitStack() as stack:

        def short(directory: Path) -> str:
            descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return f"/proc/self/fd/{descriptor}"

        options = "lowerdir=" + ":".join(map(short, layers))
        if upper and work:
            options += f",upperdir={short(upper)},workdir={short(work)}"
        kernel.mount("overlay", str(place), "overlay", options=options)


class Store:
    """The cache in one directory. Its methods block, and may be called in any thread.

    Args:
        directory: The directory, which graders of this host may share.
        room: The most that an image may take.
    """

    def __init__(self, directory: Path, room: Room = UNLIMITED) -> None:
        self.directory = directory
        self._room = room
        self._records = directory / "images"
        self._layers = directory / "layers"
        self._sizes = directory / "sizes"
        self._incoming = directory / "incoming"
        for each in (self._records, self._layers, self._sizes, self._incoming):
            each.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)

    def has(self, image_id: str) -> bool:
        """Return True if an image is here now."""
        return self._record(image_id).exists()

    def get(self, image_id: str) -> Image | None:
        """Return an image, which stays until it is closed, or None if it is not here."""
        record = self._record(image_id)
        try:
            lock = os.open(record, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if os.fstat(lock).st_nlink == 0:
                return None  # another grader has just removed it
            os.utime(record)
            kept = json.loads(record.read_bytes())
            layers = tuple(self._layers / digest for digest in reversed(kept["layers"]))
            stack.pop_all()
            return Image(image_id, ImageConfig(**kept["config"]), layers, lock)

    def add(self, image_id: str, source: Source) -> Image:
        """Unpack an image unless it is here by now; all graders of the host together unpack one image at a time.

        Args:
            image_id: The digest of the image's config.
            source: Opens the image's contents; it is called with a directory for temporary files.

        Raises:
            LayerError: The image is not well formed.
            OSError: The image cannot be written.
        """
        with self._locked():
            if found := self.get(image_id):
                return found
            self._remove_partial()
            with source(self._incoming) as contents:
                self._unpack(image_id, contents)
            if added := self.get(image_id):
                return added
        raise LayerError("it was removed at once")

    def collect(self, unused_for: float, keep_size: int | None = None) -> int:
        """Remove unused images and layers; return the number of images.

        Args:
            unused_for: The seconds after which an unused image is removed.
            keep_size: The bytes above which unused images are removed, beginning with the longest unused.
        """
        with self._locked():
            records = sorted(self._records.iterdir(), key=lambda record: record.stat().st_mtime)
            removed = sum(self._remove_if_unused(record, time.time() - unused_for) for record in records)
            for record in records:
                if keep_size is None or self._size() <= keep_size:
                    break
                removed += record.exists() and self._remove_if_unused(record, math.inf)
            kept = self._kept_layers()
            for layer in self._layers.iterdir():
                if layer.name not in kept:
                    layer.rename(self._incoming / layer.name)
                    (self._sizes / layer.name).unlink(missing_ok=True)
            self._remove_partial()
        return removed

    def _kept_layers(self) -> set[str]:
        return {layer for record in self._records.iterdir() for layer in json.loads(record.read_bytes())["layers"]}

    def _size(self) -> int:
        """Return the bytes of all layers of images."""
        return sum(map(self._size_of, self._kept_layers()))

    def _size_of(self, digest: str) -> int:
        """Return the bytes of a layer, which are measured once if an earlier version unpacked it."""
        file = self._sizes / digest
        try:
            return int(file.read_text())
        except (FileNotFoundError, ValueError):
            found = sum(os.lstat(path).st_blocks * 512 for path in (self._layers / digest).rglob("*"))
            file.write_text(str(found))
            return found

    def _unpack(self, image_id: str, image: Contents) -> None:
        digests, room = image.diff_ids, replace(self._room)
        for digest, opened in zip(digests, image.layers, strict=True):
            if not (self._layers / digest).exists():
                self._add_layer(digest, opened, room)
        config = _config(image.config.get("config"), [self._layers / digest for digest in digests])
        partial = self._incoming / "record"
        partial.write_text(json.dumps({"config": asdict(config), "layers": digests}))
        self._settle(partial, self._record(image_id))

    def _add_layer(self, digest: str, opened: Callable[[], AbstractContextManager[IO[bytes]]], room: Room) -> None:
        partial, before = self._incoming / digest, room.size
        partial.mkdir()
        partial.chmod(0o755)  # whatever the umask is
        with opened() as layer:
            found = unpack(layer, partial, room)
        if found != digest:
            raise LayerError(f"a layer has the digest {found}, it should have {digest}")
        (self._sizes / digest).write_text(str(before - room.size))
        self._settle(partial, self._layers / digest)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock for adding and removing, which all graders of this host share."""
        with (self._records.parent / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _settle(self, partial: Path, final: Path) -> None:
        """Give a file or directory its final name, once its content is on the disk."""
        descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.sync_file_system(descriptor)
        finally:
            os.close(descriptor)
        partial.rename(final)

    def _record(self, image_id: str) -> Path:
        name = image_id.removeprefix("sha256:")
        if not name.isalnum():
            raise LayerError(f"{image_id} is not a digest")
        return self._records / name

    def _remove_if_unused(self, record: Path, before: float) -> bool:
        with record.open("rb") as file:
            if record.stat().st_mtime >= before:
                return False
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False  # a grader uses it
            record.unlink()
            return True

    def _remove_partial(self) -> None:
        """Remove the partial files of graders that have died; the lock excludes running ones."""
        for each in self._incoming.iterdir():
            if each.is_dir() and not each.is_symlink():
                tree.remove_all(each)
            else:
                each.unlink()


def _config(config: object, layers: Sequence[Path]) -> ImageConfig:
    """Return the parts of an image's config that its containers need.

    Raises:
        LayerError: One of them has another type, or is too long.
    """
    given = config if isinstance(config, dict) else {}
    passwd, group = _users(layers)
    return ImageConfig(
        env=_texts(given, "Env"),
        user=_text_of(given, "User"),
        working_dir=_text_of(given, "WorkingDir"),
        entrypoint=_texts(given, "Entrypoint"),
        cmd=_texts(given, "Cmd"),
        passwd=passwd,
        group=group,
    )


def _text_of(config: Mapping[str, Any], name: str) -> str:
    found = config.get(name) or ""
    if not isinstance(found, str) or len(found) > _MAX_TEXT or "\0" in found:
        raise LayerError(f"its config's {name} is not a text of at most {_MAX_TEXT} characters")
    return found


def _texts(config: Mapping[str, Any], name: str) -> list[str]:
    found = config.get(name) or []
    if not isinstance(found, list) or len(found) > _MAX_TEXTS:
        raise LayerError(f"its config's {name} is not a list of at most {_MAX_TEXTS} texts")
    return [_text_of({name: each}, name) for each in found]


def _users(layers: Sequence[Path]) -> tuple[str, str]:
    """Return the content of an image's passwd and group files, as its containers see them."""

    def read() -> tuple[str, str]:
        return _text("/etc/passwd"), _text("/etc/group")

    if len(layers) < _MIN_LAYERS:
        return in_root(layers[0], read) if layers else ("", "")
    with tempfile.TemporaryDirectory(dir=layers[0].parent.parent / "incoming") as merged:

        def prepare() -> None:
            kernel.own_mounts()
            mount_overlay(layers[::-1], Path(merged))

        return in_root(Path(merged), read, prepare=prepare)


def _text(path: str) -> str:
    """Return the content of a small file of an image; empty if the image does not have it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return file.read(_MAX_ACCOUNT_FILE).decode(errors="replace")
