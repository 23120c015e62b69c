"""Small data sets in the layout of dataset repositories on the hub, as the official benchmarks have them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WORDS = "amber boat cedar delta ember fjord grove harbor island jungle kite lantern meadow north ocean pearl".split()
Row = dict[str, Any]


def write_repository(folder: Path, tables: dict[str, tuple[str, list[Row]]]) -> Path:
    """Write tables (configuration -> split and rows) as JSON lines, with the card that names them."""
    folder.mkdir(parents=True)
    card = ["---", "configs:"]
    for name, (split, rows) in tables.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        card += [f"- config_name: {name}", "  data_files:", f"  - split: {split}", f"    path: {name}.jsonl"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return folder


def _text(draw: random.Random, length: int) -> str:
    return " ".join(draw.choices(WORDS, k=length))


def _corpus(draw: random.Random, num_documents: int, titles: bool) -> list[Row]:
    return [
        {"_id": f"d{n}", "title": _text(draw, 2) if titles and n % 3 else "", "text": _text(draw, 9)}
        for n in range(num_documents)
    ]


def _qrels(grades: dict[str, dict[str, int]]) -> list[Row]:
    return [
        {"query-id": query_id, "corpus-id": doc_id, "score": grade}
        for query_id, own in grades.items()
        for doc_id, grade in own.items()
    ]


def _lists(key: str, lists: dict[str, Any], value: str) -> list[Row]:
    return [{key: name, value: own} for name, own in lists.items()]


def followir(folder: Path, *, language: str = "", num_topics: int = 5, with_lists: bool = True) -> Path:
    """A set as FollowIR's (or, with a language, mFollowIR's): og and changed queries over their own lists."""
    draw = random.Random(3)
    corpus = _corpus(draw, 60, titles=False)
    doc_ids = [row["_id"] for row in corpus]
    queries, instructions, lists, diff = [], {}, {}, {}
    grades: dict[str, dict[str, int]] = {}
    for topic in map(str, range(300, 300 + num_topics)):
        own = draw.sample(doc_ids, 30)
        relevant = own[:8]
        text = _text(draw, 3)
        for side in ("og", "changed"):
            queries.append({"_id": f"{topic}-{side}", "text": text})
            instructions[f"{topic}-{side}"] = _text(draw, 12)
            lists[f"{topic}-{side}"] = draw.sample(own, 30)
        diff[topic] = relevant[:3]
        grades[f"{topic}-og"] = {doc_id: 1 + place % 2 for place, doc_id in enumerate(relevant)} | {own[20]: 0}
        grades[f"{topic}-changed"] = {d: 0 if d in diff[topic] else g for d, g in grades[f"{topic}-og"].items()}
    queries.append({"_id": "999-og", "text": "nobody judged this"})
    instructions["999-og"] = "at all"
    diff["888"] = ["d1"]  # a topic without queries
    end = f"-{language}" if language else ""
    tables = {
        f"corpus{end}": ("corpus", corpus),
        f"queries{end}": ("queries", queries),
        f"default{end}": ("test", _qrels(grades)),
        f"instruction{end}": ("instruction", _lists("query-id", instructions, "instruction")),
        f"top_ranked{end}": ("top_ranked", _lists("query-id", lists, "corpus-ids")),
        f"qrel_diff{end}": ("qrel_diff", _lists("query-id", diff, "corpus-ids")),
    }
    if not with_lists:
        del tables[f"top_ranked{end}"]
    return write_repository(folder, tables)


def instructir(folder: Path) -> Path:
    """A set as InstructIR's: groups of two to four instructed instances of one query, the whole corpus searched."""
    draw = random.Random(4)
    corpus = _corpus(draw, 50, titles=False)
    queries, instructions = [], {}
    grades: dict[str, dict[str, int]] = {}
    for group in range(6):
        text = _text(draw, 3)
        for member in range(2 + group % 3):
            query_id = f"{group}_{member}"
            queries.append({"_id": query_id, "text": text})
            instructions[query_id] = _text(draw, 10)
            grades[query_id] = {draw.choice(corpus)["_id"]: 1}
    return write_repository(
        folder,
        {
            "corpus": ("corpus", corpus),
            "queries": ("queries", queries),
            "default": ("test", _qrels(grades)),
            "instruction": ("instruction", _lists("query-id", instructions, "instruction")),
        },
    )


def beir(folder: Path, *, own_ids: bool = False) -> Path:
    """A set as BEIR's: titles here and there, graded judgments; with `own_ids` the queries are documents."""
    draw = random.Random(5)
    corpus = _corpus(draw, 50, titles=True)
    queries, grades = [], dict[str, dict[str, int]]()
    for number in range(8):
        query_id = f"d{number}" if own_ids else f"q{number}"
        text = f"{corpus[number]['title']} {corpus[number]['text']}" if own_ids else _text(draw, 4)
        queries.append({"_id": query_id, "text": text})
        grades[query_id] = {row["_id"]: draw.randint(0, 2) for row in draw.sample(corpus[10:], 6)}
    tables = {"corpus": corpus, "queries": queries, "default": _qrels(grades)}
    splits = {"corpus": "corpus", "queries": "queries", "default": "test"}
    return write_repository(folder, {name: (splits[name], rows) for name, rows in tables.items()})


def nevir(folder: Path) -> Path:
    """A set as NevIR's: pairs of queries over the same two documents."""
    draw = random.Random(6)
    corpus: list[Row] = []
    queries, lists = [], dict[str, list[str]]()
    grades: dict[str, dict[str, int]] = {}
    for pair in range(12):
        own = [f"{pair}_doc{side}" for side in (1, 2)]
        corpus += [{"_id": doc_id, "title": "", "text": _text(draw, 9)} for doc_id in own]
        for side in (1, 2):
            query_id = f"{pair}_q{side}"
            queries.append({"_id": query_id, "text": _text(draw, 5)})
            grades[query_id] = {own[side - 1]: 1}
            lists[query_id] = own
    return write_repository(
        folder,
        {
            "corpus": ("corpus", corpus),
            "queries": ("queries", queries),
            "default": ("test", _qrels(grades)),
            "top_ranked": ("test", _lists("query-id", lists, "corpus-ids")),
        },
    )


def rows_of(folder: Path, name: str) -> list[Row]:
    """Read a table back."""
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def rewrite(folder: Path, name: str, rows: Iterable[Row]) -> None:
    """Replace the rows of a table."""
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
