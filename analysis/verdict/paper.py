"""What goes into a paper: a narrow table of arms and measures, a paragraph on methods, and references.

The table has one baseline, and every other arm is tested against it in every column by the crossed test, Holm over all
of them. The best arm of a column is bold; arms that the same test does not show to differ from it (p >= alpha, one
comparison at a time) are marked as ties, so that a small lead is not read as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ablate.evaluation.measures import INSTRUCTION_GAIN, P_MRR, SATISFYING_OVER_VIOLATING
from ablate.records import UserError
from ablate.tables import escape_latex, escape_markdown, to_csv
from analysis.stats.asked import Asked, over
from analysis.stats.contrast import ContrastRow
from analysis.stats.contrast_rows import contrast_rows
from analysis.stats.crossed import Estimand, crossed
from analysis.stats.families import Plan
from analysis.stats.matrix import Cell, ScoreTable, Values
from analysis.stats.populations import population
from analysis.study.opened import OpenStudy, untestable
from analysis.verdict.judge import judge

DIFFERS, TIES = "*", "≈"
_USUAL = (
    ("plain", "nDCG@10"),
    ("changed", "nDCG@10"),
    ("reversed", "nDCG@10"),
    ("changed", INSTRUCTION_GAIN),
    ("reversed", INSTRUCTION_GAIN),
    ("changed", P_MRR),
    ("reversed", P_MRR),
    ("pairs", SATISFYING_OVER_VIOLATING),
)
"""Condition and measure of the columns, in their order, where none is asked for."""
_TESTED: Mapping[Estimand, str] = {
    "method": "Differences are tested by a crossed test in which queries and seeds are both random (Clark 1973; "
    "degrees of freedom after Satterthwaite, as Hillis 2007)",
    "these_checkpoints": "Differences of these checkpoints are tested by a paired t over queries, with seeds as fixed",
}


class PaperCell(NamedTuple):
    """An arm in a column."""

    mean: float
    sd: float | None
    """Between seeds; None for one seed."""
    differs: bool | None
    """From the baseline after Holm; None where there is no test."""
    is_best: bool
    is_tied: bool
    """Not shown to differ from the best, of which an arm of one seed is too: no test of new seeds can be made."""


@dataclass(frozen=True)
class Paper:
    """Everything that is pasted."""

    baseline: str
    cells: Mapping[tuple[str, Cell], PaperCell]
    """(arm, column); without what has no scores."""
    arms: tuple[str, ...]
    columns: tuple[Cell, ...]
    seeds: Mapping[str, int]
    caption: str
    methods: str
    references: tuple[str, ...]
    """Keys of REFERENCES."""

    def markdown(self) -> str:
        """Return table, methods and references for reading."""
        heads = ["arm", "seeds", *(_head(column, self.columns) for column in self.columns)]
        lines = [_row(map(escape_markdown, heads)), _row(["---", *["---:"] * (len(heads) - 1)])]
        for arm in self.arms:
            cells = (_markdown(self.cells.get((arm, column)), column) for column in self.columns)
            lines.append(_row([escape_markdown(arm), str(self.seeds[arm]), *cells]))
        texts = (escape_markdown(self.caption), f"**Methods.** {escape_markdown(self.methods)}")
        return "\n".join([*lines, *(line for text in texts for line in ("", text)), ""])

    def latex(self) -> str:
        r"""Return the table for booktabs, and the paragraph on methods with \cite commands."""
        head = " & ".join(["arm", *(escape_latex(_head(column, self.columns)) for column in self.columns)])
        lines = [
            "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}; references are in paper.bib",
            r"\begin{table}",
            r"\centering\small",
            rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
        ]
        for arm in self.arms:
            texts = [escape_latex(arm), *(_latex(self.cells.get((arm, column)), column) for column in self.columns)]
            lines.append(" & ".join(texts) + r" \\")
        cited = rf"\paragraph{{Methods}} {escape_latex(self.methods)} \cite{{{','.join(self.references)}}}"
        end = [
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{escape_latex(self.caption)}}}",
            r"\end{table}",
            "",
            cited,
            "",
        ]
        return "\n".join([*lines, *end])

    def bibtex(self) -> str:
        """Return the references."""
        return "\n\n".join(REFERENCES[key] for key in self.references) + "\n"

    def csv(self) -> str:
        """Return one line for each arm and column."""
        names = ("arm", "seeds", *Cell._fields, *PaperCell._fields)
        rows = [
            {"arm": arm, "seeds": self.seeds[arm], **column._asdict(), **self.cells[arm, column]._asdict()}
            for arm in self.arms
            for column in self.columns
            if (arm, column) in self.cells
        ]
        return to_csv(names, rows)


def paper(study: OpenStudy, plan: Plan, baseline: str | None, chosen: ScoreTable) -> Paper:
    """Return what goes into a paper of a study; `chosen` holds the columns that may be shown.

    `baseline`: None for that of the study. Raises UserError for an unknown baseline and where no column is left.
    """
    table = study.table
    against = baseline or study.evidence.baseline
    if against not in table.arms:
        raise UserError(f"--baseline {against!r} is not an arm; arms are {', '.join(table.arms)}")
    columns = _columns(chosen)
    options = dataclasses.replace(plan.options, deterministic=plan.options.deterministic | study.deterministic)
    plan = dataclasses.replace(plan, options=options, correction="holm")
    asked = [
        Asked(f"{arm} - {against}", {arm: 1.0, against: -1.0}, over(table, (column.dataset,), *column[1:]))
        for column in columns
        for arm in table.arms
        if arm != against
    ]
    tested = [contrast for contrast in asked if not untestable(table, contrast, plan)]
    rows = contrast_rows(table, tested, plan) if tested else ()
    by_place = {(row.label, row.cell): row for row in rows}
    cells: dict[tuple[str, Cell], PaperCell] = {}
    for column in columns:
        cells |= _of_column(table, column, against, by_place, plan)
    keys = [
        *(["clark1973", "hillis2007"] if plan.options.estimand == "method" else []),
        "holm1979",
        *(["jarvelin2002"] if any("nDCG" in c.measure for c in columns) else []),
    ]
    keys += ["weller2024"] if any(column.measure == P_MRR for column in columns) else []
    return Paper(
        against,
        cells,
        tuple(table.arms),
        columns,
        {arm: len(seeds) for arm, seeds in table.seeds.items()},
        _caption(against, rows, plan),
        _methods(study, columns, rows, plan),
        tuple(keys),
    )


def _columns(chosen: ScoreTable) -> tuple[Cell, ...]:
    """Return the usual columns of every data set; all that there are where fewer than these were asked for."""
    usual = [
        cell
        for dataset in dict.fromkeys(cell.dataset for cell in chosen.cells)
        for condition, measure in _USUAL
        for cell in chosen.cells
        if (cell.dataset, cell.condition, cell.measure) == (dataset, condition, measure)
    ]
    return tuple(usual or chosen.cells)


def _of_column(
    table: ScoreTable, column: Cell, against: str, rows: Mapping[tuple[str, Cell], ContrastRow], plan: Plan
) -> dict[tuple[str, Cell], PaperCell]:
    values_SQ = table.cells[column].values_SQ
    means = {arm: float(values.mean()) for arm, values in values_SQ.items()}
    best = max(means, key=means.__getitem__)
    cells = {}
    for arm, values in values_SQ.items():
        row = rows.get((f"{arm} - {against}", column))
        seeds = values.mean(axis=1)
        cells[arm, column] = PaperCell(
            means[arm],
            float(seeds.std(ddof=1)) if len(seeds) > 1 else None,
            None if row is None or row.p_holm is None else row.p_holm < plan.options.alpha,
            arm == best,
            arm != best and _is_tied(values_SQ, arm, best, plan),
        )
    return cells


def _is_tied(values_SQ: Mapping[str, Values], arm: str, best: str, plan: Plan) -> bool:
    pair = {name: values_SQ[name] for name in (arm, best)}
    options = dataclasses.replace(plan.options, deterministic=plan.options.deterministic & set(pair))
    try:
        return crossed(pair, {best: 1.0, arm: -1.0}, options).p >= options.alpha
    except UserError:  # one seed says nothing about new ones
        return True


def _head(column: Cell, columns: Sequence[Cell]) -> str:
    posed = (
        column.condition if column.direction in ("", column.condition) else f"{column.condition}: {column.direction}"
    )
    measure = f"{column.measure} × 100" if column.measure == P_MRR else column.measure
    several = len({other.dataset for other in columns}) > 1
    return ", ".join([*([column.dataset] if several else []), posed, measure])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(cell: PaperCell, column: Cell) -> str:
    scale, digits = (100, 1) if column.measure == P_MRR else (1, 3)
    spread = "" if cell.sd is None else f" ± {cell.sd * scale:.{digits}f}"
    return f"{cell.mean * scale:.{digits}f}{spread}"


def _markdown(cell: PaperCell | None, column: Cell) -> str:
    if cell is None:
        return "–"
    value = f"**{_value(cell, column)}**" if cell.is_best else _value(cell, column)
    return value + (rf"\{DIFFERS}" if cell.differs else "") + (TIES if cell.is_tied else "")


def _latex(cell: PaperCell | None, column: Cell) -> str:
    if cell is None:
        return "--"
    text = escape_latex(_value(cell, column)).replace("-", "$-$")
    marks = (r"$^{*}$" if cell.differs else "") + (r"$^{\approx}$" if cell.is_tied else "")
    return (rf"\textbf{{{text}}}" if cell.is_best else text) + marks


def _caption(against: str, rows: Sequence[ContrastRow], plan: Plan) -> str:
    alpha = f"{plan.options.alpha:g}"
    return (
        f"Means over queries and seeds, ± standard deviation between seeds. Bold: highest mean of a column; {TIES}: "
        f"not shown to differ from it (p >= {alpha}, or one seed). {DIFFERS}: differs from {against} at {alpha} "
        f"over other queries, whatever the population of a claim, after Holm over the {len(rows)} comparisons of this "
        f"table."
    )


def _methods(study: OpenStudy, columns: Sequence[Cell], rows: Sequence[ContrastRow], plan: Plan) -> str:
    """Return the paragraph on design, test, family, what is new and software, from what is recorded."""
    evidence, table = study.evidence, study.table
    trained = [arm for arm in table.arms if arm not in study.deterministic]
    seeds = sorted({seed for arm in trained for seed in table.seeds[arm]}, key=lambda seed: (len(seed), seed))
    budgets = dict.fromkeys(f"{arm.budget.limit or 'all'} {arm.budget.unit}" for arm in evidence.totals)
    units = {column.dataset: len(table.cells[column].units) for column in columns}
    sentences = [
        f"{len(table.arms)} arms ({', '.join(table.arms)}), {len(trained)} trained with seeds {', '.join(seeds)}"
        + (f" on a budget of {' or '.join(budgets)}" if budgets else "")
        + f", are measured on {', '.join(f'{name} ({count:,} units)' for name, count in units.items())}",
        f"{_TESTED[plan.options.estimand]}, two-sided, with Holm's correction (1979)",
    ]
    failed = [check.name for check in study.checks if not check.ok]
    held = f"{len(failed)} failed: {', '.join(failed)}" if failed else "all hold"
    sentences.append(f"Of {len(study.checks)} checks that arms are comparable {held}")
    if evidence.declared is not None:
        judgement = judge(study)
        verdicts = [judged.ruling.verdict for judged in judgement.claims]
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
        fresh = next((str(judged.fresh) for judged in judgement.claims if judged.fresh), "")
        sentences.append(f"{len(verdicts)} claims are declared: {counts}")
        sentences += [f"New under the declaration: {fresh}"] if fresh else []
    else:
        sentences.append("No claim was declared beforehand, so every test is exploratory")
    if rows:
        sentences.append(population(rows[0], plan).rstrip(".") + f" ({rows[0].label}, {rows[0].cell})")
    versions = evidence.runs[0].evaluation.packages
    named = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "transformers") if name in versions)
    code = [stage.git.get("commit") or stage.git.get("release") for stage in evidence.stages]
    commits = dict.fromkeys(str(name)[:12] for name in code if name)
    sentences.append(f"Software: ablate{f' at {chr(44).join(commits)}' if commits else ''}, {named}")
    return ". ".join(sentences) + "."


REFERENCES: Mapping[str, str] = {
    "clark1973": """@article{clark1973,
  author = {Clark, Herbert H.},
  title = {The language-as-fixed-effect fallacy: A critique of language statistics in psychological research},
  journal = {Journal of Verbal Learning and Verbal Behavior},
  volume = {12}, number = {4}, pages = {335--359}, year = {1973}
}""",
    "hillis2007": """@article{hillis2007,
  author = {Hillis, Stephen L.},
  title = {A comparison of denominator degrees of freedom methods for multiple observer {ROC} analysis},
  journal = {Statistics in Medicine},
  volume = {26}, number = {3}, pages = {596--619}, year = {2007}
}""",
    "holm1979": """@article{holm1979,
  author = {Holm, Sture},
  title = {A simple sequentially rejective multiple test procedure},
  journal = {Scandinavian Journal of Statistics},
  volume = {6}, number = {2}, pages = {65--70}, year = {1979}
}""",
    "jarvelin2002": """@article{jarvelin2002,
  author = {J{\\"a}rvelin, Kalervo and Kek{\\"a}l{\\"a}inen, Jaana},
  title = {Cumulated gain-based evaluation of {IR} techniques},
  journal = {ACM Transactions on Information Systems},
  volume = {20}, number = {4}, pages = {422--446}, year = {2002}
}""",
    "weller2024": """@article{weller2024,
  author = {Weller, Orion and others},
  title = {{FollowIR}: Evaluating and Teaching Information Retrieval Models to Follow Instructions},
  journal = {arXiv preprint arXiv:2403.15246}, year = {2024}
}""",
}
