"""From the rows of a source to a training mix: eligible rows, seed-fixed order, stages, budget, card.

    rows of the source -> eligible -> order (a permutation fixed by the seed) -> first drafts -> STAGES -> budget -> mix

The order goes over the queries in rounds, one row of each at a time, so that a budget is spread over as many queries
as it can be. It does not depend on the factors and the budget takes a prefix of it, so the base rows of two arms or
budgets of one seed are nested. A source of many rows is read twice, which keeps memory proportional to the budget.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import itertools
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.data.audited import Audited
from ablate.data.checking import ignored_files, lacking_words
from ablate.data.composition import composition
from ablate.data.predictable import predictability
from ablate.data.sources import RowSource
from ablate.randomness import key
from ablate.recipe.factors import Draft, Factors, all_counted, apply_stages, fields_read, first_draft, negatives_taken
from ablate.recipe.schema import Budget, Recipe
from ablate.recipe.values import plain
from ablate.records import Passage, SourceRow, TrainingGroup, UserError
from ablate.store.files import GROUPS_FILE, PASSAGES_FILE
from ablate.store.integrity import reading, unpacked
from ablate.timing import timed, timed_each

COMPLETE_FIELDS = ("positives", "instruction", "reversed_instruction", "instruction_negatives")
"""What a row has that takes part under `source.rows=complete`, so that arms draw from the same rows.

Fixed for ever: another list would be other mixes under the ids there are. What a factor reads beyond it (a paraphrase)
is asked of the rows that its arm takes.
"""


@dataclass(frozen=True)
class Mix:
    """A built training set: groups in order, the passages they name, and the card of counts."""

    groups: tuple[TrainingGroup, ...]
    passages: dict[str, Passage]
    card: dict[str, Any]


RIGHT, FLAGGED, NOT_JUDGED = "right", "flagged", "not judged"
"""What an audit says of a row."""

MOST_HELD = 8192
"""Rows that may take part are held from the first reading of a source on if they are not more."""

TokensOf = Callable[[Sequence[TrainingGroup], Mapping[str, Passage]], list[int]]
"""Counts the tokens of groups by the tokenizer and template of a model."""

TOKEN_TOLERANCE = 0.005
"""How far a budget in tokens may be missed, as a share: groups are whole."""


def build_mix(
    source: RowSource,
    recipe: Recipe,
    seed: int,
    tokens_of: TokensOf | None = None,
    audited: Audited | None = None,
) -> Mix:
    """Build the mix of a recipe for a seed; a budget in tokens needs `tokens_of`, rows chosen by an audit `audited`.

    Raises UserError when rows lack what a factor needs or the budget is larger than the source.
    """
    budget, factors = recipe.budget, recipe.factors
    order = order_of(source, recipe, seed, audited)
    if order.audit and order.num_eligible == 0:
        raise UserError(
            f"the mix is empty: audit.take={recipe.audit.take} takes none of the {order.audit.total()} rows that could "
            f"take part{order.audit_words()}; the item_id of a judgment must be the row_id of a row"
        )
    if order.num_eligible == 0:
        raise UserError(
            f"the mix is empty: none of the {order.num_rows} rows of the source has all of "
            f"{', '.join(fields_required(recipe))} "
            f"({lacking_words(order.lacking) or 'there is no row'}{_passed_over(recipe)}); "
            f"set source.rows=all to use rows that lack some, with factors that do not need them; "
            f"python -m ablate.check says what is wrong with the labels"
        )
    if budget.unit == "tokens" and budget.limit is not None:
        assert tokens_of is not None, "a budget in tokens needs a tokenizer"
        drafts = _within_tokens(budget, budget.limit, order, factors, seed, source, tokens_of)
    else:
        drafts = list(_within(budget, order, factors, seed))
    groups = tuple(draft.group for draft in drafts)
    passages = _passages(source, groups)
    counts = card(groups, passages, order, [source.generated(doc_id) for doc_id in passages])
    counts["composition"] = composition(drafts, passages, source.style_of)
    counts["predictability"] = predictability(drafts, passages, seed)
    if order.audit:
        counts["audit"] = dict(order.audit)
    if budget.unit == "tokens" and tokens_of is not None:
        counts["tokens"] = sum(tokens_of(groups, passages))
    return Mix(groups, passages, counts)


def _passed_over(recipe: Recipe) -> str:
    """Return which files of the source's folder are not read, as the end of a list; a file there may be the remedy."""
    files = ignored_files(recipe.source.kind, getattr(recipe.source, "path", None))
    more = f" and {len(files) - 4} more" if len(files) > 4 else ""
    return f"; not read: {', '.join(files[:4])}{more}" if files else ""


@timed("source read")
def _passages(source: RowSource, groups: Iterable[TrainingGroup]) -> dict[str, Passage]:
    wanted = dict.fromkeys(doc_id for group in groups for doc_id in (*group.positives, *group.negatives))
    return {passage.doc_id: passage for passage in source.passages(wanted)}


class RowOrder:
    """The eligible rows of a source, in an order that the seed alone fixes: query by query, in rounds.

    First comes one row of every query, then a second one of every query that has one, and so on; the queries have the
    same order in each round. Only the first `most` rows, of the first `most_queries` queries, are held. Rows are chosen
    by `audited` as `take` says; memory and order are those of the rows that are left.
    """

    def __init__(
        self,
        source: RowSource,
        required: Iterable[str],
        seed: int,
        most: int | None,
        most_queries: int | None = None,
        audited: Audited | None = None,
        take: str = "all",
    ) -> None:
        self.num_rows = 0
        self.lacking: Counter[str] = Counter()
        """How many rows were left out because a field is empty."""
        self.audit: Counter[str] = Counter()
        """What was judged of the rows that have every field; empty where rows are not chosen by it."""
        required = tuple(required)
        held: list[SourceRow] = []
        query_keys, row_keys, at = array("Q"), array("Q"), array("Q")  # 24 bytes a row
        for index, row in enumerate(timed_each("source read", source.rows())):
            self.num_rows += 1
            missing = [name for name in required if not getattr(row, name)]
            self.lacking.update(missing)
            if not missing and self._takes(row, audited, take):
                query_keys.append(key(seed, "query order", row.query_id))
                row_keys.append(key(seed, "row order", row.row_id))
                at.append(index)
                if len(at) <= MOST_HELD:
                    held.append(row)
        if take == "matched":
            most = self.audit[RIGHT] if most is None else min(most, self.audit[RIGHT])
        self.num_eligible = len(at)
        ranked = _in_rounds(np.frombuffer(query_keys, np.uint64), np.frombuffer(row_keys, np.uint64), most_queries)
        chosen = ranked[:most].tolist()
        if len(at) <= MOST_HELD:
            self.rows = [held[position] for position in chosen]
        else:
            held.clear()
            self.rows = _rows_at(source, [at[position] for position in chosen])

    def _takes(self, row: SourceRow, audited: Audited | None, take: str) -> bool:
        """Return whether a row takes part by what was judged of it, and count that."""
        if take == "all":
            return True
        assert audited is not None, "rows that are chosen by an audit need its verdicts"
        is_right = audited.is_right.get(row.row_id)
        self.audit[NOT_JUDGED if is_right is None else RIGHT if is_right else FLAGGED] += 1
        return is_right is not None and (take == "matched" or is_right == (take == "clean"))

    def audit_words(self) -> str:
        """Return what was judged of the rows, to follow a number; empty where rows are not chosen by it."""
        if not self.audit:
            return ""
        return f", judged: {', '.join(f'{self.audit[name]} {name}' for name in (RIGHT, FLAGGED, NOT_JUDGED))}"


def _rows_at(source: RowSource, wanted: Sequence[int]) -> list[SourceRow]:
    """Return rows by their places in the source, in the order of the places that are given; the source is read."""
    rank_of = {index: rank for rank, index in enumerate(wanted)}
    rows = timed_each("source read", source.rows())
    ranked = ((rank_of[index], row) for index, row in enumerate(rows) if index in rank_of)
    return [row for _, row in sorted(ranked, key=lambda item: item[0])]


def _in_rounds(
    query_keys: NDArray[np.uint64], row_keys: NDArray[np.uint64], most_queries: int | None
) -> NDArray[np.int64]:
    """Return the positions of rows in rounds over the first queries: in a round by query key, in a query by row key."""
    by_query = np.lexsort((row_keys, query_keys))
    if not len(by_query):
        return by_query
    is_first = np.diff(query_keys[by_query], prepend=~query_keys[by_query[:1]]) != 0
    starts = np.flatnonzero(is_first)
    if most_queries is not None and most_queries < len(starts):
        by_query = by_query[: starts[most_queries]]
        starts = starts[:most_queries]
    rounds = np.arange(len(by_query)) - np.repeat(starts, np.diff(starts, append=len(by_query)))
    return by_query[np.argsort(rounds, kind="stable")]


def order_of(source: RowSource, recipe: Recipe, seed: int, audited: Audited | None = None) -> RowOrder:
    """Return the rows of a source that a recipe may take, in their order for a seed; `audited`: its `audit`, read."""
    budget = recipe.budget
    most_queries = budget.limit if budget.unit == "queries" else None
    return RowOrder(source, fields_required(recipe), seed, most_rows(budget), most_queries, audited, recipe.audit.take)


def fields_required(recipe: Recipe) -> tuple[str, ...]:
    """Return the fields that a row must have to take part."""
    return COMPLETE_FIELDS if recipe.source.rows == "complete" else ("positives",)


def most_rows(budget: Budget) -> int | None:
    """Return how many base rows a budget can take at most: every base row yields at least one group."""
    if budget.limit is None or budget.unit == "queries":
        return None
    if budget.unit == "groups":
        return budget.limit
    return budget.limit // (1 + budget.negatives_per_group) + 1  # pairs; and every passage has a token at least


def _groups(rows: list[SourceRow], budget: Budget, factors: Factors, seed: int) -> Iterator[Draft]:
    """Yield the drafts of rows after all stages; raises UserError when one lacks what its factors need."""
    needed = fields_read(factors)
    drafts = (_checked(row, needed, rows, budget) for row in rows)
    for draft in apply_stages(drafts, factors, seed):
        if len(draft.group.negatives) != budget.negatives_per_group:
            _refuse_short(draft.group, rows, budget, factors)
        yield draft


def _checked(row: SourceRow, needed: tuple[str, ...], rows: list[SourceRow], budget: Budget) -> Draft:
    """Return the first draft of a row that the mix takes; raises UserError when it lacks what the factors need."""
    for name in needed:
        if not getattr(row, name):
            lacking = sum(not getattr(other, name) for other in rows)
            remedy = "choose an arm without them, or a source that has them"
            if name in COMPLETE_FIELDS:
                remedy = "set source.rows=complete, or choose an arm without them"
            raise UserError(
                f"{lacking} of the {len(rows)} rows that the budget may take have no {name} (first: {row.row_id}), "
                f"which the factors of this arm need; {remedy}"
            )
    return first_draft(row, budget.negatives_per_group)


def _refuse_short(group: TrainingGroup, rows: list[SourceRow], budget: Budget, factors: Factors) -> None:
    need = budget.negatives_per_group - len(group.instruction_negatives)
    chosen = " or ".join(f"factors.{name} (now {number})" for name, number in negatives_taken(factors).items())
    lacking = sum(1 for row in rows if len(row.hard_negatives) < need)
    raise UserError(
        f"group {group.group_id} has {len(group.negatives)} negatives instead of "
        f"budget.negatives_per_group={budget.negatives_per_group}: {lacking} of {len(rows)} rows of the source have "
        f"fewer than {need} hard negatives; lower budget.negatives_per_group, raise {chosen}, or mine them: "
        f"+miner=bm25, with a larger miner.depth if too few"
    )


def _within(budget: Budget, order: RowOrder, factors: Factors, seed: int) -> Iterator[Draft]:
    """Yield drafts until the budget is used up; raises UserError when the source ends first and may not repeat."""
    size = 1 + budget.negatives_per_group
    if budget.unit == "pairs" and budget.limit is not None and budget.limit % size:
        raise UserError(
            f"budget.limit={budget.limit} pairs is not a whole number of groups of {size} passages; "
            f"use {budget.limit // size * size} or {(budget.limit // size + 1) * size}"
        )
    used, queries = 0, set[str]()
    for draft in _rounds(budget, order, factors, seed):
        if draft.is_counted:
            queries.add(draft.group.query_id)
            after = {"groups": used + 1, "pairs": used + size, "queries": len(queries)}.get(budget.unit, 0)
            if budget.limit is not None and after > budget.limit:
                return
            used = after
        yield draft
        if used == budget.limit and budget.unit != "queries" and all_counted(factors):
            return  # what comes next is not looked at, not even for errors
    if budget.limit is not None and used != budget.limit:
        raise _too_small(budget, order, used)


def _rounds(budget: Budget, order: RowOrder, factors: Factors, seed: int) -> Iterator[Draft]:
    """Yield the drafts of all rows; again and again, under new ids, where the budget is filled by repeating."""
    repeats = budget.limit is not None and budget.fill == "repeat" and budget.unit != "queries"
    for round_number in itertools.count() if repeats else range(1):
        for draft in _groups(order.rows, budget, factors, seed):
            yield draft if round_number == 0 else draft._replace(group=_again(draft.group, round_number))


def _too_small(budget: Budget, order: RowOrder, used: int) -> UserError:
    remedy = "" if budget.unit == "queries" else ", or set budget.fill=repeat"
    return UserError(
        f"budget.limit={budget.limit} {budget.unit} is more than the source gives to this arm ({used}, from "
        f"{order.num_eligible} rows{order.audit_words()}); lower budget.limit, enlarge the source{remedy}"
    )


def _within_tokens(
    budget: Budget,
    limit: int,
    order: RowOrder,
    factors: Factors,
    seed: int,
    source: RowSource,
    tokens_of: TokensOf,
) -> list[Draft]:
    """Return the drafts of the groups whose tokens come closest to the limit; UserError where that is too far off."""
    wanted = 64
    while True:
        drafts = list(itertools.islice(_rounds(budget, order, factors, seed), wanted))
        groups = [draft.group for draft in drafts]
        counted = [draft.is_counted for draft in drafts]
        sums = np.cumsum(np.array(tokens_of(groups, _passages(source, groups))) * counted)
        if sums[-1] > limit or len(drafts) < wanted:
            break
        wanted = max(2 * wanted, int(1.1 * wanted * limit / sums[-1]))
    closest = int(np.argmin(np.abs(sums - limit)))
    if abs(sums[closest] - limit) > TOKEN_TOLERANCE * limit:
        if sums[-1] < limit:
            raise _too_small(budget, order, int(sums[-1]))
        raise UserError(
            f"budget.limit={limit} tokens cannot be met to within {TOKEN_TOLERANCE:.1%} by whole groups (closest: "
            f"{sums[closest]} in {closest + 1} groups); raise it"
        )
    end = closest + 1
    while end < len(drafts) and not counted[end]:  # the last row keeps the twins that come on top
        end += 1
    return drafts[:end]


def _again(group: TrainingGroup, round_number: int) -> TrainingGroup:
    """Return a repeated group under an id of its own that keeps its twin beside it."""
    row, _, view = group.group_id.rpartition("/")
    return dataclasses.replace(group, group_id=f"{row}~{round_number}/{view}")


def card(
    groups: tuple[TrainingGroup, ...],
    passages: dict[str, Passage],
    order: RowOrder,
    generated: Sequence[bool | None],
) -> dict[str, Any]:
    """Return all totals of a mix that do not depend on a tokenizer, whatever the unit of its budget."""
    views = Counter(group.view for group in groups)
    rows = {group.group_id.rpartition("/")[0] for group in groups}
    return {
        "groups": len(groups),
        "pairs": sum(len(group.positives) + len(group.negatives) for group in groups),
        "base_rows": sum(row.rpartition("~")[0] not in rows for row in rows),  # repeated rows count once
        "unique_queries": len({group.query_id for group in groups}),
        "unique_passages": len(passages),
        "generated_share": None if None in generated else sum(map(bool, generated)) / len(passages),
        "views": {view: views[view] for view in ("plain", "original", "reversed")},
        "hard_negatives": sum(len(group.hard_negatives) for group in groups),
        "instruction_negatives": sum(len(group.instruction_negatives) for group in groups),
        "rows_in_source": order.num_rows,
        "rows_eligible": order.num_eligible,
        "rows_lacking": dict(order.lacking),
    }


@timed("write files")
def write_mix(folder: Path, mix: Mix) -> tuple[str, ...]:
    """Write a mix into a folder (gzipped JSON lines) and return the file names; the same mix gives the same bytes."""
    _write_lines(folder / GROUPS_FILE, (plain(group) for group in mix.groups))
    _write_lines(folder / PASSAGES_FILE, (passage._asdict() for passage in mix.passages.values()))
    return GROUPS_FILE, PASSAGES_FILE


@timed("read files")
def read_mix(folder: Path, counts: dict[str, Any]) -> Mix:
    """Read back what `write_mix` wrote into a folder whose files were checked; `counts` is the card in its manifest.

    Raises UserError naming a file that is no such file.
    """
    remedy = f"delete {folder} and run again"
    groups = read_groups(folder / GROUPS_FILE, remedy)
    with reading(folder / PASSAGES_FILE, remedy):
        read = (Passage(**values) for values in _read_lines(folder / PASSAGES_FILE, remedy))
        passages = {passage.doc_id: passage for passage in read}
    if (len(groups), len(passages)) != (counts.get("groups"), counts.get("unique_passages")):
        raise UserError(
            f"{folder} holds {len(groups)} groups and {len(passages)} passages, and its manifest says "
            f"{counts.get('groups')} and {counts.get('unique_passages')}; {remedy}"
        )
    return Mix(tuple(groups), passages, counts)


def read_groups(path: Path, remedy: str) -> list[TrainingGroup]:
    """Read the groups of a mix alone, from its file; raises UserError naming it, with the remedy, for no such file."""
    groups = []
    with reading(path, remedy):
        for values in _read_lines(path, remedy):
            fields: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
            }
            groups.append(TrainingGroup(**fields))
    return groups


@timed("digests")
def content_digest(groups: Iterable[TrainingGroup]) -> str:
    """Return the digest of what is trained on, so that two recipes with the same mix can be told."""
    summary = hashlib.sha256()
    for group in groups:
        summary.update(json.dumps(plain(group), sort_keys=True).encode())
    return summary.hexdigest()


def _write_lines(path: Path, records: Iterable[Any]) -> None:
    with open(path, "wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def _read_lines(path: Path, remedy: str) -> Iterator[dict[str, Any]]:
    for line in io.BytesIO(unpacked(path, remedy)):
        yield json.loads(line)
