"""Opens the file that lines go to, without being misled by what others have put in its place.

Lives in every process that writes lines: the arbiter opens, workers reopen after a rotation. The arbiter
may be root and the directory may belong to others. So a path is walked component by component, and what
was looked at is what is opened: each step starts from the open directory, and no symbolic link is
followed by the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat

from otel_canonical.process.descriptors import OPEN_FLAGS

#: As in Linux: more links than this are a loop.
MOST_LINKS = 40
#: A rotation may remove a file between two looks at it.
MOST_ATTEMPTS = 10

_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = re.compile(r"/proc/(\d+)(?:/task/\d+)?/fd/(\d+)")


class OwnDescriptor(Exception):
    """The path names a descriptor of this process: `/dev/stdout`, `/proc/self/fd/1`, a link to it."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.fd = fd


def open_log_file(path: str, owner: tuple[int, int] | None) -> int:
    """Open a file to append to it; make it if it does not exist.

    Args:
        path: an absolute path.
        owner: (uid, gid) that a file made here gets. One that exists keeps its owner.

    Raises:
        OwnDescriptor: the path names a descriptor of this process.
        OSError: the file can't be opened, or others could have put a link or a file of theirs there.
    """
    for _ in range(MOST_ATTEMPTS - 1):
        with contextlib.suppress(_Changed):
            return _open(path, owner)
    return _open(path, owner)


class _Changed(OSError):
    """What was looked at is no longer what is there."""


def _open(path: str, owner: tuple[int, int] | None) -> int:
    walk = _Walk(path)
    try:
        return walk.open(owner)
    finally:
        os.close(walk.directory)


class _Walk:
    """A walk along a path, from the root to the directory that its last component is in."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.directory = os.open("/", _WALK)
        #: Where the walk is, without links.
        self._where: list[str] = []
        self._left = _components(path)
        self._links = 0

    def open(self, owner: tuple[int, int] | None) -> int:
        """Walk to the end and open what is there."""
        while self._left:
            name = self._left.pop()
            if name == "..":
                self._enter(name)
                continue
            self._stop_at_own_descriptor(name)
            try:
                found = os.stat(name, dir_fd=self.directory, follow_symlinks=False)
            except FileNotFoundError:
                if self._left:
                    raise
                return self._make(name, owner)
            if stat.S_ISLNK(found.st_mode):
                fd = self._follow(name, found)
                if fd is not None:
                    return fd
            elif self._left:
                self._enter(name)
            else:
                return self._open_existing(name, os.O_NOFOLLOW, owner)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def _enter(self, name: str) -> None:
        inner = os.open(name, _WALK, dir_fd=self.directory)
        os.close(self.directory)
        self.directory = inner
        if name == "..":
            del self._where[-1:]
        else:
            self._where.append(name)

    def _path_of(self, name: str) -> str:
        return "/" + "/".join([*self._where, name])

    def _stop_at_own_descriptor(self, name: str) -> None:
        """Raise for one of this process's descriptors, also for a closed one, which has no entry."""
        open_file = _OPEN_FILE.fullmatch(self._path_of(name))
        # Not `os.getpid()`: this may be the /proc of another namespace.
        if open_file is not None and open_file[1] == os.readlink("/proc/self"):
            raise OwnDescriptor(int(open_file[2]))

    def _follow(self, name: str, link: os.stat_result) -> int | None:
        """Follow a link, by walking on along its target; return a descriptor if the kernel has to do it.

        Trusted is what root or we have made; in a directory like /tmp, as with `protected_symlinks`,
        only what we or the directory's owner have made.
        """
        here = os.fstat(self.directory)
        trusted = {0, os.geteuid()}
        if _is_shared(here):
            trusted &= {os.geteuid(), here.st_uid}
        where = self._path_of(name)
        if link.st_uid not in trusted:
            raise OSError(errno.ELOOP, f"{where} is a symbolic link made by user {link.st_uid}")
        self._links += 1
        if self._links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if _OPEN_FILE.fullmatch(where):  # of another process: there is no path in such a link
            return self._open_existing(name, 0, None)
        target = os.readlink(name, dir_fd=self.directory)
        if target.startswith("/"):
            os.close(self.directory)
            self.directory = os.open("/", _WALK)
            self._where.clear()
        self._left += _components(target)
        return None

    def _make(self, name: str, owner: tuple[int, int] | None) -> int:
        flags = OPEN_FLAGS | os.O_APPEND | os.O_CREAT | os.O_EXCL
        try:
            fd = os.open(name, flags, 0o644, dir_fd=self.directory)
        except FileExistsError as error:
            raise _Changed(*error.args) from None
        if owner is not None:
            with contextlib.suppress(OSError):
                os.fchown(fd, *owner)
        return fd

    def _open_existing(self, name: str, flags: int, owner: tuple[int, int] | None) -> int:
        try:
            fd = os.open(name, OPEN_FLAGS | os.O_APPEND | flags, dir_fd=self.directory)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOENT):
                raise _Changed(*error.args) from None
            if error.errno == errno.ENXIO:
                raise OSError(
                    errno.ENXIO, "it is a FIFO that no process reads, or a socket"
                ) from None
            raise
        found, here = os.fstat(fd), os.fstat(self.directory)
        trusted = {os.geteuid(), here.st_uid, *(owner or ())[:1]}
        if _is_shared(here) and found.st_uid not in trusted and not stat.S_ISCHR(found.st_mode):
            os.close(fd)
            raise PermissionError(
                errno.EACCES,
                f"user {found.st_uid} made it, in a directory where everybody may make files",
            )
        return fd


def _components(path: str) -> list[str]:
    """Return the components of a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _is_shared(directory: os.stat_result) -> bool:
    """Return whether everybody may make files there and nobody may remove another's, as in /tmp."""
    shared = stat.S_ISVTX | stat.S_IWOTH
    return directory.st_mode & shared == shared
