"""The file of the lines is the one that the operator means, and nobody else's becomes ours."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_canonical.event import log_files
from otel_canonical.event.log_files import OwnDescriptor, open_log_file
from tests.support.descriptors import NOBODY, connected, needs_root, soon
from tests.support.forks import quiet_fork

OTHER = 4242


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory like /tmp: everybody may make files, nobody may remove another's."""
    with tempfile.TemporaryDirectory(prefix="shared-") as name:
        Path(name).chmod(0o1777)
        yield Path(name)


def written_to(path: Path | str, owner: tuple[int, int] | None = None) -> int:
    """Write a line to a path, and return the descriptor's flags; fail if that waits."""
    fd = soon(lambda: open_log_file(str(path), owner))
    try:
        os.write(fd, b"line\n")
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
        return os.fstat(fd).st_uid
    finally:
        os.close(fd)


def test_file_is_made_and_appended_to(tmp_path: Path) -> None:
    """With the permissions that a log has."""
    path = tmp_path / "lines"
    written_to(path)
    written_to(path)
    assert path.read_text() == "line\nline\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~_umask()


def _umask() -> int:
    former = os.umask(0)
    os.umask(former)
    return former


@needs_root
def test_file_gets_the_workers_owner_when_it_is_made(tmp_path: Path) -> None:
    """A worker without privileges must be able to reopen it."""
    path = tmp_path / "lines"
    assert written_to(path, (NOBODY, NOBODY)) == NOBODY
    assert path.stat().st_gid == NOBODY


@needs_root
def test_file_keeps_its_owner_when_it_exists(tmp_path: Path) -> None:
    """`root:adm` in the log directory, somebody's file of mode 0600, /dev/null: none becomes the worker's."""
    for uid, gid in ((0, 4), (OTHER, OTHER)):
        path = tmp_path / f"lines-{uid}"
        path.touch(0o600)
        os.chown(path, uid, gid)
        assert written_to(path, (NOBODY, NOBODY)) == uid
        assert path.stat().st_gid == gid
    before = os.stat("/dev/null")
    written_to("/dev/null", (NOBODY, NOBODY))
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        before.st_uid,
        before.st_gid,
        before.st_mode,
    )


@needs_root
def test_file_behind_a_link_keeps_its_owner(tmp_path: Path) -> None:
    """A link of root's is followed, at the end of the path and within it, also to a file yet to be made."""
    (tmp_path / "real").mkdir()
    (tmp_path / "by-name").symlink_to("real")
    (tmp_path / "real/link").symlink_to("../real/../real/target")
    path = tmp_path / "by-name/link"
    assert written_to(path, (NOBODY, NOBODY)) == NOBODY
    os.chown(tmp_path / "real/target", OTHER, OTHER)
    assert written_to(path, (NOBODY, NOBODY)) == OTHER
    (tmp_path / "absolute").symlink_to(tmp_path / "by-name/link")
    assert written_to(tmp_path / "absolute") == OTHER
    assert (tmp_path / "real/target").read_text() == "line\n" * 3


@needs_root
@pytest.mark.parametrize("where", ["at the end", "within"])
def test_link_of_another_user_is_not_followed(where: str, tmp_path: Path) -> None:
    """The worker's user, or a neighbour, could have planted it in front of anybody's file."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "lines").write_text("precious\n")
    link = tmp_path / "link"
    link.symlink_to(target / "lines" if where == "at the end" else target)
    os.lchown(link, NOBODY, NOBODY)
    path = link if where == "at the end" else link / "lines"
    with pytest.raises(OSError, match=f"{link} is a symbolic link made by user {NOBODY}"):
        open_log_file(str(path), (NOBODY, NOBODY))
    assert (target / "lines").read_text() == "precious\n"


@needs_root
def test_link_of_root_is_not_followed_in_shared_directory_of_another(shared: Path) -> None:
    """As with `protected_symlinks`: there only ours, and those of the directory's owner."""
    (shared / "lines").symlink_to("/dev/null")
    written_to(shared / "lines")
    os.lchown(shared / "lines", OTHER, OTHER)
    with pytest.raises(OSError, match=f"made by user {OTHER}"):
        open_log_file(str(shared / "lines"), None)


@needs_root
@pytest.mark.parametrize("kind", ["file", "FIFO"])
def test_file_of_another_user_is_not_used_in_shared_directory(kind: str, shared: Path) -> None:
    """As with `protected_regular` and `protected_fifos`: who made it would read our lines."""
    path = shared / "lines"
    path.touch() if kind == "file" else os.mkfifo(path)
    os.chown(path, OTHER, OTHER)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match=f"user {OTHER} made it"):
        open_log_file(str(path), (NOBODY, NOBODY))
    os.close(reader)
    # The workers' user may have made it at the last start, and the directory is somebody's own.
    os.chown(path, NOBODY, NOBODY)
    if kind == "file":
        assert written_to(path, (NOBODY, NOBODY)) == NOBODY


def test_links_that_form_a_loop_are_an_error(tmp_path: Path) -> None:
    """As the kernel says it."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_log_file(str(tmp_path / "a"), None)


def test_as_many_links_are_followed_as_the_kernel_follows(tmp_path: Path) -> None:
    """Forty; one more counts as a loop."""
    (tmp_path / "link-0").write_text("")
    for number in range(1, 42):
        (tmp_path / f"link-{number}").symlink_to(f"link-{number - 1}")
    written_to(tmp_path / "link-40")
    assert (tmp_path / "link-40").read_text() == "line\n"
    for opens in (open_log_file, lambda path, owner: (tmp_path / "link-41").read_text()):
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            opens(str(tmp_path / "link-41"), None)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no such directory/lines", "No such file or directory"),
        ("directory", "Is a directory"),
        ("directory/", "Is a directory"),
        ("file/lines", "Not a directory"),
    ],
)
def test_path_that_is_none_of_a_file_is_an_error(path: str, message: str, tmp_path: Path) -> None:
    """The message is the kernel's; nothing stays open."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=message):
        open_log_file(f"{tmp_path}/{path}", None)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_fifo_without_reader_is_an_error(tmp_path: Path) -> None:
    """Opening it must not wait for one."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="a FIFO that no process reads"):
        soon(lambda: open_log_file(str(tmp_path / "fifo"), None))


def test_fifo_with_reader_is_used(tmp_path: Path) -> None:
    """And never waits when it is full."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    written_to(tmp_path / "fifo")
    assert os.read(reader, 100) == b"line\n"
    os.close(reader)


def test_terminal_does_not_become_the_servers(tmp_path: Path) -> None:
    """A session leader that opens a terminal would get its signals."""
    with connected("terminal", tmp_path) as (_, writer):
        name = os.ttyname(writer)
        if not (child := quiet_fork()):
            os.setsid()
            os.close(open_log_file(name, None))
            with contextlib.suppress(OSError):
                os.open("/dev/tty", os.O_RDONLY)
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1", "link"]
)
def test_path_may_name_a_descriptor(path: str, tmp_path: Path) -> None:
    """To open it would not work for sockets, nor for another user's pipe."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    with pytest.raises(OwnDescriptor) as found:
        open_log_file(str(tmp_path / path), None)
    assert found.value.fd == 1


@needs_root
def test_descriptor_of_another_process_is_opened(tmp_path: Path) -> None:
    """`/proc/1/fd/1` is how much is sent to a container's log."""
    with connected("pipe", tmp_path) as (reader, writer):
        if not (child := quiet_fork()):
            fd = open_log_file(f"/proc/{os.getppid()}/fd/{writer}", None)
            os.write(fd, b"from a child\n")
            os._exit(0 if not os.get_blocking(fd) and fd != writer else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(reader, 100) == b"from a child\n"


def test_file_that_comes_and_goes_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation, or another worker's reopening, may fall between the look and the opening."""
    path, real_open = tmp_path / "lines", os.open
    changes = iter([path.touch, path.unlink, path.touch])

    def open_after_change(name: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        if name == path.name:
            next(changes, lambda: None)()
        return real_open(name, flags, *args, dir_fd=dir_fd)

    monkeypatch.setattr(log_files.os, "open", open_after_change)
    written_to(path)
    assert path.read_text() == "line\n"
