"""From training groups to batches: tokens once per text, whole base rows per batch, and who is whose negative.

Shapes: Q groups of a batch (one query each), P unique passages of a batch, N texts, L tokens of the longest of them,
T tokens of all texts together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ablate.randomness import key, stream
from ablate.records import TrainingGroup, UserError
from ablate.timing import timed

IntArray = NDArray[np.int32]
K = TypeVar("K", bound=Hashable)
SameQuery = Literal["mask", "use"]
"""What passages of other groups of the same query are, see `relations`."""
Query = tuple[str, str]
"""A query and its instruction; the instruction is empty for a plain query."""

CACHE_CHUNK = 1024
"""Texts handed to the tokenizer at once."""


class Tokenised(NamedTuple):
    """Token ids of some texts, special tokens included, and how many of the texts were cut."""

    ids: list[IntArray]
    num_truncated: int


class TokenCache(Generic[K]):
    """Tokens of each unique text, held in one int32 array; a text is tokenised once per run."""

    def __init__(self, keys: Iterable[K], tokenise: Callable[[list[K]], Tokenised]) -> None:
        """Tokenise every distinct key; `tokenise` turns a list of keys into their tokens."""
        unique = list(dict.fromkeys(keys))
        self._row: dict[K, int] = {text: row for row, text in enumerate(unique)}
        self.num_truncated = 0
        parts: list[IntArray] = []
        lengths: list[int] = []
        for start in range(0, len(unique), CACHE_CHUNK):
            tokenised = tokenise(unique[start : start + CACHE_CHUNK])
            self.num_truncated += tokenised.num_truncated
            lengths.extend(len(ids) for ids in tokenised.ids)
            parts.append(np.concatenate(tokenised.ids).astype(np.int32, copy=False))
        self._ids_T: IntArray = np.concatenate(parts) if parts else np.empty(0, np.int32)
        self._ends_N = np.cumsum([0, *lengths], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, text: K) -> IntArray:
        row = self._row[text]
        return self._ids_T[self._ends_N[row] : self._ends_N[row + 1]]

    def distinct_ids(self) -> IntArray:
        """Return the tokens that any text has, each once, in ascending order."""
        return np.unique(self._ids_T)

    def lengths(self) -> dict[K, int]:
        """Return text -> its number of tokens."""
        return dict(zip(self._row, np.diff(self._ends_N).tolist(), strict=True))


class Relations(NamedTuple):
    """Who is whose positive and negative in a batch."""

    doc_ids: tuple[str, ...]
    """P, each once."""
    positive_QP: torch.Tensor
    candidate_QP: torch.Tensor
    """Positives and negatives; False: the passage takes no part in this row's loss (its label is unknown)."""


def relations(
    groups: Sequence[TrainingGroup],
    in_batch_negatives: bool,
    *,
    same_query: SameQuery = "mask",
    most_negatives: int | None = None,
    seed: int = 0,
) -> Relations:
    """Return the unique passages of the groups and the relation of each to each group.

    A row's positives are positive, its listed negatives are negative. Any other passage of the batch is a negative
    only with `in_batch_negatives`, and never if any row of the same query knows it to answer it or has it as a passage
    of its own: its label under this row's instruction is unknown then. Queries are the same that share their id
    or their text; passages of equal text have one id already (`one_id_per_text`).

    With `in_batch_negatives` and `same_query="use"`, two kinds of them are negatives after all, because their label is
    known: what a group that poses the same query with the same instruction lists as negative and no such group as
    positive; and hard negatives of the query that no row of it lists otherwise or knows to answer it, which no
    instruction makes relevant.

    Of more than `most_negatives` negatives, a row keeps all that it lists, and of the others as many as are left, drawn
    by the seed and the id of its group.
    """
    columns: dict[str, int] = {}
    for group in groups:
        for doc_id in (*group.positives, *group.negatives):
            columns.setdefault(doc_id, len(columns))
    known = _Known(groups, columns)
    positive = np.zeros((len(groups), len(columns)), dtype=bool)
    candidate = np.full((len(groups), len(columns)), in_batch_negatives)
    for row, group in enumerate(groups):
        assert group.positives, f"group {group.group_id} has no positive"
        assert not set(group.positives) & set(group.negatives), f"a positive of {group.group_id} is its negative too"
        candidate[row, list(known.to_query(group))] = False
        if in_batch_negatives and same_query == "use":
            candidate[row, list(known.negatives(group))] = True
        own = [columns[doc_id] for doc_id in group.positives]
        listed = [columns[doc_id] for doc_id in group.negatives]
        positive[row, own] = True
        candidate[row, [*own, *listed]] = True
        if most_negatives is not None:
            others = np.setdiff1d(np.flatnonzero(candidate[row]), [*own, *listed])
            surplus = len(others) - max(0, most_negatives - len(listed))
            if surplus > 0:
                drawn = stream(seed, "most_negatives", group.group_id)
                candidate[row, drawn.choice(others, surplus, replace=False)] = False
    return Relations(tuple(columns), torch.from_numpy(positive), torch.from_numpy(candidate))


class _Known:
    """What the groups of a batch know about its passages, as columns, by query: under its id and under its text."""

    def __init__(self, groups: Sequence[TrainingGroup], columns: Mapping[str, int]) -> None:
        self._named: dict[str, set[int]] = {}
        self._may_answer: dict[str, set[int]] = {}
        self._hard: dict[str, set[int]] = {}
        self._right: dict[tuple[str, str], set[int]] = {}
        self._wrong: dict[tuple[str, str], set[int]] = {}
        for group in groups:
            positives, hard, broken, answers = (
                {columns[doc_id] for doc_id in doc_ids if doc_id in columns}
                for doc_ids in (group.positives, group.hard_negatives, group.instruction_negatives, group.answers)
            )
            for query in self._names(group):
                self._named.setdefault(query, set()).update(positives | hard | broken | answers)
                self._may_answer.setdefault(query, set()).update(positives | broken | answers)
                self._hard.setdefault(query, set()).update(hard)
                self._right.setdefault((query, group.instruction), set()).update(positives)
                self._wrong.setdefault((query, group.instruction), set()).update(hard | broken)

    @staticmethod
    def _names(group: TrainingGroup) -> tuple[str, str]:
        return f"id {group.query_id}", f"text {group.query}"

    def to_query(self, group: TrainingGroup) -> set[int]:
        """Return what rows of the query name, or know to answer it."""
        return set().union(*(self._named[query] for query in self._names(group)))

    def negatives(self, group: TrainingGroup) -> set[int]:
        """Return what rows of the query say that is negative under the instruction of this group."""
        names = self._names(group)
        hard, may_answer, wrong, right = (
            set[int]().union(*sets)
            for sets in (
                (self._hard[query] for query in names),
                (self._may_answer[query] for query in names),
                (self._wrong[query, group.instruction] for query in names),
                (self._right[query, group.instruction] for query in names),
            )
        )
        return (hard - may_answer) | (wrong - right)


def first_ids(groups: Sequence[TrainingGroup], text_of: Callable[[str], str]) -> dict[str, str]:
    """Return document id -> the first id in the groups that has the same text, by a digest of 16 bytes for each.

    `text_of` returns what the encoder reads of a document.
    """
    first: dict[bytes, str] = {}
    known: dict[str, str] = {}
    for doc_id in dict.fromkeys(doc_id for group in groups for doc_id in (*group.positives, *group.negatives)):
        summary = hashlib.blake2b(text_of(doc_id).encode(), digest_size=16).digest()
        known[doc_id] = first.setdefault(summary, doc_id)
    return known


def one_id_per_text(groups: Sequence[TrainingGroup], first: Mapping[str, str]) -> list[TrainingGroup]:
    """Return the groups with one document id for each text: the first that stands in them (`first_ids`).

    So relations know equal texts by their equal ids, and each text of a batch is encoded once. A negative that has the
    text of a positive of its group contradicts it and is left out.
    """
    if all(doc_id == own for doc_id, own in first.items()):
        return list(groups)

    def named(doc_ids: tuple[str, ...], but: Sequence[str] = ()) -> tuple[str, ...]:
        unique = dict.fromkeys(first.get(doc_id, doc_id) for doc_id in doc_ids)
        return tuple(doc_id for doc_id in unique if doc_id not in but)

    renamed = []
    for group in groups:
        positives = named(group.positives)
        renamed.append(
            dataclasses.replace(
                group,
                positives=positives,
                hard_negatives=named(group.hard_negatives, positives),
                instruction_negatives=named(group.instruction_negatives, positives),
                answers=named(group.answers),
            )
        )
    return renamed


@dataclass(frozen=True, eq=False)
class Batch:
    """What one optimiser step sees."""

    group_ids: tuple[str, ...]
    doc_ids: tuple[str, ...]
    query_tokens: tuple[IntArray, ...]
    """Q arrays of their own lengths."""
    passage_tokens: tuple[IntArray, ...]
    """P arrays, in the order of `doc_ids`."""
    positive_QP: torch.Tensor
    candidate_QP: torch.Tensor

    @property
    def texts(self) -> tuple[IntArray, ...]:
        """Tokens of all queries, then of all passages."""
        return self.query_tokens + self.passage_tokens

    @property
    def num_tokens(self) -> int:
        """Real tokens, without padding."""
        return sum(map(len, self.texts))

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its relations on a device; tokens move with their sub-batches."""
        return Batch(
            self.group_ids,
            self.doc_ids,
            self.query_tokens,
            self.passage_tokens,
            self.positive_QP.to(device, non_blocking=True),
            self.candidate_QP.to(device, non_blocking=True),
        )


def collate(
    groups: Sequence[TrainingGroup],
    queries: Mapping[Query, IntArray] | TokenCache[Query],
    passages: Mapping[str, IntArray] | TokenCache[str],
    related: Relations,
) -> Batch:
    """Return the batch of some groups: each unique passage once, with their relations (see `relations`)."""
    doc_ids, positive_QP, candidate_QP = related
    return Batch(
        group_ids=tuple(group.group_id for group in groups),
        doc_ids=doc_ids,
        query_tokens=tuple(queries[group.query, group.instruction] for group in groups),
        passage_tokens=tuple(passages[doc_id] for doc_id in doc_ids),
        positive_QP=positive_QP,
        candidate_QP=candidate_QP,
    )


class SubBatch(NamedTuple):
    """Some texts of like length, padded on the right."""

    ids_NL: torch.Tensor
    mask_NL: torch.Tensor
    """1 for a real token, 0 for padding."""
    rows: NDArray[np.int64]
    """Where in the list of all texts each one stood."""

    @property
    def ids(self) -> torch.Tensor:
        """Tokens, padding included."""
        return self.ids_NL

    def to(self, device: torch.device) -> SubBatch:
        """Return the same sub-batch on a device, without waiting for it."""
        return SubBatch(sent(self.ids_NL, device), sent(self.mask_NL, device), self.rows)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the host on a device, without waiting for it."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def sub_batches(texts: Sequence[IntArray], size: int, pad_id: int) -> Iterator[SubBatch]:
    """Yield the texts in sub-batches of at most `size`, longest first, so that hardly any padding is computed."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        ids = np.full((len(rows), int(lengths[rows[0]])), pad_id, np.int64)
        for place, row in enumerate(rows):
            ids[place, : lengths[row]] = texts[row]
        mask = np.arange(ids.shape[1])[None, :] < lengths[rows][:, None]
        yield SubBatch(torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)), rows)


def base_row(group_id: str) -> str:
    """Return what a group shares with its twins: its id up to the last `/`."""
    return group_id.rpartition("/")[0] or group_id


def plan_epoch(group_ids: Sequence[str], batch_size: int, seed: int, epoch: int, variant: int = 0) -> list[list[int]]:
    """Return the batches of an epoch as lists of indices into `group_ids`; a function of its arguments alone.

    A base row (a group and its twins) is never split. Base rows come in the order of a keyed draw on their id, so
    mixes that share rows go through them in the same relative order; `variant` chooses another of the seed's
    orders. There are always ceil(n / batch_size) batches and each but the last holds batch_size groups: a base row
    that does not fit is passed over for the next one that does and goes first in the next batch. Only where none
    fits (twins alone and an odd batch_size) a place stays open, and the next batch takes one group more.
    """
    units: dict[str, list[int]] = {}
    for index, group_id in enumerate(group_ids):
        units.setdefault(base_row(group_id), []).append(index)
    largest = max(units, key=lambda unit: len(units[unit]))
    if len(units[largest]) > batch_size:
        raise UserError(
            f"train.batch_size={batch_size} is smaller than the {len(units[largest])} groups of base row {largest!r}, "
            f"which stay in one batch; raise it"
        )
    which = (epoch, variant) if variant else (epoch,)
    ordered = sorted(units, key=lambda unit: (key(seed, "order", *which, unit), unit))
    waiting: dict[int, deque[tuple[int, list[int]]]] = {}  # by size, each in the order drawn
    for place, unit in enumerate(ordered):
        waiting.setdefault(len(units[unit]), deque()).append((place, units[unit]))
    batches: list[list[int]] = []
    num_placed = 0
    for number in range(1, math.ceil(len(group_ids) / batch_size) + 1):
        batch: list[int] = []
        room = number * batch_size - num_placed
        while fitting := [size for size, queue in waiting.items() if queue and size <= room]:
            size = min(fitting, key=lambda size: waiting[size][0][0])
            batch.extend(waiting[size].popleft()[1])
            room -= size
        num_placed += len(batch)
        batches.append(batch)
    assert num_placed == len(group_ids)
    return batches


class TrainingSteps(Dataset[Batch]):
    """All optimiser steps of a training, in order: item `step` is a pure function of the mix, the seed and the step.

    So a training that is resumed at step k reads the items from k on and sees what it would have seen.
    """

    def __init__(
        self,
        groups: Sequence[TrainingGroup],
        queries: TokenCache[Query],
        passages: TokenCache[str],
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        in_batch_negatives: bool,
        order: int = 0,
        same_query: SameQuery = "mask",
        most_negatives: int | None = None,
    ) -> None:
        """Keep the groups and their tokens; raises UserError when there are no groups or an id comes twice."""
        if not groups:
            raise UserError("the training mix has no groups; raise budget.limit or choose a source with training rows")
        self._ids = [group.group_id for group in groups]
        if len(set(self._ids)) < len(self._ids):
            twice = Counter(self._ids).most_common(1)[0][0]
            raise UserError(f"group id {twice!r} stands twice in the training mix; ids must be unique")
        self.groups, self.queries, self.passages = groups, queries, passages
        self._batch_size, self._seed, self._in_batch_negatives = batch_size, seed, in_batch_negatives
        self._order = order
        self._same_query, self._most_negatives = same_query, most_negatives
        self.per_epoch = math.ceil(len(groups) / batch_size)
        self._num_steps = self.per_epoch * epochs
        self._plans: dict[int, list[list[int]]] = {}

    def __len__(self) -> int:
        return self._num_steps

    @timed("batches")
    def __getitem__(self, step: int) -> Batch:
        epoch, place = divmod(step, self.per_epoch)
        groups = [self.groups[index] for index in self.plan(epoch)[place]]
        return collate(groups, self.queries, self.passages, self.relations_of(groups))

    def relations_of(self, groups: Sequence[TrainingGroup]) -> Relations:
        """Return how the passages of a batch of these groups stand to them."""
        return relations(
            groups,
            self._in_batch_negatives,
            same_query=self._same_query,
            most_negatives=self._most_negatives,
            seed=self._seed,
        )

    @timed("batches")
    def plan(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch as lists of indices into `groups`, made once; raises as `plan_epoch` does."""
        if epoch not in self._plans:
            self._plans[epoch] = plan_epoch(self._ids, self._batch_size, self._seed, epoch, self._order)
        return self._plans[epoch]


@timed("batches")
def prepare_steps(
    groups: Sequence[TrainingGroup],
    tokenise_queries: Callable[[list[Query]], Tokenised],
    tokenise_passages: Callable[[list[str]], Tokenised],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    in_batch_negatives: bool,
    order: int = 0,
    same_query: SameQuery = "mask",
    most_negatives: int | None = None,
) -> tuple[TrainingSteps, dict[str, int]]:
    """Tokenise a mix once and return its steps, with the counts of texts that were cut to their length.

    The groups have one id for each text (`one_id_per_text`), and `tokenise_passages` takes ids. The counts are
    `queries`, `passages`, `truncated_queries` and `truncated_passages`, all of unique texts.
    """
    queries = TokenCache(((group.query, group.instruction) for group in groups), tokenise_queries)
    doc_ids = (doc_id for group in groups for doc_id in (*group.positives, *group.negatives))
    passages = TokenCache(doc_ids, tokenise_passages)
    steps = TrainingSteps(
        groups,
        queries,
        passages,
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
        in_batch_negatives=in_batch_negatives,
        order=order,
        same_query=same_query,
        most_negatives=most_negatives,
    )
    counts = {
        "queries": len(queries),
        "passages": len(passages),
        "truncated_queries": queries.num_truncated,
        "truncated_passages": passages.num_truncated,
    }
    return steps, counts
