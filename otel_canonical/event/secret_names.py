"""Tells by a name whether the value beside it is secret. Pure.

In doubt a name counts as secret: hiding a harmless value costs less than showing a password.
`docs/REDACTION.md` lists what is recognised.
"""

from __future__ import annotations

import re

# Names are compared as `_lower_case_words_`. The last group matches whole words only: `author`, `spin`
# and `compass` are no secrets. The others match inside a word, too: `csrfmiddlewaretoken`, `PHPSESSID`.
_secret = re.compile(
    r"pass(?:word|wd|phrase|code|key)|secret(?!ar|ion|ive|ly)|credential|authori[sz]ation|[cx]srf"
    r"|(?:access|account|api|auth|consumer|encryption|license|master|private|session|shared|signing|ssh"
    r"|storage|subscription)_?key(?!board|word)"
    r"|(?<!_ob)(?<!_pos)session_?id|(?<!_as)sess_?id|card_?num|card_?no_|credit_?card|cookies?\d*_"
    r"|token\d*_|connection_?string"
    r"|(?:access|api|auth|bearer|refresh|session)_?tokens_"  # but `prompt_tokens` are a count
    r"|(?:2fa|backup|mfa|recovery|security|verification)_?code"
    r"|_(?:auth|bearer|cv[cv]|iban|[ht]?otp|jwt|pass|pin|pw|pwd|session|sid|sig|signature|ssn|tok)\d*_"
    r"|^_card\d*_$"
)
_measure = (
    re.compile(  # something about a secret, not the secret: `token_count`, `password_changed_at`
        r"_(?:age|at|count|expir[ey]s?|length|limit|rate|size|time|total|ttl|type|version)_$"
    )
)
# In URLs these are short-lived proofs of identity more often than not: `?code=`, `/ping/<ping_key>/`.
_secret_in_url = re.compile(
    r"^_(?:assertion|code|invit(?:e|ation)|key|nonce|saml_?(?:art|request|response)|state|ticket)_$"
    r"|(?<!_cache)(?<!_foreign)(?<!_group)(?<!_natural)(?<!_order)(?<!_partition)(?<!_primary)"
    r"(?<!_public)(?<!_row)(?<!_sort)(?<!^)_key_$"
)
_hump = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_between_words = re.compile(r"[\W_]+")


def words(name: str) -> str:
    """Return a name as `_lower_case_words_`."""
    return f"_{_between_words.sub('_', name.lower()).strip('_')}_"


def is_secret(name: str, extra: re.Pattern[str] | None, *, in_url: bool) -> bool:
    """Return whether a value under this name is secret, however the name is spelled.

    Args:
        name: of a parameter, a header, a key, a variable.
        extra: matches the words of more names; None without any.
        in_url: whether it is the name of a query parameter or of a captured part of a path.
    """
    plain, humps = words(name), words(_hump.sub("_", name))
    if extra is not None and (extra.search(plain) or extra.search(humps)):
        return True
    if _measure.search(humps):
        return False
    if in_url and (_secret_in_url.search(plain) or _secret_in_url.search(humps)):
        return True
    return bool(_secret.search(plain) or _secret.search(humps))
