"""Values as plain dictionaries, flat or nested; their differences and their digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from typing import Any


def type_hints(cls: type) -> dict[str, Any]:
    """Return field -> type, with what `Annotated` says of it."""
    return typing.get_type_hints(cls, include_extras=True)


def plain(value: Any) -> Any:
    """Return a dataclass as plain dictionaries and lists, ready for JSON or YAML."""
    if isinstance(value, str):  # most of what the groups of a mix hold
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return value


def without_defaults(part: Any) -> dict[str, Any]:
    """Return a part of the recipe as plain values, without the fields that are at their default."""
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    defaults = {field.name: field.default for field in dataclasses.fields(part)}
    return {name: plain(value) for name, value in values.items() if value != defaults[name]}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one dictionary with dotted keys; lists are values."""
    if isinstance(value, Mapping):
        return {
            key: leaf
            for name, item in value.items()
            for key, leaf in flatten(item, f"{path}.{name}" if path else str(name)).items()
        }
    return {path: value}


def diff(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two recipes differ, with the value of each; absent values are None."""
    left, right = flatten(plain(a)), flatten(plain(b))
    return {
        key: (left.get(key), right.get(key))
        for key in dict.fromkeys([*left, *right])
        if left.get(key) != right.get(key)
    }


def digest(value: Any) -> str:
    """Return the id of a plain value: 16 hex digits of SHA-256 over its canonical JSON."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
