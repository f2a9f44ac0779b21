"""Starts Python programs by forking, after importing Broadway once: the imports take most of a program's start.

``fork_server.py DESCRIPTOR`` reads requests from a socket that it inherits. Each request is a JSON document with three
file descriptors: the program's stdout, its stderr, and one to which the server writes two lines, the process id and, at
the end, the exit code, which is negative for a signal. A program dies with the server, and the server ends at the end
of its requests.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import parsers
import typer

from broadway.cli.app import app

WARM = (
    "broadway.cli.app",
    "broadway.cli.doctor",
    "broadway.cli.topology",
    "broadway.client",
    "broadway.api.__main__",
    "broadway.ingest.__main__",
    "broadway.dispatcher.__main__",
    "broadway.results.__main__",
    "broadway.notifier.__main__",
    "broadway.grader.__main__",
    "fake_containers",
    "httpcore2",  # which a client imports with its first connection, as it does the next two
    "h11",
    "truststore",
)
LARGEST = 1 << 18  # bytes of a request
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Request:
    """A program: a file, or ``-m`` and a module, with its arguments."""

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    stdin: str = os.devnull


@dataclass(frozen=True)
class Child:
    pid: int
    reply: int

    def send(self, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the test may have ended
            os.write(self.reply, f"{number}\n".encode())


def main() -> None:
    gc.disable()  # while all is imported, which stays
    for name in WARM:
        importlib.import_module(name)
    for name in WARM:
        if name.endswith(".__main__"):
            del sys.modules[name]  # each program imports its own
    parsers.build_once()
    typer.main.get_command(app)
    gc.collect()
    gc.freeze()
    gc.enable()
    end(run_to_end(serve(socket.socket(fileno=int(sys.argv[1])))))


def serve(control: socket.socket) -> Request:
    """Fork for each request; return in the new process."""
    server = os.getpid()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if isinstance(key.data, Child):
                    selector.unregister(key.fileobj)
                    _reap(key.fd, key.data)
                    continue
                message, descriptors, _, _ = socket.recv_fds(control, LARGEST, 3)
                if not message:
                    sys.exit()
                stdout, stderr, reply = descriptors
                if pid := os.fork():
                    child = Child(pid, reply)
                    child.send(pid)
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, child)
                    os.close(stdout)
                    os.close(stderr)
                    continue
                _stand_alone(server, stdout, stderr)
                os.close(reply)
                for each in list(selector.get_map().values()):
                    if isinstance(each.data, Child):
                        os.close(each.fd)
                        os.close(each.data.reply)
                control.close()
                return Request(**json.loads(message))


def _reap(pidfd: int, child: Child) -> None:
    _, status = os.waitpid(child.pid, 0)
    child.send(os.waitstatus_to_exitcode(status))
    os.close(pidfd)
    os.close(child.reply)


def _stand_alone(server: int, stdout: int, stderr: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)  # the server died before prctl
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)


def end(code: int) -> NoReturn:
    """End this process as the interpreter does, but leave its memory to the kernel.

    Clearing all modules would copy each page that the process shares with the server: half of a short program's time.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError):  # the program has closed it, or its reader has gone
            stream.flush()
    os._exit(code)


def run_to_end(request: Request) -> int:
    """Run the program in this process; return its exit code."""
    try:
        run(request)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return (ended.code or 0) & 0xFF
        print(ended.code, file=sys.stderr)
        return 1
    except Exception:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def run(request: Request) -> None:
    """Run the program in this process."""
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.directory)
    if request.stdin != os.devnull:
        os.dup2(os.open(request.stdin, os.O_RDONLY), 0)
    first, *rest = request.arguments
    if first == "-m":
        sys.path[0] = request.directory
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(first).parent)
        sys.argv = request.arguments
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    main()
