"""The private names of OpenTelemetry's exporters and of what makes them, each behind one function.

The same rules as in `sdk_internals`: each function links to the upstream code and says what is lost when
upstream renames it; that is reported once, and requests and their lines go on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from otel_canonical import otel_config
from otel_canonical.otel.encoded_ahead import EncodeAhead
from otel_canonical.otel.sdk_internals import module, private, report_missing
from otel_canonical.patching import patch

if TYPE_CHECKING:
    from otel_canonical.otel.sdk_internals import ReadableLogRecord, SdkLogger

FIRST_REDIRECT, FIRST_CLIENT_ERROR = 300, 400


def patch_import_of_exporters(make: Callable[[Any], Any]) -> None:
    """Patch what imports the classes of the exporters that `OTEL_*_EXPORTER` name.

    Without it one exporter that can't be made keeps all others from being made.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/_configuration/__init__.py
    """
    configuration = module("opentelemetry.sdk._configuration", "making exporters one by one")
    if configuration is not None:
        patch(configuration, "_import_exporters", make)


def refuse_redirects(exporter: object) -> None:
    """Make an OTLP exporter over HTTP take a redirect for a failure; without it that counts as success.

    It doesn't follow redirects, so what it sent is lost.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/exporter/opentelemetry-exporter-otlp-common/src/opentelemetry/exporter/otlp/common/http.py
    """
    transport = getattr(getattr(exporter, "_client", None), "_transport", None)
    if transport is not None:
        patch(transport, "request", _refusing_redirects)


def _refusing_redirects(request: Callable[..., Any]) -> Callable[..., Any]:
    def request_without_redirect(*args: Any, **kwargs: Any) -> Any:
        result = request(*args, **kwargs)
        status = result.status_code
        if status is None or not FIRST_REDIRECT <= status < FIRST_CLIENT_ERROR:
            return result
        where = result.headers().get("Location") or "nowhere"
        refusal = ConnectionRefusedError(f"answered {status}, a redirect to {where}")
        return dataclasses.replace(result, status_code=None, reason=None, error=refusal)

    return request_without_redirect


class Exporter(Protocol):
    """An exporter of spans or log records."""

    def export(self, items: Sequence[object], /, *args: object, **kwargs: object) -> object:
        """Send a batch."""


def exporter_of(processor: object) -> Exporter | None:
    """Return the exporter behind a processor, None if it isn't one that exports.

    If the private names are gone, log records that couldn't be sent are not counted.
    https://github.com/open-telemetry/opentelemetry-python/issues/4616 (`span_exporter` is public)
    """
    for holder in (processor, getattr(processor, "_batch_processor", None)):
        for name in ("span_exporter", "_exporter"):
            exporter: Exporter | None = getattr(holder, name, None)
            if exporter is not None:
                return exporter
    if type(processor).__name__ in _EXPORTING:
        error = AttributeError(type(processor).__name__)
        report_missing("_exporter", "counting what an exporter fails to send", error)
    return None


def emit_of(processor: object) -> Callable[[Any], object] | None:
    """Return what puts a record into the queue of a batch processor; None for others.

    If the private names are gone, records are given to the processors.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/_shared_internal/__init__.py
    """
    emit: Callable[[Any], object] | None = getattr(
        getattr(processor, "_batch_processor", None), "emit", None
    )
    return emit


#: The SDK's log record processors that export. Its span processors show their exporter.
_EXPORTING = ("BatchLogRecordProcessor", "SimpleLogRecordProcessor")


class LogQueues:
    """The queues of the batch processors behind a logger, where nothing else listens to it.

    What is put there is neither copied nor shown to a processor, and none of them would change it. If a
    name is gone there are none, and the logger takes all records.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/_logs/_internal/__init__.py

    Args:
        logger: of the SDK.
        find_encoding: see `otlp_encoder.encoding_ahead`.
    """

    def __init__(
        self,
        logger: SdkLogger,
        find_encoding: Callable[[Sequence[object]], EncodeAhead | None],
    ) -> None:
        self._logger = logger
        self._find_encoding = find_encoding
        #: What encodes a record before it is put there, if all of them take that.
        self.ahead: EncodeAhead | None = None
        use = "putting log events into their queues"
        self._together: Any = None
        if not otel_config.sdk_counts_itself():
            self._together = private(logger, "_multi_log_record_processor", use)
        self._seen: Sequence[object] | None = None
        self._emits: list[Callable[[ReadableLogRecord], object]] = []

    def emits(self) -> Sequence[Callable[[ReadableLogRecord], object]]:
        """Return what puts a record into each of them."""
        # Adding a processor makes another tuple.
        processors = getattr(self._together, "_log_record_processors", None)
        if processors is not self._seen:
            self._seen = processors
            emits = [
                emit_of(processor)
                for processor in processors or ()
                if type(processor).__qualname__ == "BatchLogRecordProcessor"
                and type(processor).__module__.startswith("opentelemetry.sdk.")
            ]
            can_all = len(emits) == len(processors or ()) and self._logger.enabled()
            self._emits = [emit for emit in emits if emit is not None and can_all]
            self.ahead = self._find_encoding(processors or ())
        return self._emits
