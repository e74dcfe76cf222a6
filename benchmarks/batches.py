"""What it costs to encode a batch for OTLP: our encoder and OpenTelemetry's, interleaved in one interpreter.

`.venv/bin/python benchmarks/batches.py`. The attributes are like those of a request, the ids and paths
of each record its own. Both encode the same batch in turn, and what they make of it is compared first.
Then: how long work with a few reads takes, as a request is, while another thread encodes batches.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from machine import describe_machine
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from otel_canonical.otel import otlp_encoder
from otel_canonical.otel.otlp_encoder import LOG_RECORDS, SPANS, BatchEncoder

#: As the batch processors of the SDK export them.
BATCH = 512
#: Of work beside an encoder: how often it is done, and its reads, each of which gives the GIL away.
WORKS, READS = 500, 6

QUERY = {
    "db.system": "sqlite",
    "db.name": "site.sqlite3",
    "db.statement": 'SELECT "item"."id", "item"."name", "item"."price" FROM "item" WHERE "item"."id" = %s',
}

#: As the event of a request with queries has them.
REQUEST = {
    "canonical.event_type": "request",
    "http.request.method": "GET",
    "url.path": "/items/1/",
    "url.scheme": "http",
    "http.response.status_code": 200,
    "canonical.duration": 0.012345,
    "http.route": "items/<int:pk>/",
    "code.function.name": "shop.views.item",
    "client.address": "127.0.0.9",
    "server.address": "127.0.0.1",
    "network.protocol.version": "1.1",
    "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "http.response.body.size": 5120,
    "canonical.time_to_first_byte": 0.011345,
    "canonical.cpu_time": 0.009876,
    "canonical.cpu_wait": 0.000012,
    "canonical.blocked": 0.002457,
    "canonical.middleware.time": 0.000512,
    "canonical.view.time": 0.004321,
    "canonical.other.time": 0.001234,
    "canonical.db.queries": 10,
    "canonical.db.time": 0.003456,
    "canonical.db.dup_queries": 10,
    "canonical.db.rows": 10,
    "gunicorn.workers.count": 4,
    "gunicorn.workers.active": 2,
    "process.pid": 4711,
    "http.request.id": "0" * 32,
}

Encode = Callable[[Sequence[Any]], Any]


def varied(attributes: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the same with what no two requests have in common."""
    own = {"http.request.id": f"{number:032x}", "url.path": f"/items/{number}/"}
    return {**attributes, **own, "canonical.cpu_time": number / 1e6}


def make_spans(name: str, kind: SpanKind, of: Callable[[int], Mapping[str, Any]]) -> Sequence[Any]:
    """Return a batch of ended spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("benchmark", "1")
    for number in range(BATCH):
        tracer.start_span(name, kind=kind, attributes=of(number)).end()
    return exporter.get_finished_spans()


def make_log_events(attributes: Mapping[str, Any]) -> Sequence[Any]:
    """Return a batch of log events."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("benchmark", "1")
    for number in range(BATCH):
        logger.emit(
            timestamp=time.time_ns(),
            body="canonical.request",
            event_name="canonical.request",
            attributes=varied(attributes, number),
        )
    return exporter.get_finished_logs()


def measure(
    encoders: Mapping[str, Encode], batch: Sequence[Any], rounds: int
) -> dict[str, list[float]]:
    """Return the µs a record of each encoder and round, by the CPU clock of this process."""
    spent: dict[str, list[float]] = {name: [] for name in encoders}
    for number in range(rounds):
        for name in random.Random(number).sample(list(encoders), len(encoders)):
            began_ns = time.process_time_ns()
            encoders[name](batch).SerializeToString()
            spent[name].append((time.process_time_ns() - began_ns) / len(batch) / 1000)
    return spent


def wait_beside(encode: Encode | None, batch: Sequence[Any], works: int) -> list[float]:
    """Return how long each piece of work took, ms, while a thread encodes the batch again and again."""
    is_done = threading.Event()

    def encode_all() -> None:
        while encode is not None and not is_done.is_set():
            encode(batch)

    took: list[float] = []
    thread = threading.Thread(target=encode_all)
    thread.start()
    with open("/dev/zero", "rb") as file:
        for _ in range(works):
            time.sleep(0.004)
            began = time.perf_counter()
            for _ in range(READS):
                os.pread(file.fileno(), 1, 0)
                sum(range(5000))
            took.append((time.perf_counter() - began) * 1000)
    is_done.set()
    thread.join()
    return took


def print_waits(kind: Any, upstream: Encode, batch: Sequence[Any]) -> None:
    """Measure work beside no encoder, OpenTelemetry's, ours without pauses, ours; print a table."""
    ours = BatchEncoder(kind, upstream, is_http=True)

    def without_pauses(batch: Sequence[Any]) -> Any:
        otlp_encoder.SLICE = len(batch) + 1
        return ours(batch)

    def with_pauses(batch: Sequence[Any]) -> Any:
        otlp_encoder.SLICE = slice_
        return ours(batch)

    slice_ = otlp_encoder.SLICE
    print("\n| beside | p50, ms | p90 | p99 |")
    print("|---|--:|--:|--:|")
    beside: dict[str, Encode | None] = {
        "nothing": None,
        "OpenTelemetry's encoder": upstream,
        "ours, a batch in one go": without_pauses,
        f"ours, {slice_} records at a time": with_pauses,
    }
    for name, encode in beside.items():
        cuts = statistics.quantiles(wait_beside(encode, batch, WORKS), n=100)
        print(f"| {name} | {cuts[49]:.2f} | {cuts[89]:.2f} | {cuts[98]:.2f} |")


def main() -> None:
    """Measure each kind of record and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="%(default)s")
    options = parser.parse_args()
    attributes = REQUEST
    kinds: list[tuple[str, Any, Encode, Sequence[Any]]] = [
        (
            f"root span, {len(attributes)} attributes",
            *(SPANS, encode_spans),
            make_spans("GET items/", SpanKind.SERVER, lambda number: varied(attributes, number)),
        ),
        (
            f"span of a query, {len(QUERY)} attributes",
            *(SPANS, encode_spans),
            make_spans("SELECT", SpanKind.CLIENT, lambda number: QUERY),
        ),
        (
            f"log event, {len(attributes)} attributes",
            *(LOG_RECORDS, encode_logs),
            make_log_events(attributes),
        ),
    ]
    print(f"{describe_machine()}; {options.rounds} rounds of {BATCH} records\n")
    print("| record | OpenTelemetry's, µs | ours, µs | ratio | middle half |")
    print("|---|--:|--:|--:|--:|")
    for name, kind, upstream, batch in kinds:
        ours = BatchEncoder(kind, upstream)
        if sorted(ours(batch).SerializeToString()) != sorted(upstream(batch).SerializeToString()):
            raise SystemExit(f"{name}: encoded differently")
        spent = measure({"theirs": upstream, "ours": ours}, batch, options.rounds)
        ratios = [own / base for own, base in zip(spent["ours"], spent["theirs"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        theirs, own = (statistics.median(spent[name]) for name in ("theirs", "ours"))
        print(f"| {name} | {theirs:.1f} | {own:.1f} | {middle:.2f} | {low:.2f}..{high:.2f} |")
    _, kind, upstream, batch = kinds[0]
    print_waits(kind, upstream, batch)


if __name__ == "__main__":
    main()
