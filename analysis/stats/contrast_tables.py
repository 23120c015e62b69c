"""Contrast rows for readers and for machines: the significance table, what stands beside it, JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ablate.tables import Column, Table, number, probability, to_csv
from analysis.stats.clusters import EXPLORATORY_BELOW
from analysis.stats.contrast import ContrastRow, plural, tost_level
from analysis.stats.crossed import Estimate
from analysis.stats.families import Plan
from analysis.stats.matrix import ScoreTable
from analysis.stats.populations import new_clusters, replication

_FLAT = (
    "contrast",
    "dataset",
    "condition",
    "direction",
    "measure",
    "unit",
    "n_units",
    "estimate",
    "se",
    "df",
    "p",
    "p_holm",
    "q_bh",
    "family_size",
    "ci_low",
    "ci_high",
    "level",
    "v_seed",
    "v_query",
    "v_resid",
    "share_seed",
    "margin",
    "tost_ci_low",
    "tost_ci_high",
    "tost_level",
    "tost_p",
    "tost_p_holm",
    "degenerate",
    "status",
    "smallest_detectable",
    "relative_change",
    "standardised",
    "p_new_wins",
    "win",
    "tie",
    "loss",
    "seeds",
    "means",
    "p_these_checkpoints",
    "p_sign_flip",
    "p_this_query_set",
    "clusters",
    "population",
    "differs",
    "also_changed",
    "mark",
)


def main_table(table: ScoreTable, rows: Sequence[ContrastRow], plan: Plan) -> Table:
    """Return the significance table for readers."""
    level = f"{percent(1 - plan.options.alpha)} interval"
    holm_name = "Holm p" if plan.correction == "holm" else "q (BH, exploratory)"
    with_margin = any(row.margin is not None for row in rows)
    differs = any(row.label in table.differs for row in rows)
    marks = any(row.label in table.marks for row in rows)
    columns = [
        Column("contrast"),
        *([Column("differs in")] if differs else []),
        Column("data set"),
        Column("condition"),
    ]
    columns += [Column("measure"), Column("units", "r"), Column("S"), Column("means")]
    columns += [Column(name, "r") for name in ("difference", level, "df", "seed share", "p", holm_name)]
    tost_name = f"{percent(1 - 2 * plan.options.alpha)} interval (TOST)"
    columns += [Column(tost_name, "r"), Column("TOST p", "r")] if with_margin else []
    columns += [Column("win/tie/loss", "r"), Column("detectable", "r"), Column("status")]
    columns += [Column("mark")] if marks else []
    lines = []
    for row in rows:
        result = row.result
        cells = [row.label]
        cells += [table.differs.get(row.label, "")] if differs else []
        cells += [
            row.cell.dataset,
            _posed(row.cell.condition, row.cell.direction),
            row.cell.measure,
            f"{row.num_units:,}",
            _seeds(row),
            _means(row),
        ]
        cells += [number(result.estimate), interval(result.ci)]
        cells += [number(result.df, 1), "–" if result.share_seed is None else f"{result.share_seed:.0%}"]
        cells += [probability(result.p), probability(row.p_holm if plan.correction == "holm" else row.q_bh)]
        cells += (
            [interval(row.tost_ci) if row.margin is not None else "–", probability(row.tost_p)] if with_margin else []
        )
        cells += [f"{row.wins}/{row.ties}/{row.losses}", number(row.smallest_detectable), row.status]
        cells += [table.marks.get(row.label, "")] if marks else []
        lines.append(tuple(cells))
    title = f"Contrasts of {table.source}" + (f" ({table.mark})" if table.mark else "")
    return Table(title, tuple(columns), tuple(lines), _notes(table, rows, plan))


def interval(ends: tuple[float, float]) -> str:
    """Return an interval as it stands in a table."""
    return f"[{number(ends[0])}, {number(ends[1])}]"


def percent(level: float) -> str:
    """Return the level of an interval as it stands in a table."""
    return f"{100 * level:.4g} %"


def two_digits(value: float | None) -> str:
    """Return a correlation or a ratio as it stands in a table."""
    return "–" if value is None else f"{value:.2f}"


def _posed(condition: str, direction: str) -> str:
    return condition if direction in ("", condition) else f"{condition}: {direction}"


def _seeds(row: ContrastRow) -> str:
    counts = list(row.num_seeds.values())
    return str(counts[0]) if len(set(counts)) == 1 else ", ".join(f"{a} {n}" for a, n in row.num_seeds.items())


def _means(row: ContrastRow) -> str:
    return ", ".join(f"{arm} {number(mean)}" for arm, mean in row.means.items())


def _notes(table: ScoreTable, rows: Sequence[ContrastRow], plan: Plan) -> tuple[str, ...]:
    options = plan.options
    if options.estimand == "these_checkpoints":
        test = "Paired t over units of seed-averaged scores: a claim about these checkpoints only."
    else:
        spread = "of the family, pooled" if options.seed_variance == "family" else "of each arm"
        seeds = "matched seeds" if options.matched else f"seed variance {spread}"
        test = (
            f"Crossed test over training seeds and units ({seeds}); S seeds per arm; seed share: part of the variance "
            "that only more seeds reduce."
        )
    if plan.correction == "holm":
        family = _family_note(rows, plan)
    else:
        family = f"Benjamini–Hochberg over {len(rows)} exploratory slices: no claim."
    notes = [
        test,
        family,
        f"detectable: smallest difference found with power {plan.power:g}; p above {options.alpha:g} is not equality.",
    ]
    varied: dict[str, list[str]] = {}
    for arm in dict.fromkeys(arm for row in rows for arm, weight in row.weights.items() if weight != 0):
        if arm in table.seed_varies:
            varied.setdefault(table.seed_varies[arm], []).append(arm)
    if varied:
        shown = "; ".join(f"{', '.join(arms)}: {what}" for what, arms in varied.items())
        notes.append(f"What a seed varies: {shown}.")
    margins = {row.margin for row in rows if row.margin is not None}
    if margins:
        shown = ", ".join(f"{margin:g}" for margin in sorted(margins))
        notes.append(
            f"TOST: two one-sided tests of equivalence within a margin declared beforehand ({shown}); p is below "
            f"{options.alpha:g} where the TOST interval lies within the margin."
        )
    if options.deterministic:
        notes.append(f"Declared without training randomness: {', '.join(sorted(options.deterministic))}.")
    if any(row.status == "exploratory" for row in rows):
        few = f", fewer than {EXPLORATORY_BELOW} clusters" if any(row.clusters for row in rows) else ""
        late = "slices that were not declared" if plan.declared is None else "not declared before the results"
        notes.append(f"exploratory: fewer than 5 seeds in a trained arm{few}, or {late}.")
    for row in rows:
        if row.lack_of_fit is not None:
            notes.append(f"{row.label}, {row.cell}: {row.lack_of_fit.in_words(options.alpha)}.")
        if row.cell.measure == "p-MRR" and not row.guards:
            notes.append(f"{row.label}, {row.cell}: there is no nDCG beside p-MRR, so a loss of it cannot be seen.")
        if row.without_gain:
            arms = ", ".join(row.without_gain)
            notes.append(f"{row.label}, {row.cell}: no instruction gain of {arms}, so a collapse cannot be seen.")
        if 2.0 ** (1 - row.num_units) > options.alpha:
            notes.append(
                f"{row.label}, {row.cell}: with {row.num_units} units a sign flip cannot reach {options.alpha:g}."
            )
    return tuple(notes)


def _family_note(rows: Sequence[ContrastRow], plan: Plan) -> str:
    if plan.declared is None or not plan.declared.size:
        over = f"Holm's correction over the family of all {len(rows)} contrasts shown."
        return over if plan.declared is None else f"{over} Nothing was declared beforehand: no row is confirmatory."
    num_outside = sum(not row.is_declared for row in rows)
    others = (
        "contrast shown that was not declared is" if num_outside == 1 else "contrasts shown that were not declared are"
    )
    beside = f"; {num_outside} {others} a family of their own" if num_outside else ""
    return f"Holm's correction over the family of {plan.declared.size} declared claims{beside}."


def clusters_table(rows: Sequence[ContrastRow]) -> Table:
    """Return what clusters of units change: how alike their units are, and what that does to the standard error."""
    columns = (
        Column("contrast"),
        Column("where"),
        Column("kind"),
        Column("clusters", "r"),
        Column("ICC", "r"),
        Column("SE over units", "r"),
        Column("SE over clusters", "r"),
        Column("design effect", "r"),
    )
    lines: list[tuple[str, ...]] = []
    notes = ["The test is over new clusters: units of one cluster (one wording, one kind of constraint) vary together."]
    for row in rows:
        clusters = row.clusters
        for kind, known in {} if clusters is None else clusters.kinds.items():
            cells = (row.label, str(row.cell), kind, f"{known.num_clusters:,}", two_digits(known.icc))
            lines.append((*cells, number(known.plain_se), number(known.se), two_digits(known.design_effect)))
        if clusters is not None and len(clusters.kinds) > 1:
            cells = (row.label, str(row.cell), " and ".join(clusters.kinds), f"{clusters.num_clusters:,}", number(None))
            parts = (clusters.plain.se, clusters.estimate.se)
            lines.append((*cells, *map(number, parts), two_digits(clusters.design_effect)))
            notes = [notes[0], "Of two kinds, clusters are those of the kind with fewer."]
    return Table("Clusters of units", columns, tuple(lines), tuple(notes))


def clusters_in_words(row: ContrastRow) -> str:
    """Return the population of a row over new clusters, with ICC, design effect and number of clusters."""
    clusters = row.clusters
    assert clusters is not None
    icc = ", ".join(f"{kind} {two_digits(known.icc)}" for kind, known in clusters.kinds.items())
    effect = two_digits(clusters.design_effect)
    return f"Population: other {plural(row.unit)} over {new_clusters(clusters)} (ICC {icc}; design effect {effect})"


def opinions_table(rows: Sequence[ContrastRow]) -> Table:
    """Return the second opinions beside the test, and which population each claim covers."""
    columns = (
        Column("contrast"),
        Column("where"),
        Column("crossed p", "r"),
        Column("these checkpoints: paired t p", "r"),
        Column("sign flip p", "r"),
        Column("this query set: Welch over seeds p", "r"),
        Column("d", "r"),
        Column("P(new beats new)", "r"),
        Column("what the claim covers"),
    )
    lines = tuple(
        (
            row.label,
            str(row.cell),
            probability(row.result.p),
            probability(row.checkpoints.p),
            probability(row.p_sign_flip),
            probability(row.query_set.p if row.query_set else None),
            number(row.standardised, 2),
            "–" if row.p_new_wins is None else f"{row.p_new_wins:.2f}",
            row.population,
        )
        for row in rows
    )
    return Table("Second opinions and what each claim covers", columns, lines)


def beside_table(rows: Sequence[ContrastRow]) -> Table:
    """Return the non-inferiority of nDCG beside every p-MRR contrast."""
    columns = (
        Column("contrast"),
        Column("p-MRR"),
        Column("beside it"),
        Column("difference", "r"),
        Column("interval", "r"),
        Column("level", "r"),
        Column("one-sided p", "r"),
        Column("verdict"),
    )
    lines = []
    for row in rows:
        for guard in row.guards:
            cells = (row.label, str(row.cell), str(guard.cell), number(guard.estimate.estimate), interval(guard.ci))
            lines.append((*cells, percent(tost_level(guard.estimate)), probability(guard.p), guard.verdict))
    note = "p-MRR rises when every document falls, which nDCG shows: no p-MRR claim without it."
    return Table("nDCG beside p-MRR", columns, tuple(lines), (note,))


def replication_table(rows: Sequence[ContrastRow], alpha: float) -> Table:
    """Return, for contrasts on several data sets, on how many the effect is there and the signs."""
    columns = (Column("contrast"), Column("condition"), Column("measure"), Column("there on at least", "r"))
    lines = [
        (
            replicated["contrast"],
            _posed(replicated["condition"], replicated["direction"]),
            replicated["measure"],
            f"{replicated['replicated_on']} of {replicated['of']}",
            ", ".join(f"{n} {sign}" for n, sign in replicated["signs"].items()),
        )
        for replicated in replication(rows, alpha)
    ]
    note = f"Partial conjunction at {alpha:g}, Bonferroni's form; these data sets, no claim about data sets in general."
    return Table("Replication over data sets", (*columns, Column("signs")), tuple(lines), (note,))


def remarks_table(table: ScoreTable) -> Table:
    """Return what stands against contrasts and arms, what else they change, and what was asked for and not tested."""
    also = tuple((label, "also changed", text) for label, text in table.also_changed.items() if text)
    notes = ("also changed: a rival explanation of the difference, unless the switch implies it.",) if also else ()
    return above_table(f"the contrasts of {table.source}", (*table.remarks, *also), notes)


def above_table(what: str, remarks: Sequence[tuple[str, str, str]], notes: tuple[str, ...] = ()) -> Table:
    """Return remarks (contrast or arm, mark, why) on what is going to be read."""
    columns = (Column("contrast or arm"), Column("mark"), Column("why"))
    return Table(f"What to know before reading {what}", columns, tuple(remarks), notes)


def all_tables(table: ScoreTable, rows: Sequence[ContrastRow], plan: Plan) -> list[Table]:
    """Return the remarks if there are any, the significance table, the second opinions, and what else has rows."""
    above = [remarks_table(table)] if table.remarks or any(table.also_changed.values()) else []
    further = [clusters_table(rows), beside_table(rows), replication_table(rows, plan.options.alpha)]
    return [
        *above,
        main_table(table, rows, plan),
        opinions_table(rows),
        *(further_table for further_table in further if further_table.rows),
    ]


def _estimate(result: Estimate) -> dict[str, Any]:
    return {"estimate": result.estimate, "se": result.se, "df": result.df, "p": result.p, "ci": list(result.ci)}


def row_record(table: ScoreTable, row: ContrastRow) -> dict[str, Any]:
    """Return a row as plain values for JSON."""
    result = row.result
    return {
        "contrast": row.label,
        "weights": dict(row.weights),
        "dataset": row.cell.dataset,
        "condition": row.cell.condition,
        "direction": row.cell.direction,
        "measure": row.cell.measure,
        "unit": row.unit,
        "n_units": row.num_units,
        "seeds": dict(row.num_seeds),
        "means": dict(row.means),
        "seed_means": {arm: list(means) for arm, means in row.seed_means.items()},
        "seed_varies": {arm: table.seed_varies[arm] for arm in row.weights if arm in table.seed_varies},
        "differs": table.differs.get(row.label),
        "also_changed": table.also_changed.get(row.label),
        "mark": table.marks.get(row.label),
        **_estimate(result),
        "p_holm": row.p_holm,
        "q_bh": row.q_bh,
        "family_size": row.family_size,
        "v_seed": result.v_seed,
        "v_query": result.v_query,
        "v_resid": result.v_resid,
        "share_seed": result.share_seed,
        "margin": row.margin,
        "level": 1 - result.alpha,
        "tost_ci": list(row.tost_ci) if row.margin is not None else None,
        "tost_level": tost_level(result) if row.margin is not None else None,
        "tost_p": row.tost_p,
        "tost_p_holm": row.tost_p_holm,
        "degenerate": result.degenerate,
        "status": row.status,
        "smallest_detectable": row.smallest_detectable,
        "relative_change": row.relative_change,
        "standardised": row.standardised,
        "p_new_wins": row.p_new_wins,
        "win": row.wins,
        "tie": row.ties,
        "loss": row.losses,
        "these_checkpoints": {**_estimate(row.checkpoints), "p_sign_flip": row.p_sign_flip},
        "this_query_set": _estimate(row.query_set) if row.query_set else None,
        "beside": [
            {
                "cell": guard.cell._asdict(),
                **_estimate(guard.estimate),
                "margin": guard.margin,
                "p_noninferior": guard.p,
                "verdict": guard.verdict,
            }
            for guard in row.guards
        ],
        "clusters": None
        if row.clusters is None
        else {
            "number": row.clusters.num_clusters,
            "design_effect": row.clusters.design_effect,
            "se_over_units": row.clusters.plain.se,
            "kinds": {
                name: {
                    "number": kind.num_clusters,
                    "icc": kind.icc,
                    "se": kind.se,
                    "design_effect": kind.design_effect,
                }
                for name, kind in row.clusters.kinds.items()
            },
        },
        "collapses": [
            {
                "arm": collapsed.arm,
                "cell": collapsed.cell._asdict(),
                "verdict": collapsed.verdict,
                "p_mrr": collapsed.p_mrr._asdict(),
                "instruction_gain": collapsed.gain._asdict(),
            }
            for collapsed in row.collapses
        ],
        "without_gain": list(row.without_gain),
        "lack_of_fit": None if row.lack_of_fit is None else row.lack_of_fit._asdict(),
        "population": row.population,
    }


def report_record(table: ScoreTable, rows: Sequence[ContrastRow], plan: Plan) -> dict[str, Any]:
    """Return the whole table as plain values for JSON."""
    options = plan.options
    return {
        "source": table.source,
        "alpha": options.alpha,
        "estimand": options.estimand,
        "matched": options.matched,
        "seed_variance": options.seed_variance,
        "deterministic": sorted(options.deterministic),
        "margins": dict(plan.margins),
        "correction": plan.correction,
        "family_size": len(rows),
        "declared_family_size": None if plan.declared is None else plan.declared.size,
        "mark": table.mark,
        "remarks": [dict(zip(("contrast", "mark", "why"), remark, strict=True)) for remark in table.remarks],
        "contrasts": [row_record(table, row) for row in rows],
        "replication": replication(rows, options.alpha),
    }


def rows_csv(table: ScoreTable, rows: Sequence[ContrastRow]) -> str:
    """Return the rows as CSV with all digits."""
    lines = []
    for row in rows:
        record = row_record(table, row)
        low, high = record["ci"]
        record |= {"ci_low": low, "ci_high": high, "p_sign_flip": row.p_sign_flip}
        record["tost_ci_low"], record["tost_ci_high"] = record["tost_ci"] or (None, None)
        record |= {
            "p_these_checkpoints": row.checkpoints.p,
            "p_this_query_set": row.query_set.p if row.query_set else None,
        }
        for name in ("seeds", "means", *(("clusters",) if row.clusters else ())):
            record[name] = json.dumps(record[name], ensure_ascii=False)
        lines.append(record)
    return to_csv(_FLAT, lines)
