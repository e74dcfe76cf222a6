"""Starts a command as systemd starts a service that it listens for: `... tcp,unix:/path command...`."""

from __future__ import annotations

import os
import socket
import sys

FIRST = 3


def listen(address):
    if address == "tcp":
        return socket.create_server(("127.0.0.1", 0))
    if address == "tcp6":
        return socket.create_server(("::1", 0), family=socket.AF_INET6)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(address.removeprefix("unix:"))
    unix.listen()
    return unix


def main():
    sockets = [listen(address) for address in sys.argv[1].split(",")]
    # First out of the way of the numbers that they shall have.
    moved = [os.dup2(one.fileno(), 100 + n) for n, one in enumerate(sockets)]
    for n, fd in enumerate(moved):
        os.dup2(fd, FIRST + n, inheritable=True)
    os.environ["LISTEN_FDS"] = str(len(sockets))
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.closerange(FIRST + len(sockets), 200)
    os.execv(sys.argv[2], sys.argv[2:])


main()
