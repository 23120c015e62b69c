"""Published training sets: three formats, three kinds of files, the hub, thresholds, mixes, and every error text."""

from __future__ import annotations

import gzip
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import run_config

from ablate.data.mix import build_mix
from ablate.data.published import PublishedRows, open_published
from ablate.data.published.reader import HubSet, LocalFiles
from ablate.records import Passage, SourceRow, UserError

JUDGED = pa.struct(
    [
        ("docid", pa.string()),
        ("explanation", pa.string()),
        ("followir_score", pa.float64()),
        ("joint_id", pa.string()),
        ("text", pa.string()),
        ("title", pa.string()),
    ]
)
BARE = pa.struct([("docid", pa.string()), ("text", pa.string()), ("title", pa.string())])
PROMPTRIEVER = pa.schema(
    [
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("positive_passages", pa.list_(JUDGED)),
        ("negative_passages", pa.list_(BARE)),
        ("only_instruction", pa.string()),
        ("only_query", pa.string()),
        ("has_instruction", pa.bool_()),
        ("new_negatives", pa.list_(JUDGED)),
    ]
)
"""The published schema, field by field as in the card of samaya-ai/msmarco-w-instructions."""


VIEWS = ("original", "reversed")


def judged(docid: str, score: float | None, kind: str | None = None) -> dict[str, Any]:
    return {
        "docid": docid,
        "explanation": kind,
        "followir_score": score,
        "joint_id": docid if score is not None else None,
        "text": f"text of {docid}",
        "title": "-",
    }


def bare(docid: str, **changes: Any) -> dict[str, Any]:
    return {"docid": docid, "text": f"text of {docid}", "title": "-", **changes}


def published() -> list[dict[str, Any]]:
    """Two base queries, each plain and instructed; the second one's original positive was replaced by a generated."""
    return [
        {
            "query_id": "7",
            "query": "what is rust",
            "positive_passages": [judged("100", None)],
            "negative_passages": [bare("200"), bare("201"), bare("202")],
            "only_instruction": None,
            "only_query": "what is rust",
            "has_instruction": False,
            "new_negatives": [],
        },
        {
            "query_id": "7",
            "query": "what is rust Only the metal counts.",
            "positive_passages": [judged("100", 0.9, "real")],
            "negative_passages": [bare("200"), bare("201"), bare("202")],
            "only_instruction": "Only the metal counts.",
            "only_query": "what is rust",
            "has_instruction": True,
            "new_negatives": [judged("7_1", 0.1, "omission"), judged("7_2", 0.45, "omission"), judged("7_3", 0.8, "x")],
        },
        {
            "query_id": "8",
            "query": "who won",
            "positive_passages": [judged("101", None)],
            "negative_passages": [bare("203"), bare("100")],
            "only_instruction": "",
            "only_query": "who won",
            "has_instruction": False,
            "new_negatives": None,
        },
        {
            "query_id": "8",
            "query": "who won Leave out sports.",
            "positive_passages": [judged("8_0", 0.5, "none")],
            "negative_passages": [bare("203"), bare("8_1"), bare("8_0")],
            "only_instruction": "Leave out sports.",
            "only_query": "who won",
            "has_instruction": True,
            "new_negatives": [judged("8_1", 0.2, "omission")],
        },
    ]


def write_lines(file: Path, records: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text, encoding="utf-8")
    return file


def write_parquet(file: Path, records: list[dict[str, Any]], per_group: int = 3) -> Path:
    pyarrow.parquet.write_table(pa.Table.from_pylist(records, PROMPTRIEVER), file, row_group_size=per_group)
    return file


def promptriever(folder: Path, given: list[dict[str, Any]] | None = None, **options: Any) -> PublishedRows:
    file = write_lines(folder / "rows.jsonl", published() if given is None else given)
    return open_published(format="promptriever", path=str(file), **options)


def names(rows: Iterator[SourceRow]) -> list[str]:
    return [row.row_id for row in rows]


# --- Promptriever -----------------------------------------------------------------------------------------------------


def test_promptriever_rows(tmp_path: Path) -> None:
    source = promptriever(tmp_path)
    rows = list(source.rows())
    assert names(iter(rows)) == ["7:plain:0", "7:instructed:1", "8:plain:2", "8:instructed:3"]
    assert rows[0] == SourceRow(
        row_id="7:plain:0",
        query_id="7",
        query="what is rust",
        instruction="",
        reversed_instruction="",
        paraphrase="",
        positives=("100",),
        hard_negatives=("200", "201", "202"),
        instruction_negatives=(),
        answers=("100",),
    )
    assert rows[1] == SourceRow(
        row_id="7:instructed:1",
        query_id="7",
        query="what is rust",
        instruction="Only the metal counts.",
        reversed_instruction="",
        paraphrase="",
        positives=("100",),
        hard_negatives=("200", "201", "202"),
        instruction_negatives=("7_1", "7_2", "7_3"),
        answers=("100", "7_1", "7_2", "7_3"),
    )
    assert rows[3].hard_negatives == ("203",)
    assert source.dropped == {"hard negatives: listed as an answer of the query, or judged": 2}


@pytest.mark.parametrize(
    ("options", "expected", "dropped"),
    [
        ({"max_negative_score": 0.45}, ("7_1", "7_2"), {"instruction negatives: score above max_negative_score": 1}),
        ({"max_negative_score": 0.1}, ("7_1",), {"instruction negatives: score above max_negative_score": 3}),
        ({"max_negative_score": 0.0}, (), {"instruction negatives: score above max_negative_score": 4}),
    ],
)
def test_negatives_above_the_threshold_are_dropped_and_counted(
    tmp_path: Path, options: dict[str, Any], expected: tuple[str, ...], dropped: dict[str, int]
) -> None:
    source = promptriever(tmp_path, **options)
    for _ in range(2):  # the counts are those of the last pass, not of all passes
        row = list(source.rows())[1]
        assert row.instruction_negatives == expected
        assert row.answers == ("100", "7_1", "7_2", "7_3")
        assert {reason: count for reason, count in source.dropped.items() if "above" in reason} == dropped


def test_positives_that_fail_the_threshold_are_dropped_with_their_row(tmp_path: Path) -> None:
    source = promptriever(tmp_path, min_positive_score=0.5)
    assert names(source.rows()) == ["7:plain:0", "7:instructed:1", "8:plain:2"]  # 0.5 itself is not above 0.5
    assert source.dropped["positives: score not above min_positive_score"] == 1
    assert source.dropped["rows: no positive"] == 1
    assert len(list(promptriever(tmp_path, min_positive_score=0.499).rows())) == 4


def test_scores_and_new_negatives_say_nothing_about_a_plain_record(tmp_path: Path) -> None:
    records = published()[:1]
    records[0]["positive_passages"] = [judged("100", 0.01)]
    records[0]["new_negatives"] = [judged("7_1", 0.1)]
    source = promptriever(tmp_path, records, min_positive_score=0.5)
    (row,) = source.rows()
    assert (row.positives, row.instruction_negatives, row.answers) == (("100",), (), ("100", "7_1"))
    assert not source.dropped


def test_a_passage_has_one_place_in_a_row(tmp_path: Path) -> None:
    records = published()[1:2]
    records[0]["new_negatives"].append(judged("100", 0.1))
    records[0]["negative_passages"] += [bare("204", followir_score=0.3), bare("200")]
    source = promptriever(tmp_path, records)
    (row,) = source.rows()
    assert row.positives == ("100",)
    assert row.instruction_negatives == ("7_1", "7_2", "7_3")
    assert row.hard_negatives == ("200", "201", "202")
    assert source.dropped == {
        "instruction negatives: also a positive": 1,
        "hard negatives: listed as an answer of the query, or judged": 1,
    }


def test_records_choose_plain_or_instructed(tmp_path: Path) -> None:
    plain = promptriever(tmp_path, records="plain")
    assert names(plain.rows()) == ["7:plain:0", "8:plain:2"]
    assert plain.dropped["rows: instructed"] == 2
    instructed = promptriever(tmp_path, records="instructed")
    assert names(instructed.rows()) == ["7:instructed:1", "8:instructed:3"]
    assert instructed.dropped["rows: plain"] == 2


def test_a_reversed_instruction_is_taken_when_the_record_has_one(tmp_path: Path) -> None:
    records = published()
    records[1]["reversed_instruction"] = "Anything but the metal."
    rows = list(promptriever(tmp_path, records).rows())
    assert [row.reversed_instruction for row in rows] == ["", "Anything but the metal.", "", ""]


def test_a_plain_record_may_leave_only_query_empty(tmp_path: Path) -> None:
    records = published()[:1]
    records[0]["only_query"] = None
    assert [row.query for row in promptriever(tmp_path, records).rows()] == ["what is rust"]


def test_a_row_without_any_positive_is_dropped_not_an_error(tmp_path: Path) -> None:
    records = published()
    records[0]["positive_passages"] = []
    source = promptriever(tmp_path, records)
    assert len(list(source.rows())) == 3
    assert source.dropped["rows: no positive"] == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"min_positive_score": 1.5}, "source.min_positive_score=1.5: must lie between 0 and 1"),
        ({"max_negative_score": -0.1}, "source.max_negative_score=-0.1: must lie between 0 and 1"),
        (
            {"min_positive_score": 0.4, "max_negative_score": 0.6},
            "source.max_negative_score=0.6 is above source.min_positive_score=0.4: a score in between would pass as",
        ),
    ],
)
def test_thresholds_that_make_no_sense(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match="^" + told):
        promptriever(tmp_path, **options)


# --- passages ---------------------------------------------------------------------------------------------------------


def test_passages_come_in_the_order_asked(tmp_path: Path) -> None:
    source = promptriever(tmp_path)
    assert list(source.passages(["8_1", "100", "8_1"])) == [
        Passage("8_1", "text of 8_1", "-"),
        Passage("100", "text of 100", "-"),
        Passage("8_1", "text of 8_1", "-"),
    ]
    assert [passage.doc_id for passage in source.documents()] == [
        "100",
        "200",
        "201",
        "202",
        "7_1",
        "7_2",
        "7_3",
        "101",
        "203",
        "8_0",
        "8_1",
    ]
    with pytest.raises(UserError, match="document '999' is in no record of the source"):
        list(source.passages(["100", "999"]))


def test_two_texts_under_one_docid(tmp_path: Path) -> None:
    records = published()
    records[3]["negative_passages"][0]["text"] = "another text"  # docid 203 is "text of 203" in record 3
    source = promptriever(tmp_path, records)
    assert list(source.passages(["100"]))  # nobody asked for 203
    with pytest.raises(UserError, match=r"line 4: docid .203. stands for another text here than at .*jsonl, line 3"):
        list(source.passages(["203"]))
    split = promptriever(tmp_path, records, passage_ids="docid_and_text")
    rows = list(split.rows())
    ids = [rows[2].hard_negatives[0], rows[3].hard_negatives[0]]
    assert ids[0] != ids[1] and all(doc_id.startswith("203#") for doc_id in ids)
    assert [passage.text for passage in split.passages(ids)] == ["text of 203", "another text"]


def test_a_source_without_evaluation_sets(tmp_path: Path) -> None:
    source = promptriever(tmp_path)
    assert source.evaluation_names == ()
    with pytest.raises(UserError, match="no evaluation set 'test': .* that has some in evaluation.source"):
        source.evaluation_set("test")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_all_kinds_of_files_give_the_same(tmp_path: Path, kind: str) -> None:
    expected = promptriever(tmp_path, max_negative_score=0.45)
    folder = tmp_path / "many"
    folder.mkdir()
    for number, part in ((1, published()[:1]), (2, published()[1:])):
        file = folder / f"train-{number}.{kind}"
        (write_parquet if kind == "parquet" else write_lines)(file, part)
    (folder / "README.md").write_text("not a record", encoding="utf-8")
    source = open_published(format="promptriever", path=str(folder), max_negative_score=0.45)
    assert list(source.rows()) == list(expected.rows())
    assert source.dropped == expected.dropped
    assert list(source.documents()) == list(expected.documents())


def test_parquet_values_are_those_of_arrow(tmp_path: Path) -> None:
    records = published() * 150  # more than one batch, row groups cut within it
    records[5]["negative_passages"] = None
    records[6]["negative_passages"] = [None, bare("1")]
    file = write_parquet(tmp_path / "rows.parquet", records, per_group=290)
    wanted = pyarrow.parquet.read_table(file).to_pylist()
    read = list(LocalFiles(str(file)).records(PROMPTRIEVER.names))
    assert [record.values for record in read] == wanted
    assert (read[289].row_group, read[289].number, read[290].row_group, read[290].number) == (1, 290, 2, 1)
    assert list(next(LocalFiles(str(file)).records(["query_id", "absent"])).values) == ["query_id"]


def test_revision_follows_the_bytes(tmp_path: Path) -> None:
    source = promptriever(tmp_path)
    first = source.revision
    assert len(first) == 64 and promptriever(tmp_path).revision == first
    records = published()
    records[0]["query"] += "?"
    assert promptriever(tmp_path, records).revision != first


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1}\n\n{"a": \n', r"x.jsonl, line 3: not JSON \(Expecting value at column"),
        ("[1]\n", "x.jsonl, line 1: a list instead of a JSON object"),
    ],
)
def test_broken_lines(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        list(LocalFiles(str(tmp_path)).records([]))


def test_broken_files(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    for name, content, told in (
        ("cut.jsonl.gz", whole[: len(whole) - 10], "cut.jsonl.gz, after line .*: broken gzip"),
        ("not.jsonl.gz", b'{"a": 1}\n', "not.jsonl.gz, after line 0: broken gzip"),
        ("latin.jsonl", '{"a": "é"}\n'.encode("latin-1"), "latin.jsonl, line 1: not UTF-8 .byte 8."),
        ("bad.parquet", b"PAR1 nothing", "bad.parquet: not a readable Parquet file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=told):
            list(LocalFiles(str(tmp_path / name)).records(["a"]))


def test_places_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="source.path='.*' is neither a file nor a folder of files that end in"):
        open_published(format="tevatron", path=str(tmp_path))
    with pytest.raises(UserError, match="source.path=None and source.repo=None: give one of them"):
        open_published(format="tevatron")
    with pytest.raises(UserError, match="source.path='a' and source.repo='b': give one of them"):
        open_published(format="tevatron", path="a", repo="b")
    write_lines(tmp_path / "a.jsonl", [])
    write_lines(tmp_path / "a.jsonl.gz", [])
    with pytest.raises(UserError, match="holds files of 2 kinds .*, perhaps the same records twice"):
        open_published(format="tevatron", path=str(tmp_path))
    with pytest.raises(UserError, match="source.records=plain, .* records of format tevatron have no instructed twins"):
        open_published(format="tevatron", path=str(tmp_path / "a.jsonl"), records="plain")
    with pytest.raises(UserError, match="source.other_queries=true: records of format tevatron have one query"):
        open_published(format="tevatron", path=str(tmp_path / "a.jsonl"), other_queries=True)


def test_rows_are_streamed(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", published())
    with open(file, "a", encoding="utf-8") as stream:
        stream.write("broken\n")
    rows = open_published(format="promptriever", path=str(file)).rows()
    assert [next(rows).row_id for _ in range(4)][-1] == "8:instructed:3"
    with pytest.raises(UserError, match="rows.jsonl, line 5: not JSON"):
        next(rows)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_mix_is_built_from_published_rows(tmp_path: Path, kind: str) -> None:
    records = published()
    records[3]["negative_passages"].append(bare("204"))
    for record in (records[1], records[3]):
        record["reversed_instruction"] = f"Not: {record['only_instruction']}"
    file = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        schema = PROMPTRIEVER.append(pa.field("reversed_instruction", pa.string()))
        pyarrow.parquet.write_table(pa.Table.from_pylist(records, schema), file)
    else:
        write_lines(file, records)
    recipe = run_config("+experiment=dual_view", "budget.negatives_per_group=2", "budget.limit=4").recipe
    mix = build_mix(open_published(format="promptriever", path=str(file), max_negative_score=0.3), recipe, seed=0)
    groups = {group.group_id: group for group in mix.groups}
    assert set(groups) == {f"{row}/{view}" for row in ("7:instructed:1", "8:instructed:3") for view in VIEWS}
    assert groups["8:instructed:3/original"].positives == ("8_0",)
    assert groups["8:instructed:3/original"].negatives == ("8_1", "203")
    assert groups["8:instructed:3/reversed"].positives == ("8_1",)
    assert groups["8:instructed:3/reversed"].instruction == "Not: Leave out sports."
    assert mix.card["rows_in_source"] == 4 and mix.card["rows_lacking"]["instruction"] == 2
    assert mix.passages["8_1"] == Passage("8_1", "text of 8_1", "-")
    used = {doc_id for group in mix.groups for doc_id in (*group.positives, *group.negatives)}
    assert set(mix.passages) == used


# --- broken records ---------------------------------------------------------------------------------------------------


def change(name: str, value: Any, index: int | None = None, key: str = "") -> Callable[[dict[str, Any]], None]:
    def apply(record: dict[str, Any]) -> None:
        if index is None:
            record[name] = value
        else:
            record[name][index][key] = value

    return apply


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (change("query_id", None), "field 'query_id' is missing instead of text or a whole number"),
        (change("query_id", ""), "field 'query_id' is empty instead of text or a whole number"),
        (change("only_query", " "), "field 'only_query' is empty; give its text or leave the record out"),
        (change("only_query", 3), "field 'only_query' is of type int instead of text"),
        (change("only_instruction", ""), "field 'only_instruction' is empty"),
        (change("has_instruction", "yes"), "field 'has_instruction' is of type str instead of true or false"),
        (change("positive_passages", "100"), "field 'positive_passages' is of type str instead of a list of passages"),
        (change("positive_passages", ["100"]), r"positive_passages\[0\] is of type str instead of a passage"),
        (change("negative_passages", "", 1, "text"), r"negative_passages\[1\]: its text is empty; give its text"),
        (change("negative_passages", None, 1, "text"), r"negative_passages\[1\]: its text is missing"),
        (change("negative_passages", 5, 1, "text"), r"negative_passages\[1\]: its text is of type int"),
        (change("negative_passages", 5, 2, "title"), r"negative_passages\[2\]: its title is of type int"),
        (change("new_negatives", None, 0, "docid"), r"new_negatives\[0\]: its docid is missing instead of text"),
        (change("new_negatives", "high", 0, "followir_score"), "the followir_score of passage '7_1' is 'high' instead"),
        (change("new_negatives", float("nan"), 0, "followir_score"), "the followir_score of passage '7_1' is nan"),
        (change("reversed_instruction", 1), "field 'reversed_instruction' is of type int instead of text"),
    ],
)
def test_broken_records_are_told_with_file_and_line(
    tmp_path: Path, broken: Callable[[dict[str, Any]], None], told: str
) -> None:
    records = published()
    broken(records[1])
    with pytest.raises(UserError, match=r"rows\.jsonl, line 2: " + ".*" + told):
        list(promptriever(tmp_path, records).rows())


def test_a_missing_field_and_a_place_in_parquet(tmp_path: Path) -> None:
    records = published()
    del records[1]["new_negatives"]
    with pytest.raises(UserError, match="rows.jsonl, line 2: no field 'new_negatives'; it has has_instr"):
        list(promptriever(tmp_path, records).rows())
    records = published()
    records[3]["only_query"] = ""
    file = write_parquet(tmp_path / "rows.parquet", records, per_group=2)
    with pytest.raises(UserError, match="rows.parquet, row group 2, row 2: field 'only_query' is empty"):
        list(open_published(format="promptriever", path=str(file)).rows())


# --- Tevatron and InF-IR ----------------------------------------------------------------------------------------------


def test_tevatron(tmp_path: Path) -> None:
    records = [
        {
            "query_id": 12,
            "query": "who",
            "positive_passages": [{"docid": 1, "text": "one"}],
            "negative_passages": [bare("2"), {"docid": "1", "text": "one"}, bare("2")],
        },
        {"query_id": "13", "query": "what", "positive_passages": [], "negative_passages": [bare("2")]},
    ]
    source = open_published(format="tevatron", path=str(write_lines(tmp_path / "t.jsonl", records)))
    assert list(source.rows()) == [
        SourceRow(
            row_id="12:0",
            query_id="12",
            query="who",
            instruction="",
            reversed_instruction="",
            paraphrase="",
            positives=("1",),
            hard_negatives=("2",),
            instruction_negatives=(),
            answers=("1",),
        )
    ]
    assert source.dropped == {"hard negatives: also a positive": 1, "rows: no positive": 1}
    assert list(source.passages(["2", "1"])) == [Passage("2", "text of 2", "-"), Passage("1", "one")]


def test_tevatron_with_a_corpus_apart_is_refused(tmp_path: Path) -> None:
    records = [{"query_id": "1", "query_text": "x", "positive_document_ids": ["1"], "negative_document_ids": []}]
    source = open_published(format="tevatron", path=str(write_lines(tmp_path / "t.jsonl", records)))
    for reading in (source.rows(), source.passages(["1"])):
        with pytest.raises(UserError, match="t.jsonl, line 1: it names its passages by positive_document_ids"):
            list(reading)


def triple(**changes: str) -> dict[str, str]:
    return {
        "query_positive": "the query",
        "query_negative": "a poisoned query",
        "instruction_positive": "only after 1990",
        "instruction_negative": "only before 1990",
        "document": "right",
        "hard_negative_document_1": "right for the poisoned instruction",
        "hard_negative_document_2": "right for the poisoned query",
        **changes,
    }


@pytest.mark.parametrize("renamed", [{}, {"document": "document_positive"}, {"query": "_fewshot"}])
def test_infir(tmp_path: Path, renamed: dict[str, str]) -> None:
    record = triple()
    if "document" in renamed:
        record["document_positive"] = record.pop("document")
    if "query" in renamed:
        record = {
            f"{name}_fewshot" if name.startswith(("query", "instruction")) else name: value
            for name, value in record.items()
        }
    path = str(write_lines(tmp_path / "i.jsonl", [record]))
    (row,) = open_published(format="infir", path=path).rows()
    assert (row.query, row.instruction) == ("the query", "only after 1990")
    assert row.reversed_instruction == "only before 1990"
    source = open_published(format="infir", path=path, other_queries=True)
    first, second = source.rows()
    assert first == row
    assert (second.query, second.instruction) == ("a poisoned query", "only after 1990")
    assert (second.reversed_instruction, second.instruction_negatives) == ("", ())
    assert second.query_id != row.query_id and second.row_id != row.row_id
    ids = (*row.positives, *row.instruction_negatives, *row.hard_negatives)
    assert [passage.text for passage in source.passages(ids)] == [
        "right",
        "right for the poisoned instruction",
        "right for the poisoned query",
    ]
    assert row.answers == ids[:2]
    assert (second.positives, second.hard_negatives) == (ids[2:], ids[:1])


def test_infir_drops_equal_documents_and_shares_ids(tmp_path: Path) -> None:
    records = [triple(), triple(instruction_positive="in English"), triple(hard_negative_document_1="right")]
    source = open_published(format="infir", path=str(write_lines(tmp_path / "i.jsonl", records)))
    first, second = source.rows()
    assert first.query_id == second.query_id and first.row_id != second.row_id and first.positives == second.positives
    assert source.dropped == {"rows: positive and negative have the same text": 1}
    write_lines(tmp_path / "i.jsonl", [triple(instruction_negative="")])
    with pytest.raises(UserError, match="i.jsonl, line 1: field 'instruction_negative' is empty"):
        list(source.rows())


# --- hub --------------------------------------------------------------------------------------------------------------

COMMIT = "1006ea7" + "0" * 33


def test_the_hub_is_streamed_at_a_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    class Streamed(list[dict[str, Any]]):
        column_names = list(PROMPTRIEVER.names)

        def select_columns(self, chosen: list[str]) -> Streamed:
            return Streamed({name: record[name] for name in chosen} for record in self)

    def load_dataset(*arguments: Any, **options: Any) -> Streamed:
        calls.append((arguments, options))
        return Streamed(published())

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    source = open_published(format="promptriever", repo="samaya-ai/msmarco-w-instructions", revision=COMMIT)
    assert list(source.rows()) == list(promptriever(tmp_path).rows())
    assert calls == [
        (
            ("samaya-ai/msmarco-w-instructions", None),
            {"split": "train", "revision": COMMIT, "streaming": True},
        )
    ]
    assert source.revision == f"samaya-ai/msmarco-w-instructions@{COMMIT}:default:train"
    record = list(HubSet("a/b", revision=COMMIT, subset="c", split="d").records(["query_id"]))[1]
    assert (record.values, record.place) == ({"query_id": "7"}, "a/b@1006ea700000, row 2")

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=fail))
    with pytest.raises(UserError, match=r"repo='samaya-ai/.* cannot be read \(ConnectionError: no route to host\)"):
        list(source.rows())


def test_the_hub_needs_datasets_and_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"'a/b' is read with the package datasets, .*: pip install -e .\.\[hub\].$"):
        list(open_published(format="tevatron", repo="a/b", revision=COMMIT).rows())
    for revision in (None, "main", "1006ea7"):
        with pytest.raises(UserError, match=f"source.revision={revision!r} does not pin 'a/b': .* the 40 hex digits"):
            open_published(format="tevatron", repo="a/b", revision=revision)
