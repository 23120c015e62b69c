"""Rules on metadata: every measure and constraint by hand, rows and evaluation sets of a small folder, error texts."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, data_folder

from ablate.compose import load, strict
from ablate.data.rules import RuleSource
from ablate.data.rules.values import field_of, measured, satisfied, settle, worded
from ablate.evaluation.scoring import score_set
from ablate.randomness import uniform
from ablate.recipe.build import build
from ablate.recipe.rules import AtLeast, Between, Contains, Equals, Present, Rule, StartsWith, check_rules
from ablate.recipe.schema import RulesSource
from ablate.records import EvaluationQuery, Passage, UserError

YEAR = {
    "name": "recent",
    "field": "year",
    "measure": "value",
    "constraint": {"kind": "at_least"},
    "broad": "Any year.",
    "wordings": [
        {"satisfying": "From {value} on.", "violating": "Before {value}."},
        {"satisfying": "In {value} or later.", "violating": "Earlier than {value}."},
    ],
}


def rule(**changes: Any) -> Rule:
    return build(Rule, {**YEAR, **changes}, "source.rules[0]")


def on(measure: str, constraint: dict[str, Any], **changes: Any) -> Rule:
    words = " and ".join({"between": ["{low}", "{high}"], "present": []}.get(constraint["kind"], ["{value}"]))
    wordings = [{"satisfying": f"yes {words}", "violating": f"no {words}"}]
    return rule(measure=measure, constraint=constraint, wordings=wordings, **changes)


def document(number: int, **metadata: Any) -> dict[str, Any]:
    return {"_id": f"d{number}", "title": f"Title {number}", "text": f"text {number}", "metadata": metadata}


CORPUS = [document(number, year=1990 + number) for number in range(8)]


def folder(path: Path, corpus: list[Any] | None = None, **labels: str) -> Path:
    """q1 (train): d0 to d4 with years 1990 to 1994; q2 (train): d5; q3 (test): d4, d5 (grade 2), d6, and d7 at 0."""
    (path / "qrels").mkdir(parents=True)
    queries = [{"_id": f"q{number}", "text": f"text of q{number}"} for number in (1, 2, 3)]
    instructed = {"_id": "q1-og", "text": "text of q1", "instruction": "the folder's own"}
    for name, lines in (("corpus", corpus or CORPUS), ("queries", [*queries, instructed])):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    train = "".join(f"q1\td{number}\t1\n" for number in range(5)) + "q2\td5\t1\n"
    labels = {"train": train, "test": "q3\td4\t1\nq3\td5\t2\nq3\td6\t1\nq3\td7\t0\n", **labels}
    for name, text in labels.items():
        (path / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + text, "utf-8")
    return path


def opened(path: Path, *rules: Rule, **changes: Any) -> RuleSource:
    given: dict[str, Any] = {
        "train_split": "train",
        "evaluation_splits": ("test",),
        "skew": 1.0,
        "seed": 3,
        "minimum": 1,
    }
    return RuleSource(path=str(path), rules=rules or (rule(),), **{**given, **changes})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("title", "A title"),
        ("text", None),
        ("a", 1),
        ("b.c", [2]),
        ("b.d", None),
        ("a.x", None),
        ("e", None),
        ("f", None),
    ],
)
def test_a_field_is_a_dotted_path_and_blank_is_missing(path: str, expected: Any) -> None:
    metadata = {"a": 1, "b": {"c": [2]}, "e": "  ", "f": float("nan")}
    assert field_of(path, Passage("d", "", "A title"), metadata) == expected


@pytest.mark.parametrize(
    ("measure", "raw", "expected"),
    [
        ("length", "three short words", 3),
        ("items", ["a", "b"], 2),
        ("items", [], 0),
        ("decade", 1999, 1990),
        ("decade", 2000, 2000),
        ("first_letter", "'Til then", "T"),
        ("first_letter", "12 men", "1"),
        ("first_letter", "…", "…"),
        ("value", 7.5, 7.5),
        ("value", ["Noir", 3], ("Noir", "3")),
    ],
)
def test_measures(measure: str, raw: Any, expected: Any) -> None:
    kind = {"value": "contains"}.get(measure, "equals")
    assert measured(on(measure, {"kind": kind}), raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"), [(None, False), ([], False), ({}, False), (0, True), ("x", True), (False, True)]
)
def test_presence(raw: Any, expected: bool) -> None:
    assert measured(on("present", {"kind": "present"}), raw) is expected


@pytest.mark.parametrize(
    ("constraint", "yes", "no"),
    [
        (AtLeast(kind="at_least", value=3), [3, 4.5], [2, 2.9]),
        (Between(kind="between", low=2, high=4), [2, 3, 4], [1, 5]),
        (Equals(kind="equals", value="1990"), [1990, 1990.0, "1990"], [1991, "199"]),
        (Equals(kind="equals", value="true"), [True], [False]),
        (
            Contains(kind="contains", value="Film Noir"),
            [("Drama", "film noir"), "a FILM NOIR of"],
            [("Noir",), "film noirs"],
        ),
        (StartsWith(kind="starts_with", value="t"), ["The", "to"], ["'t", "A t"]),
        (Present(kind="present"), [True], [False]),
    ],
)
def test_constraints(constraint: Any, yes: list[Any], no: list[Any]) -> None:
    assert [satisfied(constraint, value) for value in yes] == [True] * len(yes)
    assert [satisfied(constraint, value) for value in no] == [False] * len(no)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4], 3),  # 2 | 2
        ([1, 2, 3], 2),  # 1 | 2 and 2 | 1 are as even: the lower threshold
        ([2, 2, 2, 3], 3),  # the median, 2, would leave nothing below
        ([1, 5, 5, 5, 5, 6], 5),  # 1 | 5 and 5 | 1
        ([4, 4], None),
        ([], None),
    ],
)
def test_a_threshold_splits_most_evenly(values: list[int], expected: int | None) -> None:
    settled = settle(AtLeast(kind="at_least"), values, 1)
    assert settled == (None if expected is None else AtLeast(kind="at_least", value=expected))


def test_an_interval_leaves_out_a_quarter_at_each_end() -> None:
    chosen = Between(kind="between")
    assert settle(chosen, [8, 1, 7, 2, 6, 3, 5, 4], 1) == Between(kind="between", low=3, high=6)
    assert settle(chosen, [1, 2, 3], 1) == Between(kind="between", low=1, high=3)
    assert settle(Between(kind="between", low=5), [1, 2, 3, 4], 1) == Between(kind="between", low=5, high=3)
    assert settle(chosen, [], 1) is None


def test_the_most_common_value_that_leaves_both_sides() -> None:
    assert settle(Equals(kind="equals"), [1990, 2000, 2000, 1980, 1980], 1) == Equals(kind="equals", value="1980")
    assert settle(Equals(kind="equals"), [1990, 2000, 2000, 2000], 2) is None  # 3 | 1, and 1 | 3
    assert settle(Equals(kind="equals"), [1990, 2000, 2000, 2000], 1) == Equals(kind="equals", value="2000")
    lists = [("Drama", "War"), ("drama",), ("Drama", "War"), ("Drama",)]
    assert settle(Contains(kind="contains"), lists, 1) == Contains(kind="contains", value="War")  # all are drama
    titles = ["The A", "the B", "Up", "Us", "Us 2", "…"]
    assert settle(StartsWith(kind="starts_with"), titles, 1) == StartsWith(kind="starts_with", value="U")
    fixed = AtLeast(kind="at_least", value=9)
    assert settle(fixed, [1], 1) == fixed


def test_words() -> None:
    def first(place: int, num: int) -> int:
        return 0

    assert worded("{value} [or more|up]", AtLeast(kind="at_least", value=2000.0), first) == "2000 or more"
    assert worded("{low} to {high}", Between(kind="between", low=0.5, high=2), first) == "0.5 to 2"
    assert worded("has {{it}}", Present(kind="present"), first) == "has {it}"


def test_rows(tmp_path: Path) -> None:
    source = opened(folder(tmp_path / "set"))
    rows = list(source.rows())
    # q1: 1990 to 1994 split at 1992 (2 | 3), the lower of 1992 and 1993; q2 has one document
    assert [row.row_id for row in rows] == ["q1:recent:0", "q1:recent:1"]
    assert source.left_out == {"train": {"recent": 1}, "test": {"recent": 0}}
    used = [doc_id for row in rows for doc_id in (row.positives[0], row.instruction_negatives[0])]
    assert len(set(used)) == 4
    both = {
        ("From 1992 on.", "Before 1992.", "In 1992 or later."),
        ("In 1992 or later.", "Earlier than 1992.", "From 1992 on."),
    }
    for row in rows:
        assert row.query_id == "q1" and row.query == "text of q1"
        assert (row.instruction, row.reversed_instruction, row.paraphrase) in both
        assert row.positives[0] in ("d2", "d3", "d4") and set(row.instruction_negatives) == {"d0", "d1"}
        assert row.answers == ("d0", "d1", "d2", "d3", "d4")
        assert row.hard_negatives == () and row.still_negative == ()
    assert [p.text for p in source.passages(["d3", "d0"])] == ["text 3", "text 0"]
    assert [p.doc_id for p in source.documents()] == [f"d{number}" for number in range(8)]


def test_skew_and_seed_decide_side_and_partners(tmp_path: Path) -> None:
    path = folder(tmp_path / "set")
    usual, unusual = list(opened(path).rows()), list(opened(path, skew=0.0).rows())
    assert {row.instruction for row in unusual} <= {"Before 1992.", "Earlier than 1992."}
    pairs = {(row.positives[0], row.instruction_negatives[0]) for row in usual}
    assert pairs == {(row.instruction_negatives[0], row.positives[0]) for row in unusual}
    assert list(opened(path).rows()) == usual
    assert len({tuple(row.positives for row in opened(path, seed=seed).rows()) for seed in range(9)}) > 1
    many = folder(
        tmp_path / "many", [document(n, year=n) for n in range(40)], train="".join(f"q1\td{n}\t1\n" for n in range(40))
    )
    for row in opened(many, skew=0.5).rows():
        usual_side = uniform(3, "rules skew", row.row_id) < 0.5
        assert (int(row.positives[0][1:]) >= 20) is usual_side is row.asks_usual
        assert all((int(doc_id[1:]) >= 20) is not usual_side for doc_id in row.instruction_negatives)
        assert len(set(row.instruction_negatives)) == 4
    assert len(list(opened(many, skew=0.5).rows())) == 20


def test_one_wording_gives_no_paraphrase(tmp_path: Path) -> None:
    source = opened(folder(tmp_path / "set"), rule(wordings=YEAR["wordings"][:1]))  # type: ignore[index]
    assert {row.paraphrase for row in source.rows()} == {""}


def test_evaluation_set(tmp_path: Path) -> None:
    held_out = [{"satisfying": "Not older than {value}.", "violating": "Older than {value}."}]
    found = opened(folder(tmp_path / "set"), rule(evaluation_wordings=held_out)).evaluation_set("test")
    assert found.name == "set-rules/test" and len(found.documents) == 8
    assert found.queries == (
        EvaluationQuery("q3", "q3", "text of q3", "", "plain", "plain"),
        EvaluationQuery("q3:recent:og", "q3:recent", "text of q3", "Any year.", "original", "og"),
        EvaluationQuery("q3:recent:yes", "q3:recent", "text of q3", "Not older than 1995.", "changed", "recent"),
        EvaluationQuery("q3:recent:no", "q3:recent", "text of q3", "Older than 1995.", "reversed", "not-recent"),
    )
    whole = {"d4": 1, "d5": 2, "d6": 1, "d7": 0}
    assert found.qrels == {
        "q3": whole,
        "q3:recent:og": whole,
        "q3:recent:yes": {"d5": 2, "d6": 1},
        "q3:recent:no": {"d4": 1},
    }
    assert found.changed_documents == {"q3:recent:yes": ("d4",), "q3:recent:no": ("d5", "d6")}
    assert found.opposites == (("q3:recent:yes", "q3:recent:no"),) and found.pairs is None


def test_the_protocol_takes_two_rules_on_one_query(tmp_path: Path) -> None:
    path = folder(tmp_path / "set")
    title = on("value", {"kind": "equals", "value": "Title 4"}, name="named", field="title")
    found = opened(path, rule(), title, evaluation_splits=("test",)).evaluation_set("test")
    assert [query.base_id for query in found.queries if query.condition == "original"] == ["q3:recent", "q3:named"]
    evaluation = score_set(found, [])
    assert evaluation.opposites == {"set-rules/test": (("recent", "not-recent"), ("named", "not-named"))}


def test_a_query_with_few_documents_on_one_side_is_left_out_and_counted(tmp_path: Path) -> None:
    labels = {"test": "".join(f"q3\td{number}\t1\n" for number in range(4))}
    source = opened(folder(tmp_path / "set", **labels), minimum=2)
    assert source.left_out == {"train": {"recent": 1}, "test": {"recent": 0}}
    assert [case.base_id for case in source.cases("train")] == ["q1:recent"]
    assert opened(folder(tmp_path / "again", **labels), evaluation_splits=(), minimum=1).cases("test")[
        0
    ].satisfying == ("d2", "d3")


def test_documents_without_the_field_are_on_no_side_when_excluded(tmp_path: Path) -> None:
    corpus = [document(n, **({"year": 1990 + n} if n != 4 else {"year": None})) for n in range(8)]
    source = opened(folder(tmp_path / "set", corpus), rule(missing="exclude"))
    (case,) = source.cases("test")
    assert (case.satisfying, case.violating) == (("d6",), ("d5",))
    found = source.evaluation_set("test")
    assert "d4" in found.qrels["q3:recent:og"] and "d4" not in found.changed_documents["q3:recent:yes"]
    assert "d4" in next(iter(source.rows())).answers


def test_the_revision_follows_the_folder(tmp_path: Path) -> None:
    one, same = opened(folder(tmp_path / "a")), opened(folder(tmp_path / "b"))
    other = opened(folder(tmp_path / "c", [document(n, year=1991 + n) for n in range(8)]))
    assert one.revision == same.revision != other.revision


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"measure": "size"},
            r"source.rules\[0\].measure='size' is not known; allowed: value, length, items, first_letter",
        ),
        (
            {"measure": "items", "constraint": {"kind": "more"}},
            r"constraint.kind='more' is not known; allowed: at_least, between",
        ),
        ({"constraint": {"kind": "at_least", "value": "x"}}, r"constraint.value='x' has the wrong type \(str\)"),
        ({"wording": []}, r"unknown key source.rules\[0\].wording; known here: name, field, measure"),
        (
            {"measure": "first_letter"},
            "constraint at_least does not go with measure first_letter; it takes value, length, items",
        ),
        ({"name": "so so"}, "name='so so' goes into ids; use letters"),
        ({"name": "not-new"}, "name='not-new' is the direction of something else"),
        ({"name": "both"}, "name='both' is the direction of something else"),
        ({"field": "a..b"}, "field='a..b' is no dotted path"),
        (
            {"broad": "Any {value}."},
            r"broad='Any \{value\}.' has \{value\}, which is not known here; allowed in braces: none",
        ),
        ({"broad": " "}, "broad is blank; write an instruction"),
        ({"wordings": []}, "wordings is empty; write at least one instruction and its complement"),
        ({"evaluation_wordings": []}, "evaluation_wordings is empty"),
        (
            {"wordings": [{"satisfying": "new", "violating": "before {value}"}]},
            r"satisfying='new' does not name \{value\}",
        ),
        ({"wordings": [{"satisfying": "{value", "violating": "{value}"}]}, "satisfying='{value' has a broken brace"),
        (
            {"wordings": [{"satisfying": "{value}", "violating": "{low}"}]},
            r"violating='\{low\}' has \{low\}, which is not known",
        ),
        (
            {"wordings": [{"satisfying": "{value}", "violating": "{value}"}]},
            "satisfying and violating are the same text",
        ),
        ({"constraint": {"kind": "between", "low": 3, "high": 2}}, "low=3 is above high=2; swap the two"),
        ({"constraint": {"kind": "equals", "value": " "}}, "constraint.value=' ' is blank"),
    ],
)
def test_errors_in_a_rule(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        check_rules((rule(**changes),))


def test_errors_between_rules() -> None:
    with pytest.raises(UserError, match=r"source.rules is empty; declare at least one rule"):
        check_rules(())
    with pytest.raises(UserError, match=r"source.rules\[1\].name='recent' is there twice"):
        check_rules((rule(), rule()))


def test_a_fixed_bound_need_not_be_named() -> None:
    words = [{"satisfying": "From this century.", "violating": "From the last one."}]
    check_rules((rule(constraint={"kind": "at_least", "value": 2000}, wordings=words),))


@pytest.mark.parametrize(
    ("values", "changes", "text"),
    [
        (
            [None, 1, None],
            {},
            r"source.rules\[0\] \(recent\): field 'year' is missing in 2 of 8 documents of .*corpus.jsonl "
            r"\(first: 'd0'\); fill it in, or set missing: exclude",
        ),
        (
            ["1990"],
            {},
            r"field 'year' is text in 1 \(first: 'd0'\), number in 7 \(first: 'd1'\) of 8 documents .*; measure "
            r"value with at_least takes one kind: number; convert the field",
        ),
        ([1, "1990"], {"constraint": {"kind": "equals"}}, r"number in 7 \(first: 'd0'\), text in 1 \(first: 'd1'\)"),
        (
            [],
            {"measure": "items"},
            r"field 'year' is number in 8 \(first: 'd0'\) of 8 .*items with at_least takes one kind: list",
        ),
        ([], {"field": "yaer"}, r"field 'yaer' is in none of the 8 documents of .*; known fields: title, text, year"),
        ([], {"field": "yaer", "missing": "exclude"}, "field 'yaer' is in none of the 8 documents"),
        (
            [],
            {"field": "title", "measure": "value", "constraint": {"kind": "contains"}},
            r"title' is text in 8 .*kind: list",
        ),
        ([[{}]] * 8, {"constraint": {"kind": "contains"}}, "year' is list of objects in 8"),
    ],
)
def test_errors_in_fields(tmp_path: Path, values: list[Any], changes: dict[str, Any], text: str) -> None:
    corpus = [document(n, year=values[n] if n < len(values) else 1990 + n) for n in range(8)]
    with pytest.raises(UserError, match=text):
        opened(folder(tmp_path / "set", corpus), rule(**changes))


def test_errors_of_the_folder_and_of_splits(tmp_path: Path) -> None:
    path = folder(tmp_path / "set")
    expected = (
        r"none of the 1 plain queries of split 'test' has 2 relevant documents on each side of a rule "
        r"\(tried: recent\); lower source.minimum or change"
    )
    with pytest.raises(UserError, match=expected):
        opened(path, minimum=2)
    with pytest.raises(
        UserError, match="source.train_split='dev' has no labels in .*; splits with labels: test, train"
    ):
        opened(path, train_split="dev")
    with pytest.raises(UserError, match="evaluation set='dev' has no labels"):
        opened(path).evaluation_set("dev")
    with pytest.raises(UserError, match="source.minimum=0 must be at least 1"):
        opened(path, minimum=0)
    with pytest.raises(UserError, match="source.path=.*nowhere' is not a folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(UserError, match="document 'x' is not in"):
        list(opened(path).passages(["x"]))
    (path / "corpus.jsonl").write_text('{"_id": "d0", "text": "t", "metadata": 3}\n', "utf-8")
    for split in ("train", "test"):
        (path / "qrels" / f"{split}.tsv").write_text("q1\td0\t1\n", "utf-8")
    with pytest.raises(UserError, match=r"corpus.jsonl, line 1: `metadata` is 3; it must be an object"):
        opened(path)


def test_a_querys_own_document_is_left_out_under_every_rule(tmp_path: Path) -> None:
    corpus = [
        *CORPUS,
        {"_id": "q1", "text": "Text of q1!", "metadata": {"year": 1990}},
        {"_id": "q3", "text": "text of q3", "metadata": {"year": 1991}},
    ]
    path = folder(tmp_path / "set", corpus, test="q3\td4\t1\nq3\td5\t2\nq3\td6\t1\nq3\tq3\t1\n")
    with pytest.raises(UserError, match="3 queries are documents of the corpus under the same id"):
        opened(path)
    source = opened(path, own_document="drop")
    one = source.evaluation_set("test")
    assert set(one.own_documents) == {query.query_id for query in one.queries} and len(one.queries) == 4
    assert set(one.own_documents.values()) == {"q3"} and all("q3" not in grades for grades in one.qrels.values())
    assert "(source.own_document=drop)" in one.remarks[0]
    assert {row.answers for row in source.rows() if row.query_id == "q1"} == {("d0", "d1", "d2", "d3", "d4", "q1")}


def shipped() -> tuple[dict[str, Any], tuple[Rule, ...]]:
    source = yaml.safe_load((ROOT / "conf" / "source" / "movies_rules.yaml").read_text("utf-8"))["source"]
    rules = tuple(build(Rule, one, f"source.rules[{index}]") for index, one in enumerate(source["rules"]))
    return source, rules


def test_the_shipped_rules_build() -> None:
    _, rules = shipped()
    check_rules(rules)
    assert [one.name for one in rules] == ["decade", "cast_size", "title_starts_with", "text_length"]
    assert all(len(one.wordings) >= 3 and one.evaluation_wordings for one in rules)
    for one in rules:
        assert not set(one.wordings) & set(one.evaluation_wordings or ())


@pytest.mark.parametrize("spelling", ["Sci  Fi", "Sci\u00a0Fi", "Sci Fi", "Ｓci Fi"])
def test_a_rule_takes_spellings_of_one_value_for_the_same(spelling: str) -> None:
    for value in ("Sci Fi", "Sci  Fi"):
        assert satisfied(Contains(kind="contains", value=value), (spelling, "War"))
        assert satisfied(StartsWith(kind="starts_with", value=value), f"{spelling} one")
        assert satisfied(Contains(kind="contains", value=value), f"a {spelling} film")
    assert satisfied(Equals(kind="equals", value="Sci  Fi"), "Sci Fi")
    assert not satisfied(StartsWith(kind="starts_with", value="The "), "Theodore")
    assert satisfied(StartsWith(kind="starts_with", value="The "), "The cat")


def test_every_key_of_a_rules_source_is_set_without_a_plus() -> None:
    changes = ["source.only=[decade]", "source.margin=0.25", "source.minimum_share=0.1", "source.num_wordings=3"]
    source = strict(load(["source=movies_rules", "source.path=somewhere", *changes])).recipe.source
    assert isinstance(source, RulesSource)
    assert (source.only, source.margin, source.minimum_share, source.num_wordings) == (("decade",), 0.25, 0.1, 3)
    written = yaml.safe_load((ROOT / "conf" / "source" / "movies_rules.yaml").read_text("utf-8"))["source"]
    assert {*written} == {field.name for field in dataclasses.fields(RulesSource)}


def test_movies() -> None:
    source, rules = shipped()
    path = data_folder("movies")
    found = opened(path, *rules, evaluation_splits=("dev",), skew=source["skew"], seed=0, minimum=source["minimum"])
    rows = list(found.rows())
    assert Counter(row.row_id.split(":")[1] for row in rows) == {
        "decade": 530,
        "cast_size": 700,
        "title_starts_with": 469,
        "text_length": 801,
    }
    assert found.left_out["dev"] == {"decade": 8, "cast_size": 0, "title_starts_with": 0, "text_length": 0}
    dev = found.evaluation_set("dev")
    assert dev.name == "movies-rules/dev"
    assert Counter(query.condition for query in dev.queries) == {
        "plain": 32,
        "original": 120,
        "changed": 120,
        "reversed": 120,
    }
    assert len(dev.opposites) == 120
    whole = {query.base_id: dev.qrels[query.query_id] for query in dev.queries if query.condition == "original"}
    for yes, no in dev.opposites:
        ones, others = set(dev.qrels[yes]), set(dev.qrels[no])
        assert (
            not ones & others
            and ones | others == set(whole[yes.rpartition(":")[0]])
            and min(len(ones), len(others)) >= 2
        )
    # Aaron Eckhart, read off the corpus: Erin Brockovich (m10560) is of 2000, In the Company of Men (m09858) of 1997
    texts = {query.query_id: query.instruction for query in dev.queries}
    assert texts["a0001:decade:yes"] == "A film counts only if it is from the 2000s."
    assert "m10560" in dev.qrels["a0001:decade:yes"] and "m09858" in dev.qrels["a0001:decade:no"]
    # The Core and Thank You for Smoking begin with T, Your Friends & Neighbors does not
    assert texts["a0001:title_starts_with:no"] == "A film counts only if its title begins with anything but T."
    assert {"m11200", "m11788"} <= set(dev.qrels["a0001:title_starts_with:yes"])
    assert "m10278" in dev.qrels["a0001:title_starts_with:no"]
    metadata = {}
    with open(path / "corpus.jsonl", encoding="utf-8") as file:
        for line in file:
            one = json.loads(line)
            metadata[one["_id"]] = one
    for row in rows:  # every label once more, by other means
        name = row.row_id.split(":")[1]
        sides = [
            _side(name, row.instruction, metadata[doc_id]) for doc_id in (*row.positives, *row.instruction_negatives)
        ]
        assert sides == [True] + [False] * len(row.instruction_negatives), row
        turned = [
            _side(name, row.reversed_instruction, metadata[doc_id])
            for doc_id in (*row.positives, *row.instruction_negatives)
        ]
        assert turned == [False] + [True] * len(row.instruction_negatives), row
        assert _side(name, row.paraphrase, metadata[row.positives[0]]) and row.paraphrase != row.instruction


def _side(name: str, instruction: str, found: dict[str, Any]) -> bool:
    """Return whether a document satisfies an instruction of the shipped rules, read as a person would."""
    if name == "title_starts_with":
        letter = next(word.strip(".") for word in instruction.split() if len(word.strip(".")) == 1)
        holds = found["title"].upper().startswith(letter)
        return holds is not any(word in instruction for word in ("not ", "Drop titles"))
    bound = next(int("".join(filter(str.isdigit, word))) for word in instruction.split() if any(map(str.isdigit, word)))
    if name == "decade":
        holds = bound <= found["metadata"]["year"] < bound + 10
        return holds is not any(word in instruction for word in ("other decades than", "did not", "outside"))
    size = len(found["metadata"]["cast"]) if name == "cast_size" else len(found["text"].split())
    fewer = any(word in instruction for word in ("fewer than", "less than", "shorter than"))
    return (size < bound) is (fewer is not instruction.startswith("Leave out"))
