"""The JSON encoder: the same event as one ASCII object a line, for any input."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event.json_lines import encode
from otel_canonical.event.logfmt import clean_key

MOST_FIELDS = 30
TOO_WIDE = 10**5000  # more digits than Python prints

any_text = st.text(st.characters(exclude_categories=()))
values = any_text | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()


class Broken:
    """Raises when it is asked for its text or its hash."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


anything: st.SearchStrategy[Any] = st.one_of(
    values,
    st.none(),
    st.floats(),
    st.binary(),
    st.lists(st.text()),
    st.builds(Broken),
    st.just(TOO_WIDE),
)


def test_event_when_written_looks_like_this() -> None:
    """Numbers and booleans stay what they are, keys are repaired as in logfmt, None is left out."""
    pairs: list[tuple[str, Any]] = [
        ("event_type", "request"),
        ("sampled", True),
        ("req_path", "/café/"),
        ("req_user_agent", '"\\\x1b\r\n\u2028\x7f'),
        ("user_id", None),
        ("resp_status", 200),
        ("resp_time", 0.0421),
        ("app_plan name", ""),
    ]
    assert encode(pairs) == (
        r'{"event_type":"request","sampled":true,"req_path":"/caf\u00e9/",'
        r'"req_user_agent":"\"\\\u001b\r\n\u2028\u007f",'
        r'"resp_status":200,"resp_time":0.0421,"app_plan_name":""}'
    )


@given(st.dictionaries(any_text, values, max_size=MOST_FIELDS))
def test_values_when_read_as_json_come_back(event: dict[str, Any]) -> None:
    """A JSON reader gets every value back, under the repaired key, the last of equal ones."""
    assert json.loads(encode(event.items())) == {
        clean_key(key): value for key, value in event.items()
    }


@given(st.lists(st.tuples(anything, anything), max_size=MOST_FIELDS))
def test_anything_when_encoded_is_one_printable_ascii_line(pairs: list[tuple[Any, Any]]) -> None:
    """Whatever the keys and values are, there is one strict JSON object in printable ASCII."""
    line = encode(pairs)
    assert line.isascii()
    assert line.isprintable()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    event = json.loads(line, parse_constant=refuse)
    assert list(event) == list(
        dict.fromkeys([clean_key(key) for key, value in pairs if value is not None])
    )


def test_numbers_when_json_has_none_like_them_become_texts() -> None:
    """What the grammar of JSON has no number for is a string, and costs no other value its type."""
    pairs = [("a", math.nan), ("b", math.inf), ("c", -math.inf), ("d", TOO_WIDE), ("e", 1.5)]
    assert encode(pairs) == '{"a":"nan","b":"inf","c":"-inf","d":"!err","e":1.5}'


def test_numbers_have_no_exponent() -> None:
    """VictoriaLogs, for one, leaves a number with one out of its sums."""
    pairs = [("a", 1.2e-05), ("b", -1e-07), ("c", 1e22), ("d", 5e-324)]
    text = encode(pairs)
    assert text.startswith('{"a":0.000012,"b":-0.0000001,"c":10000000000000000000000.0,"d":0.000')
    assert json.loads(text) == dict(pairs)


def test_value_when_it_has_no_text_is_marked() -> None:
    """A value or key that raises becomes a mark; the rest of the line is written all the same."""
    pairs: list[tuple[Any, Any]] = [("a", Broken()), (Broken(), 1), ("b", ["x"])]
    assert encode(pairs) == '{"a":"!err","_err":1,"b":"[\'x\']"}'
