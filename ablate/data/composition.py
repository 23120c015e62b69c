"""What a mix is made of beside its totals: labels, sides, styles and lengths, read off the rows its groups come from.

A switch of a factor that is meant to change one thing can move these too. They stand on the card, under
`composition`, so that a reader of two arms sees what else is not equal. They decide nothing and are part of no id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

from ablate.recipe.factors import Draft
from ablate.records import Passage

StyleOf = Callable[[str], str | None]
"""Document id -> the style that its passage is written in, None where the source has no styles."""


def composition(
    drafts: Sequence[Draft], passages: Mapping[str, Passage], style_of: StyleOf
) -> dict[str, float | dict[str, float] | None]:
    """Return the composition of a mix; shares are from 0 to 1, and None where no group or passage is known.

    - `right_labels`: share of right labels among the groups whose label is known (`has_right_label`), and
      `right_labels_known`: the share of groups that those are;
    - `asks_usual`: share that asks for the usual side of its constraint, among the groups of which that is known;
    - `positives_in_style`, `negatives_in_style`: style -> its share; a passage counts once for each group it is in;
    - `positive_words`, `negative_words`: mean number of words, divided by white space, title included; the same count.
    """
    labels = [label for draft in drafts if (label := has_right_label(draft)) is not None]
    sides = [side for draft in drafts if (side := asks_usual(draft)) is not None]
    positives = [doc_id for draft in drafts for doc_id in draft.group.positives]
    negatives = [doc_id for draft in drafts for doc_id in draft.group.negatives]
    words = {doc_id: len(words_of(passage)) for doc_id, passage in passages.items()}
    return {
        "right_labels": _mean(labels),
        "right_labels_known": len(labels) / len(drafts) if drafts else None,
        "asks_usual": _mean(sides),
        "positives_in_style": _shares(map(style_of, positives)),
        "negatives_in_style": _shares(map(style_of, negatives)),
        "positive_words": _mean([words[doc_id] for doc_id in positives]),
        "negative_words": _mean([words[doc_id] for doc_id in negatives]),
    }


def has_right_label(draft: Draft) -> bool | None:
    """Return whether the positive of a group is what its row says it is; None where the row does not decide it.

    Right are a plain group and the row's instruction (or its paraphrase) with a positive of the row, and the reversed
    instruction with the row's first instruction negative. Of other instructions (generic, swapped) nothing is known.
    """
    row, group = draft.row, draft.group
    if not group.instruction or group.instruction in (row.instruction, row.paraphrase):
        return group.positives[0] in row.positives
    if group.instruction == row.reversed_instruction:
        return group.positives[0] == row.instruction_negatives[0]
    return None


def asks_usual(draft: Draft) -> bool | None:
    """Return whether a group asks for the usual side of its row's constraint; None where that is not known."""
    row, instruction = draft.row, draft.group.instruction
    if row.asks_usual is None or not instruction:
        return None
    if instruction in (row.instruction, row.paraphrase):
        return row.asks_usual
    return not row.asks_usual if instruction == row.reversed_instruction else None


def words_of(passage: Passage) -> list[str]:
    """Return the words of a passage with its title, divided by white space."""
    return f"{passage.title} {passage.text}".split()


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _shares(styles: Iterable[str | None]) -> dict[str, float] | None:
    """Return style -> its share in the order of the names; None where a passage has none."""
    counts = Counter(styles)
    if not counts or None in counts:
        return None
    return {str(style): counts[style] / counts.total() for style in sorted(map(str, counts))}
