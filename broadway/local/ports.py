"""The ports of private servers, which stay the same from one start to the next."""

import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from broadway.local.processes import free_ports
from broadway.local.secret import write

LOOPBACK = "127.0.0.1"


def kept_ports(file: Path, names: Sequence[str], say: Callable[[str], None]) -> list[int]:
    """Return a port for each name: its earlier one, or a free one at the first start or if that is in use."""
    earlier = _read(file)
    fresh = iter(free_ports(len(names)))
    ports = {}
    for name in names:
        port = earlier.get(name)
        if port is not None and not _is_free(port):
            say(f"Port {port}, which the {name} had, is in use: it gets another one.")
            port = None
        ports[name] = port or next(fresh)
    if ports != earlier:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, json.dumps(ports) + "\n")
    return list(ports.values())


def _read(file: Path) -> dict[str, int]:
    try:
        found = json.loads(file.read_text())
        return {name: port for name, port in found.items() if type(port) is int and 0 < port < 1 << 16}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_free(port: int) -> bool:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True
