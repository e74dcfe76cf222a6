"""The root span of a request: the SDK's own, made when somebody looks at it.

Lives in the worker. The app sees this span as the current one, and few apps look at it. What the SDK does
for a span that only we write is half of what an exported trace costs: it keeps attributes in a mapping
with a lock and limits, checks each of them, and copies the span for its processors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.trace import Span, SpanContext
from opentelemetry.util.types import Attributes, AttributeValue

from otel_canonical.event.logfmt import as_text
from otel_canonical.stacks import errors


class RequestSpan(SdkSpan):
    """A span of the SDK's that ends with its request, whoever ends it earlier.

    It has the state of a span that the SDK has made. All methods and properties but those below are the
    SDK's: they find their state missing, `__getattr__` has it made, and they work on it.

    Args:
        ids: the span's.
        redact: removes the secrets from a text.
        make: has the SDK make the span; called when its state is first looked at.
    """

    __slots__ = ("_ids", "_make", "_redact", "ended")

    # The base class's `__init__` is not called: `make` does that.
    def __init__(
        self, ids: SpanContext, redact: Callable[[str], str], make: Callable[[], Span] | None = None
    ) -> None:
        self._ids = ids
        self._redact = redact
        self._make = make
        #: What was exported in its place, if it was never looked at.
        self.ended: ReadableSpan | None = None

    @classmethod
    def of(cls, span: SdkSpan, redact: Callable[[str], str]) -> RequestSpan:
        """Return a span that shares the state of `span`, which processors may have seen."""
        found = cls(span.get_span_context(), redact)
        found.__dict__ = vars(span)
        return found

    def __getattr__(self, name: str) -> Any:
        """Have the state made that a method of the SDK's is looking for."""
        # In a copy that is being made our own are missing, too.
        make = self._make if name not in RequestSpan.__slots__ else None
        if make is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        made = vars(make())
        if self.ended is not None:
            # A span keeps what it said when it ended, and takes no more.
            made = {**made, **vars(self.ended)}
        # Two threads may come here at once. Both go on with the parts that were there first.
        state = vars(self)
        for part, value in made.items():
            state.setdefault(part, value)
        self._make = None
        return getattr(self, name)

    def is_unseen(self) -> bool:
        """Return whether nobody has looked at its state."""
        return self._make is not None

    def get_span_context(self) -> SpanContext:
        """Return its ids."""
        return self._ids

    def is_recording(self) -> bool:
        """Return whether its request is open."""
        return self.ended is None if self._make is not None else super().is_recording()

    def end(self, end_time: int | None = None) -> None:
        """Do nothing: Django's instrumentation ends it before a streamed body.

        Attributes can't be added once a span ends, neither in `on_end` nor in the SDK's ending hook
        (opentelemetry-python #5614).
        """

    def end_with_request(self, end_time: int) -> None:
        """End it, and hand it to the span processors."""
        super().end(end_time)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Record an exception as a span event, with its message and stack redacted."""
        facts: dict[str, AttributeValue] = {
            "exception.type": type(exception).__name__,
            "exception.message": self._redact(as_text(exception)),
            "exception.stacktrace": errors.stack_of(exception, self._redact),
        }
        self.add_event("exception", {**facts, **(attributes or {})}, timestamp)
