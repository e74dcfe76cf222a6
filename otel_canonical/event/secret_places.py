"""Finds in free text where secrets stand: by the names beside them, and by their own shape. Pure.

Texts may be hostile, so every scan takes time linear in the text; comments at the patterns say why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Span = tuple[int, int]

# `//user:password@`. Careless passwords hold `/`, `?` or `#`; what is no port is read as one of
# these. No match runs past the next `//`, where the next one would start: linear.
_userinfo = re.compile(
    r"""(//[^\s/?#:@"'\[]*:)(?:[^\s/?#]+@|(?!\d+(?:[/?#\s]|$))(?:[^\s@/]|/(?!/))+@)"""
)
# `//token@`: a user without a password may be a token; `git@` is none.
_lone_user = re.compile(r"""(//)(?!git@)[^\s/?#:@"'\[\]]+@""")

# Known without a name. The look-behinds let a match start once in a run of letters only: linear.
_bearer = re.compile(
    r"(?<![\w-])(bearer[ \t]{1,4})(?=[^\s\"',;]{0,40}\d)[^\s\"',;]+", re.IGNORECASE
)
_shapes = re.compile(
    r"(?<![\w-])(?:eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"  # JSON Web Token
    r"|[rs]k_(?:live|test)_\w{8,}"  # Stripe
    r"|gh[opsru]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"  # GitHub, GitLab
    r"|xox[abeprs]-[\w-]{10,}"  # Slack
    r"|A(?:KI|SI)A[A-Z0-9]{16}(?!\w)|AIza[\w-]{30,}"  # AWS, Google
    r"|(?=[3-6])\d(?:[ -]?\d){12,18}(?![\w-]))"  # a card's number, see `_is_card`
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*",
    re.DOTALL,
)
#: Each of these shapes but a card's number holds one of these.
_MARKERS = (
    *("eyJ", "k_live_", "k_test_", "gh", "github_pat_", "glpat-", "xox", "KIA", "SIA", "AIza"),
    "PRIVATE KEY",
)

# `name=`, `name: `, `"name": `, `name => `, `name%3D`, also with the escaped quotes of JSON inside JSON.
_name_in_text = re.compile(
    r"""(?<![\w-])([\w-]+)(?:\\{0,3}["'])?\]?[ \t]{0,4}"""
    r"""(?:=>|[!:]=|={1,3}|:|%(?:25){0,2}3[ADad])[ \t]{0,4}"""
)
# `("name", "value")`, a pair of texts.
_pair_in_text = re.compile(
    r"""[\[(][ \t]{0,4}(\\{0,3}["'])([\w-]{1,64})\1,[ \t]{0,4}(?=[bru]?\\{0,3}["'])"""
)
# `Key (name, name)=(value, value)`: PostgreSQL. The bound on the names keeps it linear.
_row_in_text = re.compile(r"\(([^()\n]{1,200})\)=\(")
# `Failing row contains (value, value)`: PostgreSQL names no column.
_row_without_names = "Failing row contains ("
# `Duplicate entry 'value' for key 'table.column'`: MySQL and MariaDB.
_entry_in_text = re.compile(r"Duplicate entry '([^\n]{0,1000}?)' for key '([^'\n]{1,200})'")

_open_quote = re.compile(r"""[bBrRuU]{0,2}(\\{0,3}["'])""")  # also b'…'
_quote_or_bracket = re.compile(
    r""""[^"\\]*(?:\\.[^"\\]*)*"?|'[^'\\]*(?:\\.[^'\\]*)*'?|([\[{(])|[\]})]""", re.DOTALL
)
# A bare value ends at white space or `&`, and at other punctuation only if nothing of it follows.
_bare_value = re.compile(
    r"""(?:[^\s&,;"')\]}]|[,;"')\]}](?![,;"')\]}]{0,3}(?:\s|$|[\w-]+["']?\s{0,2}[=:])))*"""
)
_rest_of_line = re.compile(r"[^\r\n]*")


def without_users(text: str, mark: str) -> str:
    """Return a text without the passwords of its URLs, nor users that have none."""
    return _lone_user.sub(rf"\1{mark}@", _userinfo.sub(rf"\1{mark}@", text))


def without_shapes(text: str, mark: str) -> str:
    """Return a text without what is recognised by its shape: tokens, keys, card numbers."""
    if may_hold_shape(text):
        text = _shapes.sub(lambda found: mark if _is_secret_shape(found[0]) else found[0], text)
    if "bearer" in text.lower():
        text = _bearer.sub(rf"\1{mark}", text)
    return text


def may_hold_shape(text: str) -> bool:
    """Return whether a text may hold a token, a key or a card's number: a quick look."""
    return any(marker in text for marker in _MARKERS) or _may_hold_card(text)


def named_secrets(text: str, is_secret: Callable[[str, bool], bool]) -> Iterator[Span]:
    """Yield where the values of secret names stand; they may overlap.

    Args:
        text: any.
        is_secret: judges a name; its second argument says whether it stands in a URL's query.
    """
    end = 0
    while named := _name_in_text.search(text, end):
        end = named.end()
        start = named.start(1)
        before = text[start - 1 : start]
        name = named[1]
        if before == "%":
            name = name[2:]  # `%26name`
        if is_secret(name, before in ("?", "&") and text[end - 1] == "="):
            start, end = _value_span(text, end, name.lower())
            yield start, end
    if '",' in text or "'," in text:
        for pair in _pair_in_text.finditer(text):
            if is_secret(pair[2], False):
                yield _value_span(text, pair.end(), pair[2])
    yield from _in_database_errors(text, is_secret)


def _in_database_errors(text: str, is_secret: Callable[[str, bool], bool]) -> Iterator[Span]:
    if ")=(" in text:
        for row in _row_in_text.finditer(text):
            if any(is_secret(name.strip(), False) for name in row[1].split(",")):
                yield row.end(), _end_of_row(text, row.end())
    place = text.find(_row_without_names)
    while place >= 0:
        place += len(_row_without_names)
        yield place, _end_of_row(text, place)
        place = text.find(_row_without_names, place)
    if "Duplicate entry '" in text:
        for entry in _entry_in_text.finditer(text):
            if is_secret(entry[2], False):
                yield entry.span(1)


def _end_of_row(text: str, start: int) -> int:
    """Return where the last bracket of this line closes; a value may hold brackets itself."""
    line = _rest_of_line.match(text, start)
    end = line.end() if line else len(text)
    closing = text.rfind(")", start, end)
    return closing if closing >= 0 else end


def _value_span(text: str, start: int, name: str) -> Span:
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


_digits = re.compile(r"\d(?:[ -]?\d){12}")


def _may_hold_card(text: str) -> bool:
    return _digits.search(text) is not None


def _is_secret_shape(text: str) -> bool:
    """Return whether a match of `_shapes` is a secret: any but a number that is no card's."""
    return not text[0].isdigit() or _is_card(text)


def _is_card(text: str) -> bool:
    """Return whether a number has the check digit of a payment card's (Luhn's)."""
    digits = [int(digit) for digit in reversed(text) if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
