"""BEIR folders with and without instructions: rows and evaluation sets checked by hand, every error text, real sets."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import data_folder

from ablate.data.beir import BeirFolder
from ablate.randomness import uniform
from ablate.records import EvaluationQuery, Passage, UserError


def query(base: str, variant: str, split: str | None, instruction: str | None = None) -> dict[str, Any]:
    query_id = base if variant == "plain" else f"{base}-{variant}"
    found: dict[str, Any] = {"_id": query_id, "text": f" text of {base} "}
    if variant != "plain":
        found["instruction"] = instruction or f" only {variant} of {base} "
    if split:
        found["metadata"] = {"base": base, "variant": variant, "split": split}
    return found


def qrels(*lines: str, header: str = "query-id corpus-id score") -> str:
    return "".join("\t".join(line.split()) + "\n" for line in (header, *lines))


def write(folder: Path, corpus: list[Any], queries: list[Any], labels: dict[str, str]) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, objects in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects), "utf-8")
    for name, text in labels.items():
        (folder / "qrels" / f"{name}.tsv").write_text(text, "utf-8")
    return folder


CORPUS = [{"_id": f"d{i}", "title": f" title {i} ", "text": f" text {i} "} for i in range(8)]
VARIANTS = ("plain", "og", "new", "long", "old")


def instructed(folder: Path, *, metadata: bool = True, **more: str) -> Path:
    """Two train queries and one test query; `new` and `old` are complements, `long` has none.

    q1: new = d0 d1, old = d2 d3 d4, long = d0 d2.  q2: new = d5, old = nothing, long = d5.  q3 (test): new = d6,
    old = d7, long unjudged.
    """
    queries = [query(base, v, "train" if metadata else None) for base in ("q1", "q2") for v in VARIANTS]
    queries += [query("q3", v, "test" if metadata else None) for v in VARIANTS]
    whole = ["q1 d0 1", "q1 d1 1", "q1 d2 2", "q1 d3 1", "q1 d4 1", "q2 d5 1"]
    labels = {
        "train": qrels(*whole, "q1 d7 0"),
        "og_train": qrels(*(line.replace(" d", "-og d", 1) for line in whole)),
        "new_train": qrels("q1-new d0 1", "q1-new d1 1", "q2-new d5 1"),
        "old_train": qrels("q1-old d2 1", "q1-old d3 1", "q1-old d4 1"),
        "long_train": qrels("q1-long d0 1", "q1-long d2 1", "q2-long d5 1"),
        "test": qrels("q3 d6 1", "q3 d7 1"),
        "og_test": qrels("q3-og d6 1", "q3-og d7 1"),
        "new_test": qrels("q3-new d6 1"),
        "old_test": qrels("q3-old d7 1"),
        "diff_new_test": qrels("q3 d7 0"),
    }
    return write(folder, CORPUS, queries, labels | more)


def opened(folder: Path, **changes: Any) -> BeirFolder:
    given: dict[str, Any] = {"train_split": "train", "evaluation_splits": ("test",), "skew": 1.0, "seed": 3}
    return BeirFolder(path=str(folder), **({"reversals": None} | given | changes))


def test_complements_are_found_from_the_labels(tmp_path: Path) -> None:
    source = opened(instructed(tmp_path / "set"))
    assert source.complements == (("new", "old"),)
    assert source.evaluation_names == ("train", "test")
    given = opened(tmp_path / "set", reversals=(("old", "new"),))
    assert given.complements == (("old", "new"),)
    assert opened(tmp_path / "set", reversals=()).complements == ()


def test_one_overlap_or_one_gap_in_any_split_is_no_complement(tmp_path: Path) -> None:
    overlap = instructed(tmp_path / "overlap", old_test=qrels("q3-old d6 1", "q3-old d7 1"))
    assert opened(overlap).complements == ()
    gap = instructed(tmp_path / "gap", old_train=qrels("q1-old d2 1", "q1-old d3 1"))
    assert opened(gap).complements == ()
    whole = qrels(*(f"q1-new d{i} 1" for i in range(5)), "q2-new d5 1")
    never = instructed(
        tmp_path / "never",
        new_train=whole,
        old_train=qrels(),
        new_test=qrels("q3-new d6 1", "q3-new d7 1"),
        old_test=qrels(),
    )
    assert opened(never).complements == ()  # nothing is ever relevant under `old`


def test_almost_complements_are_told_by_the_label_that_breaks_them(tmp_path: Path) -> None:
    corpus = [{"_id": f"d{i}", "text": f"text {i}"} for i in range(8)]
    queries = [query(f"q{i}", variant, "train") for i in range(4) for variant in ("plain", "yes", "no")]
    labels = {
        "train": qrels(*(f"q{i // 2} d{i} 1" for i in range(8))),
        "yes_train": qrels(*(f"q{i}-yes d{2 * i} 1" for i in range(4))),
        "no_train": qrels(*(f"q{i}-no d{2 * i + 1} 1" for i in range(4))),
    }
    options: dict[str, Any] = {"evaluation_splits": ()}
    sound = opened(write(tmp_path / "sound", corpus, queries, labels), **options)
    assert sound.complements == (("yes", "no"),) and not sound.evaluation_set("train").remarks
    for name, line, where in (("both", "q1-no d2 1", "q1 with d2"), ("other", "q1-no d7 1", "q1 with d7")):
        labels_with = {**labels, "no_train": labels["no_train"] + qrels(line, header=line)}
        folder = write(tmp_path / name, corpus, queries, labels_with)
        source = opened(folder, **options)
        (remark,) = source.evaluation_set("train").remarks
        assert source.complements == ()
        assert remark.startswith(f"'yes' and 'no' are complements for 3 queries and not for 1 (first: {where} in train")
        assert "source.reversals=[[yes,no]]" in remark
        given = opened(folder, reversals=(("yes", "no"),), **options)
        assert not given.evaluation_set("train").remarks
    unlike = {**labels, "no_train": qrels(*(f"q{i}-no d{2 * i} 1" for i in range(4)))}
    assert not opened(write(tmp_path / "unlike", corpus, queries, unlike), **options).evaluation_set("train").remarks


def test_a_question_that_is_there_twice_under_numbers_is_plain(tmp_path: Path) -> None:
    queries = [{"_id": name, "text": "same"} for name in ("q", "q-2")]
    folder = write(tmp_path / "set", [{"_id": "d0", "text": "t"}], queries, {"train": qrels("q d0 1", "q-2 d0 1")})
    assert [row.query_id for row in opened(folder, evaluation_splits=()).rows()] == ["q", "q-2"]


def test_variants_of_a_query_that_is_not_there_are_told(tmp_path: Path) -> None:
    corpus = [{"_id": "d0", "text": "t"}]
    queries = [{"_id": f"q-{variant}", "text": "same", "instruction": variant} for variant in ("yes", "no")]
    labels = {"train": qrels("q-yes d0 1")}
    source = opened(write(tmp_path / "a", corpus, queries, labels), evaluation_splits=())
    (remark,) = source.evaluation_set("train").remarks
    assert remark.startswith("2 queries look like variants of a query that is not there") and "'q'" in remark
    unlike = [queries[0], {**queries[1], "text": "another"}]
    source = opened(write(tmp_path / "b", corpus, unlike, labels), evaluation_splits=())
    assert not source.evaluation_set("train").remarks


def test_rows_of_a_complementary_pair(tmp_path: Path) -> None:
    source = opened(instructed(tmp_path / "set"))
    rows = [row for row in source.rows() if row.query_id == "q1" and row.reversed_instruction]
    assert [row.row_id for row in rows] == ["q1:new:0", "q1:new:1"]  # min(2, 3)
    assert {row.query for row in rows} == {"text of q1"}
    assert {(row.instruction, row.reversed_instruction) for row in rows} == {("only new of q1", "only old of q1")}
    assert sorted(row.positives for row in rows) == [("d0",), ("d1",)]
    partners = {row.instruction_negatives[0] for row in rows}
    assert len(partners) == 2  # disjoint pairs
    for row in rows:
        assert sorted(row.instruction_negatives) == ["d2", "d3", "d4"]
        assert row.answers == ("d0", "d1", "d2", "d3", "d4")
        assert row.hard_negatives == () and row.still_negative == () and row.paraphrase == ""


def test_a_row_has_at_most_the_partner_and_three_more(tmp_path: Path) -> None:
    corpus = [{"_id": f"d{i}", "text": "t"} for i in range(12)]
    queries = [query("q", v, "train") for v in ("plain", "yes", "no")]
    labels = {
        "train": qrels(*(f"q d{i} 1" for i in range(12))),
        "yes_train": qrels(*(f"q-yes d{i} 1" for i in range(6))),
        "no_train": qrels(*(f"q-no d{i} 1" for i in range(6, 12))),
    }
    folder = write(tmp_path / "set", corpus, queries, labels)  # no `og`: the plain query is the broad one
    rows = list(opened(folder, evaluation_splits=(), skew=0.5).rows())
    assert len(rows) == 6 and all(len(set(row.instruction_negatives)) == 4 for row in rows)
    used = [doc_id for row in rows for doc_id in (row.positives[0], row.instruction_negatives[0])]
    assert sorted(used) == sorted(f"d{i}" for i in range(12))
    for row in rows:
        yes = uniform(3, "beir skew", row.row_id) < 0.5
        assert row.instruction == ("only yes of q" if yes else "only no of q")
        assert row.reversed_instruction == ("only no of q" if yes else "only yes of q")
        assert (int(row.positives[0][1:]) < 6) is yes
        assert all((int(doc_id[1:]) < 6) is not yes for doc_id in row.instruction_negatives)
    assert len({row.instruction for row in rows}) == 2


def test_a_document_of_both_sides_is_in_no_pair(tmp_path: Path) -> None:
    source = opened(instructed(tmp_path / "set"), reversals=(("new", "long"),))
    (row,) = [row for row in source.rows() if row.query_id == "q1" and row.reversed_instruction]
    assert (row.positives, row.instruction_negatives) == (("d1",), ("d2",))  # d0 is relevant under both


def test_skew_and_seed_decide_the_side_and_the_partners(tmp_path: Path) -> None:
    folder = instructed(tmp_path / "set")
    usual = [row for row in opened(folder, skew=1.0).rows() if row.query_id == "q1" and row.reversed_instruction]
    unusual = [row for row in opened(folder, skew=0.0).rows() if row.query_id == "q1" and row.reversed_instruction]
    assert {row.instruction for row in unusual} == {"only old of q1"}
    pairs = {(row.positives[0], row.instruction_negatives[0]) for row in usual}
    assert pairs == {(row.instruction_negatives[0], row.positives[0]) for row in unusual}  # the same pairs, turned
    assert list(opened(folder, seed=3).rows()) == list(opened(folder, seed=3).rows())
    assert len({tuple(row.instruction_negatives for row in opened(folder, seed=s).rows()) for s in range(8)}) > 1


def test_a_pair_with_one_empty_side_gives_rows_without_instruction_negatives(tmp_path: Path) -> None:
    (row,) = [row for row in opened(instructed(tmp_path / "set"), skew=0.0).rows() if row.row_id.startswith("q2:new")]
    assert row.instruction == "only new of q2" and row.reversed_instruction == "only old of q2"
    assert row.positives == ("d5",) and row.instruction_negatives == ()


def test_a_variant_without_complement_gives_one_row(tmp_path: Path) -> None:
    rows = [row for row in opened(instructed(tmp_path / "derived")).rows() if ":long:" in row.row_id]
    assert [(row.query_id, row.positives, row.instruction_negatives) for row in rows] == [
        ("q1", ("d0", "d2"), ("d1", "d3", "d4")),
        ("q2", ("d5",), ()),
    ]
    assert all(row.reversed_instruction == "" and row.instruction.startswith("only long") for row in rows)
    listed = instructed(tmp_path / "listed", diff_long_train=qrels("q1 d3 0"))
    rows = [row for row in opened(listed).rows() if ":long:" in row.row_id]
    assert [row.instruction_negatives for row in rows] == [("d3",), ()]


def test_a_plain_folder_gives_plain_rows(tmp_path: Path) -> None:
    corpus = [{"_id": "d-1", "text": "one"}, {"_id": "d-2", "text": "", "title": "two"}]
    queries = [{"_id": "q-1", "text": "a"}, {"_id": "q-2", "text": "b"}, {"_id": "q", "text": "never judged"}]
    labels = {"train": qrels("q-1 d-1 1", "q-1 d-2 1"), "test": qrels("q-2 d-2 1", "q-2 d-1 0")}
    source = opened(write(tmp_path / "plain", corpus, queries, labels))
    (row,) = source.rows()
    assert (row.query_id, row.query, row.instruction, row.reversed_instruction) == ("q-1", "a", "", "")
    assert row.positives == ("d-1", "d-2") and row.instruction_negatives == () and row.answers == ("d-1", "d-2")
    one = source.evaluation_set("test")
    assert one.name == "plain/test"
    assert one.queries == (EvaluationQuery("q-2", "q-2", "b", "", "plain", "plain"),)
    assert one.qrels == {"q-2": {"d-2": 1, "d-1": 0}} and one.opposites == () and one.pairs is None
    assert one.documents == (Passage("d-1", "one", ""), Passage("d-2", "", "two"))


def test_an_evaluation_set_by_hand(tmp_path: Path) -> None:
    one = opened(instructed(tmp_path / "set")).evaluation_set("test")
    assert one.name == "set/test" and len(one.documents) == 8
    assert one.documents[0] == Passage("d0", "text 0", "title 0")
    assert [tuple(found) for found in one.queries] == [
        ("q3", "q3", "text of q3", "", "plain", "plain"),
        ("q3-og", "q3", "text of q3", "only og of q3", "original", "og"),
        ("q3-new", "q3", "text of q3", "only new of q3", "changed", "new"),
        ("q3-long", "q3", "text of q3", "only long of q3", "changed", "long"),
        ("q3-old", "q3", "text of q3", "only old of q3", "reversed", "old"),
    ]
    assert one.qrels == {
        "q3": {"d6": 1, "d7": 1},
        "q3-og": {"d6": 1, "d7": 1},
        "q3-new": {"d6": 1},
        "q3-old": {"d7": 1},
    }
    # `new` from its diff file, `old` and `long` from the labels
    assert one.changed_documents == {"q3-new": ("d7",), "q3-old": ("d6",), "q3-long": ("d6", "d7")}
    assert one.opposites == (("q3-new", "q3-old"),) and one.pairs is None


def test_grades_are_kept(tmp_path: Path) -> None:
    one = opened(instructed(tmp_path / "set")).evaluation_set("train")
    assert one.qrels["q1"] == {"d0": 1, "d1": 1, "d2": 2, "d3": 1, "d4": 1, "d7": 0}


def test_pairs_are_turned_to_the_order_of_the_complement(tmp_path: Path) -> None:
    header = "no-query-id yes-query-id no-corpus-id yes-corpus-id"
    folder = instructed(tmp_path / "set", pairs_test=qrels("q3-old q3-new d7 d6", header=header))
    assert opened(folder).evaluation_set("test").pairs == {("q3-new", "q3-old"): (("d6", "d7"),)}
    assert opened(folder).evaluation_set("train").pairs is None
    with pytest.raises(UserError, match=r"pairs of split 'test' name 'q3-old' and 'q3-new', .* source\.reversals"):
        opened(folder, reversals=(("new", "long"),)).evaluation_set("test")


def test_without_metadata_ids_say_base_and_variant(tmp_path: Path) -> None:
    with_metadata, without = instructed(tmp_path / "a"), instructed(tmp_path / "b", metadata=False)
    one, other = opened(with_metadata), opened(without)
    assert list(one.rows()) == list(other.rows()) and one.complements == other.complements
    assert one.evaluation_set("test").queries == other.evaluation_set("test").queries


def test_a_labels_file_without_split_belongs_to_the_splits_of_its_queries(tmp_path: Path) -> None:
    one = opened(instructed(tmp_path / "a"))
    folder = instructed(tmp_path / "b")
    merged = ["q1-new d0 1", "q1-new d1 1", "q2-new d5 1", "q3-new d6 1"]
    (folder / "qrels" / "new_train.tsv").unlink()
    (folder / "qrels" / "new_test.tsv").unlink()
    (folder / "qrels" / "new.tsv").write_text(qrels(*merged))
    assert list(opened(folder).rows()) == list(one.rows())
    assert opened(folder).evaluation_set("test").qrels == one.evaluation_set("test").qrels


def test_other_metadata_names_the_clusters_of_a_base_query(tmp_path: Path) -> None:
    """Any text does; variants that disagree put their base query into no cluster, and numbers are no names."""
    folder = instructed(tmp_path)
    path = folder / "queries.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["_id"].startswith("q1"):
            line["metadata"] |= {"constraint": " size.weight ", "year": 1999, "form": line["_id"][-1]}
        if line["_id"] == "q2":
            line["metadata"] |= {"constraint": "size.price", "topic": ""}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert opened(folder).evaluation_set("train").clusters == {"constraint": {"q1": "size.weight", "q2": "size.price"}}
    assert opened(folder).evaluation_set("test").clusters == {}


def test_metadata_alone_can_say_the_split(tmp_path: Path) -> None:
    queries = [query("q1", "plain", "dev"), query("q1", "og", "dev")]
    source = opened(
        write(tmp_path / "set", CORPUS, queries, {"og": qrels("q1-og d1 1")}), train_split="dev", evaluation_splits=()
    )
    assert source.evaluation_names == ("dev",)
    (row,) = source.rows()
    assert row.instruction == "only og of q1" and row.positives == ("d1",) and row.instruction_negatives == ()
    queries = [query("q1", "plain", None), query("q1", "og", None)]
    with pytest.raises(UserError, match=r"line 2: query 'q1-og' belongs to no split; .* name the file og_<split>"):
        opened(write(tmp_path / "none", CORPUS, queries, {"og": qrels("q1-og d1 1")}))


def test_passages_come_in_the_order_asked(tmp_path: Path) -> None:
    source = opened(instructed(tmp_path / "set"))
    assert [passage.doc_id for passage in source.passages(["d3", "d0", "d3"])] == ["d3", "d0", "d3"]
    assert [passage.doc_id for passage in source.documents()] == [f"d{i}" for i in range(8)]
    with pytest.raises(UserError, match=r"document 'x' is not in .*corpus\.jsonl; give an id that is"):
        list(source.passages(["x"]))


def test_the_revision_follows_names_and_bytes(tmp_path: Path) -> None:
    folder = instructed(tmp_path / "a")
    first = opened(folder).revision
    assert len(first) == 64 and opened(instructed(tmp_path / "b")).revision == first  # wherever it lies
    assert opened(folder, skew=0.5, seed=9).revision == first
    (folder / "SOURCE.md").write_text("not read")
    assert opened(folder).revision == first
    seen = {first}
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/new_test.tsv"):
        path = folder / name
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        seen.add(opened(folder).revision)
        path.write_bytes(before)
    (folder / "qrels" / "diff_new_test.tsv").rename(folder / "qrels" / "diff_old_test.tsv")
    assert len(seen | {opened(folder).revision}) == 5


# --- errors -----------------------------------------------------------------------------------------------------------


def documents_that_ask(folder: Path) -> Path:
    """Every query is a document under the same id: q0 asks for d0, and so does its variant `q0-og`."""
    corpus = [{"_id": f"d{i}", "text": f"answer {i}"} for i in range(3)]
    corpus += [{"_id": f"q{i}", "title": "t", "text": f"Text of q{i}!"} for i in range(3)]
    queries = [query("q0", "plain", None), query("q0", "og", None), query("q1", "plain", None)]
    labels = {"train": qrels("q0 d0 1", "q0 q0 1", "q1 d1 1"), "test": qrels("q1 d1 1", "q1 d2 0", "q1 q1 2")}
    return write(folder, corpus, queries, labels | {"og_train": qrels("q0-og d0 1", "q0-og q0 1")})


def test_a_querys_own_document_is_dropped_from_rankings_labels_and_rows(tmp_path: Path) -> None:
    folder = documents_that_ask(tmp_path / "set")
    source = opened(folder, own_document="drop")
    one = source.evaluation_set("test")
    assert one.own_documents == {"q1": "q1"} and one.qrels == {"q1": {"d1": 1, "d2": 0}}
    assert source.evaluation_set("train").own_documents == {"q0": "q0", "q0-og": "q0", "q1": "q1"}
    dropped = "3 queries are documents of the corpus: each one's own is left out of its ranking, and with it 3 labels"
    assert one.remarks == (f"{dropped} (source.own_document=drop)",)
    rows = {row.query_id: row for row in source.rows()}
    assert rows["q0"].positives == ("d0",) and rows["q0"].answers == ("d0", "q0")  # never a negative, mined or not
    assert rows["q1"].positives == ("d1",) and rows["q1"].answers == ("d1", "q1")
    assert source.revision == opened(folder, own_document="keep").revision


def test_own_documents_that_are_kept_are_said_and_nothing_else_changes(tmp_path: Path) -> None:
    source = opened(documents_that_ask(tmp_path / "set"), own_document="keep")
    one = source.evaluation_set("test")
    assert one.own_documents == {} and one.qrels["q1"]["q1"] == 2
    assert "3 queries are documents of the corpus under the same id" in one.remarks[0]
    with pytest.raises(UserError, match="each would find itself; set source.own_document=drop to leave"):
        opened(tmp_path / "set")


def test_ids_that_meet_by_chance_are_no_own_documents(tmp_path: Path) -> None:
    corpus = [{"_id": f"{i}", "text": f"answer {i}"} for i in range(3)]
    queries = [{"_id": f"{i}", "text": text} for i, text in enumerate(("who was it", "where is it", "answer 2"))]
    labels = {"train": qrels("0 0 1"), "test": qrels("1 2 1")}
    one = opened(write(tmp_path / "set", corpus, queries, labels)).evaluation_set("test")
    assert one.own_documents == {} and one.remarks == ()  # one of three is less than half


def test_comments_of_labels_are_passed_over_and_said(tmp_path: Path) -> None:
    folder = instructed(tmp_path / "set")
    path = folder / "qrels" / "test.tsv"
    path.write_text("# judged by hand\n" + path.read_text() + "#q3\td5\t1\n")
    one = opened(folder).evaluation_set("test")
    assert one.qrels["q3"] == {"d6": 1, "d7": 1}
    assert one.remarks == (f"{path}: 2 comment lines (#) passed over",)


def appended(name: str, line: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + line + b"\n")


def removed(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def emptied(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(b"\n")


C, Q, T = "corpus.jsonl", "queries.jsonl", "qrels/train.tsv"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no corpus": (removed(C), r"corpus\.jsonl: no such file; check the path"),
    "no queries": (removed(Q), r"queries\.jsonl: no such file"),
    "empty corpus": (emptied(C), r"corpus\.jsonl is empty; it needs at least one document"),
    "empty queries": (emptied(Q), r"queries\.jsonl is empty; it needs at least one query"),
    "no JSON": (appended(C, b'{"_id": '), r"jsonl, line 9: not JSON \(Expecting value.*\); every line is one JSON"),
    "no object": (appended(Q, b'["a"]'), r"jsonl, line 16: a list instead of a JSON object"),
    "no id": (appended(C, b'{"text": "a"}'), r"jsonl, line 9: `_id` is missing; every line needs `_id` and `text`"),
    "no text": (appended(C, b'{"_id": "a"}'), r"jsonl, line 9: `text` is missing"),
    "odd id": (appended(C, b'{"_id": ["a"], "text": "b"}'), r"jsonl, line 9: `_id` is \['a'\]; it must be a text"),
    "odd text": (appended(C, b'{"_id": "a", "text": 5}'), r"jsonl, line 9: `text` is 5; it must be a text"),
    "twice": (appended(C, b'{"_id": "d0", "text": "a"}'), r"jsonl, line 9: `_id` 'd0' is also in line 1; ids must"),
    "query twice": (appended(Q, b'{"_id": "q1", "text": "a"}'), r"jsonl, line 16: `_id` 'q1' is also in line 1"),
    "nothing in it": (
        appended(C, b'{"_id": "d9", "text": " ", "title": ""}'),
        r"jsonl, line 9: document 'd9' has neither text nor title; drop it or give it one",
    ),
    "query without text": (appended(Q, b'{"_id": "q9", "text": " "}'), r"jsonl, line 16: query 'q9' has no text"),
    "variant without instruction": (
        appended(Q, b'{"_id": "q9", "text": "a", "metadata": {"base": "q1", "variant": "wide"}}'),
        r"jsonl, line 16: query 'q9' is variant 'wide' and has no instruction",
    ),
    "variant twice": (
        appended(Q, b'{"_id": "q9", "text": "a", "instruction": "b", "metadata": {"base": "q1", "variant": "og"}}'),
        r"queries\.jsonl: queries 'q1-og' and 'q9' are both variant 'og' of 'q1'",
    ),
    "odd metadata": (
        appended(Q, b'{"_id": "q9", "text": "a", "metadata": [1]}'),
        r"jsonl, line 16: `metadata` is \[1\]; it must be an object",
    ),
    "not UTF-8": (appended(C, b'{"_id": "d9", "text": "\xff"}'), r"jsonl, line 9: not UTF-8 \(byte 24\); convert"),
    "labels not UTF-8": (appended(T, b"q1\td\xe9\t1"), r"tsv, line 9: not UTF-8 \(byte 5\)"),
    "unknown document": (
        appended(T, b"q1\td99\t1"),
        r"tsv, line 9: document 'd99' is not in corpus\.jsonl; add it there or drop the line",
    ),
    "unknown query": (appended(T, b"q9\td1\t1"), r"tsv, line 9: query 'q9' is not in queries\.jsonl; add it"),
    "bad score": (appended(T, b"q1\td6\tyes"), r"tsv, line 9: grade 'yes' is no integer"),
    "columns": (appended(T, b"q1 d6 1"), r"tsv, line 9: 1 columns instead of 3, separated by tabs"),
    "contradiction": (appended(T, b"q1\td2\t1"), r"tsv, line 9: query 'q1' and document 'd2' have score 1 here and 2"),
    "unknown document changed": (appended("qrels/diff_new_test.tsv", b"q3\td99\t0"), r"tsv, line 3: document"),
    "diff of no variant": (
        lambda folder: (folder / "qrels" / "diff_wide_test.tsv").write_text(qrels()),
        r"diff_wide_test\.tsv is for no known variant; variants of queries: og, new, long, old",
    ),
    "pairs": (
        lambda folder: (folder / "qrels" / "pairs_test.tsv").write_text("a-query-id\tb\tc\td\nq3-new\tq9\td1\td2\n"),
        r"pairs_test\.tsv, line 2: query 'q9' is not in queries\.jsonl",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    folder = instructed(tmp_path / "set")
    spoil, message = BROKEN[name]
    opened(folder)
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


def test_wrong_arguments_are_named_with_what_is_allowed(tmp_path: Path) -> None:
    folder = instructed(tmp_path / "set")
    with pytest.raises(UserError, match=r"source\.path='.*absent' is not a folder; give a folder with corpus\.jsonl"):
        opened(tmp_path / "absent")
    with pytest.raises(UserError, match=r"source\.train_split='dev' has no labels in .*qrels; .*labels: train, test$"):
        opened(folder, train_split="dev")
    with pytest.raises(UserError, match=r"evaluation\.sets='dev' has no labels in .*labels: train, test$"):
        opened(folder, evaluation_splits=("test", "dev"))
    with pytest.raises(UserError, match=r"evaluation set='dev' has no labels"):
        opened(folder).evaluation_set("dev")
    with pytest.raises(
        UserError, match=r"reversals names variant 'wide', which .* does not have; known: new, long, old"
    ):
        opened(folder, reversals=(("new", "wide"),))
    with pytest.raises(UserError, match=r"reversals names variant 'new' twice; a variant has one complement"):
        opened(folder, reversals=(("new", "old"), ("new", "long")))
    for path in (folder / "qrels").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"splits with labels: none"):
        opened(folder)
    (folder / "qrels").rmdir()
    with pytest.raises(UserError, match=r"qrels is missing; a BEIR folder has one labels file per split"):
        opened(folder)


# --- the real sets ----------------------------------------------------------------------------------------------------


def test_movies() -> None:
    folder = data_folder("movies")
    begun = time.process_time()
    source = opened(folder, evaluation_splits=("dev",), skew=0.5)
    rows = list(source.rows())
    one = source.evaluation_set("dev")
    assert time.process_time() - begun < 5.0  # about 0.5 s
    assert source.complements == (("after", "before"), ("genre", "notgenre"))
    assert len(one.documents) == 16_221 and len({row.query_id for row in rows}) == 104
    assert Counter((found.condition, found.direction) for found in one.queries) == {
        ("plain", "plain"): 32,
        ("original", "og"): 32,
        ("changed", "after"): 32,
        ("reversed", "before"): 32,
        ("changed", "genre"): 32,
        ("reversed", "notgenre"): 32,
    }
    assert len(one.opposites) == 64 and len(one.qrels) == 192
    metadata = {}
    with open(folder / "corpus.jsonl", encoding="utf-8") as file:
        for line in file:
            document = json.loads(line)
            metadata[document["_id"]] = document["metadata"]["year"]
    for row in rows:  # the labels are exact: years decide
        if row.instruction.startswith("Only films released before"):
            year = int(row.instruction.split("before ")[1][:4])
            assert metadata[row.positives[0]] < year <= min(metadata[d] for d in row.instruction_negatives)
    assert len(rows) == len({row.row_id for row in rows})
    assert all(row.instruction_negatives and row.reversed_instruction for row in rows)


def test_scifact() -> None:
    source = opened(data_folder("scifact"))
    assert source.complements == (("sup", "ref"),) and source.evaluation_names == ("train", "test")
    one = source.evaluation_set("test")
    assert len(one.documents) == 5_183
    assert Counter(found.condition for found in one.queries) == {
        "plain": 300,
        "original": 188,
        "changed": 188,
        "reversed": 188,
    }
    assert len(one.opposites) == 188 and len(one.changed_documents) == 188
    unjudged = [found for found in one.queries if found.query_id not in one.qrels]
    assert len(unjudged) == 188  # evidence has one polarity, so one of sup and ref has no label
    rows = list(source.rows())
    assert len({row.query_id for row in rows}) == 809 and sum(not row.instruction for row in rows) == 304
    assert not any(row.instruction_negatives for row in rows)


def test_condaqa_pairs() -> None:
    folder = data_folder("condaqa_pairs")
    source = opened(folder, evaluation_splits=("train",), skew=0.5)
    assert source.complements == (("yes", "no"),) and source.evaluation_names == ("train",)
    one = source.evaluation_set("train")
    assert len(one.documents) == 451 and len(one.queries) == 4 * 234 and len(one.opposites) == 234
    lines = (folder / "qrels" / "pairs_train.tsv").read_text("utf-8").splitlines()[1:]
    assert one.pairs is not None and sum(len(pairs) for pairs in one.pairs.values()) == len(lines)
    assert one.pairs["445-1-yes", "445-1-no"][:2] == (("445_0", "445_2"), ("445_1", "445_2"))
    assert one.changed_documents["445-1-yes"] == ("445_2",)
    rows = list(source.rows())
    assert len({row.query_id for row in rows}) == 234 and all(row.instruction_negatives for row in rows)
