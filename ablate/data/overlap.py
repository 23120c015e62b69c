"""What a mix and an evaluation set share: queries, instructions, templates, documents and judged pairs.

Equal: the same text without case and white space (`checking.normal`). Near: of the runs of eight words of a document
(its shingles), one training passage has at least a stated share. That is containment, which is never below the Jaccard
similarity of the two, so that a document cut out of a longer passage is found too. A text of fewer words is one
shingle; an empty one has none and is like no other. Case and punctuation do not count in shingles.

The search is exact but for collisions of 64-bit hashes, which are the same on every machine. Memory: about 40 bytes a
shingle of the training passages while they are sorted and 28 after that, of at most `MOST_SHINGLES` at once; more are
searched in several passes over the documents, which are read in blocks. Shapes: T texts, N shingles, M matches.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ablate.data.checking import body, normal, relevant_of
from ablate.records import EvaluationSet, Passage, TrainingGroup

SHINGLE_WORDS = 8
NEAR = 0.5
"""Share of the shingles of a document in one training passage from which it is near, where none is given."""
MOST_SHINGLES = 16_000_000
"""Shingles of training passages that are searched in one pass over the documents."""

_MOST_WORDS = 1_000_000
"""Words that are hashed together, and words whose hashes are kept."""
_MOST_HITS = 4_000_000
"""Shared shingles that are counted together; one document may have more, at most `MOST_SHINGLES`."""
_ONE_SIGN_WORDS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts without blanks between words (Han and kana): a sign counts as a word."""
_WORD = re.compile(rf"[{_ONE_SIGN_WORDS}]|[^\W{_ONE_SIGN_WORDS}]+")
_FACTOR = 0x9E3779B97F4A7C15

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]


def words_of(text: str) -> list[str]:
    """Return the words of a text without case and punctuation, in Unicode's compatible form."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def template_of(instruction: str, query: str) -> str:
    """Return an instruction with its numbers and the longer words of its query masked; empty where no other is left.

    Words of up to three letters stay, else a `the` in some queries would make two templates of one. Neighbouring masks
    of one kind are one, so that a name of one word and a name of two leave the same template.
    """
    known = {word for word in words_of(query) if len(word) > 3}
    masked = [
        "#" if word.isnumeric() else "_" if word in known else re.sub(r"\d+", "#", word)
        for word in words_of(instruction)
    ]
    kept = [word for place, word in enumerate(masked) if word not in "#_" or masked[place - 1 : place] != [word]]
    return " ".join(kept) if any(word not in "#_" for word in kept) else ""


class _WordHashes(dict[str, int]):
    """Word -> 64 bits of its BLAKE2b digest; forgets all where there are too many."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST_WORDS:
            self.clear()
        value = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")
        self[word] = value
        return value


class Shingles(NamedTuple):
    """The shingles of T texts, each once per text and rising in it."""

    hashes: Hashes
    """(N,)"""
    texts: Numbers
    """(N,) which text, rising from 0."""
    sizes: Numbers
    """(T,) shingles of each text; 0 for one without words."""


def shingle_blocks(texts: Iterable[str]) -> Iterator[Shingles]:
    """Yield the shingles of texts in their order, of as many texts at once as have about a million words."""
    hash_of, words, lengths = _WordHashes(), list[int](), list[int]()
    for text in texts:
        hashed = [hash_of[word] for word in words_of(text)]
        if hashed:
            hashed += [0] * (SHINGLE_WORDS - len(hashed))
        words += hashed
        lengths.append(len(hashed))
        if len(words) >= _MOST_WORDS or len(lengths) >= _MOST_WORDS:
            yield _shingles(words, lengths)
            words, lengths = [], []
    if lengths:
        yield _shingles(words, lengths)


def _shingles(words: Sequence[int], lengths: Sequence[int]) -> Shingles:
    hashed = np.array(words, dtype=np.uint64)
    texts = np.repeat(np.arange(len(lengths)), lengths)
    if not len(hashed):
        return Shingles(hashed, texts, np.zeros(len(lengths), dtype=np.int64))
    last = len(hashed) - SHINGLE_WORDS + 1
    summed = np.zeros(last, dtype=np.uint64)
    for place in range(SHINGLE_WORDS):
        summed *= np.uint64(_FACTOR)
        summed += hashed[place : place + last]
    summed = _mixed(summed)
    inside = texts[:last] == texts[SHINGLE_WORDS - 1 :]
    summed, texts = summed[inside], texts[:last][inside]
    order = np.lexsort((summed, texts))
    summed, texts = summed[order], texts[order]
    is_first = np.ones(len(summed), dtype=bool)
    is_first[1:] = (summed[1:] != summed[:-1]) | (texts[1:] != texts[:-1])
    summed, texts = summed[is_first], texts[is_first]
    return Shingles(summed, texts, np.bincount(texts, minlength=len(lengths)))


def _mixed(values: Hashes) -> Hashes:
    """Return 64-bit numbers with their bits spread (the finaliser of SplitMix64), so that sums do not lie alike."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Matches(NamedTuple):
    """Documents that a training passage has much of."""

    documents: Numbers
    """(M,) which document."""
    passages: Numbers
    """(M,) which training passage."""
    shares: npt.NDArray[np.float64]
    """(M,) share of the document's shingles that the passage has."""


def near(
    passages: Iterable[str],
    documents: Callable[[], Iterable[str]],
    threshold: float = NEAR,
    most_shingles: int = MOST_SHINGLES,
) -> Iterator[Matches]:
    """Yield every document with a training passage that has at least this share of its shingles, block by block.

    Numbers are places in the two iterables; `documents` is asked for once per part of the passages.
    """
    for index in _indexes(passages, most_shingles):
        first = 0
        for block in shingle_blocks(documents()):
            for matches in index.matches(block, threshold):
                yield matches._replace(documents=matches.documents + first)
            first += len(block.sizes)


class _Index:
    """Which passages have a shingle."""

    def __init__(self, hashes: list[Hashes], owners: list[npt.NDArray[np.int32]]) -> None:
        """Take the shingles of passages out of these lists, which are then empty."""
        joined = np.concatenate(hashes)
        hashes.clear()
        order = np.argsort(joined, kind="stable")
        ordered = joined[order]
        del joined
        self._owners = np.concatenate(owners)[order]
        owners.clear()
        del order
        is_first = np.ones(len(ordered), dtype=bool)
        is_first[1:] = ordered[1:] != ordered[:-1]
        self._known = ordered[is_first]
        self._starts = np.append(np.flatnonzero(is_first), len(ordered))

    def matches(self, block: Shingles, threshold: float) -> Iterator[Matches]:
        """Yield the matches of a block of documents."""
        at = np.searchsorted(self._known, block.hashes)
        at[at == len(self._known)] = 0
        is_known = self._known[at] == block.hashes
        texts, at = block.texts[is_known], at[is_known]
        enough = np.maximum(np.ceil(threshold * block.sizes - 1e-9), 1)
        can_be = (np.bincount(texts, minlength=len(block.sizes)) >= enough)[texts]
        texts, at = texts[can_be], at[can_be]
        starts, lengths = self._starts[at], self._starts[at + 1] - self._starts[at]
        for part in _parts(texts, lengths):
            hits = self._owners[_ranges(starts[part], lengths[part])]
            pairs = np.stack([np.repeat(texts[part], lengths[part]), hits])
            order = np.lexsort(pairs[::-1])
            pairs = pairs[:, order]
            is_first = np.ones(pairs.shape[1], dtype=bool)
            is_first[1:] = (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)
            counts = np.diff(np.append(np.flatnonzero(is_first), pairs.shape[1]))
            documents, passages = pairs[:, is_first]
            is_near = counts >= enough[documents]
            documents, passages, counts = documents[is_near], passages[is_near], counts[is_near]
            yield Matches(documents, passages, counts / block.sizes[documents])


def _indexes(passages: Iterable[str], most_shingles: int) -> Iterator[_Index]:
    hashes, owners, first, held = list[Hashes](), list[npt.NDArray[np.int32]](), 0, 0
    for block in shingle_blocks(passages):
        hashes.append(block.hashes)
        owners.append((block.texts + first).astype(np.int32))
        first += len(block.sizes)
        held += len(block.hashes)
        if held >= most_shingles:
            yield _Index(hashes, owners)
            held = 0
    if held:
        yield _Index(hashes, owners)


def _parts(texts: Numbers, lengths: Numbers) -> Iterator[slice]:
    """Yield slices of whole texts with at most `_MOST_HITS` hits, or one text."""
    ends = np.append(np.flatnonzero(np.diff(texts)) + 1, len(texts))
    hits = np.cumsum(lengths)
    begin = 0
    while begin < len(texts):
        before = hits[begin] - lengths[begin]
        within = ends[(ends > begin) & (hits[ends - 1] - before <= _MOST_HITS)]
        end = int(within[-1] if len(within) else ends[ends > begin][0])
        yield slice(begin, end)
        begin = end


def _ranges(starts: Numbers, lengths: Numbers) -> Numbers:
    """Return start, start + 1, … of every start, as many as its length, after each other."""
    shifts = starts - np.append(0, np.cumsum(lengths)[:-1])
    return np.repeat(shifts, lengths) + np.arange(int(lengths.sum()))


@dataclass
class MixTexts:
    """What of a mix is compared; texts in normal form, passages by their numbers in `Trained`."""

    queries: dict[str, set[int]] = field(default_factory=dict)
    """Query -> its positives."""
    instructions: set[str] = field(default_factory=set)
    templates: set[str] = field(default_factory=set)
    passages: set[int] = field(default_factory=set)
    positives: set[int] = field(default_factory=set)


@dataclass
class Trained:
    """The mixes of a study: different passages by their text, each numbered once, and what every mix has of them.

    Memory: some 250 bytes a passage and its id, without its text.
    """

    numbers: dict[bytes, int] = field(default_factory=dict)
    """Digest of the normal form of a passage -> its number."""
    names: list[str] = field(default_factory=list)
    """Number -> id under which it was met first."""
    mixes: dict[str, MixTexts] = field(default_factory=dict)

    def add(self, name: str, groups: Iterable[TrainingGroup], passages: Mapping[str, Passage]) -> None:
        """Add a mix under a name."""
        texts = self.mixes.setdefault(name, MixTexts())
        places = {}
        for doc_id, passage in passages.items():
            number = self.numbers.setdefault(digest_of(passage), len(self.names))
            if number == len(self.names):
                self.names.append(doc_id)
            places[doc_id] = number
        texts.passages.update(places.values())
        for group in groups:
            positives = [places[doc_id] for doc_id in group.positives]
            texts.queries.setdefault(normal(group.query), set()).update(positives)
            texts.positives.update(positives)
            if instruction := normal(group.instruction):
                texts.instructions.add(instruction)
                texts.templates.add(template_of(group.instruction, group.query))
        texts.templates.discard("")

    def number_of(self, passage: Passage) -> int | None:
        """Return the number of the training passage with this text, None where there is none or no text."""
        return self.numbers.get(digest_of(passage)) if body(passage) else None


def digest_of(passage: Passage) -> bytes:
    """Return what tells passages of other texts apart."""
    return hashlib.blake2b(body(passage).encode("utf-8", "replace"), digest_size=16).digest()


def plain_text(passage: Passage) -> str:
    """Return the text of a passage that is cut into shingles: with its title."""
    return f"{passage.title} {passage.text}"


@dataclass
class DocumentOverlap:
    """Training passages that documents of a set are equal to, or near."""

    equal: dict[str, int] = field(default_factory=dict)
    """Document -> number of the passage."""
    near: dict[str, dict[int, float]] = field(default_factory=dict)
    """Document -> number of a passage -> share of the document's shingles that it has.

    Of the passages of each mix the closest, the closest positive, and every positive of a query that the document is
    relevant to."""


def overlap_of_documents(
    trained: Trained, sets: Sequence[EvaluationSet], texts: Iterable[str], threshold: float = NEAR
) -> list[DocumentOverlap]:
    """Return for each set which training passages its documents are equal to or near.

    `texts`: `plain_text` of the training passages in the order of their numbers.
    """
    found = [DocumentOverlap() for _ in sets]
    for bed, overlap in zip(sets, found, strict=True):
        numbers = ((passage.doc_id, trained.number_of(passage)) for passage in bed.documents)
        overlap.equal = {doc_id: number for doc_id, number in numbers if number is not None}
    ends = np.cumsum([len(bed.documents) for bed in sets])
    wanted = _wanted_pairs(trained, sets)
    belongs = np.zeros((2 * len(trained.mixes), len(trained.names)), dtype=bool)
    for place, mix in enumerate(trained.mixes.values()):
        belongs[2 * place, list(mix.passages)] = True
        belongs[2 * place + 1, list(mix.positives)] = True

    def documents() -> Iterator[str]:
        every = (passage for bed in sets for passage in bed.documents)
        bar = tqdm(every, desc="documents", total=int(sum(ends[-1:])), delay=2.0, disable=None, leave=False)
        return map(plain_text, bar)

    for matches in near(texts, documents, threshold):
        order = np.lexsort((matches.passages, -matches.shares, matches.documents))
        places, passages, shares = (column[order] for column in matches)
        is_kept = np.isin(places * len(trained.names) + passages, wanted)
        for members in belongs:
            of_mix = np.flatnonzero(members[passages])
            is_kept[of_mix[np.unique(places[of_mix], return_index=True)[1]]] = True
        for place, number, share in zip(
            places[is_kept].tolist(), passages[is_kept].tolist(), shares[is_kept].tolist(), strict=True
        ):
            at = int(np.searchsorted(ends, place, side="right"))
            doc_id = sets[at].documents[place - int(ends[at])].doc_id
            found[at].near.setdefault(doc_id, {})[number] = share
    return found


def _wanted_pairs(trained: Trained, sets: Sequence[EvaluationSet]) -> Numbers:
    """Return place of a document x number of passages + number of a passage, of what may be a judged pair."""
    wanted, first = set[int](), 0
    for bed in sets:
        places = {passage.doc_id: first + place for place, passage in enumerate(bed.documents)}
        first += len(bed.documents)
        for query in bed.queries:
            text = normal(query.query)
            positives = set[int]().union(*(mix.queries.get(text, ()) for mix in trained.mixes.values()))
            if positives:
                relevant = (places[doc_id] for doc_id in relevant_of(bed, query) if doc_id in places)
                wanted.update(place * len(trained.names) + number for place in relevant for number in positives)
    return np.array(sorted(wanted), dtype=np.int64)


class Touched(NamedTuple):
    """Of one kind of unit, what training has too."""

    kind: str
    number: int
    """Units of this kind that could be touched."""
    examples: dict[str, str]
    """Touched unit -> what it was met with."""
    queries: frozenset[str]
    """Ids of the judged queries whose scores may be touched by it; empty for kinds that say nothing of single ones."""


KINDS = ("queries", "instructions", "templates", "documents, equal", "documents, near", "pairs, equal", "pairs, near")
"""Kinds of units, in the order of tables."""
_NO_QUERY = frozenset[str]()


def touched(
    texts: MixTexts, names: Sequence[str], bed: EvaluationSet, shared: DocumentOverlap | None
) -> tuple[Touched, ...]:
    """Return what a mix shares with a set, one entry for each of `KINDS`; near without what is equal.

    `names`: number of a passage -> its id; `shared`: None where the texts of documents are not known, which leaves the
    kinds of documents and pairs out.
    """
    judged = [query for query in bed.queries if bed.qrels.get(query.query_id)]
    same = {query.query_id: query.query for query in judged if normal(query.query) in texts.queries}
    instructions = {normal(query.instruction): query.query_id for query in judged if normal(query.instruction)}
    templates = {template_of(query.instruction, query.query): query.instruction for query in judged}
    templates.pop("", None)
    words = (
        Touched("queries", len(judged), same, frozenset(same)),
        Touched("instructions", len(instructions), _known(instructions, texts.instructions), _NO_QUERY),
        Touched("templates", len(templates), _known(templates, texts.templates), _NO_QUERY),
    )
    return words if shared is None else (*words, *_touched_documents(texts, names, bed, shared))


def _known(units: Mapping[str, str], trained: Collection[str]) -> dict[str, str]:
    return {unit: met for unit, met in units.items() if unit in trained}


def _touched_documents(
    texts: MixTexts, names: Sequence[str], bed: EvaluationSet, shared: DocumentOverlap
) -> tuple[Touched, ...]:
    equal = {doc_id: names[number] for doc_id, number in shared.equal.items() if number in texts.passages}
    near_to = {
        doc_id: shares
        for doc_id, every in shared.near.items()
        if doc_id not in equal and (shares := {n: share for n, share in every.items() if n in texts.passages})
    }
    documents = {"equal": equal, "near": {doc_id: _closest(numbers, names) for doc_id, numbers in near_to.items()}}
    of_documents: dict[str, set[str]] = {"equal": set(), "near": set()}
    pairs: dict[str, dict[str, str]] = {"equal": {}, "near": {}}
    of_pairs: dict[str, set[str]] = {"equal": set(), "near": set()}
    num_pairs = 0
    for query in bed.queries:
        asked = texts.queries.get(normal(query.query), set[int]())
        for doc_id in relevant_of(bed, query):
            num_pairs += 1
            equals = {shared.equal[doc_id]} if doc_id in shared.equal else set[int]()
            close = shared.near.get(doc_id, {})
            for way, numbers in (("equal", equals), ("near", set(close) - equals)):
                if texts.positives & numbers:
                    of_documents[way].add(query.query_id)
                if asked & numbers and (way == "equal" or not asked & equals):
                    of_pairs[way].add(query.query_id)
                    shares = {n: close.get(n, 1.0) for n in asked & numbers}
                    pairs[way][f"{query.query_id} {doc_id}"] = _closest(shares, names)
    return (
        *(Touched(f"documents, {w}", len(bed.documents), documents[w], frozenset(of_documents[w])) for w in documents),
        *(Touched(f"pairs, {way}", num_pairs, pairs[way], frozenset(of_pairs[way])) for way in pairs),
    )


def _closest(shares: Mapping[int, float], names: Sequence[str]) -> str:
    best = max(shares, key=shares.__getitem__)
    return f"{names[best]} ({shares[best]:.2f})"


def trained_pairs(positives: Mapping[str, Collection[str]], bed: EvaluationSet) -> dict[str, int]:
    """Return query_id -> relevant documents of it that are positives of the same query in training, by their ids.

    `positives`: normal form of a training query -> ids of its positives, which must be ids of the same corpus.
    """
    pairs = {}
    for query in bed.queries:
        trained = positives.get(normal(query.query), ())
        number = sum(doc_id in trained for doc_id in relevant_of(bed, query))
        if number:
            pairs[query.query_id] = number
    return pairs
