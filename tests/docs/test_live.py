"""docs/LIVE.md: every command is run as it stands, and every key of its JSON is described."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from otel_canonical.reading.live.shapes import LivePool, LiveRequest, LiveWorker
from tests.support.live import held, open_requests, otel_canonical
from tests.support.servers import gunicorn

DOCUMENT = (Path(__file__).parents[2] / "docs" / "LIVE.md").read_text()
BLOCK = re.compile(r"<!-- (live|top) -->\n```sh\n(.*?)```", re.DOTALL)
COMMANDS = [
    line
    for kind, block in BLOCK.findall(DOCUMENT)
    for line in block.splitlines()
    if kind == "live" or "--once" in line
]


def test_every_command_of_the_document_works(tmp_path: Path) -> None:
    """Against a pool with a request, its pid and its pid file in place of the document's."""
    pid_file = tmp_path / "shop.pid"
    gate = tmp_path / "gate"
    environment = {"SITE_DIRECTORY": str(tmp_path)}
    arguments = ("--pid", str(pid_file), "-k", "gthread", "--threads", "2")
    with (
        gunicorn("live", tmp_path, *arguments, **environment) as site,
        held(site, f"/sleeps/one/?for={gate}"),
    ):
        open_requests(site, 1)
        assert len(COMMANDS) >= 14
        for command in COMMANDS:
            words = shlex.split(command)
            assert words[0] == "otel-canonical"
            words = [str(site.pid) if word == "PID" else word for word in words[1:]]
            words = [str(pid_file) if word == "/run/shop.pid" else word for word in words]
            if not {str(site.pid), str(pid_file)} & set(words) and words[0] != "ps":
                # Other pools of this machine are none of the test's.
                words[1:1] = [str(site.pid)]
            done = otel_canonical(*words)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            assert done.stdout
        gate.touch()


@pytest.mark.parametrize("cls", [LiveRequest, LiveWorker])
def test_every_key_of_the_json_is_described(cls: type) -> None:
    """Of a request and of a worker."""
    names = {field.name for field in dataclasses.fields(cls)} - {"words"}
    assert {name for name in names if f"`{name}`" not in DOCUMENT} == set()


def test_every_key_of_a_pool_is_described() -> None:
    """What `as_json` makes of an empty pool."""
    pool = LivePool(1, "running", {}, None, None, True, False, [], [], {})
    assert {name for name in pool.as_json() if f"`{name}`" not in DOCUMENT} == set()
