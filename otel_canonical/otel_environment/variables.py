"""Checks the `OTEL_*` variables before the SDK reads them, and mends what it would stumble over.

Used in the arbiter, before workers are forked. The SDK answers many wrong values with an exception that
costs everything after it, or with a traceback in every worker. Here each wrong value costs itself and one
sentence: which variable, what it holds, what it should be and what is used instead.

The mended environment is that of the arbiter, so that workers and reporter inherit it. A new arbiter
(SIGUSR2) is given the original one by Gunicorn, and says the same again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping

from otel_canonical.otel_environment import checks
from otel_canonical.otel_environment.checks import CHECKS, LISTS, Check, is_pattern

Environment = MutableMapping[str, str]
Say = Callable[[str], None]

#: The longest value that a sentence shows.
LONGEST_SHOWN = 100

#: Variables whose values are secrets: a sentence names the variable only.
_SECRET = re.compile(r"_HEADERS$")

#: Here nothing means none; elsewhere an empty variable is as good as an absent one.
_EMPTY_IS_NONE = {f"OTEL_PYTHON_{kind}_CONFIGURATOR" for kind in ("TRACER", "METER", "LOGGER")}

_PATTERNS = re.compile(
    r"OTEL_PYTHON_(?:\w+_)?EXCLUDED_URLS"
    r"|OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_(?:SANITIZE_FIELDS|\w+_(?:REQUEST|RESPONSE))"
)


def mend(environ: Environment, say: Say) -> None:
    """Mend the variables that hold one value, or a list of them; `exports` does the exporters'.

    Args:
        environ: is changed: wrong values are removed or replaced. So are empty ones, which count as
            unset everywhere in OpenTelemetry but make the SDK log a traceback.
        say: told one sentence for each mistake.
    """
    checks.forget_installed()
    for name in sorted(environ):
        if name in CHECKS:
            check, default = CHECKS[name]
            _mend_value(environ, name, check, default, say)
        elif name in LISTS:
            _mend_list(environ, name, LISTS[name], say)
        elif _PATTERNS.fullmatch(name):
            _mend_list(environ, name, is_pattern, say)
    _mend_sampler_argument(environ, say)
    for kind in ("BSP", "BLRP"):
        _mend_batch(environ, f"OTEL_{kind}_", say)


def shown(name: str, value: str) -> str:
    """Return `NAME='value'` for a sentence: on one line, not too long, and without secrets."""
    if _SECRET.search(name):
        return name
    if name.endswith("_ENDPOINT"):
        value = without_secrets(value)
    cut = value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]}..."
    return f"{name}={cut!r}"


def without_secrets(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    return re.sub(r"(?<=//)[^/?#]*@|[?#].*", "", url, flags=re.DOTALL)


def _mend_value(environ: Environment, name: str, check: Check, default: str, say: Say) -> None:
    value = environ[name]
    if not value.strip():
        if name not in _EMPTY_IS_NONE:
            del environ[name]
        return
    try:
        environ[name] = check(value.strip())
    except ValueError as error:
        del environ[name]
        say(f"{shown(name, value)} is not {error}; using {default}")


def _mend_list(environ: Environment, name: str, check: Check, say: Say) -> None:
    """Remove the wrong parts of a list. An empty list has a meaning: it stays."""
    kept: list[str] = []
    for part in [part.strip() for part in environ[name].split(",")]:
        problem = part and _problem_of(part, kept, check)
        if problem and _SECRET.search(name):
            say(f"{name} has a part that is not {problem}; it is ignored")
        elif problem:
            say(f"{part!r} in {name} is not {problem}; it is ignored")
        elif part:
            kept.append(part)
    if kept or environ[name].strip():
        environ[name] = ",".join(kept)


def _problem_of(part: str, kept: list[str], check: Check) -> str:
    """Return what a part of a list should be, empty if that is what it is."""
    try:
        check(part)
        if check is is_pattern:
            # Parts are joined to one expression, and flags are allowed in front of the first only.
            check("|".join([*kept, part]))
    except ValueError as error:
        return str(error)
    return ""


def _mend_sampler_argument(environ: Environment, say: Say) -> None:
    name = "OTEL_TRACES_SAMPLER_ARG"
    if not environ.get("OTEL_TRACES_SAMPLER", "").endswith("traceidratio") or name not in environ:
        return
    try:
        is_ratio = 0 <= float(environ[name]) <= 1
    except ValueError:
        is_ratio = False
    if not is_ratio:
        say(f"{shown(name, environ[name])} is not a ratio from 0 to 1; every trace is sampled")
        environ[name] = "1.0"


def _mend_batch(environ: Environment, prefix: str, say: Say) -> None:
    """Make a batch no larger than the queue that it comes from."""
    queue_name, batch_name = f"{prefix}MAX_QUEUE_SIZE", f"{prefix}MAX_EXPORT_BATCH_SIZE"
    queue = int(environ.get(queue_name, "2048"))
    batch = int(environ.get(batch_name, "512"))
    if batch > queue:
        is_default = "" if batch_name in environ else ", the default"
        say(
            f"{batch_name}={batch}{is_default}, is more than {queue_name}={queue}; "
            f"using batches of {queue}"
        )
        environ[batch_name] = str(queue)
