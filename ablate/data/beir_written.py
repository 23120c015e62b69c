"""An evaluation set as a folder in BEIR's layout (`ablate.data.beir`), so that any other system can be measured on it.

The broad instruction becomes the variant `og`, every other instruction the variant of its direction; base ids stay and
instructed queries are called `<base>-<variant>`, as the layout has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ablate.data.beir_files import BROAD, PLAIN
from ablate.records import EvaluationQuery, EvaluationSet, UserError

_VARIANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.]*")
"""What can be part of the name of a labels file; an underscore would end it."""


def check_fits(bed: EvaluationSet, split: str) -> None:
    """Raise UserError for what the layout cannot hold: candidate lists, other measures, unfit names, a form twice."""
    if bed.candidates is not None:
        raise UserError(
            f"{bed.name} ranks a list of candidates for each query, which a BEIR folder cannot say; use another set"
        )
    if bed.own_documents:
        raise UserError(
            f"{bed.name} leaves a query's own document out of its ranking, which a BEIR folder does not say; use "
            f"another set"
        )
    if not _VARIANT.fullmatch(split):
        raise UserError(f"{split!r} cannot be the split of a labels file; it takes letters, digits and dots")
    seen: set[tuple[str, str]] = set()
    for query in bed.queries:
        variant = variant_of(query)
        if not _VARIANT.fullmatch(variant) or variant.startswith("diff") or variant in ("pairs", split):
            raise UserError(
                f"{bed.name}: the direction {variant!r} of {query.query_id} cannot be the name of a labels file"
            )
        if (query.base_id, variant) in seen:
            raise UserError(f"{bed.name}: base query {query.base_id} is posed twice as {variant}; a folder holds one")
        seen.add((query.base_id, variant))


def variant_of(query: EvaluationQuery) -> str:
    """Return the variant that a query is in the layout."""
    return {"plain": PLAIN, "original": BROAD}.get(query.condition, query.direction)


def query_id_of(query: EvaluationQuery) -> str:
    """Return the id of a query in the layout."""
    variant = variant_of(query)
    return query.base_id if variant == PLAIN else f"{query.base_id}-{variant}"


def reversals_of(bed: EvaluationSet) -> tuple[tuple[str, str], ...]:
    """Return the pairs of variants that are each other's complement, as `source.reversals` takes them."""
    by_id = {query.query_id: variant_of(query) for query in bed.queries}
    return tuple(dict.fromkeys((by_id[first], by_id[second]) for first, second in bed.opposites))


def write_beir(folder: Path, bed: EvaluationSet, split: str) -> list[str]:
    """Write a set into an empty folder and return the names of its files; the same set gives the same bytes.

    Raises UserError as `check_fits` does.
    """
    check_fits(bed, split)
    (folder / "qrels").mkdir(parents=True)
    names = {query.query_id: query_id_of(query) for query in bed.queries}
    files = {
        "corpus.jsonl": _lines({"_id": p.doc_id, "title": p.title, "text": p.text} for p in bed.documents),
        "queries.jsonl": _lines(_query(query, split) for query in bed.queries),
    }
    grades: dict[str, list[tuple[str, ...]]] = {}
    changed: dict[str, list[tuple[str, ...]]] = {}
    for query in bed.queries:
        variant, query_id = variant_of(query), names[query.query_id]
        own = bed.qrels.get(query.query_id, {})
        grades.setdefault(variant, []).extend((query_id, doc_id, str(grade)) for doc_id, grade in own.items())
        if query.condition in ("changed", "reversed"):
            lost = bed.changed_documents.get(query.query_id, ())
            changed.setdefault(variant, []).extend((query.base_id, doc_id, "0") for doc_id in lost)
    head = ("query-id", "corpus-id", "score")
    for variant, rows in grades.items():
        files[f"qrels/{split if variant == PLAIN else f'{variant}_{split}'}.tsv"] = _table(head, rows)
    for variant, rows in changed.items():
        files[f"qrels/diff_{variant}_{split}.tsv"] = _table(head, rows)
    if bed.pairs is not None:
        pairs = [(names[a], names[b], *docs) for (a, b), documents in bed.pairs.items() for docs in documents]
        files[f"qrels/pairs_{split}.tsv"] = _table(
            ("first-query-id", "second-query-id", "first-corpus-id", "second-corpus-id"), pairs
        )
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return list(files)


def _query(query: EvaluationQuery, split: str) -> dict[str, object]:
    instructed = {"instruction": query.instruction} if query.instruction else {}
    metadata = {"base": query.base_id, "variant": variant_of(query), "split": split}
    return {"_id": query_id_of(query), "text": query.query, **instructed, "metadata": metadata}


def _lines(records: Iterable[Mapping[str, object]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in (head, *rows))
