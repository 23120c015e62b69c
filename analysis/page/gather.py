"""Everything that a report says of a study, gathered into one record."""

from __future__ import annotations

from ablate.study.declaration import QUERIES
from ablate.tables import probability
from analysis.page import contrasts, referee, setup, units
from analysis.page.contrasts import tone_of
from analysis.page.labels import AuditRecord
from analysis.page.record import Report, Verdict, interval, signed
from analysis.page.source import Source, seeds_of
from analysis.stats.contrast import plural
from analysis.stats.contrast_tables import percent
from analysis.study.fairness import headline
from analysis.study.opened import OpenStudy
from analysis.verdict.claims_tables import claim_name, claims_csv, claims_table, sentence
from analysis.verdict.judge import Judged, Judgement
from analysis.verdict.rule import claim_interval

SECTIONS = (
    referee.referee,
    contrasts.contrasts,
    contrasts.collapse,
    contrasts.dose,
    contrasts.breakdown,
    units.units,
    setup.arms,
    setup.budgets,
    setup.cost,
    setup.losses,
    setup.checks,
    setup.configuration,
    setup.provenance,
)
"""What makes the sections, in the order of the page; None where a study has nothing to say there."""


def gather(study: OpenStudy, results: str, baseline: str | None = None, audits: tuple[AuditRecord, ...] = ()) -> Report:
    """Return the report of a study; `results` is its folder as commands name it, `baseline` an arm with scores.

    Without one the baseline is that of the budgets, of most claims, or the first arm. Raises UserError for an unknown
    study, and for results that cannot be read or tested.
    """
    source = Source(study, results, baseline, audits)
    judgement = source.judgement
    made = [section(source) for section in SECTIONS]
    evidence = study.evidence
    declared = evidence.declared
    return Report(
        study=evidence.study,
        question="" if declared is None else declared.study.question,
        facts=_facts(source),
        failing=tuple(check for check in study.checks if not check.ok),
        headline=headline(study.checks),
        remarks=_remarks(source),
        verdicts=_verdicts(judgement),
        verdict_notes=() if judgement is None else claims_table(judgement).notes[len(judgement.claims) :],
        verdict_command=source.command("claims") if judgement is not None else "",
        sections=tuple(section for section in made if section is not None),
        made_by=source.command(
            "report",
            *(("--baseline", baseline) if baseline else ()),
            *(word for audit in audits for word in ("--audit", audit.place)),
        ),
        claims_csv="" if judgement is None else claims_csv(judgement),
    )


def _facts(source: Source) -> tuple[tuple[str, str], ...]:
    evidence, table = source.study.evidence, source.study.table
    seeds = sorted({len(seeds) for arm, seeds in table.seeds.items() if arm not in source.study.deterministic})
    declared = evidence.declared
    facts = [
        ("arms", str(len(table.arms))),
        ("seeds per trained arm", " to ".join(str(num) for num in dict.fromkeys((seeds[0], seeds[-1]))))
        if seeds
        else None,
        ("data sets", ", ".join(dict.fromkeys(cell.dataset for cell in table.cells))),
        ("units per place", " to ".join(f"{num:,}" for num in _ends([len(s.units) for s in table.cells.values()]))),
        ("baseline", source.baseline),
        ("declared", declared.declared_at[:10] or "in a file") if declared is not None else ("declared", "nothing"),
        ("checks", headline(source.study.checks).removeprefix("fairness: ")),
    ]
    return tuple(fact for fact in facts if fact is not None)


def _ends(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys((min(numbers), max(numbers))))


def _remarks(source: Source) -> tuple[str, ...]:
    if source.judgement is None:
        return ("No claim was declared before these results: nothing here confirms anything.",)
    if not source.judgement.claims:
        return ("The declaration has no claim: nothing here confirms anything.",)
    return tuple(f"{mark}: {arm}: {why}" for arm, mark, why in source.judgement.remarks)


def _verdicts(judgement: Judgement | None) -> tuple[Verdict, ...]:
    if judgement is None:
        return ()
    return tuple(_verdict(judged, judgement.also_changed.get(judged.claim.contrast, "")) for judged in judgement.claims)


def _verdict(judged: Judged, also_changed: str) -> Verdict:
    claim, row, said = judged.claim, judged.row, judged.ruling.verdict
    estimate = evidence = population = ""
    reason = judged.ruling.reason
    if row is not None:
        ends, level = claim_interval(claim, row)
        estimate = f"{signed(row.result.estimate)} {interval(ends)} at {percent(level)}" if judged.tested else ""
        evidence = f"{seeds_of(row)} seeds, {row.num_units:,} {plural(row.unit)}"
        evidence += f", Holm p {probability(judged.p_holm)} over {judged.level.family} claims" if judged.tested else ""
        population = row.population
        covers = population.rstrip(".")
        reason = reason.replace(f" {covers}.", "").removesuffix(covers).rstrip(". ")
    return Verdict(
        name=claim_name(judged),
        says=claim.says,
        verdict=said,
        tone=tone_of(said),
        place=str(row.cell) if row is not None else f"{claim.measure} on {claim.dataset} ({claim.condition})",
        contrast=claim.contrast,
        over=" × ".join(claim.population) or QUERIES,
        also_changed=also_changed,
        expects=claim.expects.replace("_", " ") + (f", margin {claim.margin:g}" if claim.margin is not None else ""),
        estimate=estimate,
        evidence=evidence,
        population=population,
        reason=sentence(reason),
        would_be="" if judged.would_be == said else judged.would_be,
    )
