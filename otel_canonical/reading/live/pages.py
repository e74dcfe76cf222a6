"""Finds the scoreboards of running pools through `/proc/PID/fd` and reads them.

By `pread` and never by `mmap`: touching a hole of a memfd through a mapping would allocate it, in the
server's memory. What was never used is not read at all: the scoreboard says how far each part is used.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otel_canonical.pool import layout
from otel_canonical.pool.counters import PID
from otel_canonical.pool.layout import Layout
from otel_canonical.reading.live import processes
from otel_canonical.reading.problems import NO_POOL, NOT_ALLOWED, CommandFailed

_LINK = f"/memfd:{layout.MEMFD_NAME}"


@dataclass(frozen=True, slots=True)
class Page:
    """One scoreboard, open for reading until nothing refers to it any more."""

    fd: int
    layout: Layout
    #: The arbiter's pid in its own namespace.
    arbiter: int
    is_bounded: bool
    has_queues: bool

    def __del__(self) -> None:
        os.close(self.fd)

    def read(self, at: int, size: int) -> bytes:
        """Return bytes of the scoreboard."""
        return os.pread(self.fd, size, at)

    def words(self, at: int, count: int) -> list[int]:
        """Return consecutive words."""
        return list(struct.unpack(f"={count}q", self.read(at, count * layout.WORD)))

    def head_word(self, number: int) -> int:
        """Return a word of the whole pool, by its name in `layout`."""
        return self.words(number * layout.WORD, 1)[0]

    def workers(self) -> list[int]:
        """Return the pids of the workers that have a block, in their own namespace."""
        used = min(self.head_word(layout.USED_BLOCKS), self.layout.blocks)
        pids = (
            self.words(self.layout.block_at(block) + PID * layout.WORD, 1)[0]
            for block in range(used)
        )
        return [pid for pid in pids if pid > 0]

    def text(self, at: int, size: int, generation: int) -> dict[str, Any]:
        """Return what one of two buffers holds; empty if nothing was written yet."""
        for _ in range(3):
            valid = self.head_word(generation)
            text = layout.unframed(self.read(at + (valid & 1) * size, size))
            # Two writes meanwhile may have torn it.
            with contextlib.suppress(ValueError):
                return dict(json.loads(text)) if text else {}
        return {}

    def facts(self) -> dict[str, Any]:
        """Return the arbiter's facts of the pool."""
        where = self.layout.facts_at
        return self.text(where, layout.FACTS_SIZE, layout.FACTS_GENERATION)

    def switches(self) -> dict[str, Any]:
        """Return what is switched."""
        where = self.layout.switches_at
        return self.text(where, layout.SWITCHES_SIZE, layout.SWITCHES_GENERATION)


@dataclass(slots=True)
class FoundPool:
    """A pool: its arbiter and its scoreboards.

    Attributes:
        pid: the arbiter's, as we see it.
        is_alive: False if only workers of it are left.
        pages: the one for new workers last.
        paths: of the scoreboards, below `/proc`, for who wants to open them otherwise.
        problem: why it can't be read; empty if it can.
    """

    pid: int
    is_alive: bool
    pages: list[Page] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    problem: str = ""


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose a pool."""
    parser.add_argument("pid", nargs="?", type=int, metavar="PID", help="the arbiter's process id")
    parser.add_argument("--pid-file", type=Path, metavar="FILE", help="Gunicorn's --pid file")
    parser.add_argument("--bind", metavar="ADDRESS", help="an address that the pool listens on")


def find(options: argparse.Namespace) -> list[FoundPool]:
    """Return the pools that the options choose: all that may be looked at, if they choose none.

    Raises:
        CommandFailed: there is none, or it may not be looked at.
    """
    pid = options.pid
    if options.pid_file is not None:
        try:
            pid = int(options.pid_file.read_text())
        except (OSError, ValueError) as error:
            raise CommandFailed(f"{options.pid_file} names no process: {error}", NO_POOL) from error
    if pid is not None:
        return [_find_one(pid)]
    found, closed = _find_all(processes.pids())
    if options.bind is not None:
        found = [pool for pool in found if _listens(pool, options.bind)]
    if not found:
        _raise_none(closed, f" on {options.bind}" if options.bind else "")
    return sorted(found, key=lambda pool: pool.pid)


def _raise_none(closed: list[int], where: str) -> None:
    servers = [pid for pid in closed if "gunicorn" in processes.command_of(pid)]
    if servers:
        owners = ", ".join(sorted({processes.owner_of(pid) for pid in servers}))
        raise CommandFailed(
            f"no pool{where} that you may look at; there are Gunicorns of {owners}: run this as that "
            "user or as root",
            NOT_ALLOWED,
        )
    raise CommandFailed(
        f"no pool{where} found; Gunicorn must run with otel-canonical, in this container or pid "
        "namespace. If its log says that the kernel refuses a memfd, it can't be seen",
        NO_POOL,
    )


def _find_one(pid: int) -> FoundPool:
    if processes.state_of(pid) in processes.DEAD:
        raise CommandFailed(f"there is no process {pid}", NO_POOL)
    found, closed = _find_all([pid, processes.parent_of(pid)])
    for pool in found:
        if pid == pool.pid or processes.parent_of(pid) == pool.pid or not pool.is_alive:
            return pool
    if pid in closed:
        raise CommandFailed(
            f"process {pid} belongs to {processes.owner_of(pid)} and is closed to you: run this as "
            "that user or as root",
            NOT_ALLOWED,
        )
    raise CommandFailed(
        f"process {pid} shows no pool: it is no Gunicorn with otel-canonical, or the kernel refuses "
        "it a memfd (then its log says so)",
        NO_POOL,
    )


def _find_all(candidates: Iterable[int]) -> tuple[list[FoundPool], list[int]]:
    """Return the pools of processes, and the processes that may not be looked at."""
    closed: list[int] = []
    #: By inode: the paths of a scoreboard, by the processes that have it open.
    holders: dict[int, dict[int, Path]] = {}
    for pid in candidates:
        paths = _scoreboards_of(pid)
        if paths is None:
            closed.append(pid)
        for path in paths or ():
            with contextlib.suppress(OSError):
                holders.setdefault(os.stat(path).st_ino, {})[pid] = path
    found: dict[int, FoundPool] = {}
    for inode in sorted(holders):
        _add(found, holders[inode])
    return list(found.values()), closed


def _scoreboards_of(pid: int) -> list[Path] | None:
    """Return the scoreboards that a process has open; None if it may not be looked at."""
    directory = processes.PROC / str(pid) / "fd"
    found: list[Path] = []
    try:
        # To look at the descriptors of all processes would take long.
        if "py" in os.path.basename(os.readlink(processes.PROC / str(pid) / "exe")):
            for name in os.listdir(directory):
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(directory / name).startswith(_LINK):
                        found.append(directory / name)
    except PermissionError:
        return None
    except OSError:
        return []  # it has left meanwhile
    return found


def _add(found: dict[int, FoundPool], holders: dict[int, Path]) -> None:
    """Add the scoreboard that processes have open to the pool that it belongs to."""
    with contextlib.suppress(OSError):
        fd = os.open(next(iter(holders.values())), os.O_RDONLY | os.O_CLOEXEC)
        head = os.pread(fd, layout.HEAD_SIZE, 0)
        if len(head) < layout.HEAD_SIZE:
            os.close(fd)
            return
        magic, version, by = layout.IDENTITY.unpack_from(head)
        inner, blocks, slots, is_bounded, has_queues = layout.GEOMETRY.unpack_from(
            head, layout.IDENTITY.size
        )
        by_inner = {pid: holder for holder in holders for pid in _innermost(holder)}
        if (magic, version) != (layout.MAGIC, layout.VERSION):
            os.close(fd)
            name = by.rstrip(b"\0").decode("ascii", "replace")
            if inner in by_inner:
                pool = found.setdefault(by_inner[inner], FoundPool(by_inner[inner], True))
                pool.problem = (
                    f"pool {pool.pid} runs otel-canonical {name or '(unknown)'}, whose scoreboard has "
                    f"layout {version}; this command reads layout {layout.VERSION}: use that version's "
                    "command"
                )
            return
        page = Page(fd, layout.layout_of(blocks, slots), inner, bool(is_bounded), bool(has_queues))
        # Others may have it open: other commands like this one, children of workers.
        own = [by_inner[pid] for pid in (inner, *page.workers()) if pid in by_inner]
        if own:
            pool = found.setdefault(own[0], FoundPool(own[0], inner in by_inner))
            pool.pages.append(page)
            pool.paths.append(holders[own[0]])


def _innermost(pid: int) -> list[int]:
    """Return the pid that a process has in its own namespace; empty if it is gone."""
    return processes.namespaced_pids(pid)[-1:]


def _listens(pool: FoundPool, bind: str) -> bool:
    return any(
        bind in (address, address.partition("://")[2])
        for page in pool.pages
        for address in page.facts().get("bind", ())
    )


def readable(pools: list[FoundPool]) -> list[FoundPool]:
    """Return the pools that can be read.

    Raises:
        CommandFailed: there is none; the message says why.
    """
    if pools and all(pool.problem for pool in pools):
        raise CommandFailed("; ".join(pool.problem for pool in pools), NO_POOL)
    return [pool for pool in pools if not pool.problem]


def one(options: argparse.Namespace) -> FoundPool:
    """Return the one pool that the options choose.

    Raises:
        CommandFailed: there is none, or several.
    """
    pools = readable(find(options))
    if len(pools) > 1:
        listed = ", ".join(str(pool.pid) for pool in pools)
        raise CommandFailed(f"there are several pools; name one by its pid: {listed}")
    return pools[0]
