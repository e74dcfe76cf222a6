"""The redaction policy: what it hides, what it shows, and that no text makes it slow."""

from __future__ import annotations

import time
import uuid
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event.bounds import limits
from otel_canonical.event.redaction import (
    KNOWN_NAME_LENGTH_LIMIT,
    KNOWN_NAMES_LIMIT,
    REDACTED,
    RedactionPolicy,
)

SECRET = "hunter2SECRETvalue"
HOSTILE_LENGTH = 100_000
HOSTILE_SECONDS = 2.0  # quadratic time would be minutes
POLICY = RedactionPolicy()

USUAL_NAMES = """
    password PASSWORD Password password1 new_password2 userPassword passwd pwd PWD pass db_pass
    passphrase secret SECRET_KEY client_secret clientSecret secrets token TOKEN token2 access_token
    accessToken csrfmiddlewaretoken x-csrftoken X-CSRF-Token XSRF-TOKEN authtoken refresh_tokens
    authorization Authorization Proxy-Authorization HTTP_AUTHORIZATION cookie Set-Cookie cookies
    session SESSION session_key sessionid session_id sessionID PHPSESSID JSESSIONID connect.sid
    api_key apikey api-key X-API-Key APIKey apiKeys access_key AWSAccessKeyId private_key privateKey
    credential credentials user.credentials auth X-Auth basic_auth jwt JWT id_jwt bearer otp totp
    otp_code pin PIN user_pin userPin pin2 ssn card_number cardNumber credit_card cvv cvv2 CVC signature
    X-Amz-Signature sig user[password] pAsSwOrD recovery_code
    """

INNOCENT_NAMES = """
    author authors authority authored authenticated is_authenticated tokenizer tokenizer_version
    tokens prompt_tokens max_tokens token_count token_type token_refresh_time session_count sessions
    active_sessions possession obsession possession_id obsession_id assess_id cookieless secretary secretion
    password_changed_at password_length passenger compass passed bypass pinned spin shipping opinion
    pin_count key keys primary_key cache_key public_key keyboard design designed assignature sigma
    plan items status_code zip_code event_type ts req_id trace_id span_id req_path req_user_agent
    user_id resp_status db_queries cache_hits
    """

any_text = st.text(st.characters(exclude_categories=()))
parameter_text = st.text(st.characters(exclude_characters="&;=%@:+", exclude_categories=()))
spaced = st.text(" \t", max_size=2)


@pytest.mark.parametrize(
    "name",
    USUAL_NAMES.split(),
)
def test_name_when_usual_for_a_secret_is_secret(name: str) -> None:
    """The usual names are known in every spelling: case, humps, dashes, dots, brackets, numbers."""
    assert POLICY.is_secret(name)
    assert POLICY.value(name, SECRET) == REDACTED
    assert POLICY.value(name, 1234) == REDACTED


@pytest.mark.parametrize(
    "name",
    INNOCENT_NAMES.split(),
)
def test_name_when_it_only_looks_alike_is_not_secret(name: str) -> None:
    """Words that hold a secret's name inside them, and measures of secrets, are shown."""
    assert not POLICY.is_secret(name)
    assert POLICY.value(name, 3) == 3


def test_extra_names_when_given_are_secret_too() -> None:
    """A user's names count as whole words of a name, in every spelling, also for its measures."""
    policy = RedactionPolicy(name for name in ["salary", "date-of-birth", "größe", "", "-"])
    for name in ("salary", "SALARY", "userSalary", "salary_total", "dateOfBirth", "date_of_birth"):
        assert policy.is_secret(name), name
    assert policy.is_secret("Größe")
    assert policy.is_secret("password")
    for name in ("plan", "salaryman", "birth", "of", ""):
        assert not policy.is_secret(name), name
    assert not POLICY.is_secret("salary")


def test_policies_of_the_same_names_are_equal() -> None:
    """Also when one of them has been used; shown are the names only."""
    used, new = RedactionPolicy(["salary"]), RedactionPolicy(["salary"])
    assert used.is_secret("token")
    assert used == new != RedactionPolicy()
    assert repr(used) == "RedactionPolicy(extra_names=('salary',))"


def test_names_when_endless_do_not_fill_the_memory() -> None:
    """Clients invent names: the policy remembers no more than the bound, and no long ones."""
    policy = RedactionPolicy()
    for number in range(2 * KNOWN_NAMES_LIMIT):
        assert policy.is_secret(f"token_{number}")
        assert not policy.is_secret("x" * (KNOWN_NAME_LENGTH_LIMIT + 1 + number % 3))
    assert len(policy._verdicts) <= KNOWN_NAMES_LIMIT
    assert max(map(len, policy._verdicts)) <= KNOWN_NAME_LENGTH_LIMIT


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ""),
        ("a=1&token=abc&b=2", "a=1&token=[redacted]&b=2"),
        ("code=a&key=b&ticket=c", "code=[redacted]&key=[redacted]&ticket=[redacted]"),
        ("a=1;token=abc;b=2", "a=1;token=[redacted];b=2"),
        ("a=%20+%c3%A9&&=&b&token=%41&c=", "a=%20+%c3%A9&&=&b&token=[redacted]&c="),
        ("%70%61ssword=x&t%6fken=y", "%70%61ssword=[redacted]&t%6fken=[redacted]"),
        ("user%5Bpassword%5D=x", "user%5Bpassword%5D=[redacted]"),
        ("api+key=x", "api+key=[redacted]"),
        ("token=a=b=c", "token=[redacted]"),
        ("password=a;b&c=1", "password=[redacted]&c=1"),
        ("next=%2Freset%3Ftoken%3Dabc&z=1", "next=[redacted]&z=1"),
        ("next=/reset?token=abc", "next=[redacted]"),
        ("db=postgres%3A%2F%2Fu%3Ap%40h", "db=[redacted]"),
        ("x=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "x=[redacted]"),
        ("token%3Dabc", "[redacted]"),
        ("email=me@example.com&q=1%2B1=2", "email=me@example.com&q=1%2B1=2"),
    ],
)
def test_query_when_redacted_keeps_all_but_the_secrets(query: str, shown: str) -> None:
    """Secret values go, however name or value are encoded; all else keeps order and encoding."""
    assert POLICY.query(query) == shown


@given(st.lists(st.tuples(parameter_text, parameter_text)), st.lists(parameter_text))
def test_query_when_nothing_is_secret_is_untouched(
    pairs: list[tuple[str, str]], words: list[str]
) -> None:
    """A query without secret names is returned as it was sent."""
    parts = [f"{name}={value}" for name, value in pairs if not POLICY.is_secret(name, in_url=True)]
    query = "&".join([*parts, *words])
    assert "eyJ" in query or POLICY.query(query) == query


@given(st.lists(st.tuples(any_text.filter(lambda text: text.isprintable()), st.just("1"))))
def test_query_when_urlencoded_hides_the_secret(pairs: list[tuple[str, str]]) -> None:
    """Between any other parameters, a secret never shows."""
    query = urlencode([*pairs, ("access_token", SECRET), *pairs])
    shown = POLICY.query(query)
    assert SECRET not in shown
    if len(query) < limits.value:  # else it may be cut there
        assert f"access_token={REDACTED}" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("https://shop.example.com/a/?page=2", "https://shop.example.com/a/?page=2"),
        (
            "https://u:p@h/p?a=1&token=b#access_token=c",
            "https://u:[redacted]@h/p?a=1&token=[redacted]",
        ),
        ("https://u:p@ss@h/", "https://u:[redacted]@h/"),
        ("redis://:pw@h:6379/0", "redis://:[redacted]@h:6379/0"),
        ("postgres://u:p#a/s?s@h/db", "postgres://u:[redacted]@h/db"),
        ("https://git@h/repo", "https://git@h/repo"),
        ("https://h:8000/@me?x=a@b", "https://h:8000/@me?x=a@b"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("/cart;jsessionid=ABC;v=1?x=1", "/cart;jsessionid=[redacted];v=1?x=1"),
        ("/a?token=b?c", "/a?token=[redacted]"),
        ("https://h/?next=https://a:b@c/", "https://h/?next=https://a:[redacted]@c/"),
        ("about:blank#x", "about:blank"),
        ("http://[", "http://["),
        ("://??;;==", "://??;;=="),
    ],
)
def test_url_when_redacted_keeps_where_it_points(url: str, shown: str) -> None:
    """Password, secret parameters and fragment go; nonsense is no error."""
    assert POLICY.url(url) == shown


@pytest.mark.parametrize(
    ("path", "kwargs", "shown"),
    [
        ("/reset/MQ/abc-1/", {"uidb64": "MQ", "token": "abc-1"}, "/reset/MQ/[redacted]/"),
        ("/reset/MQ-abc-1/", {"uidb64": "MQ", "token": "abc-1"}, "/reset/MQ-[redacted]/"),
        ("/t/a%2Fb%c3%a9%7E/", {"token": "a/bé~"}, "/t/[redacted]/"),
        ("/t/%74%6Fk/", {"token": "tok"}, "/t/[redacted]/"),
        ("/t/%2541/", {"token": "%41"}, "/t/[redacted]/"),
        ("/t/%41/", {"token": "%41"}, "/t/[redacted]/"),
        ("/tok/%20/tok/", {"token": "tok"}, "/[redacted]/%20/[redacted]/"),
        ("/a/red/", {"token": "a", "secret": "red"}, "/[redacted]/[redacted]/"),
        ("/pin/1234/", {"pin": 1234, "pk": 12}, "/pin/[redacted]/"),
        ("/a/b/", {"slug": "a", "pk": 1}, "/a/b/"),
        # Secrets in a URL only.
        ("/a/b/c/", {"code": "a", "key": "b", "ticket": "c"}, "/[redacted]" * 3 + "/"),
        ("/ababa/", {"token": "aba"}, "/[redacted]/"),
        ("/abcd/", {"token": "abcd", "secret": "b"}, "/[redacted]/"),
        ("/True/true/", {"token": "", "auth": None, "session": True, "pw": "x"}, "/True/true/"),
    ],
)
def test_path_when_it_captured_a_secret_is_shown_without(
    path: str, kwargs: dict[str, Any], shown: str
) -> None:
    """Values under secret names go, plain or percent-encoded; the rest stays as it was sent."""
    assert POLICY.path(path, kwargs) == shown


def test_path_when_a_converter_made_an_object_is_shown_without() -> None:
    """A captured value that is no str is looked for as its text."""
    token = uuid.UUID(int=7)
    assert POLICY.path(f"/x/{token}/", {"token": token}) == "/x/[redacted]/"


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text("/%ab1é"), st.booleans())
def test_path_when_encoded_by_any_client_hides_the_secret(
    secret: str, around: str, is_plain: bool
) -> None:
    """Whatever the secret is made of and whatever stands beside it, its place is blanked."""
    sent = secret if is_plain else "".join([f"%{byte:02x}" for byte in secret.encode()])
    shown = POLICY.path(f"{quote(around)}/{sent}", {"token": secret})
    assert shown.endswith(REDACTED)
    assert POLICY.path(f"/a/{quote(secret)}", {"token": secret}).endswith(REDACTED)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("list index out of range", "list index out of range"),
        ("password=hunter2", "password=[redacted]"),
        ("no: user=x, password=hunter2, db=y", "no: user=x, password=[redacted], db=y"),
        ("(token=a,b;c)", "(token=[redacted])"),
        ("--password=x", "--password=[redacted]"),
        ("Password=abc;Database=x", "Password=[redacted];Database=x"),
        ('{"token": "a\\"b", "a": 1}', '{"token": "[redacted]", "a": 1}'),
        (r'"{\"token\": \"a b\", \"c\": 1}"', r'"{\"token\": \"[redacted]\", \"c\": 1}"'),
        ("{'password': 'a b', 'x': 1}", "{'password': '[redacted]', 'x': 1}"),
        ("{b'cookie': b'a=b; c=d', 'x': 1}", "{b'cookie': b'[redacted]', 'x': 1}"),
        ("User(password='x', name='y')", "User(password='[redacted]', name='y')"),
        ("headers['token'] = 'x'", "headers['token'] = '[redacted]'"),
        ("assert token == 'x'", "assert token == '[redacted]'"),
        ("token => abc!", "token => [redacted]"),
        ("auth={'a': ['}'], 'b': 'c'} failed", "auth=[redacted] failed"),
        ("auth=('user', 'pw') failed", "auth=[redacted] failed"),
        ("auth={'a': {'b': 'cut off", "auth=[redacted]"),
        ("password='cut off", "password='[redacted]"),
        ("Authorization: Bearer xyz", "Authorization: [redacted]"),
        ("Authorization: Digest a=b, c=d\nHost: h", "Authorization: [redacted]\nHost: h"),
        ("Cookie: a=b; sessionid=c\r\nHost: h", "Cookie: [redacted]\r\nHost: h"),
        ("refused: Bearer abc.123", "refused: Bearer [redacted]"),
        ("refused BEARER abc123, sorry", "refused BEARER [redacted], sorry"),
        ("bearer authentication failed", "bearer authentication failed"),
        ("got eyJhbGciOiJ9.eyJzdWIi.sig-x", "got [redacted]"),
        ("postgres://user:pw@host/db is down", "postgres://user:[redacted]@host/db is down"),
        ("redis://:p/w#@h failed", "redis://:[redacted]@h failed"),
        ("GET http://h/x?token=abc&y=1", "GET http://h/x?token=[redacted]&y=1"),
        ("session.py:12: app/auth.py:3:login", "session.py:12: app/auth.py:3:login"),
        ("code=a key=b ticket=c", "code=a key=b ticket=c"),
        ("KeyError: 'password'", "KeyError: 'password'"),
        ("12:30 ratio = 3:4; mail a@b", "12:30 ratio = 3:4; mail a@b"),
        ("password='' token= ", "password='' token= "),
    ],
)
def test_text_when_redacted_keeps_all_but_the_secrets(text: str, shown: str) -> None:
    """In what errors say, the secret part goes and the rest can still be read."""
    assert POLICY.text(text) == shown
    assert POLICY.text(shown) == shown


@given(any_text, st.sampled_from(["password", "api_key", "X-Token"]), spaced, spaced, any_text)
def test_text_when_it_names_a_secret_hides_it(
    before: str, name: str, left: str, right: str, after: str
) -> None:
    """Between any other text, a named secret never shows, quoted or bare."""
    for pair in (f"{name}{left}={right}{SECRET}", f'"{name}"{left}:{right}"{SECRET}"'):
        assert SECRET not in POLICY.text(f"{before} {pair} {after}")


@pytest.mark.parametrize("length", [4095, 4096, 4097, 5119, 5120, 5121, 100_000])
def test_statement_is_cut_where_it_is_too_long(length: int) -> None:
    """It is shown as far as a value may be, and the mark says how much is missing."""
    statement = "SELECT " + "x" * (length - 7)
    missing = length - limits.value
    shown = statement[: limits.value] + (f"...[+{missing}]" if missing > 0 else "")
    assert POLICY.sql(statement) == shown


def test_statement_is_cut_behind_its_values() -> None:
    """A value that is not shown takes no room; one that is cut apart does not show either."""
    shown = POLICY.sql(f"SELECT '{'s' * 1000}', {'x' * 5000}")
    assert shown.partition("...[")[0] == "SELECT ?, " + "x" * (limits.value - 10)
    hidden = POLICY.sql(f"SELECT '{'s' * 10_000}'")
    assert hidden.partition("...[")[0] == "SELECT ?"


@given(any_text)
def test_anything_when_redacted_is_no_error(text: str) -> None:
    """No text makes the policy raise, in any place where it may stand."""
    POLICY.is_secret(text)
    POLICY.query(text)
    POLICY.url(text)
    POLICY.text(text)
    POLICY.path(text, {"token": text, text: "a"})
    assert POLICY.query(f"token={quote_plus(text, errors='replace')}") == f"token={REDACTED}"


@pytest.mark.parametrize(
    "unit",
    [
        *("a", "a=", "a:", "a=&", "//a:", "//a:b", "//", "/", "@", "//a:@", '"', '\\"', "\\", "'"),
        *("=", "-", "[", "{", "eyJ-", "eyJaaaaaaaaa.", "bearer ", "bearer a", "cookie:", "token "),
        *("token=", "token='", 'token="\\', "token={", 'token=["', 'token=["\\"', "token={'\\'"),
        *("token=,", "token=a,", "token=)))", "token=a'", "=token", ";token=;a", "%74oken=%3d"),
    ],
)
def test_text_when_hostile_takes_linear_time(unit: str) -> None:
    """Repeating what patterns stumble over costs no more than its length."""
    text = "= " + (unit * HOSTILE_LENGTH)[:HOSTILE_LENGTH]
    started = time.process_time()
    POLICY.text(text)
    POLICY.url(text)
    POLICY.query(text)
    POLICY.path(text, {"token": unit})
    assert time.process_time() - started < HOSTILE_SECONDS
