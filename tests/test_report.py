"""The report of a study: what stands on the page and in its files, from made studies; nothing of the data is markup."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import html.parser
import importlib
import json
import re
import shlex
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import synthetic_study
from conftest import extra
from synthetic_study import BED, CHANGED, NDCG, PMRR, Arm, claim, declare, make_quick, make_study, study_block

from ablate.evaluation.storage import read_rankings
from ablate.records import UserError
from ablate.store.files import LEDGER_FILE
from analysis import report as command
from analysis import significance
from analysis.page import units as units_section
from analysis.page.drawing import Scale, minus
from analysis.page.gather import SECTIONS, gather
from analysis.page.html import html as page_of
from analysis.page.plots import _apart
from analysis.page.record import Grid, Report, Units
from analysis.page.source import Source, seed_differences
from analysis.page.write import write
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy
from analysis.verdict.judge import judge

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\u202e{{ 7 * 7 }}"
VOID = {"meta", "input", "img", "br", "link"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def study_of(root: Path, **more: Any) -> None:
    """Leave the study `s`: three arms of five seeds; b is better than a, and c has twice the groups."""
    shifts = {"a": 0.0, "b": 0.05, "c": 0.03}
    claims = [
        claim("better", "greater", says="b is better."),
        claim("kept", "not_worse", CHANGED, margin=0.02, says="b keeps nDCG."),
        claim("more", "greater", contrast="c - a", says="c is better."),
    ]
    block = study_block(claims, arms=["a", "b", "c"], margins=[["nDCG@10", 0.02]], **more)
    digest = declare(root, block)
    arms = {
        name: Arm(
            {} if name == "a" else {"instructed": 1.0} if name == "b" else {"instructed": 0.5},
            {NDCG: shift, CHANGED: shift, PMRR: shift},
            groups=16 if name == "c" else 8,
            declared=digest,
            losses=(2.0, 1.0),
        )
        for name, shift in shifts.items()
    }
    make_study(root, arms)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    study_of(tmp_path / "r")
    return tmp_path / "r"


def made(results: Path, **more: Any) -> Report:
    return gather(OpenStudy(Evidence(results, "s", **more)), str(results))


class Page(html.parser.HTMLParser):
    """Tags and texts of a page as a browser sees them, and that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_failing_checks_stand_above_verdicts_and_verdicts_above_all_else(results: Path) -> None:
    report = made(results)
    text = page_of(report)
    places = [text.index(words) for words in ('role="alert"', 'id="verdicts"', 'id="contrasts-section"')]
    assert places == sorted(places) and report.failing
    page = Page(text)
    assert all(check.name in page.text and check.found in page.text for check in report.failing)
    assert [section.key for section in report.sections] == [
        "referee",
        "contrasts",
        "collapse",
        "queries",
        "arms",
        "budgets",
        "costs",
        "losses",
        "fairness",
        "configuration",
        "provenance",
    ]
    assert all(f'href="#{section.key}-section"' in text for section in report.sections)


def test_every_claim_has_its_sentence_interval_population_and_reason(results: Path) -> None:
    report, judgement = made(results), judge(OpenStudy(Evidence(results, "s")))
    page = Page(page_of(report)).text
    assert [claim.verdict for claim in report.verdicts] == [judged.ruling.verdict for judged in judgement.claims]
    assert [claim.verdict for claim in report.verdicts] == ["SUPPORTED", "SUPPORTED", "UNMATCHED"]
    for said, judged in zip(report.verdicts, judgement.claims, strict=True):
        assert judged.row is not None
        assert said.says in page and minus(said.estimate) in page and minus(said.population) in page
        assert said.population == judged.row.population and f"{judged.row.result.estimate:.4f}" in said.estimate
        assert minus(said.reason) in page
    assert "at 95 %" in report.verdicts[0].estimate and "at 90 %" in report.verdicts[1].estimate
    assert report.verdicts[0].population.rstrip(".") not in report.verdicts[0].reason
    assert report.verdicts[2].tone == "warn"


def test_numbers_are_those_of_the_tests(results: Path, tmp_path: Path) -> None:
    report = made(results)
    write(report, tmp_path / "out")
    rows = rows_of(tmp_path / "out/tables/contrasts.csv")
    (first,) = (
        row for row in rows if row["contrast"] == "b - a" and row["measure"] == "nDCG@10" and row["posed"] == "plain"
    )
    judged = judge(OpenStudy(Evidence(results, "s"))).claims[0]
    assert judged.row is not None
    assert float(first["estimate"]) == judged.row.result.estimate
    assert (float(first["ci_low"]), float(first["ci_high"])) == judged.row.result.ci
    (section,) = (section for section in report.sections if section.key == "contrasts")
    words = [*shlex.split(section.command)[3:], "--json", str(tmp_path / "x.json")]
    assert significance.main(words) == 0
    tested = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["contrasts"]
    printed = {
        (row["contrast"], row["measure"], row["condition"]): (row["estimate"], row["p"], row["p_holm"])
        for row in tested
    }
    for row in rows:
        place = (row["contrast"], row["measure"], row["posed"].partition(":")[0])
        assert (float(row["estimate"]), float(row["p"]), float(row["p_holm"])) == printed[place]
    assert len(printed) == len(rows) == 6
    assert {row["contrast"] for row in rows} == {"b - a", "c - a"}
    assert all("UNMATCHED" in row["marks"] for row in rows if row["contrast"] == "c - a")
    (whole,) = (row for row in rows_of(tmp_path / "out/tables/claims.csv") if row["claim"] == "better")
    assert float(whole["estimate"]) == judged.row.result.estimate


def test_dots_are_differences_of_the_same_seed(results: Path) -> None:
    source = Source(OpenStudy(Evidence(results, "s")), "r")
    row = next(row for row in source.tested.rows if row.label == "b - a")
    values = source.study.table.cells[row.cell].values_SQ
    by_hand = [float(values["b"][seed].mean() - values["a"][seed].mean()) for seed in range(5)]
    assert seed_differences(row, source.study.table.seeds) == pytest.approx(by_hand, abs=1e-12)
    fewer = {"a": ("0", "1", "7", "8", "9"), "b": ("0", "1", "2", "3", "4")}
    assert seed_differences(row, fewer) == pytest.approx(by_hand[:2], abs=1e-12)
    fixed = dataclasses.replace(row, deterministic=frozenset({"a"}))
    mean = fmean(row.seed_means["a"])
    assert seed_differences(fixed, fewer) == pytest.approx([value - mean for value in row.seed_means["b"]])


def test_nothing_of_the_data_is_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = tuple(query._replace(query=HOSTILE, instruction=HOSTILE) for query in BED.queries)
    monkeypatch.setattr(synthetic_study, "BED", dataclasses.replace(BED, queries=queries))
    name = "<b>'\"&"
    claims = [claim(HOSTILE, "greater", contrast=f"{name} - a", says=HOSTILE)]
    digest = declare(tmp_path / "r", study_block(claims, question=HOSTILE, arms=["a", name]))
    arms = {"a": Arm(ranked=True, declared=digest), name: Arm({"instructed": 1.0}, ranked=True, declared=digest)}
    make_study(tmp_path / "r", arms)
    written = write(made(tmp_path / "r"), tmp_path / "out")
    page = Page(written.page.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert (
        "img" not in tags
        and tags.count("script") == 1
        and tags.count("b") == len(re.findall("<b>", written.page.read_text()))
    )
    assert all(not key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert HOSTILE.replace("\u202e", "\\u202e") in page.text and "49" not in page.text.split(HOSTILE[:20])[1][:99]
    for path in written.page.parent.rglob("*"):
        if path.suffix in (".html", ".md", ".svg"):
            text = path.read_text(encoding="utf-8")
            assert "\u202e" not in text and "<img" not in text and "<script>alert" not in text
        assert re.fullmatch(r"[a-z0-9_.]+", path.name)
    assert "<b>'" not in (tmp_path / "out/figures/forest_claims.svg").read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_and_names_its_script(results: Path) -> None:
    text = page_of(made(results))
    page = Page(text)
    loading = {"src", "srcset", "data", "action", "poster", "xlink:href"}
    assert not [attributes for _, attributes in page.tags if loading & set(attributes)]
    assert all(
        value is None or value.startswith("#") for tag, a in page.tags for key, value in a.items() if key == "href"
    )
    assert "@import" not in text and "url(" not in text
    (policy,) = (a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None and policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy
    assert len(script.splitlines()) < 150


def test_tables_tell_readers_their_heads(results: Path) -> None:
    page = Page(page_of(made(results)))
    heads = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert set(heads) == {"col", "row"}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = {attributes["aria-labelledby"] for tag, attributes in page.tags if tag == "section"}
    assert labelled <= set(ids)


def test_the_same_results_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(made(results), tmp_path / name)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    files = [name for name in files if name.suffix not in (".pdf", ".png")]  # another package writes its own marks
    assert len(files) > 10
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_a_study_without_a_declaration_confirms_nothing(tmp_path: Path) -> None:
    make_study(tmp_path / "r", {"a": Arm(), "b": Arm({"instructed": 1.0}, {NDCG: 0.05})})
    report = made(tmp_path / "r")
    text = Page(page_of(report)).text
    assert "No claim was declared before these results" in text and not report.verdicts and not report.claims_csv
    assert "every row is exploratory" in text and "No question was declared" in text


def test_a_baseline_that_is_asked_for_is_taken_though_it_was_not_trained(tmp_path: Path) -> None:
    fixed = Arm(shift={NDCG: -0.1}, system={"stage": "ranker", "k1": 1}, seeds=(0,))
    make_study(tmp_path / "r", {"a": Arm(), "b": Arm({"instructed": 1.0}, {NDCG: 0.05}), "fixed": fixed})
    report = gather(OpenStudy(Evidence(tmp_path / "r", "s", baseline="fixed")), "results", "fixed")
    (grid,) = (grid for grid in report.grids if grid.key == "contrasts")
    assert {row[0] for row in grid.rows} == {"a - fixed", "b - fixed"}
    assert report.made_by == "python -m analysis.report s --baseline fixed"
    (others,) = (grid for grid in report.grids if grid.key == "configuration_others")
    assert ("fixed", "system.k1", "1") in others.rows
    assert dict(report.facts)["baseline"] == "fixed" and dict(made(tmp_path / "r").facts)["baseline"] == "a"


def test_withdrawn_claims_are_told_with_the_others(tmp_path: Path) -> None:
    block = study_block([claim("gone", "greater")])
    before = declare(tmp_path / "r", block)
    declare(tmp_path / "r", study_block([claim("left", "less")]), at="2026-01-01T00:00:01+00:00")
    make_study(tmp_path / "r", {"a": Arm(declared=before), "b": Arm({"instructed": 1.0}, declared=before)})
    report = made(tmp_path / "r")
    assert [verdict.name for verdict in report.verdicts] == ["left", "gone (withdrawn)"]
    (forest,) = (figure for figure in report.figures if figure.key == "forest_claims")
    assert "gone (withdrawn)" in forest.svg and forest.svg.count("EXPLORATORY</text>") == 2


def test_one_seed_and_one_arm_are_told_not_drawn(tmp_path: Path) -> None:
    make_study(tmp_path / "one", {"a": Arm(seeds=(0,)), "b": Arm({"instructed": 1.0}, seeds=(0,))})
    assert "has one seed, which says nothing about new ones" in Page(page_of(made(tmp_path / "one"))).text
    make_study(tmp_path / "alone", {"a": Arm()})
    assert "a is the only arm" in Page(page_of(made(tmp_path / "alone"))).text


def ranked_study(root: Path, **more: Any) -> None:
    digest = declare(root, study_block([claim("better", "greater", says="b is better.")], **more))
    arms = {
        name: Arm({} if name == "a" else {"instructed": 1.0}, {NDCG: shift}, ranked=True, declared=digest)
        for name, shift in (("a", 0.0), ("b", 0.05))
    }
    make_study(root, arms)


def test_units_are_capped_by_a_stated_rule_and_all_of_them_are_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked_study(tmp_path / "r")
    monkeypatch.setattr(units_section, "MOST_UNITS", 6)
    report = made(tmp_path / "r")
    (shown,) = (part for section in report.sections for part in section.parts if isinstance(part, Units))
    write(report, tmp_path / "out")
    differences = [float(row["difference"]) for row in rows_of(tmp_path / "out/tables/units.csv")]
    assert len(differences) == shown.num_units == 20
    ordered = sorted(differences, reverse=True)
    assert [unit.difference for unit in shown.units] == [*ordered[:3], *ordered[-3:]]
    assert "up to 6 units are listed" in Page(page_of(report)).text
    judged = judge(OpenStudy(Evidence(tmp_path / "r", "s"))).claims[0]
    assert judged.row is not None and fmean(differences) == pytest.approx(judged.row.result.estimate)


def test_documents_that_moved_have_their_mean_ranks_and_labels(tmp_path: Path) -> None:
    ranked_study(tmp_path / "r")
    evidence = Evidence(tmp_path / "r", "s")
    (shown,) = (part for section in made(tmp_path / "r").sections for part in section.parts if isinstance(part, Units))
    unit = shown.units[0]
    (posed,) = unit.posed
    by_arm: dict[str, list[dict[str, int]]] = {"a": [], "b": []}
    for run in evidence.runs:
        rankings = read_rankings(evidence.store.whole(run.evaluation), "d/test", "plain")
        (ranking,) = (ranking for ranking in rankings if ranking.query_id == unit.unit_id)
        by_arm[run.arm].append({doc_id: place for place, doc_id in enumerate(ranking.doc_ids, start=1)})
    assert len(posed.documents) == units_section.MOST_DOCUMENTS
    for document in posed.documents:
        for arm, runs in by_arm.items():
            assert document.ranks[arm] == pytest.approx(fmean(run[document.doc_id] for run in runs))
        assert document.label == ("relevant" if BED.qrels[unit.unit_id].get(document.doc_id) else "")
    assert any(document.label == "relevant" for document in posed.documents)


def test_documents_are_left_out_above_a_size_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked_study(tmp_path / "r")
    monkeypatch.setattr(units_section, "MOST_BYTES", 10)
    text = Page(page_of(made(tmp_path / "r"))).text
    assert "Documents are not shown: rankings of b, a have" in text and "documents that moved" in text


def test_scores_without_judgments_are_shown_without_queries(results: Path) -> None:
    assert "Without queries and documents: study 's' kept no judgments" in Page(page_of(made(results))).text


def test_a_curve_is_drawn_only_where_the_ledger_gives_the_losses_of_the_manifest(results: Path) -> None:
    runs = Evidence(results, "s").runs
    assert "No curve: the ledger of a seed 0" in Page(page_of(made(results))).text

    def write_ledger(run: Any, losses: list[float]) -> None:
        lines = [
            {"kind": "metrics", "step": step, "values": {"loss": loss}} for step, loss in enumerate(losses, start=1)
        ]
        folder = results / "runs" / run.train.id
        (folder / LEDGER_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))

    for run in runs:
        write_ledger(run, [2.0, 1.5, 1.0])
    report = made(results)
    assert "losses" in [figure.key for figure in report.figures]
    assert "No curve" not in Page(page_of(report)).text
    write_ledger(runs[0], [2.0, 1.5, 0.9])
    assert "No curve: the ledger of a seed 0 is gone or another" in Page(page_of(made(results))).text


def test_collapse_is_drawn_with_the_line_of_the_margin(results: Path) -> None:
    report = made(results)
    (figure,) = (figure for figure in report.figures if figure.key == "collapse_1")
    assert "below that of a by more than the margin, 0.02" in figure.caption
    (grid,) = (grid for grid in report.grids if grid.key == "collapse")
    assert [row[0] for row in grid.rows] == ["a", "b", "c"]
    table = Evidence(results, "s").table
    (cell,) = (cell for cell in table.cells if cell.measure == "p-MRR")
    assert grid.rows[1][5] == pytest.approx(float(table.cells[cell].values_SQ["b"].mean()))


def test_a_ring_is_the_arm_that_ignores_the_instruction(tmp_path: Path) -> None:
    gain = ("d/test", "changed", "after", "instruction gain")
    places = {CHANGED: 0.1, PMRR: 0.0, gain: -0.2, NDCG: 0.0}
    make_study(tmp_path / "r", {"a": Arm(shift=places, spread=0), "b": Arm({"instructed": 1.0}, places, spread=0)})
    report = made(tmp_path / "r")
    (grid,) = (grid for grid in report.grids if grid.key == "collapse")
    assert [row[6] for row in grid.rows] == pytest.approx([0.5 - 0.2] * 2)  # nDCG .4 + .1, gain .4 - .2
    (figure,) = (figure for figure in report.figures if figure.key == "collapse_1")
    assert figure.svg.count('class="ring-') == 2
    make_study(tmp_path / "q", {"a": Arm(shift={CHANGED: 0.1, PMRR: 0.0}), "b": Arm({"instructed": 1.0}, places)})
    (grid,) = (grid for grid in made(tmp_path / "q").grids if grid.key == "collapse")
    assert [row[6] is None for row in grid.rows] == [True, False]


def test_doses_of_label_noise_have_their_line(tmp_path: Path) -> None:
    doses = {"base": None, "clean": 0.0, "tenth": 0.1, "half": 0.5}
    claims = [claim("hurts", "less", contrast="half - clean")]
    digest = declare(tmp_path / "r", study_block(claims, arms=list(doses)))
    arms = {}
    for name, dose in doses.items():
        factors = {} if dose is None else {"reversed_views": 1.0} | ({"label_noise": dose} if dose else {})
        gain = 0.0 if dose is None else 0.02 + 0.06 * (1 - 2 * dose)
        arms[name] = Arm(factors, {NDCG: gain}, declared=digest, spread=0.1)
    make_study(tmp_path / "r", arms)
    report = made(tmp_path / "r")
    (section,) = (section for section in report.sections if section.key == "dose")
    (grid,) = (part for part in section.parts if isinstance(part, Grid))
    by_name = {row[1][:1]: row[2] for row in grid.rows}
    assert by_name["c"] == pytest.approx(0.02, abs=0.004) and by_name["E"] == pytest.approx(0.06, abs=0.004)
    assert "--reference base" in section.command
    assert "referee_dose" in {figure.key for figure in report.figures}, "the referee's section has the first line too"


def test_configurations_are_what_differs_and_what_is_shared(results: Path) -> None:
    grids = {grid.key: grid for grid in made(results).grids}
    differs = {row[0]: row[1:] for row in grids["configuration_differs"].rows}
    assert differs == {"factors.instructed": ("off", "1.0", "0.5")}
    assert ("train.learning_rate", "0.1") in grids["configuration_shared"].rows
    changes = {row[0]: row[2] for row in grids["arms"].rows}
    assert changes["a"] == "the baseline" and changes["b"] == "factors.instructed (off → 1.0)"
    assert {row[0]: row[-1] for row in grids["budgets"].rows}["c"].startswith("UNMATCHED: 16 against 8 groups")


def test_every_section_says_which_command_prints_its_numbers(results: Path) -> None:
    report = made(results)
    commands = [section.command for section in report.sections if section.command] + [report.made_by]
    assert len(commands) >= 7
    assert all(re.match(r"python -m analysis\.\w+ s( .*)? --results ", words) for words in commands)


@pytest.mark.parametrize("is_ranked", [False, True])
def test_the_commands_run(is_ranked: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ranked_study if is_ranked else study_of)(tmp_path / "r")
    report = made(tmp_path / "r")
    written = {section.command for section in report.sections if section.command} | {report.verdict_command}
    if not is_ranked:  # no judgments were kept, so there is no query to be shown
        written = {words for words in written if "analysis.explain" not in words}
    assert len(written) > 4
    for words in sorted(written):
        _, _, module, *rest = shlex.split(words)
        expected = (0, 1) if module == "analysis.verify" else (0,)  # a made study does not verify
        assert importlib.import_module(module).main(rest) in expected, words
    capsys.readouterr()


def test_markdown_and_latex_hold_the_verdicts_and_the_tables(results: Path, tmp_path: Path) -> None:
    report = made(results)
    write(report, tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert "### better: SUPPORTED" in text and "](figures/forest_claims.svg)" in text
    assert all(grid.title in text for grid in report.grids)
    latex = (tmp_path / "out/report.tex").read_text(encoding="utf-8")
    assert latex.count(r"\begin{tabular}") == sum(not grid.folded for grid in report.grids)
    figures = re.findall(r"\]\((figures/\w+\.svg)\)", text)
    assert figures and all((tmp_path / "out" / name).is_file() for name in figures)


@pytest.mark.extras
def test_figures_become_pictures(results: Path, tmp_path: Path) -> None:
    extra("vl_convert")
    written = write(made(results), tmp_path / "out")
    assert not written.skipped
    assert (tmp_path / "out/figures/forest_claims.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out/figures/forest_claims.pdf").read_bytes().startswith(b"%PDF")
    assert r"\includegraphics[width=\linewidth]{figures/forest_claims.pdf}" in (tmp_path / "out/report.tex").read_text()


def test_without_the_package_of_pictures_it_is_told(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("analysis.page.write.importlib.util.find_spec", lambda name: None)
    assert command.main(["s", "--results", str(results), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "no PNG and PDF of the figures: they need the extra figures" in said
    assert "s: 2 SUPPORTED, 1 UNMATCHED; fairness: " in said and "report.html" in said
    assert "includegraphics" not in (tmp_path / "out/report.tex").read_text(encoding="utf-8")


def test_the_usual_folder_is_no_path_of_the_data(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["s", "--results", str(results)]) == 0
    assert (results / "reports/s/report.html").is_file()
    capsys.readouterr()
    folder = command._default_folder(str(results), "../../x y")
    assert folder.parent == results / "reports" and re.fullmatch(r"[\w.-]+", folder.name) and ".." not in folder.parts
    (results / "reports" / "t").write_text("a file")
    with pytest.raises(UserError, match="report's folder .* name one, or a new one"):
        command._default_folder(str(results), "t")


def test_a_section_is_one_function(results: Path) -> None:
    source = Source(OpenStudy(Evidence(results, "s")), str(results))
    keys = [section.key for section in (make(source) for make in SECTIONS) if section is not None]
    assert keys == [section.key for section in made(results).sections]


def test_ticks_are_round_and_inside() -> None:
    scale = Scale([0.0, 0.093], 0, 100, margin=0.0)
    assert scale.ticks(5) == [0.0, 0.02, 0.04, 0.06, 0.08]
    assert scale(0.093) == 100 and Scale([1.0, 1.0], 0, 100)(1.0) == pytest.approx(50)


def test_labels_keep_their_distance_and_their_order() -> None:
    placed = _apart([100.0, 101.0, 50.0, 400.0])
    assert placed[2] < placed[0] < placed[1] < placed[3] and placed[1] - placed[0] >= 15
    crowded = _apart([300.0] * 5)
    assert min(b - a for a, b in zip(crowded, crowded[1:], strict=False)) >= 15 and max(crowded) <= 314


def test_minus_signs_are_those_of_numbers_alone() -> None:
    said = minus("b - a is -0.5 [-.1, -2], 2026-01-02, label-3, --worst, 1e-05")
    assert said == "b - a is −0.5 [−.1, −2], 2026-01-02, label-3, --worst, 1e-05"
