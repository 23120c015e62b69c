"""A study as a W&B report: what is described, without a server; verdicts are those of the report."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import extra
from synthetic_study import CHANGED, NDCG, PMRR, Arm, claim, declare, make_quick, make_study, study_block

from analysis import wandb_report as command

HOW = {"instructed": 1.0}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_quick(monkeypatch)
    declare(tmp_path, study_block([claim("better", "greater", says="b is better.")], arms=["a", "b"]))
    shifts = {"a": 0.0, "b": 0.05}
    arms = {name: Arm(HOW if name == "b" else {}, {NDCG: s, CHANGED: s, PMRR: s}) for name, s in shifts.items()}
    make_study(tmp_path, arms)
    return tmp_path


def test_without_the_package_the_extra_is_named(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb_workspaces" else find(name))
    assert command.main(["s", "--results", str(results)]) == 2
    said = 'error: reports of W&B need the extra wandb-reports: pip install -e ".[wandb-reports]"\n'
    assert capsys.readouterr().err == said and not (results / "reports").exists()


def panels_in(block: dict[str, Any]) -> list[dict[str, Any]]:
    return list(block.get("metadata", {}).get("panelBankSectionConfig", {}).get("panels", []))


@pytest.mark.extras
def test_the_specification_holds_verdicts_and_panels(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra("wandb_workspaces")
    assert command.main(["s", "--results", str(results), "--project", "p", "--entity", "e"]) == 0
    said = capsys.readouterr().out
    assert f"python -m analysis.wandb_report s --online --project p --results {results} --entity e" in said
    text = (results / "reports" / "s" / "wandb_report.json").read_text("utf-8")
    values = json.loads(text)
    assert values["entity"] == "e" and values["project"] == "p"
    assert "b is better." in text and "SUPPORTED" in text and "factors.instructed" in text
    kinds = [panel["viewType"] for block in values["spec"]["blocks"] for panel in panels_in(block)]
    assert {"Run Comparer", "Scatter Plot", "Parallel Coordinates Plot", "Bar Chart"} <= set(kinds)
    assert "d/test/changed/after/p-MRR" in text and '"s"' in text
