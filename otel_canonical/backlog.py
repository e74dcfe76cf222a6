"""How many connections wait to be accepted: asked of the kernel, for TCP and for unix sockets.

Lives wherever the listening sockets are: in the arbiter, with `--reuse-port` in each worker. Linux
only; elsewhere nobody can tell, which is not the same as 0.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any

#: struct tcp_info, linux/tcp.h: of a listening socket `tcpi_unacked` is the length of its queue.
_TCP_INFO = struct.Struct("<8B5I")
_UNACKED = 8 + 4

# linux/sock_diag.h, linux/unix_diag.h, linux/netlink.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_UDIAG_SHOW_RQLEN = 16
_UNIX_DIAG_RQLEN = 4
_ANY_COOKIE = 0xFFFFFFFF
_NLMSG = struct.Struct("=IHHII")
_UNIX_DIAG_REQ = struct.Struct("=BBHIIIII")
_UNIX_DIAG_MSG_SIZE = 16
_RTATTR = struct.Struct("=HH")
_RQLEN = struct.Struct("=II")


def waiting(listeners: Iterable[Any]) -> int | None:
    """Return the connections that wait at all `listeners` together.

    Args:
        listeners: Gunicorn's, or sockets.

    Returns:
        None if there is no listener, or one that nobody can tell of.
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


def _waiting_at_unix(inode: int) -> int | None:
    # struct unix_diag_req: family, protocol, pad, states (all), inode, what to show, cookie (any).
    request = _UNIX_DIAG_REQ.pack(
        *(socket.AF_UNIX, 0, 0, _ANY_COOKIE, inode, _UDIAG_SHOW_RQLEN),
        *(_ANY_COOKIE, _ANY_COOKIE),
    )
    head = _NLMSG.pack(_NLMSG.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(0.1)
        netlink.send(head + request)
        answer = netlink.recv(4096)
    length, kind, _, _, _ = _NLMSG.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        return None
    at = _NLMSG.size + _UNIX_DIAG_MSG_SIZE
    while at + _RTATTR.size <= length:
        size, name = _RTATTR.unpack_from(answer, at)
        if name == _UNIX_DIAG_RQLEN:
            # Of a listening socket: its queue, and the longest that may be.
            return int(_RQLEN.unpack_from(answer, at + _RTATTR.size)[0])
        at += (size + 3) & ~3
    return None
