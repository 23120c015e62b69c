"""A study as a W&B report: what is described, without a server; verdicts are those of the report."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import extra
from synthetic_study import CHANGED, NDCG, PMRR, Arm, claim, declare, make_quick, make_study, study_block
from wandb_server import ENTITY, KEY, wandb_server

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


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[None]:
    """Give back the environment, which the command sets for W&B's client in its own process."""
    before = dict(os.environ)
    os.environ["HOME"] = str(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.extras
def test_saving_sends_the_whole_specification_and_renews_the_same_report(
    results: Path, environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    extra("wandb_workspaces")
    words = ["s", "--results", str(results), "--project", "p", "--online"]
    place = results / "reports" / "s" / "wandb_report.json"
    with wandb_server() as (server, url):
        os.environ |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        assert command.main(words) == 0, (capsys.readouterr(), server.unknown)
        said, written = capsys.readouterr().out, json.loads(place.read_text("utf-8"))
        (sent,) = server.reports
        assert (
            said == f"s: {written['url']}\n"
            and written["url"].startswith(url)
            and written["id"] in said.replace("=", "")
        )
        assert (sent["entityName"], sent["projectName"]) == (ENTITY, "p") and sent["displayName"] == "Study s"
        assert json.loads(sent["spec"]) == written["spec"] and "b is better." in sent["spec"]
        assert KEY not in said + place.read_text("utf-8")
        assert command.main(words) == 0
        assert [report.get("id") for report in server.reports] == [None, written["id"]]
        before = place.read_text("utf-8")
        server.accepts = False
        assert command.main(words) == 2
        assert len(server.reports) == 2 and place.read_text("utf-8") == before
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert line.startswith(f"error: W&B at {url} does not answer as it should (") and KEY not in line
