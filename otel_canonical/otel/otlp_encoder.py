"""Makes OTLP's exporters, over HTTP and gRPC, encode batches with `otlp_wire` instead of upstream's code.

Lives in the worker. Upstream still encodes resources, scopes and schemas, and each record that
`otlp_wire` can't encode. The first record of each resource and scope is encoded both ways and compared.
If upstream writes a field that we don't, now or in a later version, it encodes all of that scope.
What we have made ourselves is encoded when it ends (`encoding_ahead`), all else with its batch.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from otel_canonical.internal_errors import warn
from otel_canonical.otel import otlp_wire, repairs
from otel_canonical.otel.encoded_ahead import Parts, number_of, parts_of, takes_bytes
from otel_canonical.otel.exporter_internals import emit_of, exporter_of
from otel_canonical.otel.protobuf import framed
from otel_canonical.otel.sdk_internals import OTLP_LOG_EXPORTERS, OTLP_SPAN_EXPORTERS
from otel_canonical.patching import patch

#: Bounds the kept envelopes. A process has one resource, and a scope for each library.
MOST_ENVELOPES = 64

#: After so many records the encoder pauses, so that a request gets the GIL: a batch of 512 takes some 30 ms,
#: and a request that comes meanwhile would wait up to 5 ms for it after each of its reads and writes. On one
#: processor only a thread that sleeps lets another one run.
SLICE, PAUSE_S = 8, 5e-5

#: The fields of the messages around records, alike for spans and logs: a request's resources, a resource's
#: scopes, a scope's records.
_RESOURCES, _SCOPES, _RECORDS = 1, 2, 2


class Record(Protocol):
    """What spans and log records have in common here."""

    @property
    def resource(self) -> object:
        """The resource that made it."""

    @property
    def instrumentation_scope(self) -> object:
        """The library that made it."""


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Kind(Generic[R]):
    """One kind of record: how to encode it, and the names of the request's fields that hold it."""

    write: Callable[[R], bytes]
    of_request: str
    of_resource: str
    of_scope: str
    #: Returns a copy with texts in the place of what upstream can't encode.
    repair: Callable[[R], R]
    #: Upstream's function that encodes a batch, and the exporters' modules that have it.
    function: str
    exporters: tuple[str, ...]


SPANS = Kind(
    otlp_wire.span,
    *("resource_spans", "scope_spans", "spans"),
    repairs.repaired_span,
    "encode_spans",
    OTLP_SPAN_EXPORTERS,
)
LOG_RECORDS = Kind(
    otlp_wire.log_record,
    *("resource_logs", "scope_logs", "log_records"),
    repairs.repaired_log_record,
    "encode_logs",
    OTLP_LOG_EXPORTERS,
)


def install() -> None:
    """Replace the encoder of each exporter that is loaded. Idempotent."""
    _install_for(SPANS)
    _install_for(LOG_RECORDS)


def _install_for(kind: Kind[R]) -> None:
    for name in kind.exporters:
        module = sys.modules.get(name)
        if module is not None:
            is_http = ".http." in name
            patch(module, kind.function, functools.partial(BatchEncoder, kind, is_http=is_http))


class _Envelope(NamedTuple):
    """The message around the records of a resource and a scope."""

    #: Kept alive, because envelopes are found by the ids of these objects.
    resource: object
    scope: object
    #: None if upstream encodes the records of this scope.
    parts: Parts | None


class Encoded:
    """A message that is encoded already: all that an exporter over HTTP asks of it is its bytes.

    Args:
        message: of its type.
        encoded: its bytes.
    """

    def __init__(self, message: Any, encoded: bytes) -> None:
        self._message = message
        self._encoded = encoded

    def SerializeToString(self) -> bytes:  # noqa: N802
        """Return its bytes."""
        return self._encoded

    def __getattr__(self, name: str) -> Any:
        """Have it decoded, for whatever another version asks of it."""
        return getattr(self.decoded(), name)

    def decoded(self) -> Any:
        """Return the message."""
        return type(self._message).FromString(self._encoded)


class BatchEncoder(Generic[R]):
    """Encodes a batch of records as an `ExportTraceServiceRequest` or `ExportLogsServiceRequest`.

    Args:
        kind: of the records.
        upstream: upstream's encoder, for records that can't be encoded here.
        is_http: whether the exporter wants nothing but the message's bytes.
    """

    def __init__(
        self, kind: Kind[R], upstream: Callable[[Sequence[R]], Any], *, is_http: bool = False
    ) -> None:
        self._kind = kind
        self._is_http = is_http
        self._upstream = upstream
        self._envelopes: dict[tuple[int, int], _Envelope] = {}

    def __call__(self, batch: Sequence[R | bytes]) -> Any:
        """Return the protobuf message that sends the batch; what `ahead` has encoded is bytes."""
        kind = self._kind
        if len(self._envelopes) > MOST_ENVELOPES:
            self._envelopes = {}
        envelopes = self._envelopes
        written: dict[Parts, list[bytes]] = {}
        left: list[R] = []
        encoded_now = 0
        for record in batch:
            if isinstance(record, bytes):
                written.setdefault(parts_of(record[0]), []).append(record[1:])
                continue
            encoded_now += 1
            if encoded_now % SLICE == 0:
                time.sleep(PAUSE_S)
            # By identity: a resource's hash is that of its JSON text.
            key = (id(record.resource), id(record.instrumentation_scope))
            try:
                content = kind.write(record)
                if key not in envelopes:
                    envelopes[key] = self._learn(record, content)
            except Exception:  # noqa: BLE001  # upstream encodes it, or reports what is wrong
                left.append(record)
                continue
            parts = envelopes[key].parts
            if parts is None:
                left.append(record)
            else:
                written.setdefault(parts, []).append(framed(_RECORDS, content))
        try:
            request = self._upstream(left)
        except Exception:  # noqa: BLE001  # one record that can't be encoded must not cost the others
            request = self._one_by_one(left)
        of_resources: list[bytes] = []
        for (of_resource, of_scope), records in written.items():
            of_scope = framed(_SCOPES, b"".join([of_scope, *records]))
            of_resources.append(framed(_RESOURCES, of_resource + of_scope))
        # Messages one behind the other are the message that has the repeated fields of all.
        encoded = Encoded(request, b"".join([request.SerializeToString(), *of_resources]))
        return encoded if self._is_http else encoded.decoded()

    def ahead(self, record: R) -> R | bytes:
        """Return a record as bytes, for its batch, if what is around it is known; otherwise as it is."""
        envelope = self._envelopes.get((id(record.resource), id(record.instrumentation_scope)))
        number = number_of(envelope.parts) if envelope is not None and envelope.parts else b""
        if not number:
            return record
        try:
            return number + framed(_RECORDS, self._kind.write(record))
        except Exception:  # noqa: BLE001  # its batch encodes it, and reports what is wrong
            return record

    def _one_by_one(self, records: Sequence[R]) -> Any:
        """Return the message with those records that can be encoded, if need be after a repair."""
        request = self._upstream([])
        for record in records:
            encoded = self._encoded(record)
            if encoded is None:
                encoded = self._encoded(self._kind.repair(record))
            if encoded is None:
                warn(
                    f"one of the {self._kind.of_scope} can't be encoded for export; it is left out"
                )
            else:
                request.MergeFrom(encoded)
        return request

    def _encoded(self, record: R) -> Any:
        """Return the message with one record, None if upstream can't encode it."""
        try:
            return self._upstream([record])
        except Exception:  # noqa: BLE001  # the caller says it
            return None

    def _learn(self, record: R, content: bytes) -> _Envelope:
        """Return upstream's envelope for a record; compare upstream's encoding of the record with ours."""
        kind = self._kind
        message = getattr(self._upstream([record]), kind.of_request)[0]
        records = getattr(getattr(message, kind.of_resource)[0], kind.of_scope)
        theirs, ours = records[0], type(records[0]).FromString(content)
        # Compared as bytes: a NaN is not equal to itself.
        is_same = _bytes_of(theirs) == _bytes_of(ours)
        if not is_same:
            warn(
                f"this version of OpenTelemetry exports {kind.of_scope} with fields that otel-canonical "
                "doesn't know; its own encoder is used, which is slower"
            )
        del records[:]
        of_scope = getattr(message, kind.of_resource)[0].SerializeToString()
        message.ClearField(kind.of_resource)
        parts = (message.SerializeToString(), of_scope) if is_same else None
        return _Envelope(record.resource, record.instrumentation_scope, parts)


def encoding_ahead(kind: Kind[R], processors: Sequence[object]) -> Callable[[R], R | bytes] | None:
    """Return what encodes records before they are put into the queues of batch processors.

    A record waits there for seconds. As objects, ten for each request, it would outlive the young
    generations of the garbage collector, and of each 1,700 requests one would wait for a full collection.
    The collector doesn't look at bytes.

    Args:
        kind: of the records.
        processors: whose queues they are.

    Returns:
        None if one of them hands records to anything but an exporter with our encoder.
    """
    found: list[BatchEncoder[R]] = []
    for processor in processors:
        exporter = exporter_of(processor)
        encoder = getattr(sys.modules.get(type(exporter).__module__), kind.function, None)
        if (
            not takes_bytes(exporter, kind.exporters)
            or not isinstance(encoder, BatchEncoder)
            or emit_of(processor) is None
        ):
            return None
        found.append(encoder)
    return found[0].ahead if found else None


class _Message(Protocol):
    """A protobuf message."""

    def SerializeToString(self, *, deterministic: bool) -> bytes:  # noqa: N802
        """Return its encoding."""


def _bytes_of(message: _Message) -> bytes:
    return message.SerializeToString(deterministic=True)
