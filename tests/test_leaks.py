"""`analysis.leaks` and the row of fairness: what is found in a study whose test set holds training queries."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import override, run_config
from synthetic_study import make_quick

from ablate.data.mix import Mix, write_mix
from ablate.data.sources import open_source
from ablate.evaluation.storage import write_evaluation
from ablate.evaluation.summary import Evaluation
from ablate.recipe.values import digest, plain
from ablate.records import QueryScore, TrainingGroup
from ablate.store.files import CONFIG_FILE
from ablate.store.results import ResultStore
from analysis.leaks import main
from analysis.study.evidence import Evidence
from analysis.study.fairness import examine

NUM_QUERIES = 40
ROW = "no leak from training to evaluation"


@pytest.fixture(autouse=True)
def clean_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def text_of(number: int) -> str:
    return " ".join(f"n{number}w{word}" for word in range(20))


def write_folder(folder: Path) -> Path:
    """Write a BEIR folder: query qN is about document dN; the first 20 are split train, test has all."""
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{n}", "title": "", "text": text_of(n)} for n in range(NUM_QUERIES)]
    documents.append({"_id": "near", "title": "", "text": text_of(30) + " and more"})
    queries = [{"_id": f"q{n}", "text": f"query {n}"} for n in range(NUM_QUERIES)]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, number in (("train", 20), ("test", NUM_QUERIES)):
        lines = [f"q{n}\td{n}\t1\n" for n in range(number)]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


def group(query: int, document: int) -> TrainingGroup:
    return TrainingGroup(f"g{query}/plain", f"t{query}", f"Query  {query}", "", "plain", (f"d{document}",), (), ())


def make(
    root: Path,
    arms: Mapping[str, Sequence[TrainingGroup]],
    *,
    elsewhere: bool = False,
    sets: Sequence[str] = ("test",),
    seeds: Sequence[int] = (0, 1),
) -> ResultStore:
    """Write a study `s` with a mix of these groups for each arm, measured on the folder.

    Touched queries (q0 to q3) are .5 better in arm b. `elsewhere`: the mix says that it is of another source.
    """
    folder = write_folder(root / "data")
    config = run_config(
        "source=beir", override("source.path", folder), f"evaluation.sets=[{','.join(sets)}]", "tracker=none"
    )
    source = open_source(config.recipe.source, tuple(sets))
    beds = {bed.name: bed for bed in map(source.evaluation_set, sets)}
    store = ResultStore(root / "results")
    for arm, groups in arms.items():
        passages = {passage.doc_id: passage for g in groups for passage in source.passages(g.positives)}
        for seed in seeds:
            more: dict[str, Any] = {"label": f"s/{arm}", "seed": seed, "hardware": {}, "cost": {}}
            more |= {"started": "2026-01-02T00:00:00+00:00"}
            of_source = {"kind": "beir", "revision": "other" if elsewhere else source.revision, "train_split": "train"}
            recipe: dict[str, Any] = {"stage": "mix", "arm": arm, "source": of_source, "seed": seed}
            recipe |= {"budget": {"unit": "groups", "limit": None, "fill": "fewer_queries", "negatives_per_group": 1}}
            counts = {"groups": len(groups), "unique_passages": len(passages), "content": arm}
            place = made(store, "mix", recipe)
            files = write_mix(place, Mix(tuple(groups), passages, {}))
            mix = store.complete("mix", recipe, files=files, parents=(), counts=counts, **more)
            recipe = {"stage": "train", "mix": mix.id, "seed": seed}
            (made(store, "train", recipe) / CONFIG_FILE).write_text(json.dumps({"recipe": plain(config.recipe)}))
            train = store.complete("train", recipe, files=(CONFIG_FILE,), parents=(mix.id,), counts={}, **more)
            measured = None if not elsewhere else {"kind": "beir", "revision": source.revision}
            recipe = {"stage": "evaluation", "train": train.id, "evaluation": {"source": measured, "sets": list(sets)}}
            scores = [
                QueryScore(name, "plain", "plain", q.query_id, "nDCG@10", score(arm, seed, int(q.query_id[1:])))
                for name, bed in beds.items()
                for q in bed.queries
                if q.query_id in bed.qrels
            ]
            evaluation = Evaluation(tuple(scores), {}, {}, (), {}, {}, {}, sets=beds)
            files = write_evaluation(made(store, "evaluation", recipe), evaluation)
            store.complete("evaluation", recipe, files=files, parents=(train.id,), counts={}, **more)
    return store


def score(arm: str, seed: int, query: int) -> float:
    noise = ((query * 7 + seed * 3 + len(arm) * ord(arm[0])) % 11) / 200
    return 0.3 + noise + (0.5 if arm == "b" and query < 4 else 0.0)


def made(store: ResultStore, kind: Any, recipe: Mapping[str, Any]) -> Path:
    folder = store.folder(kind, digest(recipe))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


CLEAN = [group(query, 20) for query in range(100, 108)]
LEAKY = [*CLEAN, *(group(n, n) for n in range(4))]


def row_of(store: ResultStore) -> tuple[bool, str]:
    return next((check.ok, check.found) for check in examine(Evidence(store.root, "s")) if check.name == ROW)


def test_trained_pairs_fail(tmp_path: Path) -> None:
    ok, found = row_of(make(tmp_path, {"a": CLEAN, "b": LEAKY}))
    assert (ok, found) == (
        False,
        "4 of 40 judged queries of data/test have judged pairs that are trained on (pairs: 4): b",
    )


def test_shared_documents_and_queries_alone_do_not(tmp_path: Path) -> None:
    store = make(tmp_path / "clean", {"a": CLEAN})
    assert row_of(store) == (True, "no judged pair and no query of data/test is in the mixes (2 looked at)")
    store = make(tmp_path / "queries", {"a": [group(0, 1), group(1, 2)]})
    assert row_of(store) == (
        True,
        "2 of 40 judged queries of data/test are training queries too, no judged pair of theirs known: a",
    )


def test_few_trained_pairs_are_told_and_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(tmp_path, {"a": [group(0, 0)]})
    assert not row_of(store)[0]
    monkeypatch.setattr("analysis.study.leak_check.LEAK", 0.05)
    assert row_of(store) == (
        True,
        "1 of 40 judged queries of data/test have judged pairs that are trained on (pairs: 1): a",
    )


def test_the_training_split_fails_however_little_of_it_is_trained_on(tmp_path: Path) -> None:
    ok, found = row_of(make(tmp_path, {"a": CLEAN}, sets=("train",)))
    assert (ok, found) == (False, "data/train is the split that is trained on (source.train_split): a")


def test_ids_of_another_source_mean_other_documents(tmp_path: Path) -> None:
    ok, found = row_of(make(tmp_path, {"b": LEAKY}, elsewhere=True))
    assert ok
    assert found.startswith("4 of 40 judged queries of data/test are training queries too, no judged pair of theirs")
    assert found.endswith("data/test of another source, documents not compared: python -m analysis.leaks does")


def test_another_source_without_a_shared_query_needs_no_remark(tmp_path: Path) -> None:
    store = make(tmp_path, {"a": CLEAN}, elsewhere=True)
    assert row_of(store) == (True, "no judged pair and no query of data/test is in the mixes (2 looked at)")


def test_mixes_that_cannot_be_read_are_not_called_clean(tmp_path: Path) -> None:
    store = make(tmp_path, {"b": LEAKY})
    for path in store.root.glob("mixes/*/groups.jsonl.gz"):
        path.write_bytes(b"no longer")
    assert row_of(store) == (True, "not known: b (0, 1)")


def test_the_command_counts_and_recomputes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make(tmp_path, {"a": CLEAN, "b": [*LEAKY, group(200, 30)]}, elsewhere=False)
    to = {"json": tmp_path / "out" / "leaks.json", "csv": tmp_path / "out" / "leaks.csv"}
    words = ["s", "--results", str(store.root), "--json", str(to["json"]), "--csv", str(to["csv"])]
    assert main([*words, "--contrast", "b - a"]) == 0
    printed = capsys.readouterr().out
    record = json.loads(to["json"].read_text())
    counts = {(row["arm"], row["seed"], row["kind"]): row for row in record["leaks"]}
    assert len(counts) == 2 * 2 * 7
    assert counts["b", 1, "queries"]["units"] == {f"q{n}": f"query {n}" for n in range(4)}
    assert counts["b", 0, "documents, near"]["units"] == {"near": "d30 (0.87)"}
    assert counts["b", 0, "pairs, equal"]["queries"] == ["q0", "q1", "q2", "q3"]
    assert (counts["a", 0, "documents, equal"]["touched"], counts["a", 0, "queries"]["touched"]) == (1, 0)
    assert len(list(csv.DictReader(to["csv"].read_text().splitlines()))) == 28
    (contrast,) = record["contrasts"]
    assert (contrast["units"], contrast["touched"]) == (40, 4)
    assert contrast["estimate"] == pytest.approx(contrast["estimate_without"] * 36 / 40 + 0.05, abs=0.01)
    assert contrast["p_without"] > contrast["p"]
    assert "4 of 40 (10.0%)" in printed
    assert "of 17 checks failed)**" in printed  # the mark stands above the contrasts


def test_the_contrast_without_is_that_of_the_other_units_alone(tmp_path: Path) -> None:
    from analysis.stats.asked import Asked, targets
    from analysis.stats.contrast_rows import contrast_rows
    from analysis.stats.families import Plan
    from analysis.stats.matrix import from_arrow
    from analysis.study.leaks import LeftOut, find_leaks, recomputed

    evidence = Evidence(make(tmp_path, {"a": CLEAN, "b": LEAKY}).root, "s")
    scores = evidence.long_table()
    table = from_arrow(scores, "all")
    untouched = [unit not in {"q0", "q1", "q2", "q3"} for unit in scores["unit_id"].to_pylist()]
    alone = from_arrow(scores.filter(untouched), "alone")
    weights = {"b": 1.0, "a": -1.0}
    (row,) = contrast_rows(alone, [Asked("b - a", weights, targets(alone)[0])], Plan())
    asked = [Asked("b - a", weights, targets(table)[0])]
    ways: tuple[LeftOut, ...] = ("queries", "pairs")
    for left_out in ways:
        (again,) = recomputed(table, asked, Plan(), find_leaks(evidence, 0.5), left_out)
        assert again.estimate_without == pytest.approx(row.result.estimate)
        assert again.ci_without == pytest.approx(row.result.ci)
        assert again.p_without == pytest.approx(row.result.p)
    (again,) = recomputed(table, asked, Plan(), find_leaks(evidence, 0.5), "documents")
    assert again.touched == 5  # d20 too, the positive of other queries


def test_a_source_that_has_changed_or_gone_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make(tmp_path, {"a": CLEAN, "b": LEAKY})
    corpus = tmp_path / "data" / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("n1w1 ", "n1wx ", 1))
    assert main(["s", "--results", str(store.root)]) == 0
    printed = capsys.readouterr().out
    assert "not read" in printed and "is not as it was" in printed and "4 of 40 (10.0%)" in printed
    shutil.rmtree(tmp_path / "data")
    assert main(["s", "--results", str(store.root), "--contrast", "b - a"]) == 0
    assert "the documents of data/test cannot be read: " in capsys.readouterr().out
    assert main(["s", "--results", str(store.root), "--contrast", "b - a", "--leave-out", "pairs"]) == 2
    assert "--leave-out pairs: the documents of data/test could not be read" in capsys.readouterr().err


def test_nothing_left_is_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make(tmp_path, {"a": CLEAN, "b": [group(n, n) for n in range(NUM_QUERIES)]})
    assert main(["s", "--results", str(store.root), "--contrast", "b - a"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| b - a"))
    assert [cell.strip() for cell in line.split("|")][-5:-1] == ["40", "–", "–", "–"]
