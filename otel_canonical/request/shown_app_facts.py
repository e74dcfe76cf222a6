"""The facts of the app, as a request's event shows them: redacted and bounded. Pure."""

from __future__ import annotations

from otel_canonical.event.bounds import limits
from otel_canonical.event.fields import APP_PREFIX, FieldValue
from otel_canonical.event.redaction import REDACTED, RedactionPolicy
from otel_canonical.event.rows import seconds
from otel_canonical.request.scope import RequestScope

#: Texts of the app up to this length are shown however many there are, in characters.
SHORT = 64


def app_pairs(scope: RequestScope, redaction: RedactionPolicy) -> list[tuple[str, FieldValue]]:
    """Return what the app has set, added and timed."""
    # Copied: a thread that the request left behind may still be setting facts.
    facts: dict[str, FieldValue] = {}
    for key, timer in list((scope.timers or {}).items()):
        facts[f"{key}_time"] = seconds(timer.elapsed_ns)
        if timer.count > 1:
            facts[f"{key}_count"] = timer.count
    left = limits.event // 8
    for key, value in list((scope.app or {}).items()):
        if type(value) is not str or len(value) <= SHORT:
            facts[key] = redaction.value(key, value)
            continue
        # All long texts together are bounded, too: each is searched for secrets.
        if left > 0:
            left -= len(value)
            facts[key] = redaction.value(key, value)
        elif redaction.is_secret(key):
            facts[key] = REDACTED
        else:
            facts[key] = redaction.text(value, SHORT, SHORT)
    return [(APP_PREFIX + key, value) for key, value in facts.items()]
