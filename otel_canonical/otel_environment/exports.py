"""Checks where each signal is exported to, before the SDK reads it, and leaves only what can be.

Used in the arbiter, before workers are forked. A wrong exporter, protocol or endpoint would cost all
signals in the SDK. Here it costs one exporter of one signal, and one sentence in the error log. Afterwards
`OTEL_*_EXPORTER` and the endpoints say what is really exported; `otel_config` reads it there.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec

from otel_canonical.otel_environment.checks import is_installed, one_of
from otel_canonical.otel_environment.variables import Environment, Say, shown

SIGNALS = ("traces", "metrics", "logs")

HTTP, GRPC = "http/protobuf", "grpc"

#: Exporter names that leave the protocol to a variable, and those that name it.
_OTLP = {"otlp": "", "otlp_proto_http": HTTP, "otlp_proto_grpc": GRPC}
_ENTRY_POINTS = {HTTP: "otlp_proto_http", GRPC: "otlp_proto_grpc"}

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: A host, maybe a port and a path; nothing that begins with a sign.
_ADDRESS = re.compile(r"(?:[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:[/?].*)?")


def mend(environ: Environment, say: Say) -> None:
    """Leave only what can be exported; tell `say` one sentence for each mistake."""
    _mend_config_file(environ, say)
    if environ.get("OTEL_CONFIG_FILE") or environ.get("OTEL_SDK_DISABLED", "") == "true":
        return
    lost: dict[str, list[str]] = {}
    for signal in SIGNALS:
        _mend_signal(environ, signal, say, lost)
    for mistake, signals in lost.items():
        say(f"{mistake}; {_and(signals)} are not exported that way")


def protocol_of(environ: Environment, signal: str) -> str:
    """Return the OTLP protocol of a signal."""
    return (
        environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
        or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or HTTP
    )


def endpoint_of(environ: Environment, signal: str) -> str:
    """Return the OTLP endpoint of a signal."""
    named = endpoint_variable(environ, signal)
    if named:
        return environ[named]
    return (
        "http://localhost:4317" if protocol_of(environ, signal) == GRPC else "http://localhost:4318"
    )


def endpoint_variable(environ: Environment, signal: str) -> str:
    """Return the variable that names the endpoint of a signal, empty if there is none."""
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if environ.get(name, "").strip():
            return name
    return ""


def _mend_config_file(environ: Environment, say: Say) -> None:
    path = environ.get("OTEL_CONFIG_FILE", "").strip()
    problem = ""
    if path and not os.path.isfile(path):
        problem = "is not a file"
    elif path and not _is_importable("opentelemetry.configuration"):
        problem = "needs the package opentelemetry-configuration, which is not installed"
    if problem:
        say(f"{shown('OTEL_CONFIG_FILE', path)} {problem}; the other OTEL_* variables are used")
    if problem or not path:
        environ.pop("OTEL_CONFIG_FILE", None)


def _mend_signal(environ: Environment, signal: str, say: Say, lost: dict[str, list[str]]) -> None:
    """Mend the exporters of a signal; add to `lost` what keeps one of them from working."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    text = environ.get(variable, "").strip()
    if text.lower() == "none":
        return
    if not text:
        environ.pop(variable, None)
        if not endpoint_variable(environ, signal):
            return
    names = [name.strip() for name in (text or "otlp").split(",") if name.strip()]
    kept: list[str] = []
    for name in names:
        problem = ""
        if name.lower() == "none":
            say(f"{shown(variable, text)} names none beside others; none is ignored")
            continue
        if name in _OTLP:
            problem = _mend_otlp(environ, signal, name, say)
        elif name == "prometheus":
            problem = (
                f"{variable} names prometheus, which shows one process on one port, not a pool of "
                "workers (export to a Collector, and let Prometheus read from that)"
            )
        elif not is_installed(f"opentelemetry_{signal}_exporter", name):
            problem = f"{variable} names {name!r}, an exporter that is not installed"
        if problem:
            lost.setdefault(problem, []).append(signal)
        else:
            kept.append(name)
    if kept != names:
        environ[variable] = ",".join(kept) or "none"


def _mend_otlp(environ: Environment, signal: str, name: str, say: Say) -> str:
    """Mend what an OTLP exporter of a signal reads; return why it can't be used, empty if it can."""
    protocol = _mend_protocol(environ, signal, say)
    protocol = _OTLP[name] or protocol
    exporter = _ENTRY_POINTS[protocol]
    if not is_installed(f"opentelemetry_{signal}_exporter", exporter):
        package = f"opentelemetry-exporter-{exporter.replace('_', '-')}"
        return f"OTLP over {protocol} needs the package {package}, which is not installed"
    _mend_compression(environ, signal, protocol, say)
    return _mend_endpoint(environ, signal, protocol, say)


def _mend_protocol(environ: Environment, signal: str, say: Say) -> str:
    for variable in (
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ):
        value = environ.get(variable, "")
        if not value.strip():
            environ.pop(variable, None)
            continue
        try:
            environ[variable] = one_of(HTTP, GRPC)(value.strip())
        except ValueError as error:
            say(f"{shown(variable, value)} is not {error}; using {HTTP}")
            environ[variable] = HTTP
        return environ[variable]
    return HTTP


def _mend_compression(environ: Environment, signal: str, protocol: str, say: Say) -> None:
    choices = ("gzip",) if protocol == GRPC else ("gzip", "deflate")
    for variable in (
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_COMPRESSION",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
    ):
        value = environ.get(variable, "").strip()
        if value.lower() in ("", "none"):
            environ.pop(variable, None)
            continue
        try:
            environ[variable] = one_of(*choices)(value)
        except ValueError as error:
            say(f"{shown(variable, value)} is not {error} or none; nothing is compressed")
            del environ[variable]


def _mend_endpoint(environ: Environment, signal: str, protocol: str, say: Say) -> str:
    """Give the endpoint of a signal a scheme; return what is wrong with it, empty if nothing is."""
    variable = endpoint_variable(environ, signal)
    if not variable:
        return ""
    value = environ[variable].strip()
    scheme = _SCHEME.match(value)
    rest = value[scheme.end() :] if scheme is not None else value
    if not _ADDRESS.fullmatch(rest.rpartition("@")[2]) or (
        scheme is not None and scheme[0].lower() not in ("http://", "https://")
    ):
        return f"{shown(variable, value)} is not a URL such as http://localhost:4318"
    environ[variable] = value
    if scheme is None and protocol == HTTP:
        environ[variable] = f"http://{value}"
        say(f"{shown(variable, value)} has no scheme; using {shown(variable, environ[variable])}")
    return ""


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _is_importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
