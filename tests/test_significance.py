"""From a scores file to the significance table: reading, refusals, rows, formats, and the command line."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from synthetic_study import NDCG, Arm, claim, declare, make_quick, make_study, study_block

from ablate.records import UserError
from ablate.tables import (
    Column,
    Table,
    escape_latex,
    escape_markdown,
    number,
    probability,
    to_latex,
    to_markdown,
    to_text,
)
from analysis.significance import all_tables, main, parse_margins
from analysis.stats.asked import Asked, targets
from analysis.stats.contrast_rows import bounds, contrast_rows
from analysis.stats.corrections import holm
from analysis.stats.crossed import Options, crossed
from analysis.stats.families import Plan
from analysis.stats.matrix import COLUMNS, Cell, ScoreTable, from_arrow, read_scores, unit_kind
from analysis.stats.weights import all_contrasts

Row = dict[str, object]
ORIGINAL, CHANGED = ("original", "original"), ("changed", "after")


def study(
    arms: Iterable[str] = ("A", "B"),
    num_seeds: int = 5,
    num_units: int = 8,
    datasets: Iterable[str] = ("d1",),
    measures: Iterable[tuple[str, tuple[str, str]]] = (("nDCG@10", ORIGINAL),),
) -> list[Row]:
    """Return rows of a study in which each later arm is better by .1."""
    generator = np.random.Generator(np.random.PCG64(0))
    rows: list[Row] = []
    for dataset in datasets:
        for measure, (condition, direction) in measures:
            units = generator.normal(0.4, 0.2, num_units)
            for place, arm in enumerate(arms):
                for seed in range(num_seeds):
                    values = units + 0.1 * place + generator.normal(0, 0.01) + generator.normal(0, 0.03, num_units)
                    rows += [
                        {
                            "arm": arm,
                            "seed": seed,
                            "dataset": dataset,
                            "condition": condition,
                            "direction": direction,
                            "unit_id": f"q{unit}",
                            "measure": measure,
                            "value": round(float(value), 6),
                        }
                        for unit, value in enumerate(values)
                    ]
    return rows


def write_csv(path: Path, rows: Iterable[Row], columns: Iterable[str] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def table_of(rows: list[Row]) -> ScoreTable:
    return from_arrow(pa.Table.from_pylist(rows), "scores")


def rows_of(table: ScoreTable, plan: Plan | None = None, macro: str = "also", baseline: str = "A") -> list:
    contrasts = all_contrasts(table.arms, [baseline], [], [])
    asked = [Asked(label, weights, target) for target in targets(table, macro) for label, weights in contrasts.items()]
    return list(contrast_rows(table, asked, plan or Plan()))


# reading


def test_matrices_of_a_file(tmp_path: Path) -> None:
    rows = study(num_seeds=2, num_units=3)
    table = read_scores(write_csv(tmp_path / "s.csv", rows))
    cell = Cell("d1", "original", "original", "nDCG@10")
    assert (list(table.cells), table.arms, table.seeds["B"]) == ([cell], ("A", "B"), ("0", "1"))
    assert table.cells[cell].units == ("q0", "q1", "q2")
    expected = [[row["value"] for row in rows if row["arm"] == "B" and row["seed"] == seed] for seed in (0, 1)]
    assert table.cells[cell].values_SQ["B"].tolist() == expected


def test_row_order_and_format_do_not_matter(tmp_path: Path) -> None:
    rows = study(arms=("A", "B", "C"), datasets=("d1", "d2"), num_seeds=11)
    shuffled = [rows[i] for i in np.random.Generator(np.random.PCG64(1)).permutation(len(rows))]
    shuffled.sort(key=lambda row: row["arm"] != "A")  # arms are shown in the order met
    shuffled.sort(key=lambda row: "ABC".index(str(row["arm"])))
    from_csv = read_scores(write_csv(tmp_path / "s.csv", rows))
    plain = pa.Table.from_pylist(shuffled)
    pq.write_table(plain, tmp_path / "s.parquet")
    typed = plain
    for name in ("arm", "unit_id", "measure"):
        typed = typed.set_column(typed.column_names.index(name), name, typed[name].dictionary_encode())
    pq.write_table(typed, tmp_path / "typed.parquet", row_group_size=50)
    wide = pa.schema([field.with_type(pa.large_string()) if field.name == "arm" else field for field in plain.schema])
    pq.write_table(plain.cast(wide), tmp_path / "wide.parquet")
    assert from_csv.seeds["A"] == tuple(str(seed) for seed in range(11))
    for name in ("s", "typed", "wide"):
        other = read_scores(tmp_path / f"{name}.parquet")
        assert other.seeds == from_csv.seeds and set(other.cells) == set(from_csv.cells)
        for cell, found in from_csv.cells.items():
            assert other.cells[cell].units == found.units
            for arm, values_SQ in found.values_SQ.items():
                assert np.array_equal(other.cells[cell].values_SQ[arm], values_SQ)


def test_direction_is_optional(tmp_path: Path) -> None:
    columns = [name for name in COLUMNS if name != "direction"]
    table = read_scores(write_csv(tmp_path / "s.csv", study(), columns))
    assert list(table.cells) == [Cell("d1", "original", "", "nDCG@10")]


def changed(rows: list[Row], place: int, **values: object) -> list[Row]:
    return [{**row, **values} if i == place else row for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (changed(study(), 3, value="x1"), "s.csv, line 5: value 'x1' is no number"),
        (changed(study(), 3, value=""), "s.csv, line 5: value '' is no number"),
        (changed(study(), 3, value="nan"), "arm 'A', seed 0, unit 'q3' is missing or NaN .*; 1 such in all"),
        (changed(study(), 3, value="inf"), "arm 'A', seed 0, unit 'q3' is inf"),
        (changed(study(), 3, unit_id="q2"), "arm 'A', seed 0, unit 'q2' has 2 values of nDCG@10 on d1"),
        (study()[:-1], "arm 'B', seed 4 lacks 1 unit.s. of 8: 'q7' .1 of 10 runs differ"),
        (changed(study(), 0, unit_id="odd"), "arm 'A', seed 0 lacks 1 .*'q0' and has 1 .* most others lack: 'odd'"),
        (changed(study(), 2, arm=""), "row 3 has no arm; every score needs one"),
        ([], "there is no score in it"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, rows: list[Row], text: str) -> None:
    with pytest.raises(UserError, match=text):
        read_scores(write_csv(tmp_path / "s.csv", rows))


def test_other_bad_files(tmp_path: Path) -> None:
    columns = [name for name in COLUMNS if name != "seed"]
    with pytest.raises(UserError, match="s.csv: column 'seed' is missing; a scores file has arm, seed, dataset"):
        read_scores(write_csv(tmp_path / "s.csv", study(), columns))
    (tmp_path / "short.csv").write_text("arm,seed,dataset,condition,unit_id,measure,value\nA,0,d\n")
    with pytest.raises(UserError, match="short.csv, line 2: 3 fields where the header has 7"):
        read_scores(tmp_path / "short.csv")
    with pytest.raises(UserError, match="absent.csv: no such file"):
        read_scores(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="scores are read from .csv or .parquet, not from '.txt'"):
        read_scores(tmp_path / "s.txt")
    (tmp_path / "s.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="s.parquet: cannot be read as Parquet"):
        read_scores(tmp_path / "s.parquet")
    with pytest.raises(UserError, match="the column 'value' holds string, not numbers"):
        table_of([{**row, "value": "high"} for row in study()])
    with pytest.raises(UserError, match="row 2 has no unit_id"):
        table_of(changed(study(), 1, unit_id=None))


def test_odd_dictionaries_are_read_by_their_names() -> None:
    table = pa.Table.from_pylist(study())
    codes = pa.array([0 if arm == "A" else 2 + place % 2 for place, arm in enumerate(table["arm"].to_pylist())])
    arms = pa.DictionaryArray.from_arrays(codes, pa.array(["A", "", "B", "B"]))
    found = from_arrow(table.set_column(0, "arm", arms), "scores")
    assert found.arms == ("A", "B")
    assert np.array_equal(*(next(iter(one.cells.values())).values_SQ["B"] for one in (found, table_of(study()))))


def test_a_missing_direction_is_an_empty_one() -> None:
    none = from_arrow(pa.Table.from_pylist([{**row, "direction": None} for row in study()]), "scores")
    assert [cell.direction for cell in none.cells] == [""]


def test_a_seed_missing_in_one_cell_is_no_silence() -> None:
    rows = [row for row in study(datasets=("d1", "d2")) if (row["arm"], row["seed"], row["dataset"]) != ("B", 2, "d2")]
    with pytest.raises(UserError, match=r"arm 'B' has no nDCG@10 on d2 \(original\) for seed\(s\) 2 but has other"):
        table_of(rows)


def test_selection_names_what_is_there() -> None:
    table = table_of(study(datasets=("d1", "d2")))
    assert [cell.dataset for cell in table.select(datasets=["d2"]).cells] == ["d2"]
    with pytest.raises(UserError, match="no score has the measure 'MAP'; there are 'nDCG@10'"):
        table.select(measures=["MAP"])


def test_units() -> None:
    kinds = {m: unit_kind(m) for m in ("p-MRR", "Robustness@10", "nDCG@10", "pairwise accuracy", "RR@10")}
    assert list(kinds.values()) == ["topic", "group", "query", "question", "query"]


# rows


def test_rows_are_the_crossed_test_with_holm_over_the_whole_family() -> None:
    table = table_of(study(arms=("A", "B", "C"), datasets=("d1", "d2")))
    rows = rows_of(table)
    assert [row.cell.dataset for row in rows] == ["d1", "d1", "d2", "d2", *["macro of d1, d2"] * 2]
    assert [row.p_holm for row in rows] == pytest.approx(holm([row.result.p for row in rows]))
    assert {row.family_size for row in rows} == {6}
    parts = [scores.values_SQ for scores in table.cells.values()]
    single = crossed(parts[0], {"C": 1.0, "A": -1.0})
    macro = crossed({arm: [part[arm] for part in parts] for arm in "AC"}, {"C": 1.0, "A": -1.0})
    assert (rows[1].result, rows[5].result) == (single, macro)
    assert rows[5].num_units == 16
    assert (rows[1].wins, rows[1].ties, rows[1].losses) == (8, 0, 0)
    assert rows[1].relative_change == pytest.approx(single.estimate / rows[1].means["A"])
    assert [row.cell.dataset for row in rows_of(table, macro="only")] == ["macro of d1, d2"] * 2
    assert len(rows_of(table, macro="none")) == 4


def test_few_seeds_are_exploratory_and_one_is_refused() -> None:
    assert {row.status for row in rows_of(table_of(study(num_seeds=5)))} == {"confirmatory"}
    few = rows_of(table_of(study(num_seeds=4)))[0]
    assert few.status == "exploratory" and few.population.endswith("like these (exploratory).")
    one = table_of(study(num_seeds=1))
    with pytest.raises(UserError, match=r"nDCG@10 on d1 \(original\): arm 'B' has one seed, .* claim only about these"):
        rows_of(one)
    fixed = rows_of(one, Plan(Options(estimand="these_checkpoints")))[0]
    assert fixed.status == "these checkpoints" and "nothing is said about new training seeds" in fixed.population
    assert fixed.query_set is None and fixed.result.share_seed is None


def test_deterministic_arm_with_one_seed() -> None:
    rows = [row for row in study() if row["arm"] == "B" or row["seed"] == 0]
    found = rows_of(table_of(rows), Plan(Options(deterministic=frozenset("A"))))[0]
    assert found.num_seeds == {"B": 5, "A": 1} and found.status == "confirmatory"
    with pytest.raises(UserError, match="the deterministic arm 'Z' has no scores; arms are A, B"):
        rows_of(table_of(rows), Plan(Options(deterministic=frozenset("Z"))))


def test_matched_needs_the_same_seeds() -> None:
    rows = [{**row, "seed": int(str(row["seed"])) + 1} if row["arm"] == "B" else row for row in study()]
    with pytest.raises(UserError, match="'B' has 1, 2, 3, 4, 5, 'A' has 0, 1, 2, 3, 4; leave out the option"):
        rows_of(table_of(rows), Plan(Options(matched=True)))
    found = rows_of(table_of(study()), Plan(Options(matched=True)))[0]
    assert found.result.df is not None


@pytest.mark.parametrize(
    ("measure", "scale", "weights", "expected"),
    [
        ("nDCG@10", 1.0, {"b": 1.0, "a": -1.0}, (-1.0, 1.0)),
        ("p-MRR", 1.0, {"b": 1.0, "a": -1.0}, (-2.0, 2.0)),
        ("nDCG@10", 1.0, {"b": 0.5, "c": 0.5, "a": -1.0}, (-1.0, 1.0)),
        ("nDCG@10", 1.0, {"b": 1.0, "c": 1.0, "a": -2.0}, (-2.0, 2.0)),
        ("nDCG@10", 100.0, {"b": 1.0, "a": -1.0}, (-math.inf, math.inf)),  # percentages
        ("latency", 1.0, {"b": 1.0, "a": -1.0}, (-math.inf, math.inf)),
    ],
)
def test_the_ends_of_an_interval_lie_where_a_difference_can(
    measure: str, scale: float, weights: dict[str, float], expected: tuple[float, float]
) -> None:
    # two seeds of three queries, as far apart as they can be: t with so few degrees of freedom leaves every range
    wild = {"a": [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]], "b": [[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]}
    wild["c"] = wild["b"]
    blocks = {arm: [np.array(values) * scale] for arm, values in wild.items()}
    assert bounds(measure, blocks, weights) == expected
    low, high = crossed(blocks, weights).ci
    assert low < -scale and high > scale
    rows = [
        ("s", str(seed), arm, f"q{unit}", value * scale)
        for arm, matrix in wild.items()
        for seed, line in enumerate(matrix)
        for unit, value in enumerate(line)
    ]
    table = from_arrow(
        pa.table(
            {
                "arm": [row[2] for row in rows],
                "seed": [row[1] for row in rows],
                "dataset": ["d"] * len(rows),
                "condition": ["plain"] * len(rows),
                "unit_id": [row[3] for row in rows],
                "measure": [measure] * len(rows),
                "value": [row[4] for row in rows],
            }
        ),
        "made",
    )
    (target,) = targets(table)
    (found,) = contrast_rows(table, [Asked("x", weights, target)], Plan())
    assert found.query_set is not None
    for estimate in (found.result, found.checkpoints, found.query_set):
        assert expected[0] <= estimate.ci[0] <= estimate.ci[1] <= expected[1]


ARMS = (("a", 1), ("b", -1))


@pytest.mark.parametrize("size", [0.0, 1e-300, 9e59])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_no_size_of_score_is_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: float, spread: float
) -> None:
    lines = [
        f"{arm},{seed},d,plain,q{unit},m,{sign * size * (1 - spread * unit / 3)}"
        for arm, sign in ARMS
        for seed in (0, 1)
        for unit in (0, 1, 2)
    ]
    (tmp_path / "s.csv").write_text("\n".join(["arm,seed,dataset,condition,unit_id,measure,value", *lines]))
    assert main(["--scores", str(tmp_path / "s.csv"), "--baseline", "a", "--margin", ".02"]) == 0
    assert "| b - a" in capsys.readouterr().out


def test_ndcg_stands_beside_p_mrr() -> None:
    measures = (("nDCG@10", ORIGINAL), ("nDCG@10", CHANGED), ("nDCG@10", ("changed", "before")), ("p-MRR", CHANGED))
    table = table_of(study(measures=measures))
    row = next(row for row in rows_of(table, Plan(margins={"nDCG@10": 0.02})) if row.cell.measure == "p-MRR")
    assert [tuple(guard.cell[1:3]) for guard in row.guards] == [ORIGINAL, CHANGED]
    assert all(guard.verdict == "not worse by 0.02 or more" for guard in row.guards)
    assert row.unit == "topic" and row.relative_change is None and row.tost_p is None
    worse = [row for row in rows_of(table, Plan(margins={"": 0.02}), baseline="B") if row.cell.measure == "p-MRR"][0]
    assert worse.guards[0].verdict == "cannot exclude worse by 0.02 or more" and worse.tost_p is not None
    assert worse.population.endswith("Beside it: nDCG@10 cannot exclude worse by 0.02 or more.")
    silent = [row for row in rows_of(table) if row.cell.measure == "p-MRR"][0]
    assert silent.guards[0].verdict == "not tested: no margin was declared"


def test_the_guard_of_a_macro_mean_is_over_the_same_data_sets() -> None:
    measures = (("nDCG@10", ORIGINAL), ("p-MRR", CHANGED))
    rows = study(datasets=("d1", "d2", "d3"), measures=measures)
    table = table_of([row for row in rows if (row["dataset"], row["measure"]) != ("d3", "p-MRR")])
    row = next(row for row in rows_of(table, macro="only") if row.cell.measure == "p-MRR")
    assert [guard.cell.dataset for guard in row.guards] == [row.cell.dataset] == ["macro of d1, d2"]
    ndcg = [table.cells[Cell(name, *ORIGINAL, "nDCG@10")].values_SQ for name in ("d1", "d2")]
    assert row.guards[0].estimate == crossed({arm: [part[arm] for part in ndcg] for arm in "AB"}, row.weights)
    assert "other topics of these 2 data sets" in row.population


def population_of(seed_sd: float, arm_unit_sd: float, effect: float, num_seeds: int, num_units: int) -> str:
    generator = np.random.Generator(np.random.PCG64(4))
    rows: list[Row] = []
    for arm in "AB":
        units = generator.normal(0, arm_unit_sd, num_units)
        shifts = generator.normal(0, seed_sd, num_seeds)
        shifts += (effect if arm == "B" else 0) - shifts.mean()
        rows += [
            {
                "arm": arm,
                "seed": seed,
                "dataset": "d",
                "condition": "c",
                "unit_id": f"{unit}",
                "measure": "RR@10",
                "value": units[unit] - units.mean() + shifts[seed] + generator.normal(0, 1e-3),
            }
            for seed in range(num_seeds)
            for unit in range(num_units)
        ]
    return rows_of(table_of(rows))[0].population


def test_the_sentence_names_the_population() -> None:
    assert population_of(0.01, 0.01, 0.5, 5, 30).startswith("Covers new training seeds of these arms and other que")
    assert population_of(0.2, 0.01, 0.05, 5, 200).startswith("Only these checkpoints differ on other queries like")
    assert population_of(0.001, 0.3, 0.05, 5, 10).startswith("Only on exactly these queries would new seeds differ")
    nothing = population_of(0.1, 0.3, 0.0, 5, 10)
    assert nothing.startswith("No difference is shown for any population; a true difference below 0.")


def test_degenerate_rows_are_flagged() -> None:
    rows = [{**row, "value": 0.25} for row in study()]
    found = rows_of(table_of(rows))[0]
    assert found.result.degenerate and (found.ties, found.smallest_detectable, found.standardised) == (8, None, None)
    assert found.population.startswith("All queries and seeds agree exactly")
    apart = rows_of(table_of([{**row, "value": 0.25 + (row["arm"] == "B")} for row in study()]))[0]
    assert apart.population.startswith("All queries and seeds differ by the same amount;")


# formats


NASTY = r"a_b & <i>50%</i> #1 {x} $y$ | ~^\""


def nasty_table() -> Table:
    return Table("T_1", (Column("arm"), Column("n", "r")), ((NASTY, "-0.5"), ("[x]", "1")), ("note & more",))


def test_latex_is_escaped() -> None:
    text = to_latex(nasty_table())
    shown = r"a\_b \& \textless{}i\textgreater{}50\%\textless{}/i\textgreater{} \#1 \{x\} \$y\$ \textbar{} "
    assert shown + r"\textasciitilde{}\textasciicircum{}\textbackslash{}\textquotedbl{} & $-$0.5 \\" in text
    assert r"\caption{T\_1}" in text and "{}[x] & 1" in text and r"note \& more" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert escape_latex("two\nlines") == "two lines"
    assert escape_latex("a → b ±1") == r"a $\rightarrow$ b $\pm$1"


def test_markdown_is_escaped() -> None:
    text = to_markdown(nasty_table())
    assert '| a_b & &lt;i>50%&lt;/i> #1 {x} $y$ \\| \\~^\\\\" |' in text
    assert all(line.count("|") - line.count("\\|") == 3 for line in text.splitlines() if line.startswith("|"))
    assert escape_markdown("_em_ [a](b) &lt; `c`") == "\\_em\\_ [a]\\(b) &amp;lt; \\`c\\`"


def test_aligned_text_by_hand() -> None:
    columns = (Column("arm"), Column("n", "r"), Column(""))
    table = Table("", columns, (("a", "1", "x"), ("longer", "1,000", "")), ("a note",))
    assert to_text(table) == "arm         n\na           1  x\nlonger  1,000\na note"
    assert to_text(Table("title", (Column("arm"),), (), ())) == "title\narm"


def test_numbers() -> None:
    assert [number(None), number(0.12345), number(0.0), number(1e-5)] == ["–", "0.1235", "0.0000", "1.00e-05"]
    assert [probability(p) for p in (0.00001, 0.05, 1.0, 0.0)] == ["<.0001", ".0500", "1.0000", "<.0001"]


def test_what_is_known_of_the_arms_is_shown() -> None:
    import dataclasses

    table = dataclasses.replace(
        table_of(study()),
        differs={"B - A": "factors.x (off → 1)"},
        marks={"B - A": "UNMATCHED"},
        mark="fairness: 1 of 2 checks failed",
        remarks=(("B - A", "UNMATCHED", "twice the rows"),),
    )
    above, main_one = (to_markdown(one) for one in all_tables(table, rows_of(table), Plan())[:2])
    assert "twice the rows" in above and main_one.startswith("**Contrasts of scores (fairness: 1 of 2 checks failed)**")
    assert "| differs in " in main_one and "| factors.x (off → 1) |" in main_one and "| UNMATCHED |" in main_one


def test_margins() -> None:
    assert parse_margins(["0.02", "nDCG@10=.01"]) == {"": 0.02, "nDCG@10": 0.01}
    for text, said in (("x", "'x' is no number; write 0.02"), ("-1", "'-1' must be above 0"), ("a=nan", "above 0")):
        with pytest.raises(UserError, match=said):
            parse_margins([text])


# the command line


def test_command_line_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = study(arms=("A", "B_x", "C"), measures=(("nDCG@10", ORIGINAL), ("p-MRR", CHANGED)))
    path = write_csv(tmp_path / "s.csv", rows)
    arguments = ["--scores", str(path), "--baseline", "A", "--contrast", "C - B_x", "--measure", "p-MRR"]
    arguments += ["--margin", ".02", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "x.json")]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown == (tmp_path / "out/significance.md").read_text(encoding="utf-8")
    assert "| B_x - A  |" in shown and "nDCG beside p-MRR" in shown and "Second opinions" in shown
    latex = (tmp_path / "out/significance.tex").read_text(encoding="utf-8")
    assert r"B\_x - A & d1 & changed: after & p-MRR & 8 & 5 & " in latex and r"\toprule" in latex
    record = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert record == json.loads((tmp_path / "out/significance.json").read_text(encoding="utf-8"))
    assert (record["family_size"], record["correction"], record["margins"]) == (3, "holm", {"": 0.02})
    first = record["contrasts"][0]
    wanted = "estimate se df p p_holm ci v_seed v_query v_resid share_seed tost_p degenerate smallest_detectable"
    assert set(wanted.split()) <= set(first)
    table = read_scores(path)
    values_SQ = table.cells[Cell("d1", *CHANGED, "p-MRR")].values_SQ
    expected = crossed(values_SQ, {"B_x": 1.0, "A": -1.0})
    assert (first["estimate"], first["se"], first["df"], first["p"]) == (
        expected.estimate,
        expected.se,
        expected.df,
        expected.p,
    )
    assert first["tost_p"] == expected.tost(0.02) and first["ci"] == list(expected.ci)
    assert (first["level"], first["tost_level"]) == (0.95, 0.9)
    assert first["tost_ci"] == list(expected.interval(0.9)) and "90 % interval (TOST) |" in shown
    assert first["beside"][0]["p_noninferior"] is not None and "|  90 % |" in shown
    assert [guard["cell"]["measure"] for guard in first["beside"]] == ["nDCG@10"]
    lines = list(csv.DictReader((tmp_path / "out/significance.csv").read_text(encoding="utf-8").splitlines()))
    assert [line["contrast"] for line in lines] == ["B_x - A", "C - A", "C - B_x"]
    assert float(lines[0]["estimate"]) == expected.estimate and float(lines[0]["ci_low"]) == expected.ci[0]


def test_exploratory_slices_use_benjamini_hochberg(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "s.csv", study(arms=("A", "B", "C")))
    arguments = ["--scores", str(path), "--baseline", "A", "--correction", "bh", "--json", str(tmp_path / "x.json")]
    assert main(arguments) == 0
    assert "q (BH, exploratory)" in capsys.readouterr().out
    found = json.loads((tmp_path / "x.json").read_text())["contrasts"]
    assert [row["p_holm"] for row in found] == [None, None] and {row["status"] for row in found} == {"exploratory"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--contrast", "B - Z"], "error: contrast 'B - Z': arm 'Z' is unknown; arms are A, B"),
        (["--contrast", "B"], "error: the weights of a contrast must sum to 0"),
        ([], "error: no contrast is asked for"),
        (["--baseline", "A", "--margin", "MAP=.1"], "error: --margin for 'MAP':"),
        (["--baseline", "A", "--macro", "only"], "is there on two data sets, so there is no macro mean"),
        (["--baseline", "A", "--dataset", "d9"], "no score has the dataset 'd9'; there are 'd1'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    path = write_csv(tmp_path / "s.csv", study())
    assert main(["--scores", str(path), *arguments]) == 2
    captured = capsys.readouterr()
    assert text in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_fresh_process_loads_nothing_heavy(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "s.csv", study())
    heavy = ["torch", "lightning", "transformers", "faiss", "hydra", "wandb", "matplotlib", "pandas", "scipy.stats"]
    code = (
        "import sys; from analysis.significance import main; import analysis.power\n"
        f"code = main(['--scores', {str(path)!r}, '--baseline', 'A'])\n"
        f"sys.exit(code or str([name for name in {heavy} if name in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stderr.strip(), "B - A" in done.stdout) == ("", True)


@pytest.mark.parametrize("module", ["analysis.significance", "benchmarks.calibration"])
def test_help_has_an_example(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and f"example: python -m {module}" in " ".join(done.stdout.split())


# a study in a folder of results


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study with a fair arm, one of double volume, one that differs in two factors, one of one seed, the backbone."""
    make_quick(monkeypatch)
    untouched = {"stage": "untouched", "model": {"revision": "m", "pooling": "mean"}}
    make_study(
        tmp_path,
        {
            "a": Arm(),
            "better": Arm({"x": 1}, {NDCG: 0.1}),
            "double": Arm({"y": 1}, groups=16),
            "mixed": Arm({"x": 1, "y": 1}),
            "once": Arm({"z": 1}, seeds=(0,)),
            "untouched": Arm(system=untouched, seeds=(0,)),
        },
    )
    return tmp_path


def test_a_study_is_tested_with_what_is_known_of_its_arms(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = results / "out"
    assert main(["s", "--results", str(results), "--baseline", "a", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown == (out / "significance.md").read_text(encoding="utf-8")
    fairness, remarks, contrasts = shown.split("\n**")[:3]
    assert fairness.startswith("**Fairness of study s (fairness: 2 of 17 checks failed)**")
    assert fairness.count("FAILED") == 2 and "| the other 15 checks " in fairness
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in remarks.splitlines()[4:]]
    assert lines == [
        ["double - a", "UNMATCHED", "double has 16 against 8 groups (seed 0)"],
        ["mixed - a", "CONFOUNDED", "mixed and a differ in 2 keys: factors.x, factors.y"],
        ["once - a", "NOT TESTED", "once has one seed, which says nothing about new ones; train more (1 of 1 places)"],
    ]
    assert contrasts.startswith("Contrasts of study s (fairness: 2 of 17 checks failed)**")
    rows = {
        cells[1]: cells
        for cells in ([c.strip() for c in line.split("|")] for line in contrasts.splitlines()[4:])
        if len(cells) > 2
    }
    assert list(rows) == ["better - a", "double - a", "mixed - a", "untouched - a"]
    assert rows["better - a"][2] == "factors.x (off → 1)" and rows["better - a"][-2] == ""
    assert rows["double - a"][-2] == "UNMATCHED" and rows["mixed - a"][-2] == "CONFOUNDED"
    assert rows["untouched - a"][2] == "system (trained → untouched)"
    assert "Declared without training randomness: untouched." in contrasts
    mix = "rows and draws of the mix, their order, initialisation and dropout"
    assert f"What a seed varies: better, a, double, mixed: {mix}; untouched: nothing." in contrasts
    record = json.loads((out / "significance.json").read_text(encoding="utf-8"))
    assert record["contrasts"][-1]["seed_varies"] == {"untouched": "nothing", "a": mix}
    assert (record["family_size"], record["mark"]) == (4, "fairness: 2 of 17 checks failed")
    assert [one["mark"] for one in record["contrasts"]] == [None, "UNMATCHED", "CONFOUNDED", None]
    assert [one["mark"] for one in record["remarks"]] == ["UNMATCHED", "CONFOUNDED", "NOT TESTED"]
    assert [one["ok"] for one in record["fairness"]][:3] == [False, False, True]
    latex = (out / "significance.tex").read_text(encoding="utf-8")
    assert latex.count(r"\toprule") == 4 and r"factors.x (off" in latex and "UNMATCHED" in latex
    line = next(csv.DictReader((out / "significance.csv").read_text(encoding="utf-8").splitlines()))
    assert (line["contrast"], line["differs"], line["mark"]) == ("better - a", "factors.x (off → 1)", "")


def test_what_else_a_contrast_changes_stands_above_it_and_in_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_quick(monkeypatch)
    arms = {
        "a": Arm(made_of={"unique_queries": 229}, first_epoch_negatives=(240,) * 5),
        "b": Arm({"x": 1}, {NDCG: 0.1}, made_of={"unique_queries": 115}, first_epoch_negatives=(116,) * 5),
        "same": Arm({"y": 1}, made_of={"unique_queries": 230}, first_epoch_negatives=(241,) * 5),
    }
    make_study(tmp_path, arms)
    out = tmp_path / "out"
    assert main(["s", "--results", str(tmp_path), "--baseline", "a", "--out", str(out)]) == 0
    said = "negatives per row 30.0 → 14.5, unique queries 229 → 115"
    _, remarks, _ = capsys.readouterr().out.split("\n**")[:3]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in remarks.splitlines()[4:]]
    assert lines[0] == ["b - a", "also changed", said]
    assert lines[2:] == [["also changed: a rival explanation of the difference, unless the switch implies it."]]
    record = json.loads((out / "significance.json").read_text(encoding="utf-8"))
    assert [one["also_changed"] for one in record["contrasts"]] == [said, ""]
    rows = csv.DictReader((out / "significance.csv").read_text(encoding="utf-8").splitlines())
    assert [row["also_changed"] for row in rows] == [said, ""]
    assert "also changed" in (out / "significance.tex").read_text(encoding="utf-8")


def test_a_study_has_the_numbers_of_its_scores_file(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from analysis.collect import main as collect

    assert collect(["s", "--results", str(results), "--out", str(results / "s.parquet")]) == 0
    common = ["--contrast", "better - a", "--json"]
    assert main(["s", "--results", str(results), *common, str(results / "1.json")]) == 0
    assert main(["--scores", str(results / "s.parquet"), *common, str(results / "2.json")]) == 0
    one, two = (json.loads((results / f"{name}.json").read_text())["contrasts"][0] for name in "12")
    assert {key for key in one if one[key] != two[key]} == {"also_changed", "differs", "seed_varies"}


def test_without_contrasts_those_of_the_declared_claims_are_tested(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["s", "--results", str(results)]) == 2
    assert "error: study 's' has no declared claims; give --baseline ARM" in capsys.readouterr().err
    claims = [claim("c", "greater", contrast="better - a"), claim("d", "greater", contrast="gone - a")]
    declare(results, study_block(claims, arms=["a", "better"], margins=[["nDCG@10", 0.03]]))
    assert main(["s", "--results", str(results), "--json", str(results / "x.json")]) == 0
    shown = capsys.readouterr().out
    assert "| gone - a | NOT TESTED | contrast 'gone - a': arm 'gone' is unknown" in " ".join(shown.split())
    record = json.loads((results / "x.json").read_text())
    assert [(one["contrast"], one["margin"]) for one in record["contrasts"]] == [("better - a", 0.03)]


def test_checkpoints_of_one_seed_are_compared_only_when_asked_for(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["s", "--results", str(results), "--contrast", "once - a"]
    assert main(asked) == 2
    assert "error: nothing can be tested in study s: once - a: once has one seed" in capsys.readouterr().err
    assert main([*asked, "--estimand", "these_checkpoints"]) == 0
    assert "these checkpoints" in capsys.readouterr().out


def test_a_study_or_a_file_is_given(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["s", "--scores", "x.csv"]):
        assert main(arguments) == 2
        assert "error: give either a STUDY or --scores F" in capsys.readouterr().err
    assert main(["t", "--results", str(results), "--baseline", "a"]) == 2
    assert "no evaluation of a study 't'" in capsys.readouterr().err


# what was declared, and what the user of the table picked


def declared_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three arms on two measures with two declared claims, one of which cannot be tested."""
    make_quick(monkeypatch)
    other = (*NDCG[:3], "RR@10")
    claims = [claim("c", "greater"), claim("gone", "greater", contrast="gone - a")]
    under = declare(root, study_block(claims, arms=["a", "b", "c"]))
    shift = {NDCG: 0.012, other: 0.012}
    arms = {"a": Arm(shift=dict.fromkeys(shift, 0.0)), "b": Arm({"x": 1}, shift), "c": Arm({"y": 1}, shift)}
    make_study(root, {name: dataclasses.replace(arm, declared=under) for name, arm in arms.items()})
    return root


def rows_by_place(root: Path, *more: str) -> tuple[dict[tuple[str, str], Row], Row]:
    assert main(["s", "--results", str(root), "--json", str(root / "x.json"), *more]) == 0
    record = json.loads((root / "x.json").read_text())
    return {(row["contrast"], row["measure"]): row for row in record["contrasts"]}, record


def test_the_family_of_a_declared_study_is_the_declared_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, record = rows_by_place(declared_runs(tmp_path, monkeypatch), "--baseline", "a")
    shown = capsys.readouterr().out
    assert {key: row["status"] for key, row in rows.items()} == {
        ("b - a", "nDCG@10"): "confirmatory",
        ("b - a", "RR@10"): "exploratory",
        ("c - a", "nDCG@10"): "exploratory",
        ("c - a", "RR@10"): "exploratory",
    }
    said = "family of 2 declared claims; 3 contrasts shown that were not declared are a family of their own."
    assert f"Holm's correction over the {said}" in shown and record["declared_family_size"] == 2
    assert "exploratory: fewer than 5 seeds in a trained arm, or not declared before the results." in shown
    inside = rows.pop(("b - a", "nDCG@10"))
    assert (inside["family_size"], inside["p_holm"]) == (2, holm([inside["p"], 1.0])[0])
    assert [row["p_holm"] for row in rows.values()] == holm([row["p"] for row in rows.values()])
    assert {row["family_size"] for row in rows.values()} == {3}


def test_what_is_shown_changes_nothing_in_the_declared_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = declared_runs(tmp_path, monkeypatch)
    everything, _ = rows_by_place(root, "--baseline", "a")
    alone, _ = rows_by_place(root, "--contrast", "b - a", "--measure", "nDCG@10")
    turned, _ = rows_by_place(root, "--contrast", "a - b", "--measure", "nDCG@10")
    kept = [(row["p_holm"], row["family_size"], row["status"]) for row in (*alone.values(), *turned.values())]
    first = everything["b - a", "nDCG@10"]
    assert kept == [(first["p_holm"], 2, "confirmatory")] * 2
    outside, _ = rows_by_place(root, "--contrast", "c - a", "--measure", "nDCG@10")
    assert [(row["p_holm"] == row["p"], row["status"]) for row in outside.values()] == [(True, "exploratory")]
    assert "1 contrasts shown" not in capsys.readouterr().out


def test_a_claim_declared_after_results_is_exploratory_in_the_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = declared_runs(tmp_path, monkeypatch)
    claims = [claim("c", "greater"), claim("late", "greater", contrast="c - a")]
    declare(root, study_block(claims, arms=["a", "b", "c"]), at="2026-05-01T00:00:00+00:00")
    rows, _ = rows_by_place(root, "--baseline", "a", "--measure", "nDCG@10")
    found = {name: (row["family_size"], row["status"]) for (name, _), row in rows.items()}
    assert found == {"b - a": (3, "confirmatory"), "c - a": (3, "exploratory")}  # the withdrawn one counts


def test_without_a_declaration_no_row_is_confirmatory(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["s", "--results", str(results), "--contrast", "better - a", "--json", str(results / "x.json")]) == 0
    assert "contrasts shown. Nothing was declared beforehand: no row is confirmatory." in capsys.readouterr().out
    (row,) = json.loads((results / "x.json").read_text())["contrasts"]
    assert row["status"] == "exploratory" and row["population"].endswith("like these (exploratory).")
