"""Plain queries with their answers, split by split: those of a BEIR folder, or written from metadata.

    folder: queries.jsonl and qrels/, as they are
    written: corpus.jsonl -> topics (one per value of a field) -> documents and topics dealt to splits -> one query each

A written query is answered by every document of its split that the program finds the value in: that is all that is
relevant, by construction. Splits share no document and no topic. Topics that write the same text are one query, with
the answers of all of them: those of one topic would be the negatives of the other.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.data.beir_files import PLAIN, OwnDocument, Query, bases_of, read_corpus, read_folder
from ablate.data.rules.values import field_of, normal, read_metadata, shown
from ablate.randomness import choose, key, uniform
from ablate.recipe.grammar import spelled
from ablate.recipe.topics import Part, Topic, WrittenQueries, check_queries
from ablate.records import Passage, UserError

LEAST_LETTERS = 5
"""Of a word that makes a topic."""

_Key = tuple[str, ...]
"""What a topic is about: one value per part, in the form that its spellings have in common."""


@dataclass(frozen=True, slots=True)
class PlainQueries:
    """Documents, plain queries and their answers."""

    documents: dict[str, Passage]
    queries: dict[str, tuple[Query, ...]]
    """split -> its plain queries, in a fixed order"""
    grades: dict[str, dict[str, dict[str, int]]]
    """split -> query_id -> doc_id -> grade"""
    split_of: dict[str, str] | None
    """doc_id -> its split, where documents are dealt to splits (some to none); None: every split has all of them."""
    own: dict[str, str]
    """query_id -> document that is the query itself and is left out for it."""
    remarks: tuple[str, ...]
    revision: str

    def documents_of(self, split: str) -> Iterator[Passage]:
        """Yield the documents of a split, in the order of the corpus."""
        for doc_id, passage in self.documents.items():
            if self.split_of is None or self.split_of.get(doc_id) == split:
                yield passage


def read_plain(folder: Path, own_document: OwnDocument | None) -> PlainQueries:
    """Return the plain queries of a BEIR folder; raises UserError for whatever is missing or broken there."""
    files = read_folder(folder, own_document)
    grades = files.labels.grades
    queries = {
        split: tuple(
            files.by_base[base_id][PLAIN]
            for base_id in bases_of(files.by_base, split, grades)
            if PLAIN in files.by_base[base_id]
        )
        for split in grades
    }
    return PlainQueries(files.documents, queries, grades, None, files.own, files.remarks, files.revision)


def write_plain(folder: Path, written: WrittenQueries, seed: int) -> PlainQueries:
    """Return the queries that a declaration makes of the metadata of a corpus; its queries and labels are not read.

    Raises UserError for a declaration that makes no sense, a field that no document has, and a broken corpus.
    """
    check_queries(written)
    corpus, hashed = folder / "corpus.jsonl", hashlib.sha256()
    documents = read_corpus(corpus, hashed)
    names = [name for name, _ in written.splits]
    dealt = {doc_id: _dealt(written, seed, "document", doc_id) for doc_id in documents}
    split_of = {doc_id: split for doc_id, split in dealt.items() if split is not None}
    queries: dict[str, list[Query]] = {name: [] for name in names}
    grades: dict[str, dict[str, dict[str, int]]] = {name: {} for name in names}
    shared: list[str] = []
    for posed in _posed(corpus, documents, written, seed):
        split = _dealt(written, seed, posed.topics[0].name, *posed.about)
        answers = [doc_id for doc_id in posed.members if split is not None and split_of.get(doc_id) == split]
        if split is None or not written.least <= len(answers) <= written.most:
            continue
        query = Query(posed.query_id, posed.query_id, PLAIN, posed.text, "", split, {"topic": posed.topics[0].name})
        queries[split].append(query)
        grades[split][query.query_id] = dict.fromkeys(answers, 1)
        if len(posed.topics) > 1:
            shared.append(f"{query.text!r} of {', '.join(topic.name for topic in posed.topics)}")
    ordered = {name: tuple(its) for name, its in queries.items()}
    remarks: tuple[str, ...] = ()
    if shared:
        words = f"{len(shared):,} texts of queries are written by several topics and have the answers of all of them"
        remarks = (f"source.queries: {words} (first: {shared[0]})",)
        hashed.update(b"one query per text")
    return PlainQueries(documents, ordered, grades, split_of, {}, remarks, hashed.hexdigest())


@dataclass(slots=True)
class _Posed:
    """A text of a query with every topic that writes it, in the order of topics and of their values."""

    query_id: str
    text: str
    topics: list[Topic]
    about: _Key
    """Of the first topic."""
    members: dict[str, None]
    """Documents that have the value of one of the topics, as keys; in the order of the corpus for a single topic."""


def _posed(corpus: Path, documents: Mapping[str, Passage], written: WrittenQueries, seed: int) -> Iterable[_Posed]:
    """Return every text that a topic writes about one of its values, once, whatever its split or its answers."""
    by_text: dict[str, _Posed] = {}
    for topic, spellings, members in _members(corpus, documents, written):
        for about in sorted(members):
            query_id, text = _text(topic, about, spellings[about], seed)
            posed = by_text.setdefault(normal(text), _Posed(query_id, text, [], about, {}))
            posed.topics.append(topic)
            posed.members.update(dict.fromkeys(members[about]))
    return by_text.values()


def _dealt(written: WrittenQueries, seed: int, *purpose: str) -> str | None:
    """Return the split of a document or a topic by a keyed draw; None for what is unused."""
    drawn, end = uniform(seed, "written split", *purpose), 0.0
    for name, share in written.splits:
        end += share
        if drawn < end:
            return name
    return None


def _text(topic: Topic, about: _Key, spelling: _Key, seed: int) -> tuple[str, str]:
    """Return the id and the text of the query about one value of a topic."""
    name = hashlib.sha256("\0".join(about).encode()).hexdigest()[:12]
    query_id = f"{topic.name}-{name}"
    text = choose(topic.texts, seed, "written query", query_id)
    text = spelled(text, lambda place, num: key(seed, "written query", query_id, place) % num)
    values = {part.name: value for part, value in zip(topic.parts, spelling, strict=True)}
    return query_id, text.format(**values)


def _members(
    corpus: Path, documents: Mapping[str, Passage], written: WrittenQueries
) -> Iterator[tuple[Topic, dict[_Key, _Key], dict[_Key, list[str]]]]:
    """Yield every topic with the spelling of each of its values and the documents that have it, in their order."""
    spellings: list[dict[_Key, _Key]] = [{} for _ in written.topics]
    members: list[dict[_Key, list[str]]] = [{} for _ in written.topics]
    fields: dict[str, None] = {}
    found = {part: 0 for topic in written.topics for part in topic.parts}
    for doc_id, metadata in read_metadata(corpus):
        if len(fields) < 20:
            fields.update(dict.fromkeys(metadata))
        for place, topic in enumerate(written.topics):
            values = [values_of(part, documents[doc_id], metadata) for part in topic.parts]
            for part, its in zip(topic.parts, values, strict=True):
                found[part] += bool(its)
            for spelling in itertools.product(*values):
                about = tuple(map(normal, spelling))
                spellings[place][about] = min(spellings[place].get(about, spelling), spelling)
                members[place].setdefault(about, []).append(doc_id)
    for index, topic in enumerate(written.topics):
        for number, part in enumerate(topic.parts):
            if not found[part]:
                known = ", ".join(["title", "text", *fields])
                raise UserError(
                    f"source.queries.topics[{index}].parts[{number}]: no document of {corpus} has a {part.measure} of "
                    f"field {part.field!r}; known fields: {known}"
                )
    yield from zip(written.topics, spellings, members, strict=True)


def values_of(part: Part, passage: Passage, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a document says of one part of a topic, each value once in any spelling; none where it says nothing.

    Raises UserError for a decade of what is no number, and for words or a pattern of what is no text.
    """
    raw = field_of(part.field, passage, metadata)
    if raw is None:
        return ()
    if part.measure == "decade":
        if isinstance(raw, bool) or not isinstance(raw, (int, float)):
            raise _wrong(part, passage, raw, "a number")
        return (str(int(raw // 10) * 10),)
    if part.measure == "value":
        entries = raw if isinstance(raw, list) else [raw]
        texts = [shown(entry) for entry in entries if isinstance(entry, (str, int, float))]
    elif not isinstance(raw, str):
        raise _wrong(part, passage, raw, "a text")
    elif part.measure == "words":
        texts = re.findall(rf"(?<![\w'])[a-z]{{{LEAST_LETTERS},}}(?![\w'])", raw)
    else:
        assert part.pattern is not None, "check_queries asks for one"
        texts = [shown(found) for found in re.findall(part.pattern, raw)]
    return tuple({normal(text): text for text in reversed(texts) if text}.values())


def _wrong(part: Part, passage: Passage, raw: Any, wanted: str) -> UserError:
    return UserError(
        f"source.queries: field {part.field!r} of document {passage.doc_id!r} is {raw!r}; measure {part.measure} takes "
        f"{wanted}; choose another measure or field"
    )
