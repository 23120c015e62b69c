"""Scoring run files from the command line: values by hand, every gap named, bad lines by file and line."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from ablate.evaluation.trec import read_changed_documents, read_groups
from ablate.records import UserError
from analysis import score, significance
from analysis.external.scored import variants_of
from analysis.stats.matrix import Cell, read_scores

RUN = """\
q_1 Q0 a 1 0.5 t
q_1 Q0 b 2 0.5 t
q_2 Q0 a 1 2 t
q_2 Q0 b 2 1 t
x_1 Q0 a 1 1 t
"""
QRELS = "q_1 0 a 1\nq_2 0 a 2\nr_1 0 a 1\nz_1 0 a 0\nz_1 0 b -1\n"

ORIGINAL = "1-og Q0 a 1 3 t\n1-og Q0 b 2 2 t\n1-og Q0 c 3 1 t\n2-og Q0 a 1 1 t\n"
CHANGED = (
    "1-changed Q0 b 1 3 t\n1-changed Q0 a 2 2 t\n1-changed Q0 c 3 1 t\n2-changed Q0 c 1 1 t\n2-changed Q0 a 2 0 t\n"
)
BEIR = "query-id\tcorpus-id\tscore\n"


class Folder:
    """A folder in which files are made by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str, text: str) -> str:
        (self.path / name).write_text(text, encoding="utf-8")
        return str(self.path / name)

    def score(self, *arguments: str) -> dict[str, Any]:
        out = self.path / "out" / "scores.json"
        assert score.main([*arguments, "--json", str(out)]) == 0
        return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def pair(folder: Folder, **other: str) -> list[str]:
    """The five files of p-MRR: topic 1 with full lists, topic 2 with lists of lengths 1 and 2, topic 3 without any."""
    texts = {
        "original_run": ORIGINAL,
        "changed_run": CHANGED,
        "original_qrels": "1-og 0 a 1\n1-og 0 b 1\n2-og 0 a 1\n",
        "changed_qrels": "1-changed 0 b 1\n2-changed 0 c 1\n",
        "changed_documents": f"{BEIR}1\ta\t0\n2\ta\t0\n3\ta\t0\n",
    } | other
    return [part for name, text in texts.items() for part in (f"--{name.replace('_', '-')}", folder(name, text))]


def test_plain_measures_and_robustness_by_hand(folder: Folder) -> None:
    found = folder.score("--run", folder("a.run", RUN), "--qrels", folder("a.qrels", QRELS))
    # q_1: a and b tie, b comes first; q_2: a first; r_1 is not ranked; z_1 has no relevant document and no ranking
    second = 1 / math.log2(3)
    assert found["run"]["nDCG@10"]["per_query"] == pytest.approx({"q_1": second, "q_2": 1, "r_1": 0, "z_1": 0})
    assert found["run"]["nDCG@10"]["mean"] == pytest.approx((second + 1) / 4)
    assert found["run"]["nDCG@10"]["mean_present_only"] == pytest.approx((second + 1) / 2)
    assert found["run"]["RR@10"]["per_query"] == {"q_1": 0.5, "q_2": 1.0, "r_1": 0.0, "z_1": 0.0}
    assert list(found["run"]) == ["nDCG@10", "nDCG@5", "RR@10", "AP@1000", "recall@100", "recall@1000"]
    robust = found["Robustness@10"]
    assert robust["per_query"] == pytest.approx({"q": second})
    assert robust["mean"] == pytest.approx(second)
    assert found["listed"]["Robustness@10"] == {"group of one judged query: left out": ["r", "z"]}
    assert found["listed"]["run"] == {
        "judged query without a ranking": ["r_1", "z_1"],
        "judged query without a relevant document": ["z_1"],
        "ranked query without judgments": ["x_1"],
    }
    assert found["ties"] == {"run": {"queries": 1, "documents": 2, "of_queries": 3, "of_documents": 5}}
    assert found["warnings"] == []


def test_p_mrr_with_its_companions_by_hand(folder: Folder) -> None:
    plain = folder("plain.run", "1 Q0 a 1 3 t\n1 Q0 c 2 2 t\n1 Q0 b 3 1 t\n2 Q0 a 1 1 t\n")
    found = folder.score(*pair(folder), "--plain-run", plain)
    # topic 1: a 1 -> 2 is +.5; topic 2: a 1 -> 2 too, in lists of lengths 1 and 2
    assert found["p-MRR"] == {"mean": 0.5, "mean_present_only": 0.5, "per_query": {"1": 0.5, "2": 0.5}}
    assert found["listed"]["p-MRR"] == {
        "skipped: without one of the rankings": ["3"],
        "topic with unlike candidate sets": ["2"],
    }
    assert found["original"]["AP@1000"]["per_query"] == {"1-og": 1.0, "2-og": 1.0}
    assert found["changed"]["RR@10"]["per_query"] == {"1-changed": 1.0, "2-changed": 1.0}
    # b of 1-changed is third without the instruction, first with it; c of 2-changed is not ranked without it
    assert found["changed"]["instruction gain"]["per_query"] == {"1-changed": 1 - 1 / 2, "2-changed": 1.0}
    assert found["original"]["instruction gain"]["per_query"] == pytest.approx(
        {"1-og": 1 - (1 + 1 / 2) / (1 + 1 / math.log2(3)), "2-og": 0}
    )
    assert found["listed"]["changed"] == {
        "query whose ranking holds other documents than that of its plain query": ["2-changed"]
    }
    lengths, candidates = found["warnings"]
    assert "topic '2': the rankings have different lengths (1 under the original instruction, 2 under" in lengths
    assert "in 1 of 2 topics the two rankings do not hold the same documents" in candidates and "'2' (1)" in candidates
    assert "run" not in found and "Robustness@10" not in found
    chosen = folder.score(*pair(folder), "--measure", "AP@5")
    assert list(chosen["changed"]) == ["nDCG@10", "AP@5"]  # p-MRR never stands alone


def test_equal_ids_on_both_sides_and_json_documents(folder: Folder) -> None:
    arguments = pair(
        folder,
        original_run=ORIGINAL.replace("-og", ""),
        changed_run=CHANGED.replace("-changed", ""),
        original_qrels="1 0 a 1\n2 0 a 1\n",
        changed_qrels="1 0 b 1\n2 0 c 1\n",
        changed_documents='{"1": ["a", "c"], "2": []}',
    )
    arguments += ["--plain-run", folder("plain.run", ORIGINAL.replace("-og", ""))]
    found = folder.score(*arguments)
    without = [*arguments[:9], folder("one.json", '{"1": ["a", "c"]}'), *arguments[10:]]
    unnamed = "judged changed query that the changed documents do not name: not part of the mean"
    assert folder.score(*without)["listed"]["p-MRR"] == {unnamed: ["2"]}
    assert found["p-MRR"]["per_query"] == {"1": 0.25}  # a 1 -> 2, c stays at 3
    assert found["listed"]["p-MRR"] == {"no changed document": ["2"]}
    assert found["warnings"] == []


def test_without_a_plain_run_it_is_said_that_no_collapse_can_be_seen(folder: Folder) -> None:
    found = folder.score(*pair(folder))
    assert "instruction gain" not in found["changed"]
    assert found["warnings"][-1].startswith("no instruction gain: without --plain-run, the run of the queries without")


def test_a_collapse_is_told_above_the_table(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    topics = range(1, 5)  # a and b are relevant at first, b alone stays so; with the new instruction all are lost

    def run(end: str, order: str) -> str:
        lines = (f"{t}{end} Q0 {d} {place} {-place} t\n" for t in topics for place, d in enumerate(order, 1))
        return "".join(lines)

    arguments = pair(
        folder,
        original_run=run("-og", "abcdefghijklm"),
        changed_run=run("-changed", "cdefghijklmab"),
        original_qrels="".join(f"{t}-og 0 a 1\n{t}-og 0 b 1\n" for t in topics),
        changed_qrels="".join(f"{t}-changed 0 b 1\n" for t in topics),
        changed_documents=BEIR + "".join(f"{t}\ta\t0\n" for t in topics),
    )
    plain = folder("plain.run", run("", "abcdefghijklm"))
    collapsed = folder.score(*arguments, "--plain-run", plain)["warnings"]
    assert collapsed[0].startswith("COLLAPSE: p-MRR x 100 is +91.7 [+91.7, +91.7] and instruction gain -0.631 [")
    shown = capsys.readouterr().out
    assert shown.index("warning: COLLAPSE: ") < shown.index("**Scores of")
    following = folder("changed.run", run("-changed", "bcdefghijklma"))
    kept = [following if argument.endswith("changed_run") else argument for argument in arguments]
    assert folder.score(*kept, "--plain-run", plain)["warnings"] == []


def test_one_file_may_hold_both_sides(folder: Folder) -> None:
    both_runs, both_qrels = ORIGINAL + CHANGED, "1-og 0 a 1\n2-og 0 a 1\n1-changed 0 b 1\n2-changed 0 c 1\n"
    arguments = pair(
        folder, original_run=both_runs, changed_run=both_runs, original_qrels=both_qrels, changed_qrels=both_qrels
    )
    found = folder.score(*arguments)
    assert list(found["original"]["nDCG@10"]["per_query"]) == ["1-og", "2-og"]
    assert list(found["changed"]["nDCG@10"]["per_query"]) == ["1-changed", "2-changed"]
    other = "left out: not a query of this side by its suffix"
    assert found["listed"]["original"] == {other: ["1-changed", "2-changed"]}
    assert found["listed"]["changed"] == {other: ["1-og", "2-og"]}
    assert found["p-MRR"]["mean"] == 0.5


def test_a_missing_suffixed_query_is_not_replaced_by_the_plain_one(folder: Folder) -> None:
    run = ORIGINAL.replace("2-og", "2") + "1 Q0 c 1 1 t\n"
    found = folder.score(*pair(folder, original_run=run))
    assert found["p-MRR"]["per_query"] == {"1": 0.5}
    assert found["listed"]["p-MRR"]["skipped: without one of the rankings"] == ["2", "3"]
    assert found["original"]["AP@1000"]["per_query"] == {"1-og": 1.0, "2-og": 0.0}
    assert found["listed"]["original"] == {
        "judged query without a ranking": ["2-og"],
        "left out: not a query of this side by its suffix": ["2", "1"],
    }


def test_variants_of_a_beir_folder(folder: Folder) -> None:
    arguments = pair(
        folder,
        changed_run=CHANGED.replace("-changed", "-after"),
        changed_qrels=f"{BEIR}1-after\tb\t1\n2-after\tc\t1\n",
    )
    assert folder.score(*arguments, "--changed-variant", "after")["p-MRR"]["per_query"] == {"1": 0.5, "2": 0.5}
    assert folder.score(*arguments)["p-MRR"]["per_query"] == {"1": 0.5, "2": 0.5}  # the judgments say which


def test_the_ranking_of_the_plain_query_is_never_taken_for_that_of_a_variant(folder: Folder) -> None:
    # the runs hold the plain queries too; `a` moves from 1 to 2 under the variant, from 1 to 3 under the plain query
    plain = "1 Q0 b 1 3 t\n1 Q0 c 2 2 t\n1 Q0 a 3 1 t\n2 Q0 b 1 3 t\n2 Q0 c 2 2 t\n2 Q0 a 3 1 t\n"
    both = plain + ORIGINAL + CHANGED.replace("-changed", "-after")
    arguments = pair(folder, original_run=both, changed_run=both, changed_qrels="1-after 0 b 1\n2-after 0 c 1\n")
    out = folder.path / "s.csv"
    found = folder.score(*arguments, "--scores", str(out), "--arm", "A", "--seed", "0", "--dataset", "D")
    assert found["p-MRR"]["per_query"] == {"1": 0.5, "2": 0.5}
    assert list(found["changed"]["nDCG@10"]["per_query"]) == ["1-after", "2-after"]
    assert Cell("D", "changed", "after", "p-MRR") in read_scores(out).cells


QRELS_OF = {
    "": {"1": {"a": 1}, "1-2": {"a": 1}},
    "og": {"1-og": {"a": 1}, "1-2-og": {"a": 1}},
    "after": {"1-after": {"a": 1}, "1-2-after": {"a": 1}},
    "before": {"1-before": {"a": 1}},
    "changed": {"1-changed": {"a": 1}},
}


@pytest.mark.parametrize(
    ("original", "changed", "asked", "expected"),
    [
        (["og"], ["after"], (None, None), ("og", "after")),
        (["og", "after"], ["og", "after"], (None, None), ("og", "after")),
        (["og", "changed", "after"], ["og", "changed", "after"], (None, None), ("og", "changed")),
        ([""], [""], (None, None), ("", "")),
        ([""], ["after"], (None, None), ("", "after")),
        (["og"], [""], (None, None), ("og", "")),
        (["", "og"], ["", "after"], (None, None), ("og", "after")),
        (["", "after"], ["", "after"], (None, None), ("", "after")),
        (["before"], ["after", "before"], (None, None), ("before", "after")),
        (["og"], ["after", "before"], (None, "before"), ("og", "before")),
        (["og"], ["after", "before"], (None, None), "is open, judged are original -og (2 topics); changed -after (2"),
        (["after"], ["after"], (None, None), "both 'after'"),
        (["og"], ["after"], (None, "changed"), "--changed-variant 'changed': no judged changed query ends in"),
        ([], ["after"], (None, None), "the original judgments have no query of the 2 topics"),
    ],
)
def test_which_variants_are_compared_comes_from_the_judgments(
    original: list[str], changed: list[str], asked: tuple[str | None, str | None], expected: tuple[str, str] | str
) -> None:
    sides = [
        {query: grades for name in names for query, grades in QRELS_OF[name].items()} for names in (original, changed)
    ]
    if isinstance(expected, str):
        with pytest.raises(UserError, match=re.escape(expected)):
            variants_of(*sides, ["1", "1-2"], asked)
    else:
        assert variants_of(*sides, ["1", "1-2"], asked) == expected


def test_changed_documents_that_contradict_the_judgments_are_listed(folder: Folder) -> None:
    sound = folder.score(*pair(folder))["listed"].get("p-MRR", {})
    assert not any(reason.startswith("changed document") for reason in sound)
    wrong = {
        "changed_qrels": "1-changed 0 a 1\n2-changed 0 c 1\n",
        "original_qrels": "1-og 0 a 1\n2-og 0 a 0\n2-og 0 b 1\n",
    }
    found = folder.score(*pair(folder, **wrong))["listed"]["p-MRR"]
    assert found["changed document that is relevant in the changed judgments: it should not move down"] == ["1: a"]
    lost = "changed document that the original judgments call not relevant: it has no relevance to lose"
    assert found[lost] == ["2: a"]


def test_groups_and_chosen_measures(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    groups = folder("groups.tsv", "query-id\tgroup\nq_1\tone\nq_2\ttwo\nz_1\ttwo\nstranger\tone\n")
    files = ("--run", folder("a.run", RUN), "--qrels", folder("a.qrels", QRELS))
    found = folder.score(*files, "--groups", groups, "--measure", "RR@1", "--measure", "Robustness@1")
    assert list(found["run"]) == ["RR@1"]
    assert found["Robustness@10"]["per_query"] == {"two": 0}
    assert found["Robustness@1"]["per_query"] == {"two": 0}
    assert found["listed"]["Robustness@10"]["group of one judged query: left out"] == ["one", "r"]
    unnamed = "judged query that the groups file does not name: its group comes from its id"
    assert found["listed"]["Robustness@10"][unnamed] == ["r_1"]
    assert found["warnings"] == ["the groups file names 1 queries that are not judged: 'stranger'"]
    capsys.readouterr()
    assert score.main([*files]) == 0
    two = folder.score(
        "--run", folder("c.run", RUN.replace("q_1", "q_a_1")), "--qrels", folder("c.qrels", "q_a_1 0 b 1\nq_2 0 a 1\n")
    )
    assert two["Robustness@10"]["per_query"] == {"q": 1.0}  # the part before the first _
    single = folder.score("--run", folder("b.run", "q Q0 a 1 1 t\n"), "--qrels", folder("b.qrels", "q 0 a 1\n"))
    assert single["Robustness@10"] == {"mean": None, "mean_present_only": None, "per_query": {}}
    assert single["warnings"] == ["every group has one query, so there is no Robustness@k; name the groups by --groups"]


def test_the_table_names_means_and_comes_after_what_was_wrong(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score.main(["--run", folder("a.run", RUN), "--qrels", folder("a.qrels", QRELS), *pair(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("**Scores of"))
    above, below = "\n".join(lines[:start]), "\n".join(lines[start:])
    assert "run: 2 × judged query without a ranking: 'r_1', 'z_1'" in above
    assert "warning: p-MRR of topic '2': the rankings have different lengths" in above
    assert "run: 2 of 5 documents in 1 of 3 queries share their score (float32)" in above
    assert "MRR@10" in below and "MAP@1000" in below and "warning" not in below
    row = next(line for line in lines if "| run " in line and "MRR@10" in line)
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["MRR@10", "0.3750", "4", "0.7500", "2"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_long_table_is_what_significance_reads(folder: Folder, suffix: str) -> None:
    out = folder.path / f"scores.{suffix}"
    arguments = ["--run", folder("a.run", RUN), "--qrels", folder("a.qrels", QRELS), *pair(folder)]
    folder.score(*arguments, "--scores", str(out), "--arm", "A", "--seed", "3", "--dataset", "D")
    table = read_scores(out)
    assert table.seeds == {"A": ("3",)}
    p_mrr = table.cells[Cell("D", "changed", "changed", "p-MRR")]
    assert p_mrr.units == ("1", "2") and p_mrr.values_SQ["A"].tolist() == [[0.5, 0.5]]
    assert table.cells[Cell("D", "instructed", "all", "Robustness@10")].units == ("q",)
    assert {Cell("D", "", "", "nDCG@10"), Cell("D", "original", "", "nDCG@10")} < set(table.cells)
    assert len(table.cells) == 3 * 6 + 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_arms_are_gathered_in_one_file_for_significance(
    folder: Folder, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    out = folder.path / f"scores.{suffix}"
    qrels = folder("a.qrels", "q1 0 a 1\nq2 0 a 1\nq3 0 a 1\n")

    def add(arm: str, seed: int, better: int) -> int:
        scores = [(f"q{place}", "a b" if place <= better else "b a") for place in (1, 2, 3)]
        lines = [f"{q} Q0 {d} 0 {-place} t\n" for q, order in scores for place, d in enumerate(order.split())]
        run = folder("one.run", "".join(lines))
        return score.main(
            [
                "--run",
                run,
                "--qrels",
                qrels,
                "--measure",
                "RR@10",
                "--scores",
                str(out),
                "--arm",
                arm,
                "--seed",
                str(seed),
                "--dataset",
                "D",
            ]
        )

    for arm, seed, better in [("A", 0, 1), ("A", 1, 0), ("B", 0, 2), ("B", 1, 3)]:
        assert add(arm, seed, better) == 0
    before = out.read_bytes()
    assert add("B", 1, 3) == 0 and out.read_bytes() == before  # the same again adds nothing
    assert add("B", 1, 1) == 2
    assert "arm 'B', seed 1, unit 'q2' has RR@10 1.0 there and 0.5 now" in capsys.readouterr().err
    values = read_scores(out).cells[Cell("D", "", "", "RR@10")].values_SQ
    assert values["A"].tolist() == [[1, 0.5, 0.5], [0.5] * 3] and values["B"].tolist() == [[1, 1, 0.5], [1] * 3]
    assert significance.main(["--scores", str(out), "--baseline", "A", "--measure", "RR@10"]) == 0
    assert "| B - A" in capsys.readouterr().out
    (folder.path / f"other.{suffix}").write_bytes(b"arm,value\nA,1\n")
    out = folder.path / f"other.{suffix}"
    assert add("A", 0, 1) == 2
    assert f"other.{suffix}: " in capsys.readouterr().err


def test_documents_that_do_not_belong_together_are_warned_of(folder: Folder) -> None:
    """What measures nothing at all is refused: tests/bad_inputs/score.py."""
    found = folder.score("--run", folder("a.run", "q_1 Q0 k 1 1 t\n"), "--qrels", folder("a.qrels", QRELS))
    expected = "run: no judged document is ranked for its query, so everything is 0: do the document ids match?"
    assert found["warnings"] == [expected] and found["run"]["nDCG@10"]["mean"] == 0


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        ("q Q0 a 1 nan t\n", "q 0 a 1\n", "a.run, line 1: query 'q', document 'a': the score is NaN"),
        ("q Q0 a 1 1 t\n\nq Q0 a 2 0 t\n", "q 0 a 1\n", "a.run, line 3: query 'q': document 'a' is there twice"),
        ("q Q0 a 1 1\n", "q 0 a 1\n", "a.run, line 1: 5 columns, expected 6"),
        ("q Q0 a 1 1 t\n", "q 0 a 1\nq a 1\n", "a.qrels, line 2: 3 columns, expected 4"),
        ("q Q0 a 1 1 t\n", "q 0 a 1\nq 0 a 0\n", "a.qrels, line 2: query 'q': document 'a' is judged twice"),
    ],
)
def test_bad_lines_stop_with_one_line(
    folder: Folder, capsys: pytest.CaptureFixture[str], run: str, qrels: str, message: str
) -> None:
    assert score.main(["--run", folder("a.run", run), "--qrels", folder("a.qrels", qrels)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_half_given_arguments(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    run, qrels = folder("a.run", RUN), folder("a.qrels", QRELS)
    for arguments, message in [
        ([], "nothing to score; give --run and --qrels, or --original-run"),
        (["--run", run], "--qrels is missing, and --run is there"),
        (pair(folder)[:-2], "--changed-documents is missing, and --original-run is there"),
        ([*pair(folder), "--groups", run], "--groups is for Robustness@k of --run"),
        (["--run", run, "--qrels", qrels, "--measure", "ndcg"], "measure 'ndcg' is not known; known are nDCG@k"),
        (["--run", run, "--qrels", qrels, "--measure", "WISE"], "--measure 'WISE' cannot be asked for"),
        ([*pair(folder), "--measure", "Robustness@5"], "--measure 'Robustness@5' is for --run and --qrels"),
        (["--run", run, "--qrels", qrels, "--scores", "a.csv"], "--arm is missing, and --scores is there"),
        (
            ["--run", run, "--qrels", qrels, "--scores", "a.txt", "--arm", "A", "--seed", "0", "--dataset", "D"],
            "--scores a.txt: the name must end in .csv or .parquet",
        ),
        ([*pair(folder), "--changed-variant", "og"], "--changed-variant 'og': no judged changed query ends in '-og'"),
    ]:
        assert score.main(arguments) == 2, message
        assert message in capsys.readouterr().err


def test_changed_documents_and_groups_from_files(folder: Folder) -> None:
    assert read_changed_documents(folder("d.json", '{"1": ["a", "b"], "2": []}')) == {"1": ["a", "b"], "2": []}
    assert read_changed_documents(folder("d.tsv", f"{BEIR}1\ta\t0\n1\tb\t0\n")) == {"1": ["a", "b"]}
    for text, message in [
        ('{"1": ["a", "a"]}', "query '1': document 'a' is there twice"),
        ('{"1": ["a"], "1": ["b"]}', "query '1' is there twice"),
        ('{"1": "a"}', "query '1': expected a list of document ids"),
        ('{"1": [1]}', "query '1': expected a list of document ids"),
        ('{"1": ["a"],\n"2" ["a"]}', "line 2: not JSON"),
        (f"{BEIR}1\ta\t0\n1\ta\t0\n", "line 3: query '1': document 'a' is judged twice"),
    ]:
        with pytest.raises(UserError, match=message):
            read_changed_documents(folder("d", text))
    assert read_groups(folder("g", "q\tone\n")) == {"q": "one"}
    for text, message in [
        ("q\tone\nq\ttwo\n", "line 2: query 'q' is there twice"),
        ("q one\n", "line 1: 1 columns, expected 2, tab-separated: query group"),
    ]:
        with pytest.raises(UserError, match=message):
            read_groups(folder("g", text))


def test_a_whole_scoring_loads_no_model_library(folder: Folder) -> None:
    arguments = [*pair(folder), "--run", folder("a.run", RUN), "--qrels", folder("a.qrels", QRELS)]
    arguments += ["--scores", str(folder.path / "s.parquet"), "--arm", "A", "--seed", "0", "--dataset", "D"]
    code = (
        "import sys; from analysis import score; assert score.main(sys.argv[1:]) == 0; "
        "print([m for m in ('torch', 'transformers', 'faiss', 'lightning', 'hydra', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        score.main(["--help"])
    assert "example: python -m analysis.score" in capsys.readouterr().out
