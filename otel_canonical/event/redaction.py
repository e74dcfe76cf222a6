"""Removes secrets from lines, spans, log events, stacks and error reports. Pure.

One policy for all of them. A secret is recognised by the name beside it (`secret_names`) or by its own
shape (`secret_places`); `docs/REDACTION.md` lists both, and what is not recognised. A text is cut before
it is searched, so that a long one costs what a short one does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import AnyStr
from urllib.parse import unquote_plus

from otel_canonical.event import bounds, secret_names, secret_places
from otel_canonical.event.logfmt import FieldValue, as_text
from otel_canonical.event.sql_literals import without_literals

REDACTED = "[redacted]"
# Names come from query strings, too: clients must not be able to fill the cache.
KNOWN_NAMES_LIMIT = 2048
KNOWN_NAME_LENGTH_LIMIT = 64

#: So much more of a text is searched than is shown, in characters: a secret that the cut divides must be
#: recognised by what stands behind the cut (`//user:password@`).
MARGIN = 1024

_path_token = re.compile(r"%[0-9A-Fa-f]{2}|.", re.DOTALL)
_address = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//([^/?#]*)")
# A run of letters and digits that is no word, as in a reset link. UUIDs' runs are shorter.
_random = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{20,}")


@dataclass(frozen=True, slots=True)
class RedactionPolicy:
    """What is secret: values under the usual names, and under `extra_names`."""

    extra_names: Iterable[str] = ()
    _extra: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _verdicts: dict[tuple[str, bool], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = tuple(self.extra_names)
        words = [secret_names.words(name) for name in names]
        words = [re.escape(name) for name in words if name.strip("_")]
        object.__setattr__(self, "extra_names", names)
        object.__setattr__(self, "_extra", re.compile("|".join(words)) if words else None)
        object.__setattr__(self, "_verdicts", {})

    def is_secret(self, name: str, in_url: bool = False) -> bool:
        """Return whether a value under this name is secret, however the name is spelled.

        Args:
            name: of a parameter, a header, a key, a variable.
            in_url: whether it is the name of a query parameter or of a captured part of a path: there
                `code`, `key` and `ticket` are secrets, too.
        """
        verdict = self._verdicts.get((name, in_url))
        if verdict is None:
            verdict = secret_names.is_secret(name[:MARGIN], self._extra, in_url=in_url)
            if len(name) <= KNOWN_NAME_LENGTH_LIMIT:
                if len(self._verdicts) >= KNOWN_NAMES_LIMIT:
                    self._verdicts.clear()
                self._verdicts[name, in_url] = verdict
        return verdict

    def value(self, name: str, value: FieldValue) -> FieldValue:
        """Return a value without secrets: the mark if its name is secret, else a text redacted and cut."""
        if self.is_secret(name):
            return REDACTED
        return self.text(value) if type(value) is str else value

    def query(self, query_string: str) -> str:
        """Return the query string without its secret values; all else stays as it was sent."""
        if not query_string:
            return query_string
        kept = query_string[: bounds.limits.value + MARGIN]
        shown = "&".join([self._parameters(part) for part in kept.split("&")])
        return _cut(shown, len(query_string) - len(kept), bounds.limits.value)

    def url(self, url: str) -> str:
        """Return the URL, or what was sent as one, without users, secret values and fragment."""
        kept = url[: bounds.limits.value + MARGIN]
        # The password goes first: a `#` or `?` in it is not where the fragment or query starts.
        found = secret_places.without_users(kept, REDACTED).partition("#")[0]
        address, question_mark, query_string = found.partition("?")
        address, semicolon, parameters = address.partition(";")
        if semicolon:  # `/cart;jsessionid=…`
            parameters = self._parameters(parameters)
        address = secret_places.without_shapes(address, REDACTED)
        shown = f"{address}{semicolon}{parameters}{question_mark}{self.query(query_string)}"
        return _cut(shown, len(url) - len(kept), bounds.limits.value)

    def referrer(self, url: str, host: str | None, url_kwargs: Mapping[str, object]) -> str:
        """Return a referring URL: of the same site origin and path, of others the origin only.

        The path may be that of a link that logs in or resets a password, and its pattern is unknown
        here. So parts of it that look random go, too.

        Args:
            url: as the client sent it.
            host: the request's, without a port.
            url_kwargs: what the request's own path captured; a form is sent from the path it is sent to.
        """
        kept = url[: bounds.limits.value + MARGIN].partition("#")[0].partition("?")[0]
        address = _address.match(kept)
        origin, path = "", kept
        if address is not None:
            site = address[2].rpartition("@")[2]
            origin, path = f"{address[1] or ''}//{site}", kept[address.end() :]
            if site.partition(":")[0].lower() != (host or "").lower():
                return bounds.cut(origin)
        elif not kept.startswith("/"):
            return bounds.cut(kept.partition(":")[0])  # `about:`
        path = _random.sub(REDACTED, self.path(path.partition(";")[0], url_kwargs))
        return bounds.cut(origin + path)

    def path(self, path: str, url_kwargs: Mapping[str, object]) -> str:
        """Return the path without tokens, and what its URL pattern captured under secret names.

        Limit: if a path converter made something of the value that no longer reads like the path,
        the value is not recognised.
        """
        spans: list[tuple[int, int]] = []
        for name, value in url_kwargs.items():
            # None and booleans come from the URLconf, not from the path.
            if value is not None and not isinstance(value, bool) and self.is_secret(name, True):
                spans += _occurrences(path, as_text(value))
        if spans:
            path = _blank(path, spans)
        return secret_places.without_shapes(path, REDACTED) if "eyJ" in path else path

    def text(self, text: str, most: int | None = None, margin: int = MARGIN) -> str:
        """Return free text, such as an error's message, without secrets, and cut.

        Limit: of an unquoted secret with spaces in it, only the first word is recognised.

        Args:
            text: of any length.
            most: the longest text shown, in characters; by default `bounds.limits.value`.
            margin: so many characters behind the cut are searched, too.
        """
        most = bounds.limits.value if most is None else most
        if len(text) <= most:
            return self._clean(text)
        kept = text[: most + margin]
        if len(kept) < len(text):
            # A password that goes on behind the margin: what is left of it must look like one, too.
            shown = self._clean(kept + "@").removesuffix("@")
        else:
            shown = self._clean(kept)
        return _cut(shown, len(text) - len(kept), most)

    def sql(self, statement: str) -> str:
        """Return a statement without the values that were written into it, and cut."""
        kept = statement[: bounds.limits.value + MARGIN]
        return _cut(without_literals(kept), len(statement) - len(kept), bounds.limits.value)

    def _clean(self, text: str) -> str:
        if ":" in text or "=" in text or "," in text or "%" in text or "'" in text or "(" in text:
            if "//" in text:
                text = secret_places.without_users(text, REDACTED)
            text = _blank(text, secret_places.named_secrets(text, self.is_secret))
        return secret_places.without_shapes(text, REDACTED)

    def _parameters(self, part: str) -> str:
        kept: list[str] = []
        after_secret = False
        for parameter in part.split(";"):
            name, equals, value = parameter.partition("=")
            if after_secret and not equals:
                continue  # to most servers `;` is no separator, so this is more of the secret
            after_secret = bool(equals) and self.is_secret(unquote_plus(name), True)
            if after_secret or self._carries_secret(value or name):
                parameter = f"{name}={REDACTED}" if equals else REDACTED
            kept.append(parameter)
        return ";".join(kept)

    def _carries_secret(self, value: str) -> bool:
        """Return whether the value is itself a URL or query with a secret, as in `next=…`."""
        decoded = unquote_plus(value) if "%" in value else value
        is_candidate = "=" in decoded or "@" in decoded or "%" in decoded
        if not is_candidate and not secret_places.may_hold_shape(decoded):
            return False
        return self.text(decoded) != decoded


def _cut(shown: str, missing: int, most: int) -> str:
    """Return a redacted text, cut; `missing` characters of the original have not been looked at."""
    missing += max(0, len(shown) - most)
    return f"{shown[:most]}...[+{missing}]" if missing else shown


def _blank(text: str, spans: Iterable[tuple[int, int]]) -> str:
    shown: list[str] = []
    done = 0
    for start, end in sorted(spans):
        if start < end and start >= done:
            shown += (text[done:start], REDACTED)
        done = max(done, end)
    return "".join([*shown, text[done:]]) if shown else text


def _occurrences(path: str, secret: str) -> Iterator[tuple[int, int]]:
    """Yield where the secret stands in the path, plain or percent-encoded in whatever way."""
    if not secret:
        return
    for start in _places(path, secret):
        yield start, start + len(secret)
    if "%" not in path:
        return
    decoded, spans, end = bytearray(), [], 0  # spans: for each decoded byte, what it stood for
    for token in _path_token.findall(path):
        start, end = end, end + len(token)
        code = bytes([int(token[1:], 16)]) if len(token) == 3 else _bytes(token)
        decoded += code
        spans += [(start, end)] * len(code)
    for start in _places(bytes(decoded), _bytes(secret)):
        yield spans[start][0], spans[start + len(_bytes(secret)) - 1][1]


def _places(text: AnyStr, part: AnyStr) -> Iterator[int]:
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + 1)  # also one that overlaps: `aba` in `ababa`


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
