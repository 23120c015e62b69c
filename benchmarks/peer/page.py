"""The record of the benchmark as a section of Markdown, and its place in a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import fmean, median, stdev
from typing import Any

HEADING = "## Beside sentence-transformers"
GOALS = {"training": 2.0, "memory": 0.6, "default": 2.5, "best": 2.0}
"""Times faster in training than the other side's best in the same precision; share of its memory; times faster in a
whole study than its defaults and than its best."""

Spread = tuple[float, float, float]
"""Median, lowest, highest."""


def spread(values: Sequence[float]) -> Spread:
    """Return median, lowest and highest of some values."""
    return median(values), min(values), max(values)


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """Return how many times as much the other side took, round by round."""
    return spread([other / own for other, own in zip(theirs, ours, strict=True)])


def pairs(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield (row of the other side, our row of the same workload and precision)."""
    own = {(row["workload"], row["precision"]): row for row in rows if row["side"] == "ours"}
    for row in rows:
        if row["side"] != "ours" and (row["workload"], row["precision"]) in own:
            yield row, own[row["workload"], row["precision"]]


def goals(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return of each goal that was measured: what was asked, what came out, whether it is reached."""
    found = []
    clock = record["clock"]
    best = [(row, own) for row, own in pairs(record.get("training", [])) if row["side"] == "best"]
    for row, own in best:
        where = f"{row['workload']}, {row['precision']}"
        found.append(_goal(f"training, {where}", GOALS["training"], ratios(row[clock], own[clock])[0], True))
        found.append(_goal(f"memory, {where}", GOALS["memory"], own["peak_mib"] / row["peak_mib"], False))
    cells = [row for row in record.get("cells", []) if row["cells"] > 1]
    own_cells = {row["precision"]: row for row in cells if row["side"] == "ours"}
    for row in cells:
        if row["side"] != "ours":
            what = f"{row['cells']} cells by one command, {row['precision']}, against its {row['side']}, CPU"
            value = row["cpu"] / own_cells[row["precision"]]["cpu"]
            found.append(_goal(what, GOALS[row["side"]], value, True))
    return found


def _goal(what: str, asked: float, value: float, at_least: bool) -> dict[str, Any]:
    reached = value >= asked if at_least else value <= asked
    return {"what": what, "asked": asked, "value": value, "at_least": at_least, "reached": reached}


def markdown(record: dict[str, Any]) -> str:
    """Return the section."""
    return "\n".join([HEADING, "", *_head(record), *_equality(record), *_tables(record), *_ends(record)]) + "\n"


def placed(page: str, section: str) -> str:
    """Return a page with the section in the place of the one that has its heading, else at its end."""
    heading = section.splitlines()[0]
    own = re.compile(rf"^{re.escape(heading)}\n.*?(?=^## |\Z)", re.M | re.S)
    if own.search(page):
        return own.sub(lambda _: section.rstrip("\n") + "\n\n", page, count=1).rstrip("\n") + "\n"
    return (page.rstrip("\n") or "# Performance") + "\n\n" + section


def _head(record: dict[str, Any]) -> Iterator[str]:
    machine, versions = record["machine"], record["versions"]
    yield (
        f"`{record['command']}` on {record['date']}: {machine['processor']}"
        f" ({', '.join(machine['flags']) or 'no native bf16'}), {machine['cores']} cores, {machine['device']}, load "
        f"{machine['load'][0]:.1f} to {machine['load'][1]:.1f} while it ran; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f". {record['threads']} thread per process, batches of {record['batch_size']} groups, variants interleaved "
        f"over {record['rounds']} rounds after one that is dropped; medians, lowest and highest round in brackets. "
        "Both sides have the same weights, rows, batches, optimiser and texts; “default” is all-MiniLM-L6-v2 and the "
        "trainer as they come (dropout .1), “best” the quickest of its settings in a trial (attention sdpa or eager, "
        "plain or cached loss with mini-batches by texts or by tokens), without dropout as ours."
    )
    yield from ("", *(f"Not measured: {reason}." for reason in record["skipped"]))
    if record["skipped"]:
        yield ""


def _equality(record: dict[str, Any]) -> Iterator[str]:
    equal = record.get("equality")
    if not equal:
        return
    worst = {name: max(told[name] for told in equal["with"].values()) for name in ("loss", "gradients", "relative")}
    yield (
        f"**The same is computed**: {'yes' if equal['equal'] else 'NO'}. On a batch of {equal['groups']} groups of the "
        f"mix without masked passages, {equal['tokens'][0]:,} tokens here and {equal['tokens'][1]:,} there, fp32 "
        f"without dropout, our loss is {equal['loss']:.6f}; against the plain, the cached and the token-budgeted loss "
        f"it differs by at most {worst['loss']:.1e}, a gradient by {worst['gradients']:.1e}, all gradients by "
        f"{worst['relative']:.1e} of their norm, a vector by {equal['vectors']:.1e} (tolerance {equal['tolerance']:g})."
    )
    yield ""


def _tables(record: dict[str, Any]) -> Iterator[str]:
    clock = record["clock"]
    if rows := record.get("training"):
        yield from (
            f"| training | side | setting | {clock.upper()}-ms per group | wall-ms | peak MiB | share of the limit |",
            "|---|---|---|---:|---:|---:|---:|",
        )
        for row in rows:
            yield (
                f"| {row['workload']} | {row['side']} | {row['setting']} | {_spread(row[clock])} | "
                f"{median(row['wall']):,.0f} | {row['peak_mib']:,.0f} | {row['share']:.0%} |"
            )
        yield ""
        for row, own in pairs(rows):
            middle, low, high = ratios(row[clock], own[clock])
            yield (
                f"- {row['workload']}, {row['precision']}: its {row['side']} takes {middle:.2f} times our time "
                f"({low:.2f} to {high:.2f}); we take {own['peak_mib'] / row['peak_mib']:.0%} of its memory."
            )
        yield ""
        yield (
            "The limit is a matrix product in the model's shapes, of as many operations as each side's real tokens ask "
            "for: "
            + ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in record["limit"].items())
            + " per thread. Memory is of a process that did nothing else."
        )
        yield ""
    if rows := record.get("encoding"):
        yield from ("| encoding | side | setting | documents per second |", "|---|---|---|---:|")
        for row in rows:
            yield f"| {row['workload']} | {row['side']} | {row['setting']} | {_spread(row['per_second'])} |"
        yield ""
        for row, own in pairs(rows):
            middle, low, high = ratios(own["per_second"], row["per_second"])
            what = "quicker" if middle >= 1 else "SLOWER"
            yield (
                f"- {row['workload']}, {row['setting']}: we are {what}, {middle:.2f} times ({low:.2f} to {high:.2f})."
            )
        yield ""
    if rows := record.get("cells"):
        yield from (
            "| whole cells | cells | CPU s each | wall s of all | peak MiB |",
            "|---|---:|---:|---:|---:|",
        )
        for row in rows:
            yield (
                f"| {row['side']}: {row['setting']} | {row['cells']} | {row['cpu'] / row['cells']:.0f} | "
                f"{row['wall']:.0f} | {row['peak_mib']:,.0f} |"
            )
        yield ""
        yield f"A cell: {record['cell']}"
        yield ""


def _ends(record: dict[str, Any]) -> Iterator[str]:
    if rows := record.get("scores"):
        yield from ("| score after a cell | ours | its best | sd between our seeds | |", "|---|---:|---:|---:|---|")
        for name, values in rows.items():
            own, other = values["ours"], values["best"]
            noise = stdev(own) if len(own) > 1 else float("nan")
            inside = "within" if abs(fmean(own) - fmean(other)) <= 2 * noise else "BEYOND"
            yield f"| {name} | {fmean(own):.3f} | {fmean(other):.3f} | {noise:.3f} | {inside} twice the noise |"
        yield (
            "\nWhere the two sides end apart, they are not given the same: our loss leaves out of a row's negatives "
            "what another row of the batch with the same query knows to answer it, and theirs has no such mask."
        )
        yield ""
    found = goals(record)
    if found:
        yield from ("| goal | asked | came out | |", "|---|---:|---:|---|")
        for goal in found:
            sign = "≥" if goal["at_least"] else "≤"
            reached = "reached" if goal["reached"] else "NOT reached"
            yield f"| {goal['what']} | {sign} {goal['asked']:g} | {goal['value']:.2f} | {reached} |"
        yield ""


def _spread(values: Sequence[float]) -> str:
    middle, low, high = spread(values)
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"
