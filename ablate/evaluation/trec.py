"""Rankings and judgments as files: TREC run files, TREC and BEIR qrels, and what belongs to them.

A name ending in `.gz` is compressed.

The same content gives the same bytes: the gzip header holds neither a time nor a file name.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ablate.evaluation.rankings import Ranking, by_query, rank
from ablate.records import UserError

_BEIR_HEADER = ["query-id", "corpus-id", "score"]


def write_run(path: Path | str, rankings: Iterable[Ranking], *, tag: str = "ablate") -> None:
    """Write rankings as a TREC run file: query, Q0, document, 1-based rank, score, tag.

    Scores have nine significant digits, so reading gives back the same float32 and hence the same ranking. An empty
    ranking has no line. Raises UserError naming an id with whitespace, or a query with two rankings.
    """
    _check_id("tag", tag)

    def lines() -> Iterator[str]:
        for query_id, ranking in by_query(rankings).items():
            _check_id("query id", query_id)
            for place, (doc_id, score) in enumerate(zip(ranking.doc_ids, ranking.scores.tolist(), strict=True), 1):
                _check_id("document id", doc_id)
                yield f"{query_id} Q0 {doc_id} {place} {score:.9g} {tag}\n"

    _write(Path(path), lines())


def read_run(path: Path | str) -> dict[str, Ranking]:
    """Read a TREC run file and return query_id -> ranking, in the order of the file's queries.

    The order of a query's documents comes from the scores, as in trec_eval, not from the column of ranks. Raises
    UserError with file and line for a line that is not a run line, a NaN score or a document that is there twice.
    """
    found: dict[str, dict[str, float]] = {}
    for place, line in _lines(Path(path)):
        parts = line.split()
        if len(parts) != 6:
            raise UserError(f"{place}: {len(parts)} columns, expected 6: query Q0 document rank score tag")
        query_id, _, doc_id, _, text, _ = parts
        try:
            score = float("not a number" if "_" in text else text)
        except ValueError:
            raise UserError(f"{place}: query {query_id!r}, document {doc_id!r}: score {text!r} is no number") from None
        if math.isnan(score):
            raise UserError(f"{place}: query {query_id!r}, document {doc_id!r}: the score is NaN; it must be a number")
        documents = found.setdefault(query_id, {})
        if doc_id in documents:
            raise UserError(f"{place}: query {query_id!r}: document {doc_id!r} is there twice; keep one line of it")
        documents[doc_id] = score
    return {query_id: rank(query_id, list(scores), list(scores.values())) for query_id, scores in found.items()}


def write_qrels(path: Path | str, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write judgments: BEIR's three columns with a header if the name ends in `.tsv` or `.tsv.gz`, else TREC's four.

    Raises UserError naming an id with whitespace.
    """
    path = Path(path)
    beir = path.name.removesuffix(".gz").endswith(".tsv")

    def lines() -> Iterator[str]:
        if beir:
            yield "\t".join(_BEIR_HEADER) + "\n"
        for query_id, grades in qrels.items():
            _check_id("query id", query_id)
            for doc_id, grade in grades.items():
                _check_id("document id", doc_id)
                yield f"{query_id}\t{doc_id}\t{grade}\n" if beir else f"{query_id} 0 {doc_id} {grade}\n"

    _write(path, lines())


def read_qrels(path: Path | str) -> dict[str, dict[str, int]]:
    """Read judgments and return query_id -> document id -> grade: TREC's four columns, or BEIR's three with a header.

    Raises UserError with file and line for another number of columns, a grade that is not an integer, or a document
    that is judged twice for one query.
    """
    found: dict[str, dict[str, int]] = {}
    beir: bool | None = None
    for place, line in _lines(Path(path)):
        if beir is None:
            beir = line.split() == _BEIR_HEADER
            if beir:
                continue
        parts = [part.strip() for part in line.split("\t")] if beir else line.split()
        if len(parts) != (3 if beir else 4) or not all(parts):
            columns = "3, tab-separated: query-id corpus-id score" if beir else "4: query 0 document grade"
            hint = "" if beir else " (or the BEIR header 'query-id corpus-id score' in the first line)"
            raise UserError(f"{place}: {len(parts)} columns, expected {columns}{hint}")
        query_id, doc_id, text = parts[0], parts[-2], parts[-1]
        try:
            grade = int("not a number" if "_" in text else text)
        except ValueError:
            raise UserError(f"{place}: query {query_id!r}, document {doc_id!r}: grade {text!r} is no integer") from None
        grades = found.setdefault(query_id, {})
        if doc_id in grades:
            raise UserError(f"{place}: query {query_id!r}: document {doc_id!r} is judged twice; keep one line of it")
        grades[doc_id] = grade
    return found


def read_changed_documents(path: Path | str) -> dict[str, list[str]]:
    """Read the documents that a changed instruction makes non-relevant and return query_id -> documents.

    Two forms: judgments (as `read_qrels`; the grades do not matter), or JSON, an object of query -> list of documents,
    which can hold a query without a changed document. Raises UserError with the place for anything else, and naming
    query and document for a document that is there twice.
    """
    path = Path(path)
    text = _read(path)
    if not text.lstrip().startswith("{"):
        return {query_id: list(grades) for query_id, grades in read_qrels(path).items()}

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := _repeated(name for name, _ in pairs):
            raise UserError(f"{path}: query {twice[0]!r} is there twice; keep one list of documents per query")
        return dict(pairs)

    try:
        found = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: no JSON ({error.msg}); write one object: query -> list of documents"
        ) from None
    for query_id, doc_ids in found.items():
        if not isinstance(doc_ids, list) or not all(isinstance(doc_id, str) for doc_id in doc_ids):
            raise UserError(f'{path}: query {query_id!r}: expected a list of document ids in quotes, such as ["d1"]')
        if twice := _repeated(doc_ids):
            raise UserError(f"{path}: query {query_id!r}: document {twice[0]!r} is there twice; keep one entry of it")
    return found


def read_groups(path: Path | str) -> dict[str, str]:
    """Read two tab-separated columns, query and group (a first line `query-id group` is skipped): query_id -> group.

    Raises UserError with file and line for another number of columns or a query that is there twice.
    """
    found: dict[str, str] = {}
    for number, (place, line) in enumerate(_lines(Path(path))):
        parts = [part.strip() for part in line.split("\t")]
        if number == 0 and parts == ["query-id", "group"]:
            continue
        if len(parts) != 2 or not all(parts):
            raise UserError(f"{place}: {len(parts)} columns, expected 2, tab-separated: query group")
        if parts[0] in found:
            raise UserError(f"{place}: query {parts[0]!r} is there twice; keep one line of it")
        found[parts[0]] = parts[1]
    return found


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _check_id(kind: str, text: str) -> None:
    if text.split() != [text]:
        raise UserError(f"{kind} {text!r} is empty or has whitespace, which a TREC file cannot hold; rename it")


def _write(path: Path, lines: Iterable[str]) -> None:
    write_bytes(path, "".join(lines).encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, compressed if its name ends in `.gz`; the same content gives the same bytes."""
    if path.suffix == ".gz":
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=packed, mtime=0) as stream:
            stream.write(content)
        content = packed.getvalue()
    path.write_bytes(content)


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; convert the file to UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); a name ending in .gz must hold whole gzip data") from None


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (file and line number, line) of every line that is not blank."""
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", line
