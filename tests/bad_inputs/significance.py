"""Score files and options of `analysis.significance`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from bad_inputs import BadInput, written

HEAD = "arm,seed,dataset,condition,unit_id,measure,value\n"
LINES = [
    f"{arm},{seed},d,plain,q{unit},nDCG@10,0.{seed}{unit}{len(arm)}"
    for arm in ("a", "bb")
    for seed in (0, 1)
    for unit in (1, 2, 3)
]
GOOD = HEAD + "\n".join(LINES) + "\n"


def _csv(name: str, words: str, content: str | bytes = GOOD, *more: str) -> BadInput:
    command = ("analysis.significance", "--scores", "{dir}/s.csv", *(more or ("--baseline", "a")))
    return BadInput(name, command, (words,), written("s.csv", content))


def clustered(column: str, *clusters: str) -> str:
    """Return the good scores with a column of clusters, one for each unit."""
    lines = (f"{line},{cluster}" for line, cluster in zip(LINES, clusters * 4, strict=True))
    return "\n".join([f"{HEAD.strip()},{column}", *lines]) + "\n"


def _parquet(name: str, words: str, **columns: Any) -> BadInput:
    def make(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [line.split(",") for line in LINES]
        usual = dict(zip(HEAD.strip().split(","), map(list, zip(*rows, strict=True)), strict=True))
        usual["value"] = [float(text) for text in usual["value"]]  # type: ignore[misc]
        pq.write_table(pa.table({**usual, **columns}), folder / "s.parquet")

    command = ("analysis.significance", "--scores", "{dir}/s.parquet", "--baseline", "a")
    return BadInput(name, command, (words,), make)


BAD_INPUTS = [
    BadInput(
        "a file that is not there", ("analysis.significance", "--scores", "{dir}/n.csv"), ("n.csv: no such file",)
    ),
    BadInput(
        "a folder",
        ("analysis.significance", "--scores", "{dir}/s.csv"),
        ("s.csv is a folder",),
        lambda folder: (folder / "s.csv").mkdir(),
    ),
    BadInput(
        "a file of another kind",
        ("analysis.significance", "--scores", "{dir}/s.txt"),
        ("scores are read from .csv or .parquet, not from '.txt'",),
    ),
    _csv("an empty file", "{dir}/s.csv: cannot be read as CSV", ""),
    _csv("a header alone", "{dir}/s.csv: there is no score in it", HEAD),
    _csv("a missing column", "{dir}/s.csv: column 'seed' is missing", GOOD.replace("seed,", "sed,")),
    _csv(
        "a column twice",
        "{dir}/s.csv: column 'arm' is there twice",
        GOOD.replace("seed,", "seed,arm,", 1).replace(",0,d", ",0,x,d").replace(",1,d", ",1,x,d"),
    ),
    _csv(
        "a text for a value", "{dir}/s.csv, line 14: value 'high' is no number", GOOD + "a,2,d,plain,q1,nDCG@10,high\n"
    ),
    _csv("a value that is not there", "line 14: value '' is no number", GOOD + "a,2,d,plain,q1,nDCG@10,\n"),
    _csv("NaN", "is missing or NaN (nDCG@10 on d (plain); 1 such in all)", GOOD + "a,2,d,plain,q1,nDCG@10,nan\n"),
    _csv("infinity", "is inf, beyond ±1e+60", GOOD + "a,2,d,plain,q1,nDCG@10,inf\n"),
    _csv("a value whose square is infinite", "is 1e+308, beyond ±1e+60", GOOD + "a,2,d,plain,q1,nDCG@10,1e308\n"),
    _csv("too few fields", "{dir}/s.csv, line 14: 3 fields where the header has 7", GOOD + "a,2,d\n"),
    _csv("bytes that are no UTF-8", "{dir}/s.csv: cannot be read as CSV", GOOD.encode() + b"\xff,2,d,plain,q1,m,1\n"),
    _csv("UTF-16", "{dir}/s.csv", GOOD.encode("utf-16")),
    _csv(
        "a field beyond 131 kB beside a bad line",
        "{dir}/s.csv, line 14: field larger than field limit",
        GOOD + f"{'x' * 140_000},2,d,plain,q1,nDCG@10\n",
    ),
    _csv("a row twice", "unit 'q1' has 2 values of nDCG@10", GOOD + LINES[0] + "\n"),
    _csv("a unit that one run lacks", "lacks 1 unit(s) of 3: 'q3'", HEAD + "\n".join(LINES[:-1])),
    _csv("a seed without a name", "row 13 has no seed", GOOD + "a,,d,plain,q1,nDCG@10,1\n"),
    _csv("one seed", "seed", HEAD + "\n".join(line for line in LINES if ",0,d" in line)),
    _csv("one unit", "unit", HEAD + "\n".join(line for line in LINES if ",q1," in line)),
    _csv("an unknown baseline", "z", GOOD, "--baseline", "z"),
    _csv("an arm alone", "no contrast is asked for", HEAD + "\n".join(LINES[:6])),
    _csv("an unknown arm in a contrast", "contrast 'b - a': arm 'b' is unknown", GOOD, "--contrast", "b - a"),
    _csv(
        "weights that do not sum to 0",
        "must sum to 0 and not all be 0; bb +1, a +1 sum to 2",
        GOOD,
        "--contrast",
        "bb + a",
    ),
    _csv("a trend of one dose", "trend", GOOD, "--trend", "a=0"),
    _csv("a margin that is no number", "--margin 'x' is no number", GOOD, "--baseline", "a", "--margin", "x"),
    _csv(
        "a margin of a measure that is not there",
        "--margin for 'RR@10'",
        GOOD,
        "--baseline",
        "a",
        "--margin",
        "RR@10=.1",
    ),
    _csv("a level of 2", "alpha is 2.0; it must lie between 0 and 0.5", GOOD, "--baseline", "a", "--alpha", "2"),
    _csv("a level that is no number", "argument --alpha: invalid float value: 'x'", GOOD, "--alpha", "x"),
    _csv(
        "a measure that is not there", "no score has the measure 'RR@10'", GOOD, "--baseline", "a", "--measure", "RR@10"
    ),
    _csv(
        "a deterministic arm that is not there",
        "the deterministic arm 'z' has no scores",
        GOOD,
        "--baseline",
        "a",
        "--deterministic",
        "z",
    ),
    _csv(
        "clusters of an unknown kind",
        "the units of d are in no clusters of the kind 'z'; kinds are none",
        GOOD,
        "--baseline",
        "a",
        "--clusters",
        "z",
    ),
    _csv(
        "three kinds of clusters", "--clusters x y z: a test is", GOOD, *(w for k in "xyz" for w in ("--clusters", k))
    ),
    _csv("forms for clusters", "form is no such kind", GOOD, "--baseline", "a", "--clusters", "form"),
    _csv("a unit without a cluster", "row 2 has no cluster", clustered("cluster", "x", "", "y"), "--baseline", "a"),
    _csv("all units in one cluster", "all units are in one cluster", clustered("cluster", *"xxx"), "--baseline", "a"),
    _csv(
        "a unit without a cluster of the kind that is asked for",
        "1 of 3 units of d are in no cluster of the kind 'topic' ('q2'); name theirs",
        clustered("cluster.topic", "x", "", "y"),
        *("--baseline", "a", "--clusters", "topic"),
    ),
    _csv(
        "a unit in two clusters of a kind",
        "unit 'q1' is in the clusters 'z' and 'x'",
        clustered("cluster.topic", *"xxy").replace(",x\n", ",z\n", 1),
        *("--baseline", "a", "--clusters", "topic"),
    ),
    _csv(
        "a kind of clusters twice",
        "is there twice",
        clustered("cluster.t", *"xxy")
        .replace("cluster.t\n", "cluster.t,cluster.t\n")
        .replace(",x\n", ",x,x\n")
        .replace(",y\n", ",y,y\n"),
        "--baseline",
        "a",
    ),
    BadInput(
        "a breakdown without clusters",
        ("analysis.breakdown", "--scores", "{dir}/s.csv", "--baseline", "a"),
        ("units are in no clusters, so there is nothing to break down by",),
        written("s.csv", GOOD),
    ),
    BadInput(
        "a breakdown by an unknown kind",
        ("analysis.breakdown", "--scores", "{dir}/s.csv", "--baseline", "a", "--by", "z"),
        ("--by 'z': units are in no clusters of this kind; kinds are topic",),
        written("s.csv", clustered("cluster.topic", *"xxy")),
    ),
    BadInput("a breakdown of nothing", ("analysis.breakdown",), ("give either a STUDY or --scores F",)),
    BadInput(
        "stated parts with clusters",
        (
            "analysis.power",
            *(w for n in ("seed", "query", "resid") for w in (f"--sd-{n}", ".1")),
            "--clusters",
            "topic",
        ),
        ("--clusters are those of a pilot; give --pilot",),
    ),
    _csv("a study and a file", "give either a STUDY or --scores F", GOOD, "s", "--baseline", "a"),
    BadInput(
        "a torn Parquet file",
        ("analysis.significance", "--scores", "{dir}/s.parquet", "--baseline", "a"),
        ("{dir}/s.parquet: cannot be read as Parquet",),
        written("s.parquet", b"PAR1\x00\x01PAR1"),
    ),
    _parquet("a column of lists", "{dir}/s.parquet: the column 'arm' holds list<", arm=[["a"]] * 12),
    _parquet("a column of dates", "the column 'unit_id' holds", unit_id=[datetime.date(2026, 1, 1)] * 12),
    _parquet("values in a list", "the column 'value' holds list<", value=[[0.1]] * 12),
    _parquet("values as texts", "the column 'value'", value=["x"] * 12),
    _parquet("a value that is null", "is missing or NaN", value=[None, *[0.5] * 11]),
    _parquet("an arm that is null", "row 1 has no arm", arm=[None, *["a"] * 5, *["bb"] * 6]),
]
