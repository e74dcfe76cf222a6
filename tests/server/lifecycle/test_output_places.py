"""Where lines go when there is no such place, when it is full, and when others write there, too."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_canonical.event import logfmt
from tests.support.descriptors import NOBODY, needs_root
from tests.support.environments import INSTRUMENT
from tests.support.servers import GUNICORN, PATIENCE_S, Server, eventually, gunicorn
from tests.support.soak import some_of

VARIABLE = "OTEL_PYTHON_CANONICAL_OUTPUT"

# --- a stream that is closed at the start


@contextlib.contextmanager
def broker() -> Iterator[tuple[int, list[bytes]]]:
    """Listen, and keep all that anybody sends."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=keep, args=(connection,), daemon=True).start()

        def keep(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while chunk := connection.recv(65536):
                    received.append(chunk)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield listener.getsockname()[1], received
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


PRELOAD = ("--preload",)


def redirected(redirections: str) -> list[str]:
    """Return the command of a server that a shell starts with these redirections."""
    return ["sh", "-c", f'exec "$@" {redirections}', "sh", *INSTRUMENT, *GUNICORN]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("target", "redirections", "preload"),
    some_of(
        itertools.product(["stdout", "/dev/stdout"], [">&-", "<&- >&-"], [(), PRELOAD]),
        *(("stdout", ">&-", ()), ("stdout", "<&- >&-", PRELOAD)),
        *(("/dev/stdout", ">&-", PRELOAD), ("/dev/stdout", "<&- >&-", ())),
    ),
)
def test_nothing_is_written_when_standard_output_is_closed(
    target: str, redirections: str, preload: tuple[str, ...], tmp_path: Path
) -> None:
    """Its number goes to whatever is opened first: a broker's connection, a listener, a temporary file."""
    with (
        broker() as (port, received),
        gunicorn(
            "connects_on_import",
            tmp_path,
            *preload,
            command=redirected(redirections),
            BROKER_PORT=str(port),
            OTEL_PYTHON_CANONICAL_OUTPUT=target,
        ) as server,
    ):
        for _ in range(3):
            assert server.get("/").status == 200
        [worker] = server.workers()
        places = [f"/proc/{pid}/fd/{number}" for pid in (server.pid, worker) for number in (0, 1)]
        files = [Path(place) for place in places if os.path.isfile(place)]
        assert not [file for file in files if b"event_type" in file.read_bytes()]
    assert received == []
    said = server.stderr.read_text()
    assert said.count("was closed when the server was started") == 1
    assert (
        f"{VARIABLE}={target!r} was closed when the server was started, so lines are written "
        "nowhere; set it to the path of a file"
    ) in said
    assert "per request on stdout (closed: they go nowhere);" in said


def test_nothing_is_written_when_standard_error_is_closed(tmp_path: Path) -> None:
    """The same for the other stream; Gunicorn's log is a file."""
    log = tmp_path / "stderr.log"
    with (
        broker() as (port, received),
        gunicorn(
            "connects_on_import",
            tmp_path,
            *("--preload", "--error-logfile", str(log)),
            command=redirected("2>&-"),
            BROKER_PORT=str(port),
            OTEL_PYTHON_CANONICAL_OUTPUT="stderr",
        ) as server,
    ):
        for _ in range(3):
            assert server.get("/").status == 200
    assert received == []
    assert server.stderr.read_text().count("was closed when the server was started") == 1
    assert "event_type=" not in server.report()


def test_file_is_written_when_standard_output_is_closed(tmp_path: Path) -> None:
    """As the warning advises."""
    lines = tmp_path / "lines"
    with gunicorn(
        "plain_wsgi",
        tmp_path,
        command=redirected("<&- >&- "),
        OTEL_PYTHON_CANONICAL_OUTPUT=str(lines),
    ) as server:
        server.get("/ok/")
        eventually(lambda: lines.exists() and lines.read_text().count("\n") == 1, server.report)
    assert "was closed" not in server.report()


# --- a path that can't be used


def test_dash_is_standard_output(tmp_path: Path) -> None:
    """As in Gunicorn's own options."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    with gunicorn(
        "plain_wsgi",
        tmp_path,
        *("--pythonpath", str(Path(__file__).parents[1] / "programs")),
        cwd=cwd,
        OTEL_PYTHON_CANONICAL_OUTPUT="-",
    ) as server:
        server.ask("/ok/")
        assert "per request on stdout;" in server.report()
    assert not list(cwd.iterdir())


def test_start_does_not_wait_for_the_reader_of_a_fifo(tmp_path: Path) -> None:
    """It says what it does instead; a reload tries again."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with gunicorn("plain_wsgi", tmp_path, OTEL_PYTHON_CANONICAL_OUTPUT=str(fifo)) as server:
        server.ask("/ok/")
        server.wait_for(
            re.escape(
                f"[WARNING] {VARIABLE}='{fifo}' can't be opened (it is a FIFO that no process reads, "
                "or a socket); using the default, stdout"
            )
        )
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        before = server.workers()
        os.kill(server.pid, 1)
        eventually(lambda: not set(before) & set(server.workers()), server.report)
        eventually(server.workers, server.report)
        server.get("/ok/", X_Request_ID="to-the-fifo")
        eventually(lambda: b"req_id=to-the-fifo\n" in _read(reader), server.report)
        os.close(reader)


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except BlockingIOError:
        return b""


@needs_root
def test_link_that_another_user_made_is_not_followed(tmp_path: Path) -> None:
    """In /tmp anybody may make one, to any file that the server may write."""
    with tempfile.TemporaryDirectory(prefix="shared-") as name:
        shared = Path(name)
        shared.chmod(0o1777)
        (tmp_path / "precious").write_text("precious")
        link = shared / "lines"
        link.symlink_to(tmp_path / "precious")
        os.lchown(link, NOBODY, NOBODY)
        with gunicorn("plain_wsgi", tmp_path, OTEL_PYTHON_CANONICAL_OUTPUT=str(link)) as server:
            server.ask("/ok/")
        [warning] = re.findall(r"\[WARNING\] (.*)", server.stderr.read_text())
        assert warning == (
            f"{VARIABLE}='{link}' can't be opened ({link} is a symbolic link made by user {NOBODY}); "
            "using the default, stdout"
        )
        assert (tmp_path / "precious").read_text() == "precious"


@needs_root
def test_nothing_that_exists_becomes_the_workers(tmp_path: Path) -> None:
    """`root:adm` is how a log of the system's looks, and /dev/null belongs to all."""
    lines = tmp_path / "lines"
    lines.touch(0o640)
    os.chown(lines, 0, 4)
    null = os.stat("/dev/null")
    for target in (str(lines), "/dev/null"):
        with gunicorn(
            "plain_wsgi",
            tmp_path,
            *("--user", str(NOBODY), "--group", str(NOBODY), "--preload"),
            OTEL_PYTHON_CANONICAL_OUTPUT=target,
        ) as server:
            assert server.get("/ok/").status == 200
            if target == str(lines):
                eventually(lambda: "event_type=request" in lines.read_text(), server.report)
    found = lines.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 4, 0o640)
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid) == (null.st_uid, null.st_gid)


# --- a disk that is full


def test_device_that_is_always_full_costs_lines_only(tmp_path: Path) -> None:
    """Requests are served, workers started, the stop is heeded. A worker started later knows of the report."""
    full = os.open("/dev/full", os.O_WRONLY)
    with gunicorn("stuck", tmp_path, stdout=full, expects_report=True) as server:
        for _ in range(5):
            assert server.get("/ok/").status == 200
        [worker] = server.workers()
        assert server.send(b"GET /kills-itself/ HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        eventually(lambda: server.workers() not in ([], [worker]), server.report)
        assert server.get("/ok/").status == 200
        os.kill(server.pid, signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
    os.close(full)
    said = server.stderr.read_text()
    assert said.count("otel-canonical failed while writing a line to stdout") == 2, said
    assert "No space left on device" in said


WORKERS, ROUNDS = 4, 20


@needs_root
def test_lines_are_whole_when_a_disk_is_full_again_and_again(tmp_path: Path) -> None:
    """Four workers, twenty rounds: a line that was torn is ended by whoever writes next."""
    with tempfile.TemporaryDirectory(prefix="small-disk-") as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", name], check=True)
        try:
            fill_again_and_again(tmp_path, Path(name))
        finally:
            subprocess.run(["umount", name], check=True)


def fill_again_and_again(tmp_path: Path, disk: Path) -> None:
    """Serve from four workers while room on the disk comes and goes."""
    lines, filler = disk / "lines", disk / "filler"
    done = threading.Event()
    sent: Counter[str] = Counter()

    def ask(server: Server, client: int) -> None:
        number = 0
        while not done.is_set():
            request_id = f"client{client}-{number:05}"
            user_agent = "u" * (number * 37 % 900)
            assert server.get("/ok/", X_Request_ID=request_id, User_Agent=user_agent).status == 200
            sent[request_id] += 1
            number += 1

    with gunicorn(
        "plain_wsgi",
        tmp_path,
        workers=WORKERS,
        expects_report=True,
        OTEL_PYTHON_CANONICAL_OUTPUT=str(lines),
    ) as server:
        with filler.open("wb", buffering=0) as rest, contextlib.suppress(OSError):
            while True:
                rest.write(b"f" * 4096)
        clients = [threading.Thread(target=ask, args=(server, n)) for n in range(WORKERS)]
        for client in clients:
            client.start()
        try:
            for _ in range(ROUNDS):
                size = lines.stat().st_size
                os.truncate(filler, filler.stat().st_size - 4096)
                wanted = len(sent) + 30  # of which most have no room
                eventually(
                    lambda size=size, wanted=wanted: (
                        lines.stat().st_size > size and len(sent) > wanted
                    ),
                    server.report,
                )
        finally:
            done.set()
            for client in clients:
                client.join()
    whole, torn = [], []
    for line in lines.read_text().splitlines():
        found = logfmt.parse(line)
        # The id ends a line.
        (whole if re.search(r" req_id=client\d-\d{5}$", line) else torn).append(line)
        assert line.count("event_type=") <= 1, line
        assert found.get("req_id", "client").startswith("client"[: len(found.get("req_id", ""))])
    ids = Counter(logfmt.parse(line)["req_id"] for line in whole)
    assert set(ids.values()) == {1}
    assert ids.keys() <= sent.keys()
    assert len(whole) > ROUNDS
    assert torn  # or else nothing was tried
    assert len(torn) <= 2 * ROUNDS


# --- an application that prints


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_and_prints_are_whole_when_they_share_standard_output(
    unbuffered: str, tmp_path: Path
) -> None:
    """`print("x")` is two writes with PYTHONUNBUFFERED, and a piece of a block without."""
    received: list[bytes] = []
    reader, writer = os.pipe()

    def read_all() -> None:
        while chunk := os.read(reader, 65536):
            received.append(chunk)

    listener = threading.Thread(target=read_all)
    listener.start()
    clients, each = 4, 75
    with gunicorn(
        "prints",
        tmp_path,
        *("--error-logfile", str(tmp_path / "stderr.log")),
        workers=4,
        command=redirected("2>&1"),
        stdout=writer,
        PYTHONUNBUFFERED=unbuffered,
    ) as server:

        def ask(client: int) -> None:
            for number in range(each):
                server.get("/", X_Request_ID=f"c{client}-{number}")

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    os.close(writer)
    listener.join()
    os.close(reader)
    text = b"".join(received).decode()
    ours = [line for line in text.splitlines() if "event_type=" in line]
    for line in ours:
        assert re.match(r"(ts=\S+ )?event_type=request ", line), line
        assert re.search(r" g_pid=\d+( g_w_requests=\d+)?", line), line
    assert Counter(logfmt.parse(line)["req_id"] for line in ours) == Counter(
        f"c{client}-{number}" for client in range(clients) for number in range(each)
    )
    printed = Counter(line for line in text.splitlines() if line not in ours)
    assert {"x", "error x", "written", "in parts of a line", "{", "}"} < printed.keys()
    assert "" not in printed
