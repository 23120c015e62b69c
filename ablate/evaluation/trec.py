"""Rankings and judgments as files: TREC run files, TREC and BEIR qrels, and what belongs to them.

A name ending in `.gz` is compressed.

The same content gives the same bytes: the gzip header holds neither a time nor a file name.
"""

from __future__ import annotations

import gzip
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ablate import reading
from ablate.records import UserError
from ablate.retrieval.rankings import Ranking, by_query, rank

_BEIR_HEADER = ["query-id", "corpus-id", "score"]
_QUERY = "\0"
"""Stands for the query in a template: no id has it."""
_RUN_LEVEL = 2
"""zlib's level for rankings: a third of the processor time of level 6, which makes files a sixth smaller."""


def write_run(path: Path | str, rankings: Iterable[Ranking], *, tag: str = "ablate") -> None:
    """Write rankings as a TREC run file: query, Q0, document, 1-based rank, score, tag.

    Scores have nine significant digits, so reading gives back the same float32 and hence the same ranking. An empty
    ranking has no line. Raises UserError naming an id that a file cannot hold, or a query with two rankings.
    """
    _check_id("tag", tag)
    _write(Path(path), _run_parts(rankings, tag), _RUN_LEVEL)


def _run_parts(rankings: Iterable[Ranking], tag: str) -> Iterator[bytes]:
    """Yield the lines of each ranking of a run file; raises UserError as `write_run`."""
    checked: set[str] = set()
    templates: dict[int, str] = {}
    for query_id, ranking in by_query(rankings).items():
        _check_id("query id", query_id)
        for doc_id in ranking.doc_ids:
            if doc_id not in checked:
                _check_id("document id", doc_id)
                checked.add(doc_id)
        size = len(ranking)
        if size not in templates:
            templates[size] = _run_template(size, tag)
        cells: list[object] = [None] * (2 * size)
        cells[::2], cells[1::2] = ranking.doc_ids, ranking.scores.tolist()
        lines = templates[size].replace(_QUERY, query_id.replace("%", "%%")) % tuple(cells)
        yield lines.encode("utf-8")


def _run_template(size: int, tag: str) -> str:
    """Return the lines of a ranking of `size` documents, without query, documents and scores."""
    end = tag.replace("%", "%%")
    return "".join([f"{_QUERY} Q0 %s {place} %.9g {end}\n" for place in range(1, size + 1)])


def read_run(path: Path | str) -> dict[str, Ranking]:
    """Read a TREC run file and return query_id -> ranking, in the order of the file's queries.

    The order of a query's documents comes from the scores, as in trec_eval, not from the column of ranks. Raises
    UserError with file and line for a line that is not a run line, a NaN score or a document that is there twice.
    """
    run: dict[str, dict[str, float]] = {}
    for number, line in reading.lines(path):
        parts = reading.columns(line)
        if len(parts) < 6:
            raise UserError(
                f"{reading.at(path, number)}: {len(parts)} columns, expected 6: query Q0 document rank score tag"
            )
        query_id, _, doc_id, _, text, *_ = parts
        documents = run.setdefault(query_id, {})
        if doc_id in documents:
            place = reading.at(path, number)
            raise UserError(f"{place}: query {query_id!r}: document {doc_id!r} is there twice; keep one line of it")
        try:
            documents[doc_id] = reading.score(text)
        except UserError as error:
            place = reading.at(path, number)
            raise UserError(f"{place}: query {query_id!r}, document {doc_id!r}: {error}") from None
    return {query_id: rank(query_id, list(scores), list(scores.values())) for query_id, scores in run.items()}


def read_qrels(path: Path | str, *, notes: list[str] | None = None) -> dict[str, dict[str, int]]:
    """Read judgments and return query_id -> document id -> grade: TREC's four columns, or BEIR's three with a header.

    Lines that begin with `#` are comments, as for trec_eval 10; how many were passed over is added to `notes`, or
    printed on standard error without it. Raises UserError with file and line for another number of columns, a grade
    that is not an integer, or a document that is judged twice for one query.
    """
    qrels: dict[str, dict[str, int]] = {}
    beir: bool | None = None
    for number, line in _uncommented(path, notes):
        if beir is None:
            beir = reading.columns(line) == _BEIR_HEADER
            if beir:
                continue
        parts = reading.tabbed(line) if beir else reading.columns(line)
        if len(parts) != (3 if beir else 4) or not all(parts):
            columns = "3, tab-separated: query-id corpus-id score" if beir else "4: query 0 document grade"
            hint = "" if beir else " (or the BEIR header 'query-id corpus-id score' in the first line)"
            raise UserError(f"{reading.at(path, number)}: {len(parts)} columns, expected {columns}{hint}")
        query_id, doc_id, text = parts[0], parts[-2], parts[-1]
        grades = qrels.setdefault(query_id, {})
        if doc_id in grades:
            place = reading.at(path, number)
            raise UserError(f"{place}: query {query_id!r}: document {doc_id!r} is judged twice; keep one line of it")
        try:
            grades[doc_id] = reading.grade(text)
        except UserError as error:
            place = reading.at(path, number)
            raise UserError(f"{place}: query {query_id!r}, document {doc_id!r}: {error}") from None
    return qrels


def _uncommented(path: Path | str, notes: list[str] | None) -> Iterator[tuple[int, str]]:
    """Yield the numbers and texts of all lines but comments, and tell how many of these there were."""
    num_comments = 0
    for number, line in reading.lines(path):
        if reading.is_comment(line):
            num_comments += 1
        else:
            yield number, line
    if num_comments:
        note = reading.passed_over(path, num_comments)
        if notes is None:
            print(note, file=sys.stderr)
        else:
            notes.append(note)


def read_changed_documents(path: Path | str, *, notes: list[str] | None = None) -> dict[str, list[str]]:
    """Read the documents that a changed instruction makes non-relevant and return query_id -> documents.

    Two forms: judgments (as `read_qrels`, with its `notes`; the grades do not matter), or JSON, an object of query ->
    list of documents, which can hold a query without a changed document. Raises UserError with the place for anything
    else, and naming query and document for a document that is there twice.
    """
    first = next(reading.lines(path), (0, ""))[1]
    if not first.lstrip(reading.SPACE).startswith("{"):
        return {query_id: list(grades) for query_id, grades in read_qrels(path, notes=notes).items()}

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := _repeated(name for name, _ in pairs):
            raise UserError(f"{path}: query {twice[0]!r} is there twice; keep one list of documents per query")
        return dict(pairs)

    rows = dict(reading.lines(path))
    text = "\n".join(rows.get(number, "") for number in range(1, max(rows) + 1))
    wanted = "write one object: query -> list of documents"
    changed: dict[str, list[str]] = reading.parse_json(text, f"{path}", wanted, once)
    for query_id, doc_ids in changed.items():
        if not isinstance(doc_ids, list) or not all(isinstance(doc_id, str) for doc_id in doc_ids):
            raise UserError(f'{path}: query {query_id!r}: expected a list of document ids in quotes, such as ["d1"]')
        if twice := _repeated(doc_ids):
            raise UserError(f"{path}: query {query_id!r}: document {twice[0]!r} is there twice; keep one entry of it")
    return changed


def read_groups(path: Path | str, *, notes: list[str] | None = None) -> dict[str, str]:
    """Read two tab-separated columns, query and group (a first line `query-id group` is skipped): query_id -> group.

    Comments and `notes` as in `read_qrels`. Raises UserError with file and line for another number of columns or a
    query that is there twice.
    """
    groups: dict[str, str] = {}
    for number, line in _uncommented(path, notes):
        place = reading.at(path, number)
        parts = reading.tabbed(line)
        if not groups and parts == ["query-id", "group"]:
            continue
        if len(parts) != 2 or not all(parts):
            raise UserError(f"{place}: {len(parts)} columns, expected 2, tab-separated: query group")
        if parts[0] in groups:
            raise UserError(f"{place}: query {parts[0]!r} is there twice; keep one line of it")
        groups[parts[0]] = parts[1]
    return groups


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _check_id(kind: str, text: str) -> None:
    if problem := reading.bad_id(text):
        raise UserError(f"{kind} {text!r} {problem}; rename it")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, compressed if its name ends in `.gz`; the same content gives the same bytes."""
    _write(path, (content,), 6)


def _write(path: Path, parts: Iterable[bytes], level: int) -> None:
    """Write the parts of a file once all of them are made, compressed at zlib's `level` if its name ends in `.gz`."""
    made = io.BytesIO()
    if path.suffix == ".gz":
        with gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=made, mtime=0) as stream:
            for part in parts:
                stream.write(part)
    else:
        made.writelines(parts)
    path.write_bytes(made.getbuffer())
