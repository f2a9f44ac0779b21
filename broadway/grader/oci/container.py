"""One container: started by an OCI runtime on an overlay of its image, followed to its end, and removed."""

import asyncio
import contextlib
import errno
import json
import os
import select
import signal
import termios
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from broadway.grader.oci.groups import Account, Group, group, is_in, is_unified
from broadway.grader.oci.host import OF_RUNTIME, Runtime
from broadway.grader.oci.images import Image, mount_overlay
from broadway.grader.oci.spec import Place, runtime_spec
from broadway.grader.ports import Labels, Owner
from broadway.grader.sandbox import kernel, tree
from broadway.grader.sandbox.cgroups import ROOT
from broadway.grader.sandbox.output import OutputLog

KILL_GRACE = 30.0  # seconds that killed processes may take to end
_CHUNK = 64 * 1024
_OWNER = "owner.json"
_HYBRID = f"{ROOT}/unified"  # control groups of version 2 beside version 1
_IGNORED_BY_PYTHON = [signal.SIGPIPE, signal.SIGXFSZ]
_EXITED_BY_SIGNAL = 128


class StartError(Exception):
    """The runtime did not start a container; the text is the runtime's."""


@dataclass(slots=True)
class Container:
    """One stage's container. Methods that block must be called in threads, and all others in the event loop."""

    runtime: Runtime
    name: str
    image: Image
    options: Mapping[str, Any]
    seccomp: str  # the filter of system calls, in base64
    labels: Labels
    output: OutputLog
    output_limit: int
    started: asyncio.Future[int] = field(init=False)  # nanoseconds since the epoch
    ended: asyncio.Future[int] = field(init=False)  # the exit code, above 128 for signals
    created_at: float = 0.0  # on the monotonic clock; 0 until it is created
    finished_at: int = 0  # nanoseconds since the epoch
    flooded: bool = False
    _pid: int = 0  # the runtime's process
    _init: int = 0  # the container's first process
    _group: Group = field(init=False)
    _readers: dict[int, Callable[[], None]] = field(default_factory=dict)
    _writers: list[int] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _is_ours: bool = False
    _is_killed: bool = False
    _disk: int | None = None  # a descriptor of its file system for writes, whose mount is private

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._group = group(self.name)
        self.started, self.ended = self._loop.create_future(), self._loop.create_future()

    @property
    def directory(self) -> Path:
        return self.runtime.state / self.name

    def start(self) -> None:
        """Create and start the container; blocks. The calling thread must end afterwards.

        Raises:
            FileExistsError: A container of that name exists.
            UnknownUserError: The image names a user that it does not have.
            OSError: The host has no space left, or refuses.
        """
        self._create()
        self.created_at = time.monotonic()
        self._start()

    def _create(self) -> None:
        self.directory.mkdir()
        self._is_ours = True
        labels = self.labels
        owner = {"grader": labels.grader_id, "boot": labels.boot_id, "deployment": labels.deployment}
        _write(f"{self.directory}/{_OWNER}", owner)
        os.mkfifo(f"{self.directory}/pid")
        os.mkdir(f"{self.directory}/files")  # noqa: PTH102 - many times a second
        self._group.create(self.options["host_config"])

    def _start(self) -> None:
        """Start the runtime with the mounts and control group of the calling thread."""
        kernel.own_mounts()  # from now on, this thread has a umask of its own, too
        os.umask(0o022)
        if not is_unified():
            with contextlib.suppress(FileNotFoundError):
                kernel.mount(str(ROOT), _HYBRID, "", kernel.Mounting.BIND)  # crun refuses to run if it finds this mount
        files = self.directory / "files"
        self._mount(files)
        _write(f"{files}/hostname", f"{self.options['hostname']}\n")
        place = Place(files / "root", files / "hostname", self.runtime.init, self._group, self.seccomp)
        spec = runtime_spec(self.options, self.image.config, place)
        _write(f"{files}/config.json", spec)
        self._open_pipes(spec["process"]["user"])
        self._group.enter()
        self._pid = self._spawn(files)

    def follow(self) -> None:
        """Begin to follow the output, the start and the end of the container."""
        self._close_writers()
        end = os.pidfd_open(self._pid)
        self._readers[end] = partial(self._end, end)
        for descriptor, act in self._readers.items():
            self._loop.add_reader(descriptor, act)

    def kill(self) -> bool:
        """Kill the container; return False if it had ended by itself."""
        if self.ended.done():
            return False
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(self._init)
            try:
                if is_in(self._init, self.name):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    return True
            finally:
                os.close(descriptor)
        return False

    def is_full(self) -> bool:
        """Return True if its file system, apart from its mounts, is full."""
        if self._disk is None:
            return False
        found = os.fstatvfs(self._disk)
        return found.f_bavail == 0 or found.f_favail == 0

    def settle(self) -> tuple[Account, str | None]:
        """Remove the container; return its resource usage and the runtime's last error, if there is one; blocks.

        Raises:
            OSError: The container was not removed completely.
        """
        results = self._group.account(), read_error(self.directory / "log")
        self.remove()
        return results

    def close(self) -> None:
        """Stop following the container."""
        self._close_disk()
        self._close_writers()
        for descriptor in list(self._readers):
            self._stop_reading(descriptor)

    @property
    def is_removed(self) -> bool:
        """True if the container has no files and groups left."""
        return not self._is_ours

    def remove(self) -> None:
        """Kill the container's processes, and remove its files and groups; blocks.

        Raises:
            OSError: The container was not removed completely.
        """
        self._close_disk()
        if not self._is_ours:
            return
        if self._pid and not self.ended.done():
            self._group.kill()
            self._reap()
            _forget(self.name)
        self._group.remove(within=KILL_GRACE)
        _remove(self.directory)
        self._is_ours = False

    def _mount(self, files: Path) -> None:
        size = self.runtime.size
        limits = f"size={size.size},nr_inodes={size.inodes},mode=0700"
        kernel.mount("broadway-root", str(files), "tmpfs", kernel.Mounting.NODEV, limits)
        for name in ("root", "upper", "work"):
            os.mkdir(f"{files}/{name}", 0o755)  # noqa: PTH102 - many times a second
        self._disk = os.open(files, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mount_overlay(self.image.layers, files / "root", upper=files / "upper", work=files / "work")

    def _open_pipes(self, user: Mapping[str, int]) -> None:
        """Open a terminal or pipes for its output, which its user may open again, and the pipe that reports its start.

        Its input is the null device in both cases.
        """
        for reader, writers in [_terminal()] if self.options["tty"] else [_pipe(), _pipe()]:
            stream = len(self._writers) + 1
            self._readers[reader] = partial(self._read, stream, reader)
            self._writers += writers
            os.set_blocking(reader, False)
            os.fchown(writers[0], user["uid"], user["gid"])
        pid = os.open(self.directory / "pid", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._readers[pid] = partial(self._begin, pid)

    def _spawn(self, files: Path) -> int:
        place = self.directory
        return os.posix_spawn(
            self.runtime.program,
            [
                *("crun", f"--root={OF_RUNTIME}", f"--log=file:{place / 'log'}", "--log-format=json"),
                *([] if is_unified() else ["--cgroup-manager=disabled"]),
                *("run", f"--bundle={files}", f"--config={files / 'config.json'}", f"--pid-file={place / 'pid'}"),
                self.name,
            ],
            {"PATH": os.environ.get("PATH", os.defpath)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                *((os.POSIX_SPAWN_DUP2, writer, stream) for stream, writer in enumerate(self._writers, 1)),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_IGNORED_BY_PYTHON,
        )

    def _read(self, stream: int, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # no process has the terminal open any more
                raise
            data = b""
        if not data:
            self._stop_reading(descriptor)
            return
        self.output.feed(stream, data, time.time_ns())
        if self.output.total > self.output_limit and not self._is_killed:
            self.flooded = True
            self._is_killed = self.kill()

    def _begin(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._init = int(os.read(descriptor, 32))
            self._stop_reading(descriptor)
            self.started.set_result(time.time_ns())

    def _end(self, descriptor: int) -> None:
        self._stop_reading(descriptor)
        status = os.waitpid(self._pid, 0)[1]
        code = os.waitstatus_to_exitcode(status)
        self.finished_at = time.time_ns()
        self._drain()
        self.ended.set_result(code if code >= 0 else _EXITED_BY_SIGNAL - code)

    def _drain(self) -> None:
        """Read the rest of the pipes, whose writers have ended."""
        for descriptor, act in list(self._readers.items()):
            while descriptor in self._readers and self.output.total <= self.output_limit and _is_ready(descriptor):
                act()

    def _reap(self) -> None:
        deadline = time.monotonic() + KILL_GRACE
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._pid, os.WNOHANG)[0]:
                    return
                time.sleep(0.002)
                continue
            return
        raise TimeoutError

    def _stop_reading(self, descriptor: int) -> None:
        if self._readers.pop(descriptor, None):
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _close_disk(self) -> None:
        if self._disk is not None:
            os.close(self._disk)
            self._disk = None

    def _close_writers(self) -> None:
        while self._writers:
            os.close(self._writers.pop())


def _terminal() -> tuple[int, list[int]]:
    """Open a pseudo-terminal that passes output on as it is; return its end for reading, and two for writing."""
    reader, writer = os.openpty()
    attributes = termios.tcgetattr(writer)
    attributes[1] &= ~termios.OPOST  # a newline stays a newline
    termios.tcsetattr(writer, termios.TCSANOW, attributes)
    return reader, [writer, os.dup(writer)]


def _pipe() -> tuple[int, list[int]]:
    """Open a pipe; return its end for reading, and its end for writing."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    return reader, [writer]


def _write(file: str, content: object) -> None:
    """Write a new file from a text, or from any other value as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as opened:
        opened.write(text.encode())


def _is_ready(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def read_error(log: Path) -> str | None:
    """Return the last error in a runtime's log of JSON lines, or None."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("level") == "error":
                return str(entry.get("msg", ""))
    return None


def _remove(directory: Path) -> None:
    """Remove a container's directory of the state. The mounts in it ended with the container's mount namespace."""
    try:
        for name in (_OWNER, "pid", "log"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{directory}/{name}")  # noqa: PTH108 - many times a second
        for name in ("/files", ""):
            os.rmdir(f"{directory}{name}")  # noqa: PTH106 - many times a second
    except OSError:
        tree.remove_all(directory)


def _forget(name: str) -> None:
    """Remove the runtime's own state of a container, if it is still there."""
    with contextlib.suppress(OSError):
        tree.remove_all(OF_RUNTIME / name)


def owner(directory: Path) -> Owner | None:
    """Return a container's owner, or None if it is not written yet."""
    try:
        found = json.loads((directory / _OWNER).read_text())
        return Owner(str(found["boot"]), str(found["grader"]), str(found.get("deployment", "")))
    except (OSError, ValueError, KeyError):
        return None


def remove_abandoned(directory: Path) -> None:
    """Remove another grader's container, by its directory of the state; blocks.

    Raises:
        OSError: The container was not removed completely.
    """
    abandoned = group(directory.name)
    abandoned.kill()
    abandoned.remove(within=KILL_GRACE)
    _forget(directory.name)
    _remove(directory)


def run_alone(call: Callable[[], None]) -> "asyncio.Future[None]":
    """Begin a call in a thread of its own, whose namespaces end with it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(None)

    def work() -> None:
        error = None
        try:
            call()
        except Exception as raised:  # noqa: BLE001 - raised again where the future is awaited
            error = raised
        loop.call_soon_threadsafe(finish, error)

    threading.Thread(target=work, name="container", daemon=True).start()
    return done
