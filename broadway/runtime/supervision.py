"""Reports to the supervisor of this process: ready, alive, and a sentence on its state.

systemd listens for units of `Type=notify`. Without a supervisor that listens, nothing is sent.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import MutableMapping

from systemd_watchdog.systemd_watchdog import WatchDog  # the package itself exports nothing explicitly

from broadway.runtime.visible import visible_line

_MINE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_PER_TIMEOUT = 3  # reports within the time after which the supervisor restarts a silent process
_AGAIN = 0.1  # seconds
_MOST = 500  # characters of a status


class _Armed:
    """The supervisor of this process; None if no supervisor listens."""

    dog: WatchDog | None = None
    channel: socket.socket | None = None


def arm(environment: MutableMapping[str, str] = os.environ) -> None:
    """Report to the supervisor that the environment names from now on, if it names one.

    Children must not report in this process's name, and crun would hand the socket to a container: the variables are
    removed from the environment.
    """
    if _Armed.channel:
        _Armed.channel.close()
    _Armed.dog = _Armed.channel = None
    if environment.get("NOTIFY_SOCKET"):
        # A report that the supervisor is too busy to take is dropped, so that the event loop never waits for it.
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        _Armed.channel = socket.socket(socket.AF_UNIX, kind)
        _Armed.dog = WatchDog(_Armed.channel)
    for name in _MINE:
        environment.pop(name, None)


def ready() -> None:
    """Report that the start is complete, and repeat that until the supervisor, which waits for it, has taken it."""
    if dog := _Armed.dog:
        try:
            dog.ready()
        except BlockingIOError:
            asyncio.get_running_loop().call_later(_AGAIN, ready)
        except OSError:  # the supervisor has gone
            return


def status(sentence: str) -> None:
    """Report a sentence for people, which `systemctl status` shows."""
    if dog := _Armed.dog:
        with contextlib.suppress(OSError):
            dog.status(visible_line(sentence)[:_MOST])


async def report_alive() -> None:
    """Report that the event loop of this process runs, in time for the supervisor's watchdog, until cancelled."""
    while dog := _Armed.dog:
        with contextlib.suppress(OSError):
            dog.notify()
        await asyncio.sleep(dog.timeout_td.total_seconds() / _PER_TIMEOUT)
