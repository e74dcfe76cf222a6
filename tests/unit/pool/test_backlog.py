"""The backlog of listening sockets, as the kernel reports it."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest

from otel_canonical.pool import backlog


def test_backlog_is_found_by_inode() -> None:
    """Of any family, among all listening sockets of the host; what isn't there isn't 0."""
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as tcp6,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(f"\0{os.getpid()}")
        unix.listen()
        clients = [socket.create_connection(tcp.getsockname()) for _ in range(3)]
        clients += [socket.create_connection(tcp6.getsockname()[:2]) for _ in range(2)]
        for _ in range(4):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].connect(unix.getsockname())
        inodes = backlog.inodes_of([tcp, tcp6, unix])
        assert [backlog.waiting_by_inode([inode]) for inode in inodes] == [3, 2, 4]
        assert [backlog.waiting([listener]) for listener in (tcp, tcp6, unix)] == [3, 2, 4]
        assert backlog.waiting_by_inode(inodes) == backlog.waiting([tcp, tcp6, unix]) == 9
        for client in clients:
            client.close()
    assert backlog.waiting_by_inode(inodes) is None
    assert backlog.waiting_by_inode([]) is None


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_all_listening_sockets_are_read(family: socket.AddressFamily, host: str) -> None:
    """However many answers the kernel makes of them; where they end is no error."""
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server((host, 0), family=family)) for _ in range(3)
        ]
        for count, listener in enumerate(listeners):
            for _ in range(count):
                stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
        found = dict(backlog._listening_on_tcp(family))
        assert [found[inode] for inode in backlog.inodes_of(listeners)] == [0, 1, 2]


def test_backlog_is_none_when_no_socket_can_tell() -> None:
    """No listener, or one of a kind that can't tell: unknown, not 0."""
    assert backlog.waiting([]) is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        assert backlog.waiting([datagram]) is None
