"""What `OUTPUT` names, and how it is opened: a standard stream, a descriptor, or the path of a file.

Lives in the arbiter, before the first fork.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from typing import NamedTuple

from otel_canonical.event.log_files import OwnDescriptor, open_log_file
from otel_canonical.process import descriptors
from otel_canonical.process.descriptors import NOWHERE, Outlet

STANDARD_STREAMS = {"stdout": 1, "stderr": 2}
_NAMES = {number: name for name, number in STANDARD_STREAMS.items()}
#: As in Gunicorn's own options.
_DASH = {"-": "stdout"}


class Target(NamedTuple):
    """An opened output."""

    #: `stdout`, `stderr` or what the operator wrote.
    name: str
    #: Of a file that can be opened again, after a rotation; else None.
    path: str | None
    #: The descriptor behind it that others write to, too; -1 if lines go nowhere.
    source: int
    outlet: Outlet


def open_target(target: str, owner: tuple[int, int] | None) -> Target:
    """Open what `OUTPUT` names. A standard stream that is closed is opened to nowhere.

    Args:
        target: `stdout` or `-`, `stderr`, or a path; `/dev/stdout` and its like are the streams.
        owner: (uid, gid) that a file made here gets.

    Raises:
        OSError: it can't be opened.
    """
    name = _DASH.get(target, target)
    if name in STANDARD_STREAMS:
        return _open_stream(name)
    path = os.path.abspath(target)
    try:
        outlet = open_file(path, owner)
    except OwnDescriptor as named:
        number = named.fd
    else:
        return Target(name, path, outlet.fd, outlet)
    if number in _NAMES:
        return _open_stream(_NAMES[number])
    # Python makes none that is inheritable: such a one was there when the server was started.
    if not os.get_inheritable(number):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return Target(name, None, number, descriptors.open_outlet(number))


def open_file(path: str, owner: tuple[int, int] | None) -> Outlet:
    """Open a file by its absolute path; see `open_log_file` for what is raised."""
    fd = open_log_file(path, owner)
    return Outlet(fd, os.write, functools.partial(os.close, fd))


def _open_stream(name: str) -> Target:
    number = STANDARD_STREAMS[name]
    # Where Python has no stream, its number has gone to whatever was opened first.
    if getattr(sys, f"__{name}__") is not None and not descriptors.is_listening(number):
        try:
            return Target(name, None, number, descriptors.open_outlet(number))
        except OSError:
            pass
    return Target(name, None, -1, NOWHERE)
