"""What `runtime.profile=true` gives: a table of where the time of a run went, and a trace that a browser opens.

Both lie in `profiles/` of the folder of results, under the id of the evaluation, beside the stages and not in them. The
trace is of the format that Perfetto (ui.perfetto.dev) and chrome://tracing read: complete events, microseconds
(Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from ablate.engine.prepare import Run
from ablate.store.files import PROFILE_FILE, TRACE_FILE, write_atomically
from ablate.tables import Column, Table, to_csv, to_text
from ablate.timing import Recording

COLUMNS = ("stage", "part", "times", "wall_s", "cpu_s", "share")


def follow_device(recording: Recording | None, run: Run) -> None:
    """Let a recording wait for what a GPU has still to do where parts begin and end, so that each has its own time."""
    if recording is not None and run.device == "cuda":
        import torch

        recording.settle = torch.cuda.synchronize


def rows_of(recording: Recording) -> list[dict[str, Any]]:
    """Return a row for each part, with its share of all wall seconds, by stage in the order of their beginnings."""
    total = sum(spent.wall for spent in recording.spent.values()) or 1.0
    stages = list(dict.fromkeys(stage for stage, _ in recording.spent))
    parts = sorted(recording.spent.items(), key=lambda item: stages.index(item[0][0]))
    return [
        dict(zip(COLUMNS, (stage, part, spent.times, spent.wall, spent.cpu, spent.wall / total), strict=True))
        for (stage, part), spent in parts
    ]


def table_of(recording: Recording) -> Table:
    """Return the table that people read: seconds and shares of all parts, the sum of each stage above them."""
    rows = rows_of(recording)
    lines: list[tuple[str, ...]] = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        parts = [row for row in rows if row["stage"] == stage]
        sums = [sum(row[name] for row in parts) for name in ("wall_s", "cpu_s", "share")]
        lines.append((stage, "", "", *_shown(*sums)))
        lines += [
            ("", row["part"], f"{row['times']:,}", *_shown(*(row[name] for name in COLUMNS[3:]))) for row in parts
        ]
    lines.append(("all", "", "", *_shown(*(sum(row[name] for row in rows) for name in COLUMNS[3:]))))
    columns = (Column("stage"), Column("part"), *(Column(name, "r") for name in ("times", "wall s", "CPU s", "share")))
    return Table("where the time went", columns, tuple(lines), (f"highest resident memory {_peak_mib():,.0f} MiB",))


def _shown(wall: float, cpu: float, share: float) -> tuple[str, str, str]:
    return f"{wall:.2f}", f"{cpu:.2f}", f"{share:.1%}"


def _peak_mib() -> float:
    """Return the highest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def trace_of(recording: Recording, title: str) -> dict[str, Any]:
    """Return the trace: an event for each span of the recording, those that were only counted told by their number."""
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": title}},
        *(
            {
                "name": span.part if span.part != "other" else span.stage,
                "cat": span.stage,
                "ph": "X",
                "ts": span.began * 1e6,
                "dur": span.wall * 1e6,
                "pid": 0,
                "tid": 0,
                "args": {"cpu_s": span.cpu},
            }
            for span in sorted(recording.spans, key=lambda span: (span.began, -span.wall))
        ),
    ]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"spans that were counted only": recording.num_dropped},
    }


def tell(recording: Recording | None, run: Run) -> None:
    """Write table and trace of a run, and print the table and where both lie; without a recording nothing."""
    if recording is None:
        return
    recording.stop()
    folder = run.store.profile(run.identity.eval_id)
    print(f"\n{to_text(table_of(recording))}")
    with run.store.tolerating_no_space(f"{folder} does not get the profile of {run.title}"):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / PROFILE_FILE, to_csv(COLUMNS, rows_of(recording)))
        write_atomically(folder / TRACE_FILE, json.dumps(trace_of(recording, run.title)))
        print(f"profile {folder}  ({PROFILE_FILE}; {TRACE_FILE} for ui.perfetto.dev or chrome://tracing)")
