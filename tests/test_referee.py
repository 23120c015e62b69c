"""The section for a doubting reader: labels by census and by audit, objections, short cuts, what is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from mixes import make_mix
from synthetic_study import NDCG, Arm, claim, declare, make_quick, make_study, study_block

from ablate.records import UserError
from ablate.store.results import ResultStore
from analysis.page.gather import gather
from analysis.page.html import html
from analysis.page.labels import arm_labels, read_audit
from analysis.page.record import Answer, Figure, Grid, Section
from analysis.page.write import markdown
from analysis.study.evidence import Evidence
from analysis.study.objections import answered, objectors
from analysis.study.opened import OpenStudy
from analysis.study.runs import ArmRun

TWINS = {"instructed": 1.0, "instruction_negatives": 1, "reversed_views": 1.0}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def study(root: Path, **more: Any) -> OpenStudy:
    """The study `s`: dual_view against style_twin (in a claim) and sides (in none), with short cuts on two cards."""
    told = {"passage": 0.5, "side": 0.52, "length": 0.5}
    claims = [claim("beyond_styles", "greater", contrast="dual_view - style_twin", says="More than styles.")]
    digest = declare(root, study_block(claims, arms=["dual_view", "style_twin", "reversal_restyled"]))
    arms = {
        "dual_view": Arm(
            TWINS, {NDCG: 0.05}, declared=digest, made_of={"composition": {"right_labels": 1.0}, "predictability": told}
        ),
        "style_twin": Arm(
            {**TWINS, "twin_polarity": "restyled"},
            {NDCG: 0.0},
            declared=digest,
            made_of={
                "composition": {"right_labels": 1.0},
                "predictability": {**told, "passage": 0.9},
                "views": {"reversed": 0},
            },
        ),
        "reversal_restyled": Arm({**TWINS, "twin_polarity": "right_restyled"}, {NDCG: 0.0}, declared=digest),
    }
    make_study(root, arms)
    return OpenStudy(Evidence(root, "s"))


def section_of(opened: OpenStudy, root: Path, *audits: Path) -> Section:
    report = gather(opened, str(root), None, tuple(map(read_audit, audits)))
    assert report.sections[0].key == "referee"
    page, text = html(report), markdown(report)
    for part in report.sections[0].parts:
        if isinstance(part, Answer):
            assert f"<h3>{part.question}</h3>" in page and f"### {part.question}" in text
            assert not part.see or f'id="{part.see}-section"' in page, "a link to a section that is not there"
    return report.sections[0]


def answers_of(section: Section) -> dict[str, Answer]:
    return {part.question.split()[0]: part for part in section.parts if isinstance(part, Answer)}


def audit_file(path: Path, labels: list[str], **swap: Any) -> Path:
    values = {"estimate": 0.95, "ci": [0.91, 0.98], "n": 150, "census": False, "verdict": "ABOVE", **swap}
    path.write_text(json.dumps({"threshold": 0.9, "items": 400, "swap_accuracy": values, "mix": {"labels": labels}}))
    return path


def test_every_question_is_answered_and_what_lacks_is_told_with_a_command(tmp_path: Path) -> None:
    section = section_of(study(tmp_path), tmp_path)
    said = answers_of(section)
    assert list(said) == ["Are", "Could", "Does", "Was", "What"]
    assert "Not known: dual_view" in said["Are"].says and "analysis.inversion_audit" in said["Are"].commands[0][1]
    assert "1 declared claim is on an arm that was made to answer an objection" in said["Could"].says
    assert "reversal_restyled (sides) is in no claim" in said["Could"].says
    assert any(" - reversal_restyled'" in words for _, words in said["Could"].commands)
    assert "volume (dual_view_added)" in said["Could"].says and "style (style_twin)" not in said["Could"].says
    assert said["Does"].commands[0][1].endswith("+sweeps=label_noise")
    assert "Leaks: " in said["Was"].says and "checks" in said["What"].says
    figures = [part.key for part in section.parts if isinstance(part, Figure)]
    assert figures == ["referee_rivals", "referee_short_cuts"]
    (short,) = (part for part in section.parts if isinstance(part, Figure) and part.key == "referee_short_cuts")
    assert "style_twin: label from passage" in short.svg and "dual_view: label from side" in short.svg


def test_an_audit_tells_of_the_arm_that_its_mix_is_of(tmp_path: Path) -> None:
    opened = study(tmp_path / "r")
    own = audit_file(tmp_path / "own.json", ["s/dual_view"])
    other = audit_file(tmp_path / "other.json", [], estimate=0.8, ci=[0.7, 0.88], verdict="BELOW")
    section = section_of(opened, tmp_path / "r", own, other)
    (grid,) = (part for part in section.parts if isinstance(part, Grid))
    rows = {row[0]: row for row in grid.rows}
    assert rows["dual_view"][2:6] == (0.95, "0.910 to 0.980", 0.91, 0.98) and rows["dual_view"][6] == "ABOVE"
    assert rows["other"][2] == 0.8 and rows["other"][6] == "BELOW"
    assert rows["reversal_restyled"][2] is None and "style_twin" not in rows


@pytest.mark.parametrize("text", ["{}", "[]", '{"threshold": 0.9, "items": 1, "swap_accuracy": {"estimate": 1}}'])
def test_what_is_no_audit_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="has no swap_accuracy with estimate, ci, n and verdict"):
        read_audit(tmp_path / "a.json")


def test_the_census_of_an_arm_is_over_the_mixes_of_its_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixes = [
        make_mix(tmp_path, "label_noise", "source.documents=600", "factors.label_noise=0.5", seed=n) for n in (0, 1)
    ]
    mixes.append(make_mix(tmp_path, "balanced_original"))
    evidence = Evidence(tmp_path, "twins")
    evaluation: Any = None
    runs = [ArmRun(mix.labels[0].partition("/")[2], mix.seed, evaluation, None, mix) for mix in mixes]
    monkeypatch.setattr(Evidence, "runs", runs)
    noisy, alone = arm_labels(evidence, ())
    assert noisy.evidence == "census" and noisy.ends is None and noisy.verdict == "BELOW"
    assert list(noisy.by_seed) == [0, 1] and min(noisy.by_seed.values()) < noisy.estimate < max(noisy.by_seed.values())
    assert noisy.decided_by == "factors.label_noise=0.5" and noisy.originals_right == 1.0
    assert alone.estimate is None and alone.evidence.startswith("reversed groups without their originals")
    assert isinstance(evidence.store, ResultStore)


def test_the_readme_and_the_arms_name_the_same_objections() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Arms")[1].split("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \|.*\| objection: ([^|(]*?)(?: \(\w+\))? \|$", table, re.M))
    assert listed == {known.experiment: known.objection for known in objectors()}
    assert len(listed) > 10


def test_an_arm_is_known_by_what_it_was_declared_as(tmp_path: Path) -> None:
    found = answered(study(tmp_path).evidence)
    assert {arm: known.objection for arm, known in found.items()} == {
        "style_twin": "style",
        "reversal_restyled": "sides",
    }
    (noise,) = (known for known in objectors() if known.experiment == "label_noise")
    assert noise.is_called("label_noise_0.35") and not noise.is_called("label_noise") and not noise.is_called("x_0.35")
