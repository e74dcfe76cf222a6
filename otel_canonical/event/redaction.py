"""Removes secrets from lines, spans, log events and the local variables of stacks.

Pure, so it runs on either side of the fork. A secret is recognised by the name beside it. In doubt a
name counts as secret: hiding a harmless value costs less than showing a password. Texts may be hostile,
so every scan takes time linear in the text; comments at the patterns say why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import AnyStr
from urllib.parse import unquote_plus

from otel_canonical.event.logfmt import FieldValue, as_text

REDACTED = "[redacted]"
# Names come from query strings, too: clients must not be able to fill the cache.
KNOWN_NAMES_LIMIT = 2048
KNOWN_NAME_LENGTH_LIMIT = 64

# Names are compared as `_lower_case_words_`. The last group matches whole words only: `author`, `spin`
# and `compass` are no secrets. The others match inside a word, too: `csrfmiddlewaretoken`, `PHPSESSID`.
_secret_name = re.compile(
    r"pass(?:word|wd|phrase|code|key)|secret(?!ar|ion|ive|ly)|credential|authori[sz]ation|[cx]srf"
    r"|(?:access|api|auth|encryption|master|private|session|shared|signing|ssh)_?key(?!board|word)"
    r"|(?<!_ob)(?<!_pos)session_?id|(?<!_as)sess_?id|card_?num|credit_?card|cookies?\d*_|token\d*_"
    r"|(?:access|api|auth|bearer|refresh|session)_?tokens_"  # but `prompt_tokens` are a count
    r"|(?:2fa|backup|mfa|recovery|security|verification)_?code"
    r"|_(?:auth|bearer|cv[cv]|[ht]?otp|jwt|pass|pin|pw|pwd|session|sid|sig|signature|ssn)\d*_"
)
_measure = (
    re.compile(  # something about a secret, not the secret: `token_count`, `password_changed_at`
        r"_(?:age|at|count|expir[ey]s?|length|limit|rate|size|time|total|ttl|type|version)_$"
    )
)
_hump = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_between_words = re.compile(r"[\W_]+")

# `//user:password@`. Careless passwords hold `/`, `?` or `#`; what is no port is read as one of
# these. No match runs past the next `//`, where the next one would start: linear.
_userinfo = re.compile(
    r"""(//[^\s/?#:@"'\[]*:)(?:[^\s/?#]+@|(?!\d+(?:[/?#\s]|$))(?:[^\s@/]|/(?!/))+@)"""
)
# Known without a name. The look-behinds let a match start once in a run of letters only: linear.
_bearer = re.compile(
    r"(?<![\w-])(bearer[ \t]{1,4})(?=[^\s\"',;]{0,40}\d)[^\s\"',;]+", re.IGNORECASE
)
_jwt = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?")

# `name=`, `name: `, `"name": `, `name => `, also with the escaped quotes of JSON inside JSON.
_name_in_text = re.compile(
    r"""(?<![\w-])([\w-]+)(?:\\{0,3}["'])?\]?[ \t]{0,4}(?:=>|[!:]=|={1,3}|:)[ \t]{0,4}"""
)
_open_quote = re.compile(r"""[bBrRuU]{0,2}(\\{0,3}["'])""")  # also b'…'
_quote_or_bracket = re.compile(
    r""""[^"\\]*(?:\\.[^"\\]*)*"?|'[^'\\]*(?:\\.[^'\\]*)*'?|([\[{(])|[\]})]""", re.DOTALL
)
# A bare value ends at white space or `&`, and at other punctuation only if nothing of it follows.
_bare_value = re.compile(
    r"""(?:[^\s&,;"')\]}]|[,;"')\]}](?![,;"')\]}]{0,3}(?:\s|$|[\w-]+["']?\s{0,2}[=:])))*"""
)
_rest_of_line = re.compile(r"[^\r\n]*")
_path_token = re.compile(r"%[0-9A-Fa-f]{2}|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RedactionPolicy:
    """What is secret: values under the usual names, and under `extra_names`."""

    extra_names: Iterable[str] = ()
    _extra: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _verdicts: dict[str, bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = tuple(self.extra_names)
        words = [re.escape(_words(name)) for name in names if _words(name).strip("_")]
        object.__setattr__(self, "extra_names", names)
        object.__setattr__(self, "_extra", re.compile("|".join(words)) if words else None)
        object.__setattr__(self, "_verdicts", {})

    def is_secret(self, name: str) -> bool:
        """Return whether a value under this name is secret, however the name is spelled."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            verdict = self._judge(name)
            if len(name) <= KNOWN_NAME_LENGTH_LIMIT:
                if len(self._verdicts) >= KNOWN_NAMES_LIMIT:
                    self._verdicts.clear()
                self._verdicts[name] = verdict
        return verdict

    def value(self, name: str, value: FieldValue) -> FieldValue:
        """Return the value, or the mark if its name is secret."""
        return REDACTED if self.is_secret(name) else value

    def query(self, query_string: str) -> str:
        """Return the query string without its secret values; all else stays as it was sent."""
        if "=" not in query_string and "%" not in query_string:
            return query_string
        return "&".join([self._parameters(part) for part in query_string.split("&")])

    def url(self, url: str) -> str:
        """Return the URL, or what was sent as one, without password, secret values and fragment."""
        # The password goes first: a `#` or `?` in it is not where the fragment or query starts.
        url = _userinfo.sub(rf"\1{REDACTED}@", url).partition("#")[0]
        address, question_mark, query_string = url.partition("?")
        address, semicolon, parameters = address.partition(";")
        if semicolon:  # `/cart;jsessionid=…`
            parameters = self._parameters(parameters)
        return f"{address}{semicolon}{parameters}{question_mark}{self.query(query_string)}"

    def path(self, path: str, url_kwargs: Mapping[str, object]) -> str:
        """Return the path without the values that its URL pattern captured under secret names.

        Limit: if a path converter made something of the value that no longer reads like the path,
        the value is not recognised.
        """
        spans: list[tuple[int, int]] = []
        for name, value in url_kwargs.items():
            # None and booleans come from the URLconf, not from the path.
            if value is not None and not isinstance(value, bool) and self.is_secret(name):
                spans += _occurrences(path, as_text(value))
        return _blank(path, spans)

    def text(self, text: str) -> str:
        """Return free text, such as an error's message, without the secrets that it names.

        Limit: of an unquoted secret with spaces in it, only the first word is recognised.
        """
        if ":" in text or "=" in text:
            if "//" in text:
                text = _userinfo.sub(rf"\1{REDACTED}@", text)
            text = _blank(text, self._named_secrets(text))
        if "eyJ" in text:
            text = _jwt.sub(REDACTED, text)
        if "bearer" in text.lower():
            text = _bearer.sub(rf"\1{REDACTED}", text)
        return text

    def _judge(self, name: str) -> bool:
        plain, words = _words(name), _words(_hump.sub("_", name))
        if self._extra is not None and (self._extra.search(plain) or self._extra.search(words)):
            return True
        if _measure.search(words):
            return False
        return bool(_secret_name.search(plain) or _secret_name.search(words))

    def _parameters(self, part: str) -> str:
        kept: list[str] = []
        after_secret = False
        for parameter in part.split(";"):
            name, equals, value = parameter.partition("=")
            if after_secret and not equals:
                continue  # to most servers `;` is no separator, so this is more of the secret
            after_secret = bool(equals) and self.is_secret(unquote_plus(name))
            if after_secret or self._carries_secret(value or name):
                parameter = f"{name}={REDACTED}" if equals else REDACTED
            kept.append(parameter)
        return ";".join(kept)

    def _carries_secret(self, value: str) -> bool:
        """Return whether the value is itself a URL or query with a secret, as in `next=…`."""
        decoded = unquote_plus(value) if "%" in value else value
        is_candidate = "=" in decoded or "@" in decoded or "eyJ" in decoded
        return is_candidate and self.text(decoded) != decoded

    def _named_secrets(self, text: str) -> Iterable[tuple[int, int]]:
        end = 0
        while named := _name_in_text.search(text, end):
            end = named.end()
            if self.is_secret(named[1]):
                start, end = _value_span(text, end, named[1].lower())
                yield start, end


def _words(name: str) -> str:
    return f"_{_between_words.sub('_', name.lower()).strip('_')}_"


def _blank(text: str, spans: Iterable[tuple[int, int]]) -> str:
    shown: list[str] = []
    done = 0
    for start, end in sorted(spans):
        if start < end and start >= done:
            shown += (text[done:start], REDACTED)
        done = max(done, end)
    return "".join([*shown, text[done:]]) if shown else text


def _value_span(text: str, start: int, name: str) -> tuple[int, int]:
    """Return where the value that starts here ends; one that is never closed ends with the text."""
    if quote := _open_quote.match(text, start):
        start = end = quote.end()
        while (end := text.find(quote[1], end)) > 0 and text[end - 1] == "\\":
            end += 1
        return start, end if end > 0 else len(text)
    if text[start : start + 1] in ("{", "[", "("):
        depth = 0
        for token in _quote_or_bracket.finditer(text, start):
            if token[1]:
                depth += 1
            elif token[0] in ("}", "]", ")"):
                depth -= 1
                if depth == 0:
                    return start, token.end()
        return start, len(text)
    # A whole header: several words, and cookies are joined by `; `.
    is_header = "authori" in name or "cookie" in name
    value = (_rest_of_line if is_header else _bare_value).match(text, start)
    return start, value.end() if value else start


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
