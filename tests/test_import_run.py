"""Rankings of other systems as arms of a study: scored by what its own evaluations keep, or refused."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from ablate.evaluation.rankers import Lexical, Random
from ablate.evaluation.scoring import rank_and_score, score_set
from ablate.evaluation.storage import (
    judgments_digest,
    read_clusters,
    read_evaluation,
    read_judgments,
    read_scores,
    write_evaluation,
)
from ablate.evaluation.trec import write_run
from ablate.recipe.identity import SCORING
from ablate.records import EvaluationQuery, EvaluationSet, Passage, UserError
from ablate.retrieval.rankings import Ranking, rank
from ablate.store.files import CLUSTERS_FILE, JUDGMENTS_FILE
from ablate.store.manifest import is_deterministic
from ablate.store.results import ResultStore
from analysis import significance
from analysis.collect import main as collect_main
from analysis.external.imported import study_beds
from analysis.fairness import main as fairness_main
from analysis.import_run import main
from analysis.study.checks import judgments_by_run
from analysis.study.evidence import Evidence
from analysis.study.fairness import examine
from analysis.study.runs import deterministic_arms

TEXTS = {"a": "red bird", "b": "red fish", "c": "blue fish", "d": "green tree"}


def toy(name: str) -> EvaluationSet:
    queries = [
        (f"{base}{end}", base, "fish", instruction, condition, direction)
        for base in ("q1", "q2")
        for end, instruction, condition, direction in (
            ("", "", "plain", "plain"),
            ("-og", "any", "original", "og"),
            ("-red", "red", "changed", "red"),
            ("-blue", "blue", "reversed", "blue"),
        )
    ]
    return EvaluationSet(
        name=name,
        documents=tuple(Passage(doc_id, text) for doc_id, text in TEXTS.items()),
        queries=tuple(EvaluationQuery(*query) for query in queries),
        qrels={
            q: {doc_id: 1 for doc_id in grades}
            for base in ("q1", "q2")
            for q, grades in ((base, "bc"), (f"{base}-og", "bc"), (f"{base}-red", "b"), (f"{base}-blue", "c"))
        },
        changed_documents={
            f"{base}-{end}": (lost,) for base in ("q1", "q2") for end, lost in (("red", "c"), ("blue", "b"))
        },
        opposites=(("q1-red", "q1-blue"), ("q2-red", "q2-blue")),
        pairs={("q1-red", "q1-blue"): (("b", "c"),)},
    )


def record(
    root: Path, arm: str, seed: int, *sets: EvaluationSet, depth: int = 4, keep: bool = True, **recorded: Any
) -> Path:
    """Leave a complete evaluation of random order, as a run does; `recorded` joins the recipe of the evaluation."""
    from ablate.recipe.values import digest

    store = ResultStore(root)
    recipe: dict[str, Any] = {"stage": "evaluation", "train": arm, "seed": seed, "scoring": SCORING}
    recipe["evaluation"] = {"depth": depth, **recorded}
    folder = store.folder("evaluation", digest(recipe))
    folder.mkdir(parents=True)
    result = rank_and_score(Random(seed), sets, depth=depth)
    files = write_evaluation(folder, result if keep else dataclasses.replace(result, sets={}))
    counts = {"scores": len(result.scores), "candidates": result.candidates}
    store.complete(
        "evaluation",
        recipe,
        files=files,
        parents=(),
        seed=seed,
        label=f"s/{arm}",
        counts=counts,
        hardware={},
        cost={},
        started="",
    )
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in (0, 1):
        record(tmp_path / "results", "a", seed, toy("toy/test"), toy("toy/dev"))
    return tmp_path / "results"


def run_file(path: Path, rankings: list[Ranking]) -> str:
    write_run(path, rankings, tag="other")
    return str(path)


def bm25(with_instruction: bool = True) -> list[Ranking]:
    return Lexical(with_instruction=with_instruction)(toy("toy/test"), 4).rankings


def call(results: Path, *words: str, name: str = "other") -> int:
    return main(["--results", str(results), "--study", "s", "--name", name, *words])


def test_clusters_are_kept_once_beside_the_judgments(tmp_path: Path) -> None:
    named = dataclasses.replace(toy("toy/test"), clusters={"topic": {"q1": "fish", "q2": "birds"}})
    assert judgments_digest(named) == judgments_digest(toy("toy/test"))  # they decide no score
    evaluation = rank_and_score(Random(0), [named, toy("toy/dev")], depth=4)
    assert CLUSTERS_FILE in write_evaluation(tmp_path, evaluation)
    assert set(read_clusters(tmp_path)) == {"toy/test"}
    kept = read_clusters(tmp_path)["toy/test"]
    assert [kept.of("topic", unit) for unit in ("q1", "q1-red", "q2-og", "strange")] == ["fish", "fish", "birds", ""]
    assert kept.of("form", "q1") == ""
    assert read_judgments(tmp_path)["toy/test"].clusters == named.clusters
    (tmp_path / CLUSTERS_FILE).unlink()  # as evaluations of before
    assert read_clusters(tmp_path) == {} and read_judgments(tmp_path)["toy/test"].clusters == {}


def test_clusters_of_no_base_query_are_refused() -> None:
    strange = dataclasses.replace(toy("toy/test"), clusters={"topic": {"strange": "t"}})
    with pytest.raises(UserError, match=r"base query 'strange' is in a cluster \(topic\) and has no query"):
        rank_and_score(Random(0), [strange], depth=4)
    queries = [q._replace(base_id="q1-og") if q.base_id == "q2" else q for q in toy("toy/test").queries]
    both = dataclasses.replace(toy("toy/test"), queries=tuple(queries), clusters={"topic": {"q1": "t"}})
    with pytest.raises(UserError, match="'q1-og' is a query of the base query 'q1' and the id of another base query"):
        rank_and_score(Random(0), [both], depth=4)


def test_judgments_come_back_without_the_texts(tmp_path: Path) -> None:
    one = toy("toy/test")
    rankings = bm25()
    evaluation = score_set(one, rankings, depth=4)
    assert JUDGMENTS_FILE in write_evaluation(tmp_path, evaluation)
    first = (tmp_path / JUDGMENTS_FILE).read_bytes()
    found = read_judgments(tmp_path)["toy/test"]
    assert found == dataclasses.replace(one, documents=tuple(Passage(doc_id, "") for doc_id in TEXTS))
    assert score_set(found, rankings, depth=4) == evaluation
    assert judgments_digest(found) == judgments_digest(one)
    turned = dataclasses.replace(one, documents=one.documents[::-1])
    assert judgments_digest(turned) == judgments_digest(one)
    other = dataclasses.replace(one, qrels={**one.qrels, "q1": {"b": 1}})
    assert judgments_digest(other) != judgments_digest(one)
    assert read_evaluation(tmp_path) == dataclasses.replace(evaluation, rankings={})
    write_evaluation(tmp_path, read_evaluation(tmp_path))
    assert (tmp_path / JUDGMENTS_FILE).read_bytes() == first  # what was read without judgments writes none


def test_an_imported_run_stands_in_the_study_with_exact_scores(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_file(tmp_path / "bm25.trec.gz", bm25())
    assert call(results, "--deterministic", f"toy/test={path}") == 0
    out = capsys.readouterr().out
    assert "toy/dev: no run file; other has no scores there" in out
    store = ResultStore(results)
    manifest = store.by_arm("evaluation", "s")["other", 0]
    assert manifest.recipe["stage"] == "imported" and is_deterministic(manifest) and store.damaged(manifest) == []
    assert manifest.counts["imported_from"] == {"toy/test": [path]}
    folder = store.folder("evaluation", manifest.id)
    assert read_scores(folder / "scores.parquet") == score_set(toy("toy/test"), bm25(), depth=4).scores
    scores = read_scores(folder / "scores.parquet")
    assert {score.value for score in scores if score.measure == "nDCG@10"} == {1.0}
    changes = {(score.unit_id, score.direction): score.value for score in scores if score.measure == "p-MRR"}
    # original: c b d a (fish; ties by id); red: b c a d, so c goes from 1 to 2; blue: c b d a, so b stays
    assert changes == {("q1", "red"): 0.5, ("q2", "red"): 0.5, ("q1", "blue"): 0.0, ("q2", "blue"): 0.0}

    evidence = Evidence(results, "s")
    assert deterministic_arms(evidence.runs) == {"other"}
    assert set(evidence.long_table()["arm"].to_pylist()) == {"a", "other"}
    assert collect_main(["s", "--results", str(results), "--out", str(tmp_path / "s.parquet")]) == 0
    assert "--deterministic other" in capsys.readouterr().out


def test_the_same_import_twice_is_a_no_op_and_another_content_is_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_file(tmp_path / "x.trec", bm25())
    other = run_file(tmp_path / "y.trec", bm25(with_instruction=False))
    assert call(results, "--seed", "3", f"toy/test={path}") == 0
    before = {p: p.stat().st_mtime_ns for p in results.rglob("*") if p.is_file()}
    assert call(results, "--seed", "3", f"toy/test={path}") == 0
    assert "these files are there already" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in results.rglob("*") if p.is_file()} == before
    for words, message in (
        (("--seed", "3", f"toy/test={other}"), "has 'other' (asked for: seed 3) imported from other files"),
        (("--deterministic", f"toy/test={other}"), "has 'other' imported with seed 3; use another --name, or delete "),
    ):
        assert call(results, *words) == 2
        assert message in capsys.readouterr().err
    assert call(results, "--seed", "4", f"toy/test={other}") == 0
    found = ResultStore(results).by_arm("evaluation", "s")
    assert {key for key in found if key[0] == "other"} == {("other", 3), ("other", 4)}
    assert not is_deterministic(found["other", 3])
    assert call(results, "--seed", "9", f"toy/test={other}", name="a") == 2
    assert "has an arm 'a' that was run here; import under another --name" in capsys.readouterr().err


def test_conditions_may_come_in_several_files(results: Path, tmp_path: Path) -> None:
    parts = [run_file(tmp_path / f"{n}.trec", bm25()[n::2]) for n in (0, 1)]
    words = [f"toy/test={part}" for part in parts]
    whole = run_file(tmp_path / "whole.trec", bm25())
    other = run_file(tmp_path / "other.trec", bm25(with_instruction=False))
    assert call(results, "--seed", "0", *words, f"toy/dev={whole}", "--seed", "1", f"toy/test={other}") == 0
    store = ResultStore(results)
    found = store.by_arm("evaluation", "s")
    scores = read_scores(store.folder("evaluation", found["other", 0].id) / "scores.parquet")
    expected = [score_set(toy(name), bm25(), depth=4).scores for name in ("toy/test", "toy/dev")]
    assert scores == (*expected[0], *expected[1])
    assert call(results, "--seed", "0", f"toy/test={whole}", *words, name="twice") == 2


def test_honest_imports_beside_honest_arms_fail_no_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recipes of imports hold a depth and judgments, those of arms run here sets, a source and a batch."""
    results = tmp_path / "results"
    both = (toy("toy/test"), toy("toy/dev"))
    own = {"sets": ["test", "dev"], "batch_size": 4, "source": {"kind": "beir", "revision": "1"}}
    for seed in (0, 1):
        record(results, "a", seed, *both, **own)
        record(results, "b", seed, *both, **own)
    without_batch = {name: value for name, value in own.items() if name != "batch_size"}
    for seed in (0, 1):
        record(results, "bm25", seed, *both, **without_batch)
    files = [run_file(tmp_path / f"{n}.trec", bm25(with_instruction=n == 0)) for n in (0, 1)]
    given = [("--seed", str(n), f"toy/test={file}", f"toy/dev={file}") for n, file in enumerate(files)]
    assert call(results, *given[0], *given[1], name="trained_elsewhere") == 0
    assert call(results, "--deterministic", f"toy/test={files[0]}", f"toy/dev={files[0]}", name="hosted") == 0
    assert call(results, "--deterministic", f"toy/test={files[1]}", name="on_one_set") == 0
    store = ResultStore(results)
    checks = {check.name: check for check in examine(Evidence(results, "s"))}
    assert [check for check in checks.values() if not check.ok] == []
    assert checks["same units"].found.endswith("; on_one_set (0) without toy/dev")

    posed = tuple(dataclasses.replace(one, provenance={"separator": "x"}) for one in both)
    record(results, "b", 2, *posed, **own)
    by_run = judgments_by_run(Evidence(results, "s"))
    assert len({json.dumps(found, sort_keys=True) for found in by_run.values() if len(found) == 2}) == 1
    assert study_beds(store, "s").sets["toy/test"].provenance == {}  # no arm's own way of posing is refused
    shutil.rmtree(store.folder("evaluation", store.by_arm("evaluation", "s")["b", 2].id))

    changed = dataclasses.replace(both[0], qrels={**both[0].qrels, "q1": {"d": 1}})
    record(results, "c", 0, changed, both[1], **own)
    record(results, "c", 1, changed, both[1], **own)
    (failed,) = (check for check in examine(Evidence(results, "s")) if not check.ok)
    assert failed.name == "same protocol" and failed.found.startswith("judgments of toy/test differ in c (0, 1)")
    assert fairness_main(["s", "--results", str(results), "--json", str(tmp_path / "new" / "x.json")]) == 0
    assert (tmp_path / "new" / "x.json").is_file()


def test_one_file_is_not_two_training_seeds(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_file(tmp_path / "x.trec", bm25())
    copy = run_file(tmp_path / "y.trec.gz", bm25())
    (tmp_path / "z.trec").write_bytes((tmp_path / "x.trec").read_bytes())
    before = sorted(results.rglob("*"))
    for second in (path, str(tmp_path / "z.trec")):
        assert call(results, "--seed", "0", f"toy/test={path}", "--seed", "1", f"toy/test={second}") == 2
        assert "run file of toy/test is given for seeds 0 and 1" in capsys.readouterr().err
        assert sorted(results.rglob("*")) == before  # not even the first seed was imported
    assert call(results, "--seed", "0", f"toy/test={path}") == 0
    assert call(results, "--seed", "1", f"toy/test={path}") == 2  # nor in a later command
    assert "a system without training randomness once, by --deterministic" in capsys.readouterr().err
    assert call(results, "--deterministic", f"toy/test={copy}", f"toy/dev={copy}", name="twice") == 0  # two data sets


def test_a_bad_file_of_one_seed_keeps_all_seeds_out(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = run_file(tmp_path / "good.trec", bm25())
    (tmp_path / "bad.trec").write_text("q0 Q0 nowhere 1 1.0 x\n")
    before = sorted(results.rglob("*"))
    assert call(results, "--seed", "0", f"toy/test={good}", "--seed", "1", f"toy/test={tmp_path / 'bad.trec'}") == 2
    assert "bad.trec" in capsys.readouterr().err and sorted(results.rglob("*")) == before


def test_short_constant_and_tied_rankings_are_told_above_the_scores(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = [query.query_id for query in toy("toy/test").queries]
    given = [rank(query_id, list("abcd"), [4.0, 3.0, 2.0, 1.0]) for query_id in queries]
    given[0] = rank(queries[0], ["a", "b"], [2.0, 1.0])
    given[1] = rank(queries[1], list("abcd"), [1.0] * 4)
    given[2] = rank(queries[2], list("abcd"), [2.0, 1.0, 1.0, 0.0])
    path = run_file(tmp_path / "odd.trec", given)
    assert call(results, "--deterministic", f"toy/test={path}") == 0
    out = capsys.readouterr().out
    assert "1 of 8 rankings are shorter than the study's (the shortest has 2 of 4 documents)" in out
    assert "1 of 8 rankings have one score for all documents: their ids alone decide" in out
    assert "6 of 30 documents (20%) in 2 rankings share their score (float32)" in out
    assert out.index("20%") < out.index("nDCG@10")
    clean = run_file(tmp_path / "clean.trec", given[3:] + [rank(q, list("abcd"), [4, 3, 2, 1]) for q in queries[:3]])
    assert call(results, "--deterministic", f"toy/test={clean}", name="clean") == 0
    assert "rankings" not in capsys.readouterr().out


def test_gaps_are_scored_by_contract_and_said(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [ranking for ranking in bm25() if ranking.query_id != "q2-red"]
    given[0] = rank(given[0].query_id, ["b"], [1.0])
    path = run_file(tmp_path / "gaps.trec", [*given, rank("q9", ["a"], [1.0])])
    assert call(results, "--deterministic", f"toy/test={path}") == 0
    out = capsys.readouterr().out
    assert "toy/test: 1 of 8 queries have no ranking and score 0: q2-red" in out
    assert "toy/test: 1 queries of the file are not in the set and are ignored: q9" in out
    assert "unlike lengths" in out
    store = ResultStore(results)
    manifest = store.by_arm("evaluation", "s")["other", 0]
    assert any("q2-red" in note for note in manifest.counts["notes"])
    scores = read_scores(store.folder("evaluation", manifest.id) / "scores.parquet")
    values = {(s.unit_id, s.measure, s.direction): s.value for s in scores}
    assert values["q2-red", "nDCG@10", "red"] == 0.0
    assert ("q2", "p-MRR", "red") not in values and ("q2", "p-MRR", "blue") in values
    assert values["q1", "nDCG@10", "plain"] == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_imports_have_the_gain_or_say_why_not(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ResultStore(results)

    def gains(name: str) -> dict[str, float]:
        folder = store.folder("evaluation", store.by_arm("evaluation", "s")[name, 0].id)
        return {s.unit_id: s.value for s in read_scores(folder / "scores.parquet") if s.measure == "instruction gain"}

    path = run_file(tmp_path / "whole.trec", bm25())
    assert call(results, "--deterministic", f"toy/test={path}", name="whole") == 0
    assert "changed red  instruction gain" in capsys.readouterr().out
    assert len(gains("whole")) == 6 and gains("whole")["q1-red"] > 0  # the red fish is first with its word alone
    reason = "judged queries with an instruction have no instruction gain: the plain query of the same base query is"
    for name, left_out, words in (
        ("part", ("q2",), f"3 of 6 {reason} not ranked, so it is left out on the whole set"),
        ("none", ("q1", "q2"), f"6 of 6 {reason} not ranked\n"),
    ):
        path = run_file(tmp_path / f"{name}.trec", [r for r in bm25() if r.query_id not in left_out])
        assert call(results, "--deterministic", f"toy/test={path}", name=name) == 0
        assert words in capsys.readouterr().out and not gains(name)


def test_a_collapse_of_an_import_is_told_above_its_scores(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = {"": "bcad", "-og": "bcad", "-red": "adcb", "-blue": "adbc"}  # with a colour everything is lost
    lost = [rank(f"{base}{end}", list(order), [4, 3, 2, 1]) for base in ("q1", "q2") for end, order in orders.items()]
    assert call(results, "--deterministic", f"toy/test={run_file(tmp_path / 'lost.trec', lost)}") == 0
    out = capsys.readouterr().out
    assert "  COLLAPSE, red: p-MRR x 100 is +" in out and out.index("COLLAPSE") < out.index("toy/test  plain")


def test_rankings_deeper_than_the_studys_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "r", "a", 0, toy("toy/test"), depth=2)
    path = run_file(tmp_path / "deep.trec", bm25())
    assert call(tmp_path / "r", "--deterministic", f"toy/test={path}") == 0
    assert "8 rankings were cut to the study's depth of 2" in capsys.readouterr().out
    store = ResultStore(tmp_path / "r")
    folder = store.folder("evaluation", store.by_arm("evaluation", "s")["other", 0].id)
    shallow = Lexical(with_instruction=True)(toy("toy/test"), 2).rankings
    assert read_scores(folder / "scores.parquet") == score_set(toy("toy/test"), shallow, depth=2).scores


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("q1 Q0 z 1 0.5 x\n", "query 'q1': document 'z' is not among the 4 documents of toy/test"),
        ("q1 Q0 a 1 nan x\n", "line 1: query 'q1', document 'a': the score is NaN"),
        ("q1 Q0 a 1 1 x\nq1 Q0 a 2 0 x\n", "line 2: query 'q1': document 'a' is there twice"),
        ("w1 Q0 a 1 1 x\n", "none of the 8 queries of toy/test is there (they are q1, q1-blue, q1-og and 5 more; the"),
        ("q1 a 1\n", "line 1: 3 columns, expected 6"),
        ("", "none of the 8 queries of toy/test is there"),
    ],
)
def test_a_run_file_that_cannot_be_scored_is_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str, words: str
) -> None:
    (tmp_path / "bad.trec").write_text(lines)
    before = sorted(results.glob("evals/*"))
    assert call(results, "--seed", "0", f"toy/test={tmp_path / 'bad.trec'}") == 2
    assert sorted(results.glob("evals/*")) == before
    err = capsys.readouterr().err
    assert err.startswith("error: ") and words in err and len(err.strip().splitlines()) == 1
    assert {arm for arm, _ in ResultStore(results).by_arm("evaluation", "s")} == {"a"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "x", "toy/test=F"), "--seed 'x' is no seed; it must be a whole number"),
        (("--seed", "0"), "--seed 0: give at least one DATASET=FILE behind it"),
        (("--seed", "0", "toy/test=F", "--seed", "0", "toy/test=F"), "--seed 0 is there twice"),
        (("--seed", "0", "F"), "'F' must be DATASET=FILE with a data set of the study: toy/dev, toy/test"),
        (("--seed", "0", "toy/none=F"), "'toy/none=F' must be DATASET=FILE"),
        (("--deterministic", "toy/test=/nowhere"), "/nowhere: no such file"),
    ],
)
def test_bad_words_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    path = run_file(tmp_path / "run.trec", bm25())
    assert call(results, *(word.replace("F", path) if word.endswith("F") else word for word in words)) == 2
    assert message.replace("F'", f"{path}'").replace("DATASET=FILE'", "DATASET=FILE") in capsys.readouterr().err


def test_names_and_studies_are_checked(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_file(tmp_path / "run.trec", bm25())
    assert call(results, "--seed", "0", f"toy/test={path}", name="untouched") == 2
    assert "is the name of the backbone before training" in capsys.readouterr().err
    assert main(["--results", str(results), "--study", "t", "--name", "o", "--seed", "0", f"toy/test={path}"]) == 2
    assert "no evaluation of a study 't'" in capsys.readouterr().err


def test_a_study_that_was_not_measured_alike_is_refused(tmp_path: Path) -> None:
    one = toy("toy/test")
    changes = {
        "the judgments of toy/test": dict(qrels={**one.qrels, "q1": {"b": 1}}),
        "the documents of toy/test": dict(documents=one.documents[:3] + (Passage("e", ""),)),
    }
    for number, (what, change) in enumerate(changes.items()):
        record(tmp_path / str(number), "a", 0, one)
        record(tmp_path / str(number), "b", 0, dataclasses.replace(one, **change))  # type: ignore[arg-type]
        with pytest.raises(UserError, match=f"differ in {what}; import into a study whose arms were all measured"):
            study_beds(ResultStore(tmp_path / str(number)), "s")
    record(tmp_path / "depth", "a", 0, one)
    record(tmp_path / "depth", "b", 0, one, depth=3)
    with pytest.raises(UserError, match="differ in the depth of their rankings"):
        study_beds(ResultStore(tmp_path / "depth"), "s")


def test_an_older_evaluation_needs_one_that_keeps_its_judgments(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    folder = record(tmp_path, "a", 0, toy("toy/test"), keep=False)
    with pytest.raises(UserError, match="no evaluation keeps the judgments of 'toy/test'.*\\+experiment=bm25"):
        study_beds(store, "s")
    with pytest.raises(UserError, match="made before judgments were kept"):
        read_judgments(folder)
    kept = record(tmp_path, "b", 0, toy("toy/test"))
    assert list(study_beds(store, "s").sets) == ["toy/test"]
    (kept / JUDGMENTS_FILE).write_bytes(b"x")
    with pytest.raises(UserError, match=r"judgments\.json\.gz was changed"):
        study_beds(store, "s")
    with pytest.raises(UserError, match="cannot be read"):
        read_judgments(kept)


def test_an_imported_arm_can_be_tested_against_those_run_here(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_file(tmp_path / "run.trec", bm25())
    assert call(results, "--deterministic", f"toy/test={path}", f"toy/dev={path}") == 0
    out = tmp_path / "scores.parquet"
    assert collect_main(["s", "--results", str(results), "--out", str(out)]) == 0
    arguments = ["--scores", str(out), "--baseline", "other", "--deterministic", "other", "--measure", "nDCG@10"]
    assert significance.main(arguments) == 0
    assert "a - other" in capsys.readouterr().out
