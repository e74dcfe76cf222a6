"""The backlog of listening sockets, as the kernel reports it."""

from __future__ import annotations

import os
import socket

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
        inodes = backlog.inodes_of([tcp, tcp6, unix])
        assert [backlog.waiting_by_inode([inode]) for inode in inodes] == [3, 2, 0]
        assert backlog.waiting_by_inode(inodes) == backlog.waiting([tcp, tcp6, unix]) == 5
        for client in clients:
            client.close()
    assert backlog.waiting_by_inode(inodes) is None
    assert backlog.waiting_by_inode([]) is None


def test_backlog_is_none_when_no_socket_can_tell() -> None:
    """No listener, or one of a kind that can't tell: unknown, not 0."""
    assert backlog.waiting([]) is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        assert backlog.waiting([datagram]) is None
