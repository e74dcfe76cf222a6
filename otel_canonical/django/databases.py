"""What Django's connections and errors say of the database behind them, whatever its vendor.

Lives where the app is loaded.
"""

from __future__ import annotations

from typing import Any

from otel_canonical.event import sql_text
from otel_canonical.otel.query_spans import Failure, Server

#: Django's names of vendors, and the semantic conventions' where these are others.
SYSTEMS = {"oracle": "oracle.db", "microsoft": "microsoft.sql_server"}


def server_of(connection: Any) -> Server:
    """Return the database of an open connection of Django's."""
    vendor = connection.vendor
    if vendor == "postgresql":
        info = connection.connection.info
        return Server("postgresql", info.dbname or "", info.user or "", info.host or "", info.port)
    if vendor == "mysql":
        return _mysql_server(connection)
    if vendor == "sqlite":
        return Server("sqlite")
    settings = connection.settings_dict
    port = str(settings.get("PORT") or "")
    return Server(
        SYSTEMS.get(vendor, vendor),
        str(settings.get("NAME") or ""),
        str(settings.get("USER") or ""),
        str(settings.get("HOST") or ""),
        int(port) if port.isdecimal() else None,
    )


def _mysql_server(connection: Any) -> Server:
    opened, settings = connection.connection, connection.settings_dict
    # PyMySQL keeps some of these as bytes.
    database = _text(getattr(opened, "db", None)) or str(settings["NAME"] or "")
    user = _text(getattr(opened, "user", None)) or str(settings["USER"] or "")
    options = settings.get("OPTIONS") or {}
    host = str(settings["HOST"] or "")
    socket = host if host.startswith("/") else str(options.get("unix_socket") or "")
    if socket:
        # PyMySQL would say port 3306.
        return Server("mysql", database, user, socket)
    address = _text(getattr(opened, "host", None)) or host
    port = getattr(opened, "port", None) or settings["PORT"] or None
    return Server("mysql", database, user, address, int(port) if port else None)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def failure_of(error: BaseException) -> Failure:
    """Return the driver's exception behind one of Django's, and the database's code for it."""
    cause = error.__cause__
    if cause is not None and type(error).__module__ == "django.db.utils":
        error = cause
    for name in ("sqlstate", "pgcode", "sqlite_errorname"):
        code = getattr(error, name, None)
        if code:
            return Failure(error, str(code))
    number = error.args[0] if error.args else None
    is_mysql = type(error).__module__.partition(".")[0] in ("MySQLdb", "pymysql")
    return Failure(error, str(number) if is_mysql and isinstance(number, int) else "")


def note_backend(backend: Any) -> None:
    """Have texts of SQL read as the database of a backend does."""
    if backend.vendor == "mysql":
        sql_text.note_mysql()
