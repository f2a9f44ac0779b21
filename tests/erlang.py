"""Calls of functions in the Erlang node of a private broker.

Erlang's own client takes a hundredth of the time of ``rabbitmqctl``, which starts a node.
"""

import asyncio
import os
from pathlib import Path


async def call(pid: int, function: str) -> None:
    """Call a function in a broker's process, which must return ok: its module, name and arguments."""
    process = Path("/proc", str(pid))
    arguments = (process / "cmdline").read_text().split("\0")
    port = arguments[arguments.index("-erl_epmd_port") + 1]
    environment = dict(pair.split("=", 1) for pair in (process / "environ").read_text().split("\0") if "=" in pair)
    calling = await asyncio.create_subprocess_exec(
        *("erl_call", "-address", port, "-a", function),
        env={**os.environ, "HOME": environment["HOME"]},  # the cookie is there
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await calling.communicate()
    assert (calling.returncode, printed) == (0, b"ok"), printed.decode()
