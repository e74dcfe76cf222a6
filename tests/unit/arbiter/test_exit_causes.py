"""ExitCauses: why real children died, or are about to."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from otel_canonical.arbiter.exit_causes import ExitCauses
from tests.support.servers import eventually


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be killed, or for a byte with its exit code."""
    code = "import sys; sys.exit(sys.stdin.buffer.read(1)[0])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def died(causes: ExitCauses, child: subprocess.Popen[bytes]) -> str:
    """Return the cause of a death, once it has happened; the child is not reaped for it."""
    eventually(lambda: causes.is_dead(child.pid), lambda: "still alive")
    return causes.cause(child.pid)


@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        ([], "unknown"),
        ([signal.SIGUSR1], "unknown"),
        ([signal.SIGTERM], "shutdown"),
        ([signal.SIGTERM, signal.SIGKILL], "shutdown"),
        ([signal.SIGKILL], "shutdown"),
    ],
)
def test_worker_that_is_not_dead_yet(
    sent: list[signal.Signals], cause: str, child: subprocess.Popen[bytes]
) -> None:
    """At the arbiter's end, on a machine so busy that what it has killed is still there a second later."""
    causes = ExitCauses()
    for number in sent:
        causes.note_signal(child.pid, number)
    assert not causes.is_dead(child.pid)
    assert causes.cause(child.pid) == cause


def test_death_by_a_signal_is_shutdown_only_if_the_arbiter_sent_it(
    child: subprocess.Popen[bytes],
) -> None:
    """Somebody else's SIGKILL is named."""
    causes = ExitCauses()
    child.kill()
    assert died(causes, child) == "SIGKILL"
    causes.note_signal(child.pid, signal.SIGKILL)
    assert causes.cause(child.pid) == "shutdown"
    causes.forget(child.pid)
    assert died(causes, child) == "SIGKILL"


def test_exit_code_is_named_unless_the_worker_was_told_to_leave(
    child: subprocess.Popen[bytes],
) -> None:
    """One that was told to, and leaves with another code, has failed."""
    causes = ExitCauses()
    assert child.stdin is not None
    child.stdin.write(b"\x07")
    child.stdin.close()
    assert died(causes, child) == "exit:7"
    causes.note_signal(child.pid, signal.SIGTERM)
    assert causes.cause(child.pid) == "exit:7"
    causes.note_status(child.pid, 0)
    assert causes.cause(child.pid) == "shutdown"
