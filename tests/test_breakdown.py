"""Populations of claims over the clusters that evaluations keep, and of what an effect is made."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_study
from synthetic_study import BED, NDCG, NUM_UNITS, Arm, claim, declare, make_quick, make_study, study_block

from ablate.records import UserError
from ablate.store.files import CLUSTERS_FILE
from ablate.study.declaration import build_study, declaration
from analysis.breakdown import main
from analysis.claims import main as claims_main
from analysis.collect import main as collect_main
from analysis.power import main as power_main
from analysis.significance import main as significance_main
from analysis.stats.asked import Asked, Target, targets
from analysis.stats.breakdown import MOST_SLICES, break_down, carriers
from analysis.stats.clusters import over_new
from analysis.stats.contrast_rows import contrast_rows
from analysis.stats.crossed import Options, crossed
from analysis.stats.families import Plan
from analysis.stats.grouping import Grouping
from analysis.stats.matrix import Cell, CellScores, ScoreTable
from analysis.study.evidence import Evidence
from analysis.study.leaks import Leaks, recomputed
from analysis.study.opened import OpenStudy
from analysis.verdict.family import declared_family
from analysis.verdict.judge import judge

CONTRAST = {"b": 1.0, "a": -1.0}
CLUSTERS = {
    "constraint": [f"c{unit // 2}" for unit in range(NUM_UNITS)],
    "template": [f"{'long' if unit % 2 else 'short'}-{unit % 10}" for unit in range(NUM_UNITS)],
    "form": ["long" if unit % 2 else "short" for unit in range(NUM_UNITS)],
    "kind": ["date" if unit < 15 else "price" for unit in range(NUM_UNITS)],
    "topic": [f"t{unit // 5}" for unit in range(NUM_UNITS)],
}


def named(clusters: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    return {kind: {f"q{unit:02d}": name for unit, name in enumerate(names)} for kind, names in clusters.items()}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)
    monkeypatch.setattr(synthetic_study, "BED", dataclasses.replace(BED, clusters=named(CLUSTERS)))


def made(root: Path, *claims: dict[str, Any], arms: tuple[str, ...] = ("a", "b")) -> Path:
    """Return a folder of results with two arms of five seeds on a set whose units are in clusters."""
    under = declare(root, study_block(claims)) if claims else ""
    shifts = {"a": 0.0, "b": 0.3}
    make_study(
        root,
        {arm: Arm({"instructed": shifts[arm]}, {NDCG: shifts[arm]}, ranked=True, declared=under) for arm in arms},
    )
    return root


def test_a_claim_is_tested_over_its_population_and_others_as_before(tmp_path: Path) -> None:
    kinds = ("constraint", "template")
    claims = [claim("plain", "greater"), claim("wide", "greater", population="constraint")]
    claims.append(claim("both", "greater", population=[*kinds]))
    study = OpenStudy(Evidence(made(tmp_path, *claims), "s"))
    plain, wide, both = judge(study).claims
    scores = study.table.cells[Cell(*NDCG)]
    assert plain.row is not None and wide.row is not None and both.row is not None
    assert dataclasses.replace(plain.row.result, ci=()) == dataclasses.replace(
        crossed(scores.values_SQ, CONTRAST), ci=()
    )
    groups = {kind: [Grouping.of(CLUSTERS[kind], CLUSTERS["form"])] for kind in kinds}
    assert wide.row.result.se == crossed(scores.values_SQ, CONTRAST, None, groups["constraint"]).se
    assert both.row.result.se == over_new(scores.values_SQ, CONTRAST, None, groups).se
    assert plain.row.clusters is None and plain.exploratory == wide.exploratory == ""
    assert "Population" not in plain.ruling.reason
    said = "Population: other queries over new constraints (10 here) of these kinds (ICC constraint "
    assert said in wide.ruling.reason and "design effect" in wide.ruling.reason
    assert "new constraints (10 here) and new templates (10 here) of these kinds" in both.ruling.reason
    assert "over new constraints (10 here) of these kinds" in wide.row.population


def test_few_clusters_are_exploratory_with_the_reason(tmp_path: Path) -> None:
    (judged,) = judge(OpenStudy(Evidence(made(tmp_path, claim("c", "greater", population="topic")), "s"))).claims
    assert judged.ruling.verdict == "EXPLORATORY" and judged.exploratory == "fewer than 10 clusters (4 of topic)"
    assert judged.would_be != "EXPLORATORY" and judged.row is not None and judged.row.status == "exploratory"


def test_a_cluster_of_several_data_sets_is_counted_once(tmp_path: Path) -> None:
    """Four topics on three data sets are four, so a macro claim over new ones is as exploratory as on one of them."""
    wide = claim("c", "greater", ("macro", *NDCG[1:]), population="topic")
    study = OpenStudy(Evidence(made(tmp_path, wide), "s"))
    scores = study.table.cells[Cell(*NDCG)]
    cells = {Cell(dataset, *NDCG[1:]): scores for dataset in ("d/test", "e/test", "f/test")}
    vars(study)["table"] = dataclasses.replace(study.table, cells=cells)
    (judged,) = judge(study).claims
    assert judged.exploratory == "fewer than 10 clusters (4 of topic)"
    assert judged.row is not None and judged.row.clusters is not None
    alone = crossed(scores.values_SQ, CONTRAST, None, [Grouping.of(CLUSTERS["topic"], CLUSTERS["form"])])
    assert judged.row.result.se == pytest.approx(alone.se) and judged.row.clusters.num_clusters == 4
    assert judged.row.p_sign_flip >= 2 / 2**4  # a sign for each topic, not for each topic of each data set


def test_evaluations_of_before_say_that_they_have_no_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_study, "BED", BED)
    root = made(tmp_path, claim("c", "greater", population="constraint"), claim("d", "greater"))
    assert not list(root.rglob(CLUSTERS_FILE))
    first, second = judge(OpenStudy(Evidence(root, "s"))).claims
    assert first.ruling.verdict == "UNDECIDED" and second.ruling.verdict != "UNDECIDED"
    assert "are in no clusters of the kind 'constraint'; kinds are none" in first.ruling.reason
    with pytest.raises(UserError, match="units are in no clusters, so there is nothing to break down by"):
        break_down([Asked("b - a", CONTRAST, target) for target in targets(Evidence(root, "s").table)], Options())


def test_new_evaluations_lend_their_clusters_to_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, arms=("a",))
    monkeypatch.setattr(synthetic_study, "BED", BED)
    made(tmp_path, arms=("b",))
    scores = Evidence(tmp_path, "s").table.cells[Cell(*NDCG)]
    assert set(scores.values_SQ) == {"a", "b"} and scores.clusters["topic"] == tuple(CLUSTERS["topic"])


def test_evaluations_that_differ_in_their_clusters_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, arms=("a",))
    other = {**CLUSTERS, "topic": ["t"] * NUM_UNITS}
    monkeypatch.setattr(synthetic_study, "BED", dataclasses.replace(BED, clusters=named(other)))
    made(tmp_path, arms=("b",))
    with pytest.raises(UserError, match=r"the evaluations \w+ and \w+ differ in the clusters of the units of d/test"):
        _ = Evidence(tmp_path, "s").table


def test_a_declaration_without_a_population_is_written_as_before() -> None:
    study = build_study(study_block([claim("c", "greater", population="queries")]))
    assert study == build_study(study_block([claim("c", "greater")]))
    assert "population" not in declaration(study)["claims"][0]
    wide = build_study(study_block([claim("c", "greater", population="constraint")]))
    assert declaration(wide)["claims"][0]["population"] == ["constraint"] and wide.digest != study.digest
    assert build_study(declaration(wide)) == wide


def test_a_row_of_significance_has_the_population_that_was_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = made(tmp_path, claim("wide", "greater", population="constraint"))
    out = tmp_path / "out.json"

    def rows(*words: str) -> list[dict[str, Any]]:
        assert significance_main([*words, "--json", str(out)]) == 0
        wanted = ("d/test", "plain", "nDCG@10")
        found = json.loads(out.read_text())["contrasts"]
        return [row for row in found if (row["dataset"], row["condition"], row["measure"]) == wanted]

    (declared,) = rows("s", "--results", str(root), "--baseline", "a")
    assert declared["status"] == "confirmatory" and list(declared["clusters"]["kinds"]) == ["constraint"]
    (other,) = rows("s", "--results", str(root), "--baseline", "a", "--clusters", "template")
    assert other["status"] == "exploratory" and list(other["clusters"]["kinds"]) == ["template"]
    assert "Clusters of units" in capsys.readouterr().out
    family = declared_family(
        OpenStudy(Evidence(root, "s")), OpenStudy(Evidence(root, "s")).ask([], [], [], Plan()).plan
    )
    assert [asked.population for asked in family.contrasts] == [("constraint",)]
    # The export says the same to the commands that take anyone's scores.
    assert collect_main(["s", "--results", str(root), "--out", str(tmp_path / "s.parquet")]) == 0
    scores = ("--scores", str(tmp_path / "s.parquet"))
    (again,) = rows(*scores, "--baseline", "a", "--clusters", "constraint")
    assert again["se"] == pytest.approx(declared["se"]) and again["clusters"] == declared["clusters"]
    (plain,) = rows(*scores, "--baseline", "a")
    assert plain["clusters"] is None


def test_power_over_clusters_counts_clusters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect_main(["s", "--results", str(made(tmp_path)), "--out", str(tmp_path / "s.parquet")]) == 0
    pilot = ["--pilot", str(tmp_path / "s.parquet"), "--contrast", "b - a", "--measure", "nDCG@10", "--seeds", "5"]
    capsys.readouterr()
    assert power_main([*pilot, "--clusters", "constraint", "--units", "10", "--out", str(tmp_path / "p")]) == 0
    assert "constraints (of 2 units on average, coefficient of variation 0, as in the pilot)" in capsys.readouterr().out
    record = json.loads((tmp_path / "p" / "power.json").read_text())
    assert record["things"].startswith("constraints") and record["detectable"][0]["units"] == 10
    scores = Evidence(tmp_path, "s").table.cells[Cell(*NDCG)]
    groups = [Grouping.of(CLUSTERS["constraint"], CLUSTERS["form"])]
    result = crossed(scores.values_SQ, CONTRAST, None, groups)
    parts = record["parts"]
    assert parts["seed"] / 5 + parts["query"] / 10 + parts["resid"] / 50 == pytest.approx(result.se**2)


def table_of(effects: np.ndarray, seeds: int = 3, **clusters: list[str]) -> ScoreTable:
    """Return scores of two arms whose difference is `effects` by unit, and a seed's noise that cancels."""
    noise = 0.01 * np.arange(seeds)[:, None] * np.array([1, -1] * (len(effects) // 2))
    values = {"a": 0.4 + noise, "b": 0.4 + effects - noise}
    units = tuple(f"q{unit}" for unit in range(len(effects)))
    scores = CellScores(units, values, {kind: tuple(names) for kind, names in clusters.items()})
    names = tuple(map(str, range(seeds)))
    return ScoreTable("t", {"a": names, "b": names}, {Cell("d", "changed", "", "m"): scores})


def test_a_contrast_without_what_training_touches_is_over_its_population(monkeypatch: pytest.MonkeyPatch) -> None:
    effects = np.random.default_rng(3).normal(size=24)
    table = table_of(effects, wording=[f"w{unit // 2}" for unit in range(24)])
    wide = [item._replace(population=("wording",)) for item in asked_of(table)]
    for touched, is_left in (({"q0", "q1"}, True), ({f"q{unit}" for unit in range(2, 24)}, False)):
        monkeypatch.setattr(Leaks, "touched_units", lambda *_, units=touched: {"d": units})
        (over,) = recomputed(table, wide, Plan(), object.__new__(Leaks), "queries")
        (row,) = contrast_rows(table, wide, Plan())
        assert over.over == "new wordings (12 here) of these kinds" and over.p == row.result.p
        assert (over.p_without is not None) == is_left  # one wording is left: nothing to test over


def asked_of(table: ScoreTable) -> list[Asked]:
    return [Asked("b - a", CONTRAST, target) for target in targets(table)]


EFFECTS = np.array([0.4, 0.4, 0.1, 0.1, 0.0, 0.0, 0.1, 0.1])
FORMS = ["x", "x", "x", "x", "y", "y", "y", "y"]
TEMPLATES = ["x-1", "x-1", "x-2", "x-2", "y-1", "y-1", "y-2", "y-2"]


def test_parts_of_an_effect_by_hand() -> None:
    found = break_down(asked_of(table_of(EFFECTS, form=FORMS, template=TEMPLATES)), Options())
    whole, x, y, *without = found.parts
    assert (whole.units, whole.num_units, whole.estimate) == ("all", 8, pytest.approx(0.15))
    assert [(part.units, part.kind, part.cluster, part.num_units) for part in (x, y)] == [
        ("only", "form", "x", 4),
        ("only", "form", "y", 4),
    ]
    assert (x.estimate, y.estimate) == (pytest.approx(0.25), pytest.approx(0.05))
    assert x.ci is not None and x.ci[0] < 0.25 < x.ci[1] and x.q_bh is not None and x.q_bh >= (x.p or 0)
    assert [part.cluster for part in without] == ["x-1", "x-2", "y-2", "y-1"]
    assert without[0].estimate == pytest.approx(0.4 / 6) and without[0].num_units == 6
    (pair,) = carriers(found)
    assert pair == (whole, without[0])
    ((_, _, kind, known),) = found.kinds
    assert kind == "template" and known.num_clusters == 4


def test_a_slice_says_what_a_test_of_its_units_says() -> None:
    table = table_of(EFFECTS, form=FORMS)
    found = break_down(asked_of(table), Options())
    (scores,) = table.cells.values()
    by_hand = crossed({arm: values[:, :4] for arm, values in scores.values_SQ.items()}, CONTRAST)
    x = next(part for part in found.parts if part.cluster == "x" and part.units == "only")
    assert x.ci == pytest.approx(by_hand.ci) and x.p == pytest.approx(by_hand.p)


def test_what_cannot_be_tested_has_an_estimate_alone() -> None:
    for table in (table_of(EFFECTS, seeds=1, form=FORMS), table_of(EFFECTS, form=[*FORMS[:7], "z"])):
        parts = break_down(asked_of(table), Options()).parts
        last = parts[-1]
        assert last.ci is last.p is last.q_bh is None and np.isfinite(last.estimate)
    some = table_of(EFFECTS, template=["", *TEMPLATES[1:]])
    found = break_down(asked_of(some), Options())
    assert {part.cluster for part in found.parts if part.units == "without"} == set(TEMPLATES)
    ((_, _, kind, why),) = found.left_out
    assert kind == "template" and "1 of 8 units of d are in no cluster of the kind 'template' ('q0')" in why


def test_without_descriptive_kinds_those_of_few_clusters_are_slices() -> None:
    effects = np.tile(EFFECTS, 4)
    many = [f"c{unit % (MOST_SLICES + 1)}" for unit in range(32)]
    table = table_of(effects, pair=[f"p{unit % MOST_SLICES}" for unit in range(32)], many=many)
    assert {part.kind for part in break_down(asked_of(table), Options()).parts if part.units == "only"} == {"pair"}
    chosen = break_down(asked_of(table), Options(), ["many"])
    assert {part.kind for part in chosen.parts if part.units == "only"} == {"many"}
    with pytest.raises(UserError, match="--by 'x': units are in no clusters of this kind; kinds are pair, many"):
        break_down(asked_of(table), Options(), ["x"])


def test_the_command_prints_the_claims_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made(tmp_path, claim("c", "greater", population="constraint"))
    files = {name: tmp_path / f"x.{name}" for name in ("json", "markdown", "latex", "csv")}
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    assert main(["s", "--results", str(root), *options]) == 0
    shown = capsys.readouterr().out
    assert files["markdown"].read_text() == shown
    heads = ("How alike the units", "by form**", "by kind**", "without one cluster**")
    assert [head in shown for head in heads] == [True] * 4
    record = json.loads(files["json"].read_text())
    with files["csv"].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(record["parts"]) == 1 + 2 + 2 + 10 + 10 + 4
    assert [line["cluster"] for line in lines if line["units"] == "only"] == ["long", "short", "date", "price"]
    assert {kind["kind"]: kind["clusters"] for kind in record["kinds"]} == {
        "constraint": 10,
        "template": 10,
        "topic": 4,
    }
    assert {part["kind"] for part in record["carriers"]} == {"constraint", "template", "topic"}
    assert "\\begin{tab" in files["latex"].read_text()
    assert main(["s", "--results", str(root), "--contrast", "a - b", "--measure", "RR@10", "--by", "topic"]) == 0
    shown = capsys.readouterr().out
    assert "by topic**" in shown and "RR@10 on d/test" in shown and "| nDCG@10" not in shown


def test_claims_show_the_population_beside_the_clusters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made(tmp_path, claim("c", "greater", population="constraint"), claim("d", "greater"))
    assert claims_main(["s", "--results", str(root), "--csv", str(tmp_path / "c.csv")]) == 0
    shown = capsys.readouterr().out
    assert "over new" in shown and "**Clusters of units**" in shown
    with (tmp_path / "c.csv").open(newline="") as file:
        wide, plain = csv.DictReader(file)
    assert (wide["population"], wide["n_clusters"]) == ("constraint", "10") and float(wide["design_effect"]) > 0
    assert (plain["population"], plain["n_clusters"], plain["icc"]) == ("queries", "", "")
    assert "A claim over queries is over other ones with the constraints and wordings that are here" in shown


def test_a_guard_whose_queries_are_in_no_cluster_is_over_queries_and_says_so() -> None:
    """p-MRR is of 8 units in clusters; nDCG beside it has a ninth, a query without one."""
    table = table_of(EFFECTS, template=TEMPLATES)
    ((cell, scores),) = table.cells.items()
    more = CellScores(
        (*scores.units, "q8"),
        {arm: np.hstack([values, values[:, :1]]) for arm, values in scores.values_SQ.items()},
        {"template": (*TEMPLATES, "")},
    )
    guard = cell._replace(measure="nDCG@10")
    p_mrr = Target(cell._replace(measure="p-MRR"), (scores,), ("d",))
    for beside, over_queries in ((scores, False), (more, True)):
        full = dataclasses.replace(table, cells={p_mrr.cell: scores, guard: beside})
        (row,) = contrast_rows(full, [Asked("b - a", CONTRAST, p_mrr, ("template",))], Plan(margins={"nDCG@10": 0.1}))
        assert row.guards[0].over_queries == over_queries
        assert row.guards[0].verdict.endswith("over other queries like these") == over_queries
