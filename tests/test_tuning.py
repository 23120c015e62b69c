"""Tuning: spaces, refusals, trials that resume, fail and are pruned, winners that Hydra loads, storages."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import ROOT, override

from ablate.records import UserError
from ablate.tuning.plan import (
    Plan,
    build_plan,
    check_no_secret,
    hidden,
    make_sampler,
    mend_journal,
    open_storage,
    without_secret,
)
from ablate.tuning.record import write_record
from ablate.tuning.space import Choice, Interval, Whole, corners, grid, parse
from ablate.tuning.sweep import MAX_RETRIES, ArmStudy, ArmToTune, Outcome, open_arms, outcome_of, run_trials

MEASURE = "pairs/both/satisfying over violating"
BASE: dict[str, Any] = dict(
    study="s",
    objective=[MEASURE],
    directions=[],
    params={},
    arms=[],
    n_trials=4,
    workers=1,
    max_failures=3,
    sampler="random",
    sampler_seed=0,
    num_startup=2,
    pruner="none",
    pruner_warmup=0,
    storage="sqlite",
)
RATE = {"train.learning_rate": Interval(1e-5, 1e-3, log=True)}


def plan(**changes: Any) -> Plan:
    return build_plan({**BASE, **changes})


def arms(one: Plan, folder: Path, *names: str, dimensions: Any = RATE, **declared: Any) -> list[ArmStudy]:
    folder.mkdir(parents=True, exist_ok=True)
    return open_arms(one, [ArmToTune(name, (f"+experiment={name}",), declared) for name in names], dimensions, folder)


def rate_of(overrides: Sequence[str]) -> float:
    return float(next(item for item in overrides if item.startswith("train.learning_rate=")).split("=")[1])


def peak(overrides: Sequence[str], number: int) -> Outcome:
    return Outcome("complete", (-abs(math.log10(rate_of(overrides)) + 4),))


# --- spaces


def test_the_grammar_of_dimensions() -> None:
    found, fixed = parse(
        {
            "train": {"learning_rate": "tag(log, interval(1e-5, 1e-3))", "weight_decay": "interval(0, 1)"},
            "train.temperature": "tag(float, interval(1, 2))",
            "train.sub_batch": "int(interval(1, 8))",
            "train.epochs": "range(1, 6, 2)",
            "train.warmup": "range(0, 0.3, 0.1)",
            "train.batch_size": "tag(int, log, interval(8, 64))",
            "train.schedule": "choice(linear, 'with space', true, 1)",
            "train.clip_norm": 2.0,
        },
        ["+experiment=dual_view", "model.pooling=mean,cls"],
    )
    assert found == {
        "train.learning_rate": Interval(1e-5, 1e-3, log=True),
        "train.weight_decay": Interval(0.0, 1.0),
        "train.sub_batch": Whole(1, 8),
        "train.temperature": Interval(1.0, 2.0),
        "train.epochs": Whole(1, 5, 2),
        "train.warmup": Choice((0.0, 0.1, 0.2)),
        "train.batch_size": Whole(8, 64, log=True),
        "train.schedule": Choice(("linear", "with space", True, 1)),
        "model.pooling": Choice(("mean", "cls")),
    }
    assert list(found) == sorted(found)
    assert fixed == ("train.clip_norm=2.0", "+experiment=dual_view")


def test_a_fixed_value_on_the_command_line_removes_a_dimension_and_a_sweep_replaces_it() -> None:
    params = {"train.learning_rate": "interval(0.1, 0.2)", "train.epochs": "choice(1, 2)"}
    found, fixed = parse(params, ["train.learning_rate=0.1"])
    assert list(found) == ["train.epochs"] and fixed == ("train.learning_rate=0.1",)
    assert parse(params, ["train.epochs=3,4"])[0]["train.epochs"] == Choice((3, 4))


@pytest.mark.parametrize(
    ("params", "arguments", "words"),
    [
        ({}, ["+experiment=dual_view"], "nothing to tune"),
        ({"seed": "choice(0, 1)"}, [], "the best of several seeds is luck"),
        ({"evaluation.sets": "choice(test, dev)"}, [], "evaluation.sets may not be tuned: it decides what is measured"),
        ({"source.skew": 0.5}, [], "source.skew may not be tuned"),
        ({"train.epochs": "choice(1, 2)"}, ["factors.instructed=0,1"], "factors are what arms differ in"),
        ({"train.epochs": "choice(1, 2)"}, ["+experiment=a,b"], "sweeps=tune_each_arm"),
        ({"budget.limit": "choice(1, 2)"}, [], "held equal across arms"),
        ({"runtime.dev_set": "choice(test, dev)"}, [], "it is no part of a recipe"),
        ({"train.epochs": "range(3, 3)"}, [], "holds no value"),
        ({"train.learning_rate": "tag(log, interval(0, 1))"}, [], "low > 0 for log"),
        ({"train.learning_rate": "interval(1, 0.5)"}, [], "low < high"),
        ({"train.learning_rate": "tag(logarithmic, interval(1, 2))"}, [], "tag 'logarithmic' is not known"),
        ({"train.learning_rate": "choice(1,"}, [], "is not in Hydra's override grammar"),
        ({"train.epochs": "choice(1, 2)"}, ["model.path=/é"], "as one text: 'model.path=\"/é\"'"),
        ({"train.learning_rate": [1, 2]}, [], "write choice"),
        ({"train.schedule": "choice([a], [b])"}, [], "no single value"),
    ],
)
def test_spaces_that_are_refused(params: dict[str, Any], arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        parse(params, arguments)


def test_points_of_a_grid_and_corners() -> None:
    space = {"train.epochs": Whole(1, 5, 2), "train.schedule": Choice(("linear", None))}
    assert grid(space)[:3] == [
        {"train.epochs": 1, "train.schedule": "linear"},
        {"train.epochs": 1, "train.schedule": None},
        {"train.epochs": 3, "train.schedule": "linear"},
    ]
    assert len(grid(space)) == 6
    assert corners({**space, **RATE})[1] == {
        "train.epochs": 5,
        "train.schedule": None,
        "train.learning_rate": 1e-3,
    }
    with pytest.raises(UserError, match="a grid needs choice"):
        grid(RATE)


# --- settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(objective=["world/test/changed/usual/nDCG@10"]), "it names no data set"),
        (dict(objective=["test/all/nDCG@10"]), "tuning reads runtime.dev_set and nothing else"),
        (dict(objective=["changed/usual/p-MRR"]), "loses every document"),
        (dict(objective=[]), "at least one"),
        (dict(directions=["maximize", "minimize"]), "an entry for each of the 1"),
        (dict(directions=["up"]), "maximize, minimize"),
        (dict(objective=[MEASURE, "plain/plain/nDCG@10"], pruner="median"), "set hydra.sweeper.pruner=none"),
        (dict(sampler="cma"), "tpe, random, grid, nsga2, gp"),
        (dict(study="../x"), "must be a name"),
        (dict(storage="database"), "none of: sqlite, journal"),
        (dict(n_trials=0), "n_trials=0 is out of range"),
        (dict(extra=1), "unknown key hydra.sweeper.extra"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(**changes)


def test_a_password_is_refused_in_settings_and_hidden_everywhere_else() -> None:
    url = "postgresql+psycopg://me:s%40cret@host:5432/db"
    with pytest.raises(UserError, match=r"postgresql\+psycopg://me:\*\*\*@host.*TUNING_STORAGE") as caught:
        check_no_secret(url)
    assert "cret" not in str(caught.value)
    for fine in ("${oc.env:TUNING_STORAGE}", "sqlite", "postgresql+psycopg://me@host/db", None):
        check_no_secret(fine)
    assert hidden("postgresql://host/db?user=a&password=geheim") == "postgresql://host/db?user=a&password=***"
    assert without_secret("no entry for s@cret or s%40cret", url) == "no entry for *** or ***"


def test_a_storage_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing/x.db cannot be used: .*unable to open database file"):
        open_storage(plan(storage=f"sqlite:///{tmp_path}/missing/x.db"), tmp_path)
    with pytest.raises(UserError, match=r"nosuchdriver://me:\*\*\*@host/db cannot be used") as caught:
        open_storage(plan(storage="mssql+nosuchdriver://me:geheim@host/db"), tmp_path)
    assert "geheim" not in str(caught.value) and "***" in str(caught.value)


def test_a_resumed_sampler_does_not_draw_its_first_points_again() -> None:
    def first(number: int, seed: int = 0, name: str = "tpe") -> float:
        study = optuna.create_study(sampler=make_sampler(plan(sampler=name, sampler_seed=seed), number))
        return study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}).params["x"]

    for name in ("tpe", "random", "nsga2", "gp"):
        assert first(0, name=name) == first(0, name=name)
        assert len({first(0, name=name), first(1, name=name), first(0, 1, name)}) == 3


# --- trials


@pytest.mark.parametrize(
    ("returned", "outcome"),
    [
        (0.5, Outcome("complete", (0.5,))),
        ([2], Outcome("complete", (2.0,))),
        (optuna.TrialPruned(), Outcome("pruned")),
        (UserError("no such\nfile"), Outcome("failed", message="no such file")),
        (KeyError("x"), Outcome("failed", message="KeyError: 'x'")),
    ],
)
def test_what_a_job_returns(returned: Any, outcome: Outcome) -> None:
    assert outcome_of(returned, 1) == outcome


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "the job returned None; a trial must return its objective"),
        (True, "a trial must return"),
        ("good", "a trial must return"),
        (math.nan, "not a number (nan)"),
        ((1.0, 2.0), "2 numbers for 1 objectives"),
    ],
)
def test_a_job_without_an_objective_is_a_failed_trial(returned: Any, words: str) -> None:
    outcome = outcome_of(returned, 1)
    assert outcome.state == "failed" and words in outcome.message


@pytest.mark.parametrize(
    ("storage", "sampler"), [("sqlite", "tpe"), ("journal", "random"), ("journal", "nsga2"), ("journal", "gp")]
)
def test_n_trials_counts_finished_trials_of_the_study(tmp_path: Path, storage: str, sampler: str) -> None:
    one = plan(storage=storage, sampler=sampler)
    seen: list[float] = []

    def launch(overrides: Sequence[str], number: int) -> Outcome:
        seen.append(rate_of(overrides))
        return peak(overrides, number) if number != 1 else Outcome("failed", message="bad luck")

    assert run_trials(one, arms(one, tmp_path, "a"), launch) == ["trial 1 of a: bad luck"]
    assert len(seen) == 5 and len(set(seen)) == 5, "four finished and one failed"
    assert run_trials(one, arms(one, tmp_path, "a"), launch) == [] and len(seen) == 5
    more = dataclasses.replace(one, n_trials=6)
    (arm,) = arms(more, tmp_path, "a")
    run_trials(more, [arm], launch)
    assert len(seen) == 7 and len(set(seen)) == 7
    assert [trial.user_attrs.get("error") for trial in arm.study.trials][:3] == [None, "bad luck", None]


def test_a_trial_runs_up_to_its_dev_scores_and_says_which_it_is(tmp_path: Path) -> None:
    one, given = plan(n_trials=1), []
    run_trials(one, arms(one, tmp_path, "a"), lambda overrides, number: given.append(overrides) or peak(overrides, 0))
    (overrides,) = given
    assert overrides[0] == "+experiment=a" and overrides[1].startswith("train.learning_rate=")
    assert overrides[2:] == [
        "++runtime.study=tuning_s",
        "++runtime.label=a_t0",
        "++runtime.until=dev",
        "++runtime.baseline=null",
        "++trial.study=s.a",
        "++trial.number=0",
    ]


def test_failures_are_bounded(tmp_path: Path) -> None:
    one = plan(n_trials=50, max_failures=3)
    (arm,) = arms(one, tmp_path, "a")
    failures = run_trials(one, [arm], lambda overrides, number: outcome_of(math.nan, 1))
    assert len(failures) == 3 and "not a number" in failures[-1]
    assert [trial.state.name for trial in arm.study.trials] == ["FAIL"] * 3


def test_a_killed_sweep_tries_the_same_point_again_and_gives_up_in_the_end(tmp_path: Path) -> None:
    one, seen = plan(n_trials=2), []

    def kill(overrides: Sequence[str], number: int) -> Outcome:
        seen.append(rate_of(overrides))
        raise KeyboardInterrupt

    for _ in range(MAX_RETRIES + 1):
        with pytest.raises(KeyboardInterrupt):
            run_trials(one, arms(one, tmp_path, "a"), kill)
    assert len(seen) == MAX_RETRIES + 1 and len(set(seen)) == 1
    (arm,) = arms(one, tmp_path, "a")
    run_trials(one, [arm], peak)
    states = [(trial.state.name, trial.user_attrs.get("retry_of")) for trial in arm.study.trials]
    assert states == [("FAIL", None), ("FAIL", 0), ("FAIL", 1), ("FAIL", 2), ("COMPLETE", None), ("COMPLETE", None)]
    assert arm.study.trials[4].params["train.learning_rate"] != seen[0]
    assert "killed 4 times at this point" in arm.study.trials[3].user_attrs["error"]


def test_a_kill_between_queueing_and_ending_a_trial_loses_and_doubles_nothing(tmp_path: Path) -> None:
    one = plan(n_trials=1)
    (arm,) = arms(one, tmp_path, "a")
    trial = arm.ask()
    arm.study.enqueue_trial(trial.params, user_attrs={"retry_of": 0, "retries": 1})  # and then the kill
    (arm,) = arms(one, tmp_path, "a")
    assert arm.retry_orphans() == 1 and arm.retry_orphans() == 0
    assert [trial.state.name for trial in arm.study.trials] == ["FAIL", "WAITING"]
    assert arm.ask().params == trial.params


def test_a_grid_visits_every_point_once_and_a_killed_one_again(tmp_path: Path) -> None:
    space = {"train.epochs": Whole(1, 3), "train.schedule": Choice(("linear", "cosine"))}
    one, seen = plan(sampler="grid", n_trials=6), []

    def launch(overrides: Sequence[str], number: int) -> Outcome:
        seen.append(tuple(overrides[1:3]))
        if number == 2:
            raise KeyboardInterrupt
        return Outcome("failed", message="?") if number == 1 else Outcome("complete", (0.0,))

    with pytest.raises(KeyboardInterrupt):
        run_trials(one, arms(one, tmp_path, "a", dimensions=space), launch)
    (arm,) = arms(one, tmp_path, "a", dimensions=space)
    run_trials(one, [arm], launch)
    assert arm.finished == 6 and len(set(seen)) == 6
    assert seen.count(seen[1]) == 2 and seen[-1] == seen[1], "a failed point comes again, last"
    assert seen[3] == seen[2], "a killed one first"
    with pytest.raises(UserError, match="set hydra.sweeper.n_trials=6"):
        arms(plan(sampler="grid", n_trials=5), tmp_path, "a", dimensions=space)


def test_another_space_or_arm_needs_another_study(tmp_path: Path) -> None:
    arms(plan(), tmp_path, "a", space="one", seed=0)
    arms(plan(), tmp_path, "a", space="one", seed=0)
    with pytest.raises(UserError, match="begun with another space; .* choose another hydra.sweeper.study"):
        arms(plan(), tmp_path, "a", space="two", seed=0)


def test_arms_stay_level_and_start_from_the_same_points(tmp_path: Path) -> None:
    one, seen = plan(n_trials=3, sampler="tpe"), []

    def launch(overrides: Sequence[str], number: int) -> Outcome:
        seen.append((overrides[0], rate_of(overrides)))
        return peak(overrides, number)

    both = arms(one, tmp_path, "a", "b")
    run_trials(one, both, launch)
    assert [name for name, _ in seen] == ["+experiment=a", "+experiment=b"] * 3
    assert [rate for name, rate in seen[0:4:2]] == [rate for name, rate in seen[1:4:2]], "two random starts"


def test_workers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    one = plan(n_trials=6, workers=2)
    import threading

    ended, release = [], threading.Event()

    def launch(overrides: Sequence[str], number: int) -> Outcome:
        if number == 0:
            assert release.wait(30)
        ended.append(number)
        if len(ended) == 5:
            release.set()
        return peak(overrides, number)

    (arm,) = arms(one, tmp_path, "a")
    assert run_trials(one, [arm], launch) == []
    assert ended == [1, 2, 3, 4, 5, 0] and arm.finished == 6


def test_a_torn_journal_is_mended(tmp_path: Path) -> None:
    one = plan(storage="journal")
    run_trials(one, arms(one, tmp_path, "a"), peak)
    path = tmp_path / "trials.journal"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "half')
    (arm,) = arms(one, tmp_path, "a")
    assert path.read_bytes().startswith(whole) and b"half" not in path.read_bytes() and arm.finished == 4
    assert mend_journal(path) == 0 and mend_journal(tmp_path / "none") == 0


# --- what is left


def test_records_are_for_all_arms_and_winners_only_when_all_are_complete(tmp_path: Path) -> None:
    one = plan(n_trials=2, max_failures=1)
    both = arms(one, tmp_path, "a", "b")

    def launch(overrides: Sequence[str], number: int) -> Outcome:
        return peak(overrides, number) if overrides[0] == "+experiment=a" else Outcome("failed", message="?")

    run_trials(one, both, launch)
    assert write_record(one, both, tmp_path) == [] and not list((tmp_path / "winners").iterdir())
    found = json.loads((tmp_path / "tuning.json").read_text())
    assert [(name, arm["trials"], arm["finished"], arm["failed"]) for name, arm in found.items()] == [
        ("a", 2, 1, 0),
        ("b", 2, 0, 1),
    ]
    assert found["b"]["best"] == [] and found["a"]["space"] == {
        "train.learning_rate": "tag(log, interval(1e-05, 0.001))"
    }
    both = arms(one, tmp_path, "a", "b")
    run_trials(one, both, peak)
    assert [path.name for path in write_record(one, both, tmp_path)] == ["a.yaml", "b.yaml"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in (".json", ".yaml")}
    write_record(one, both, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    third = arms(one, tmp_path, "c")
    run_trials(one, third, peak)
    write_record(one, third, tmp_path)
    assert list(json.loads((tmp_path / "tuning.json").read_text())) == ["a", "b", "c"]
    assert sorted(path.name for path in (tmp_path / "winners").iterdir()) == ["a.yaml", "b.yaml", "c.yaml"]


def test_several_objectives_give_a_front(tmp_path: Path) -> None:
    one = plan(objective=[MEASURE, "original/original/nDCG@10"], n_trials=4, sampler="nsga2")
    values = {0: (0.1, 0.9), 1: (0.5, 0.5), 2: (0.4, 0.4), 3: (0.9, 0.1)}
    (arm,) = arms(one, tmp_path, "a")
    run_trials(one, [arm], lambda overrides, number: Outcome("complete", values[number]))
    names = [path.name for path in write_record(one, [arm], tmp_path)]
    assert names == ["a_trial0.yaml", "a_trial1.yaml", "a_trial3.yaml"], "trial 2 is dominated"
    best = json.loads((tmp_path / "tuning.json").read_text())["a"]["best"]
    assert [one["values"][MEASURE] for one in best] == [0.1, 0.5, 0.9]


def test_winners_are_read_back_by_hydra_with_their_types(tmp_path: Path) -> None:
    from ablate.compose import load

    space = {
        "train.learning_rate": Interval(1e-5, 2e-5, log=True),
        "train.schedule": Choice(("cosine",)),
        "train.epochs": Whole(3, 3),
        "model": Choice(("tiny",)),
        "train.in_batch_negatives": Choice((False,)),
    }
    one = plan(n_trials=1)
    (arm,) = arms(one, tmp_path, "dual_view", dimensions=space)
    run_trials(one, [arm], lambda overrides, number: Outcome("complete", (0.25,)))
    (path,) = write_record(one, [arm], tmp_path)
    text = path.read_text()
    for words in ("# @package _global_\n", "study s.dual_view, trial 0, 1 of 1 trials finished", f"{MEASURE} = 0.25"):
        assert words in text
    place = override("hydra.searchpath", [f"file://{tmp_path}"])
    found = load(["+experiment=dual_view", place, "+winners=dual_view"])
    assert found.train.learning_rate == arm.study.trials[0].params["train.learning_rate"]
    assert isinstance(found.train.learning_rate, float) and found.train.in_batch_negatives is False
    assert (found.train.schedule, found.train.epochs, found.model.name) == ("cosine", 3, "tiny")
    assert found.factors.reversed_views == 1.0 and found.train.batch_size == 8


# --- through Hydra, in processes


def start(tmp_path: Path, job: str, *overrides: str, **environment: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(ROOT / "tests" / "tuning_app.py"),
        "-m",
        "+sweeps=tune",
        *overrides,
        override("runtime.results", tmp_path),
        "model=tiny",
    ]
    variables = {**os.environ, "TUNING_JOB": job, "TUNING_LOG": str(tmp_path / "jobs.txt"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**variables, **environment},
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(tmp_path: Path, job: str, *overrides: str, **environment: str) -> tuple[int, str, str]:
    process = start(tmp_path, job, *overrides, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def jobs(tmp_path: Path) -> list[list[str]]:
    path = tmp_path / "jobs.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []


def test_a_sweep_killed_outright_goes_on_at_the_same_point_and_is_then_done(tmp_path: Path) -> None:
    given = ("+experiment=dual_view", "hydra.sweeper.n_trials=4")
    process = start(tmp_path, "slow", *given)
    deadline = time.monotonic() + 60
    while len(jobs(tmp_path)) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    code, out, err = run(tmp_path, "peak", *given)
    assert code == 0, err
    assert "2 of 4 trials finished before this call" in out and "taking over" in err
    assert "1 trials of a killed sweep are tried again" in out
    found = jobs(tmp_path)
    assert [line[1] for line in found] == ["0", "1", "2", "3", "4"] and found[2][2] == found[3][2]
    assert (tmp_path / "tuning" / "tune" / "winners" / "dual_view.yaml").is_file()
    code, out, err = run(tmp_path, "raise", *given)
    assert (code, err, jobs(tmp_path)) == (0, "", found) and "4 of 4 trials finished" in out


def test_a_pruned_trial_stops_early(tmp_path: Path) -> None:
    given = ("hydra.sweeper.n_trials=8", "hydra.sweeper.pruner=median", "hydra.sweeper.num_startup=2")
    code, out, err = run(tmp_path, "curve", "+experiment=dual_view", "hydra.sweeper.sampler=random", *given)
    assert code == 0, err
    (arm,) = json.loads((tmp_path / "tuning" / "tune" / "tuning.json").read_text()).values()
    assert arm["finished"] == 8 and 0 < arm["pruned"] <= 6 and f"{arm['pruned']}" == str(out.count(": pruned ["))


def test_joblib_processes_take_trials_one_by_one(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'ablate[launchers]'")
    given = ("hydra/launcher=joblib", "hydra.sweeper.workers=2", "hydra.sweeper.storage=journal")
    code, out, err = run(tmp_path, "peak", "+experiment=dual_view", *given, "hydra.sweeper.n_trials=4")
    assert code == 0 and "FAILED" not in out, err
    assert sorted(line[1] for line in jobs(tmp_path)) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("job", "overrides", "words"),
    [
        (
            "none",
            ("+experiment=dual_view",),
            "3 trials failed (hydra.sweeper.max_failures=3), the last: trial 2 of dual",
        ),
        ("peak", ("+experiment=dual_view", "train.epoch=1,2"), "error: unknown key train.epoch; known here: epochs, "),
        ("peak", ("+experiment=dual_view", "train.temperature=choice(0.1,0)"), "error: train.temperature=0.0 is out"),
        ("peak", ("+experiment=dual_view", "hydra.sweeper.workers=2"), "hydra/launcher=joblib"),
        ("peak", ("+experiment=joint", "hydra.sweeper.arms=[dual_view]"), "leave +experiment out"),
    ],
)
def test_mistakes_end_with_one_line(tmp_path: Path, job: str, overrides: tuple[str, ...], words: str) -> None:
    code, _, err = run(tmp_path, job, *overrides)
    assert code == 2 and words in err and len(err.strip().splitlines()) == 1, err


def test_a_secret_in_the_storage_shows_nowhere(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db?password=geheim"
    given = ("+experiment=dual_view", "hydra.sweeper.storage=${oc.env:TUNING_STORAGE}", "hydra.sweeper.max_failures=1")
    code, out, err = run(tmp_path, "raise", *given, TUNING_STORAGE=url)
    assert code == 2 and "broken" in err, err
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert "geheim" not in out + err and not any(b"geheim" in content for content in written)


def test_each_arm_gets_the_same_trials(tmp_path: Path) -> None:
    given = ("+sweeps=tune_each_arm", "hydra.sweeper.arms=[dual_view,'label_noise factors.label_noise=0.2']")
    command = [
        sys.executable,
        str(ROOT / "tests" / "tuning_app.py"),
        "-m",
        *given,
        "hydra.sweeper.n_trials=2",
        override("runtime.results", tmp_path),
        "model=tiny",
    ]
    variables = {"TUNING_JOB": "peak", "TUNING_LOG": str(tmp_path / "jobs.txt"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "tuning" / "tune_each_arm" / "tuning.json").read_text())
    assert [(arm["trials"], arm["finished"]) for arm in found.values()] == [(2, 2)] * 2
    assert len({arm["space_digest"] for arm in found.values()}) == 1
    assert len({arm["declared"]["arm or setting"] for arm in found.values()}) == 2
    assert sorted(line[2] for line in jobs(tmp_path))[::2] == sorted(line[2] for line in jobs(tmp_path))[1::2]
