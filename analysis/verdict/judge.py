"""The declared claims of a study judged: was each declared before its results, and what does its test say?"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ablate.records import UserError
from ablate.store.manifest import Manifest
from ablate.study.declaration import MACRO, Claim, Study
from ablate.tables import number
from analysis.stats.asked import Asked, Target, over
from analysis.stats.clusters import EXPLORATORY_BELOW
from analysis.stats.contrast import ContrastRow
from analysis.stats.contrast_rows import CONFIRMATORY_SEEDS, contrast_rows
from analysis.stats.contrast_tables import clusters_in_words
from analysis.stats.corrections import holm
from analysis.stats.crossed import Options
from analysis.stats.families import Plan
from analysis.stats.grouping import num_together
from analysis.stats.matrix import Cell, ScoreTable
from analysis.study.declared import Declaration, claim_weights
from analysis.study.evidence import Evidence
from analysis.study.fairness import Check
from analysis.study.opened import OpenStudy, untestable
from analysis.study.runs import ArmRun
from analysis.verdict.declarable import MOST_ALPHA, direction_of
from analysis.verdict.fresh import Fresh, fresh
from analysis.verdict.rule import UNDECIDED, Level, Ruling, claim_p, first_of, rule


@dataclass(frozen=True)
class Judged:
    """A claim with its test and its verdict."""

    claim: Claim
    withdrawn: bool
    """Declared when runs were made, and no longer in the current declaration."""
    row: ContrastRow | None
    """None where there is nothing to test."""
    tested: bool
    """False where an estimate is there and no test of the method: a trained arm of one seed."""
    p: float | None
    p_holm: float | None
    level: Level
    ruling: Ruling
    would_be: str
    """The verdict but for EXPLORATORY."""
    exploratory: str = ""
    """Why it is EXPLORATORY; empty where it is not."""
    fresh: Fresh | None = None
    """What of its evidence is new under its declaration; None where there is nothing to test."""


@dataclass(frozen=True)
class Judgement:
    """All claims of a study."""

    declared: Declaration
    table: ScoreTable
    claims: tuple[Judged, ...]
    checks: Sequence[Check]
    study: str
    also_changed: Mapping[str, str]
    """Contrast of a claim that can be looked at -> in what else than its switch its mixes differ, empty for nothing."""
    remarks: tuple[tuple[str, str, str], ...] = ()
    """(arm, mark, why) of what stands above the claims: collapses of their arms, and where none can be seen."""


def judge(study: OpenStudy) -> Judgement:
    """Return a verdict on every claim of the study's declaration, and on those withdrawn from it.

    The family is all of them. Raises UserError for an unknown study and one without a declaration.
    """
    evidence = study.evidence
    declared = evidence.declared
    if declared is None:
        raise UserError(
            f"study {evidence.study!r} has no declaration under {evidence.store.root}; give the file that declares it: "
            f"--declared sweeps/{evidence.study}.yaml"
        )
    checks, table = study.checks, study.table
    withdrawn = withdrawn_claims(evidence)
    free = study.deterministic
    claims = [*declared.study.claims, *withdrawn]
    drafts = [_test(table, claim, declared.study, free) for claim in claims]
    adjusted = holm([1.0 if p is None else p for _, p, _ in drafts])
    judged = []
    for claim, (row, p, why), p_holm in zip(claims, drafts, adjusted, strict=True):
        level = Level(_alpha(claim, declared.study), len(claims))
        is_withdrawn = claim in withdrawn
        if row is None:
            ruling = Ruling(UNDECIDED, why)
            judged.append(Judged(claim, is_withdrawn, None, False, None, None, level, ruling, UNDECIDED))
            continue
        reasons = ["it was withdrawn: the current declaration has it no longer"] if is_withdrawn else []
        exploratory = "; ".join([*reasons, *exploratory_reasons(study, claim, row.weights)])
        said = rule(claim, row, p_holm, level) if p is not None else Ruling(UNDECIDED, why)
        if p is not None and row.lack_of_fit is not None:
            said = Ruling(said.verdict, f"{said.reason.rstrip('.')}. {row.lack_of_fit.in_words(level.alpha)}")
        if row.clusters is not None:
            said = Ruling(said.verdict, f"{said.reason.rstrip('.')}. {clusters_in_words(row)}")
        ruling, would_be = first_of(said, exploratory, study.against(row.weights))
        shown = p_holm if p is not None else None
        new = fresh(evidence, claim, row.weights)
        judged.append(
            Judged(claim, is_withdrawn, row, p is not None, p, shown, level, ruling, would_be, exploratory, new)
        )
    arms = {arm for verdict in judged if verdict.row is not None for arm in verdict.row.weights}
    remarks = tuple(study.collapse_remarks(arms))
    also = {verdict.claim.contrast: study.also_changed(verdict.row.weights) for verdict in judged if verdict.row}
    return Judgement(declared, table, tuple(judged), checks, evidence.study, also, remarks)


def withdrawn_claims(evidence: Evidence) -> list[Claim]:
    """Return the claims that runs were trained or measured under and that the current declaration has no longer."""
    current = frozenset(() if evidence.declared is None else evidence.declared.study.claims)
    stood = {stage.declared for run in evidence.runs for stage in run.stages if stage.kind != "mix"}
    earlier = [
        c for declaration in evidence.declarations if declaration.digest in stood for c in declaration.study.claims
    ]
    return [claim for claim in dict.fromkeys(earlier) if claim not in current]


def exploratory_reasons(study: OpenStudy, claim: Claim, arms: Collection[str]) -> list[str]:
    """Return why a claim over some arms is exploratory: declared too late, other seeds than declared, few clusters.

    Raises UserError for a claim whose place or clusters are not there.
    """
    assert study.evidence.declared is not None
    declared, free = study.evidence.declared.study, study.deterministic
    runs = study.evidence.runs_of(arms)
    trained = [run for run in runs if run.arm not in free]  # BM25 may have been measured long before
    seeds = {arm: arm_seeds for arm, arm_seeds in _seeds(runs).items() if arm not in free}
    loose = f"its alpha is {claim.alpha:g}, and above {MOST_ALPHA:g} nothing is confirmed"
    return [
        *([loose] if claim.alpha > MOST_ALPHA else []),
        *late(study, claim, trained or runs),
        *seeds_reasons(declared, seeds),
        *_few_clusters(claim, place_of(study.table, claim)),
    ]


def _few_clusters(claim: Claim, place: Target) -> list[str]:
    """Return that clusters of the population of a claim are too few to confirm it, where they are."""
    counts = {kind: num_together(groups) for kind, groups in place.groupings(claim.population).items()}
    few = [f"{count} of {kind}" for kind, count in counts.items() if count < EXPLORATORY_BELOW]
    return [f"fewer than {EXPLORATORY_BELOW} clusters ({_few(few)})"] if few else []


def confirming_looks(study: Study) -> tuple[int, ...]:
    """Return the looks that share the alpha: at fewer than five seeds nothing is confirmed, so those take none."""
    return tuple(look for look in study.looks or (len(study.seeds),) if look >= CONFIRMATORY_SEEDS)


def _alpha(claim: Claim, study: Study) -> float:
    return claim.alpha / max(1, len(confirming_looks(study)))


def _test(
    table: ScoreTable, claim: Claim, study: Study, deterministic: frozenset[str]
) -> tuple[ContrastRow | None, float | None, str]:
    """Return the row of a claim, its p, and why one of them is lacking."""
    margins = dict(study.margins)
    if claim.margin is not None:
        margins[claim.measure] = claim.margin
    options = Options(deterministic=deterministic, alpha=_alpha(claim, study))
    try:
        asked = asked_by(claim, table)
        asked.groupings()
    except UserError as error:
        return None, None, str(error)
    plan = Plan(options, margins)
    why = untestable(table, asked, plan)
    if not why:
        (row,) = contrast_rows(table, [asked], plan)
        return row, claim_p(claim, row.result), ""
    if any(arm not in asked.target.blocks() for arm in asked.weights):
        return None, None, why
    (row,) = contrast_rows(table, [asked], Plan(dataclasses.replace(options, estimand="these_checkpoints"), margins))
    return row, None, f"{why} (of these checkpoints the difference is {number(row.result.estimate)})"


def asked_by(claim: Claim, table: ScoreTable) -> Asked:
    """Return the contrast of a claim at its place, over its population; raises UserError for arms without scores."""
    return Asked(claim.contrast, claim_weights(claim, table.arms), place_of(table, claim), claim.population)


def place_of(table: ScoreTable, claim: Claim) -> Target:
    """Return where a claim is looked at; raises UserError where the scores have no such place, or several."""
    direction = direction_of(claim, table.cells)
    wanted = Cell(claim.dataset, claim.condition, direction, claim.measure)
    datasets = tuple(cell.dataset for cell in table.cells if cell == wanted._replace(dataset=cell.dataset))
    datasets = datasets if claim.dataset == MACRO else (claim.dataset,)
    return over(table, datasets, claim.condition, direction, claim.measure)


def late(study: OpenStudy, claim: Claim, runs: Sequence[ArmRun]) -> list[str]:
    """Return why a claim was not declared before the results: the runs that did not stand under it, as it is now.

    Training and scores of a run must both stand under it, and its model must not have been measured under another
    declaration, in whatever study. The looks, and for p-MRR the margins of its guards, belong to a claim. Raises
    UserError for a study without a declaration.
    """
    evidence = study.evidence
    assert evidence.declared is not None
    current = evidence.declared.study
    known = {declaration.digest: declaration for declaration in evidence.declarations}
    holding = evidence.declared_in(claim)
    wrong: dict[str, list[str]] = {}
    for run in runs:
        why = _late(claim, current, run.evaluation, known, holding)
        if run.train is not None:
            why = why or _late(claim, current, run.train, known, holding) or _seen(evidence, run, holding)
        if why:
            wrong.setdefault(why, []).append(f"{run.arm} seed {run.seed}")
    return [f"{why}: {len(late_runs)} of {len(runs)} runs ({_few(late_runs)})" for why, late_runs in wrong.items()]


def _late(
    claim: Claim, current: Study, stage: Manifest, known: Mapping[str, Declaration], holding: Collection[str]
) -> str:
    """Return why a claim was declared after a stage was made, or nothing.

    `known`: stored declarations by digest; `holding`: digests of those that have the claim.
    """
    is_training = stage.kind == "train"
    if not stage.declared:
        return "trained without any declaration" if is_training else "results were there without any declaration"
    under = known.get(stage.declared)
    if under is None:
        what = "trained" if is_training else "results stood"
        return f"{what} under a declaration that is not stored ({stage.declared})"
    if stage.declared not in holding:
        before = "trained before the claim was declared, or changed since"
        return before if is_training else "declared after results, or changed since"
    looks = confirming_looks(current)
    if confirming_looks(under.study) != looks or (not looks and len(under.study.seeds) != len(current.seeds)):
        return "the declared numbers of seeds were changed after results"
    if claim.measure == "p-MRR" and dict(under.study.margins) != dict(current.margins):
        return "the margins of nDCG were changed after results"
    if _time(under.declared_at) > _time(stage.finished):
        return "the declaration is younger than results"
    return ""


def _seen(evidence: Evidence, run: ArmRun, holding: Collection[str]) -> str:
    """Return where the model of a run was measured before it was under a claim, or nothing.

    The evaluation is no part of a declaration, so what was seen of a model can choose how it is measured. `holding`:
    digests of the stored declarations that have the claim. A model that was measured under these alone, as most are,
    has no other evaluation to look at.
    """
    others = [] if evidence.measured_under(run).issubset(holding) else evidence.same_model(run)
    for other in others:
        if other.declared in holding:
            continue
        if _time(other.finished) <= _time(run.evaluation.finished):
            studies = dict.fromkeys(label.partition("/")[0] for label in other.labels)
            how = "under another declaration" if other.declared else "without any declaration"
            return f"the model had been measured before {how} (study {', '.join(studies)})"
    return ""


def _time(text: str) -> datetime.datetime:
    """Return a time of a record; raises UserError when it is none."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{text!r} in the results is no time; write ISO 8601, 2026-01-31T12:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _seeds(runs: Sequence[ArmRun]) -> dict[str, list[int]]:
    seeds: dict[str, list[int]] = {}
    for run in runs:
        seeds.setdefault(run.arm, []).append(run.seed)
    return seeds


def seeds_reasons(study: Study, seeds: Mapping[str, Sequence[int]]) -> list[str]:
    """Return what is wrong with the seeds of trained arms: too few, no declared look, or others than declared."""
    reasons = []
    few = [f"{arm} {len(arm_seeds)}" for arm, arm_seeds in seeds.items() if len(arm_seeds) < CONFIRMATORY_SEEDS]
    if few:
        reasons.append(f"fewer than {CONFIRMATORY_SEEDS} seeds ({_few(few)})")
    looks = study.looks or (len(study.seeds),)
    off = [f"{arm} {len(arm_seeds)}" for arm, arm_seeds in seeds.items() if len(arm_seeds) not in looks]
    if off:
        reasons.append(f"not at a declared look of {' or '.join(map(str, looks))} seeds ({_few(off)})")
    other = [arm for arm, arm_seeds in seeds.items() if set(arm_seeds) != set(study.seeds[: len(arm_seeds)])]
    if other and not off:
        reasons.append(f"the seeds of {_few(other)} are not the first ones declared")
    if len({len(arm_seeds) for arm_seeds in seeds.values()}) > 1 and not off:
        reasons.append("the arms are at different looks")
    return reasons


def _few(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
