"""What goes into a paper: means, spreads, marks and the sentences on how they came about."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from synthetic_study import CHANGED, NDCG, PMRR, Arm, claim, declare, make_quick, make_study, study_block

from analysis.significance import main
from analysis.stats.crossed import Options
from analysis.stats.families import Plan
from analysis.stats.matrix import Cell
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy
from analysis.verdict.paper import Paper, paper

ARMS = {
    "base": Arm(shift={NDCG: 0.0, CHANGED: 0.0, PMRR: 0.0}),
    "better": Arm(factors={"instructed": 1.0}, shift={NDCG: 0.0, CHANGED: 0.2, PMRR: 0.3}),
    "also_better": Arm(factors={"instructed": 0.5}, shift={NDCG: 0.0, CHANGED: 0.2}),
    "odd_$name_": Arm(factors={"instructed": 0.7}, shift={NDCG: -0.3, CHANGED: 0.0, PMRR: 0.0}),
}

KINDS = {"paper": ("md", "tex", "bib", "csv"), "significance": ("md", "tex", "csv", "json")}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_quick(monkeypatch)
    make_study(tmp_path / "r", ARMS)
    return tmp_path / "r"


def made(results: Path) -> Paper:
    study = OpenStudy(Evidence(results, "s"))
    return paper(study, Plan(), "base", study.table)


def test_cells_hold_the_means_of_the_scores_and_what_tests_say(results: Path) -> None:
    built = made(results)
    table = Evidence(results, "s").table
    plain, changed = Cell(*NDCG), Cell(*CHANGED)
    assert built.columns == (plain, changed, Cell(*PMRR))
    for arm in ARMS:
        values = table.cells[changed].values_SQ[arm]
        assert built.cells[arm, changed].mean == pytest.approx(values.mean())
        assert built.cells[arm, changed].sd == pytest.approx(values.mean(axis=1).std(ddof=1))
    assert ("also_better", Cell(*PMRR)) not in built.cells
    differs = {arm: built.cells[arm, changed].differs for arm in ARMS}
    assert differs == {"base": None, "better": True, "also_better": True, "odd_$name_": False}
    best = [arm for arm in ARMS if built.cells[arm, changed].is_best]
    tied = [arm for arm in ARMS if built.cells[arm, changed].is_tied]
    assert sorted(best + tied) == ["also_better", "better"] and len(best) == 1


def test_texts_mark_and_escape(results: Path) -> None:
    built = made(results)
    lines = {line.split("|")[1].strip(): line for line in built.markdown().splitlines() if line.startswith("|")}
    assert lines["better"].count(r"\*") == 2 and "–" in lines["also_better"]  # no p-MRR there
    better = built.cells["better", Cell(*PMRR)]
    assert f"{100 * better.mean:.1f} ± {100 * (better.sd or 0):.1f}" in lines["better"]
    latex = built.latex()
    assert r"odd\_\$name\_" in latex and r"\textbf{" in latex and r"$^{*}$" in latex and r"\toprule" in latex
    for key in built.references:
        assert f"{{{key}," in built.bibtex()
    assert built.bibtex().count("@article") == len(built.references)


def test_methods_say_seeds_checks_claims_and_software(results: Path) -> None:
    methods = made(results).methods
    assert "4 arms (also_better, base, better, odd_$name_), 4 trained with seeds 0, 1, 2, 3, 4" in methods
    assert "d/test (20 units)" in methods and "No claim was declared beforehand" in methods
    assert "at 1234567890ab, torch 1" in methods


def test_one_seed_is_never_shown_to_differ_from_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)
    make_study(tmp_path / "r", {"base": Arm(seeds=(0,)), "b": Arm({"instructed": 1.0}, {NDCG: 0.05}, seeds=(0,))})
    study = OpenStudy(Evidence(tmp_path / "r", "s"))
    assert paper(study, Plan(), "base", study.table).cells["base", Cell(*NDCG)].is_tied
    fixed = paper(study, Plan(Options(estimand="these_checkpoints")), "base", study.table)
    assert not fixed.cells["base", Cell(*NDCG)].is_tied
    assert "paired t over queries" in fixed.methods and "both random" not in fixed.methods
    assert "clark1973" not in fixed.references


def test_a_claim_that_was_declared_late_is_not_said_to_be_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    make_study(tmp_path / "r", {"a": Arm(), "b": Arm({"instructed": 1.0}, {NDCG: 0.05})})
    declare(tmp_path / "r", study_block([claim("late", "greater")]), at="2027-01-01T00:00:00+00:00")
    study = OpenStudy(Evidence(tmp_path / "r", "s"))
    methods = paper(study, Plan(), "a", study.table).methods
    assert "1 claims are declared: 1 EXPLORATORY" in methods and "before the runs" not in methods


def test_the_command_writes_what_is_pasted(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    base = ["s", "--results", str(results), "--baseline", "base"]
    assert main([*base, "--paper", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("| arm |")
    written = [f"{name}.{kind}" for name, kinds in KINDS.items() for kind in kinds]
    assert sorted(path.name for path in out.iterdir()) == sorted(written)
    with open(out / "paper.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 3 - 1 and {row["arm"] for row in rows} == set(ARMS)
    assert main(["s", "--results", str(results), "--paper", "--out", str(tmp_path / "none")]) == 2
    assert not capsys.readouterr().out and not (tmp_path / "none" / "paper.md").exists()  # nothing is declared
    assert main(["--scores", "none.csv", "--paper"]) == 2
    assert "--paper tells of arms, seeds and software" in capsys.readouterr().err
    assert main(["s", "--results", str(results), "--baseline", "nope", "--paper"]) == 2
