"""The notebook of the documents: its cells run in order on a study, and nothing that they said is kept in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from synthetic_study import CHANGED, NDCG, Arm, claim, declare, make_quick, make_study, study_block

NOTEBOOK = ROOT / "docs" / "notebooks" / "read_a_study.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
PAIRS = ("d/test", "pairs", "both", "satisfying over violating")


def test_no_output_is_kept() -> None:
    assert [cell for cell in CELLS if cell.get("outputs") or cell.get("execution_count")] == []


def test_every_cell_runs_and_shows_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_quick(monkeypatch)
    block = study_block([claim("better", "greater", PAIRS)])
    declared = declare(tmp_path / "results", block, study="smoke")
    arms = {
        "a": Arm(shift={NDCG: 0.0, CHANGED: 0.0, PAIRS: 0.0}, declared=declared),
        "b": Arm({"reversed_views": 1.0}, shift={NDCG: 0.0, CHANGED: 0.0, PAIRS: 0.2}, declared=declared),
    }
    make_study(tmp_path / "results", arms, "smoke")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in CELLS:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    said = capsys.readouterr().out
    assert "better: SUPPORTED" in said and "b - a in satisfying over violating" in said
    (drawn,) = names["drawn"]
    assert len(drawn.seeds) == 5 and drawn.estimate == pytest.approx(0.2, abs=0.05)
    *code, _ = (cell for cell in CELLS if cell["cell_type"] == "code")
    picture = eval("".join(code[-1]["source"]).rsplit("\n", 1)[1], names)
    assert picture._repr_svg_().startswith("<svg") and "Every seed as a dot" in picture
