"""What a root span says beside its event: attributes of the conventions, and how it was sampled."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

from opentelemetry.trace import SpanKind
from opentelemetry.util.http import detect_synthetic_user_agent
from opentelemetry.util.types import AttributeValue

from otel_canonical.otel.prepared_spans import Shape

PORT_DIGITS = 5

#: How many attributes a shape of a root has at most.
MOST_BESIDE = 4
#: Bounds the shapes that are remembered; there is one for each method and route.
MOST_SHAPES = 1024


@functools.lru_cache(maxsize=MOST_SHAPES)
def shape_of(name: str, port: int | None, agent: str | None, rate: float | None) -> Shape:
    """Return what roots say beside their events."""
    attributes = {**beside_event(port, agent), **sampling_attributes(rate, None)}
    return Shape(name, SpanKind.SERVER, attributes, attributes)


def beside_event(port: int | None, agent: str | None) -> dict[str, AttributeValue]:
    """Return what the HTTP semantic conventions want on a server span and the event doesn't have."""
    found: dict[str, AttributeValue] = {}
    if port is not None:
        found["server.port"] = port
    if agent is not None:
        found["user_agent.synthetic.type"] = agent
    return found


def port_and_agent(headers: Mapping[str, str]) -> tuple[int | None, str | None]:
    """Return the port that the client named, and which kind of bot or test it is."""
    _, colon, port = headers.get("HOST", "").rpartition(":")
    is_port = colon and port.isdecimal() and len(port) <= PORT_DIGITS
    agent = headers.get("USER-AGENT")
    return int(port) if is_port else None, detect_synthetic_user_agent(agent) if agent else None


def sampling_attributes(rate: float | None, rule: str | None) -> dict[str, AttributeValue]:
    """Return the attributes that say how many requests a root represents: 1 / `canonical.sample_rate`.

    A request exported by a rule represents itself only: all requests that match the rule are exported.
    Honeycomb reads that number from `SampleRate`, and only if it is an integer.
    """
    if rule is not None:
        return {"canonical.sample_rate": 1.0, "SampleRate": 1, "canonical.export_rule": rule}
    if rate is None:
        return {}
    found: dict[str, AttributeValue] = {"canonical.sample_rate": rate}
    represented = round(1 / rate) if rate > 0 else 0
    if represented and math.isclose(1 / rate, represented, rel_tol=1e-9):
        found["SampleRate"] = represented
    return found
