"""Tells exceptions that were raised into our code from those that our code raises. Pure.

A signal handler of the app's may raise at any point of the main thread's code, also in ours:
`signal.alarm` with a handler that raises is how views limit their time. Such an exception is the app's.
It must not be taken for an error of ours, which is reported and goes no further.
"""

from __future__ import annotations

import signal
import sys
from inspect import CO_VARARGS
from types import FrameType, TracebackType

_ROOT = __name__.partition(".")[0]

#: Packages whose exceptions our code may raise or meet; those of the standard library belong here, too.
_KNOWN = sys.stdlib_module_names | {
    *(_ROOT, "opentelemetry", "django", "gunicorn", "uvicorn", "wrapt", "google", "grpc"),
    *("asgiref", "gevent", "greenlet", "requests", "urllib3"),
    *("psycopg", "psycopg_pool", "psycopg2", "MySQLdb", "pymysql", "oracledb"),
}


def is_interruption(error: BaseException) -> bool:
    """Return whether an exception was raised into our code from outside.

    That is so if it comes out of a signal handler, or if it was raised in a frame of ours although our
    code knows no such exception (`PyThreadState_SetAsyncExc`, which libraries for time limits use).
    """
    trace: TracebackType | None = error.__traceback__
    if trace is None:
        return False
    innermost = trace.tb_frame
    while trace is not None:
        innermost = trace.tb_frame
        if _is_handler(innermost):
            return True
        trace = trace.tb_next
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler
    is_ours = str(innermost.f_globals.get("__name__")).partition(".")[0] == _ROOT
    return is_ours and type(error).__module__.partition(".")[0] not in _KNOWN


def _is_handler(frame: FrameType) -> bool:
    """Return whether a frame is a signal handler's: called with a number and the frame it interrupts."""
    interrupted = frame.f_back
    code = frame.f_code
    if interrupted is None:
        return False
    count = code.co_argcount + bool(code.co_flags & CO_VARARGS)
    values: list[object] = []
    for name in code.co_varnames[: count + code.co_kwonlyargcount]:
        value = frame.f_locals.get(name)
        values += value if type(value) is tuple else (value,)
    return any(value is interrupted for value in values) and any(
        isinstance(value, int) for value in values
    )
