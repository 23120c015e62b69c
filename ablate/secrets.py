"""Secrets are left out of whatever is written or printed: one rule for ledgers, manifests, failures and error lines."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

REMOVED = "[removed: looks like a secret]"

SHORTEST = 8
"""Characters of a value of the environment that is taken for a secret; shorter ones stand in ordinary words too."""
_SECRET_WORDS = {"password", "passwd", "passphrase", "secret", "secrets", "credential", "credentials", "apikey"}
_SECRET_KEYS = {"api", "access", "private", "auth", "authorization", "signing", "ssh"}
_VOCABULARY_TOKENS = {"pad", "eos", "bos", "cls", "sep", "unk", "mask"}


def scrub(value: Any, name: str = "") -> Any:
    """Return plain values without secrets, for records that may hold anything.

    Left out are values whose name looks like a secret (`api_key`, `password`, `hf_token`, …), and what `scrub_texts`
    leaves out.
    """
    return _scrub(value, name, _environment_secrets(), by_name=True)


def scrub_texts(value: Any) -> Any:
    """Return plain values without secrets in their texts, for records with a schema, in which no name is a secret's.

    Left out are the secrets of the environment wherever they stand in a text, and passwords in addresses
    (`scheme://user:password@host`). Names in dictionaries are texts too; numbers are left alone.
    """
    return _scrub(value, "", _environment_secrets(), by_name=False)


def scrub_text(text: str) -> str:
    """Return a text, such as a message or a traceback, without the secrets that `scrub_texts` leaves out."""
    return _without(text, _environment_secrets())


def is_scrubbed(value: Any) -> bool:
    """Return whether something was left out of plain values, so that they no longer have the digest that they had."""
    if isinstance(value, Mapping):
        return any(is_scrubbed(name) or is_scrubbed(item) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return any(map(is_scrubbed, value))
    return isinstance(value, str) and REMOVED in value


def is_same_but_for_secrets(stored: Any, given: Any) -> bool:
    """Return whether stored plain values are the given ones, where what was left out may have been anything."""
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        return len(stored) == len(given) and all(
            any(
                is_same_but_for_secrets(name, other) and is_same_but_for_secrets(item, given[other])
                for other in ((name,) if name in given else given)
            )
            for name, item in stored.items()
        )
    if isinstance(stored, list) and isinstance(given, list):
        return len(stored) == len(given) and all(map(is_same_but_for_secrets, stored, given))
    if isinstance(stored, str) and isinstance(given, str) and REMOVED in stored:
        return re.fullmatch(".*".join(map(re.escape, stored.split(REMOVED))), given, re.S) is not None
    return type(stored) is type(given) and bool(stored == given)


def _scrub(value: Any, name: str, secrets: list[str], *, by_name: bool) -> Any:
    if by_name and value is not None and not isinstance(value, bool) and _is_secret_name(name, value):
        return REMOVED
    if isinstance(value, Mapping):
        return {
            _without(str(key), secrets): _scrub(item, str(key), secrets, by_name=by_name) for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_scrub(item, "", secrets, by_name=by_name) for item in value]
    if isinstance(value, (bytes, os.PathLike)):
        value = str(value)
    return _without(value, secrets) if isinstance(value, str) else value


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, REMOVED)
    return re.sub(r"(?<=://)([^/\s:@]*):[^/\s@]+@", rf"\1:{REMOVED}@", text) if "://" in text else text


def _is_secret_name(name: str, value: Any) -> bool:
    words = re.findall(r"[a-z]+|[0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    if not words:
        return False
    if _SECRET_WORDS & set(words):
        return True
    if isinstance(value, (int, float)):
        return False
    before = words[-2] if len(words) > 1 else ""
    if words[-1] == "token":
        return before not in _VOCABULARY_TOKENS
    return words[-1] == "key" and before in _SECRET_KEYS


def _environment_secrets() -> list[str]:
    """Return the secrets of the environment as they may stand in a text: as they are, and in quotes; longest first."""
    values = (value for name, value in os.environ.items() if len(value) >= SHORTEST and _is_secret_name(name, value))
    forms = {
        form
        for value in values
        for form in (value, value.strip(), repr(value)[1:-1], json.dumps(value)[1:-1], " ".join(value.split()))
        if len(form) >= SHORTEST
    }
    return sorted(forms, key=lambda form: (-len(form), form))
