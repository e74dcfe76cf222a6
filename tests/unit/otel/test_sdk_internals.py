"""Private names of OpenTelemetry are used in four modules only, and a missing one costs one report."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

import otel_canonical
from otel_canonical.otel import (
    exporter_internals,
    instrumentation_internals,
    metric_internals,
    sdk_internals,
)

PACKAGE = Path(otel_canonical.__file__).parent

#: The modules that may use private names.
ALLOWED = {
    "otel/sdk_internals.py",
    "otel/exporter_internals.py",
    "otel/instrumentation_internals.py",
    "otel/metric_internals.py",
}

#: Where the SDK's objects are handled, so that any private attribute of another object is suspect.
SDK_SIDE = ("otel/", "reporter/", "worker/", "distro.py", "django/middleware.py")

#: Private names there that aren't OpenTelemetry's.
NOT_OPENTELEMETRY = {"os._exit"}

#: Methods that OpenTelemetry documents as the ones that a subclass defines.
HOOKS = {"_configure", "_instrument", "_uninstrument"}

PRIVATE = re.compile(r"_[a-zA-Z]\w*")
PRIVATE_MODULE = re.compile(r"opentelemetry(\.\w+)*\._\w+(\.\w+)*")


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module of the package, but for the allowed ones, by its path in it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name not in ALLOWED:
            yield name, ast.parse(path.read_text())


def private_imports(tree: ast.Module) -> Iterator[str]:
    """Yield the private names and modules of OpenTelemetry that a module imports or spells."""
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A docstring may name a module; one that is imported, or a logger's, is all of the string.
            found = [node.value] if " " not in node.value else []
        yield from (name for name in found if PRIVATE_MODULE.fullmatch(name))


def private_attributes(tree: ast.Module) -> Iterator[str]:
    """Yield the private attributes that a module reads or sets and doesn't define itself."""
    own = {
        *(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)),
        *(node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)),
        *(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)),
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) in ("self", "cls")
        ):
            own.add(node.attr)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            owner = ast.unparse(node.value)
            if owner in ("self", "cls") and node.attr in own | HOOKS:
                continue
            yield f"{owner}.{node.attr}"
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr", "setattr", "delattr")
            and isinstance(node.args[1], ast.Constant)
            and PRIVATE.fullmatch(str(node.args[1].value))
        ):
            yield ast.unparse(node)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect our reports, as if nothing had been reported yet."""
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Handler()
    logger = logging.getLogger("gunicorn.error.otel_canonical")
    logger.addHandler(handler)
    monkeypatch.setattr(sdk_internals, "_reported", set())
    monkeypatch.setattr("otel_canonical.internal_errors._last_said_monotonic", {})
    yield messages
    logger.removeHandler(handler)


def test_no_other_module_imports_or_spells_a_private_name_of_opentelemetry() -> None:
    """A logger that the arbiter filters is the exception: the arbiter imports no OpenTelemetry."""
    found = {name: list(private_imports(tree)) for name, tree in sources()}
    assert {name: names for name, names in found.items() if names} == {
        "assembly.py": ["opentelemetry.instrumentation.auto_instrumentation._load"]
    }


def test_no_other_module_uses_a_private_attribute_of_an_opentelemetry_object() -> None:
    """By reading, setting, or inheriting it."""
    found = {
        name: [one for one in private_attributes(tree) if one not in NOT_OPENTELEMETRY]
        for name, tree in sources()
        if name.startswith(SDK_SIDE)
    }
    assert len(found) > 20
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "code",
    [
        "from opentelemetry._logs import get_logger",
        "from opentelemetry.sdk.metrics._internal import MeterConfig",
        "from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY",
        "import opentelemetry.sdk._logs",
        "sys.modules['opentelemetry.exporter.otlp.proto.http._log_exporter']",
    ],
)
def test_import_of_a_private_name_is_found(code: str) -> None:
    """So that the test above can fail."""
    assert list(private_imports(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "provider._active_span_processor",
        "getattr(provider, '_tracers', {})",
        "class A(B):\n    def read(self):\n        return self._environ_token",
    ],
)
def test_use_of_a_private_attribute_is_found(code: str) -> None:
    """So that the test above can fail."""
    assert list(private_attributes(ast.parse(code)))


def test_every_function_links_to_upstream() -> None:
    """Public ones, and classes that stand for upstream's; helpers and protocols have no upstream."""
    without = {"private", "module", "report_missing", "logger_provider"}
    within = {"has_begun", "forget_exception", "abandon_request"}  # see `django_middleware`
    for module in (sdk_internals, exporter_internals, instrumentation_internals, metric_internals):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            bases = [ast.unparse(base) for base in getattr(node, "bases", ())]
            if node.name in without | within or {"Protocol", "NamedTuple"} & set(bases):
                continue
            text = ast.get_docstring(node) or ""
            assert "https://github.com/open-telemetry/opentelemetry-python" in text, node.name


def test_processors_and_exporters_of_this_sdk_are_found(reports: list[str]) -> None:
    """In a provider with queues and in one without."""
    spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    processors = [SimpleSpanProcessor(spans), BatchSpanProcessor(spans)]
    for processor in processors:
        provider.add_span_processor(processor)
    assert list(sdk_internals.span_processors(provider)) == processors
    assert sdk_internals.tracers_of(provider) == []
    tracer = provider.get_tracer("test")
    assert sdk_internals.tracers_of(provider) == [tracer]
    log_provider = LoggerProvider(shutdown_on_exit=False)
    log_processors = [SimpleLogRecordProcessor(records), BatchLogRecordProcessor(records)]
    for log_processor in log_processors:
        log_provider.add_log_record_processor(log_processor)
    for one in processors:
        assert exporter_internals.exporter_of(one) is spans
    for one in log_processors:
        assert exporter_internals.exporter_of(one) is records
    assert exporter_internals.exporter_of(SynchronousMultiSpanProcessor()) is None
    assert len(sdk_internals.BatchQueue(processors[0])) == 0
    provider.shutdown()
    log_provider.shutdown()
    assert reports == []


def test_what_a_full_queue_drops_is_told() -> None:
    """The SDK's own count of drops goes on."""
    processor = BatchSpanProcessor(
        InMemorySpanExporter(), max_queue_size=1, max_export_batch_size=1
    )
    dropped: list[int] = []
    sdk_internals.BatchQueue(processor).on_drop(dropped.append)
    processor._batch_processor._metrics.drop_items(3)
    assert dropped == [3]
    processor.shutdown()


def test_missing_name_degrades_with_one_report(
    reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked for, and however often."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    del provider._active_span_processor
    del provider._tracers
    for _ in range(3):
        assert list(sdk_internals.span_processors(provider)) == []
        assert sdk_internals.tracers_of(provider) == []
    sampler = ParentBased(ALWAYS_ON)
    del sampler._root
    assert sdk_internals.root_sampler_of(sampler) is None
    processor = SimpleLogRecordProcessor(InMemoryLogRecordExporter())
    del processor._exporter
    assert exporter_internals.exporter_of(processor) is None
    monkeypatch.delattr("opentelemetry.sdk._configuration._OTelSDKConfigurator")
    assert sdk_internals.sdk_configure() is None
    monkeypatch.setattr(instrumentation_internals, "SQL_COMMENTER", "opentelemetry.no_such")
    instrumentation_internals._query_wrapper.cache_clear()
    for _ in range(3):
        assert instrumentation_internals.query_commenter(object()) is None
    instrumentation_internals._query_wrapper.cache_clear()
    names = [re.search(r"has no `([\w.]+)`", report) for report in reports]
    assert [name[1] for name in names if name] == [
        "_active_span_processor",
        "_tracers",
        "_root",
        "_exporter",
        "_OTelSDKConfigurator",
        "opentelemetry.no_such",
    ]


def test_provider_of_another_make_has_nothing_to_report(reports: list[str]) -> None:
    """It isn't a rename if the provider was never the SDK's."""
    assert list(sdk_internals.span_processors(object())) == []
    assert reports == []
