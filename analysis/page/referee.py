"""The section for a reader who doubts: are the labels right, what else could explain the gains, what was held equal.

Every question is answered in a few words with a figure at most, and says which section or command has all of it. What
a study cannot answer is said with the command that would.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ablate.data.composition import in_words
from ablate.tables import number
from analysis.audit.twins import has_twins
from analysis.page.contrasts import claim_row, dose, forest_figure, panels_of
from analysis.page.forest import ForestRow, Panel
from analysis.page.labels import NO_PAIRS, ArmLabels, arm_labels
from analysis.page.record import Answer, Field, Figure, Grid, Part, Section, Tone, count
from analysis.page.source import Source
from analysis.study.composition import arm_composition
from analysis.study.fairness import Check, headline
from analysis.study.objections import Objector, answered, can_be_made, command_for, objectors
from analysis.study.runs import by_arm
from analysis.study.totals import unmatched
from analysis.verdict.judge import Judged

CHANCE = 0.5
_AUDIT = ("python", "-m", "analysis.inversion_audit")
_AS_A_STUDY = (
    "An arm for each, beside those of this study, as a study of its own (add whatever else the command of this study "
    "had beside its file)"
)
_BY_HAND = (
    "can be made from the source of this study. No file of sweeps/ declares this study as it is, so its command is not "
    "known here: train them with the source, model, train, budget and evaluation keys of its other arms (Values), "
    "whose defaults are those of another world and model."
)
SHORT_CUTS = ("label_from_passage", "label_from_side", "label_from_length")
"""Values of the composition that tell how well a label is told without reading the instruction."""
_TONES: dict[str, Tone] = {"ABOVE": "good", "BELOW": "bad"}


def referee(source: Source) -> Section:
    """Return what stands against the labels and for another explanation, in one place."""
    parts: list[Part] = []
    for answer in ANSWERS:
        parts += answer(source)
    title = "Are the labels right, and could it be something else?"
    return Section("referee", title, tuple(parts), source.command("fairness"), "Objections")


def _labels(source: Source) -> list[Part]:
    """Are the labels of the twins right?"""
    evidence = source.study.evidence
    arms = arm_labels(evidence, source.audits)
    question = "Are the labels of the reversed twins right?"
    if not arms:
        return [Answer(question, "No arm of this study has reversed twins, so there is no inversion to be wrong.")]
    known = [arm for arm in arms if arm.estimate is not None]
    unknown = [arm for arm in arms if arm.estimate is None]
    intended = [arm for arm in known if not arm.decided_by]
    said = []
    if known:
        calls = Counter(arm.verdict for arm in intended)
        listed = ", ".join(f"{num} {call}" for call, num in calls.items()) or "none"
        said.append(
            f"Swap accuracy is the share of pairs in which the complement excludes the one passage and admits the "
            f"other. Arms whose labels should all be right: {listed} the threshold of {known[0].threshold:g}."
        )
    if any(arm.is_census for arm in known):
        said.append(
            "In a census every pair was put to the tables of its source, not to the labels of its rows: nothing was "
            "sampled, so there is no interval."
        )
    if any(arm.is_census and arm.ends for arm in known):
        said.append(
            "Where the tables cannot tell, a pair counts neither as right nor as wrong: the ends of the bounds are "
            "those with all such pairs wrong and with all of them right."
        )
    commands = list[tuple[str, str]]()
    mix = next((mix for arm in unknown if arm.evidence != NO_PAIRS and (mix := _a_mix(source, arm.arm))), "")
    if mix:
        said.append("What a census cannot tell, an audit of judgments can; this report reads one with --audit F.")
        audit = ("--json", "audit.json", *source.where)
        commands = [
            (
                "The pairs of a mix, to be judged",
                shlex.join([*_AUDIT, mix, "--items-to", "items.jsonl", *source.where]),
            ),
            (
                "The audit of their judgments",
                shlex.join([*_AUDIT, mix, "--judgments", "judgments.jsonl", *audit]),
            ),
            ("The audit in this report", source.command("report", "--audit", "audit.json")),
        ]
    if not known:
        said.insert(0, "Neither a census nor an audit tells.")
    items = tuple(f"{arm.arm}: {arm.evidence}" for arm in unknown)
    head = "Not known" if items else ""
    parts: list[Part] = [Answer(question, " ".join(said), commands=tuple(commands), head=head, items=items)]
    if known:
        rows = tuple(map(_label_row, known))
        panel = Panel("Swap accuracy less the threshold", "the twins of all seeds", "above the threshold", rows)
        caption = (
            "Swap accuracy of each arm with twins, less its threshold, beside it the verdict; dots are the mixes of "
            "single seeds. Blue: a factor decides whether the labels of this arm are right."
        )
        parts.append(forest_figure("referee_labels", [panel], "Are the labels right?", caption))
        parts.append(_label_grid(arms))
    return parts


def _a_mix(source: Source, arm: str) -> str:
    """Return the name of a mix of an arm with twins, as commands take it; empty where there is none."""
    evidence = source.study.evidence
    seeds = (run.seed for run in evidence.runs if run.arm == arm and run.mix is not None and has_twins(run.mix))
    return next((f"{evidence.study}/{arm}:{seed}" for seed in seeds), "")


def _label_row(arm: ArmLabels) -> ForestRow:
    assert arm.estimate is not None
    ends = None if arm.ends is None else (arm.ends[0] - arm.threshold, arm.ends[1] - arm.threshold)
    seeds = tuple(share - arm.threshold for share in arm.by_seed.values())
    beside = arm.decided_by or arm.evidence
    tone = "none" if arm.decided_by else _TONES.get(arm.verdict, "open")
    verdict = f"{arm.verdict} ({arm.estimate:.3f})"
    return ForestRow(arm.arm, beside, arm.estimate - arm.threshold, ends, seeds, None, verdict, tone, "all pairs read")


def _label_grid(arms: Sequence[ArmLabels]) -> Grid:
    fields = (
        Field("arm", "arm"),
        Field("pairs", "pairs", count, True),
        Field("swap_accuracy", "swap accuracy", _share, True),
        Field("", "95 % interval", str, True),
        Field("ci_low", ""),
        Field("ci_high", ""),
        Field("verdict", "verdict"),
        Field("originals_right", "originals right", _share, True),
        Field("decided_by", "labels decided by"),
        Field("evidence", "evidence"),
    )
    rows = tuple(
        (
            arm.arm,
            arm.num_pairs,
            arm.estimate,
            _ends(arm),
            *(arm.ends or (None, None)),
            arm.verdict or None,
            arm.originals_right,
            arm.decided_by or None,
            arm.evidence,
        )
        for arm in sorted(arms, key=lambda arm: arm.estimate is None)
    )
    notes = ("Over the mixes of all seeds. Originals: labels beside the twins, by the same tables.",)
    return Grid("referee_labels", "Labels of the arms with twins", fields, rows, notes)


def _share(value: float) -> str:
    return number(value, 3)


def _ends(arm: ArmLabels) -> str | None:
    if arm.ends is None:
        return None if arm.estimate is None else "all read"
    return f"{arm.ends[0]:.3f} to {arm.ends[1]:.3f}{' (bounds)' if arm.is_census else ''}"


def _rivals(source: Source) -> list[Part]:
    """Could something else than the reversal explain the gains?"""
    question = "Could something else explain it?"
    evidence = source.study.evidence
    answers = answered(evidence)
    rows = [(judged, _objection(judged, answers)) for judged in source.judged]
    asked = [(judged, objection) for judged, objection in rows if objection]
    named = {arm for judged, _ in asked if judged.row for arm, weight in judged.row.weights.items() if weight}
    said, commands = list[str](), list[tuple[str, str]]()
    if asked:
        calls = Counter(judged.ruling.verdict for judged, _ in asked)
        verdicts = ", ".join(f"{num} {call}" for call, num in calls.items())
        claims = "claim is" if len(asked) == 1 else "claims are"
        said.append(f"{len(asked)} declared {claims} on an arm that was made to answer an objection: {verdicts}.")
    else:
        said.append("No declared claim is on an arm that was made to answer an objection.")
    for arm in answers:
        if arm not in named:
            against = source.baseline if arm != source.baseline else "ARM"
            said.append(f"{arm} ({answers[arm].objection}) is in no claim.")
            tested = source.command("significance", "--contrast", f"{against} - {arm}")
            commands.append((f"A test of {arm}, exploratory", tested))
    missing = _unasked(answers)
    makeable = [known for arms in missing.values() if (known := _makeable(source, arms)) is not None]
    if makeable:
        command = command_for(evidence, [known.experiment for known in makeable], source.results)
        if command:
            commands.append((_AS_A_STUDY, command))
        else:
            said.append(f"{', '.join(known.experiment for known in makeable)} {_BY_HAND}")
    listed = tuple(_not_asked(source, objection, arms) for objection, arms in missing.items())
    head = "Not asked here" if listed else ""
    parts: list[Part] = [
        Answer(question, " ".join(said), "contrasts", "Contrasts", tuple(commands), head=head, items=listed)
    ]
    if asked:
        panels = panels_of(
            [
                (judged.row.cell, claim_row(source, judged)._replace(label=f"{objection}?"))
                for judged, objection in asked
                if judged.row is not None
            ]
        )
        caption = (
            "The claims on arms that answer an objection, by the objection: estimate, interval, every seed as a dot, "
            "the verdict of the claim. Which way a claim expects its contrast stands under Verdicts."
        )
        parts.append(forest_figure("referee_rivals", panels, "Could something else explain it?", caption))
    return parts


def _objection(judged: Judged, answers: dict[str, Objector]) -> str:
    """Return the objections that the arms of a claim answer; empty for none."""
    arms = judged.row.weights if judged.row is not None else {}
    said = (answers[arm].objection for arm, weight in arms.items() if weight and arm in answers)
    return ", ".join(dict.fromkeys(said))


def _unasked(answers: dict[str, Objector]) -> dict[str, list[Objector]]:
    """Return the objections that no arm of the study answers -> the arms that would."""
    there = {objector.objection for objector in answers.values()}
    missing: dict[str, list[Objector]] = {}
    for objector in objectors():
        if objector.objection not in there:
            missing.setdefault(objector.objection, []).append(objector)
    return missing


def _makeable(source: Source, arms: Sequence[Objector]) -> Objector | None:
    return next((known for known in arms if can_be_made(source.study.evidence, known)), None)


def _not_asked(source: Source, objection: str, arms: Sequence[Objector]) -> str:
    """Return an objection with the arms that would answer it, and what they need where the source may not have it."""
    said = f"{objection}: {' or '.join(known.experiment for known in arms)}"
    if _makeable(source, arms) is not None:
        return said
    first = arms[0]
    needs = f"rows with {', '.join(first.reads)}" if first.reads else "what its file says"
    return f"{said} (needs {'judged rows, audit.judgments=F' if first.takes_audit else needs})"


def _doses(source: Source) -> list[Part]:
    """Does the gain fall with the share of wrong labels?"""
    question = "Does the gain fall as labels become wrong?"
    section = dose(source)
    if section is None:
        says = "Not known: no arms of this study are doses of label noise, with two seeds or more each."
        return [Answer(question, says, commands=(("A study of doses", "python -m ablate.run -m +sweeps=label_noise"),))]
    figure = next(part for part in section.parts if isinstance(part, Figure))
    says = "A gain that right labels buy falls on a line as a known share of them is made wrong."
    return [
        Answer(question, says, section.key, section.title),
        dataclasses.replace(figure, key="referee_dose"),
    ]


def _short_cuts(source: Source) -> list[Part]:
    """Was the answer given away, by a leak or by a short cut?"""
    question = "Was the answer given away?"
    leak = _check(source, "no leak from training to evaluation")
    said = [f"Leaks: {'none found' if leak.ok else 'FAILED'}: {leak.found}."]
    commands = (("The same by the texts of documents", source.command("leaks")),)
    told = {arm: _told(arm_composition(runs)) for arm, runs in by_arm(source.study.evidence.runs).items()}
    rows = tuple(
        ForestRow(arm, in_words(name), value - CHANCE, None, (), None, f"accuracy {value:.2f}", "none", "")
        for arm, (name, value) in told.items()
        if name
    )
    if not rows:
        said.append(
            "How well a label is told without its instruction is not recorded: an earlier version made the mixes."
        )
        return [Answer(question, " ".join(said), "fairness", "Fairness", commands)]
    said.append(
        "Short cuts: how well a label is told without reading its instruction, by the passage, its side of the "
        "constraint or its length alone (.5 is chance)."
    )
    panel = Panel("The best short cut, less chance", "what was trained on", "balanced accuracy above chance", rows)
    caption = (
        "Balanced accuracy above chance of the part of an input that tells labels best, by arm, mean over seeds: what "
        "a model could learn without reading instructions. All parts: python -m analysis.budgets."
    )
    drawn = forest_figure("referee_short_cuts", [panel], "Short cuts", caption)
    return [Answer(question, " ".join(said), "fairness", "Fairness", commands), drawn]


def _told(values: Mapping[str, float | None]) -> tuple[str, float]:
    """Return the short cut that tells labels best, with its accuracy; an empty name where none is recorded."""
    known = [(value, name) for name in SHORT_CUTS if (value := values.get(name)) is not None]
    value, name = max(known, default=(0.0, ""))
    return name, value


def _held_equal(source: Source) -> list[Part]:
    """What was held equal?"""
    checks = source.study.checks
    failing = [check.name for check in checks if not check.ok]
    said = [
        f"{headline(checks).removeprefix('fairness: ').capitalize()}{': ' + ', '.join(failing) if failing else ''}."
    ]
    totals = source.study.evidence.totals
    if totals:
        names = [arm.arm for arm in totals]
        reference = source.baseline if source.baseline in names else names[0]
        unequal = unmatched(totals, reference)
        equal = len(names) - 1 - len(unequal)
        said.append(
            f"Budgets: {equal} {'arm is' if equal == 1 else 'arms are'} equal to {reference}"
            + (f", unmatched: {'; '.join(f'{arm} ({why})' for arm, why in unequal.items())}." if unequal else ".")
        )
    changes = {} if source.judgement is None else source.judgement.also_changed
    more = sum(bool(text) for text in changes.values())
    if changes:
        said.append(
            f"{more} of {len(changes)} claimed contrasts change more than their switch, which their verdicts say."
        )
    return [
        Answer(
            "What was held equal?",
            " ".join(said),
            "budgets" if totals else "fairness",
            "Budgets" if totals else "Fairness",
        )
    ]


def _check(source: Source, name: str) -> Check:
    return next(check for check in source.study.checks if check.name == name)


ANSWERS: tuple[Callable[[Source], list[Part]], ...] = (_labels, _rivals, _doses, _short_cuts, _held_equal)
"""What answers the questions of the section, in their order."""
