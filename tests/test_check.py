"""Data and studies checked before training: by the command, by the plan of a study, and by every run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, HandMadeSource, compose, override
from test_beir import instructed, qrels, query, write
from test_planning import _composed_with_label, ids

from ablate import check
from ablate.data import checking
from ablate.evaluation.places import places
from ablate.evaluation.rankers import plain_ranker
from ablate.evaluation.scoring import rank_and_score
from ablate.records import EvaluationQuery, EvaluationSet, Passage, TrainingGroup, UserError
from ablate.study.declaration import DeclaredCell, build_study
from ablate.study.planning import Given, declared_cells, of_declaration
from analysis.stats.matrix import Cell
from analysis.verdict.declarable import check_plan, check_study, clusters_of, direction_of

STUDIES = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml") if "\nstudy:" in path.read_text("utf-8"))
PLACE = "d/test", "plain", "plain", "nDCG@10"


def bed(**changes: Any) -> EvaluationSet:
    """Two base queries, each original and changed; q0-c is the only opposite of q0-r."""
    queries = [
        EvaluationQuery(f"q{number}-{name[0]}", f"q{number}", f"query {number}", f"{name} {number}", name, name)
        for number in range(2)
        for name in ("original", "changed", "reversed")
    ]
    values: dict[str, Any] = dict(
        name="bed/test",
        documents=tuple(Passage(f"d{number}", f"text {number}") for number in range(6)),
        queries=tuple(queries),
        qrels={"q0-o": {"d0": 1, "d1": 1}, "q0-c": {"d0": 1, "d1": 0}, "q0-r": {"d1": 1}, "q1-o": {"d2": 1}},
        changed_documents={"q0-c": ("d1",)},
        opposites=(("q0-c", "q0-r"),),
    )
    return EvaluationSet(**{**values, **changes})


def said(findings: list[checking.Finding]) -> str:
    return "\n".join(f"{finding.level}: {finding.text}" for finding in findings)


def test_texts_are_compared_without_case_and_white_space() -> None:
    assert checking.normal("  Films\tabout the\u00a0SEA ") == "films about the sea"


# --- rows -------------------------------------------------------------------------------------------------------------


def test_sound_rows_give_counts_and_nothing_else() -> None:
    found = checking.read_rows(HandMadeSource(8, paraphrase="").rows(), 2)
    assert (found.num_rows, len(found.query_ids), found.unique_queries) == (16, 8, 8)
    assert dict(found.lacking) == {"paraphrase": 16} and len(found.sample) == 2 and not found.findings
    assert found.positives["query 3"] == {"q3r0+", "q3r1+"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"instruction": "Only  films", "reversed_instruction": "only films"},
            "16 of 16 rows carry the same instruction on both sides",
        ),
        ({"hard_negatives": ("x",), "positives": ("x",)}, "16 of 16 rows have a passage that is positive and negative"),
        (
            {"instruction": "same", "instruction_negatives": ("q0r0+",)},
            "1 of 16 rows label a passage the other way round than a row of the same query and instruction "
            "(first: q0r1)",
        ),
    ],
)
def test_rows_that_contradict_themselves(changes: dict[str, Any], words: str) -> None:
    found = said(checking.read_rows(HandMadeSource(8, **changes).rows()).findings)
    assert words in found and found.startswith("FAILED: training: ")


def test_a_mix_of_few_queries_is_said_below_a_tenth() -> None:
    assert checking.few_queries(52, 512) == []
    (finding,) = checking.few_queries(10, 512)
    assert finding.level == "warning" and "512 training rows are 10 unique queries" in finding.text


# --- sets -------------------------------------------------------------------------------------------------------------


def test_a_sound_set_has_no_finding() -> None:
    assert checking.contradictions(bed()) == checking.unmeasured(bed()) == []
    assert checking.counts_of(bed())[0] == {
        "set": "bed/test",
        "condition": "original",
        "queries": 2,
        "judged": 2,
        "with positives": 2,
        "changed documents": 0,
    }


def test_labels_that_contradict() -> None:
    twice = EvaluationQuery("q0-again", "q9", "QUERY 0", " original 0", "original", "original")
    labels = {**bed().qrels, "q0-again": {"d0": 0, "d5": 1}}
    found = checking.contradictions(bed(queries=(*bed().queries, twice), qrels=labels))
    assert "1 documents are relevant and not relevant to the same query and instruction (first: q0-ag" in said(found)
    (excluded,) = checking.contradictions(bed(changed_documents={"q0-c": ("d0", "d1")}))
    assert "1 documents are relevant under an instruction and listed as excluded by it (first: q0-c" in excluded.text


def test_both_sides_of_a_pair_with_one_instruction() -> None:
    queries = tuple(one._replace(instruction="the same") for one in bed().queries)
    found = said(checking.contradictions(bed(queries=queries, qrels={"q0-o": {"d0": 1}}, changed_documents={})))
    assert "FAILED: bed/test: 1 complementary pairs carry the same instruction on both sides (first: q0-c)" in found


def test_variants_without_an_original_are_said() -> None:
    queries = tuple(one for one in bed().queries if one.query_id != "q0-o")
    (finding,) = checking.unmeasured(bed(queries=queries))
    assert "p-MRR is not measured for 2 of 4 instructed queries (first: q0-c)" in finding.text and "og" in finding.text


def test_a_set_without_relevant_documents_fails_and_a_query_without_is_said() -> None:
    (finding,) = checking.unmeasured(bed(qrels={"q0-o": {"d0": 0}}))
    assert finding.level == "FAILED" and "no query has a relevant document" in finding.text
    (finding,) = checking.unmeasured(bed(qrels={"q0-o": {"d0": 0}, "q1-o": {"d2": 1}}))
    assert finding.level == "warning" and "1 judged queries have no relevant document" in finding.text


# --- leaks ------------------------------------------------------------------------------------------------------------


def test_a_shared_pair_is_told_by_its_texts_not_by_ids() -> None:
    trained = {"query 0": {"a"}, "query 7": {"b"}}
    (finding,) = checking.overlap(trained, {"a": Passage("a", "TEXT  0"), "b": Passage("b", "text 2")}, bed())
    assert finding.level == "FAILED"
    assert "3 of 4 judged queries are training queries too (first: q0-o), and 2 judged pairs are tra" in finding.text
    (finding,) = checking.overlap({"query 0": {"d0"}}, {"d0": Passage("d0", "something else")}, bed())
    assert finding.level == "warning" and "with other relevant documents" in finding.text
    assert checking.overlap({"query 7": {"d0"}}, {}, bed()) == []


def test_a_rare_leak_is_a_warning() -> None:
    many = tuple(EvaluationQuery(f"p{n}", f"p{n}", f"query {n}", "", "plain", "plain") for n in range(200))
    one = bed(queries=many, qrels={query.query_id: {"d0": 1} for query in many}, changed_documents={}, opposites=())
    (finding,) = checking.overlap({"query 5": {"a"}}, {"a": Passage("a", "text 0")}, one)
    assert finding.level == "warning" and "1 of 200 judged queries" in finding.text


def test_one_text_under_two_ids_is_told_of_rows_and_of_sets() -> None:
    (row,) = list(HandMadeSource(1).rows())[:1]
    texts = {doc_id: doc_id for doc_id in (*row.positives, *row.hard_negatives, *row.instruction_negatives)}
    assert not checking.equal_passages([row], texts)
    texts[row.hard_negatives[-1]] = row.positives[0]
    words = "FAILED: training: 1 of 1 rows have the text of a positive under another id as negative (first: "
    assert said(checking.equal_passages([row], texts)).startswith(f"{words}{row.row_id}: ")
    assert not checking.equal_documents(bed())
    documents = tuple(Passage(f"d{number}", f"text {max(number, 1)}") for number in range(6))
    found = said(checking.equal_documents(bed(documents=documents)))
    assert found.startswith("warning: bed/test: 1 documents have the text of a relevant one and are not relevant")
    assert found.endswith("in 1 queries (first: q0-c: d0 and d1)")


def test_shared_relevant_documents_are_told_by_their_texts() -> None:
    assert not checking.shared_documents({"another text"}, bed())
    found = said(checking.shared_documents({"text 1"}, bed()))
    assert found.startswith("warning: bed/test: 1 of 3 relevant documents are positives of training rows too (")


def test_what_a_run_says() -> None:
    group = TrainingGroup("r/plain", "q", "Query 0", "", "plain", ("d0",), ("d5",), ())
    passages = {"d0": Passage("d0", "text 0"), "d5": Passage("d5", "text 5")}
    (leak,) = checking.of_run([group], passages, [bed()])
    assert "3 of 4 judged queries are training queries too" in leak
    few, _ = checking.of_run([group] * 11, passages, [bed()])
    assert "11 training rows are 1 unique queries" in few
    assert checking.of_run((), {}, [bed()]) == []
    (same,) = checking.of_run([group], {**passages, "d5": Passage("d5", "Text  0")}, [])
    assert same.startswith("training: 1 of 1 rows have the text of a positive under another id as negative (")


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_folder_with_a_leak_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = [{"_id": f"d{number}", "text": f"text {number}"} for number in range(3)]
    queries = [{"_id": "a", "text": "one query"}, {"_id": "b", "text": "One  Query"}, {"_id": "c", "text": "another"}]
    labels = {"train": qrels("a d0 1"), "test": qrels("b d0 1", "c d1 1")}
    folder = write(tmp_path / "leaky", corpus, queries, labels)
    (folder / "qrels" / "more.txt").write_text("not read")
    words = (str(folder), "source.rows=all", "model=tiny")
    assert check.main(words) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAILED: leaky/test: 1 of 2 judged queries are training queries too (first: b), and a judged")
    assert "files that are not read: qrels/more.txt" in out and "1 without instruction" in out
    assert check.main([*words, "--json", "--rows", "0"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["level"] for one in found["findings"]] == ["FAILED", "warning"] and found["sample"] == []
    assert check.main([str(folder), "model=tiny"]) == 1
    assert "no row has all of positives, instruction" in capsys.readouterr().out


def test_a_sound_folder_passes_and_shows_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([str(instructed(tmp_path / "sound")), "model=tiny"]) == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out and "row q1:new:0" in out and "instruction           only new of q1" in out
    assert [line.split() for line in out.splitlines() if line.startswith("sound/test  plain")] == [
        ["sound/test", "plain", "1", "1", "1", "0"]
    ]


def test_a_folder_without_og_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = [{"_id": f"d{number}", "text": f"text {number}"} for number in range(3)]
    queries = [query("a", "plain", "train"), *(query("b", one, "test") for one in ("plain", "new"))]
    labels = {"train": qrels("a d0 1"), "test": qrels("b d1 1", "b d2 1"), "new_test": qrels("b-new d1 1")}
    check.main([str(write(tmp_path / "folder", corpus, queries, labels)), "source.rows=all", "model=tiny"])
    words = "warning: folder/test: p-MRR is not measured for 1 of 1 instructed queries (first: b-new)"
    assert words in capsys.readouterr().out


def test_a_dev_set_that_the_source_has_not_is_told_with_both_keys(tmp_path: Path) -> None:
    folder = instructed(tmp_path / "sound")
    words = ["source=beir", override("source.path", str(folder)), "evaluation.sets=[test]", "runtime.dev_set=nothing"]
    with pytest.raises(
        UserError, match=r"no evaluation set 'nothing'; it has: .*keys evaluation.sets and runtime.dev_set"
    ):
        check.check(words)


def test_hard_negatives_that_are_mined_later_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, lacking = str(instructed(tmp_path / "sound")), "5 without hard_negatives"
    for miner, said_of_it in (("bm25", " (mined later, miner.kind=bm25)"), ("none", "")):
        check.main([folder, "model=tiny", f"+miner={miner}"])
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("rows: "))
        assert f"{lacking}{said_of_it}" in line and ("mined" in line) == bool(said_of_it)


def test_lengths_are_those_of_the_arms_tokenizer(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("source.documents=600", "evaluation.sets=[test]", "runtime.dev_set=null", "--rows", "0")
    assert check.main([*words, "model.query_length=8", "model.passage_length=512"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lengths, world/test")]
    assert "queries are cut to model.query_length=8, 0 of" in line and not line.startswith("lengths, world/test: 0 ")


# --- studies ----------------------------------------------------------------------------------------------------------


def test_places_are_those_of_a_real_evaluation() -> None:
    scores = rank_and_score(plain_ranker("random", 0), [bed()], depth=6).scores
    units: dict[tuple[str, ...], list[str]] = {}
    for score in scores:
        units.setdefault((score.dataset, score.condition, score.direction, score.measure), []).append(score.unit_id)
    assert places(bed()) == units
    assert places(bed())["bed/test", "changed", "changed", "p-MRR"] == ["q0"]


def claim(**changes: Any) -> dict[str, Any]:
    names = dict(zip(("dataset", "condition", "direction", "measure"), PLACE, strict=True))
    return {"name": "c", "says": "s", "contrast": "b - a", "expects": "greater", **names, **changes}


CLUSTERS = {
    "template": [f"t{number % 10}" for number in range(24)],
    "constraint": [f"c{number % 9}" for number in range(24)],
    "form": ["short"] * 24,
    "topic": ["a", ""] * 12,
}
"""Of the 24 units of PLACE."""


def notes(num_seeds: int, *claims: dict[str, Any], trained: tuple[str, ...] = ("a", "b"), **more: Any) -> list[str]:
    block = {"question": "q", "arms": ["a", "b"], "seeds": list(range(num_seeds)), "claims": list(claims), **more}
    cells = {Cell(*PLACE): dict(CLUSTERS), Cell("d/test", "changed", "new", "p-MRR"): {}}
    return check_study(build_study(block), ["a", "b"], trained, cells)


def test_what_can_only_end_in_one_verdict_is_a_note() -> None:
    assert notes(5, claim()) == notes(1) == notes(3, claim(), trained=()) == []
    (note,) = notes(3, claim(), claim(name="d", expects="not_worse", margin=0.1))
    assert note.startswith("at most 3 seeds: 2 claims ('c', 'd') can only be EXPLORATORY")
    assert notes(4, claim(), looks=[3])[0].startswith("at most 3 seeds")
    p_mrr = claim(condition="changed", direction="new", measure="p-MRR")
    (note,) = notes(5, p_mrr)
    assert note.startswith("no margin of nDCG@10: the claim 'c' on p-MRR cannot be SUPPORTED")
    assert notes(5, p_mrr, margins=[["nDCG@10", 0.02]]) == []


def test_a_claim_is_tested_at_a_level_and_at_looks_that_confirm() -> None:
    assert notes(5, claim(alpha=0.05)) == notes(5, claim(alpha=0.01)) == notes(10, claim(), looks=[5, 10]) == []
    with pytest.raises(UserError, match=r"'c' has alpha=0.1; a claim is tested at 0.05 or below .* leave alpha out"):
        notes(5, claim(alpha=0.1))
    said = r"study.looks=\[3, 4, 5\] has looks at 3 and 4 seeds, .* takes 5; leave them out \(study.looks=\[5\]\)"
    with pytest.raises(UserError, match=said):
        notes(5, claim(), looks=[3, 4, 5])
    assert notes(5, looks=[3, 5]) == notes(5, claim(), looks=[3, 5], trained=()) == []


def test_a_population_has_clusters_enough_to_confirm() -> None:
    assert notes(5, claim(population="template")) == notes(5, claim(population="queries")) == []
    few = "'c': 9 clusters of the kind 'constraint' cannot confirm anything over new ones: that takes 10"
    with pytest.raises(UserError, match=few):
        notes(5, claim(population=["template", "constraint"]))
    with pytest.raises(UserError, match=few):
        notes(1, claim(population="constraint"), trained=())
    (note,) = notes(3, claim(population="constraint"))  # exploratory in any case
    assert note.startswith("at most 3 seeds")
    with pytest.raises(UserError, match="kind 'templates'; population is queries or .*; did you mean template"):
        notes(5, claim(population="templates"))
    with pytest.raises(UserError, match="12 of 24 units of .* are in no cluster of the kind 'topic'; name theirs"):
        notes(5, claim(population="topic"))
    cells = {Cell(dataset, *PLACE[1:]): dict(CLUSTERS) for dataset in ("d/test", "d/test_seen")}
    wide = {"question": "q", "arms": ["a", "b"], "seeds": [*range(5)]}
    wide["claims"] = [claim(dataset="macro", population="constraint")]
    with pytest.raises(UserError, match=few):  # the same nine on both data sets
        check_study(build_study(wide), ["a", "b"], ("a", "b"), cells)
    assert notes(5, claim(), claim(name="d", population="template")) == []  # two tests
    with pytest.raises(UserError, match="'c' and 'd' are one test under two names"):
        notes(5, claim(population="template"), claim(name="d", population=["template"]))


def test_clusters_are_counted_by_the_units_of_a_place() -> None:
    found = clusters_of(dataclasses.replace(bed(), clusters={"topic": {"q0": "t"}}))
    assert set(found) == {Cell(*place) for place in places(bed())}
    assert {kind for kinds in found.values() for kind in kinds} == {"topic"}
    assert found[Cell("bed/test", "changed", "changed", "p-MRR")]["topic"] == ("t",)


def test_a_margin_is_held_against_the_largest_difference() -> None:
    p_mrr = claim(condition="changed", direction="new", measure="p-MRR", expects="equivalent")
    assert notes(5, {**p_mrr, "margin": 1.5}) == []
    with pytest.raises(UserError, match="'c': the margin 2 must lie between 0 and 2, the largest difference of p-MRR"):
        notes(5, {**p_mrr, "margin": 2.0})
    with pytest.raises(UserError, match="the margin 1.5 must lie between 0 and 1, the largest difference of nDCG@10"):
        notes(5, claim(expects="not_worse", margin=1.5))
    assert notes(5, claim(contrast="trend: a=0, b=0.01", expects="not_worse", margin=1.5)) == []


def test_a_place_may_leave_out_its_only_direction_and_span_all_sets() -> None:
    (made,) = build_study({"question": "q", "arms": ["a"], "seeds": [0], "claims": [claim(direction="")]}).claims
    assert direction_of(made, [Cell(*PLACE)]) == "plain"
    (made,) = build_study({"question": "q", "arms": ["a"], "seeds": [0], "claims": [claim(dataset="macro")]}).claims
    assert direction_of(made, [Cell(*PLACE), Cell("e/test", *PLACE[1:])]) == "plain"


@pytest.mark.parametrize("name", STUDIES)
def test_every_shipped_study_can_be_judged(name: str) -> None:
    from ablate.data.sources import open_sets
    from ablate.recipe.build import build_run

    values = compose(f"+sweeps={name}", *(["source.path=DIR"] if name in ("films", "movies") else []))
    study = build_study(values.pop("study"))
    config = build_run(values)
    found = None
    if name not in ("films", "movies"):  # its folder need not be here
        source = open_sets(config.recipe.source, (), Path("caches"))
        found = [source.evaluation_set(one) for one in config.recipe.evaluation.sets]
    few = len(study.seeds) < 5
    place = [Given("source.path", ("DIR",), False)] if name in ("films", "movies") else []
    first = dataclasses.replace(study, seeds=study.seeds[:1])
    cells = declared_cells(of_declaration(name, first, place), {}, _composed_with_label, ids)
    assert len(check_plan(study, {}, cells, [], found)) == (1 if few and study.claims else 0)


def test_claims_are_about_declared_cells_planned_or_not() -> None:
    block = {"question": "q", "arms": ["a", "b"], "seeds": [0], "claims": [claim()]}
    study = build_study(block)
    a, b = (DeclaredCell(label=arm, seed=0, arm_id="0" * 16, differs={}) for arm in ("a", "b"))
    (note,) = check_plan(study, {"a": "trained"}, [a, b], [], None)
    assert note.startswith("at most 1 seeds")
    assert check_plan(study, {"a": "bm25"}, [a, b], [], None) == []  # b has the same ranker: it differs in nothing
    other = dataclasses.replace(b, differs={"ranker": "trained"})
    assert len(check_plan(study, {"a": "bm25"}, [a, other], [], None)) == 1
    with pytest.raises(UserError, match="'c': .*b"):
        check_plan(study, {"a": "bm25"}, [a], [], None)
    nameless = dataclasses.replace(b, label="+experiment=b", seed=None, arm_id=None, reason="no such key")
    (note,) = check_plan(study, {"a": "bm25"}, [a, nameless], [], None)
    assert note == (
        "the claims are not checked: 1 of 2 declared runs have no name, because they cannot be composed (no such key)"
    )


def test_a_run_says_it_before_training_and_above_its_scores(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from test_bad_inputs import call

    corpus = [{"_id": f"d{number}", "text": f"text number {number}"} for number in range(12)]
    queries = [{"_id": f"q{number}", "text": f"number {number}"} for number in range(5)]
    queries.append({"_id": "again", "text": "Number  0"})
    labels = {"train": qrels(*(f"q{number} d{number} 1" for number in range(4))), "dev": qrels("again d0 1", "q4 d4 1")}
    folder = write(tmp_path / "leaky", corpus, queries, labels)
    words = (
        "+experiment=query_only",
        "source=beir",
        override("source.path", str(folder)),
        "source.rows=all",
        "model=tiny",
        "miner.skip=0",
        "miner.count=1",
        "miner.depth=5",
        "budget.limit=4",
        "budget.negatives_per_group=1",
        "train.batch_size=2",
        "tracker=none",
        override("runtime.results", str(tmp_path / "results")),
        "runtime.threads=1",
    )
    warning = "warning: leaky/dev: 1 of 2 judged queries are training queries too (first: again), and a judged pair"
    code, error = call(("ablate.run", *words))
    out = capfd.readouterr().out
    assert code == 0 and warning in error and warning in out
    assert out.index("training: ") < out.index(warning) < out.index("condition ")
    code, error = call(("ablate.run", *words))
    assert code == 0 and warning not in error and warning in capfd.readouterr().out
