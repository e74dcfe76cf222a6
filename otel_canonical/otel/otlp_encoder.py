"""Has OTLP's exporters, over HTTP and gRPC, encode batches by `otlp_wire` rather than by upstream.

Lives in the worker. Resource, scope and schema are upstream's, and so is each record with a fact that
`otlp_wire` doesn't know. The first record of each resource and scope is encoded both ways: should
upstream write a field that we don't, now or in a later version, its way is taken for all of that scope.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from otel_canonical.internal_errors import warn
from otel_canonical.otel import otlp_wire
from otel_canonical.patching import patch

#: Resources and scopes whose envelopes are kept. A process has a resource, and a scope for each library.
MOST_ENVELOPES = 64

#: The field of a `ScopeSpans`, or a `ScopeLogs`, that holds its records.
_RECORDS = 2


class Kind(NamedTuple):
    """One kind of record: how to write it, and the names of its places in a request."""

    write: Callable[[Any], bytes]
    of_request: str
    of_resource: str
    of_scope: str
    #: What upstream calls the function that encodes a batch, and the exporters that have it.
    function: str
    exporters: tuple[str, ...]


SPANS = Kind(
    otlp_wire.span,
    *("resource_spans", "scope_spans", "spans", "encode_spans"),
    (
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    ),
)
LOG_RECORDS = Kind(
    otlp_wire.log_record,
    *("resource_logs", "scope_logs", "log_records", "encode_logs"),
    (
        "opentelemetry.exporter.otlp.proto.http._log_exporter",
        "opentelemetry.exporter.otlp.proto.grpc._log_exporter",
    ),
)


def join() -> None:
    """Encode for those exporters that are loaded."""
    for kind in (SPANS, LOG_RECORDS):
        for name in kind.exporters:
            module = sys.modules.get(name)
            if module is not None:
                patch(module, kind.function, functools.partial(BatchEncoder, kind))


class _Envelope(NamedTuple):
    """What stands around the records of a resource and a scope."""

    #: Kept, so that no other objects get their ids.
    resource: Any
    scope: Any
    #: Their message without a record; None if their records are left to upstream.
    message: Any


class BatchEncoder:
    """Encodes a batch of records as an `ExportTraceServiceRequest` or `ExportLogsServiceRequest`.

    Args:
        kind: the records'.
        upstream: does the same; what is not known here is left to it.
    """

    def __init__(self, kind: Kind, upstream: Callable[[Sequence[Any]], Any]) -> None:
        self._kind = kind
        self._upstream = upstream
        self._envelopes: dict[tuple[int, int], _Envelope] = {}

    def __call__(self, batch: Sequence[Any]) -> Any:
        """Return the request that sends the batch."""
        kind = self._kind
        if len(self._envelopes) > MOST_ENVELOPES:
            self._envelopes = {}
        envelopes = self._envelopes
        written: dict[tuple[int, int], list[bytes]] = {}
        left: list[Any] = []
        for record in batch:
            # By identity: to hash a resource is to write it as JSON.
            key = (id(record.resource), id(record.instrumentation_scope))
            try:
                content = kind.write(record)
                if key not in envelopes:
                    envelopes[key] = self._learn(record, content)
            except Exception:  # noqa: BLE001  # whatever it is: upstream writes it, or says what is wrong
                left.append(record)
                continue
            if envelopes[key].message is None:
                left.append(record)
            elif key in written:
                written[key].append(otlp_wire.framed(_RECORDS, content))
            else:
                written[key] = [otlp_wire.framed(_RECORDS, content)]
        request = self._upstream(left)
        for key, parts in written.items():
            of_resource = getattr(request, kind.of_request).add()
            of_resource.CopyFrom(envelopes[key].message)
            getattr(of_resource, kind.of_resource)[0].MergeFromString(b"".join(parts))
        return request

    def _learn(self, record: Any, content: bytes) -> _Envelope:
        """Return the envelope of a record's resource and scope, upstream's; compare its record with ours."""
        kind = self._kind
        message = getattr(self._upstream([record]), kind.of_request)[0]
        records = getattr(getattr(message, kind.of_resource)[0], kind.of_scope)
        theirs, ours = records[0], type(records[0]).FromString(content)
        # As bytes: a NaN is not equal to itself.
        is_same = _bytes_of(theirs) == _bytes_of(ours)
        if not is_same:
            warn(
                f"this version of OpenTelemetry exports {kind.of_scope} with fields that otel-canonical "
                "doesn't know; its own encoder is used, which is slower"
            )
        del records[:]
        return _Envelope(
            record.resource, record.instrumentation_scope, message if is_same else None
        )


def _bytes_of(message: Any) -> bytes:
    content: bytes = message.SerializeToString(deterministic=True)
    return content
