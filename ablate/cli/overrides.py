"""How a value is written on the command line, whose grammar (Hydra's) gives commas, braces and more a meaning.

Hydra is imported by the function that reads, so that modules below may write.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

_BARE = re.compile(r"(?!\.\d)[A-Za-z_./][\w./-]*", re.ASCII)
"""Texts that the grammar reads as themselves, but for the names of other values."""
_NAMES = ("null", "true", "false", "inf", "nan")
_NO_TEXT = re.compile(r"""[\[{'"]|(choice|range|interval|glob|tag|sort|shuffle|extend_list|str|int|float|bool)\(""")
"""How a value begins that is meant as a list, a group, a quoted text or a function, whatever is wrong with it."""
_OVERRIDE = re.compile(r"([+~]*[A-Za-z_][\w./@:-]*)=(.*)", re.ASCII | re.DOTALL)


def written(value: Any, mark: str = "'") -> str:
    """Return a value as the command line takes it, a text in quotation marks where it would be read as something else.

    Every text is meant literally: what looks like an interpolation, `${…}`, is escaped too.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(written(item, mark) for item in value)}]"
    if isinstance(value, (int, float)):
        return repr(value)
    text = str(value)
    if _BARE.fullmatch(text) and text.lower() not in _NAMES:
        return text
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # OmegaConf halves backslashes before `${`, and only there
    return mark + re.sub(rf"(\\*)({mark}|$)", lambda match: _escaped(*match.groups()), literal) + mark


def _escaped(backslashes: str, mark: str) -> str:
    """Return backslashes before a quotation mark or the end: the grammar halves them there, and only there."""
    return 2 * backslashes + (f"\\{mark}" if mark else "")


def quoted(key: str, value: Any) -> str:
    """Return the override that gives a key this value."""
    return f"{key}={written(value)}"


def shell_word(key: str, value: Any) -> str:
    """Return the override as a person types it in a shell, such as `'runtime.results="/a b=c"'`."""
    return shlex.quote(f"{key}=" + written(value, mark='"'))


def explain_unquoted(override: str) -> str | None:
    """Return one line that shows how to write an override whose text the grammar does not take as one value, or None.

    None for an override that it takes, and for what is meant as something else than a text.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parts = _OVERRIDE.fullmatch(override)
    if parts is None:
        return None
    key, value = parts.groups()
    try:
        read = OverridesParser.create().parse_override(override)
        if not read.is_choice_sweep() or _NO_TEXT.match(value):
            return None
        return f"{override} is several values: add -m for a run with each; as one text: {shell_word(key, value)}"
    except HydraException:
        if _NO_TEXT.match(value):
            return None
        return f"{override} holds characters with a meaning of their own; as one text: {shell_word(key, value)}"
