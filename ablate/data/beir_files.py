"""Reading of a BEIR folder: corpus, queries with their variants, and labels; everything checked, errors with line."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ablate import reading
from ablate.records import Passage, UserError

OwnDocument = Literal["keep", "drop"]

PLAIN, BROAD = "plain", "og"


class Query(NamedTuple):
    """One line of queries.jsonl, with what its metadata or its id says about it."""

    query_id: str
    base_id: str
    variant: str
    text: str
    instruction: str
    split: str | None
    clusters: Mapping[str, str]
    """Kind -> cluster: every other key of the metadata with a text."""


class _Qrels(NamedTuple):
    """One labels file, as lines of (line number, columns)."""

    name: str
    split: str | None
    lines: list[tuple[int, list[str]]]


@dataclass(frozen=True, slots=True)
class Labels:
    """Everything in qrels/, by split."""

    grades: dict[str, dict[str, dict[str, int]]]
    """split -> query_id -> doc_id -> grade"""
    changed: dict[str, dict[str, list[str]]]
    """split -> query_id of an instructed query -> documents of its diff file; empty lists say that the file exists."""
    pairs: dict[str, list[tuple[str, str, str, str]]]
    remarks: tuple[str, ...] = ()
    """What a reader of scores must be told of the files."""


@dataclass(frozen=True, slots=True)
class BeirFiles:
    """What the files of a folder hold."""

    documents: dict[str, Passage]
    queries: dict[str, Query]
    by_base: dict[str, dict[str, Query]]
    """base_id -> variant -> query, in the order of queries.jsonl"""
    variants: tuple[str, ...]
    """Of queries with an instruction, in order of appearance."""
    labels: Labels
    own: dict[str, str]
    """query_id -> document that is the query itself and is left out for it; empty unless `own_document` is drop."""
    remarks: tuple[str, ...]
    """What a reader of scores must be told."""
    revision: str
    """SHA-256 over names and bytes of corpus.jsonl, queries.jsonl and qrels/*.tsv."""


def read_folder(folder: Path, own_document: OwnDocument | None = None) -> BeirFiles:
    """Read and check a BEIR folder; raises UserError, with file and line, for whatever is missing or broken.

    `own_document` says what becomes of documents that are queries under the same id (as in ArguAna): `keep` them,
    `drop` their labels and name them in `own`, or, with None, refuse the folder.
    """
    hashed = hashlib.sha256()
    documents = read_corpus(folder / "corpus.jsonl", hashed)
    queries = _read_queries(folder, hashed)
    by_base: dict[str, dict[str, Query]] = {}
    for query in queries.values():
        variants = by_base.setdefault(query.base_id, {})
        if query.variant in variants:
            raise UserError(
                f"{folder / 'queries.jsonl'}: queries {variants[query.variant].query_id!r} and {query.query_id!r} are "
                f"both variant {query.variant!r} of {query.base_id!r}; rename one variant"
            )
        variants[query.variant] = query
    names = tuple(dict.fromkeys(query.variant for query in queries.values() if query.instruction))
    labels = _LabelReader(folder, documents, queries, by_base, names).read(hashed)
    own, remarks = _own_documents(folder, documents, queries, labels, own_document)
    if alone := _without_base(queries):
        remarks.append(_told_without_base(alone))
    return BeirFiles(documents, queries, by_base, names, labels, own, (*labels.remarks, *remarks), hashed.hexdigest())


def _told_without_base(alone: Mapping[str, list[str]]) -> str:
    head, query_ids = next(iter(alone.items()))
    return (
        f"{sum(map(len, alone.values())):,} queries look like variants of a query that is not there, and each is "
        f"taken for the original of its own (first: {', '.join(query_ids[:3])} of {head!r}); add the plain query "
        f"{head!r}, or say metadata.base and metadata.variant"
    )


def _own_documents(
    folder: Path,
    documents: Mapping[str, Passage],
    queries: Mapping[str, Query],
    labels: Labels,
    own_document: OwnDocument | None,
) -> tuple[dict[str, str], list[str]]:
    """Return query_id -> its own document where these are dropped, and what to say of it; drops their labels.

    A document with the id of a query (of its base query, for a variant) is its own when the folder says so with `drop`.
    Equal ids alone are no sign, numbers meet by chance; queries are taken for documents when for half of those with
    the id of a document, or more, the words of the query stand in that document.
    """
    shared = {
        query.query_id: doc_id
        for query in queries.values()
        for doc_id in (query.base_id, query.query_id)
        if doc_id in documents
    }
    if own_document == "drop":
        num_labels = 0
        for query_id, doc_id in shared.items():
            for grades in labels.grades.values():
                num_labels += grades.get(query_id, {}).pop(doc_id, None) is not None
            for changed in labels.changed.values():
                if query_id in changed:
                    changed[query_id] = [changed_id for changed_id in changed[query_id] if changed_id != doc_id]
        said = f"{len(shared):,} queries are documents of the corpus: each one's own is left out of its ranking"
        lost = f", and with it {num_labels:,} labels" if num_labels else ""
        return shared, [f"{said}{lost} (source.own_document=drop)"] if shared else []
    query_ids = [
        query_id for query_id, doc_id in shared.items() if _stands_in(queries[query_id].text, documents[doc_id])
    ]
    if not query_ids or 2 * len(query_ids) < len(shared):
        return {}, []
    example = f"{len(query_ids):,} queries are documents of the corpus under the same id (first: {query_ids[0]!r})"
    if own_document is None:
        raise UserError(
            f"{folder / 'queries.jsonl'}: {example}, so each would find itself; set source.own_document=drop to leave "
            f"a query's own document out of its ranking and its training rows, or =keep"
        )
    return {}, [f"{example}; each can find itself (source.own_document=keep)"]


def _stands_in(text: str, passage: Passage) -> bool:
    words, whole = (" ".join(re.findall(r"\w+", raw.casefold())) for raw in (text, f"{passage.title} {passage.text}"))
    return bool(words) and f" {words} " in f" {whole} "


def bases_of(
    by_base: Mapping[str, Mapping[str, Query]], split: str, grades: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> Iterator[str]:
    """Yield the base queries of a split: those that say so, and those with a label in it."""
    for base_id, variants in by_base.items():
        if any(query.split == split or query.query_id in grades[split] for query in variants.values()):
            yield base_id


def check_measurable(labels: Labels, split: str, folder: Path) -> None:
    """Raise UserError when no judgment of a split is of a relevant document: every measure would be 0 or none."""
    grades = labels.grades[split]
    if not any(grade > 0 for judged in grades.values() for grade in judged.values()):
        raise UserError(
            f"{folder / 'qrels'}: none of the {sum(map(len, grades.values())):,} judgments of split {split!r} has a "
            f"grade above 0, so nothing could be measured; give labels, or name another split in evaluation.sets"
        )


class _LabelReader:
    def __init__(
        self,
        folder: Path,
        documents: Mapping[str, Passage],
        queries: Mapping[str, Query],
        by_base: Mapping[str, Mapping[str, Query]],
        variants: tuple[str, ...],
    ) -> None:
        self._folder, self._documents, self._queries = folder, documents, queries
        self._by_base, self._variants = by_base, variants
        self._labels = Labels({}, {}, {})
        self._comments: Counter[str] = Counter()

    def read(self, hashed: Any) -> Labels:
        """Return the labels of all files in qrels/; adds their names and bytes to the hash."""
        folder = self._folder / "qrels"
        if not folder.is_dir():
            raise UserError(
                f"{folder} is missing; a BEIR folder has one labels file per split in it, like qrels/test.tsv"
            )
        later: list[tuple[str, _Qrels]] = []
        splits = dict.fromkeys(query.split for query in self._queries.values() if query.split)
        for path in sorted(folder.glob("*.tsv")):
            kind, variant, split = self._parse_name(path.stem, tuple(splits))
            columns = 4 if kind == "pairs" else 3
            file = _Qrels(f"{path}", split, list(_read_tsv(path, columns, hashed, self._comments)))
            if kind == "grades" and split is not None:
                self._add_grades(file)
            else:
                later.append((kind if kind != "changed" else f"changed:{variant}", file))
        for kind, file in sorted(later, key=lambda item: item[0] != "grades"):
            if kind == "grades":
                self._add_grades(file)
            elif kind == "pairs":
                self._add_pairs(file)
            else:
                self._add_changed(file, kind.removeprefix("changed:"))
        grades = self._labels.grades
        order = dict.fromkeys([*(split for split in splits if split in grades), *grades])
        remarks = [reading.passed_over(path, number) for path, number in self._comments.items()]
        ordered = {split: grades[split] for split in order}
        return Labels(ordered, self._labels.changed, self._labels.pairs, tuple(remarks))

    def _parse_name(self, stem: str, splits: tuple[str, ...]) -> tuple[str, str, str | None]:
        """Return kind of labels, variant and split of a labels file; no split: that of its queries."""
        if stem in splits:
            return "grades", PLAIN, stem
        if stem == "pairs" or stem.startswith("pairs_"):
            return "pairs", "", stem.removeprefix("pairs").removeprefix("_") or None
        kind = "changed" if stem.startswith("diff_") else "grades"
        rest = stem.removeprefix("diff_")
        for variant in sorted(self._variants, key=len, reverse=True):
            if rest == variant or rest.startswith(f"{variant}_"):
                return kind, variant, rest.removeprefix(variant).removeprefix("_") or None
        if kind == "changed":
            known = ", ".join(self._variants) or "none"
            alone = _without_base(self._queries)
            raise UserError(
                f"{self._folder / 'qrels' / stem}.tsv is for no known variant; variants of queries: {known}"
                + (f"; {_told_without_base(alone)}" if alone else "")
            )
        return "grades", PLAIN, stem

    def _splits_of(self, query: Query, split: str | None) -> list[str]:
        if split is not None:
            return [split]
        family = self._by_base[query.base_id].values()
        named = [member.split for member in family if member.split]
        judged = [
            name for name, grades in self._labels.grades.items() if any(member.query_id in grades for member in family)
        ]
        return list(dict.fromkeys([*named, *judged]))

    def _add_grades(self, file: _Qrels) -> None:
        if file.split is not None:
            self._labels.grades.setdefault(file.split, {})
        for number, (query_id, doc_id, score) in file.lines:
            where = reading.at(file.name, number)
            query, grade = self._known_query(query_id, where), _grade(score, where)
            self._check_document(doc_id, where)
            splits = self._splits_of(query, file.split)
            if not splits:
                raise UserError(
                    f"{where}: query {query_id!r} belongs to no split; give it metadata.split, or name the file "
                    f"{Path(file.name).stem}_<split>.tsv"
                )
            for split in splits:
                grades = self._labels.grades.setdefault(split, {}).setdefault(query_id, {})
                if grades.setdefault(doc_id, grade) != grade:
                    raise UserError(
                        f"{where}: query {query_id!r} and document {doc_id!r} have score {grade} here and "
                        f"{grades[doc_id]} before; keep one"
                    )

    def _add_changed(self, file: _Qrels, variant: str) -> None:
        for split in [file.split] if file.split else list(self._labels.grades):
            listed = self._labels.changed.setdefault(split, {})
            known = bases_of(self._by_base, split, self._labels.grades) if split in self._labels.grades else ()
            for base_id in known:
                if variant in self._by_base[base_id]:
                    listed.setdefault(self._by_base[base_id][variant].query_id, [])
        for number, (query_id, doc_id, score) in file.lines:
            where = reading.at(file.name, number)
            _grade(score, where)
            self._check_document(doc_id, where)
            base_id = self._known_query(query_id, where).base_id
            target = self._by_base[base_id].get(variant)
            if target is None:
                raise UserError(f"{where}: query {base_id!r} has no variant {variant!r}; add it to queries.jsonl")
            for split in self._splits_of(target, file.split):
                self._labels.changed.setdefault(split, {}).setdefault(target.query_id, []).append(doc_id)

    def _add_pairs(self, file: _Qrels) -> None:
        for number, (first, second, first_doc, second_doc) in file.lines:
            where = reading.at(file.name, number)
            query = self._known_query(first, where)
            self._known_query(second, where)
            self._check_document(first_doc, where)
            self._check_document(second_doc, where)
            for split in self._splits_of(query, file.split):
                self._labels.pairs.setdefault(split, []).append((first, second, first_doc, second_doc))

    def _known_query(self, query_id: str, where: str) -> Query:
        if query_id not in self._queries:
            raise UserError(f"{where}: query {query_id!r} is not in queries.jsonl; add it there or drop the line")
        return self._queries[query_id]

    def _check_document(self, doc_id: str, where: str) -> None:
        if doc_id not in self._documents:
            raise UserError(f"{where}: document {doc_id!r} is not in corpus.jsonl; add it there or drop the line")


def _read_objects(path: Path, hashed: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield where it stands, the id and the object of every line of a JSON lines file."""
    seen: dict[str, int] = {}
    for number, line in reading.lines(path, hashed):
        where = reading.at(path, number)
        record = reading.json_object(line, where)
        for name in ("_id", "text"):
            if name not in record:
                raise UserError(f"{where}: `{name}` is missing; every line needs `_id` and `text`")
        found_id = record["_id"]
        if not isinstance(found_id, (str, int)) or isinstance(found_id, bool):
            raise UserError(f"{where}: `_id` is {found_id!r}; it must be a text that is not empty")
        found_id = str(found_id)
        reading.check_id(found_id, "`_id`", where)
        if found_id in seen:
            raise UserError(f"{where}: `_id` {found_id!r} is also in line {seen[found_id]}; ids must be unique")
        seen[found_id] = number
        yield where, found_id, record


def _text(record: dict[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: `{name}` is {value!r}; it must be a text")
    return value.strip()


def read_corpus(path: Path, hashed: Any) -> dict[str, Passage]:
    """Return the documents of a BEIR corpus file by id; adds the file's bytes to the hash.

    Raises UserError, with file and line, for whatever is missing or broken.
    """
    documents: dict[str, Passage] = {}
    for where, doc_id, record in _read_objects(path, hashed):
        passage = Passage(doc_id, _text(record, "text", where), _text(record, "title", where))
        if not passage.text and not passage.title:
            raise UserError(f"{where}: document {doc_id!r} has neither text nor title; drop it or give it one")
        documents[doc_id] = passage
    if not documents:
        raise UserError(f"{path} is empty; it needs at least one document")
    return documents


def _read_queries(folder: Path, hashed: Any) -> dict[str, Query]:
    path = folder / "queries.jsonl"
    objects = {query_id: (where, record) for where, query_id, record in _read_objects(path, hashed)}
    queries: dict[str, Query] = {}
    for query_id, (where, record) in objects.items():
        reading.check_query_id(query_id, "query", where)
        text, instruction = _text(record, "text", where), _text(record, "instruction", where)
        metadata = record.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise UserError(f"{where}: `metadata` is {metadata!r}; it must be an object")
        if not text:
            raise UserError(f"{where}: query {query_id!r} has no text; drop it or give it one")
        base_id, variant = query_id, BROAD if instruction else PLAIN
        head, _, tail = query_id.rpartition("-")
        if instruction and head in objects and tail:
            base_id, variant = head, tail
        base_id = _text(metadata, "base", where) or base_id
        variant = _text(metadata, "variant", where) or variant
        if bool(instruction) != (variant != PLAIN):
            has = "an" if instruction else "no"
            raise UserError(
                f"{where}: query {query_id!r} is variant {variant!r} and has {has} instruction; `{PLAIN}` is the "
                "variant of queries without one, and every other variant needs one"
            )
        split = _text(metadata, "split", where) or None
        queries[query_id] = Query(query_id, base_id, variant, text, instruction, split, _clusters(metadata))
    if not queries:
        raise UserError(f"{path} is empty; it needs at least one query")
    _check_instructions(objects, queries)
    return queries


def _clusters(metadata: Mapping[str, Any]) -> dict[str, str]:
    texts = {kind: value.strip() for kind, value in metadata.items() if isinstance(value, str)}
    return {kind: text for kind, text in texts.items() if kind not in ("base", "variant", "split") and text}


def _check_instructions(objects: Mapping[str, tuple[str, Mapping[str, Any]]], queries: Mapping[str, Query]) -> None:
    """Raise UserError for a query that is a variant by its id and has no instruction.

    It is one where others of that variant have an instruction, and where its text is that of its base query (but for
    a number after the hyphen: the same question may be in a set twice).
    """
    variants = {query.variant for query in queries.values() if query.instruction}
    for query_id, query in queries.items():
        head, _, tail = query_id.rpartition("-")
        where, record = objects[query_id]
        said = "variant" in (record.get("metadata") or {})
        if query.instruction or said or not tail or head not in queries:
            continue
        if tail in variants or (query.text == queries[head].text and not tail.isdecimal()):
            why = f"others of the variant {tail!r} have one" if tail in variants else f"its text is that of {head!r}"
            raise UserError(
                f"{where}: query {query_id!r} has no instruction, and {why}; give it its instruction, or say that it "
                f"is a plain query of its own: metadata.variant={PLAIN}"
            )


def _without_base(queries: Mapping[str, Query]) -> dict[str, list[str]]:
    """Return heads of ids -> the queries that look like variants of it, where no query has that id.

    They look so when they have an instruction and one text, and are taken for queries of their own.
    """
    variants: dict[tuple[str, str], list[str]] = {}
    for query in queries.values():
        head, _, tail = query.query_id.rpartition("-")
        if query.instruction and head and tail and head not in queries and query.base_id == query.query_id:
            variants.setdefault((head, query.text), []).append(query.query_id)
    return {head: query_ids for (head, _), query_ids in variants.items() if len(query_ids) > 1}


def _read_tsv(path: Path, num_columns: int, hashed: Any, comments: Counter[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a labels file with their numbers, without its header and its comments, which are counted."""
    is_first = True
    for number, line in reading.lines(path, hashed):
        if reading.is_comment(line):
            comments[str(path)] += 1
            continue
        columns = reading.tabbed(line)
        is_header, is_first = is_first and columns[0].endswith("query-id"), False
        if is_header:
            continue
        if len(columns) != num_columns:
            raise UserError(
                f"{reading.at(path, number)}: {len(columns)} columns instead of {num_columns}, separated by tabs; "
                "write " + ("query-id, corpus-id, score" if num_columns == 3 else "two query ids and two corpus ids")
            )
        yield number, columns


def _grade(score: str, where: str) -> int:
    try:
        return reading.grade(score)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
