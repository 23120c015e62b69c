"""A drawn sample whose texts tell the truth, and a rater who reads them."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from conftest import ROOT

from analysis.sample_for_audit import main as sample_main


def make_sample(folder: Path, size: int = 10, known_bad: int = 2, num_items: int = 40, **texts: str) -> Path:
    """Draw `size` of the items about old and new films, each with a number of its own, into `folder/audit`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "id": f"i{n}",
            "query_id": f"q{n}",
            "query": "films",
            "passage_a": f"old {n}",
            "passage_b": f"new {n}",
            "instruction": f"only old {n}",
            "complement": f"not old {n}",
            "constraint_type": "date",
            **texts,
        }
        for n in range(num_items)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--items", str(folder / "items.jsonl"), "--size", str(size), "--known-bad", str(known_bad)]
    assert sample_main([*words, "--to", str(folder / "audit")]) == 0
    return folder / "audit"


def true_answers(passages: Sequence[str], instructions: Sequence[str]) -> list[bool]:
    """Return the four answers of a rater who reads the texts, in the order of a sheet."""
    answers = []
    for instruction in instructions:
        asked, *_, number = instruction.split()
        for passage in passages:
            age, own = passage.split()
            answers.append((age == "old") == (asked == "only") and own == number)
    return answers


@contextlib.contextmanager
def started_page(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port, give the process and the address of the page, and end it whatever happens."""
    command = [sys.executable, "-m", "analysis.annotate", *words]
    process: subprocess.Popen[str] = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        address = next(filter(None, (re.search(r"http://\S+/", line) for line in process.stdout)), None)
        assert address is not None, process.stderr.read()
        yield process, address[0]
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def running_page(*words: str) -> Iterator[str]:
    """Give the address of `started_page` alone."""
    with started_page(*words) as (_, address):
        yield address
