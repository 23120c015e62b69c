"""What do wrong labels cost? The line gain(delta) = c + E (1 - 2 delta) through arms with known shares of wrong twins.

python -m analysis.dose_response label_noise --measure 'satisfying over violating'
python -m analysis.dose_response label_noise --audit audit.json --equivalent random_polarity --json dose.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ablate.cli.command import add_study, command, finish, output_file, write_text
from ablate.records import UserError
from ablate.store.integrity import read_json
from ablate.tables import Column, Table, number, probability, to_markdown
from analysis.stats.asked import Target, check_kinds, targets
from analysis.stats.crossed import Estimate, Options, check_level
from analysis.stats.dose import (
    Adjusted,
    DoseLine,
    EquivalentNoise,
    Signal,
    check_doses,
    dose_line,
    equivalent_noise,
    without_label_error,
)
from analysis.stats.weights import parse_trend
from analysis.study.doses import doses_of, reference_of_doses
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.dose_response",
        "The gain of arms with known shares of wrong twins over a reference arm: what texts buy (c), what right labels "
        "buy (E), whether a line fits, and which share of wrong labels another arm is worth.",
        "label_noise --measure 'satisfying over violating' --audit audit.json",
    )
    add_study(made)
    made.add_argument(
        "--doses", metavar="T", help='"dual_view=0, noisy=.1" (default: arms that differ in factors.label_noise alone)'
    )
    made.add_argument(
        "--reference",
        metavar="A",
        help="arm that gains are over (default: the study's baseline, or the arm without twins where that has a dose)",
    )
    made.add_argument(
        "--equivalent",
        metavar="A",
        action="append",
        default=[],
        help="say which share of wrong labels has this arm's gain (repeatable)",
    )
    made.add_argument("--audit", metavar="F", help="JSON of analysis.inversion_audit: the gain of right labels follows")
    for name in ("measure", "dataset", "condition", "direction"):
        made.add_argument(f"--{name}", metavar="X", action="append", default=[], help=f"only this {name} (repeatable)")
    made.add_argument(
        "--clusters", metavar="KIND", action="append", default=[], help="over new clusters of this kind: constraint, …"
    )
    made.add_argument("--alpha", type=float, default=0.05, help="1 - level of the intervals (default .05)")
    made.add_argument("--json", type=output_file, metavar="F", help="also write everything to this file")
    return made


class _Found(NamedTuple):
    """All that is said of one place."""

    target: Target
    line: DoseLine
    adjusted: Adjusted | None
    equivalents: Mapping[str, EquivalentNoise]


def _run(args: argparse.Namespace) -> None:
    check_level(args.alpha, "--alpha")
    check_kinds(args.clusters)
    signal = read_signal(Path(args.audit)) if args.audit else None
    study = OpenStudy(Evidence(args.results, args.study))
    table = study.table
    doses = _doses(args.doses, table.arms) if args.doses else doses_of(study.evidence.runs)
    reference = args.reference or reference_of_doses(study.evidence.runs, doses, study.evidence.baseline)
    for option, arm in (("--reference", reference), *(("--equivalent", arm) for arm in args.equivalent)):
        if arm not in table.arms:
            raise UserError(f"{option} {arm!r} is no arm of study {args.study!r}; arms are {', '.join(table.arms)}")
    check_doses(doses, reference)
    chosen = table.select(
        datasets=args.dataset, conditions=args.condition, directions=args.direction, measures=args.measure
    )
    options = Options(deterministic=study.deterministic, alpha=args.alpha)
    places = [
        _place(target, doses, reference, args.equivalent, signal, options, args.clusters) for target in targets(chosen)
    ]
    tables = [study.unfairness, *(made for place in places for made in _tables(place, signal))]
    print("\n".join(to_markdown(made) for made in tables), end="")
    if args.json:
        record = {"study": args.study, "signal": signal and signal._asdict(), "places": [_record(p) for p in places]}
        write_text(args.json, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _doses(text: str, arms: Sequence[str]) -> dict[str, float]:
    parse_trend(text, arms)  # for what is wrong with it
    return {arm.strip(): float(dose) for arm, _, dose in (entry.rpartition("=") for entry in text.split(","))}


def read_signal(path: Path) -> Signal:
    """Return the signal of the labels that an audit found, right minus back, from its JSON.

    Its error is the sum of those of the two shares, the most that it can be. Raises UserError for another file.
    """
    remedy = "give the file that python -m analysis.inversion_audit --json wrote"
    if not path.is_file():
        raise UserError(f"--audit {path}: there is no such file; {remedy}")
    record = read_json(path, remedy)
    try:
        shares = [record["classes"][name] for name in ("right", "back")]
        low, high = (sum(float(end) for end in ends) for ends in zip(*(share["ci"] for share in shares), strict=True))
        return Signal(float(shares[0]["estimate"]) - float(shares[1]["estimate"]), (high - low) / (2 * _NORMAL))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"--audit {path} has no classes right and back with estimate and ci; {remedy}") from None


_NORMAL = 1.959964
"""Standard errors that an interval of 95 % reaches to each side."""


def _place(
    target: Target,
    doses: Mapping[str, float],
    reference: str,
    equivalents: Sequence[str],
    signal: Signal | None,
    options: Options,
    population: Sequence[str],
) -> _Found:
    blocks, groupings = target.blocks(), target.groupings(population)
    used = dataclasses.replace(options, deterministic=options.deterministic & set(blocks))
    for arm in (reference, *doses, *equivalents):
        if arm not in blocks:
            raise UserError(f"arm {arm!r} has no {target.cell}; score it there or leave the cell out")
    line = dose_line(blocks, doses, reference, used, groupings)
    return _Found(
        target,
        line,
        without_label_error(blocks, doses, reference, signal, used, groupings) if signal else None,
        {arm: equivalent_noise(blocks, doses, reference, arm, used, groupings) for arm in equivalents},
    )


def _tables(place: _Found, signal: Signal | None) -> list[Table]:
    line = place.line
    head = (
        Column("arm"),
        Column("wrong labels", "r"),
        Column("gain", "r"),
        Column("interval", "r"),
        Column("line", "r"),
    )
    rows = tuple(
        (
            arm,
            f"{line.doses[arm]:g}",
            number(gain.estimate),
            _interval(gain.ci),
            number(line.constant.estimate + line.polarity.estimate * (1 - 2 * line.doses[arm])),
        )
        for arm, gain in line.gains.items()
    )
    notes = [line.fit.in_words(line.constant.alpha) + "."] if line.fit else []
    gains = Table(f"{place.target.cell}: gain over {line.reference}", head, rows, tuple(notes))
    said = [
        ("c: what texts and diversity buy", *_cells(line.constant)),
        ("E: what right labels buy beyond it", *_cells(line.polarity)),
    ]
    if place.adjusted and signal:
        name = f"gain of right labels, c + E / {number(signal.share, 3)}"
        said.append((name, number(place.adjusted.estimate), _interval(place.adjusted.ci), "–"))
    for arm, noise in place.equivalents.items():
        limits = (f"{number(end, 3)}" if end is not None else "none" for end in (noise.low, noise.high))
        said.append((f"wrong labels that {arm} is worth", number(noise.share, 3), " to ".join(limits), "–"))
    columns = (
        Column("gain(delta) = c + E (1 - 2 delta)"),
        Column("estimate", "r"),
        Column("interval", "r"),
        Column("p", "r"),
    )
    return [gains, Table(f"{place.target.cell}: the line", columns, tuple(said))]


def _cells(estimate: Estimate) -> tuple[str, str, str]:
    return number(estimate.estimate), _interval(estimate.ci), probability(estimate.p)


def _interval(ci: tuple[float, float] | None) -> str:
    return "none: the scores have no spread" if ci is None else f"{number(ci[0])} to {number(ci[1])}"


def _record(place: _Found) -> dict[str, Any]:
    line = place.line

    def values(estimate: Estimate) -> dict[str, Any]:
        return {"estimate": estimate.estimate, "ci": estimate.ci, "p": estimate.p, "se": estimate.se, "df": estimate.df}

    return {
        **place.target.cell._asdict(),
        "reference": line.reference,
        "gains": {arm: {"dose": line.doses[arm], **values(gain)} for arm, gain in line.gains.items()},
        "constant": values(line.constant),
        "polarity": values(line.polarity),
        "lack_of_fit": line.fit and line.fit._asdict(),
        "right_labels": place.adjusted and place.adjusted._asdict(),
        "equivalent_noise": {arm: noise._asdict() for arm, noise in place.equivalents.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the dose-response of a study and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
