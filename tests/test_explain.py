"""What is composed is composed from the same places everywhere; a plan leaves nothing; words for mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT, override
from test_bad_inputs import call

from ablate.cli.explain import check_command_line
from ablate.recipe.build import meant, unknown_key
from ablate.records import UserError
from ablate.study.planning import Cell, incoherent_lines, refuse_common_mistake

SMALL = ("model=tiny", "source.documents=600", "budget.limit=16", "tracker=none", "runtime.until=mix")


@pytest.mark.parametrize("many", [(), ("-m",)], ids=["one run", "many runs"])
def test_a_winner_is_found_wherever_the_run_is_composed_from(
    many: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    winner = tmp_path / "tuned" / "winners" / "dual_view.yaml"
    winner.parent.mkdir(parents=True)
    winner.write_text("# @package _global_\ntrain:\n  learning_rate: 0.000321\n")
    tuned = override("hydra.searchpath", [f"file://{tmp_path / 'tuned'}"])
    code, said = call(
        (
            "ablate.run",
            *many,
            "+experiment=dual_view",
            tuned,
            "+winners=dual_view",
            *SMALL,
            override("runtime.results", tmp_path / "results"),
        )
    )
    assert code == 0, said
    out = capsys.readouterr().out
    assert "differs from instruction_negatives in factors.reversed_views" in out, "and not in the rate of the winner"
    assert "learning_rate" not in out


def test_the_plan_of_a_tuning_sweep_makes_nothing_and_says_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    command = (
        "ablate.run",
        "-m",
        "+sweeps=tune",
        "+experiment=dual_view",
        "tracker=none",
        "runtime.plan_only=true",
        "hydra.sweeper.n_trials=5",
        override("runtime.results", tmp_path / "results"),
    )
    code, said = call(command)
    assert (code, said) == (0, "") and not list(tmp_path.rglob("*"))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "space: train.learning_rate = tag(log, interval(1e-05, 0.001))",
        "dual_view: 0 of 5 trials finished",
        "to make: 5 trials",
    ]


def test_a_mistake_of_all_cells_is_said_once_and_others_by_reason() -> None:
    sound, wrong, other = Cell((), "a", 0, config=object()), Cell((), "b", 0, reason="x"), Cell((), "c", 1, reason="x")
    refuse_common_mistake([sound, wrong, other])
    refuse_common_mistake([wrong, Cell((), "d", 0, reason="y")])
    with pytest.raises(UserError, match=r"^x \(each of the 2 cells\)$"):
        refuse_common_mistake([wrong, other])
    with pytest.raises(UserError, match="^x$"):
        refuse_common_mistake([wrong])
    assert incoherent_lines([sound, wrong, other]) == ["incoherent: b seed 0 and 1 more: x"]


def test_what_was_meant_is_said_only_where_something_is_like_it() -> None:
    assert unknown_key("limt", ["unit", "limit"], "budget").endswith(
        "known here: unit, limit; did you mean budget.limit?"
    )
    assert meant("xyz", ["unit", "limit"]) == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "+experiment=query_only,dual_view", "seed=0,1,2"],
        ["--multirun", "seed=range(0,3)"],
        ["seed=1", "-m"],
        ["--cfg", "job", "--resolve"],
        ["--info", "searchpath"],
        ["source.path='/a b/c=d'", "runtime.label='é'", "evaluation.sets=[test,dev]", "model.query_prefix=''"],
        ["++runtime.label=x", "~factors.twins", "+evaluation_source=world", "hydra/launcher=joblib", "+a.b=3"],
        ["source.path=${oc.env:HOME}", "hydra.searchpath=[file:///x]", "model.separator=' | '"],
    ],
)
def test_a_sound_command_line_passes(arguments: list[str]) -> None:
    options = {"-m", "--multirun", "--cfg", "job", "--resolve", "--info", "searchpath"}
    assert check_command_line(arguments)[0] == [word for word in arguments if word not in options]
