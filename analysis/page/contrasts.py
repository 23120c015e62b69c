"""Sections on differences between arms: the contrasts, p-MRR beside nDCG, and gains over doses of label noise."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ablate.evaluation.measures import INSTRUCTION_GAIN, P_MRR
from ablate.records import UserError
from ablate.tables import number, probability
from analysis.page.drawing import minus
from analysis.page.forest import ForestRow, Panel, forest
from analysis.page.plots import Dose, Point, dose_plot, pair_of_measures
from analysis.page.record import Field, Figure, Grid, Part, Section, Tone, count, interval, signed
from analysis.page.source import NDCG, Source, grid_of, posed, seed_differences, seeds_of
from analysis.stats.asked import Target, over
from analysis.stats.breakdown import break_down, breakdown_tables
from analysis.stats.contrast import ContrastRow
from analysis.stats.contrast_tables import beside_table, percent
from analysis.stats.crossed import Estimate, Options, seed_means
from analysis.stats.dose import DoseLine, check_doses, dose_line
from analysis.stats.matrix import Cell, ScoreTable
from analysis.stats.trend import is_trend
from analysis.study.doses import doses_of, reference_of_doses
from analysis.study.opened import untestable
from analysis.verdict.claims_tables import claim_name
from analysis.verdict.judge import Judged, asked_by
from analysis.verdict.rule import COLLAPSED, REFUTED, SUPPORTED, UNDECIDED, claim_interval

_TONES: dict[str, Tone] = {SUPPORTED: "good", REFUTED: "bad", COLLAPSED: "bad", UNDECIDED: "open"}


def tone_of(verdict: str) -> Tone:
    """Return how a verdict is coloured: what stands against judging a claim at all is a warning."""
    return _TONES.get(verdict, "warn")


def contrasts(source: Source) -> Section:
    """Return the forest plots, the table of every contrast, and nDCG beside those of p-MRR."""
    parts: list[Part] = []
    if source.judged:
        panels = panels_of([(judged.row.cell, claim_row(source, judged)) for judged in source.judged if judged.row])
        parts.append(
            forest_figure(
                "forest_claims",
                panels,
                "The declared claims",
                "Each claim with its interval (1 − 2α for “equivalent” and “not worse”, else 1 − α; without the "
                "correction, which the verdict has), every seed as a dot, and its margin as a band around zero.",
            )
        )
    tested = source.tested
    if tested.nothing:
        parts.append(tested.nothing)
    drawn = source.places or source.main_places[:3]
    rows = [row for row in tested.rows if row.cell in {target.cell for target in drawn}]
    if rows:
        panels = panels_of([(row.cell, _arm_row(source, row)) for row in rows], f" from {source.baseline}")
        title = f"Every arm against {source.baseline}"
        level = percent(1 - tested.plan.options.alpha)
        caption = (
            f"Every arm minus {source.baseline}, where the claims are looked at: estimate, {level} interval, every "
            f"seed as a dot, Holm’s p."
        )
        parts.append(forest_figure("forest_arms", panels, title, caption))
    if tested.rows:
        parts.append(_grid(source))
        beside = beside_table(tested.rows)
        if beside.rows:
            parts.append(grid_of("ndcg_beside_pmrr", beside, folded=len(beside.rows) > 12))
    return Section("contrasts", "Contrasts", tuple(parts), source.significance)


def forest_figure(key: str, panels: Sequence[Panel], title: str, caption: str) -> Figure:
    """Return a forest plot for wide and for narrow screens."""
    return Figure(key, caption, forest(panels, title), forest(panels, title, narrow=True))


def panels_of(rows: Sequence[tuple[Cell, ForestRow]], reference: str = "") -> list[Panel]:
    """Return rows by place, each with an axis of its own; slopes apart, because their unit is another one.

    `reference`: what differences are from, as the end of the name of an axis.
    """
    by_place: dict[tuple[Cell, bool], list[ForestRow]] = {}
    for cell, row in rows:
        by_place.setdefault((cell, is_trend(row.beside)), []).append(row)
    return [
        Panel(
            f"{cell.measure}{': slope' if is_slope else ''}",
            f"{cell.dataset or 'the data set'} ({posed(cell)})",
            f"slope of {cell.measure} per unit of dose" if is_slope else f"difference in {cell.measure}{reference}",
            tuple(members),
        )
        for (cell, is_slope), members in by_place.items()
    ]


def claim_row(source: Source, judged: Judged) -> ForestRow:
    """Return a claim with something to test as a row of a forest plot."""
    row, verdict = judged.row, judged.ruling.verdict
    assert row is not None
    ends = claim_interval(judged.claim, row)[0] if judged.tested else None
    seeds = seed_differences(row, source.study.table.seeds)
    return ForestRow(
        claim_name(judged),
        judged.claim.contrast,
        row.result.estimate,
        ends,
        seeds,
        row.margin,
        verdict,
        tone_of(verdict),
    )


def _arm_row(source: Source, row: ContrastRow) -> ForestRow:
    (arm,) = (arm for arm, weight in row.weights.items() if weight > 0)
    seeds = seed_differences(row, source.study.table.seeds)
    marks = source.tested.table.marks.get(row.label, "")
    return ForestRow(
        arm, marks, row.result.estimate, row.result.ci, seeds, None, f"Holm p {probability(row.p_holm)}", "none"
    )


def _grid(source: Source) -> Grid:
    tested = source.tested
    table, level = tested.table, percent(1 - tested.plan.options.alpha)
    fields = (
        Field("contrast", "contrast"),
        Field("", "where"),
        Field("dataset", ""),
        Field("posed", ""),
        Field("measure", ""),
        Field("estimate", "difference", signed, True),
        Field("", f"{level} interval", interval, True),
        Field("ci_low", ""),
        Field("ci_high", ""),
        Field("p", "p", probability, True),
        Field("p_holm", "Holm p", probability, True),
        Field("seeds", "S"),
        Field("units", "units", count, True),
        Field("detectable", "detectable", number, True),
        Field("status", "status"),
        Field("marks", "marks"),
        Field("differs", "differs in"),
        Field("also_changed", "also changed"),
        Field("population", "what it covers"),
    )
    rows = tuple(
        (
            row.label,
            str(row.cell),
            row.cell.dataset,
            posed(row.cell),
            row.cell.measure,
            row.result.estimate,
            row.result.ci,
            *row.result.ci,
            row.result.p,
            row.p_holm,
            seeds_of(row),
            row.num_units,
            row.smallest_detectable,
            row.status,
            table.marks.get(row.label, ""),
            table.differs.get(row.label, ""),
            table.also_changed.get(row.label, ""),
            row.population,
        )
        for row in tested.rows
    )
    declared = tested.plan.declared
    notes = [
        "Crossed test over training seeds and units, two-sided. Rows are all places of the measures of the claims, "
        "nDCG@10, p-MRR and pairs; Holm’s p is over the declared claims for one of them, else over all others shown "
        "here. A claim that is tested one-sided (“equivalent”, “not worse”) has its p in its verdict.",
        "detectable: smallest difference found with power .8; a p above the level is not equality.",
    ]
    if declared is None or not declared.size:
        notes.append("Nothing was declared beforehand: every row is exploratory.")
    notes += [f"{mark}: {label}: {why}" for label, mark, why in table.remarks]
    return Grid("contrasts", f"Every arm against {source.baseline}", fields, rows, tuple(notes))


def collapse(source: Source) -> Section | None:
    """Return p-MRR against nDCG under the changed instruction: a model that loses everything has a high p-MRR too."""
    table = source.study.table
    parts: list[Part] = []
    margins = dict(source.tested.plan.margins)
    margin = margins.get(NDCG, margins.get(""))
    rows: list[tuple[object, ...]] = []
    known = {cell.measure for cell in table.cells}
    for cell in table.cells:
        if cell.measure != P_MRR or cell.condition != "changed" or cell._replace(measure=NDCG) not in table.cells:
            continue
        pairs = {name: over(table, (cell.dataset,), cell.condition, cell.direction, name) for name in (NDCG, P_MRR)}
        points = [
            Point(
                arm,
                tuple(zip(*(map(float, seed_means(target.blocks()[arm])) for target in pairs.values()), strict=True)),
                _blind(table, cell, arm),
            )
            for arm in source.arms
            if all(arm in target.blocks() for target in pairs.values())
        ]
        if not points:
            continue
        means = [tuple(fmean(values) for values in zip(*point.seeds, strict=True)) for point in points]
        lost = means[0][0] - margin if margin is not None and points[0].name == source.baseline else None
        names = (f"{NDCG} ({posed(cell)})", f"p-MRR ({posed(cell)})")
        said = (
            f" Left of the dashed line nDCG is below that of {source.baseline} by more than the margin, {margin:g}."
            if lost is not None
            else ""
        )
        title = f"p-MRR and nDCG on {cell.dataset or 'the data set'}"
        parts.append(
            Figure(
                f"collapse_{len(parts) + 1}",
                f"{title} ({posed(cell)}): large points are arms, small ones their seeds.{said}",
                pair_of_measures(points, names, title, lost=lost),
            )
        )
        rows += [
            (point.name, cell.dataset, posed(cell), len(point.seeds), *mean, point.blind)
            for point, mean in zip(points, means, strict=True)
        ]
    if not parts:
        return None
    fields = (
        Field("arm", "arm"),
        Field("dataset", "data set"),
        Field("posed", "posed"),
        Field("seeds", "S", count, True),
        Field("ndcg", NDCG, number, True),
        Field("pmrr", "p-MRR", number, True),
        Field("ndcg_blind", f"{NDCG} ignoring it", number, True),
    )
    lead = (
        "p-MRR rises when documents that the changed instruction excludes fall, and also when all documents fall. Up "
        "and to the right is obedience; up and to the left is collapse. A ring is the same arm where it ignores the "
        "instruction: p-MRR 0, and the nDCG of its plain queries judged under the instruction."
    )
    grid = Grid("collapse", "Means over seeds and units", fields, tuple(rows))
    measures = [word for name in (P_MRR, NDCG, INSTRUCTION_GAIN) if name in known for word in ("--measure", name)]
    words = ("--baseline", source.baseline, "--condition", "changed", *measures)
    command = source.command("significance", *words)
    return Section("collapse", "p-MRR beside nDCG", (lead, *parts, grid), command, "Collapse")


def _blind(table: ScoreTable, cell: Cell, arm: str) -> float | None:
    """Return the nDCG that an arm would have where it ignores the instruction: its own less its instruction gain.

    None where the gain was not measured for the same queries.
    """
    own = table.cells[cell._replace(measure=NDCG)]
    gain = table.cells.get(cell._replace(measure=INSTRUCTION_GAIN))
    if gain is None or gain.units != own.units or arm not in gain.values_SQ:
        return None
    return float(own.values_SQ[arm].mean() - gain.values_SQ[arm].mean())


def dose(source: Source) -> Section | None:
    """Return gains over doses of label noise with their line, where arms differ in that alone."""
    study = source.study
    try:
        doses = doses_of(study.evidence.runs)
        reference = reference_of_doses(study.evidence.runs, doses, source.baseline)
        check_doses(doses, reference)
    except UserError:
        return None
    drawn_at = source.places or source.main_places[:2]
    there = [target for target in drawn_at if {reference, *doses} <= set(target.blocks())]
    trained = [arm for arm in (reference, *doses) if arm not in study.deterministic]
    if not there or any(len(study.table.seeds[arm]) < 2 for arm in trained):
        return None
    parts: list[Part] = []
    fitted = []
    for place, target in enumerate(there, start=1):
        options = Options(deterministic=study.deterministic & set(target.blocks()))
        line = dose_line(target.blocks(), doses, reference, options)
        gains = [Dose(arm, line.doses[arm], gain.estimate, gain.ci) for arm, gain in line.gains.items()]
        names = ("share of twins with wrong labels", f"gain in {target.cell.measure}")
        title = f"Gain over {reference} by dose of label noise: {target.cell}"
        drawn = dose_plot(gains, (line.constant.estimate, line.polarity.estimate), names, title)
        parts.append(Figure(f"dose_{place}", f"{title}.{_in_words(line)}", drawn))
        fitted += _lines(target, line)
    fields = (
        Field("place", "place"),
        Field("part", "part of the gain"),
        Field("estimate", "estimate", signed, True),
        Field("", "95 % interval", interval, True),
        Field("ci_low", ""),
        Field("ci_high", ""),
        Field("p", "p", probability, True),
    )
    lead = (
        "gain(δ) = c + E (1 − 2 δ), δ the share of wrong twins: c is what texts and their diversity buy whatever the "
        "labels say, E what right labels buy beyond it."
    )
    grid = Grid("dose", "The line", fields, tuple(fitted))
    command = source.command("dose_response", "--reference", reference)
    return Section("dose", "What wrong labels cost", (lead, *parts, grid), command, "Doses")


def breakdown(source: Source) -> Section | None:
    """Return the claims by kinds of cluster, and without the cluster that carries most, where units have clusters."""
    table = source.study.table
    if not source.judged or not any(scores.clusters for scores in table.cells.values()):
        return None
    asked = [asked_by(judged.claim, table) for judged in source.judged if not judged.withdrawn]
    testable = [item for item in asked if not untestable(table, item, source.tested.plan)]
    if not testable:
        return None
    found = break_down(testable, Options(deterministic=source.study.deterministic))
    tables = breakdown_tables(found, f"study {source.study.evidence.study}")
    parts = [
        grid_of(f"breakdown_{place}", made, folded=len(made.rows) > 12) for place, made in enumerate(tables, start=1)
    ]
    return Section("breakdown", "By kind of query", tuple(parts), source.command("breakdown"), "Kinds")


def _in_words(line: DoseLine) -> str:
    return minus(f" {line.fit.in_words(line.constant.alpha)}.") if line.fit else ""


def _lines(target: Target, line: DoseLine) -> list[tuple[object, ...]]:
    def values(estimate: Estimate) -> tuple[object, ...]:
        return (estimate.estimate, estimate.ci, *estimate.ci, estimate.p)

    return [
        (str(target.cell), "c: texts and diversity", *values(line.constant)),
        (str(target.cell), "E: right labels beyond it", *values(line.polarity)),
    ]
