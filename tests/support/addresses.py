"""Addresses of this machine that no other process uses, also while tests run side by side."""

from __future__ import annotations

import os
import socket


def unused_address() -> str:
    """Return `host:port` where nothing listens, for a program that cannot choose a port itself.

    The host is this process's own part of 127.0.0.0/8, so that no other process is given the same port
    between this call and its use.
    """
    pid = os.getpid()
    host = f"127.{64 | pid >> 16 & 63}.{pid >> 8 & 255}.{pid & 255}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


def listens(address: str) -> bool:
    """Return whether a program takes connections there."""
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
