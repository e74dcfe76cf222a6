"""How much memory of this process is resident, looked at so seldom that ordinary requests don't pay for it."""

from __future__ import annotations

import contextlib
import os

from otel_canonical.process.identity import when_forked
from otel_canonical.process.interruptions import is_interruption

#: A request looks at its beginning if nothing has looked for this long.
SELDOM_NS = 1_000_000_000

#: Only a request that ran at least this long is looked at again at its end.
LONG_NS = 10_000_000

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SIZE = 128


class ResidentMemory:
    """Remembers the last look at this process's resident memory.

    Attributes:
        bytes: what it has found; None if it is unknown.
        seen_ns: when it was, monotonic.
        is_current: whether no request has ended since.
    """

    def __init__(self, path: str = "/proc/self/statm") -> None:
        self._path = path
        self._file: int | None = None
        self._is_known = True
        self.bytes: int | None = None
        self.seen_ns = -SELDOM_NS
        self.is_current = False
        when_forked(self.forget)

    def look(self, now_ns: int) -> int | None:
        """Look, and return the resident bytes; None if they are unknown. `now_ns` is monotonic."""
        self.seen_ns, self.is_current = now_ns, True
        if not self._is_known:
            return None
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self.bytes = int(os.pread(self._file, _SIZE, 0).split(None, 2)[1]) * _PAGE
        except (OSError, ValueError, IndexError) as error:
            # A signal handler of the app's may raise a TimeoutError in here, which is an OSError.
            if is_interruption(error):
                raise
            self._is_known, self.bytes = False, None
        return self.bytes

    def forget(self) -> None:
        """Close the file: it is that of the process that has opened it."""
        file, self._file = self._file, None
        self.seen_ns, self.is_current = -SELDOM_NS, False
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)


#: The only one that is needed.
resident_memory = ResidentMemory()
