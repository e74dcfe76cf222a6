"""CallCounter: which spans count as calls, and under which name."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator, Mapping

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from otel_canonical.otel import call_counter
from otel_canonical.otel.call_counter import CallCounter
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.otel.root_span import SCOPE_KEY
from otel_canonical.otel.sampler import CountingSampler
from otel_canonical.otel.sdk import count_clients
from otel_canonical.otel.uncounted import OURS, UncountedTracer
from otel_canonical.request.scope import RequestScope


@pytest.fixture(params=[ALWAYS_ON, ALWAYS_OFF, None], ids=["sampled", "unsampled", "no exporter"])
def counter(request: pytest.FixtureRequest) -> CallCounter:
    """A processor, whatever is exported."""
    request.node.sampler = request.param
    return CallCounter()


@pytest.fixture
def tracer(request: pytest.FixtureRequest, counter: CallCounter) -> Tracer:
    """A tracer of a provider as a worker has it."""
    sampler: Sampler | None = request.node.sampler
    provider = TracerProvider(sampler=CountingSampler(sampler), shutdown_on_exit=False)
    provider.add_span_processor(counter)
    return provider.get_tracer("test")


@pytest.fixture
def scope() -> Iterator[RequestScope]:
    """The request that the test's code runs for."""
    opened = RequestScope("GET", "/", {})
    RootFactory(None, str).open(opened, "1" * 48)
    yield opened
    opened.root.detach()


def call(tracer: Tracer, attributes: Mapping[str, str], kind: SpanKind = SpanKind.CLIENT) -> None:
    """Make one call."""
    with tracer.start_as_current_span("call", kind=kind, attributes=attributes):
        pass


@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        ({"http.request.method": "GET"}, "http"),
        ({"http.method": "GET"}, "http"),
        ({"db.system.name": "redis"}, "redis"),
        ({"http.request.method": "GET", "db.system": "elasticsearch"}, "elasticsearch"),
        ({"db.system": "aws.dynamodb"}, "aws_dynamodb"),
        ({"messaging.system": "kafka"}, "kafka"),
        ({"messaging.system": "AWS SQS!"}, "aws_sqs"),
        ({"messaging.system": "?"}, "other"),
        ({"rpc.system": "grpc"}, "grpc"),
        ({"rpc.system.name": "aws-api"}, "aws_api"),
    ],
)
def test_call_is_counted_under_its_system(
    tracer: Tracer, scope: RequestScope, attributes: Mapping[str, str], key: str
) -> None:
    """A CLIENT span is one call to what its attributes name, in a key that can be written."""
    call(tracer, attributes)
    assert scope.calls is not None
    assert {system: tally.count for system, tally in scope.calls.items()} == {key: 1}
    assert scope.queries is None


@pytest.mark.parametrize("system", ["postgresql", "mysql", "sqlite", "oracle.db", "other_sql"])
@pytest.mark.parametrize("name", ["db.system", "db.system.name"])
def test_query_is_counted_when_database_speaks_sql(
    tracer: Tracer, scope: RequestScope, name: str, system: str
) -> None:
    """Every SQL database goes into `db_*`, with its text under either generation of names."""
    for text in ("db.query.text", "db.statement"):
        call(tracer, {name: system, text: "SELECT 1"})
    assert scope.queries is not None
    assert (scope.queries.count, scope.queries.duplicates()[0]) == (2, 2)
    assert scope.calls is None


def test_producer_is_counted_and_other_kinds_are_not(tracer: Tracer, scope: RequestScope) -> None:
    """A message sent is a call; what the app does itself, or is asked to do, isn't."""
    for kind in SpanKind:
        call(tracer, {"messaging.system": "kafka"}, kind)
    assert scope.calls is not None
    assert scope.calls["kafka"].count == 2  # CLIENT and PRODUCER


def test_call_is_not_counted_when_it_names_no_system(tracer: Tracer, scope: RequestScope) -> None:
    """A CLIENT span that says nothing of where it went."""
    call(tracer, {"what": "ever"})
    assert scope.calls is None


def test_error_is_counted_when_call_failed(tracer: Tracer, scope: RequestScope) -> None:
    """The span's own status says so, set by its instrumentation."""
    for status in (StatusCode.ERROR, StatusCode.OK, StatusCode.UNSET):
        span = tracer.start_span("call", kind=SpanKind.CLIENT, attributes={"db.system": "redis"})
        span.set_status(status)
        span.end()
    assert scope.calls is not None
    assert (scope.calls["redis"].count, scope.calls["redis"].errors) == (3, 1)


def test_time_is_spans_own(tracer: Tracer, scope: RequestScope) -> None:
    """As long as the span says it took, though that be over before or after it."""
    span = tracer.start_span(
        "call", kind=SpanKind.CLIENT, attributes={"db.system": "redis"}, start_time=1_000
    )
    span.end(end_time=8_000)
    assert scope.calls is not None
    assert scope.calls["redis"].elapsed_ns == 7_000


def test_query_is_counted_once_when_orm_and_driver_are_instrumented(
    tracer: Tracer, scope: RequestScope
) -> None:
    """SQLAlchemy's span with the driver's inside is one query; a call by another system is one more."""
    with tracer.start_as_current_span(
        "orm", kind=SpanKind.CLIENT, attributes={"db.system": "postgresql"}
    ):
        call(tracer, {"db.system.name": "postgresql"})
        call(tracer, {"http.request.method": "GET"})
    call(tracer, {"db.system": "postgresql"})
    assert scope.queries is not None
    assert scope.queries.count == 2
    assert scope.calls is not None
    assert scope.calls["http"].count == 1


def test_call_is_not_counted_again_when_django_counts_it(
    tracer: Tracer, scope: RequestScope
) -> None:
    """A driver's spans of Django's connections carry a mark; inside the next call it is gone."""
    call(UncountedTracer(tracer), {"db.system": "postgresql"})
    with UncountedTracer(tracer).start_as_current_span("query", kind=SpanKind.CLIENT):
        pass
    assert scope.queries is None
    call(tracer, {"db.system": "postgresql"})
    assert scope.queries is not None
    assert scope.queries.count == 1


def test_span_of_ours_is_no_call(counter: CallCounter, scope: RequestScope) -> None:
    """Spans of Django's queries are made by us, and counted where they are made."""
    provider = TracerProvider(sampler=CountingSampler(ALWAYS_ON), shutdown_on_exit=False)
    provider.add_span_processor(counter)
    call(provider.get_tracer(OURS), {"db.system.name": "postgresql"})
    assert scope.queries is None


def test_call_is_counted_in_threads_that_carry_context(tracer: Tracer, scope: RequestScope) -> None:
    """A call is counted for the request whose context it was made in, and for none elsewhere."""
    context = contextvars.copy_context()
    for run in (context.run, lambda function: contextvars.Context().run(function)):
        thread = threading.Thread(target=run, args=(lambda: call(tracer, {"db.system": "redis"}),))
        thread.start()
        thread.join()
    assert scope.calls is not None
    assert scope.calls["redis"].count == 1


def test_call_is_not_counted_when_request_ends_before_it(
    tracer: Tracer, scope: RequestScope, counter: CallCounter
) -> None:
    """What was left behind writes into no finished request, and nothing of it stays."""
    span = tracer.start_span("call", kind=SpanKind.CLIENT, attributes={"db.system": "redis"})
    scope.is_open = False
    span.end()
    assert scope.calls is None
    assert counter._calls == {}


def test_memory_is_bounded_when_spans_never_end(
    tracer: Tracer, scope: RequestScope, counter: CallCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans that never end are forgotten, the oldest first."""
    monkeypatch.setattr(call_counter, "MOST_OPEN_CALLS", 10)
    spans = [
        tracer.start_span("call", kind=SpanKind.CLIENT, attributes={"db.system": "redis"})
        for _ in range(50)
    ]
    assert len(counter._calls) == 10
    for span in spans:
        span.end()
    assert scope.calls is not None
    assert scope.calls["redis"].count == 10


def test_nothing_is_made_outside_a_request_when_nothing_is_exported(tracer: Tracer) -> None:
    """A call of a management command or a thread is the user's sampler's alone."""
    assert otel_context.get_value(SCOPE_KEY) is None
    span = tracer.start_span("call", kind=SpanKind.CLIENT, attributes={"db.system": "redis"})
    assert span.is_recording() == span.get_span_context().trace_flags.sampled
    span.end()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("opentelemetry.instrumentation.celery", "celery"),
        ("opentelemetry.instrumentation.redis", "redis"),
        ("opentelemetry.instrumentation.httpx", "http"),
        ("opentelemetry.instrumentation.kafka", "kafka"),
        ("somebody.else", None),
    ],
)
def test_call_is_counted_by_its_instrumentation_when_the_span_names_no_system(
    counter: CallCounter, request: pytest.FixtureRequest, scope: RequestScope, name: str, key: str
) -> None:
    """A RedisCluster's spans, and Celery's, say nowhere what is called."""
    provider = TracerProvider(sampler=CountingSampler(request.node.sampler), shutdown_on_exit=False)
    provider.add_span_processor(counter)
    call(provider.get_tracer(name), {}, SpanKind.PRODUCER)
    assert list(scope.calls or ()) == ([key] if key else [])


def test_empty_pipeline_is_no_call(tracer: Tracer, scope: RequestScope) -> None:
    """Nothing is sent."""
    with tracer.start_as_current_span("", kind=SpanKind.CLIENT) as span:
        span.set_attributes({"db.system": "redis", "db.redis.pipeline_length": 0})
    with tracer.start_as_current_span("", kind=SpanKind.CLIENT) as span:
        span.set_attributes({"db.system": "redis", "db.redis.pipeline_length": 2})
    assert scope.calls is not None
    assert scope.calls["redis"].count == 1


def test_span_of_a_client_library_is_a_call_whatever_its_kind(
    counter: CallCounter, request: pytest.FixtureRequest, scope: RequestScope
) -> None:
    """Elasticsearch's client makes its own, INTERNAL, and says what it calls later."""
    sampler = CountingSampler(request.node.sampler)
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(counter)
    count_clients(provider, sampler)
    with provider.get_tracer("elasticsearch-api").start_as_current_span("search") as span:
        span.set_attribute("http.request.method", "POST")
        span.set_attribute("db.system.name", "elasticsearch")
        with provider.get_tracer("urllib3").start_as_current_span(
            "POST", kind=SpanKind.CLIENT
        ) as inner:
            inner.set_attribute("http.request.method", "POST")
    with provider.get_tracer("app").start_as_current_span("work"):
        pass
    assert {system: tally.count for system, tally in (scope.calls or {}).items()} == {
        "elasticsearch": 1
    }
