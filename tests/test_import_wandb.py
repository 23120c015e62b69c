"""Runs that W&B itself wrote offline, or that a server has, become arms and seeds; what is damaged or torn is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bad_inputs.wandb_runs import make_run
from conftest import ROOT
from scipy.stats import ttest_ind
from wandb_server import ENTITY, KEY, wandb_server

from ablate.tracking.elsewhere import offline_runs
from analysis import import_wandb, significance
from analysis.stats.matrix import read_scores
from analysis.stats.run_values import difference

MAKE = """
import wandb
for arm in "ab":
    for seed in range(3):
        run = wandb.init(project="p", id=f"{arm}{seed}", config={"model": {"arm": arm}, "seed": seed}, group="g")
        for step in range(200):
            run.log({"loss": 1 / (step + 1), "long": "x" * 300})
        shift = seed / 100 + (arm == "b") * 0.05 * (1 + seed / 10)
        rows = [[f"q{unit}", 0.1 * unit + shift + (unit * 7 + seed * 3) % 5 / 100] for unit in range(6)]
        run.log({"scores": wandb.Table(columns=["qid", "ndcg"], data=rows)})
        run.summary["eval"] = {"ndcg": 0.5 + shift}
        run.finish()
"""
KEYS = ("--arm", "model.arm", "--seed", "seed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs as another program leaves them offline."""
    folder = tmp_path_factory.mktemp("elsewhere")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    places = {f"WANDB_{name}": str(folder / name.lower()) for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR")}
    environment = kept | places | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", MAKE], env=environment, check=True, timeout=300, capture_output=True)
    return folder


def test_values_of_runs_are_compared_over_seeds(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(made), *KEYS, "--measure", "nDCG@10=eval.ndcg", "--baseline", "a", "--csv", str(tmp_path / "v.csv")]
    assert import_wandb.main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith("6 runs of 2 arms\n") and "of other queries nothing is known" in said
    (row,) = (line for line in said.splitlines() if line.startswith("| nDCG@10 | b"))
    assert "0.5650" in row and "0.0550" in row
    a, b = [0.5, 0.51, 0.52], [0.55, 0.565, 0.58]
    assert f"{ttest_ind(b, a, equal_var=False).pvalue:.4f}".lstrip("0") in row
    lines = (tmp_path / "v.csv").read_text().splitlines()
    assert lines[0] == "arm,seed,measure,value,run" and len(lines) == 7 and lines[1].startswith("a,0,nDCG@10,0.5,")


def test_tables_of_queries_become_scores_that_can_be_tested(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.csv"
    words = ["--table", "scores", "--unit", "qid", "--dataset", "d", "--condition", "plain", "--scores", str(scores)]
    assert import_wandb.main([str(made), *KEYS, "--measure", "nDCG@10=ndcg", *words]) == 0
    assert f"36 scores; test them: python -m analysis.significance --scores {scores}" in capsys.readouterr().out
    (cell,) = read_scores(scores).cells.values()
    assert cell.values_SQ["b"].shape == (3, 6) and cell.values_SQ["a"][0][1] == pytest.approx(0.1 + 0.02)
    assert significance.main(["--scores", str(scores), "--baseline", "a"]) == 0


def test_a_run_without_its_end_is_left_out_and_named(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path)
    make_run(tmp_path, seed=1, name="torn")
    path = tmp_path / "offline-run-1-torn" / "run-torn.wandb"
    path.write_bytes(path.read_bytes()[:-3])
    whole, torn = offline_runs(tmp_path)
    assert (whole.ended, torn.ended, torn.summary["loss"]) == (True, False, 0.5)
    assert import_wandb.main([str(tmp_path), "--arm", "arm", "--seed", "seed", "--measure", "l=loss"]) == 0
    assert f"left out: torn ({path}): it did not finish" in capsys.readouterr().out
    (whole_run,) = (run for run in offline_runs(made) if run.id == "a1")
    data = Path(whole_run.place).read_bytes()
    assert len(data) > 2 * 32_768  # records that span blocks were read
    cut = tmp_path / "run-cut.wandb"
    cut.write_bytes(data[:40_000])
    (cut_run,) = offline_runs(cut)
    assert not cut_run.ended and cut_run.config["model.arm"] == "a" and 1 / 200 < cut_run.summary["loss"] < 1


def test_without_spread_or_with_one_run_there_is_no_interval() -> None:
    assert difference([0.5, 0.6], [0.25]) == (pytest.approx(0.3), None, None, None)
    assert difference([0.5, 0.5], [0.25, 0.25]) == (0.25, None, None, None)


def online(folder: Path, url: str, project: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = kept | {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "HOME": str(folder)}
    command = [sys.executable, "-m", "analysis.import_wandb", "--online", project, *KEYS]
    command += ["--measure", "nDCG@10=eval.ndcg", "--baseline", "a"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=180)


def test_runs_of_a_server_are_read_as_those_of_files(tmp_path: Path) -> None:
    with wandb_server() as (server, url):
        for arm in "ab":
            for seed in range(2):
                config = f'{{"model": {{"value": {{"arm": "{arm}"}}}}, "seed": {{"value": {seed}}}}}'
                summary = {"eval": {"ndcg": 0.5 + seed / 8 + (arm == "b") / 4}, "loss": 0.5}
                server.runs[f"{arm}{seed}"] = {"config": config, "summary": summary, "groupName": "g"}
        done = online(tmp_path, url, f"{ENTITY}/p")
        assert done.returncode == 0, (done, server.unknown)
        (row,) = (line for line in done.stdout.splitlines() if line.startswith("| nDCG@10 | b"))
        assert "0.8125" in row and "0.2500" in row and KEY not in done.stdout
        server.accepts = False
        refused = online(tmp_path, url, f"{ENTITY}/p")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "nothing was read" in refused.stderr
    assert KEY not in refused.stderr
