"""What is printed for people: nothing in a name, a path or a text can steer the terminal or show a secret."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from ablate.secrets import scrub_text

_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for line feed and tab, DEL, C1
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # marks, overrides and isolates of writing direction; line breaks
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of characters, invisible tags
)
"""Characters that act on a terminal, reorder or hide what stands beside them, or cannot be written at all."""
_CURSOR_UP = "\x1b[A"


def visible(text: str) -> str:
    """Return a text with every steering character in its escaped form, such as `\\x1b`; line feeds and tabs stay."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: object) -> str:
    """Return a message as one line without secrets and steering characters."""
    return visible(scrub_text(" ".join(str(text).split())))


class _Safe:
    """A text stream whose content is made visible and scrubbed on its way out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(visible(scrub_text(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _SafeWithBars(_Safe):
    """Lets through what a progress bar does: back to the start of its line, and up a line."""

    def write(self, text: str) -> int:
        if not text.replace(_CURSOR_UP, "").strip("\r\n"):
            return self._stream.write(text)
        start = text[: text.startswith("\r")]
        self._stream.write(start + visible(scrub_text(text[len(start) :])))
        return len(text)


@contextlib.contextmanager
def safe_output(*, errors: bool = True) -> Iterator[None]:
    """Make everything printed inside safe, standard error too unless `errors` is false."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(_Safe(sys.stdout)))
        if errors:
            stack.enter_context(contextlib.redirect_stderr(_SafeWithBars(sys.stderr)))
        yield
