"""Rows to write for: a source or a mix, passed through in pieces, each row with its texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ablate.randomness import uniform
from ablate.records import Passage, SourceRow, TrainingGroup, UserError
from ablate.synthesis.steps import Work

PIECE = 4096
"""Rows whose texts are held at once; a source of files is read once a piece."""


class Rows(Protocol):
    """What rows are taken from; every pass gives the same."""

    def rows(self) -> Iterator[SourceRow]:
        """Yield all rows, in a fixed order."""

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield the passages of these ids."""


class MixRows:
    """The groups of a mix as rows: a group and its reversed twin are one row with a complement."""

    def __init__(self, groups: Sequence[TrainingGroup], passages: dict[str, Passage]) -> None:
        self._passages = passages
        by_row: dict[str, dict[str, TrainingGroup]] = {}
        for group in groups:
            by_row.setdefault(group.group_id.rpartition("/")[0], {})[group.view] = group
        self._views = by_row

    def rows(self) -> Iterator[SourceRow]:
        """Yield a row for each group that is no reversed twin."""
        for row_id, views in self._views.items():
            group = views.get("original") or views.get("plain")
            if group is None:
                continue
            twin = views.get("reversed")
            yield SourceRow(
                row_id=row_id,
                query_id=group.query_id,
                query=group.query,
                instruction=group.instruction,
                reversed_instruction=twin.instruction if twin is not None and group.instruction_negatives else "",
                paraphrase="",
                positives=group.positives,
                hard_negatives=group.hard_negatives,
                instruction_negatives=group.instruction_negatives,
                answers=group.answers,
            )

    def passages(self, doc_ids: Iterable[str]) -> Iterator[Passage]:
        """Yield the passages of these ids."""
        for doc_id in doc_ids:
            yield self._passages[doc_id]


def works(source: Rows, *, share: float, limit: int | None, seed: int) -> Iterator[Work]:
    """Yield rows with their texts: a share of them, drawn by their ids, and of those the first `limit`.

    Raises UserError where nothing is left.
    """
    chosen = (row for row in source.rows() if share >= 1 or uniform(seed, "synthesis", row.row_id) < share)
    taken = itertools.islice(chosen, limit)
    is_empty = True
    while piece := list(itertools.islice(taken, PIECE)):
        is_empty = False
        ids = dict.fromkeys(doc_id for row in piece for doc_id in listed(row))
        texts = {passage.doc_id: passage for passage in source.passages(ids)}
        for place, row in enumerate(piece):
            yield Work(row, {doc_id: texts[doc_id] for doc_id in listed(row)}, _about_another(piece, place))
    if is_empty:
        raise UserError("the source gives no row; raise --share or --limit, or name another source")


def listed(row: SourceRow) -> tuple[str, ...]:
    """Return the ids of all passages of a row whose texts go with it."""
    return tuple(dict.fromkeys((*row.positives, *row.hard_negatives, *row.instruction_negatives, *row.restyled)))


def _about_another(piece: Sequence[SourceRow], place: int) -> SourceRow | None:
    """Return the next row of a piece whose query has no answer in common with this one's."""
    row = piece[place]
    own = {*row.answers, *row.positives, *row.instruction_negatives}
    for step in range(1, len(piece)):
        other = piece[(place + step) % len(piece)]
        if other.query_id != row.query_id and own.isdisjoint((*other.answers, *other.positives)):
            return other
    return None
