"""Runs a program on the fork server in place of this process: ``fork_client.py DESCRIPTOR PROGRAM ARGUMENTS...``.

It is for shells that inherit the server's socket, whose number is DESCRIPTOR. It imports little, since it starts for
every command. The program has no standard input.
"""

import json
import os
import socket
import sys


def main() -> None:
    descriptor, *arguments = sys.argv[1:]
    request = {"arguments": arguments, "environment": dict(os.environ), "directory": os.getcwd()}  # noqa: PTH109 - pathlib is a slow import
    control = socket.socket(fileno=int(descriptor))
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(control, [json.dumps(request).encode()], [1, 2, theirs.fileno()])
    with ours.makefile() as lines:
        _, code = lines  # the process id, then the exit code
    sys.exit(int(code) if int(code) >= 0 else 128 - int(code))


if __name__ == "__main__":
    main()
