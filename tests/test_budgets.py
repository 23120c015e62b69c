"""The budget table of a study: totals, UNMATCHED marks, arms that are the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from conftest import HandMadeSource, run_config
from synthetic_study import Arm, make_quick, make_study

from ablate.data.mix import TokensOf, build_mix, content_digest, write_mix
from ablate.recipe.factors import Factors
from ablate.recipe.identity import Revisions, identify
from ablate.recipe.schema import Budget, Recipe
from ablate.store.results import ResultStore
from ablate.store.workload import Workload
from analysis.budgets import main
from analysis.study.evidence import Evidence
from analysis.study.totals import same_recipes

BASE = {"instructed": 1.0, "instruction_negatives": 1}
ARMS = {
    "instruction_negatives": Factors(**BASE),  # type: ignore[arg-type]
    "dual_view": Factors(**BASE, reversed_views=1.0),  # type: ignore[arg-type]
    "dual_view_added": Factors(**BASE, reversed_views=1.0, twins="add"),  # type: ignore[arg-type]
    "dual_view_joint": Factors(**BASE, reversed_views=1.0, twins="add"),  # type: ignore[arg-type]
}


def record(root: Path, arm: str, recipe: Recipe, study: str = "s", tokens_of: TokensOf | None = None) -> None:
    store, identity = ResultStore(root), identify(recipe, 0, Revisions("s", "m"))
    mix = build_mix(HandMadeSource(), recipe, 0, tokens_of)
    with store.making("mix", identity.mix) as folder:
        if folder is not None:
            store.complete(
                "mix",
                identity.mix,
                files=write_mix(folder, mix),
                parents=(),
                seed=0,
                label=f"{study}/{arm}",
                counts={**mix.card, "content": content_digest(mix.groups)},
                hardware={},
                cost={},
                started="",
            )
    store.add_label("mix", identity.mix_id, f"{study}/{arm}")


def train(root: Path, arm: str, recipe: Recipe, study: str = "s") -> None:
    store, identity = ResultStore(root), identify(recipe, 0, Revisions("s", "m"))
    with store.making("train", identity.train) as folder:
        if folder is not None:
            store.complete(
                "train",
                identity.train,
                files=(),
                parents=(identity.mix_id,),
                seed=0,
                label=f"{study}/{arm}",
                counts={},
                hardware={},
                cost={},
                started="",
            )
    store.add_label("train", identity.train_id, f"{study}/{arm}")


def recipe(factors: Factors, **budget: object) -> Recipe:
    values = {"unit": "groups", "limit": 8, "fill": "fewer_queries", "negatives_per_group": 1, **budget}
    return dataclasses.replace(run_config().recipe, factors=factors, budget=Budget(**values))  # type: ignore[arg-type]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for arm, factors in ARMS.items():
        record(tmp_path, arm, recipe(factors))
    return tmp_path


def test_the_table_marks_what_is_unmatched_and_says_what_is_the_same(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["s", "--results", str(results), "--json", str(results / "out.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "UNMATCHED: dual_view_added: 16 against 8 groups (seed 0)"
    assert lines[1] == "UNMATCHED: dual_view_joint: 16 against 8 groups (seed 0)"
    assert lines[2] == "dual_view_added, dual_view_joint: one mix, built once"  # nothing is trained yet
    rows = {line.split()[0]: line for line in lines[3 : lines.index("")]}
    assert rows["dual_view"].split()[1:9] == ["groups", "8,", "fewer_queries", "1", "8", "16", "4", "8"]
    assert rows["dual_view_added"].endswith("UNMATCHED") and not rows["dual_view"].endswith("UNMATCHED")
    values = json.loads((results / "out.json").read_text())
    assert values["instruction_negatives"]["unique_queries"] == 8 and values["dual_view"]["unmatched"] is None


def test_what_the_mixes_are_made_of_is_a_table_of_its_own(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = recipe(ARMS["dual_view"])
    identity = identify(made, 0, Revisions("s", "m"))
    counts = {"optimiser_steps": 1, "first_epoch_negatives": 20}
    ResultStore(results).keep_workload(Workload(identity.train_id, identity.mix_id, ("s/dual_view",), counts))
    assert main(["s", "--results", str(results), "--json", str(results / "out.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading, *rows = lines[lines.index("") + 1 : -1]
    names = [name.strip() for name in heading.split("  ") if name.strip()]
    assert names[:4] == ["arm", "negatives per row", "right labels", "usual side asked"]
    cells = {row.split()[0]: dict(zip(names, row.split(), strict=True)) for row in rows}
    assert cells["dual_view"]["negatives per row"] == "2.5"
    assert cells["instruction_negatives"]["negatives per row"] == "…"  # its training is not counted yet
    assert cells["dual_view"]["right labels"] == "1.00" and cells["dual_view"]["usual side asked"] == "-"
    assert cells["dual_view"]["words per positive"] == "3.0"
    values = json.loads((results / "out.json").read_text())
    assert values["dual_view"]["composition"]["negatives_per_row"] == 2.5
    assert values["dual_view"]["composition"]["usual_side_asked"] is None
    assert "negatives_per_row" not in values["instruction_negatives"]["composition"]


def test_mixes_of_before_have_no_composition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_quick(monkeypatch)
    make_study(tmp_path, {"a": Arm(seeds=(0,), made_of={"unique_queries": 3})})
    assert main(["s", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "what the mixes are made of was not recorded, by an earlier version"
    )


def test_arms_are_one_recipe_when_they_have_one_training_and_not_when_they_share_a_mix(tmp_path: Path) -> None:
    plain, joint = recipe(ARMS["dual_view"]), recipe(ARMS["dual_view_joint"])
    faster = dataclasses.replace(plain, train=dataclasses.replace(plain.train, learning_rate=0.5))
    arms = {"a": plain, "b": faster, "c": plain, "d": joint, "e": joint}
    for arm, one in arms.items():
        record(tmp_path, arm, one)
    for arm in ("a", "b", "c"):
        train(tmp_path, arm, arms[arm])
    assert same_recipes(Evidence(tmp_path, "s").mixed) == [
        "a = c: one recipe, built and trained once",
        "a, b, c: one mix, built once",
        "d, e: one mix, built once",
    ]
    train(tmp_path, "d", joint)
    identity = identify(joint, 0, Revisions("s", "m"))
    ResultStore(tmp_path).keep_workload(Workload(identity.train_id, identity.mix_id, ("s/e",), {"optimiser_steps": 3}))
    found = same_recipes(Evidence(tmp_path, "s").mixed)  # what is only counted yet is known by its id too
    assert found[1:] == ["d = e: one recipe, built and trained once", "a, b, c: one mix, built once"]


def test_a_table_of_scores_begins_with_what_is_unmatched(results: Path) -> None:
    assert Evidence(results, "s").remarks == [
        "UNMATCHED: dual_view_added: 16 against 8 groups (seed 0)",
        "UNMATCHED: dual_view_joint: 16 against 8 groups (seed 0)",
    ]
    assert Evidence(results, "a study of imported runs alone").remarks == []


def test_against_another_baseline_other_arms_are_unmatched(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["s", "--results", str(results), "--baseline", "dual_view_added"]) == 0
    assert capsys.readouterr().out.startswith("UNMATCHED: dual_view: 8 against 16 groups")


def test_budgets_in_other_units_are_unmatched(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(results, "other", recipe(ARMS["dual_view"], unit="queries", limit=2))
    assert main(["s", "--results", str(results)]) == 0
    assert "UNMATCHED: other: its budget is in queries, that of instruction_negatives in groups" in (
        capsys.readouterr().out
    )


def test_budgets_in_tokens_are_matched_to_a_percent() -> None:
    budget = Budget(unit="tokens", limit=1000, fill="repeat", negatives_per_group=1)
    assert budget.is_matched({"tokens": 995}, {"tokens": 1004})
    assert not budget.is_matched({"tokens": 980}, {"tokens": 1000})


def test_a_factor_that_did_nothing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, "instructions", recipe(Factors(instructed=1.0)))
    record(tmp_path, "noise", recipe(Factors(**BASE, reversed_views=1.0, label_noise=0.001)))  # type: ignore[arg-type]
    record(tmp_path, "dual_view", recipe(ARMS["dual_view"]))
    assert main(["s", "--results", str(tmp_path)]) == 0
    assert "dual_view and noise differ in recipe and have the same mix: a factor did nothing here" in (
        capsys.readouterr().out
    )


def test_unknown_studies_and_baselines_are_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["t", "--results", str(results)]) == 2
    assert capsys.readouterr().err.startswith("error: no mix of a study 't' under ")
    assert main(["s", "--results", str(results), "--baseline", "x"]) == 2
    assert "--baseline 'x' has no mix in this study; arms with one: dual_view, " in capsys.readouterr().err
