"""What stands against a written text, whoever wrote it: it speaks of passages, quotes one, is too long, or not new."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_QUOTED = 8
"""Words in a row of a passage from which an instruction counts as quoting it."""

_SPEAKS = re.compile(
    r"\b(?i:passages?|documents?|texts?|candidates?|options?)\s*#?\s*(?:[A-HJ-Z]\b|[0-9]\b(?!\s+[a-z]{2,}s\b)|[PN][*+-])"
    r"|\b(?i:(?:first|second|other|positive|negative|given|original|previous|new)\s+(?:passage|instruction)s?)\b"
    r"|\b(?i:doc(?:ument)?_?ids?|relevance labels?|hard negatives?|as an? (?:ai|language model))\b"
    r"|</?(?:P|N|further|query|instruction|passage|answer)>"
)
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return _WORD.findall(text.lower())


def fault_of_instruction(text: str, passages: Iterable[str], before: Iterable[str], most_words: int) -> str:
    """Return what stands against an instruction, empty where nothing does.

    `passages` must not be quoted; `before` are instructions that it must differ from in more than case and punctuation.
    """
    said = words(text)
    if not said:
        return "it has no word"
    if len(said) > most_words:
        return f"it has {len(said)} words, at most {most_words} are allowed"
    if match := _SPEAKS.search(text):
        return f"it speaks of the task ({match[0]!r})"
    if any(words(other) == said for other in before):
        return "it is the instruction that was there"
    runs = {tuple(said[start : start + MOST_QUOTED]) for start in range(len(said) - MOST_QUOTED + 1)}
    for passage in passages:
        theirs = words(passage)
        if runs.intersection(
            tuple(theirs[start : start + MOST_QUOTED]) for start in range(len(theirs) - MOST_QUOTED + 1)
        ):
            return f"it has {MOST_QUOTED} words in a row from a passage"
    return ""


def fault_of_passage(text: str, others: Iterable[str], most_words: int) -> str:
    """Return what stands against a written passage, empty where nothing does; `others` it must not equal."""
    said = words(text)
    if not said:
        return "a passage has no word"
    if len(said) > most_words:
        return f"a passage has {len(said)} words, at most {most_words} are allowed"
    return "two passages are the same" if any(words(other) == said for other in others) else ""
