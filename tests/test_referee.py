"""The section for a doubting reader: labels by census and by audit, objections, short cuts, what is missing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import ROOT
from mixes import make_mix
from synthetic_study import NDCG, Arm, claim, declare, make_quick, make_study, study_block

from ablate.compose import load, study_of, values_of
from ablate.records import UserError
from ablate.store.results import ResultStore
from ablate.study.declaration import build_study
from ablate.tables import escape_markdown
from analysis.page.gather import gather
from analysis.page.html import html
from analysis.page.labels import arm_labels, read_audit
from analysis.page.record import Answer, Figure, Grid, Section
from analysis.page.write import markdown
from analysis.study.evidence import Evidence
from analysis.study.objections import answered, can_be_made, objectors
from analysis.study.opened import OpenStudy
from analysis.study.runs import ArmRun

TWINS = {"instructed": 1.0, "instruction_negatives": 1, "reversed_views": 1.0}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def study(root: Path, **more: Any) -> OpenStudy:
    """The study `s`: dual_view against style_twin (in a claim) and sides (in none), with short cuts on two cards."""
    told = {"passage": 0.5, "side": 0.52, "length": 0.5}
    digest = declare(root, BLOCK)
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


BLOCK = study_block(
    [claim("beyond_styles", "greater", contrast="dual_view - style_twin", says="More than styles.")],
    arms=["dual_view", "style_twin", "reversal_restyled"],
)


def section_of(opened: OpenStudy, root: Path, *audits: Path) -> Section:
    report = gather(opened, str(root), None, tuple(map(read_audit, audits)))
    assert report.sections[0].key == "referee"
    page, text = html(report), markdown(report)
    for part in report.sections[0].parts:
        if isinstance(part, Answer):
            assert f"<h3>{part.question}</h3>" in page and f"### {part.question}" in text
            assert all(f"<li>{item}</li>" in page and f"- {escape_markdown(item)}\n" in text for item in part.items)
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
    assert (said["Are"].head, [item.split(":")[0] for item in said["Are"].items]) == (
        "Not known",
        ["dual_view", "reversal_restyled"],
    )
    where = f"--results {tmp_path}"
    assert [words for _, words in said["Are"].commands] == [
        f"python -m analysis.inversion_audit s/dual_view:0 --items-to items.jsonl {where}",
        f"python -m analysis.inversion_audit s/dual_view:0 --judgments judgments.jsonl --json audit.json {where}",
        f"python -m analysis.report s --audit audit.json {where}",
    ]
    assert ResultStore(tmp_path).resolve("mix", "s/dual_view:0").seed == 0
    assert "1 declared claim is on an arm that was made to answer an objection" in said["Could"].says
    assert "reversal_restyled (sides) is in no claim" in said["Could"].says
    assert any(" - reversal_restyled'" in words for _, words in said["Could"].commands)
    assert said["Could"].head == "Not asked here" and "volume: dual_view_added" in said["Could"].items
    assert "wrong inversions: audited_clean (needs judged rows, audit.judgments=F)" in said["Could"].items
    assert not any(item.startswith(("style:", "sides:")) for item in said["Could"].items)
    assert said["Does"].commands[0][1].endswith("+sweeps=label_noise")
    assert "Leaks: " in said["Was"].says and "checks" in said["What"].says
    figures = [part.key for part in section.parts if isinstance(part, Figure)]
    assert figures == ["referee_rivals", "referee_short_cuts"]
    (short,) = (part for part in section.parts if isinstance(part, Figure) and part.key == "referee_short_cuts")
    assert "style_twin: label from passage" in short.svg and "dual_view: label from side" in short.svg
    assert ">accuracy 0.90<" in short.svg and ">0.90<" not in short.svg


def test_further_arms_are_made_with_the_keys_of_the_study_or_by_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed is composed with the study's own file, leaves its declaration alone, and has its arms too."""
    opened = study(tmp_path / "r")
    monkeypatch.chdir(tmp_path)
    said = answers_of(section_of(opened, tmp_path / "r"))["Could"]
    assert not any("ablate.run" in words for _, words in said.commands)
    assert "dual_view_added" in said.says and "train them with the source, model, train" in said.says

    (tmp_path / "sweeps").mkdir()
    file = tmp_path / "sweeps" / "of_s.yaml"
    shared = "# @package _global_\nsource: {documents: 600}\n"
    file.write_text(shared + yaml.safe_dump({"study": BLOCK}))
    said = answers_of(section_of(opened, tmp_path / "r"))["Could"]
    (command,) = (words for _, words in said.commands if "ablate.run" in words)
    *start, sweep = shlex.split(command)[:5]
    assert (start, sweep) == (["python", "-m", "ablate.run", "-m"], "+sweeps=of_s")
    composed = load(shlex.split(command)[4:])
    values = values_of(composed, resolved=False)
    made = study_of(composed)
    assert made is not None and made.claims == () and list(made.seeds) == BLOCK["seeds"]
    assert made.arms[:3] == build_study(BLOCK).arms and {"dual_view_added", "label_noise"} < set(made.arms)
    assert len(set(made.arms)) == len(made.arms) and "audited_clean" not in made.arms
    assert values["source"]["documents"] == 600 and values["runtime"]["study"] == "s_objections"
    assert values["runtime"]["results"] == str(tmp_path / "r")

    file.write_text(shared + yaml.safe_dump({"study": {**BLOCK, "seeds": [0, 1]}}))  # no longer what was declared
    said = answers_of(section_of(opened, tmp_path / "r"))["Could"]
    assert not any("ablate.run" in words for _, words in said.commands)


def test_an_arm_whose_rows_the_source_may_not_have_is_in_no_command() -> None:
    known = {objector.experiment: objector for objector in objectors()}

    def makeable(kind: str, **factors: Any) -> set[str]:
        mix = SimpleNamespace(recipe={"source": {"kind": kind}, "factors": {**TWINS, **factors}})
        evidence: Any = SimpleNamespace(runs=[SimpleNamespace(mix=mix), SimpleNamespace(mix=None)])
        return {name for name, objector in known.items() if can_be_made(evidence, objector)}

    assert makeable("world") == set(known) - {"audited_clean"}
    assert "dual_view_added" in makeable("rules") and "label_noise" in makeable("rules")
    assert not {"style_twin", "reversal_restyled", "paraphrase_control"} & makeable("rules")
    assert {"style_twin", "reversal_restyled"} < makeable("synthesized", twin_polarity="restyled")


def test_arms_of_the_present_folder_answer_objections_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    for name, text in (
        ("mine", "runtime: {label: mine, objection: a new one}"),
        ("heir", "defaults: [style_twin]\nruntime: {label: heir}"),
        ("heir_of_heir", "defaults: [/experiment/heir, {override /model: tiny}, _self_]"),
        ("beneath", "runtime: {label: beneath, objection: mine}\ndefaults: [_self_, mine]"),
        ("freed", "defaults: [mine]\nruntime: {objection: null}"),
        ("label_noise", "runtime: {label: noisy}"),
        ("dead_polarity", "runtime: {label: dead, objection: another}"),
    ):
        (folder / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    shipped = {objector.experiment: objector for objector in objectors()}
    monkeypatch.chdir(tmp_path)
    known = {objector.experiment: objector for objector in objectors()}
    assert known["mine"].objection == "a new one" and known["mine"].is_called("mine")
    assert (known["heir"].objection, known["heir"].label, known["heir"].reads) == (
        "style",
        "heir",
        shipped["style_twin"].reads,
    )
    assert known["heir_of_heir"].objection == "style" and known["heir_of_heir"].label == "heir"
    assert known["beneath"].objection == "a new one"
    assert "freed" not in known and "label_noise" not in known and "label_noise" in shipped
    assert known["dead_polarity"].objection == "another" and known["style_twin"] == shipped["style_twin"]
    (folder / "mine.yaml").write_text("runtime: {")
    with pytest.raises(UserError, match=r"mine\.yaml is no readable YAML"):
        objectors()


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
