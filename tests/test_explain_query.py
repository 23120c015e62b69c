"""One query side by side: ranks by arm and seed, labels, and the queries that decide a contrast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_study import NDCG, Arm, make_quick, make_study

from ablate.records import UserError
from analysis.explain import main
from analysis.stats.matrix import Cell
from analysis.study.evidence import Evidence
from analysis.study.explained import deciding, explain


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_quick(monkeypatch)
    arms = {
        "a": Arm(shift={NDCG: 0.3}, ranked=True, seeds=(0, 1)),
        "b": Arm(factors={"instructed": 1.0}, shift={NDCG: 0.0}, ranked=True, seeds=(0, 1, 2)),
    }
    make_study(tmp_path / "r", arms)
    return tmp_path / "r"


def test_ranks_are_those_of_the_stored_rankings(results: Path) -> None:
    explained = explain(Evidence(results, "s"), "q03", [], depth=3)
    assert explained.dataset == "d/test" and explained.seeds == {"a": (0, 1), "b": (0, 1, 2)}
    (posed,) = explained.posed
    relevant = [document for document in posed.documents if document.label]
    assert [document.doc_id for document in relevant] == ["d3"]
    assert {arm: len(ranks) for arm, ranks in relevant[0].ranks.items()} == {"a": 2, "b": 3}
    for arm, seeds in explained.seeds.items():
        for place, _ in enumerate(seeds):
            ranks = [document.ranks[arm][place] for document in posed.documents]
            assert len(set(ranks)) == len(ranks) and min(ranks) >= 1 and max(ranks) <= 10
    means = [sum(document.ranks["a"]) for document in posed.documents]
    assert means == sorted(means)
    assert posed.ndcg.keys() == {"a", "b"}


def test_arms_and_depth_are_chosen(results: Path) -> None:
    few = explain(Evidence(results, "s"), "q03", ["b"], depth=1)
    assert few.seeds.keys() == {"b"}
    assert all(document.label or sum(document.ranks["b"]) / 3 <= 1 for document in few.posed[0].documents)
    with pytest.raises(UserError, match="did you mean 'q03'"):
        explain(Evidence(results, "s"), "q033", [], depth=1)
    with pytest.raises(UserError, match="--arm 'c' has no scores"):
        explain(Evidence(results, "s"), "q03", ["c"], depth=1)


def test_the_units_that_decide_go_the_way_of_the_contrast_first(results: Path) -> None:
    evidence = Evidence(results, "s")
    rows = deciding(evidence, evidence.table, Cell(*NDCG), {"a": 1.0, "b": -1.0}, 6)
    differences = [row.difference for row in rows]
    assert len(rows) == 6 and differences[:3] == sorted(differences[:3], reverse=True)
    everything = deciding(evidence, evidence.table, Cell(*NDCG), {"a": 1.0, "b": -1.0}, 40)
    assert len(everything) == 20
    assert sum(row.share for row in everything) == pytest.approx(1.0)
    assert max(row.difference for row in everything) == differences[0]
    against = deciding(evidence, evidence.table, Cell(*NDCG), {"b": 1.0, "a": -1.0}, 6)
    assert against[0].unit_id == rows[0].unit_id
    assert against[0].difference == pytest.approx(-differences[0])


def test_the_command_shows_both(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["s", "--results", str(results)]
    assert main([*base, "--worst", "a", "b", "--limit", "4"]) == 0
    assert "the units that move it furthest" in capsys.readouterr().out
    out = tmp_path / "x.json"
    assert main([*base, "--query", "q03", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "1 relevant documents" in shown and "cannot be read" in shown  # the source of a made study is nowhere
    assert json.loads(out.read_text())["posed"][0]["query_id"] == "q03"
