"""Chaos under load: whatever happens to the processes, what entered the application has one line."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.support.chaos import Account, Clients, Tormentor
from tests.support.otlp_sink import otlp_sink
from tests.support.servers import eventually, gunicorn
from tests.support.soak import IS_SOAK
from tests.support.worker_classes import ASGI, CLASSES

EVERY_CLASS = {"sync": ["-k", "sync"], **CLASSES}
#: `make soak` runs every class for a minute with 200 clients.
SECONDS, CLIENTS = (60, 200) if IS_SOAK else (6, 20)

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("worker_class", EVERY_CLASS if IS_SOAK else ["gthread"])
def test_each_request_that_entered_has_one_line(worker_class: str, tmp_path: Path) -> None:
    """Killed, aborted, frozen, replaced and upgraded: none is missing, none is doubled."""
    entered = tmp_path / "entered"
    entered.touch()
    seed = time.time_ns() % 1_000_000
    with (
        otlp_sink() as sink,
        gunicorn(
            "entered",
            tmp_path,
            *EVERY_CLASS[worker_class],
            *("--timeout", "10", "--graceful-timeout", "5"),
            workers=3,
            ENTERED=str(entered),
            IS_ASGI=str(int(worker_class in ASGI)),
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        ) as server,
    ):
        assert isinstance(server.address, tuple)
        clients = Clients(server.address, CLIENTS, seed)
        tormentor = Tormentor(server, tmp_path, random.Random(seed))
        clients.start()
        try:
            # A pool that has not answered yet has nothing to lose.
            eventually(lambda: clients.answered, server.report)
            tormentor.go_on(
                SECONDS,
                lambda: len(tormentor.done) > 1 and len(clients.answered) > 2 * CLIENTS,
            )
        finally:
            clients.is_over.set()
            clients.join()
        tormentor.calm_down()
    account = Account.of(server, entered, clients)
    print(f"\n{worker_class}, seed {seed}: {account.table()}\n{dict(tormentor.done)}")
    print(account.unexplained(tormentor))
    assert len(account.entered) > 2 * CLIENTS
    assert not account.missing, account.table()
    assert not account.doubled, account.table()
    assert not account.wrong_status, account.wrong_status[:5]
    # Killed behind the last byte: the line says what was answered.
    assert all(line.get("resp_status") == "200" for line in account.answered_but_lost)
    # ASGI's are closed with their last byte.
    assert worker_class not in ASGI or not account.answered_but_lost
