"""What a mix is made of beside its totals: labels, sides, styles and lengths, read off the rows its groups come from.

A switch of a factor that is meant to change one thing can move these too. They stand on the card, under
`composition`, so that a reader of two arms sees what else is not equal. They decide nothing and are part of no id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ablate.recipe.factors import Draft
from ablate.records import Passage
from ablate.timing import timed

StyleOf = Callable[[str], str | None]
"""Document id -> the style that its passage is written in, None where the source has no styles."""


@timed("composition")
def composition(drafts: Sequence[Draft], passages: Mapping[str, Passage], style_of: StyleOf) -> dict[str, float]:
    """Return the composition of a mix; what no group or passage tells is left out. Shares are from 0 to 1.

    - `right_labels`: share of right labels among the groups whose label is known (`has_right_label`), and
      `right_labels_known`: the share of groups that those are;
    - `usual_side_asked`: share that asks for the usual side of its constraint, among the groups of which that is known;
    - `positives_in_style_…`, `negatives_in_style_…`: the share of each style; a passage counts once for each group that
      it is in;
    - `words_per_positive`, `words_per_negative`: mean number of words (`words_of`); a passage counts as often.
    """
    labels = [has_right_label(draft) for draft in drafts]
    sides = [asks_usual(draft) for draft in drafts]
    words = {doc_id: len(words_of(passage)) for doc_id, passage in passages.items()}
    styles = {doc_id: style_of(doc_id) for doc_id in passages}
    names = () if None in styles.values() else sorted({str(style) for style in styles.values()})
    known: dict[str, list[int]] = {
        "right_labels": [label for label in labels if label is not None],
        "right_labels_known": [label is not None for label in labels],
        "usual_side_asked": [side for side in sides if side is not None],
    }
    positives = [doc_id for draft in drafts for doc_id in draft.group.positives]
    negatives = [doc_id for draft in drafts for doc_id in draft.group.negatives]
    for kind, doc_ids in (("positive", positives), ("negative", negatives)):
        known |= {f"{kind}s_in_style_{style}": [styles[doc_id] == style for doc_id in doc_ids] for style in names}
        known[f"words_per_{kind}"] = [words[doc_id] for doc_id in doc_ids]
    return {name: fmean(values) for name, values in known.items() if values}


def has_right_label(draft: Draft) -> bool | None:
    """Return whether the positive of a group is what its row says it is; None where the row does not decide it.

    Right are a plain group and the row's instruction (or its paraphrase) with a positive of the row, the reversed
    instruction with the row's first instruction negative, and the broad one with either, in whatever style of writing.
    Of other instructions (generic, swapped) nothing is known.
    """
    row, group = draft.row, draft.group
    if not group.instruction or group.instruction in (row.instruction, row.paraphrase):
        return group.positives[0] in row.in_any_style(row.positives)
    if group.instruction == row.reversed_instruction:
        return group.positives[0] in row.in_any_style(row.instruction_negatives[:1])
    if group.instruction == row.broad:
        return group.positives[0] in row.in_any_style(row.of_both_sides)
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


COUNTS = ("negatives_per_row", "unique_queries", "unique_passages", "words_per_positive", "words_per_negative")
"""The values of `composition_values` that are numbers of things; the others are shares."""


def composition_values(counts: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the composition of a mix by flat names, from its card and the totals of a training on it.

    A value is None where the source does not tell it, and missing where it was not recorded, as by earlier versions.
    `negatives_per_row` is that of the first epoch as trained, what is masked left out. Of several styles the last is
    left out: its share follows. `label_from_…` are those of `data.predictable`.
    """
    values: dict[str, float | None] = {}
    if training.get("first_epoch_negatives") is not None and counts.get("groups"):
        values["negatives_per_row"] = training["first_epoch_negatives"] / counts["groups"]
    values |= {name: counts[name] for name in ("unique_queries", "unique_passages") if name in counts}
    recorded, told = counts.get("composition"), counts.get("predictability")
    if recorded is None or told is None:
        return values
    values |= {name: recorded.get(name) for name in ("right_labels", "usual_side_asked")}
    for begin in ("positives_in_style_", "negatives_in_style_"):
        shares = sorted(name for name in recorded if name.startswith(begin))
        values |= {name: recorded[name] for name in shares[: max(1, len(shares) - 1)]}
    values |= {name: recorded.get(name) for name in ("words_per_positive", "words_per_negative")}
    return values | {f"label_from_{name}": told.get(name) for name in ("passage", "side", "length")}


def in_words(name: str) -> str:
    """Return a name of `composition_values` as it is printed."""
    return name.replace("_", " ")


def shown(name: str, value: float | None) -> str:
    """Return a value of `composition_values` as it is printed: shares to two places, `-` for what is not known."""
    if value is None:
        return "-"
    if name not in COUNTS:
        return f"{value:.2f}"
    return f"{value:,.0f}" if name.startswith("unique") else f"{value:.1f}"
