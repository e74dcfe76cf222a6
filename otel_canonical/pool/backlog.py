"""The backlog: how many connections wait to be accepted, as the kernel reports it for TCP and unix sockets.

Used in the arbiter. Its own listening sockets are asked directly. Sockets that workers have opened for
themselves (`--reuse-port`) are found by their inodes among all listening sockets of the host. Linux only;
elsewhere the backlog is unknown (None), which is not the same as 0.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any

#: struct tcp_info, linux/tcp.h: of a listening socket `tcpi_unacked` is the length of its queue.
_TCP_INFO = struct.Struct("<8B5I")
_UNACKED = 8 + 4

# linux/sock_diag.h, linux/unix_diag.h, linux/netlink.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_NLM_F_DUMP = 0x300
_NLMSG_DONE = 3
_UDIAG_SHOW_RQLEN = 16
_UNIX_DIAG_RQLEN = 4
_ANY_COOKIE = 0xFFFFFFFF
_NLMSG = struct.Struct("=IHHII")
_UNIX_DIAG_REQ = struct.Struct("=BBHIIIII")
_UNIX_DIAG_MSG_SIZE = 16
_RTATTR = struct.Struct("=HH")
_RQLEN = struct.Struct("=II")

# linux/inet_diag.h: struct inet_diag_req_v2 and, of struct inet_diag_msg, what follows the addresses.
_TCP_LISTEN = 10
_INET_DIAG_REQ = struct.Struct("=BBBBI48x")
_INET_DIAG_MSG_TAIL = struct.Struct("=IIIII")
_INET_DIAG_TAIL_AT = 52
_ANSWER_SIZE = 65536


def waiting(listeners: Iterable[Any]) -> int | None:
    """Return how many connections wait at all `listeners` together.

    Args:
        listeners: Gunicorn's, or sockets.

    Returns:
        None if there is no listener, or one whose backlog is unknown.
    """
    total: int | None = None
    for listener in listeners:
        one = _waiting_at(getattr(listener, "sock", listener))
        if one is None:
            return None
        total = (total or 0) + one
    return total


def _waiting_at(listener: socket.socket) -> int | None:
    with contextlib.suppress(OSError, struct.error, AttributeError):
        if listener.family in (socket.AF_INET, socket.AF_INET6):
            info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            return int(_TCP_INFO.unpack(info)[_UNACKED])
        if listener.family == socket.AF_UNIX:
            return _waiting_at_unix(os.fstat(listener.fileno()).st_ino)
    return None


def inodes_of(listeners: Iterable[Any]) -> list[int]:
    """Return the inodes of listening sockets, by which the kernel finds them."""
    return [os.fstat(listener.fileno()).st_ino for listener in listeners]


def waiting_by_inode(inodes: Iterable[int]) -> int | None:
    """Return how many connections wait at the listening sockets with these inodes together.

    Returns:
        None if there is no such socket, or if its backlog is unknown.
    """
    wanted = set(inodes)
    found: dict[int, int] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        if not wanted <= found.keys():
            with contextlib.suppress(OSError, struct.error, AttributeError):
                found.update(_listening_on_tcp(family))
    for inode in wanted - found.keys():
        with contextlib.suppress(OSError, struct.error, AttributeError):
            if (at_unix := _waiting_at_unix(inode)) is not None:
                found[inode] = at_unix
    known = [found[inode] for inode in wanted if inode in found]
    return sum(known) if known else None


def _listening_on_tcp(family: int) -> Iterator[tuple[int, int]]:
    """Yield inode and queue of every listening socket of a family."""
    request = _INET_DIAG_REQ.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << _TCP_LISTEN)
    with _asked(request, _NLM_F_REQUEST | _NLM_F_DUMP) as netlink:
        while True:
            answer = netlink.recv(_ANSWER_SIZE)
            at = 0
            while at < len(answer):
                length, kind, _, _, _ = _NLMSG.unpack_from(answer, at)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR) or not length:
                    return
                tail_at = at + _NLMSG.size + _INET_DIAG_TAIL_AT
                _, queue, _, _, inode = _INET_DIAG_MSG_TAIL.unpack_from(answer, tail_at)
                yield inode, queue
                at += (length + 3) & ~3


@contextlib.contextmanager
def _asked(request: bytes, flags: int) -> Iterator[socket.socket]:
    """Yield a netlink socket on which the kernel answers `request`."""
    head = _NLMSG.pack(_NLMSG.size + len(request), _SOCK_DIAG_BY_FAMILY, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(0.1)
        netlink.send(head + request)
        yield netlink


def _waiting_at_unix(inode: int) -> int | None:
    # struct unix_diag_req: family, protocol, pad, states (all), inode, what to show, cookie (any).
    request = _UNIX_DIAG_REQ.pack(
        *(socket.AF_UNIX, 0, 0, _ANY_COOKIE, inode, _UDIAG_SHOW_RQLEN),
        *(_ANY_COOKIE, _ANY_COOKIE),
    )
    with _asked(request, _NLM_F_REQUEST) as netlink:
        answer = netlink.recv(4096)
    length, kind, _, _, _ = _NLMSG.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        return None
    at = _NLMSG.size + _UNIX_DIAG_MSG_SIZE
    while at + _RTATTR.size <= length:
        size, name = _RTATTR.unpack_from(answer, at)
        if name == _UNIX_DIAG_RQLEN:
            # Of a listening socket: the length of its queue, and the limit.
            return int(_RQLEN.unpack_from(answer, at + _RTATTR.size)[0])
        at += (size + 3) & ~3
    return None
