"""SICR and WISE: values worked out by hand, from ranks, from rankings, and from six files on the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ablate.evaluation.instructed import (
    InstructedCase,
    ThreeRanks,
    ThreeScores,
    instructed_measures,
    sicr_indicator,
    wise,
    wise_code,
)
from ablate.evaluation.measures import SKIPPED
from ablate.records import UserError
from ablate.retrieval.rankings import rank
from analysis import score
from analysis.external.instructed import MODES
from analysis.stats.matrix import Cell, read_scores


@pytest.mark.parametrize(
    ("ranks", "scores", "paper", "code"),
    [
        ((5, 2, 9), (0.50, 0.60, 0.40), 1, 1),
        ((5, 2, 9), (0.50, 0.45, 0.40), 0, 0),
        ((1, 1, 4), (0.70, 0.80, 0.50), 0, 1),
        ((1, 1, 4), (0.70, 0.60, 0.50), 0, 0),
        ((5, 2, 4), (0.50, 0.60, 0.40), 0, 0),
        ((1, 1, 1), (0.70, 0.80, 0.50), 0, 0),
        ((1, 1, 2), (0.70, 0.70, 0.50), 0, 1),
        ((1, 1, 2), (0.70, 0.80, 0.70), 0, 0),
        ((1, 2, 4), (0.70, 0.80, 0.50), 0, 0),
        ((5, 5, 9), (0.50, 0.60, 0.40), 0, 0),
        ((5, 2, 5), (0.50, 0.60, 0.40), 0, 0),
        ((5, 2, 9), (0.50, 0.50, 0.40), 0, 0),
        ((5, 2, 9), (0.50, 0.60, 0.50), 0, 0),
    ],
)
def test_sicr(ranks: tuple[int, int, int], scores: tuple[float, float, float], paper: int, code: int) -> None:
    assert sicr_indicator(ThreeRanks(*ranks), ThreeScores(*scores)) == paper
    assert sicr_indicator(ThreeRanks(*ranks), ThreeScores(*scores), code=True) == code


WISE_TABLE = [
    ((1, 1, 2), 1, 1, 1, 1),
    ((3, 1, 9), 0.929, 1, 0.900, 1),
    ((5, 1, 9), 0.900, 1, 0.800, 0.800),
    ((10, 1, 30), 0.850, 0.850, 0.550, 0.550),
    ((20, 1, 30), 0.782, 0.782, 0.050, 0.050),
    ((10, 5, 30), 0.397, 0.397, 0.335, 0.335),
    ((10, 10, 30), 0.316, 0.316, 0.316, 0.316),
    ((25, 1, 30), 0.010, 0.010, 0.010, 0.010),
    ((10, 30, 5), -1, -1, -0.667, -0.667),
    ((10, 12, 5), -1, -1, -0.167, -0.167),
    ((10, 30, 40), -0.667, -0.667, -0.667, -0.667),
    ((10, 20, 10), -0.500, -0.500, -0.500, -0.500),
    ((10, 5, 8), -0.200, -0.200, -0.200, -0.200),
    ((10, 10, 5), 0, 0, 0, 0),
    ((10, 5, 10), 0, 0, 0, 0),
    ((21, 2, 30), 0.010, 0.010, 0.010, 0.010),
    ((20, 4, 30), 0.400, 0.400, 0.100, 0.100),
    ((2, 2, 3), 0.707, 0.707, 0.707, 0.707),
    ((5, 5, 5), 0, 0, 0, 0),
]


@pytest.mark.parametrize(("ranks", "paper_1", "paper_5", "code_1", "code_5"), WISE_TABLE)
def test_wise(ranks: tuple[int, int, int], paper_1: float, paper_5: float, code_1: float, code_5: float) -> None:
    three = ThreeRanks(*ranks)
    found = [
        wise(three, 1),
        wise(three, 5),
        wise_code(three, 1),
        wise_code(three, 5),
    ]
    assert found == pytest.approx([paper_1, paper_5, code_1, code_5], abs=5e-4)


def test_instructed_measures_average_over_documents_and_skip_gaps() -> None:
    original = rank("o", ["a", "b", "c"], [0.5, 0.9, 0.8])  # b c a
    instructed = rank("i", ["a", "b", "c"], [0.95, 0.9, 0.8])  # a b c
    reverse = rank("r", ["b", "c"], [0.9, 0.8])  # a is outside: rank 3, score 0
    case = InstructedCase(original, instructed, reverse, ("a",), 1, 2)
    found = instructed_measures({"q": case, "gap": case._replace(reversed=None)})
    assert {name: result.listed for name, result in found.items()} == {
        name: {SKIPPED: ("gap",)} for name in ("SICR", "SICR(code)", "WISE", "WISE(code)")
    }
    # ranks of a: 3, 1, 3: not below the original under the reverse, so SICR 0 and WISE (3 - 3) / 3 = 0
    assert {name: result.per_unit for name, result in found.items()} == {
        name: {"q": 0.0} for name in ("SICR", "SICR(code)", "WISE", "WISE(code)")
    }
    longer = rank("r", ["b", "c", "d"], [0.9, 0.8, 0.7])  # a now has rank 4
    two = case._replace(reversed=longer, relevant=("a", "b"))
    values = {name: result.per_unit["q"] for name, result in instructed_measures({"q": two}).items()}
    # a: 3, 1, 4 with scores .5, .95, 0: SICR 1; b: 1, 2, 1: SICR 0, WISE (1 - 2) / 2 = -.5
    assert values["SICR"] == 0.5 and values["SICR(code)"] == 0.5
    assert values["WISE"] == pytest.approx((1 - math.sqrt(2) / 20 - 0.5) / 2)
    assert values["WISE(code)"] == pytest.approx((1 - 2 / 20 - 0.5) / 2)
    # a stays first under its instruction and falls under the reverse: right by the public code, not by the paper
    stays = [rank(query_id, ["a", "b"], scores) for query_id, scores in (("o", [2, 1]), ("i", [2, 1]), ("r", [1, 2]))]
    first = InstructedCase(*stays, ("a",), 1, 2)
    values = {name: result.per_unit["q"] for name, result in instructed_measures({"q": first}).items()}
    assert (values["SICR"], values["SICR(code)"], values["WISE"], values["WISE(code)"]) == (0, 1, 1, 1)
    nothing = two._replace(original=rank("o", [], []))
    assert instructed_measures({"q": nothing})["SICR"].listed == {SKIPPED: ("q",)}
    with pytest.raises(UserError, match="query 'q': no relevant document"):
        instructed_measures({"q": case._replace(relevant=())})


# the command

ORIGINAL = {"q1": "x .9 y .8 a .7 b .6 z .5", "q2": "a .9 b .8 c .7", "q3": "a .7 x .6 y .5 z .4"}
INSTRUCTED = {"q1": "a .95 x .9 y .8 b .5 z .4", "q2": "b .9 a .8 c .7", "q3": "a .8 x .6 y .5 z .4"}
REVERSED = {"q1": "b .9 x .8 y .7 z .6 a .5", "q2": "c .9 a .8 b .7", "q3": "x .8 y .7 z .6 a .5"}
FILES = {
    "original_run": ORIGINAL,
    "original_qrels": {"q1": "a 1 b 1", "q2": "a 1 b 1 c 1", "q3": "a 1"},
    "instructed_run": INSTRUCTED,
    "instructed_qrels": {"q1": "a 1 b 0", "q2": "a 1 b 1 c 0", "q3": "a 1"},
    "reversed_run": REVERSED,
    "reversed_qrels": {"q1": "a 0 b 1", "q2": "a 0 b 0 c 1", "q3": "a 0"},
}


def options(folder: Path, **other: dict[str, str]) -> list[str]:
    """Write the six files, with those in `other` in place of FILES, and return the options that name them."""
    found = []
    for name, content in (FILES | other).items():
        lines = []
        for query_id, text in content.items():
            words = text.split()
            pairs = zip(words[::2], words[1::2], strict=True)
            form = "{0} Q0 {1} 1 {2} t\n" if name.endswith("_run") else "{0} 0 {1} {2}\n"
            lines += [form.format(query_id, *pair) for pair in pairs]
        (folder / name).write_text("".join(lines), encoding="utf-8")
        found += [f"--{name.replace('_', '-')}", str(folder / name)]
    return found


def scored(folder: Path, *more: str, **other: dict[str, str]) -> dict[str, Any]:
    assert score.main([*options(folder, **other), "--json", str(folder / "out.json"), *more]) == 0
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


def test_the_command_scores_three_modes_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # q1: a has ranks 3, 1, 5 and scores .7, .95, .5; of a and b (N = 2, both listed) a stays relevant
    # q2: a has ranks 1, 2, 2: SICR 0, WISE (1 - 2) / 2; b has 2, 1, 3 and .8, .9, .7: SICR 1, WISE 1 as 2 <= N = 3
    # q3: a has ranks 1, 1, 4 and scores .7, .8, .5: SICR of the paper 0, of the code 1; WISE 1 by both
    found = scored(tmp_path)
    first, code = 1 - math.sqrt(2) / 20, 1 - 2 / 20
    expected = {
        "SICR": {"q1": 1, "q2": 0.5, "q3": 0},
        "SICR(code)": {"q1": 1, "q2": 0.5, "q3": 1},
        "WISE": {"q1": first, "q2": 0.25, "q3": 1},
        "WISE(code)": {"q1": code, "q2": 0.25, "q3": 1},
    }
    for name, values in expected.items():
        assert found[name]["per_query"] == pytest.approx(values), name
        assert found[name]["mean"] == pytest.approx(sum(values.values()) / 3), name
    assert found["listed"] == {"reversed": {"judged query without a relevant document": ["q3"]}}
    assert found["warnings"] == [] and "run" not in found and "p-MRR" not in found
    assert found["instructed"]["nDCG@10"]["per_query"] == {"q1": 1.0, "q2": 1.0, "q3": 1.0}
    assert found["reversed"]["RR@10"]["per_query"] == {"q1": 1.0, "q2": 1.0, "q3": 0.0}
    lines = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    cells = {row[2]: row[3:5] for row in lines if len(row) > 4 and row[1] == "original, instructed, reversed"}
    assert cells == {
        "SICR": ["0.5000", "3"],
        "SICR(code)": ["0.8333", "3"],
        "WISE": ["0.7264", "3"],
        "WISE(code)": ["0.7167", "3"],
    }


def test_what_the_judgments_and_rankings_leave_open_is_listed(tmp_path: Path) -> None:
    # q1 lacks its reversed ranking; q2 keeps no document; q3: b is not judged under the instruction, c is new there,
    # a is relevant under the reverse too, and outside of the instructed ranking: ranks 1, 3, 4, so WISE (1 - 3) / 3
    found = scored(
        tmp_path,
        original_qrels={"q1": "a 1", "q2": "a 1", "q3": "a 1 b 1 c 0"},
        instructed_qrels={"q1": "a 1", "q2": "a 0", "q3": "a 1 c 1"},
        reversed_qrels={"q1": "a 0", "q2": "a 1", "q3": "a 1"},
        instructed_run=INSTRUCTED | {"q3": "c .9 x .6"},
        reversed_run={"q2": REVERSED["q2"], "q3": REVERSED["q3"]},
    )
    assert found["WISE"]["per_query"] == pytest.approx({"q3": -2 / 3})
    assert found["listed"]["SICR, WISE"] == {
        "skipped: without one of the rankings": ["q1"],
        "left out: no document is relevant both originally and under the instruction": ["q2"],
        "document that is relevant originally and not judged under the instruction: taken as not relevant": ["q3: b"],
        "document that is relevant under the instruction and not originally: not scored": ["q3: c"],
        "document that is relevant under the instruction and under its reverse: it cannot follow both": ["q3: a"],
        "relevant document outside of a ranking: it has rank length + 1 and score 0 there": ["q3: a"],
    }


def test_documents_that_are_not_judged_under_the_instruction_count_for_the_paper_only(tmp_path: Path) -> None:
    # a has ranks 2, 1, 3; N = 3 by the original judgments (2 <= 3: WISE 1), of which a and b are listed: 2 < 2 is false
    found = scored(
        tmp_path,
        original_run={"q": "x .9 a .8 y .7"},
        instructed_run={"q": "a .9 x .8 y .7"},
        reversed_run={"q": "x .9 y .8 a .7"},
        original_qrels={"q": "a 1 b 1 c 1"},
        instructed_qrels={"q": "a 1 b 0"},
        reversed_qrels={"q": "b 1"},
    )
    assert found["WISE"]["per_query"] == {"q": 1.0}
    assert found["WISE(code)"]["per_query"] == pytest.approx({"q": 1 - 1 / 20})


def test_the_long_table_holds_the_modes_as_conditions(tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    scored(tmp_path, "--measure", "RR@10", "--scores", str(out), "--arm", "A", "--seed", "0", "--dataset", "D")
    cells = read_scores(out).cells
    assert cells[Cell("D", "instructed", "", "SICR")].values_SQ["A"].tolist() == [[1, 0.5, 0]]
    assert set(cells) == {
        *(Cell("D", mode, "", name) for mode in MODES for name in ("nDCG@10", "RR@10")),
        *(Cell("D", mode, "", "instruction gain") for mode in ("instructed", "reversed")),
        *(Cell("D", "instructed", "", name) for name in ("SICR", "SICR(code)", "WISE", "WISE(code)")),
    }
