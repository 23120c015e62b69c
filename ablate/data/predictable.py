"""How well the label of a passage can be told from part of what the encoder is given: what a mix teaches by the way.

A classifier that sees a passage without the query and its instruction should do no better than chance; where it does,
a model can lower its loss without reading instructions. The idea is that of hypothesis-only baselines for inference
data (Gururangan et al. 2018, arXiv 1803.02324; Poliak et al. 2018, arXiv 1805.01042).

    groups -> at most MOST_GROUPS, whole base rows -> (passage, positive or negative) -> folds by query
        -> naive Bayes on the other folds -> balanced accuracy

The instruction alone says nothing by construction: the positive and the negatives of a group share it. What is counted
in its place is the side: whether a passage stands on the usual side of the constraint, which is enough where nearly all
instructions ask for that side. All three numbers are descriptive, and part of no id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ablate.data.composition import asks_usual, has_right_label, words_of
from ablate.randomness import key
from ablate.recipe.factors import Draft
from ablate.records import Passage
from ablate.timing import timed

NUM_FOLDS = 5
MOST_GROUPS = 2048
"""Groups that are looked at: enough for a standard error of a percent, and a second of work."""
DIGITS = 4
"""Places that are kept: behind them sums may differ between processors."""
LENGTH_BINS = 20
"""Quantiles of the number of words; a label may go with middling lengths as well as with long ones."""

_Ints = NDArray[np.int64]


@timed("composition")
def predictability(drafts: Sequence[Draft], passages: Mapping[str, Passage], seed: int) -> dict[str, float]:
    """Return how well labels are told from the `passage`, its `side` or its `length` alone; .5 is chance, 1 certainty.

    `passage` and `length`: balanced accuracy (mean of the shares of positives and of negatives that are told right; an
    undecided one counts half) of multinomial naive Bayes over the words that occur, or over the length in words,
    cross-validated in 5 folds by query. Left out where there are fewer than 5 queries or no negatives.
    `side`: the share of groups that "the usual side", or else "the unusual side", answers right; over the groups with
    an instruction negative whose side and label are known, left out without any.
    The same groups, passages and seed give the same numbers.
    """
    sampled = _sample(drafts, seed)
    queries = dict.fromkeys(draft.group.query_id for draft in sampled)
    ranked = sorted(queries, key=lambda query_id: (key(seed, "predictability fold", query_id), query_id))
    fold_of = {query_id: rank % NUM_FOLDS for rank, query_id in enumerate(ranked)}
    pairs = [
        (doc_id, fold_of[draft.group.query_id], label)
        for draft in sampled
        for label, doc_ids in ((1, draft.group.positives), (0, draft.group.negatives))
        for doc_id in doc_ids
    ]
    side = _from_side(sampled)
    told = {} if side is None else {"side": round(side, DIGITS)}
    labels = np.array([label for *_, label in pairs], np.int64)
    if len(queries) < NUM_FOLDS or labels.all():
        return told
    folds = np.array([fold for _, fold, _ in pairs], np.int64)
    doc_ids = list(dict.fromkeys(doc_id for doc_id, *_ in pairs))
    words = [words_of(passages[doc_id]) for doc_id in doc_ids]
    place = {doc_id: index for index, doc_id in enumerate(doc_ids)}
    rows = np.array([place[doc_id] for doc_id, *_ in pairs], np.int64)
    seen = {"passage": _vocabulary_ids(words), "length": _length_bins(words, rows)}
    accuracies = {name: _balanced_accuracy(features, rows, folds, labels) for name, features in seen.items()}
    return told | {name: round(accuracy, DIGITS) for name, accuracy in accuracies.items()}


def _sample(drafts: Sequence[Draft], seed: int) -> list[Draft]:
    """Return all drafts, or those of base rows drawn by their key: a row and its twins stay together."""
    if len(drafts) <= MOST_GROUPS:
        return list(drafts)
    sizes: dict[str, int] = {}
    for draft in drafts:
        sizes[draft.row.row_id] = sizes.get(draft.row.row_id, 0) + 1
    chosen, num_groups = set[str](), 0
    for row_id in sorted(sizes, key=lambda row_id: (key(seed, "predictability", row_id), row_id)):
        num_groups += sizes[row_id]
        if num_groups > MOST_GROUPS:
            break
        chosen.add(row_id)
    return [draft for draft in drafts if draft.row.row_id in chosen]


def _from_side(drafts: Sequence[Draft]) -> float | None:
    """Return how often one fixed side is that of the positive, for the better of both sides."""
    known = [
        (usual, right)
        for draft in drafts
        if draft.group.instruction_negatives
        and (usual := asks_usual(draft)) is not None
        and (right := has_right_label(draft)) is not None
    ]
    share = sum(usual == right for usual, right in known) / len(known) if known else None
    return None if share is None else max(share, 1 - share)


def _vocabulary_ids(words: Sequence[Sequence[str]]) -> list[_Ints]:
    """Return, for each passage, the numbers of the words that occur in it, each once."""
    numbers: dict[str, int] = {}
    return [
        np.array(
            [numbers.setdefault(word, len(numbers)) for word in dict.fromkeys(token.lower() for token in passage)],
            np.int64,
        )
        for passage in words
    ]


def _length_bins(words: Sequence[Sequence[str]], rows: _Ints) -> list[_Ints]:
    """Return, for each passage, the number of its bin of length as its only feature; `rows` weighs the passages."""
    lengths = np.array([len(passage) for passage in words], np.int64)
    edges = np.unique(np.quantile(lengths[rows], np.arange(1, LENGTH_BINS) / LENGTH_BINS))
    return [np.array([place], np.int64) for place in np.searchsorted(edges, lengths, side="right")]


def _balanced_accuracy(features: Sequence[_Ints], rows: _Ints, folds: _Ints, labels: _Ints) -> float:
    """Return the balanced accuracy of naive Bayes with equal priors over N pairs, each judged by the other folds.

    `features`: the numbers of the features of each passage; `rows` (N,): the passage of each pair; `folds`, `labels`
    (N,). McCallum and Nigam 1998, with one added to the count of each feature.
    """
    chosen = [features[row] for row in rows]
    owner_T = np.repeat(np.arange(len(rows)), [len(ids) for ids in chosen])
    feature_T = np.concatenate(chosen)
    size = int(feature_T.max(initial=-1)) + 1
    place_T = (folds[owner_T] * 2 + labels[owner_T]) * size + feature_T
    in_fold_F2V = np.bincount(place_T, minlength=NUM_FOLDS * 2 * size).reshape(NUM_FOLDS, 2, size)
    elsewhere_F2V = in_fold_F2V.sum(axis=0) - in_fold_F2V + 1.0
    log_F2V = np.log(elsewhere_F2V / elsewhere_F2V.sum(axis=2, keepdims=True))
    weight_FV = log_F2V[:, 1] - log_F2V[:, 0]
    score_N = np.bincount(owner_T, weights=weight_FV[folds[owner_T], feature_T], minlength=len(rows))
    says_positive_N = np.where(np.abs(score_N) < 1e-9, 0.5, (score_N > 0).astype(float))
    is_positive_N = labels == 1
    return float((says_positive_N[is_positive_N].mean() + 1 - says_positive_N[~is_positive_N].mean()) / 2)
