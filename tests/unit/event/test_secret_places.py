"""Where secrets stand in texts, URLs, database errors and SQL: what goes, and what can still be read."""

from __future__ import annotations

import pytest

from otel_canonical.event import bounds
from otel_canonical.event.redaction import (
    KNOWN_NAME_LENGTH_LIMIT,
    KNOWN_NAMES_LIMIT,
    MARGIN,
    RedactionPolicy,
)
from otel_canonical.event.secret_places import may_hold_shape

POLICY = RedactionPolicy()
R = "[redacted]"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # PostgreSQL and MySQL.
        ("Key (api_key)=(abc) already exists.", f"Key (api_key)=({R}) already exists."),
        ("Key (tenant, api_key)=(1, a(b)c) exists", f"Key (tenant, api_key)=({R}) exists"),
        ("Key (tenant)=(1) exists", "Key (tenant)=(1) exists"),
        ("(pin)=(1\n2) a", f"(pin)=({R}\n2) a"),
        ("(pin)=(1", f"(pin)=({R}"),
        ("Failing row contains (7, abc, null).", f"Failing row contains ({R})."),
        (
            "Failing row contains (7) a\nFailing row contains (8)",
            f"Failing row contains ({R}) a\nFailing row contains ({R})",
        ),
        (
            "Duplicate entry 'abc' for key 'users.api_key'",
            f"Duplicate entry '{R}' for key 'users.api_key'",
        ),
        (
            "Duplicate entry 'abc' for key 'users.name'",
            "Duplicate entry 'abc' for key 'users.name'",
        ),
        # Pairs, and values that were encoded.
        ("('password', 'hunter2')", f"('password', '{R}')"),
        ('["password", b"hunter2"]', f'["password", b"{R}"]'),
        ("('name', 'hunter2')", "('name', 'hunter2')"),
        ("q=password%3Dhunter2 failed", f"q=password%3D{R} failed"),
        ("q=password%253Dhunter2 failed", f"q=password%253D{R} failed"),
        ("a%26pin%3D1234 failed", f"a%26pin%3D{R} failed"),
        ("AccountName=x;AccountKey=abc==;B=y", f"AccountName=x;AccountKey={R};B=y"),
        # Names that are secrets in URLs only.
        ("GET https://h/cb?code=abc&q=1", f"GET https://h/cb?code={R}&q=1"),
        ("exit code=7", "exit code=7"),
        ("a?code: 7", "a?code: 7"),
        # Users and passwords.
        ("https://abc@host/x", f"https://{R}@host/x"),
        ("https://git@host/x", "https://git@host/x"),
        ("postgres://user:pw@host/db", f"postgres://user:{R}@host/db"),
        ("http://host:8000/a@b", "http://host:8000/a@b"),
        # By their own shape.
        (f"got {JWT}", f"got {R}"),
        ("declined 4111 1111 1111 1111 today", f"declined {R} today"),
        ("declined 5500-0000-0000-0004", f"declined {R}"),
        ("order 4111 1111 1111 1112", "order 4111 1111 1111 1112"),
        ("order 1111111111111117", "order 1111111111111117"),
        ("AKIAIOSFODNN7EXAMPLE is", f"{R} is"),
        ("ASIAIOSFODNN7EXAMPLE is", f"{R} is"),
        ("sk_live_12345678 rk_test_12345678", f"{R} {R}"),
        ("pk_live_12345678", "pk_live_12345678"),
        ("ghp_" + "a" * 20, R),
        ("ghp_" + "a" * 19, "ghp_" + "a" * 19),
        ("github_pat_" + "a" * 20, R),
        ("glpat-" + "a" * 16, R),
        ("xoxb-1234567890", R),
        ("AIza" + "a" * 30, R),
        ("a -----BEGIN RSA PRIVATE KEY-----\nabc", f"a {R}"),
        ("Bearer abc1", f"Bearer {R}"),
        ("Bearer of news", "Bearer of news"),
        # Headers to the end of their line, other values to the next word.
        ("Cookie: a=b; c=d\nx", f"Cookie: {R}\nx"),
        ("Proxy-Authorization: Basic abc def\nx", f"Proxy-Authorization: {R}\nx"),
        ("token: abc def", f"token: {R} def"),
        # Containers and quotes, closed or not.
        ("token={'a': 1} b", f"token={R} b"),
        ("token={'a': [1}", f"token={R}"),
        ("token=[1, (2)] b", f"token={R} b"),
        ("token='a\\'b' c", f"token='{R}' c"),
        ("token='cut", f"token='{R}"),
        ("token", "token"),
    ],
)
def test_secret_goes_and_the_rest_stays(text: str, shown: str) -> None:
    """Twice is once."""
    assert POLICY.text(text) == shown
    assert POLICY.text(shown) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a?code=abc&page=2", f"https://h/a?code={R}&page=2"),
        ("https://h/a?key=abc&ticket=ST-1&q=x", f"https://h/a?key={R}&ticket={R}&q=x"),
        ("https://h/a?next=%2Freset%3Ftoken%3Dabc", f"https://h/a?next={R}"),
        ("https://abc@host/x#access_token=y", f"https://{R}@host/x"),
        ("https://h/a?country_code=de&cache_key=a", "https://h/a?country_code=de&cache_key=a"),
        ("https://h/a?ping_key=a", f"https://h/a?ping_key={R}"),
        (f"https://h/{JWT}/a", f"https://h/{R}/a"),
        ("https://h/a?token=b;c;d=e", f"https://h/a?token={R};d=e"),
        ("https://h/a;b=c?d", "https://h/a;b=c?d"),
        (f"https://h/a?x={JWT}", f"https://h/a?x={R}"),
        (f"https://h/a?{JWT}", f"https://h/a?{R}"),
        ("https://h/a?x=sk_live_12345678&y=1", f"https://h/a?x={R}&y=1"),
        ("https://h/a?x=ghp_" + "a" * 20, f"https://h/a?x={R}"),
        ("https://h/a?4111111111111111", f"https://h/a?{R}"),
        ("https://h/a?b", "https://h/a?b"),
    ],
)
def test_secret_of_a_url_goes(url: str, shown: str) -> None:
    """Parameters by name, tokens by shape, users without a password, fragments."""
    assert POLICY.url(url) == shown


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("https://elsewhere/reset/abc?x=1", "https://elsewhere"),
        ("https://elsewhere:8000/a", "https://elsewhere:8000"),
        ("https://me@elsewhere/a", "https://elsewhere"),
        ("https://shop/a?token=1#b", "https://shop/a"),
        ("https://SHOP:8000/a;b=c", "https://SHOP:8000/a"),
        ("//shop/a", "//shop/a"),
        ("/a/b?c", "/a/b"),
        ("https://shop/reset/MQ/secret-1/", f"https://shop/reset/MQ/{R}/"),
        ("https://shop/r/a1b2c3d4e5f6g7h8i9j0/", f"https://shop/r/{R}/"),
        ("https://shop/r/a1b2c3d4e5f6g7h8i9j/", "https://shop/r/a1b2c3d4e5f6g7h8i9j/"),
        ("https://shop/r/abcdefghijabcdefghijabc/", "https://shop/r/abcdefghijabcdefghijabc/"),
        (f"https://shop/{JWT}", f"https://shop/{R}"),
        ("about:blank", "about"),
        ("android-app://x/y", "android-app://x"),
    ],
)
def test_referrer_has_a_path_on_the_same_site_only(sent: str, shown: str) -> None:
    """Of another site its origin; of ours the path without what looks like a token."""
    assert POLICY.referrer(sent, "shop", {"token": "secret-1"}) == shown
    assert POLICY.referrer("https://shop/a", None, {}) == "https://shop"


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("SELECT a FROM b WHERE c = 'x''y' AND d = 1", "SELECT a FROM b WHERE c = ? AND d = ?"),
        ("SELECT a1 FROM b2", "SELECT a1 FROM b2"),
    ],
)
def test_values_in_a_statement_go(statement: str, shown: str) -> None:
    """Names stay."""
    assert POLICY.sql(statement) == shown


def test_names_are_secret_in_urls_that_are_not_elsewhere() -> None:
    """`code`, `key`, `ticket`: short-lived proofs there, ordinary words in a text."""
    for name in ("code", "key", "ticket", "state", "nonce", "invite", "samlResponse", "ping_key"):
        assert POLICY.is_secret(name, True), name
        assert not POLICY.is_secret(name), name
    for name in ("country_code", "key_name", "primary_key", "sort_key", "public_key", "states"):
        assert not POLICY.is_secret(name, True), name
    for name in ("token_count", "password_changed_at", "token_type"):
        assert not POLICY.is_secret(name, True), name


def test_text_is_cut_to_what_is_asked_for() -> None:
    """With a mark of how much is missing; a text that just fits is whole."""
    assert POLICY.text("x" * 10, 10) == "x" * 10
    assert POLICY.text("x" * 11, 10) == "x" * 10 + "...[+1]"
    long = "x" * (10 + MARGIN + 7)
    assert POLICY.text(long, 10) == "x" * 10 + f"...[+{MARGIN + 7}]"
    assert POLICY.text("x" * 30, 10, 5) == "x" * 10 + "...[+20]"
    most = bounds.limits.value
    assert POLICY.text("x" * most) == "x" * most
    assert POLICY.query("a=" + "x" * most) == "a=" + "x" * (most - 2) + "...[+2]"


def test_verdicts_are_remembered_up_to_a_bound() -> None:
    """Clients send any number of names, and names of any length."""
    policy = RedactionPolicy()
    sizes = []
    for number in range(KNOWN_NAMES_LIMIT + 2):
        policy.is_secret(f"n{number}")
        sizes.append(len(policy._verdicts))
    assert (max(sizes), sizes[-2:]) == (KNOWN_NAMES_LIMIT, [1, 2])
    longest = "x" * KNOWN_NAME_LENGTH_LIMIT
    for name, is_kept in ((longest, True), (longest + "x", False)):
        policy.is_secret(name)
        assert ((name, False) in policy._verdicts) is is_kept


def test_value_is_hidden_by_its_name_or_searched() -> None:
    """Numbers have no secrets in them."""
    assert POLICY.value("password", 7) == R
    assert POLICY.value("count", 7) == 7
    assert POLICY.value("note", "token=abc") == f"token={R}"
    mine = RedactionPolicy(("Customer-No", "", "_"))
    assert mine.is_secret("customerNo")
    assert mine.is_secret("the_customer_no")
    assert not mine.is_secret("a")
    assert mine.extra_names == ("Customer-No", "", "_")


def test_policies_of_the_same_names_are_equal() -> None:
    """Whatever they have judged by now."""
    used = RedactionPolicy(("a",))
    used.is_secret("b")
    assert used == RedactionPolicy(("a",))
    assert used != RedactionPolicy(("b",))
    assert repr(used) == "RedactionPolicy(extra_names=('a',))"


def test_usual_text_is_not_searched_for_shapes() -> None:
    """A quick look is enough: most texts hold none of the words that a token has."""
    assert not may_hold_shape("list index out of range")
    for word in ("eyJ", "k_live_", "ghp_", "xoxb", "AKIA", "AIza", "PRIVATE KEY"):
        assert may_hold_shape(f"refused: {word}")
