"""Lines of the whole demo shop are the same whether their requests are exported or not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.demo_shop import shop
from tests.support.otlp_sink import otlp_sink
from tests.support.servers import DEMO, Line, eventually

#: What differs from one run to the next: ids, clocks, processes, and how full the pool was.
#: Of two texts that repeat equally often the slower one is the worst.
DIFFERS = re.compile(
    r"ts|db_n1\w*|db_slowest\w*|trace_id|span_id|sampled|req_id|req_host|g_\w+"
    r"|\w+_(?:time|ttfb|seen|wait|blocked)"
)

#: What there is only when there was some, which hangs on the moment.
CHANCE = ("g_backlog", "db_slowest", "resp_overlap", "gc_", "imports", "mem_growth")

#: What only a line of a site that exports something has.
TRACE = ("trace_id", "span_id", "sampled")


@pytest.fixture(autouse=True)
def _tour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DEMO))


def lines_of_shop(directory: Path, **environment: str) -> list[tuple[str, list[Line]]]:
    """Return what each request of the demo's tour was, and its lines."""
    from tour.visitor import Visitor, visit_everything  # type: ignore[import-not-found]

    directory.mkdir()
    with shop(directory, **environment) as server:
        host, port = server.address
        visitor = Visitor(host, port)
        visit_everything(visitor)
        endings = ("request", "timeout", "lost")
        eventually(
            lambda: (
                sum(line["event_type"] in endings for line in server.lines()) == len(visitor.sent)
            ),
            server.report,
        )
        lines = server.lines()
        return [
            (sent.what, [line for line in lines if line["req_id"] == sent.req_id])
            for sent in visitor.sent
            # How far it came before its client left is another matter each time.
            if "the client leaves" not in sent.note
        ]


def steady(line: Line) -> list[str]:
    """Return the keys of a line that hang neither on the export nor on how fast the machine is."""
    return [key for key in line if not key.startswith((*CHANCE, *TRACE))]


def test_lines_are_the_same_when_exported(tmp_path: Path) -> None:
    """Field by field: the same keys in the same order but for those of the trace, and the same values but for ids and clocks."""
    quiet = lines_of_shop(tmp_path / "quiet")
    with otlp_sink() as sink:
        exported = lines_of_shop(tmp_path / "exported", OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint)
    assert [what for what, _ in exported] == [what for what, _ in quiet]
    compared = 0
    for (what, unexported), (_, others) in zip(quiet, exported, strict=True):
        assert len(unexported) == len(others), what
        for one, other in zip(unexported, others, strict=True):
            # A caller's trace is named in both.
            assert steady(one) == steady(other), what
            assert other["sampled"] == "true"
            constant = [key for key in steady(one) if not DIFFERS.fullmatch(key)]
            assert {key: one[key] for key in constant} == {key: other[key] for key in constant}, (
                what
            )
            compared += len(constant)
    assert compared > 200
