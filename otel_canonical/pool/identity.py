"""The identity of a pool's members in exported data: one stable `service.instance.id` each. Pure.

The members are the workers, by their numbers, and the reporter, which exports what concerns the whole
pool. A recycled worker gets its predecessor's number and so continues its time series. The SDK's random
id would begin new series with every worker.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

#: The namespace for ids that are derived from names (semantic conventions, "service.instance.id").
NAMESPACE = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")

#: The name of the member that exports what concerns the whole pool.
POOL = "pool"
WORKER_NUMBER = "gunicorn.worker.number"
INSTANCE_ID = "service.instance.id"

#: Set for the arbiter that another one starts as its successor (SIGUSR2): while both live, their
#: members must not share ids. Gunicorn has at most two at a time.
SUCCESSOR_VARIABLE = "OTEL_CANONICAL_SUCCESSOR"


def successor_of(environ: Mapping[str, str]) -> str:
    """Return the value of `SUCCESSOR_VARIABLE` for the successor of the arbiter with this environment."""
    return "" if environ.get(SUCCESSOR_VARIABLE) else "1"


def pool_name(host: str, binds: Iterable[object], environ: Mapping[str, str]) -> str:
    """Return a name that is unique among running pools and stays the same after a restart."""
    addresses = ",".join(sorted(str(bind) for bind in binds))
    return f"{host} {addresses} {environ.get(SUCCESSOR_VARIABLE, '')}".rstrip()


def identity_attributes(
    pool: str, member: int | None, environ: Mapping[str, str]
) -> dict[str, str | int]:
    """Return the resource attributes of a member. An instance id that the user has set is kept.

    Args:
        pool: its name.
        member: a worker's number; None for the reporter.
        environ: may hold the user's own id.
    """
    found: dict[str, str | int] = {} if member is None else {WORKER_NUMBER: member}
    given = environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    if not any(pair.partition("=")[0].strip() == INSTANCE_ID for pair in given):
        name = POOL if member is None else str(member)
        found[INSTANCE_ID] = str(uuid.uuid5(NAMESPACE, f"{pool} {name}"))
    return found
