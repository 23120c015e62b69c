"""What must be equal before arms may be compared: every check fails on what it is there for, and on nothing else."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats
from synthetic_study import EVALUATION, NDCG, Arm, claim, declare, make_quick, make_study, study_block

from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.store.results import ResultStore
from ablate.study.declaration import DeclaredCell, build_study
from ablate.study.records import StudyRecords
from analysis.fairness import main
from analysis.stats.families import Plan
from analysis.stats.matrix import Cell, CellScores, ScoreTable
from analysis.stats.seeds_apart import deleted_p, seeds_apart
from analysis.study.differences import HOW, between, confounded
from analysis.study.evidence import Evidence
from analysis.study.fairness import Check, examine, fairness_table, headline
from analysis.study.opened import OpenStudy
from analysis.study.runs import ArmRun, by_arm, deterministic_arms, seed_varies
from analysis.study.totals import ArmTotals, idle_factors

FAIR = {"a": Arm(seeds=(0, 1)), "b": Arm({"instructed": 1.0}, seeds=(0, 1))}
UNTOUCHED = Arm(system={"stage": "untouched", "model": {"revision": "m", "pooling": "mean"}}, seeds=(0,))


@pytest.fixture(autouse=True)
def clean_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def checks_of(store: ResultStore, **more: Any) -> dict[str, Check]:
    return {check.name: check for check in examine(Evidence(store.root, "s", **more))}


def runs_of(store: ResultStore) -> tuple[ArmRun, ...]:
    return Evidence(store.root, "s").runs


def failing(store: ResultStore, **more: Any) -> list[str]:
    return [check.name for check in checks_of(store, **more).values() if not check.ok]


def test_a_fair_study_passes_every_check(tmp_path: Path) -> None:
    store = make_study(tmp_path, {**FAIR, "untouched": UNTOUCHED})
    checks = checks_of(store)
    assert [check for check in checks.values() if not check.ok] == []
    assert headline(list(checks.values())) == "fairness: all 17 checks passed"
    assert checks["same seeds in all trained arms"].found == "seeds 0, 1 in 2 trained arms"
    assert checks["same units"].found == "20 values of the same units in each of 5 runs"
    assert checks["same tuning"].found == "not tuned: no recipe has the values of a winner"
    assert checks["no damaged file"].found.endswith("4 model files are there, their content was not read")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("same seeds in all trained arms", {"seeds": (0, 2)}, "seeds 0, 1: a; seeds 0, 2: b"),
        (
            "same units",
            {"shift": {NDCG: 0.0, ("d/test", "plain", "plain", "MRR@10"): 0.0}},
            "unlike units of d/test: 20 values in a (0, 1); 40 values in b (0, 1)",
        ),
        (
            "every value is a number",
            {"shift": {NDCG: float("nan")}},
            "values that are no number: b seed 0: 20 of 20, b seed 1: 20 of 20",
        ),
        (
            "same candidate documents",
            {"candidates": "other"},
            "candidate lists of d/test differ in b (0, 1) from 2 other runs",
        ),
        ("same protocol", {"evaluation": {**EVALUATION, "depth": 20}}, "depth differ in b (0, 1) from 2 other runs"),
        ("same budget", {"groups": 16}, "b UNMATCHED: 16 against 8 groups (seed 0)"),
        ("no factor without effect", {"content": "same"}, "a and b differ in recipe and have the same mix"),
        (
            "same device and threads",
            {"hardware": {"device": "cuda", "device_name": "H", "threads": 2}},
            "device cpu but cuda in b (0, 1); device_name cpu but H in b (0, 1); threads 1 but 2 in b (0, 1)",
        ),
    ],
)
def test_each_check_fails_on_what_it_is_there_for(tmp_path: Path, name: str, change: dict[str, Any], said: str) -> None:
    both = {"content": "same"} if "content" in change else {}
    arms = {"a": dataclasses.replace(FAIR["a"], **both), "b": dataclasses.replace(FAIR["b"], **change)}
    store = make_study(tmp_path, arms)
    assert failing(store) == [name]
    assert said in checks_of(store)[name].found


def card(queries: int, usual: float = 0.5, words: float = 60.0, passage: float = 0.5, **more: float) -> dict[str, Any]:
    """Return what the card of a mix says of its composition."""
    composition = {"right_labels": 1.0, "usual_side_asked": usual, "words_per_positive": words, **more}
    told = {"passage": passage, "side": usual}  # the side is told in budgets, and follows from what is compared here
    return {"unique_queries": queries, "composition": composition, "predictability": told}


def test_what_a_contrast_changes_beside_its_switch_is_told_and_does_not_fail(tmp_path: Path) -> None:
    arms = {
        "a": Arm(seeds=(0, 1), made_of=card(229, 0.9, positives_in_style_a=0.94, positives_in_style_b=0.06)),
        "b": Arm(
            {"instructed": 1.0},
            seeds=(0, 1),
            made_of=card(115, passage=0.75, positives_in_style_a=0.49, positives_in_style_b=0.51),
        ),
        "near": Arm({"x": 1}, seeds=(0, 1), made_of=card(218, 0.86, 62.9, 0.54)),
        "untouched": UNTOUCHED,
    }
    store = make_study(tmp_path, arms)
    check = checks_of(store, baseline="a")["what else changes"]
    assert check.ok and check.found == (
        "1 of 2 contrasts change more than their switch: b - a: unique queries 229 → 115, usual side asked 0.90 → "
        "0.50, positives in style a 0.94 → 0.49, label from passage 0.50 → 0.75"
    )
    other_way = checks_of(store, baseline="b")["what else changes"].found
    assert other_way.startswith("2 of 2 contrasts change more than their switch: a - b: unique queries 115 → 229, ")


def test_a_value_that_the_switch_sets_is_no_other_change(tmp_path: Path) -> None:
    wrong = card(100)
    wrong["composition"]["right_labels"] = 0.75
    arms = {
        "a": Arm(seeds=(0, 1), made_of=card(100)),
        "noisy": Arm({"label_noise": 0.5}, seeds=(0, 1), made_of=wrong),
        "other": Arm({"instructed": 1.0}, seeds=(0, 1), made_of=wrong),
    }
    check = checks_of(make_study(tmp_path, arms), baseline="a")["what else changes"]
    assert check.found == ("1 of 2 contrasts change more than their switch: other - a: right labels 1.00 → 0.75")


def test_the_negatives_per_row_are_those_of_the_trainings(tmp_path: Path) -> None:
    arms = {
        "a": Arm(seeds=(0, 1), made_of=card(9), first_epoch_negatives=(240, 232)),
        "b": Arm({"instructed": 1.0}, seeds=(0, 1), made_of=card(9), first_epoch_negatives=(116, 116)),
        "larger": Arm(
            {"y": 1}, seeds=(0, 1), made_of=card(9), first_epoch_negatives=(480, 480), train={"batch_size": 32}
        ),
    }
    check = checks_of(make_study(tmp_path, arms), baseline="a")["what else changes"]
    assert check.found == ("1 of 2 contrasts change more than their switch: b - a: negatives per row 29.5 → 14.5")


def test_compositions_of_before_are_named_as_not_recorded(tmp_path: Path) -> None:
    arms = {**FAIR, "c": Arm({"x": 1}, seeds=(0, 1), made_of=card(9))}
    check = checks_of(make_study(tmp_path, arms))["what else changes"]
    assert check.found == "2 contrasts change nothing else; not recorded, by an earlier version: a, b"
    only = checks_of(make_study(tmp_path / "one", {"a": FAIR["a"], "untouched": UNTOUCHED}))["what else changes"]
    assert only.found == "fewer than two arms with a mix; not recorded, by an earlier version: a"


def test_the_contrasts_are_those_of_the_claims_where_there_are_some(tmp_path: Path) -> None:
    claims = [claim("c", "greater", contrast="c - b"), claim("d", "greater", contrast="c - untouched")]
    claims += [claim("e", "greater", contrast="c - gone"), claim("f", "greater", contrast="a + c - 2*b")]
    declare(tmp_path, study_block(claims, seeds=[0, 1], arms=["a", "b", "c", "gone"]))
    arms = {
        "a": Arm(seeds=(0, 1), made_of=card(100)),
        "b": Arm({"x": 1}, seeds=(0, 1), made_of=card(100)),
        "c": Arm({"x": 1, "y": 1}, seeds=(0, 1), made_of=card(100, 0.7)),
        "untouched": UNTOUCHED,
    }
    check = checks_of(make_study(tmp_path, arms))["what else changes"]
    assert check.found == (
        "2 of 2 contrasts change more than their switch: c - b: usual side asked 0.50 → 0.70; "
        "a + c - 2*b: c: usual side asked 0.50 → 0.70"
    )


CPU = {"device": "cpu", "device_name": "cpu", "processor": "P", "threads": 1}
NOW = {**CPU, "kernels": "AVX512", "mkldnn": True, "settings": {}}


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (NOW, {**NOW, "kernels": "AVX2"}, "kernels AVX512 but AVX2 in b (0, 1)"),
        (NOW, {**NOW, "mkldnn": False}, "mkldnn True but False in b (0, 1)"),
        (NOW, {**NOW, "processor": "Q"}, "processor P but Q in b (0, 1)"),
        (NOW, {**NOW, "processes": 2}, None),
        ({**NOW, "processes": 1}, {**NOW, "processes": 2}, "processes 1 but 2 in b (0, 1)"),
        (NOW, {**NOW, "settings": {"MKL_CBWR": "AVX2"}}, "MKL_CBWR unset but AVX2 in b (0, 1)"),
        ({**NOW, "settings": {"MKL_CBWR": "AVX2"}}, {**NOW, "settings": {"MKL_CBWR": "AVX2"}}, None),
        (NOW, {**NOW, "settings": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx512"}}, None),
        (CPU, CPU, None),
        (CPU, NOW, None),
        (CPU, {**NOW, "settings": {"MKL_CBWR": "AVX2"}}, None),
        (CPU, {**NOW, "threads": 2}, "threads 1 but 2 in b (0, 1)"),
    ],
)
def test_the_machines_are_compared_by_what_was_used(tmp_path: Path, one: Any, other: Any, said: str | None) -> None:
    arms = {name: dataclasses.replace(FAIR[name], hardware=used) for name, used in (("a", one), ("b", other))}
    found = checks_of(make_study(tmp_path, arms))["same device and threads"]
    unknown = [name for name, used in (("a", one), ("b", other)) if "kernels" not in used]
    told, _, beside = found.found.partition("; kernels and settings not recorded, by an earlier version: ")
    assert (found.ok, beside) == (said is None, ", ".join(unknown))
    assert told == said if said else told.startswith("device cpu, device_name cpu, processor P, threads 1")


def test_an_arm_that_is_drawn_and_not_trained_may_have_other_seeds(tmp_path: Path) -> None:
    random = Arm(system={"stage": "ranker", "ranker": "random", "seed": 0}, seeds=(0,))
    store = make_study(tmp_path, {**FAIR, "random_ranker": random})
    assert failing(store) == []
    found = checks_of(store)["same seeds in all trained arms"].found
    assert found == "seeds 0, 1 in 2 trained arms; not trained: random_ranker (seeds 0)"


def test_an_arm_with_two_recipes_is_told(tmp_path: Path) -> None:
    store = make_study(tmp_path, FAIR)
    make_study(tmp_path, {name: dataclasses.replace(arm, seeds=(2,)) for name, arm in FAIR.items()})
    assert failing(store) == []
    make_study(
        tmp_path,
        {
            "a": dataclasses.replace(FAIR["a"], seeds=(3,), train={"learning_rate": 0.2}),
            "b": dataclasses.replace(FAIR["b"], seeds=(3,)),
        },
    )
    assert checks_of(store)["one recipe per arm"].found == "a differs between its seeds in train.learning_rate"


def test_other_code_and_packages_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_study(tmp_path, {"a": FAIR["a"]})
    monkeypatch.setattr("ablate.store.provenance.git_state", lambda: {"commit": "ffffffffffff", "dirty": True})
    monkeypatch.setattr("ablate.store.provenance.package_versions", lambda: {"torch": "9"})
    make_study(tmp_path, {"b": FAIR["b"]})
    checks = checks_of(store)
    assert failing(store) == ["same code", "same packages"]
    assert checks["same code"].found == (
        "commit 1234567890 (6 stages), ffffffffff (6 stages); 6 stages of a working tree with changes, or not known to "
        "be without; commit what has changed and run again what was made by other code"
    )
    assert checks["same packages"].found == "torch 1, 9"


def test_a_missing_run_is_listed_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fewer = dataclasses.replace(FAIR["b"], seeds=(0,))
    make_study(tmp_path, {"a": FAIR["a"], "b": fewer, "c": Arm({"x": 1}, seeds=(0, 1))})
    declare(tmp_path, study_block([], seeds=[0, 1]))
    assert main(["s", "--results", str(tmp_path), "--json", str(tmp_path / "f.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "**Fairness of study s (fairness: 2 of 17 checks failed)**"
    assert "1 of 4 declared runs have no scores: b seed 1; not declared: c" in lines[4]
    first = json.loads((tmp_path / "f.json").read_text())[0]
    assert (first["name"], first["ok"]) == ("no declared run is missing", False)


def test_damaged_files_are_told_and_stop_nothing(tmp_path: Path) -> None:
    store = make_study(tmp_path, FAIR)
    first, second = (run.evaluation.id for run in runs_of(store)[:2])
    (tmp_path / "evals" / first / "notes.json").write_text("{}")
    (tmp_path / "evals" / second / "scores.parquet").write_bytes(b"x")
    model = next(tmp_path.glob("runs/*/model/model.safetensors"))
    model.write_text("W" * model.stat().st_size)
    checks = checks_of(store)
    assert f"evals/{first}/notes.json was changed" in checks["no damaged file"].found
    assert "safetensors" not in checks["no damaged file"].found
    assert checks["same units"].found == "the scores of a (1) cannot be read"
    assert "not recorded: a" in checks["same candidate documents"].found
    deep = checks_of(store, with_models=True)["no damaged file"].found
    assert f"runs/{model.parent.parent.name}/model/model.safetensors was changed" in deep


CLEAN = {"commit": "1" * 40, "dirty": False, "code": "x", "changed": []}


@pytest.mark.parametrize(
    ("first", "second", "fails", "said"),
    [
        (CLEAN, CLEAN, False, "commit 1111111111 (12 stages)"),
        (CLEAN, {**CLEAN, "dirty": True}, False, "commit 1111111111 (12 stages)"),  # an untracked file of sweeps/
        (CLEAN, {**CLEAN, "commit": "2" * 40}, False, "one state of the code, commit 1111111111 (6 stages), 2222"),
        (CLEAN, {**CLEAN, "commit": None, "dirty": None, "changed": None}, False, "1111111111 (6 stages), none (6"),
        (
            {**CLEAN, "changed": ["ablate/x.py"]},
            {**CLEAN, "changed": ["ablate/x.py"]},
            False,
            "uncommitted: ablate/x.py; commit them",
        ),
        (CLEAN, {"commit": "1" * 40, "dirty": False}, False, "commit 1111111111 (12 stages)"),  # an older manifest
        (
            CLEAN,
            {**CLEAN, "code": "y", "changed": ["ablate/x.py"]},
            True,
            "2 states of the code, commits 1111111111 (12 stages); uncommitted: ablate/x.py; commit them and run",
        ),
        (CLEAN, {**CLEAN, "code": "y", "commit": "2" * 40}, True, "2 states of the code, commits 1111111111 (6"),
        (CLEAN, {"commit": "2" * 40, "dirty": False}, True, "2 states of the code"),
        (CLEAN, {"commit": "1" * 40, "dirty": True}, True, "6 stages of a working tree with changes"),
    ],
)
def test_the_code_is_judged_by_its_content(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: dict[str, Any],
    second: dict[str, Any],
    fails: bool,
    said: str,
) -> None:
    for name, git in (("a", first), ("b", second)):
        monkeypatch.setattr("ablate.store.provenance.git_state", lambda git=git: git)
        store = make_study(tmp_path, {name: FAIR[name]})
    check = checks_of(store)["same code"]
    assert check.ok is not fails and said in check.found


def test_what_is_recorded_of_the_code(tmp_path: Path) -> None:
    """In a repository of its own: a new file of sweeps/ leaves digest and list as they are, one of ablate/ does not."""
    script = "import json; from ablate.store.provenance import git_state; print(json.dumps(git_state()))"
    shutil.copytree(ROOT / "ablate", tmp_path / "ablate", ignore=shutil.ignore_patterns("__pycache__"))

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True, capture_output=True
        )

    def state() -> dict[str, Any]:
        done = subprocess.run([sys.executable, "-B", "-c", script], cwd=tmp_path, check=True, capture_output=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    clean = state()
    assert clean["dirty"] is False and clean["changed"] == [] and clean["commit"]
    (tmp_path / "mine.yaml").write_text("x")
    assert state() == {**clean, "dirty": True}
    (tmp_path / "ablate" / "a new one.py").write_text("x = 1")
    with (tmp_path / "ablate" / "recipe" / "rules.py").open("a") as file:
        file.write("# changed\n")
    changed = state()
    assert changed["changed"] == ["ablate/a new one.py", "ablate/recipe/rules.py"] and changed["code"] != clean["code"]


def _tuned(root: Path, study: str, **arms: dict[str, Any]) -> None:
    (root / "tuning" / study).mkdir(parents=True, exist_ok=True)
    (root / "tuning" / study / "tuning.json").write_text(json.dumps(arms))


def test_unequal_tuning_is_told(tmp_path: Path) -> None:
    store = make_study(tmp_path, FAIR)  # at a learning rate of .1
    won, lost = ({"finished": 20, "best": [{"params": {"train.learning_rate": rate}}]} for rate in (0.1, 0.3))
    _tuned(tmp_path, "x", a=won)
    assert failing(store) == ["same tuning"]
    assert checks_of(store)["same tuning"].found == "20 trials: a; 0 trials: b"
    _tuned(tmp_path, "x", a=won, b=won)
    assert failing(store) == []
    _tuned(tmp_path, "y", b=won)
    assert checks_of(store)["same tuning"].found == "20 trials: a; 40 trials: b"
    # a winner that entered no recipe, one that is not there yet, and another study's arms are no tuning of these
    for other in ({"a": lost}, {"a": {"finished": 20, "best": []}}, {"c": won}):
        _tuned(tmp_path, "x", **other)
        _tuned(tmp_path, "y", **other)
        assert failing(store) == [], other
    (tmp_path / "tuning" / "x" / "tuning.json").write_text('{"a": {"finished": 20, "best"')
    with pytest.raises(UserError, match="tuning.json is not a readable record of tuning"):
        checks_of(store)


def test_the_budget_of_the_claims_or_of_most_arms_is_the_measure(tmp_path: Path) -> None:
    twice = dataclasses.replace(FAIR["a"], groups=16)
    store = make_study(tmp_path / "most", {"a": twice, "b": FAIR["b"], "c": Arm({"x": 1}, seeds=(0, 1))})
    assert Evidence(store.root, "s").baseline == "b"
    assert checks_of(store)["same budget"].found == "a UNMATCHED: 16 against 8 groups (seed 0)"
    declare(tmp_path / "most", study_block([claim("one", "greater", contrast="c - a")], arms=["a", "c"], seeds=[0, 1]))
    assert Evidence(store.root, "s").baseline == "a"
    declare(
        tmp_path / "most",
        study_block([claim("two", "greater", contrast="z - y")], arms=["y", "z"], seeds=[0, 1]),
        at="2026-01-02T00:00:00+00:00",
    )
    assert Evidence(store.root, "s").baseline == "b"  # the claims are about arms that are not there


def test_the_baseline_is_not_counted_among_the_arms_that_equal_it(tmp_path: Path) -> None:
    two = checks_of(make_study(tmp_path / "two", FAIR))
    three = checks_of(make_study(tmp_path / "three", {**FAIR, "c": Arm({"instructed": 0.5})}))
    (said,) = (check.found for check in two.values() if " equal to " in check.found)
    assert said.startswith("1 arm is equal to a in ")
    (said,) = (check.found for check in three.values() if " equal to " in check.found)
    assert said.startswith("2 arms are equal to a in ")


def test_equal_mixes_of_unequal_budgets_or_models_are_no_idle_factor(tmp_path: Path) -> None:
    make_study(tmp_path, {name: dataclasses.replace(arm, content="same") for name, arm in FAIR.items()})
    arms = Evidence(tmp_path, "s").mixed
    assert idle_factors(arms) == ["a and b differ in recipe and have the same mix: a factor did nothing here"]

    def under(*given: dict[str, Any]) -> list[ArmTotals]:
        """Return the arms with other recipes: those of the second, or of both."""
        first, second = given if len(given) == 2 else ({}, *given)
        changes = {"a": {"factors": {}, **first}, "b": {"factors": {}, **second}}
        return [
            dataclasses.replace(
                arm,
                mixes={
                    seed: dataclasses.replace(one, recipe={**one.recipe, **changes[arm.arm]})
                    for seed, one in arm.mixes.items()
                },
            )
            for arm in arms
        ]

    tokens = {"budget": {"unit": "tokens", "limit": 8}, "model": {"revision": "m"}}
    other, on = {"revision": "n"}, {"factors": {"instructed": 1.0}}

    assert idle_factors(under({"model": {"revision": "m", "pooling": "last"}})) == []
    assert idle_factors(under({"budget": {"unit": "tokens", "limit": 8}})) == []
    assert idle_factors(under({"source": {"kind": "world", "skew": 2}})) != []
    dense = {"kind": "dense", "count": 8}
    mined = [{"miner": {**dense, "revision": revision}} for revision in ("by m", "by n")]
    assert idle_factors(under(tokens | mined[0], tokens | mined[1] | {"model": other})) == []
    assert idle_factors(under(mined[0], mined[1])) == []  # the revision of a dense miner is that of the model
    assert idle_factors(under(mined[0], {"miner": {**dense, "count": 9, "revision": "by m"}})) != []
    assert idle_factors(under(tokens, tokens | on)) != []
    assert idle_factors(under(tokens, tokens | on | {"model": other})) == []  # what is cut is the model's tokens
    assert idle_factors(under({}, on | {"budget": {"unit": "groups", "limit": 9}})) == []


def test_the_same_groups_of_other_texts_are_another_mix(tmp_path: Path) -> None:
    make_study(tmp_path, {name: dataclasses.replace(arm, content="same") for name, arm in FAIR.items()})
    arms = Evidence(tmp_path, "s").mixed
    for sums, are_idle in ((("x", "x"), True), (("x", "y"), False)):
        for arm, sha256 in zip(arms, sums, strict=True):
            for mix in arm.mixes.values():
                mix.content_sha256["passages.jsonl.gz"] = sha256
        assert bool(idle_factors(arms)) is are_idle


def test_unknown_studies_and_baselines_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(tmp_path, FAIR)
    assert main(["t", "--results", str(tmp_path)]) == 2
    assert "no evaluation of a study 't'" in capsys.readouterr().err
    assert main(["s", "--results", str(tmp_path), "--baseline", "z"]) == 2
    assert "--baseline 'z' has no scores in study 's'; arms are a, b" in capsys.readouterr().err


def test_the_table_marks_failures() -> None:
    table = fairness_table([Check("x", False, "bad"), Check("y", True, "good")], "s")
    assert table.title == "Fairness of study s (fairness: 1 of 2 checks failed)"
    assert table.rows == (("x", "FAILED", "bad"), ("y", "ok", "good"))


# what is deterministic, and in what arms differ


@pytest.mark.parametrize(
    ("recipe", "varied"),
    [
        ({"stage": "untouched"}, "nothing"),
        ({"stage": "untouched", "seed": 3}, "initialisation"),
        ({"stage": "ranker"}, "nothing"),
        ({"stage": "ranker", "seed": 0}, "order of the documents"),
        ({"stage": "imported"}, "nothing"),
        ({"stage": "imported", "seed": 1}, "what its importer varied"),
        ({"stage": "evaluation"}, "rows and draws of the mix, their order, initialisation and dropout"),
    ],
)
def test_which_arms_are_deterministic_and_what_a_seed_varies(
    tmp_path: Path, recipe: dict[str, Any], varied: str
) -> None:
    store = make_study(tmp_path, {"x": Arm(system=recipe, seeds=(0,))})
    (run,) = runs_of(store)
    assert deterministic_arms([run]) == (frozenset({"x"}) if varied == "nothing" else frozenset())
    assert seed_varies([run]) == {"x": varied}


def trained(factors: dict[str, Any], **more: Any) -> dict[str, Any]:
    parts = {"source": {"kind": "world", "skew": 1, "revision": "r"}, "model": {"revision": "m", "pooling": "mean"}}
    return {"system": "trained", "factors": factors, "train": {"epochs": 1}, **parts, **more}


BASE = {"instructed": 1.0, "instruction_negatives": 1}


@pytest.mark.parametrize(
    ("first", "second", "switches"),
    [
        (trained(BASE), trained(BASE), ()),
        (trained(BASE), trained({**BASE, "reversed_views": 1.0}), ("factors.reversed_views",)),
        (
            trained(BASE),
            trained({**BASE, "reversed_views": 1.0, "twin_polarity": "random", "twins": "add"}),
            ("factors.reversed_views",),
        ),
        (
            trained({**BASE, "reversed_views": 1.0}),
            trained({**BASE, "reversed_views": 1.0, "label_noise": 0.1}),
            ("factors.label_noise",),
        ),
        (
            trained({**BASE, "reversed_views": 1.0}),
            trained({**BASE, "reversed_views": 1.0, "twin_polarity": "restyled"}),
            ("factors.twin_polarity",),
        ),
        (
            trained(BASE),
            trained(BASE, train={"epochs": 1, "most_negatives": 12, "same_query": "use"}),
            ("train.most_negatives", "train.same_query"),
        ),
        (trained({}), trained(BASE), ("factors.instructed", "factors.instruction_negatives")),
        (trained(BASE), trained(BASE, source={"kind": "world", "skew": 2, "revision": "q"}), ("source.skew",)),
        (trained(BASE), trained(BASE, source={"kind": "world", "skew": 1, "revision": "q"}), ("source.revision",)),
        (trained(BASE), trained(BASE, source={"kind": "beir", "revision": "q"}), ("source.kind",)),
        (trained(BASE), trained(BASE, model={"revision": "n", "pooling": "last"}), ("model.revision",)),
        (
            trained(BASE),
            trained(BASE, model={"revision": "m", "pooling": "last"}, train={"epochs": 2}),
            ("model.pooling", "train.epochs"),
        ),
        (trained(BASE), {"system": {"stage": "untouched", "model": {"revision": "m", "pooling": "mean"}}}, ("system",)),
        (
            trained(BASE),
            {"system": {"stage": "untouched", "model": {"revision": "n", "pooling": "mean"}}},
            ("system", "model.revision"),
        ),
        ({"system": {"stage": "ranker", "k1": 1}}, {"system": {"stage": "ranker", "k1": 2}}, ("system.k1",)),
    ],
)
def test_keys_that_follow_from_a_switch_do_not_count(
    first: dict[str, Any], second: dict[str, Any], switches: tuple[str, ...]
) -> None:
    assert set(between(first, second).switches) == set(switches) == set(between(second, first).switches)


def test_a_level_that_says_how_another_factor_acts_is_the_one_that_modifies_it() -> None:
    """What the lines of `STAGES` come to: a pin, since verdicts hang on it; further factors may modify more."""
    pinned = {
        "factors.instruction_text": ("factors.instructed",),
        "factors.instruction_negative_share": ("factors.instruction_negatives",),
        "factors.twin_polarity": ("factors.reversed_views",),
        "factors.label_noise": ("factors.reversed_views",),
        "factors.twins": ("factors.reversed_views", "factors.plain_twins"),
    }
    assert {key: [name for name in HOW[key] if name in names] for key, names in pinned.items()} == {
        key: [*names] for key, names in pinned.items()
    }


def test_differences_are_shown_with_their_levels() -> None:
    assert str(between(trained(BASE), trained({**BASE, "reversed_views": 0.5}))) == "factors.reversed_views (off → 0.5)"
    assert str(between(trained(BASE), trained(BASE))) == "nothing"


def test_an_interaction_and_a_trend_are_not_confounded_and_a_jump_over_two_factors_is(tmp_path: Path) -> None:
    one, other = {"instructed": 1.0}, {"plain_twins": 1.0}
    levels: dict[str, dict[str, float]] = {"none": {}, "x": one, "y": other, "xy": {**one, **other}}
    arms = by_arm(runs_of(make_study(tmp_path, {name: Arm(f, seeds=(0,)) for name, f in levels.items()})))
    assert confounded(arms, {"xy": 1, "x": -1, "y": -1, "none": 1}) == ""
    assert confounded(arms, {"x": 1, "none": -1}) == ""
    assert confounded(arms, {"x": 0.5, "y": 0.5, "none": -1}) == ""
    assert confounded(arms, {"xy": 1, "none": -1}) == (
        "xy and none differ in 2 keys: factors.instructed, factors.plain_twins"
    )


def test_a_contrast_in_two_places_is_not_confounded_where_it_is_the_same_one(tmp_path: Path) -> None:
    """The places are two keys apart; each contrast is taken inside its place."""
    one, other = {"instructed": 1.0}, {"plain_twins": 1.0}
    place = {"learning_rate": 0.2, "epochs": 2}
    runs = runs_of(
        make_study(
            tmp_path,
            {
                "x": Arm(one, seeds=(0,)),
                "none": Arm(seeds=(0,)),
                "x_there": Arm(one, seeds=(0,), train=place),
                "none_there": Arm(seeds=(0,), train=place),
                "y_there": Arm(other, seeds=(0,), train=place),
                "none_elsewhere": Arm(seeds=(0,), train={"learning_rate": 0.3, "epochs": 2}),
            },
        )
    )
    arms = by_arm(runs)
    keys = "differ in 2 keys: train.learning_rate, train.epochs"
    assert confounded(arms, {"x": 1, "none": -1, "x_there": -1, "none_there": 1}) == ""
    assert confounded(arms, {"none_there": 1, "x_there": -1, "none": -1, "x": 1}) == ""
    assert confounded(arms, {"x": 0.5, "none": -0.5, "x_there": 0.5, "none_there": -0.5}) == ""
    assert confounded(arms, {"x": 1, "none_there": -1}).startswith("x and none_there differ in 3 keys")
    assert keys in confounded(arms, {"x": 1, "x_there": -1})  # each place has one arm and does not sum to 0
    assert keys in confounded(arms, {"x": 1, "none": 1, "x_there": -1, "none_there": -1})  # the places themselves
    uneven = {"x": 1, "none": -1, "x_there": -1, "none_there": 0.5, "y_there": 0.5}
    assert "differ in" in confounded(arms, uneven)
    assert "differ in 3 keys" in confounded(arms, {"x": 1, "none": -1, "y_there": -1, "none_there": 1})  # another step
    apart = confounded(arms, {"x": 1, "none": -1, "x_there": -1, "none_elsewhere": 1})
    assert "differ in" in apart, "none_elsewhere is no counterpart of none"


# declared runs


def cells(*places: tuple[str, int | None], reason: str = "") -> list[DeclaredCell]:
    arm_id = None if reason else "0" * 16
    return [DeclaredCell(label=arm, seed=seed, arm_id=arm_id, differs={}, reason=reason) for arm, seed in places]


def test_declared_runs_have_the_names_that_are_recorded(tmp_path: Path) -> None:
    store = make_study(tmp_path, {"lr_0.0001": FAIR["a"], "lr_1e-05": FAIR["b"]})
    arms = ["a train.learning_rate=1e-4", "a train.learning_rate=1e-5"]
    study = build_study(study_block([], arms=arms, seeds=[0, 1]))
    declared = cells(*((arm, seed) for seed in (0, 1) for arm in ("lr_0.0001", "lr_1e-05")))
    StudyRecords(store, "s").declare(study, declared)
    assert checks_of(store)["no declared run is missing"].found == "all 4 declared runs are there"


def test_a_declaration_without_its_cells_fails_nothing(tmp_path: Path) -> None:
    """As in results that were made before cells were recorded."""
    store = make_study(tmp_path, FAIR)
    under = declare(tmp_path, study_block([], seeds=[0, 1, 2]))
    assert failing(store) == ["no declared run is missing"]
    (tmp_path / "studies" / "s" / "cells" / f"{under}.json").unlink()
    assert failing(store) == []
    found = checks_of(store)["no declared run is missing"].found
    assert found.endswith("issuing the study's command again records them and makes no run twice")


@pytest.mark.parametrize("incoherent", ["error", "list"])
def test_a_declared_combination_that_makes_no_sense(tmp_path: Path, incoherent: str) -> None:
    store = make_study(tmp_path, FAIR)
    study = build_study(study_block([], arms=["a", "b", "z"], seeds=[0, 1], incoherent=incoherent))
    sound = cells(*((arm, seed) for seed in (0, 1) for arm in ("a", "b")))
    StudyRecords(store, "s").declare(study, [*sound, *cells(("z", 0), ("z", None), reason="z needs y")])
    check = checks_of(store)["no declared run is missing"]
    if incoherent == "list":
        assert (check.ok, check.found) == (True, "all 4 declared runs are there; combinations that make no sense: z")
    else:
        assert (check.ok, check.found) == (False, "2 of 6 declared runs have no scores: z seed 0, z seed ?")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "{", r"cannot be read \(JSONDecodeError"),
        (lambda text: "[]", "cannot be read"),
        (lambda text: text.replace('"seed": 0', '"seed": 7'), "was changed, or belongs to another declaration"),
        (lambda text: sealed(text, seed="x"), r"no record of the cells of a study \(cells\[0\].seed='x' has the wrong"),
        (lambda text: sealed(text, differs=[1]), r"\(cells\[0\].differs must be a group of keys\)"),
        (lambda text: sealed(text, more=1), r"\(unknown key cells\[0\].more"),
    ],
)
def test_a_record_of_cells_is_not_trusted(
    tmp_path: Path, change: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_study(tmp_path, FAIR)
    block = study_block([], seeds=[0, 1])
    path = tmp_path / "studies" / "s" / "cells" / f"{declare(tmp_path, block)}.json"
    path.write_text(change(path.read_text()))
    assert main(["s", "--results", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"{path}.*{said}", line) and line.endswith(
        "; issue the study's command again, which records its cells anew"
    )
    declare(tmp_path, block)
    assert failing(store) == []


def sealed(text: str, **changes: Any) -> str:
    """Change the first cell of a record as someone would who knows how records are written."""
    values = json.loads(text)
    values["cells"][0] |= changes
    return json.dumps({**values, "digest": digest({name: values[name] for name in ("declaration", "cells")})})


def test_the_declaration_of_a_run_is_that_of_its_scores(tmp_path: Path) -> None:
    (run,) = runs_of(make_study(tmp_path, {"a": Arm(seeds=(0,))}))
    values = {field.name: getattr(run.evaluation, field.name) for field in dataclasses.fields(run.evaluation)}
    under = dataclasses.replace(run, evaluation=SimpleNamespace(**{**values, "declared": "abc"}))  # type: ignore[arg-type]
    assert (run.declared, under.declared) == ("", "abc")


def test_an_arm_without_an_encoder_is_not_asked_for_its_batch(tmp_path: Path) -> None:
    bare = {name: value for name, value in EVALUATION.items() if name != "batch_size"}
    bm25 = Arm(system={"stage": "ranker"}, seeds=(0,), evaluation=bare)
    store = make_study(tmp_path / "same", {**FAIR, "bm25": bm25})
    assert failing(store) == []
    deeper = dataclasses.replace(bm25, evaluation={**bare, "depth": 20})
    store = make_study(tmp_path / "not", {**FAIR, "bm25": deeper})
    assert failing(store) == ["same protocol"]


APART = "no seed stands apart"


def broken_seed(root: Path, fall: float, losses: tuple[float, float] | None, seeds: int = 5) -> ResultStore:
    """Make a study whose arm b has a last seed that lies lower, trained with these losses."""
    usual = {"a": Arm(losses=(0.7, 0.1)), "b": Arm({"instructed": 1.0}, losses=(0.7, 0.1))}
    usual = {name: dataclasses.replace(arm, seeds=tuple(range(seeds - 1))) for name, arm in usual.items()}
    make_study(root, usual)
    last = {name: dataclasses.replace(arm, seeds=(seeds - 1,)) for name, arm in usual.items()}
    return make_study(root, {**last, "b": dataclasses.replace(last["b"], shift={NDCG: -fall}, losses=losses)})


def test_a_seed_that_stands_apart_is_named_and_stays(tmp_path: Path) -> None:
    check = checks_of(broken_seed(tmp_path, 0.2, (0.7, 0.3)))[APART]
    assert check.ok and re.fullmatch(
        r"b seed 4 has 0\.\d+ in nDCG@10 on d/test \(plain\), its 4 other seeds 0\.\d+ to 0\.\d+; it counts like the "
        r"others",
        check.found,
    )
    study = OpenStudy(Evidence(tmp_path, "s"))
    contrasts = study.ask((), ["b - a", "a - b"], (), Plan())
    assert [(label, mark) for label, mark, _ in contrasts.table.remarks if mark == "SEED APART"] == [
        ("b - a", "SEED APART"),
        ("a - b", "SEED APART"),
    ]
    assert all(len(scores.values_SQ["b"]) == 5 for scores in contrasts.table.cells.values())


@pytest.mark.parametrize(
    ("fall", "losses", "ok", "said"),
    [
        (0.2, (0.7, 0.8), False, "; its training diverged, loss 0.700 -> 0.800"),
        (0.2, None, True, "; it counts like the others"),
        (0.0, (0.7, 0.7), True, "the training of b seed 4 lowered nothing, loss 0.700 -> 0.700"),
        (0.0, (0.7, 0.1), True, "none of 2 arms has one"),
    ],
)
def test_only_a_training_that_diverged_fails_a_study(
    tmp_path: Path, fall: float, losses: tuple[float, float] | None, ok: bool, said: str
) -> None:
    check = checks_of(broken_seed(tmp_path, fall, losses))[APART]
    assert check.ok is ok and check.found.endswith(said)


def test_few_seeds_are_not_looked_at(tmp_path: Path) -> None:
    check = checks_of(broken_seed(tmp_path, 0.2, (0.7, 0.3), seeds=4))[APART]
    assert (check.ok, check.found) == (True, "not looked at, fewer than 5 seeds: a, b")


def test_the_distance_of_a_seed_by_hand() -> None:
    # means .1 .2 .3 .4 and 1: the first four have mean .25 and sd .1291, so t = .75 / (.1291 sqrt 1.25) with 3 df
    block_SQ = np.array([[0.1], [0.2], [0.3], [0.4], [1.0]]) + np.zeros((1, 7))
    assert deleted_p(block_SQ)[4] == pytest.approx(2 * stats.t.sf(0.75 / (math.sqrt(1 / 60) * math.sqrt(1.25)), 3))
    assert list(deleted_p(np.ones((5, 3)))) == [1.0] * 5
    same_SQ = np.ones((5, 3))
    same_SQ[2] = 2.0
    assert deleted_p(same_SQ)[2] == 0.0


@pytest.mark.parametrize(("num_seeds", "num_cells", "correlation"), [(5, 1, 0.0), (5, 8, 0.9), (10, 4, 0.5)])
def test_a_normal_arm_seldom_has_a_seed_apart(num_seeds: int, num_cells: int, correlation: float) -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    draws, named = 800, 0
    for _ in range(draws):
        common_S = math.sqrt(correlation) * generator.normal(size=num_seeds)
        cells = {}
        for place in range(num_cells):
            means_S = common_S + math.sqrt(1 - correlation) * generator.normal(size=num_seeds)
            cells[Cell("d", "c", "", f"m{place}")] = CellScores(("q", "r"), {"a": np.stack([means_S, means_S], axis=1)})
        named += bool(seeds_apart(ScoreTable("t", {"a": tuple(map(str, range(num_seeds)))}, cells), ["a"]))
    assert named / draws < 0.01 + 2 * math.sqrt(0.01 / draws)
