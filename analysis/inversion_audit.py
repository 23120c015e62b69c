"""Are synthesized labels true? Swap accuracy with its interval, by kind of constraint, and what raters agree on.

    python -m analysis.inversion_audit --items items.jsonl --judgments humans.jsonl judge.jsonl --json audit.json

An item is a query with two passages, an instruction under which a is relevant and b is not, and the complement under
which it should be the other way round. A judgment answers the four questions, by rule (`gold`), by a language model
(`judge`) or by a person (`human`). Judges alone are never reported as accuracy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ablate.cli.command import command, finish, output_file, write_text
from ablate.tables import Column, Table, number, probability, to_markdown
from analysis.audit.agreement import NAMES
from analysis.audit.assess import FAILURE_MODES, ONE_SIDED, PRIMARY, Audit, Verdict, assess
from analysis.audit.items import CLASSES, KINDS, UNJUDGEABLE, read_items, read_judgments
from analysis.audit.two_phase import MIN_LABELS, Estimate


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.inversion_audit",
        "Estimate how many inverted labels are right, from gold by rule, judges that saw all items and a human sample.",
        "--items items.jsonl --judgments humans.jsonl judge.jsonl --threshold .9",
    )
    made.add_argument(
        "--items",
        metavar="F",
        required=True,
        help="JSON lines: id, query_id, query, passage_a, passage_b, instruction, complement, constraint_type"
        "[, stratum, known_bad]",
    )
    made.add_argument(
        "--judgments",
        metavar="F",
        nargs="+",
        required=True,
        help="JSON lines: item_id, rater, kind (gold, judge, human), a_under_instruction, b_under_instruction, "
        "a_under_complement, b_under_complement (true, false or null: cannot be judged)",
    )
    made.add_argument("--threshold", type=float, default=0.9, help="share that accuracy is held against (default .9)")
    made.add_argument("--json", type=output_file, metavar="OUT", help="write everything to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    items = read_items(args.items)
    audit = assess(items, read_judgments(args.judgments, items), threshold=args.threshold)
    print("\n".join(to_markdown(table) for table in tables(audit)), end="")
    if args.json:
        values = json.dumps(record(audit), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(args.json, values + "\n")


def tables(audit: Audit) -> list[Table]:
    """Return the audit as tables: verdicts first."""
    audit_tables = [_verdicts(audit), _shares(audit)]
    if audit.confusion:
        audit_tables.append(_confusion(audit))
    return [*audit_tables, *([_agreement(audit)] if audit.agreement else [])]


def _verdicts(audit: Audit) -> Table:
    columns = ("items", "labels", "swap accuracy", "95 % interval", "p", "p (Holm)", "verdict", "labels needed")
    heads = (Column("constraint"), *(Column(name, "r") for name in columns))
    rows = [("all", *_verdict_cells(audit.overall, audit.num_items))]
    rows += [(kind, *_verdict_cells(v, audit.sizes[kind])) for kind, v in audit.by_constraint_type.items()]
    judged = ", ".join(f"{audit.num_judged[kind]} by {kind} ({len(audit.raters[kind])} raters)" for kind in KINDS)
    notes = [
        f"{audit.num_items} items judged: {judged}. ABOVE and BELOW: the share differs from {audit.threshold:g} at the "
        f"5 % level (kinds of constraint: after Holm); labels needed: further human labels with which the same share "
        f"would be decided (–: not even all of them). A kind with fewer than {MIN_LABELS} labels has no estimate.",
        *audit.notes,
    ]
    if audit.rater_error is not None:
        error = audit.rater_error
        notes.append(
            f"Known-bad items: {error.waved_through:g} of {error.shown} were called right "
            f"(95 % interval {error.low:.3f} to {error.high:.3f}); intervals and verdicts have this error in them."
        )
    elif audit.num_known_bad == 0:
        notes.append("No known-bad item was among the items: raters who wave through would not be noticed.")
    return Table("Are the inverted labels right?", heads, tuple(rows), tuple(notes))


def _verdict_cells(verdict: Verdict | None, size: int) -> tuple[str, ...]:
    if verdict is None:
        return (f"{size:,}", "–", "–", "–", "–", "–", "UNDECIDED", "–")
    needed = "–" if verdict.labels_needed is None else f"{verdict.labels_needed:,}"
    estimate = verdict.estimate
    return (
        f"{size:,}",
        f"{estimate.num_labels:,}",
        number(estimate.share, 3),
        f"{verdict.low:.3f} to {verdict.high:.3f}",
        probability(verdict.p),
        probability(verdict.p_holm),
        verdict.call,
        needed,
    )


def _shares(audit: Audit) -> Table:
    rows = [
        (name, *(("–", "–") if e is None else (number(e.share, 3), f"{e.low:.3f} to {e.high:.3f}")))
        for name, e in audit.shares.items()
    ]
    signal = "not known" if audit.polarity_signal is None else f"{audit.polarity_signal:.3f}"
    note = (
        f"Strength of the polarity signal, 1 - 2 back - null (null: both or neither): {signal}. What cannot be judged "
        f"counts as not right."
    )
    return Table(
        "What is right, and how labels fail",
        (Column("share of items"), Column("estimate", "r"), Column("95 %", "r")),
        tuple(rows),
        (note,),
    )


def _confusion(audit: Audit) -> Table:
    heads = ("both right", "human right, judge wrong", "human wrong, judge right", "both wrong", "informedness")
    rows = [
        (
            c.judge,
            c.constraint_type,
            *(f"{x:g}" for x in (c.right_right, c.right_wrong, c.wrong_right, c.wrong_wrong)),
            number(c.informedness, 2),
        )
        for c in audit.confusion
    ]
    note = "Informedness: sensitivity + specificity - 1; 0 is a judge that knows nothing, below 0 one that is worse."
    return Table(
        "Judges beside humans",
        (Column("judge"), Column("constraint"), *(Column(name, "r") for name in heads)),
        tuple(rows),
        (note,),
    )


def _agreement(audit: Audit) -> Table:
    heads = ("items", "raw", "on yes", "on no", "Krippendorff's alpha", "Gwet's AC1")
    rows = []
    for name, agreement in audit.agreement.items():
        cells = []
        for key in NAMES:
            interval = agreement.intervals.get(key)
            bounds = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
            cells.append(number(getattr(agreement, key), 2) + bounds)
        rows.append((name, str(agreement.num_items), *cells))
    return Table(
        "Agreement on items with two answers or more",
        (Column("who: what"), *(Column(head, "r") for head in heads)),
        tuple(rows),
        ("Intervals: bootstrap over queries.",),
    )


def record(audit: Audit) -> dict[str, Any]:
    """Return the audit as plain values for JSON."""
    shares = audit.shares
    agreements = {
        name: {
            "items": agreement.num_items,
            "raters": agreement.num_raters,
            **{key: {"value": getattr(agreement, key), "ci": agreement.intervals.get(key)} for key in NAMES},
        }
        for name, agreement in audit.agreement.items()
    }
    error = audit.rater_error
    return {
        "threshold": audit.threshold,
        "items": audit.num_items,
        "known_bad_items": audit.num_known_bad,
        "judged": dict(audit.num_judged),
        "swap_accuracy": _with_verdict(audit.overall, audit.num_items),
        "all_four": _share(shares["all four answers"]),
        "by_constraint_type": {k: _with_verdict(v, audit.sizes[k]) for k, v in audit.by_constraint_type.items()},
        "classes": {name: _share(shares[f"class {name}"]) for name in (*CLASSES.values(), UNJUDGEABLE)},
        "one_sided": {name: _share(shares[name]) for name in ONE_SIDED},
        "failure_modes": {name: _share(shares[name]) for name in FAILURE_MODES},
        "polarity_signal": audit.polarity_signal,
        "verdicts": {
            PRIMARY: _call(audit.overall),
            **{kind: _call(verdict) for kind, verdict in audit.by_constraint_type.items()},
        },
        "agreement": agreements,
        "judges": [
            {**{key: getattr(c, key) for key in c.__dataclass_fields__}, "informedness": c.informedness}
            for c in audit.confusion
        ],
        "rater_error": None
        if error is None
        else {
            "shown": error.shown,
            "waved_through": error.waved_through,
            "rate": error.rate,
            "ci": [error.low, error.high],
        },
        "notes": list(audit.notes),
    }


def _share(estimate: Estimate | None) -> Mapping[str, Any]:
    if estimate is None:
        return {"estimate": None, "ci": None, "n": 0}
    return {"estimate": estimate.share, "ci": [estimate.low, estimate.high], "n": estimate.num_labels}


def _with_verdict(verdict: Verdict | None, size: int) -> Mapping[str, Any]:
    if verdict is None:
        return {**_share(None), "items": size, "verdict": "UNDECIDED"}
    estimate = verdict.estimate
    return {
        **_share(estimate),
        "ci": [verdict.low, verdict.high],
        "items": size,
        "verdict": verdict.call,
        "p": verdict.p,
        "p_holm": verdict.p_holm,
        "labels_needed": verdict.labels_needed,
        "design_effect": estimate.design_effect,
        "strata": estimate.num_strata,
    }


def _call(verdict: Verdict | None) -> str:
    return "UNDECIDED" if verdict is None else verdict.call


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return finish(_run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
