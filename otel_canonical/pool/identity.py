"""Who exports what: one stable `service.instance.id` for each member of a pool. Pure.

The members are the workers, by their numbers, and the one writer of what concerns the whole pool. A
recycled worker has the number of the one before it and so goes on with its series; a random id, as the
SDK has it, would begin new ones with every worker, for ever.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

#: For ids that are made of other names (semantic conventions, "service.instance.id").
NAMESPACE = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")

#: The member that exports what concerns the whole pool.
POOL = "pool"
WORKER_NUMBER = "gunicorn.worker.number"
INSTANCE_ID = "service.instance.id"

#: Set for the arbiter that another one starts to take its place (SIGUSR2): while both live, their
#: members must not share ids. Gunicorn has no more than two at a time.
SUCCESSOR_VARIABLE = "OTEL_CANONICAL_SUCCESSOR"


def successor_of(environ: Mapping[str, str]) -> str:
    """Return what `SUCCESSOR_VARIABLE` shall be for the arbiter that succeeds the one of `environ`."""
    return "" if environ.get(SUCCESSOR_VARIABLE) else "1"


def pool_name(host: str, binds: Iterable[object], environ: Mapping[str, str]) -> str:
    """Return a name that no other pool has at the same time, and this one after a restart again."""
    addresses = ",".join(sorted(str(bind) for bind in binds))
    return f"{host} {addresses} {environ.get(SUCCESSOR_VARIABLE, '')}".rstrip()


def identity_attributes(
    pool: str, member: int | None, environ: Mapping[str, str]
) -> dict[str, str | int]:
    """Return the resource attributes of a member; the user's own instance id stays.

    Args:
        pool: its name.
        member: a worker's number; None for the pool's writer.
        environ: where the user may have given an id.
    """
    found: dict[str, str | int] = {} if member is None else {WORKER_NUMBER: member}
    given = environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    if not any(pair.partition("=")[0].strip() == INSTANCE_ID for pair in given):
        name = POOL if member is None else str(member)
        found[INSTANCE_ID] = str(uuid.uuid5(NAMESPACE, f"{pool} {name}"))
    return found
