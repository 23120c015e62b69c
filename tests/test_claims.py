"""Declared claims: each verdict by a made study, the order among them, late claims, looks, the family."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats
from synthetic_study import CHANGED, GAIN, NDCG, PMRR, Arm, claim, declare, make_quick, make_study, study_block

from ablate.records import UserError
from ablate.store.manifest import write_manifest
from ablate.store.results import ResultStore
from ablate.study.declaration import MACRO, Claim, build_study
from ablate.tables import number
from analysis.claims import main
from analysis.stats.corrections import holm
from analysis.stats.crossed import crossed
from analysis.stats.matrix import read_scores
from analysis.stats.power import Parts, outlook, power
from analysis.study.declared import read_declaration, stored_declarations
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy
from analysis.study.runs import ArmRun
from analysis.verdict.claims_tables import claims_csv, claims_table
from analysis.verdict.judge import Judged, Judgement, judge, late, place_of, seeds_reasons
from analysis.verdict.rule import Ruling, Size, claim_interval, claim_p, first_of, needed

ON = {"instructed": 1.0}
ORIGINAL = ("d/test", "original", "original", "nDCG@10")
Claims = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def judged(root: Path, made: Mapping[str, Arm], claims: Claims, **block: Any) -> Judgement:
    """Declare the claims, make the runs under them, and judge."""
    under = declare(root, study_block(claims, **block))
    store = make_study(root, {name: dataclasses.replace(arm, declared=under) for name, arm in made.items()})
    return verdicts(store.root)


def verdicts(root: Path) -> Judgement:
    return judge(OpenStudy(Evidence(root, "s")))


def two(shift: float = 0.0, **more: Any) -> dict[str, Arm]:
    return {"a": Arm(), "b": Arm(ON, {NDCG: shift}, **more)}


def only(found: Judgement) -> Judged:
    (one,) = found.claims
    return one


# one verdict each; the scores' standard error of b - a is about .008


SAID: list[tuple[float, dict[str, Any], str, str]] = [
    (0.1, {"expects": "greater"}, "SUPPORTED", "it is greater (+0."),
    (-0.1, {"expects": "less"}, "SUPPORTED", "it is less (-0."),
    (-0.1, {"expects": "greater"}, "REFUTED", "the opposite holds: it is less (-0."),
    (0.1, {"expects": "less"}, "REFUTED", "the opposite holds: it is greater (+0."),
    (0.0, {"expects": "greater", "margin": 0.05}, "REFUTED", "the difference lies within ±0.05, which was declared"),
    (0.0, {"expects": "greater"}, "UNDECIDED", "Holm p 1.0000 is not below 0.05"),
    (0.0, {"expects": "equivalent", "margin": 0.05}, "SUPPORTED", "the difference lies within ±0.05 ("),
    (0.2, {"expects": "equivalent", "margin": 0.05}, "REFUTED", "the difference is beyond ±0.05"),
    (0.0, {"expects": "equivalent", "margin": 0.005}, "UNDECIDED", "is not below 0.05"),
    (0.0, {"expects": "not_worse", "margin": 0.05}, "SUPPORTED", "it is not worse by 0.05 or more"),
    (-0.2, {"expects": "not_worse", "margin": 0.05}, "REFUTED", "it is worse by more than 0.05"),
    (-0.05, {"expects": "not_worse", "margin": 0.05}, "UNDECIDED", "is not below 0.05"),
]
"""By how much the arm is shifted, what is claimed of it, the verdict, and how its reason begins."""


def test_what_the_test_says(tmp_path: Path) -> None:
    arms = {f"b{shift:g}": Arm({"instructed": shift}, {NDCG: shift}) for shift in {shift for shift, *_ in SAID}}
    claims = [claim(f"c{place}", contrast=f"b{shift:g} - a", **asked) for place, (shift, asked, *_) in enumerate(SAID)]
    found = judged(tmp_path, {"a": Arm(), **arms}, claims)
    for one, (shift, _, verdict, said) in zip(found.claims, SAID, strict=True):
        assert (one.ruling.verdict, one.would_be) == (verdict, verdict), one
        assert one.row is not None and abs(one.row.result.estimate - shift) < 0.02
        assert said in one.ruling.reason and one.level.family == len(SAID)


def test_undecided_says_how_large_a_new_study_must_be(tmp_path: Path) -> None:
    one = only(judged(tmp_path, two(0.012), [claim("c", "greater")], margins=[["nDCG@10", 0.02]]))
    assert one.ruling.verdict == "UNDECIDED" and one.row is not None
    result = one.row.result
    low, high = needed(one.row, 0.02, 0.05)
    assert low.seeds is not None and high.seeds is not None and low.units is not None and high.units is not None
    assert (
        f"a new study of {low.seeds} to {high.seeds} seeds per arm on 20 queries or {low.units} to {high.units} "
        "queries with 5 seeds per arm would find a difference of 0.02, the margin, with power 0.8 (by the spread seen "
        "here, 80 % range; more seeds in this study would be no test)"
    ) in one.ruling.reason
    assert result.df is not None
    for size, level in ((low, 0.9), (high, 0.1)):
        factor = result.df / stats.chi2.ppf(level, result.df)
        parts = Parts(
            factor * max(result.v_seed - result.v_resid, 0) * 5,
            factor * max(result.v_query - result.v_resid, 0) * 20,
            factor * result.v_resid * 100,
        )
        assert size.units is not None and size.seeds is not None
        enough, fewer = (power(0.02, outlook(parts, 5, count)) for count in (size.units, size.units - 1))
        assert enough >= 0.8 > fewer
        assert power(0.02, outlook(parts, size.seeds, 20)) >= 0.8
        assert size.seeds == 5 or power(0.02, outlook(parts, size.seeds - 1, 20)) < 0.8


def test_advice_without_a_margin_says_what_it_is_for(tmp_path: Path) -> None:
    claims = [claim("c", "greater"), claim("e", "equivalent", margin=0.005), claim("n", "not_worse", margin=0.005)]
    greater, equivalent, not_worse = judged(tmp_path, two(0.0), claims).claims
    assert equivalent.ruling.verdict == not_worse.ruling.verdict == greater.ruling.verdict == "UNDECIDED"
    assert "(no margin says which matters, and estimates are chance too)" in greater.ruling.reason
    for one in (equivalent, not_worse):
        assert "would show it with power 0.8 if there is no difference" in one.ruling.reason


def test_an_equivalence_has_the_interval_of_its_two_tests(tmp_path: Path) -> None:
    claims = [claim("e", "equivalent", margin=0.05), claim("g", "greater"), claim("n", "not_worse", margin=0.05)]
    found = judged(tmp_path, two(0.012), claims)
    equivalent, greater, not_worse = found.claims
    assert equivalent.row is not None and greater.row is not None and not_worse.row is not None
    result = equivalent.row.result
    assert claim_interval(equivalent.claim, equivalent.row) == (result.interval(0.9), 0.9)
    assert claim_interval(not_worse.claim, not_worse.row) == (result.interval(0.9), 0.9)
    assert claim_interval(greater.claim, greater.row) == (result.ci, 0.95)
    low, high = result.interval(0.9)
    assert f"(+{result.estimate:.4f} [{number(low)}, {number(high)}] at 90 %, Holm p" in equivalent.ruling.reason
    assert [(row[7], row[8]) for row in claims_table(found).rows] == [
        (f"[{number(low)}, {number(high)}]", "90 %"),
        (f"[{number(result.ci[0])}, {number(result.ci[1])}]", "95 %"),
        (f"[{number(low)}, {number(high)}]", "90 %"),
    ]
    records = list(csv.DictReader(claims_csv(found).splitlines()))
    assert [float(record["level"]) for record in records] == [0.9, 0.95, 0.9]
    assert float(records[0]["ci_low"]) == low and float(records[1]["ci_low"]) == result.ci[0]
    # the interval lies within a margin exactly where two one-sided tests at .05 say so
    edge = max(-low, high)
    assert result.tost(edge * 1.001) < 0.05 < result.tost(edge * 0.999)


def test_nothing_decides_where_the_estimate_is_on_the_border(tmp_path: Path) -> None:
    one = only(judged(tmp_path, two(0.0), [claim("c", "greater")]))
    assert one.row is not None and needed(one.row, 0.0, 0.05) == (Size(None, None), Size(None, None))


def test_more_seeds_are_no_way_for_arms_without_training(tmp_path: Path) -> None:
    system = {"stage": "ranker"}
    arms = {
        "a": Arm(system={**system, "k": 1}, seeds=(0,)),
        "b": Arm(system={**system, "k": 2}, shift={NDCG: 0.012}, seeds=(0,)),
    }
    one = only(judged(tmp_path, arms, [claim("c", "greater")]))
    assert one.ruling.verdict in ("UNDECIDED", "SUPPORTED") and one.row is not None
    assert [size.seeds for size in needed(one.row, 0.012, 0.001)] == [None, None]


def test_confounded_and_unmatched_come_before_what_the_test_says(tmp_path: Path) -> None:
    arms = {
        "a": Arm(),
        "b": Arm({**ON, "plain_twins": 1.0}, {NDCG: 0.1}),
        "c": Arm(ON, {NDCG: 0.1}, groups=16),
        "d": Arm({**ON, "z": 1}, {NDCG: 0.1}, groups=16),
    }
    claims = [
        claim("two keys", "greater"),
        claim("volume", "greater", contrast="c - a"),
        claim("both", "greater", contrast="d - a"),
    ]
    first, second, third = judged(tmp_path, arms, claims).claims
    assert first.ruling.verdict == "CONFOUNDED"
    assert first.ruling.reason.startswith("b and a differ in 2 keys") or "differ in 2 keys: " in first.ruling.reason
    assert "taken as it is, it would be SUPPORTED: it is greater" in first.ruling.reason
    assert second.ruling.verdict == "UNMATCHED"
    assert "c has 16 against 8 groups (seed 0)" in second.ruling.reason
    assert third.ruling.verdict == "UNMATCHED" and "and CONFOUNDED: " in third.ruling.reason


# p-MRR with nDCG beside it


def with_pmrr(
    changed: float, original: float = 0.0, margins: Any = (("nDCG@10", 0.05),), gain: float | None = None
) -> tuple[dict[str, Arm], Any]:
    shift = {PMRR: 0.2, CHANGED: changed, ORIGINAL: original}
    if gain is not None:
        shift[GAIN] = gain - 0.4  # scores are around .4
    return {"a": Arm(shift=dict.fromkeys(shift, 0.0)), "b": Arm(ON, shift)}, [list(one) for one in margins]


@pytest.mark.parametrize(
    ("changed", "original", "margins", "verdict", "said"),
    [
        (0.1, 0.0, (("nDCG@10", 0.05),), "SUPPORTED", "not worse by 0.05 or more"),
        (-0.2, 0.0, (("nDCG@10", 0.05),), "UNDECIDED", "the model loses what it should keep"),
        (-0.2, 0.0, (), "UNDECIDED", "not tested: no margin was declared"),
        (0.1, 0.0, (), "UNDECIDED", "no margin of nDCG@10 was declared (study.margins)"),
        (0.1, -0.2, (("nDCG@10", 0.05),), "UNDECIDED", "(original) is -0."),
        (0.0, 0.0, (("nDCG@10", 0.001),), "UNDECIDED", "so a loss of documents cannot be excluded"),
    ],
)
def test_a_higher_p_mrr_is_judged_by_ndcg(
    tmp_path: Path, changed: float, original: float, margins: Any, verdict: str, said: str
) -> None:
    arms, block = with_pmrr(changed, original, margins)
    one = only(judged(tmp_path, arms, [claim("c", "greater", PMRR)], margins=block))
    assert one.ruling.verdict == verdict and said in one.ruling.reason


@pytest.mark.parametrize(
    ("gain", "verdict", "said"),
    [
        (0.1, "SUPPORTED", "(not worse by 0.05 or more). Covers"),
        (None, "SUPPORTED", "; no collapse can be seen, b has no instruction gain. Covers"),
        (-0.1, "COLLAPSED", "and b collapses on d/test: p-MRR x 100 is +"),
        (-0.001, "UNDECIDED", "but of b on d/test p-MRR x 100 is +"),
    ],
)
def test_a_higher_p_mrr_of_an_arm_that_ignoring_would_serve_better_is_a_collapse(
    tmp_path: Path, gain: float | None, verdict: str, said: str
) -> None:
    arms, block = with_pmrr(0.1, gain=gain)  # nDCG is kept, whatever the gain
    judgement = judged(tmp_path, arms, [claim("c", "greater", PMRR)], margins=block)
    one = only(judgement)
    assert one.ruling.verdict == verdict and said in one.ruling.reason
    marks = [remark[:2] for remark in judgement.remarks]
    assert marks == {"COLLAPSED": [("b", "COLLAPSE")], "UNDECIDED": [("b", "COLLAPSE NOT DECIDED")]}.get(verdict, [])


def test_an_arm_that_a_claim_calls_lower_may_collapse(tmp_path: Path) -> None:
    arms, block = with_pmrr(0.1, gain=-0.1)
    one = only(judged(tmp_path, arms, [claim("c", "greater", PMRR, contrast="a - b")], margins=block))
    assert one.ruling.verdict == "REFUTED"


def test_p_mrr_alone_supports_nothing(tmp_path: Path) -> None:
    arms = {"a": Arm(shift={PMRR: 0.0}), "b": Arm(ON, {PMRR: 0.2})}
    one = only(judged(tmp_path, arms, [claim("c", "greater", PMRR)]))
    assert one.ruling == Ruling("UNDECIDED", one.ruling.reason) and "there is no nDCG beside it" in one.ruling.reason


def test_ndcg_of_plain_queries_alone_excludes_no_loss(tmp_path: Path) -> None:
    arms = {"a": Arm(shift={PMRR: 0.0, NDCG: 0.0}), "b": Arm(ON, {PMRR: 0.2, NDCG: 0.0})}
    one = only(judged(tmp_path, arms, [claim("c", "greater", PMRR)], margins=[["nDCG@10", 0.05]]))
    assert one.ruling.verdict == "UNDECIDED"
    assert "there is no nDCG under the changed instruction: a loss may hide" in one.ruling.reason


# declared before the results, at a declared look


def test_without_a_declaration_at_the_runs_a_claim_is_exploratory(tmp_path: Path) -> None:
    store = make_study(tmp_path, two(0.1))
    declare(tmp_path, study_block([claim("c", "greater")]))
    one = only(verdicts(store.root))
    assert (one.ruling.verdict, one.would_be) == ("EXPLORATORY", "SUPPORTED")
    assert one.ruling.reason.startswith("results were there without any declaration: 10 of 10 runs (a seed 0, ")
    assert "it would be SUPPORTED: it is greater (+0." in one.ruling.reason


def test_a_late_or_changed_claim_is_exploratory_and_the_old_one_stays_in_the_family(tmp_path: Path) -> None:
    old = declare(tmp_path, study_block([claim("kept", "greater"), claim("c", "greater", alpha=0.01)]))
    make_study(tmp_path, {name: dataclasses.replace(arm, declared=old) for name, arm in two(0.1).items()})
    claims = [claim("kept", "greater"), claim("c", "greater", alpha=0.05), claim("new", "less")]
    declare(tmp_path, study_block(claims), at="2026-03-01T00:00:00+00:00")
    found = verdicts(tmp_path)
    shown = {(one.claim.name, one.withdrawn): one for one in found.claims}
    assert [(key, one.ruling.verdict) for key, one in shown.items()] == [
        (("kept", False), "SUPPORTED"),
        (("c", False), "EXPLORATORY"),
        (("new", False), "EXPLORATORY"),
        (("c", True), "EXPLORATORY"),
    ]
    assert shown["new", False].would_be == "REFUTED"
    assert shown["c", False].ruling.reason.startswith("declared after results, or changed since: 10 of 10 runs")
    assert shown["c", True].ruling.reason.startswith("it was withdrawn")
    assert {one.level.family for one in found.claims} == {4}


def test_a_claim_declared_again_without_a_change_stands(tmp_path: Path) -> None:
    old = declare(tmp_path, study_block([claim("c", "greater")]))
    make_study(tmp_path, {name: dataclasses.replace(arm, declared=old) for name, arm in two(0.1).items()})
    declare(tmp_path, study_block([claim("c", "greater")], question="other?"), at="2026-03-01T00:00:00+00:00")
    assert only(verdicts(tmp_path)).ruling.verdict == "SUPPORTED"


def test_late_runs_of_arms_that_a_claim_does_not_name_are_none_of_its_business(tmp_path: Path) -> None:
    under = declare(tmp_path, study_block([claim("c", "greater")], arms=["a", "b", "d"]))
    made = {name: dataclasses.replace(arm, declared=under) for name, arm in two(0.1).items()}
    store = make_study(tmp_path, {**made, "d": Arm({"instructed": 0.5}, seeds=(7, 8))})
    assert only(verdicts(store.root)).ruling.verdict == "SUPPORTED"


def test_runs_are_missing_by_the_declaration_that_is_judged(tmp_path: Path) -> None:
    under = declare(tmp_path, study_block([claim("c", "greater")]))
    store = make_study(tmp_path, {name: dataclasses.replace(arm, declared=under) for name, arm in two(0.1).items()})
    for seeds, said in (([*range(6)], "2 of 12 declared runs"), ([*range(5)], "all 10 declared runs are there")):
        block = study_block([claim("c", "greater")], seeds=seeds)
        declare(tmp_path, block)
        path = tmp_path / "s.yaml"
        path.write_text(yaml.safe_dump({"study": block}))
        opened = OpenStudy(Evidence(store.root, "s", declared=read_declaration(path)))
        checks = {check.name: check.found for check in judge(opened).checks}
        assert checks["no declared run is missing"].startswith(said)


def test_one_run_without_the_declaration_is_enough(tmp_path: Path) -> None:
    under = declare(tmp_path, study_block([claim("c", "greater")]))
    make_study(tmp_path, {"a": Arm(declared=under), "b": Arm(ON, {NDCG: 0.1}, declared=under, seeds=(0, 1, 2, 3))})
    make_study(tmp_path, {"b": Arm(ON, {NDCG: 0.1}, seeds=(4,))})
    one = only(verdicts(tmp_path))
    assert one.ruling.reason.startswith("results were there without any declaration: 1 of 10 runs (b seed 4); it would")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({}, {"seeds": [0, 1, 2, 3, 4, 5]}, "the declared numbers of seeds were changed after results"),
        (
            {"looks": [5, 6], "seeds": [*range(6)]},
            {"looks": [5], "seeds": [*range(6)]},
            "the declared numbers of seeds were changed after results",
        ),
    ],
)
def test_looks_changed_after_results(tmp_path: Path, old: dict[str, Any], new: dict[str, Any], said: str) -> None:
    under = declare(tmp_path, study_block([claim("c", "greater")], **old))
    make_study(tmp_path, {name: dataclasses.replace(arm, declared=under) for name, arm in two(0.1).items()})
    declare(tmp_path, study_block([claim("c", "greater")], **new), at="2026-03-01T00:00:00+00:00")
    one = only(verdicts(tmp_path))
    assert one.ruling.verdict == "EXPLORATORY" and one.ruling.reason.startswith(said)


def test_margins_of_ndcg_changed_after_results_make_claims_of_p_mrr_late_and_no_others(tmp_path: Path) -> None:
    arms, margins = with_pmrr(0.1)
    claims = [claim("p", "greater", PMRR), claim("n", "greater", CHANGED)]
    old = declare(tmp_path, study_block(claims, margins=margins))
    make_study(tmp_path, {name: dataclasses.replace(arm, declared=old) for name, arm in arms.items()})
    assert [one.ruling.verdict for one in verdicts(tmp_path).claims] == ["SUPPORTED", "SUPPORTED"]
    declare(tmp_path, study_block(claims, margins=[["nDCG@10", 0.5]]), at="2026-03-01T00:00:00+00:00")
    first, second = verdicts(tmp_path).claims
    assert (first.ruling.verdict, second.ruling.verdict) == ("EXPLORATORY", "SUPPORTED")
    assert first.ruling.reason.startswith("the margins of nDCG were changed after results: 10 of 10 runs (")


def test_a_system_without_training_may_have_been_measured_before_the_claim(tmp_path: Path) -> None:
    """One seed is enough for it too; where nothing is trained, its own runs decide."""
    system = {"stage": "ranker"}
    under = declare(tmp_path, study_block([claim("c", "greater")]))
    make_study(tmp_path, {"a": Arm(system={**system, "k": 1}, seeds=(0,)), "b": Arm(ON, {NDCG: 0.1}, declared=under)})
    one = only(verdicts(tmp_path))
    assert one.ruling.verdict == "SUPPORTED" and one.row is not None and one.row.deterministic == {"a"}
    other = tmp_path / "other"
    declare(other, study_block([claim("c", "greater")]))
    make_study(
        other,
        {
            "a": Arm(system={**system, "k": 1}, seeds=(0,)),
            "b": Arm(system={**system, "k": 2}, shift={NDCG: 0.1}, seeds=(0,)),
        },
    )
    reason = only(verdicts(other)).ruling.reason
    assert reason.startswith("results were there without any declaration: 2 of 2 runs (a seed 0, b seed 0); it would")


def test_four_late_runs_are_named_and_more_are_counted(tmp_path: Path) -> None:
    for num_late, said in (
        (4, "4 of 10 runs (b seed 0, b seed 1, b seed 2, b seed 3); it"),
        (5, "5 of 10 runs (b seed 0, b seed 1, b seed 2, b seed 3 and 1 more); it"),
    ):
        folder = tmp_path / str(num_late)
        under = declare(folder, study_block([claim("c", "greater")]))
        rest = tuple(range(num_late, 5))
        make_study(folder, {"a": Arm(declared=under), "b": Arm(ON, {NDCG: 0.1}, seeds=tuple(range(num_late)))})
        if rest:
            make_study(folder, {"b": Arm(ON, {NDCG: 0.1}, declared=under, seeds=rest)})
        assert said in only(verdicts(folder)).ruling.reason


@pytest.mark.parametrize(
    ("declared", "finished", "is_late"),
    [
        ("2026-01-01T12:00:00+00:00", "2026-01-01T12:00:00+00:00", False),  # at the same time
        ("2026-01-01T12:00:01+00:00", "2026-01-01T12:00:00+00:00", True),
        ("2026-01-01T12:00:01", "2026-01-01T12:00:00+00:00", True),  # without a zone: UTC
        ("2026-01-01T12:00:01+01:00", "2026-01-01T12:00:00", False),  # an hour earlier
    ],
)
def test_a_declaration_is_late_when_it_is_younger_than_results(
    tmp_path: Path, declared: str, finished: str, is_late: bool
) -> None:
    under = declare(tmp_path, study_block([claim("c", "greater")]), at=declared)
    store = make_study(tmp_path, {"a": Arm(declared=under, seeds=(0,))})
    said = late(*_asked(store.root, finished))
    assert said == (["the declaration is younger than results: 1 of 1 runs (a seed 0)"] if is_late else [])


def _asked(root: Path, finished: str) -> tuple[OpenStudy, Claim, list[ArmRun]]:
    """Return a study of one measured run with its claim, as if the run had been finished at another time."""
    study = OpenStudy(Evidence(root, "s"))
    assert study.evidence.declared is not None
    (asked,) = study.evidence.declared.study.claims
    (run,) = study.evidence.runs
    evaluation = dataclasses.replace(run.evaluation, finished=finished)
    return study, asked, [dataclasses.replace(run, evaluation=evaluation, train=None)]


def test_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    under = declare(tmp_path, study_block([claim("c", "greater")]))
    store = make_study(tmp_path, {"a": Arm(declared=under, seeds=(0,))})
    with pytest.raises(UserError, match="'yesterday' in the results is no time; write ISO 8601, 2026-01-31T12:00"):
        late(*_asked(store.root, "yesterday"))


def test_a_declaration_younger_than_its_runs_or_unknown_is_told(tmp_path: Path) -> None:
    under = declare(tmp_path, study_block([claim("c", "greater")]), at="2126-01-01T00:00:00+00:00")
    make_study(tmp_path, {"a": Arm(declared=under), "b": Arm(ON, {NDCG: 0.1}, declared="f" * 16)})
    reason = only(verdicts(tmp_path)).ruling.reason
    assert "the declaration is younger than results: 5 of 10 runs" in reason
    assert "results stood under a declaration that is not stored (ffffffffffffffff): 5 of 10 runs" in reason


@pytest.mark.parametrize(
    ("study", "seeds", "said"),
    [
        ({"seeds": [0, 1, 2]}, {"a": [0, 1, 2]}, ["fewer than 5 seeds (a 3)"]),
        ({}, {"a": [0, 1, 2, 3, 4]}, []),
        ({}, {"a": [0, 1, 2, 3, 4, 5]}, ["not at a declared look of 5 seeds (a 6)"]),
        (
            {"seeds": [*range(10)], "looks": [5, 10]},
            {"a": [*range(7)]},
            ["not at a declared look of 5 or 10 seeds (a 7)"],
        ),
        ({"seeds": [*range(10)], "looks": [5, 10]}, {"a": [*range(5)]}, []),
        (
            {"seeds": [*range(10)], "looks": [5, 10]},
            {"a": [5, 6, 7, 8, 9]},
            ["the seeds of a are not the first ones declared"],
        ),
        (
            {"seeds": [*range(10)], "looks": [5, 10]},
            {"a": [*range(5)], "b": [*range(10)]},
            ["the arms are at different looks"],
        ),
    ],
)
def test_seeds_must_be_those_of_a_declared_look(study: dict[str, Any], seeds: Any, said: list[str]) -> None:
    from ablate.study.declaration import build_study

    assert seeds_reasons(build_study(study_block([], **study)), seeds) == said


def test_fewer_than_five_seeds_are_exploratory(tmp_path: Path) -> None:
    arms = {name: dataclasses.replace(arm, seeds=(0, 1, 2)) for name, arm in two(0.1).items()}
    one = only(judged(tmp_path, arms, [claim("c", "greater")], seeds=[0, 1, 2]))
    assert one.ruling.reason.startswith("fewer than 5 seeds (a 3, b 3); it would be SUPPORTED")


def test_looks_divide_alpha(tmp_path: Path) -> None:
    """p of the made scores is between alpha / 2 and alpha, so two looks turn the verdict."""
    probe = only(judged(tmp_path / "0", two(0.015), [claim("c", "greater")]))
    assert probe.p is not None and 0.001 < probe.p < 0.033
    alpha, planned = 1.5 * probe.p, {"seeds": [*range(10)], "looks": [5, 10]}
    once = only(judged(tmp_path / "1", two(0.015), [claim("c", "greater", alpha=alpha)]))
    twice = only(judged(tmp_path / "2", two(0.015), [claim("c", "greater", alpha=alpha)], **planned))
    assert (once.ruling.verdict, twice.ruling.verdict) == ("SUPPORTED", "UNDECIDED")
    assert twice.level.alpha == alpha / 2 and twice.row is not None and twice.row.result.alpha == alpha / 2


def test_a_look_below_five_seeds_costs_no_alpha_and_is_no_change_of_plan(tmp_path: Path) -> None:
    # declared before such looks were refused, and judged by a declaration without them
    under = declare(tmp_path, study_block([claim("c", "greater")], looks=[3, 5]))
    make_study(tmp_path, {name: dataclasses.replace(arm, declared=under) for name, arm in two(0.1).items()})
    found = verdicts(tmp_path)
    assert (only(found).ruling.verdict, only(found).level.alpha) == ("SUPPORTED", 0.05)
    assert "declared looks" not in " ".join(claims_table(found).notes)
    declare(tmp_path, study_block([claim("c", "greater")]), at="2026-01-01T12:00:00+00:00")
    assert only(verdicts(tmp_path)).ruling.verdict == "SUPPORTED"


def test_a_stored_claim_of_a_lax_level_is_exploratory(tmp_path: Path) -> None:
    strict, lax = judged(
        tmp_path, two(0.1), [claim("c", "greater", alpha=0.05), claim("d", "not_worse", margin=0.05, alpha=0.2)]
    ).claims
    assert strict.ruling.verdict == "SUPPORTED"
    assert (lax.ruling.verdict, lax.would_be) == ("EXPLORATORY", "SUPPORTED")
    assert lax.ruling.reason.startswith("its alpha is 0.2, and above 0.05 nothing is confirmed; it would be")


# the family, places, trends, what is not there


def test_holm_runs_over_all_declared_claims_and_one_without_scores_counts(tmp_path: Path) -> None:
    claims = [
        claim("c", "greater"),
        claim("d", "equivalent", margin=0.05),
        claim("e", "greater", contrast="z - a"),
        claim("f", "greater", place=("d/test", "plain", "plain", "RR@10")),
    ]
    found = judged(tmp_path, two(0.012), claims)
    first, second, third, fourth = found.claims
    assert first.row is not None and second.row is not None
    cell = found.table.cells[first.row.cell].values_SQ
    result = crossed(cell, {"b": 1.0, "a": -1.0})
    assert (first.p, second.p) == (result.p, result.tost(0.05))
    expected = holm([result.p, result.tost(0.05), 1.0, 1.0])
    assert [first.p_holm, second.p_holm] == expected[:2] and third.p_holm is None
    assert [one.tested for one in found.claims] == [True, True, False, False]
    assert third.ruling.verdict == "UNDECIDED" and "arm 'z' is unknown; arms are a, b" in third.ruling.reason
    assert "there are no scores of RR@10 on d/test (plain: plain); there are 'nDCG@10 on d/test" in fourth.ruling.reason


def test_an_arm_that_was_not_measured_in_the_place_of_a_claim_is_named(tmp_path: Path) -> None:
    arms = {"a": Arm(shift={NDCG: 0.0, CHANGED: 0.0}), "b": Arm(ON, {CHANGED: 0.1})}
    one = only(judged(tmp_path, arms, [claim("c", "greater")]))
    assert (one.row, one.p, one.tested, one.ruling.verdict) == (None, None, False, "UNDECIDED")
    assert one.ruling.reason == "b has no scores there"


def test_the_p_of_a_claim_is_that_of_its_own_test(tmp_path: Path) -> None:
    one = only(judged(tmp_path, two(-0.01), [claim("c", "not_worse", margin=0.03)]))
    assert one.row is not None and one.p == one.row.result.noninferior(0.03) == claim_p(one.claim, one.row.result)
    assert one.row.margin == 0.03 and one.row.tost_p == one.row.result.tost(0.03)


def test_the_newest_declaration_is_judged(tmp_path: Path) -> None:
    make_study(tmp_path, two(0.1))
    for day, name in enumerate(("first", "second", "third"), start=1):
        declare(tmp_path, study_block([claim(name, "greater")]), at=f"2026-01-0{day}T00:00:00+00:00")
    found = verdicts(tmp_path)
    assert only(found).claim.name == "third" and found.declared.study.claims[0].name == "third"


def test_an_arm_of_one_seed_has_an_estimate_and_no_test(tmp_path: Path) -> None:
    arms = {"a": Arm(), "b": Arm(ON, {NDCG: 0.1}, seeds=(0,))}
    one = only(judged(tmp_path, arms, [claim("c", "greater")]))
    assert (one.ruling.verdict, one.would_be, one.p) == ("EXPLORATORY", "UNDECIDED", None)
    assert "b has one seed, which says nothing about new ones" in one.ruling.reason
    assert one.row is not None and f"{one.row.result.estimate:.4f}" in one.ruling.reason


def test_a_macro_mean_is_over_all_data_sets_that_have_the_measure(tmp_path: Path) -> None:
    other = ("e/test", *NDCG[1:])
    arms = {"a": Arm(shift={NDCG: 0.0, other: 0.0}), "b": Arm(ON, {NDCG: 0.2, other: 0.1})}
    one = only(judged(tmp_path, arms, [claim("c", "greater", ("macro", "plain", "", "nDCG@10"))]))
    assert one.row is not None and one.row.num_sets == 2 and one.ruling.verdict == "SUPPORTED"
    assert one.row.result.estimate == pytest.approx(0.15, abs=0.01)


def test_a_trend_over_doses(tmp_path: Path) -> None:
    arms = {
        name: Arm({"label_noise": dose} if dose else {}, {NDCG: -0.4 * dose})
        for name, dose in (("n0", 0.0), ("n1", 0.1), ("n2", 0.2))
    }
    slope = claim("dose", "less", contrast="trend: n0=0, n1=.1, n2=.2")
    one = only(judged(tmp_path, arms, [slope], arms=["n0", "n1", "n2"]))
    assert one.ruling.verdict == "SUPPORTED" and one.row is not None
    assert one.row.result.estimate == pytest.approx(-0.4, abs=0.1)  # the slope that the scores were made with
    assert ". No lack of fit to a line is shown (p .8" in one.ruling.reason


def test_a_trend_that_bends_is_said_beside_its_verdict(tmp_path: Path) -> None:
    arms = {
        name: Arm({"label_noise": dose} if dose else {}, {NDCG: -fall})
        for name, dose, fall in (("n0", 0.0, 0.0), ("n1", 0.1, 0.2), ("n2", 0.2, 0.2))
    }
    slope = claim("dose", "less", contrast="trend: n0=0, n1=.1, n2=.2")
    one = only(judged(tmp_path, arms, [slope], arms=["n0", "n1", "n2"]))
    assert one.ruling.verdict == "SUPPORTED" and one.row is not None and one.row.lack_of_fit is not None
    assert ". The means are on no line: n1 lies 0.0" in one.ruling.reason and " below it " in one.ruling.reason
    assert main(["s", "--results", str(tmp_path), "--json", str(tmp_path / "c.json")]) == 0
    record = json.loads((tmp_path / "c.json").read_text())["claims"][0]["row"]["lack_of_fit"]
    assert record["arm"] == "n1" and record["p"] < 0.05 and record["deviation"] < 0


def test_equal_scores_are_equivalent_and_the_reason_says_that_no_error_was_estimated(tmp_path: Path) -> None:
    arms = {"a": Arm(spread=0.0), "b": Arm(ON, spread=0.0)}
    claims = [claim("c", "equivalent", margin=0.01), claim("d", "greater"), claim("e", "greater", margin=0.01)]
    first, second, third = judged(tmp_path, arms, claims).claims
    assert [one.ruling.verdict for one in (first, second, third)] == ["SUPPORTED", "UNDECIDED", "REFUTED"]
    assert all("no error could be estimated" in one.ruling.reason for one in (first, second, third))


# the order of verdicts


def test_the_order_of_verdicts() -> None:
    said, marks = Ruling("SUPPORTED", "yes"), {"UNMATCHED": "u", "CONFOUNDED": "c"}
    assert first_of(said) == (said, "SUPPORTED")
    assert first_of(said, "", {"CONFOUNDED": "c"})[0].verdict == "CONFOUNDED"
    assert first_of(said, "", marks)[0].verdict == "UNMATCHED"
    found, would_be = first_of(Ruling("COLLAPSED", "x"), "late", marks)
    assert (found.verdict, would_be) == ("EXPLORATORY", "UNMATCHED")
    assert found.reason == "late; it would be UNMATCHED: u; and CONFOUNDED: c; taken as it is, it would be COLLAPSED: x"
    assert first_of(Ruling("COLLAPSED", "x"), "", {})[0].verdict == "COLLAPSED"


# files and the command line


def test_everything_is_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms, margins = with_pmrr(-0.2, gain=-0.2)
    claims = [claim("c_1", "greater", PMRR), claim("d", "greater", CHANGED)]
    under = declare(tmp_path, study_block(claims, margins=margins, seeds=[0, 1, 2, 3, 4]))
    make_study(tmp_path, {name: dataclasses.replace(arm, declared=under) for name, arm in arms.items()})
    files = {name: tmp_path / f"claims.{name}" for name in ("json", "markdown", "latex", "csv")}
    arguments = [text for name, path in files.items() for text in (f"--{name}", str(path))]
    assert main(["s", "--results", str(tmp_path), *arguments]) == 0
    shown = capsys.readouterr().out
    assert shown == files["markdown"].read_text()
    assert shown.startswith("**Fairness of study s (fairness: all 17 checks passed)**")
    passed = "| all 17 checks | ok     | python -m analysis.fairness s lists them |"
    assert shown.index("**Claims of study s (fairness: all 17 checks passed)**") > shown.index(passed)
    line = next(line for line in shown.splitlines() if line.startswith("| c_1 "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:6] == ["c_1", "b - a", "p-MRR on d/test (changed: after)", "greater", "5", "20"]
    assert cells[-1] == "COLLAPSED"
    assert "\nc_1: COLLAPSED. p-MRR is up (+0.2" in shown and "\nd: REFUTED. The opposite holds" in shown
    assert shown.index("COLLAPSE | p-MRR on d/test (changed: after): p-MRR x 100 is") < shown.index("**Claims of study")
    assert "nDCG beside p-MRR" in shown and "Holm over the family of 2 declared claims" in shown
    record = json.loads(files["json"].read_text())
    assert [(one["claim"], one["verdict"]) for one in record["claims"]] == [("c_1", "COLLAPSED"), ("d", "REFUTED")]
    assert record["claims"][0]["row"]["beside"][0]["cell"]["measure"] == "nDCG@10" and len(record["fairness"]) == 17
    assert [(one["p_holm"], one["family_size"]) for one in record["claims"]] == corrections(record["claims"])
    lines = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert float(lines[0]["estimate"]) == record["claims"][0]["row"]["estimate"] and lines[1]["verdict"] == "REFUTED"
    latex = files["latex"].read_text()
    assert r"c\_1 & b - a & p-MRR on d/test (changed: after)" in latex and latex.count(r"\toprule") == 5
    assert [of_claim["claim"] for of_claim in record["wrong_labels"]] == ["c_1", "d"]
    assert "\nd: not said, what nDCG@10 would be under other labels does not follow from scores." in shown


def test_what_else_a_claim_s_contrast_changes_is_said_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = {"a": {"unique_queries": 229}, "b": {"unique_queries": 115}}
    claims = [claim("c", "greater"), claim("d", "less"), claim("gone", "less", contrast="x - a")]
    under = declare(tmp_path, study_block(claims, arms=["a", "b", "x"]))
    made = {name: dataclasses.replace(arm, declared=under, made_of=queries[name]) for name, arm in two(0.1).items()}
    make_study(tmp_path, made)
    files = {name: tmp_path / f"claims.{name}" for name in ("json", "csv")}
    arguments = [text for name, path in files.items() for text in (f"--{name}", str(path))]
    assert main(["s", "--results", str(tmp_path), *arguments]) == 0
    assert capsys.readouterr().out.count("Also changed by b - a: unique queries 229 → 115.") == 1
    record = json.loads(files["json"].read_text())
    assert record["also_changed"] == {"b - a": "unique queries 229 → 115"}
    rows = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert [row["also_changed"] for row in rows] == ["unique queries 229 → 115"] * 2 + [""]


def corrections(record: Any) -> list[tuple[Any, Any]]:
    """Return every corrected p with the size of its family, wherever they stand in a record."""
    values = record if isinstance(record, dict) else {}
    inner = record if isinstance(record, list) else values.values()
    own = [(values.get("p_holm"), values.get("family_size"))] if {"p_holm", "family_size"} & values.keys() else []
    return [*own, *(one for item in inner for one in corrections(item))]


def test_claims_of_a_file_are_compared_with_those_that_runs_stood_under(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    under = declare(tmp_path, study_block([claim("c", "greater")]))
    make_study(tmp_path, {name: dataclasses.replace(arm, declared=under) for name, arm in two(0.1).items()})
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({"study": study_block([claim("c", "greater"), claim("d", "less")])}))
    assert main(["s", "--results", str(tmp_path), "--declared", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "c: SUPPORTED." in shown and "d: EXPLORATORY. Declared after results" in shown
    assert "Declared in a file, not yet run" in shown


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(tmp_path, {"a": Arm(seeds=(0, 1))})
    folder = ["--results", str(tmp_path)]
    for text, said in (("a: [", "is no readable YAML"), ("x: 1", "has no block 'study'"), ("study: {}", "study.")):
        (tmp_path / "d.yaml").write_text(text)
        assert main(["s", *folder, "--declared", str(tmp_path / "d.yaml")]) == 2
        captured = capsys.readouterr()
        assert said in captured.err and captured.err.count("\n") == 1
    assert main(["s", *folder]) == 2
    assert "error: study 's' has no declaration under" in capsys.readouterr().err
    assert main(["s", *folder, "--declared", str(tmp_path / "none.yaml")]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_an_edited_declaration_is_refused(tmp_path: Path) -> None:
    under = declare(tmp_path, study_block([claim("c", "greater")]))
    path = tmp_path / "studies" / "s" / f"{under}.json"
    path.write_text(path.read_text().replace("greater", "less"))
    with pytest.raises(UserError, match="was changed after it was declared: its digest is "):
        stored_declarations(ResultStore(tmp_path), "s")
    path.write_text("{}")
    with pytest.raises(UserError, match="is not a readable declaration"):
        stored_declarations(ResultStore(tmp_path), "s")


def test_declarations_are_in_the_order_of_their_time(tmp_path: Path) -> None:
    second = declare(tmp_path, study_block([claim("c", "greater")]), at="2026-02-01T00:00:00+00:00")
    first = declare(tmp_path, study_block([claim("d", "greater")]), at="2026-01-01T00:00:00+00:00")
    assert [one.digest for one in stored_declarations(ResultStore(tmp_path), "s")] == [first, second]
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({"study": study_block([claim("c", "greater")])}))
    assert read_declaration(path).digest == second


def test_claims_without_scores_are_in_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    under = declare(tmp_path, study_block([claim("gone", "less", contrast="z - a")]))
    make_study(tmp_path, {"a": Arm(declared=under, seeds=(0, 1))})
    assert main(["s", "--results", str(tmp_path), "--csv", str(tmp_path / "c.csv")]) == 0
    assert "gone: UNDECIDED. Contrast 'z - a': arm 'z' is unknown" in capsys.readouterr().out
    (line,) = csv.DictReader((tmp_path / "c.csv").read_text().splitlines())
    assert (line["verdict"], line["estimate"], line["ci_low"], line["seeds"]) == ("UNDECIDED", "", "", "")


# trained under the claim, and not seen before


DEEPER = {"source": None, "sets": ["test"], "depth": 20, "batch_size": 4}
OLD, NEW = [claim("c", "greater")], [claim("c", "greater"), claim("d", "greater", alpha=0.04)]


def of_study(root: Path, study: str = "s") -> dict[str, Judged]:
    return {one.claim.name: one for one in judge(OpenStudy(Evidence(root, study))).claims}


def redeclared(root: Path, study: str = "s", at: str = "2026-02-01T00:00:00+00:00") -> str:
    return declare(root, study_block(NEW), at=at, study=study)


def first_look(root: Path, **more: Any) -> str:
    """Declare, train and measure."""
    under = declare(root, study_block(OLD))
    make_study(root, {name: dataclasses.replace(arm, declared=under, **more) for name, arm in two(0.1).items()})
    return under


def forget_scores(root: Path) -> None:
    """Delete the evaluations, as who measures anew under the same names must."""
    shutil.rmtree(root / "evals")


def measured_again(root: Path, trained_under: str, under: str, study: str = "s", **more: Any) -> None:
    """Measure the same models in another way."""
    changes = {"declared": under, "trained_under": trained_under, "evaluation": DEEPER, **more}
    make_study(root, {name: dataclasses.replace(arm, **changes) for name, arm in two(0.1).items()}, study)


def test_another_depth_makes_no_late_claim_confirmatory(tmp_path: Path) -> None:
    first = first_look(tmp_path)
    second = redeclared(tmp_path)
    forget_scores(tmp_path)
    measured_again(tmp_path, first, second)
    claims = of_study(tmp_path)
    assert claims["d"].ruling.verdict == "EXPLORATORY" and claims["d"].would_be == "SUPPORTED"
    said = "trained before the claim was declared, or changed since: 10 of 10 runs (a seed 0, a seed 1, "
    assert claims["d"].exploratory.startswith(said)
    assert claims["c"].ruling.verdict == "SUPPORTED"  # declared before the training, and still the same


def test_a_training_without_a_declaration_makes_every_claim_exploratory(tmp_path: Path) -> None:
    measured_again(tmp_path, "", redeclared(tmp_path))
    assert of_study(tmp_path)["d"].exploratory.startswith("trained without any declaration: 10 of 10 runs")


def test_under_another_name_of_the_study_claims_stay_late(tmp_path: Path) -> None:
    first = first_look(tmp_path)
    measured_again(tmp_path, first, redeclared(tmp_path, "t"), "t")
    for judged_claim in of_study(tmp_path, "t").values():
        assert judged_claim.exploratory.startswith(
            f"trained under a declaration that is not stored ({first}): 10 of 10"
        )


def test_the_declaration_taken_along_under_another_name_changes_nothing(tmp_path: Path) -> None:
    first = first_look(tmp_path)
    shutil.copytree(tmp_path / "studies" / "s", tmp_path / "studies" / "t")
    measured_again(tmp_path, first, redeclared(tmp_path, "t"), "t")
    assert of_study(tmp_path, "t")["d"].exploratory.startswith("trained before the claim was declared")


def test_a_copied_folder_with_another_study_name_stays_late(tmp_path: Path) -> None:
    first_look(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    store = ResultStore(tmp_path / "second")
    for kind in ("mix", "train", "evaluation"):
        for manifest in [*store.manifests(kind)]:
            labels = tuple(label.replace("s/", "t/") for label in manifest.labels)
            write_manifest(store.folder(kind, manifest.id), dataclasses.replace(manifest, labels=labels))
    redeclared(tmp_path / "second", "t", at="2026-01-01T00:00:00+00:00")
    for judged_claim in of_study(tmp_path / "second", "t").values():
        assert judged_claim.exploratory.startswith("results stood under a declaration that is not stored")


def test_the_same_weights_trained_again_under_another_study_were_seen(tmp_path: Path) -> None:
    """The training has another id, such as by a setting that changes nothing, and the same weights."""
    first_look(tmp_path, weights="one model")
    second = redeclared(tmp_path, "t")
    measured_again(tmp_path, second, second, "t", weights="one model", train={"learning_rate": 0.10001})
    claims = of_study(tmp_path, "t")
    said = "the model had been measured before under another declaration (study s): 10 of 10 runs"
    assert claims["d"].exploratory.startswith(said) and claims["c"].exploratory.startswith(said)


def test_the_same_scores_were_seen_whatever_the_weights_are_called(tmp_path: Path) -> None:
    first_look(tmp_path)
    second = redeclared(tmp_path, "t")
    measured_again(tmp_path, second, second, "t", train={"learning_rate": 0.2})
    assert of_study(tmp_path, "t")["d"].exploratory.startswith("the model had been measured before under another")


def test_a_model_measured_without_a_declaration_first_was_seen(tmp_path: Path) -> None:
    under = redeclared(tmp_path)
    make_study(tmp_path, {n: dataclasses.replace(a, trained_under=under) for n, a in two(0.1).items()}, "by_hand")
    measured_again(tmp_path, under, under)
    said = "the model had been measured before without any declaration (study by_hand): 10 of 10 runs"
    assert of_study(tmp_path)["d"].exploratory.startswith(said)


def test_a_model_measured_elsewhere_afterwards_was_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    under = first_look(tmp_path)
    monkeypatch.setattr("ablate.store.results.now", lambda: "2126-01-01T00:00:00+00:00")
    measured_again(tmp_path, under, redeclared(tmp_path, "t"), "t")
    store = ResultStore(tmp_path)
    for kind in ("mix", "train"):
        for manifest in [*store.manifests(kind)]:
            store.add_label(kind, manifest.id, manifest.labels[0].replace("t/", "s/"))
    assert of_study(tmp_path)["c"].ruling.verdict == "SUPPORTED"


def test_what_is_new_under_the_declaration_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = first_look(tmp_path)
    assert str(of_study(tmp_path)["c"].fresh) == "seeds 0, 1, 2, 3, 4, source world"  # scores by hand name no documents
    second = redeclared(tmp_path)
    make_study(
        tmp_path, {"b": Arm(ON, {NDCG: 0.1}, declared=second, seeds=(5,)), "a": Arm(declared=second, seeds=(5,))}
    )
    assert main(["s", "--results", str(tmp_path), "--json", str(tmp_path / "c.json")]) == 0
    assert "declaration: c: seeds 0, 1, 2, 3, 4, 5, source world; d: seeds 5." in capsys.readouterr().out
    late = json.loads((tmp_path / "c.json").read_text())["claims"][1]
    assert late["fresh"] == {"seeds": [5], "sets": [], "sources": []} and first != second


def test_documents_that_were_ranked_before_are_not_new(tmp_path: Path) -> None:
    under = declare(tmp_path, study_block(OLD))
    make_study(tmp_path, {n: dataclasses.replace(a, declared=under, ranked=True) for n, a in two(0.1).items()})
    assert str(of_study(tmp_path)["c"].fresh) == "seeds 0, 1, 2, 3, 4, queries of d/test, source world"
    make_study(tmp_path, {"x": Arm(ranked=True, system={"stage": "ranker"}, seeds=(0,))}, "by_hand")
    assert str(of_study(tmp_path)["c"].fresh) == "seeds 0, 1, 2, 3, 4, source world"


def test_a_macro_claim_is_looked_at_where_its_place_is_alone(tmp_path: Path) -> None:
    lines = ["arm,seed,dataset,condition,direction,unit_id,measure,value"]
    for dataset, measure in (("x/test", "nDCG@10"), ("x/test", "RR@10"), ("y/test", "nDCG@10"), ("z/test", "RR@10")):
        lines += [f"{arm},0,{dataset},plain,plain,{unit},{measure},0.5" for arm in "ab" for unit in "qr"]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines) + "\n")
    (asked,) = build_study(study_block([claim("c", "greater", (MACRO, "plain", "plain", "nDCG@10"))])).claims
    place = place_of(read_scores(path), asked)
    assert (place.cell.dataset, place.datasets) == ("macro of x/test, y/test", ("x/test", "y/test"))
