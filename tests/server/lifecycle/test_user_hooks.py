"""The user's own Gunicorn hooks run as often as without us, and what they set is on the line."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environments import INSTRUMENT
from tests.support.operating import stop_politely
from tests.support.servers import GUNICORN, PROGRAMS, Server, eventually, gunicorn


class Hooked:
    """A server on `programs/user_hooks.py`, and the names that its hooks have noted."""

    def __init__(self, server: Server, notes: Path) -> None:
        self.server = server
        self._notes = notes

    def noted(self) -> Counter[str]:
        """Return how often each hook ran."""
        return Counter(self._notes.read_text().split() if self._notes.exists() else [])

    def wait_for_note(self, name: str, count: int = 1) -> None:
        """Wait until a hook has run so many times."""
        eventually(
            lambda: self.noted()[name] >= count,
            lambda: f"{name} not noted: {self.noted()}\n{self.server.report()}",
        )


@contextlib.contextmanager
def hooked(directory: Path, command: list[str], **environment: str) -> Iterator[Hooked]:
    """Start `plain_wsgi` under a configuration that defines every hook."""
    notes = directory / "notes"
    with gunicorn(
        "plain_wsgi",
        directory,
        *("-c", str(PROGRAMS / "user_hooks.py")),
        command=command,
        HOOKS_LOG=str(notes),
        **environment,
    ) as server:
        yield Hooked(server, notes)


def live_through_every_hook(site: Hooked) -> None:
    """Take a server through a whole life, so that each hook has its reason to run."""
    server = site.server

    def ask(count: int) -> None:
        server.get("/ok/")
        # The answer is out before the last hook has run; a signal in between would cost that.
        site.wait_for_note("post_request", count)

    ask(1)
    [worker] = server.workers()
    os.kill(worker, signal.SIGQUIT)
    site.wait_for_note("child_exit", 1)
    site.wait_for_note("post_worker_init", 2)
    [worker] = server.workers()
    os.kill(worker, signal.SIGABRT)
    site.wait_for_note("child_exit", 2)
    site.wait_for_note("post_worker_init", 3)
    ask(2)
    os.kill(server.pid, signal.SIGHUP)
    site.wait_for_note("child_exit", 3)
    site.wait_for_note("post_worker_init", 4)
    ask(3)
    stop_politely(server)


@pytest.fixture(scope="module")
def life_without_us(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often each hook runs in a plain Gunicorn."""
    with hooked(tmp_path_factory.mktemp("plain"), GUNICORN) as site:
        live_through_every_hook(site)
    assert len(site.noted()) == 14, f"a hook was not reached: {site.noted()}"
    return site.noted()


@pytest.mark.parametrize(
    ("command", "star_import"),
    [
        (GUNICORN, "before"),
        (GUNICORN, "after"),
        ([*INSTRUMENT, *GUNICORN], ""),
        ([*INSTRUMENT, *GUNICORN], "before"),
    ],
    ids=["import-first", "import-last", "instrument", "both"],
)
def test_users_hooks_run_as_often_as_without_us(
    command: list[str], star_import: str, life_without_us: Counter[str], tmp_path: Path
) -> None:
    """Each hook of the user's runs, once per occasion, whichever way we came in."""
    with hooked(tmp_path, command, STAR_IMPORT=star_import) as site:
        live_through_every_hook(site)
        lines = site.server.lines()
    assert site.noted() == life_without_us
    assert [line["resp_status"] for line in lines] == ["200"] * 3


@pytest.mark.parametrize("parameters", ["2", "3", "4"])
def test_facts_of_users_hooks_are_on_line_when_post_request_takes(
    parameters: str, tmp_path: Path
) -> None:
    """Two, three or four parameters: what the hooks set is on the line, and a raise costs no line."""
    with hooked(tmp_path, [*INSTRUMENT, *GUNICORN], POST_REQUEST=parameters) as site:
        paths = ("/ok/", "/pre-request-raises/", "/post-request-raises/", "/ok/")
        statuses = [site.server.get(path).status for path in paths]
        lines = site.server.wait_for_lines(4)
        stop_politely(site.server)
        assert len(site.server.lines()) == 4
    assert statuses == [200, 500, 404, 200]
    assert [line["resp_status"] for line in lines] == ["200", "500", "404", "200"]
    assert [line["app_before"] for line in lines] == list(paths)
    assert [line["app_after"] for line in lines] == list(paths)
    assert [line.get("exc_msg") for line in lines] == [None, "in pre_request", None, None]
    expected = ["200", None, None, "200"] if parameters == "4" else [None] * 4
    assert [line.get("app_status") for line in lines] == expected
