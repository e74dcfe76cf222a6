"""The same site with logfire: requests and SQLite traced, nothing sent, nothing printed."""

from __future__ import annotations

import logfire

from mysite.settings import *  # noqa: F403  a settings module extends another by its names

logfire.configure(send_to_logfire=False, console=False)
logfire.instrument_django()
logfire.instrument_sqlite3()
