"""Are inverted labels true? Swap accuracy with its interval, by kind of constraint, and what raters agree on.

    python -m analysis.inversion_audit label_noise/label_noise_0.2:0 --json audit.json     # the twins of a finished mix
    python -m analysis.inversion_audit MIX --items-to items.jsonl --judgments humans.jsonl judge.jsonl
    python -m analysis.inversion_audit --items items.jsonl --judgments humans.jsonl judge.jsonl --json audit.json

An item is a query with two passages, an instruction under which a is relevant and b is not, and the complement under
which it should be the other way round. A judgment answers the four questions, by rule (`gold`), by a language model
(`judge`) or by a person (`human`). Judges alone are never reported as accuracy. Of a mix whose source has exact labels
(the generated world, rules) every pair is put to the tables of the source: a census, without a sampling interval.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ablate.cli.command import command, finish, output_file, write_text
from ablate.data.judgments import CLASSES, KINDS, UNJUDGEABLE, judgment_line
from ablate.records import UserError
from ablate.tables import Column, Table, number, probability, to_markdown
from analysis.audit.agreement import NAMES
from analysis.audit.assess import FAILURE_MODES, ONE_SIDED, PRIMARY, THRESHOLD, Audit, Verdict, assess, check_threshold
from analysis.audit.items import Item, read_items, read_judgments
from analysis.audit.sample_folder import item_line
from analysis.audit.twins import Truths, Twins, find_mix, read_twins
from analysis.audit.two_phase import MIN_LABELS, Estimate


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.inversion_audit",
        "Estimate how many inverted labels are right, from gold by rule, judges that saw all items and a human sample.",
        "label_noise/label_noise_0.2:0 --threshold .9",
    )
    made.add_argument(
        "mix",
        nargs="?",
        metavar="MIX",
        help="a finished mix, of whose reversed twins the items are made: its folder, its id or the beginning of one, "
        "or study/arm:seed; instead of --items",
    )
    made.add_argument("--results", default="results", help="folder of results that MIX is in (default: results)")
    made.add_argument(
        "--source", metavar="DIR", help="folder of the source of MIX (default: where a training on it found it)"
    )
    made.add_argument("--items-to", type=output_file, metavar="F", help="write the items of MIX to this file")
    made.add_argument("--gold-to", type=output_file, metavar="F", help="write the census of MIX, as judgments, to F")
    made.add_argument(
        "--items",
        metavar="F",
        help="JSON lines: id, query_id, query, passage_a, passage_b, instruction, complement, constraint_type"
        "[, stratum, known_bad]",
    )
    made.add_argument(
        "--judgments",
        metavar="F",
        nargs="+",
        default=[],
        help="JSON lines: item_id, rater, kind (gold, judge, human), a_under_instruction, b_under_instruction, "
        "a_under_complement, b_under_complement (true, false or null: cannot be judged)",
    )
    made.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="share that accuracy is held against (default .9)"
    )
    made.add_argument("--json", type=output_file, metavar="OUT", help="write everything to this file")
    return made


def _run(args: argparse.Namespace) -> None:
    check_threshold(args.threshold)
    if (args.mix is None) == (args.items is None):
        raise UserError("give either MIX, a finished mix, or --items F with --judgments F; --help shows both")
    if args.mix is None:
        for option in ("source", "items_to", "gold_to"):
            if getattr(args, option) is not None:
                raise UserError(f"--{option.replace('_', '-')} is about a mix; name one (MIX) instead of --items")
        if not args.judgments:
            raise UserError("--items needs --judgments F: without an answer nothing is known of an item")
        items: Sequence[Item] = read_items(args.items)
        twins = None
    else:
        store, manifest = find_mix(args.results, args.mix)
        twins = read_twins(store, manifest, Truths(store), args.source)
        items = twins.items
    judgments = read_judgments(args.judgments, items) if args.judgments else []
    if twins is not None:
        _write_mix(twins, args)
        if not (twins.gold or judgments):
            if args.items_to is None:
                raise UserError(
                    f"mix {twins.mix_id} has no census: {twins.no_gold}; give --judgments F of its items, which "
                    f"--items-to F writes"
                )
            return
        judgments = [*twins.gold, *judgments]
    audit = assess(items, judgments, threshold=args.threshold)
    remarks = () if twins is None else twins.remarks
    print("\n".join(to_markdown(table) for table in tables(audit, remarks)), end="")
    if args.json:
        values = {**record(audit), **({} if twins is None else {"mix": _mix_record(twins)})}
        write_text(args.json, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _write_mix(twins: Twins, args: argparse.Namespace) -> None:
    if args.gold_to is not None and not twins.gold:
        raise UserError(f"--gold-to: mix {twins.mix_id} has no census: {twins.no_gold}")
    if args.items_to is not None:
        write_text(args.items_to, "".join(map(item_line, twins.items)))
    if args.gold_to is not None:
        write_text(args.gold_to, "".join(map(judgment_line, twins.gold)))


def _mix_record(twins: Twins) -> dict[str, Any]:
    return {
        "id": twins.mix_id,
        "labels": list(twins.labels),
        "seed": twins.seed,
        "originals_right": twins.originals_right,
        "same_label_in_both_views": twins.num_unswapped,
        "reversed_without_original": twins.num_alone,
        "not_known": twins.num_unknown,
        "no_census": twins.no_gold or None,
    }


def tables(audit: Audit, remarks: Sequence[str] = ()) -> list[Table]:
    """Return the audit as tables: verdicts first, with `remarks` on the mix that it is of."""
    audit_tables = [_verdicts(audit, remarks), _shares(audit)]
    if audit.confusion:
        audit_tables.append(_confusion(audit))
    return [*audit_tables, *([_agreement(audit)] if audit.agreement else [])]


def _verdicts(audit: Audit, remarks: Sequence[str]) -> Table:
    columns = ("items", "labels", "swap accuracy", "95 % interval", "p", "p (Holm)", "verdict", "labels needed")
    heads = (Column("constraint"), *(Column(name, "r") for name in columns))
    rows = [("all", *_verdict_cells(audit.overall, audit.num_items))]
    rows += [(kind, *_verdict_cells(v, audit.sizes[kind])) for kind, v in audit.by_constraint_type.items()]
    judged = ", ".join(f"{audit.num_judged[kind]} by {kind} ({len(audit.raters[kind])} raters)" for kind in KINDS)
    notes = [
        f"{audit.num_items} items judged: {judged}. ABOVE and BELOW: the share differs from {audit.threshold:g} at the "
        f"5 % level (kinds of constraint: after Holm), or lies on that side where all items were read. (bounds): all "
        f"that is known is gold; the ends are those with all other items wrong and right. Labels needed: further "
        f"human labels with which the same share would be decided (–: not even all of them). A kind with fewer than "
        f"{MIN_LABELS} labels has no estimate.",
        *audit.notes,
        *remarks,
    ]
    if audit.rater_error is not None:
        error = audit.rater_error
        notes.append(
            f"Known-bad items: {error.waved_through:g} of {error.shown} were called right "
            f"(95 % interval {error.low:.3f} to {error.high:.3f}); intervals and verdicts have this error in them."
        )
    elif audit.num_known_bad == 0 and audit.num_judged["human"]:
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
        _interval(estimate, verdict.low, verdict.high),
        *("–" if estimate.is_census or estimate.is_bounded else probability(p) for p in (verdict.p, verdict.p_holm)),
        verdict.call,
        needed,
    )


def _interval(estimate: Estimate, low: float, high: float) -> str:
    return "all read" if estimate.is_census else f"{low:.3f} to {high:.3f}{' (bounds)' if estimate.is_bounded else ''}"


def _shares(audit: Audit) -> Table:
    rows = [
        (name, *(("–", "–") if e is None else (number(e.share, 3), _interval(e, e.low, e.high))))
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
        return {"estimate": None, "ci": None, "n": 0, "census": False}
    return {
        "estimate": estimate.share,
        "ci": [estimate.low, estimate.high],
        "n": estimate.num_labels,
        "census": estimate.is_census,
    }


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
