"""What is changed to see whether tests bite, and that the listed mistakes and equivalents can still be made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks.mutants import BY_HAND, NOTES, TARGETS, equivalents, mutants_by_hand, mutants_of, summary

SOURCE = b'''"""A module."""

LIMIT: int = 3


def first(values, default=None):
    """Return what is first, 1 of them."""
    assert len(values) < 9
    if values and default is not None:
        values.sort(key=len, reverse=True)
        return f"{LIMIT + 1}: {values[:2]}"
    for value, _ in zip(values, values, strict=True):
        continue
    return min(values, default) + max(default, values)
'''


def changes(source: bytes, *only: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for mutant in mutants_of("m", source, only):
        assert mutant.change not in found.setdefault(mutant.kind, set())
        found[mutant.kind].add(mutant.change)
        assert mutant.applied(source) != source
        compile(mutant.applied(source), "m", "exec")
    return found


def test_every_kind_of_change_is_made_once_and_texts_and_assertions_are_let_be() -> None:
    sort, total = "values.sort(key=len, reverse=True)", "min(values, default) + max(default, values)"
    assert changes(SOURCE) == {
        "constant": {
            "3 → 4",
            "3 → 2",
            "LIMIT + 1 → LIMIT + 2",
            "LIMIT + 1 → LIMIT + 0",
            "True → False",
            ":2 → :3",
            ":2 → :1",
        },
        "and/or": {"values and default is not None → values or default is not None"},
        "condition": {"values and default is not None → not (values and default is not None)"},
        "comparison": {"values and default is not None → values and default is None"},
        "left out": {f"{sort} → pass", "continue → pass"},
        "keyword": {f"{sort} without key", f"{sort} without reverse"},
        "operator": {"{LIMIT + 1} → {LIMIT - 1}", f"{total} → min(values, default) - max(default, values)"},
        "slice": {"values[:2] → values[:]"},
        "returned": {"f'{LIMIT + 1}: {values[:2]}' → None", f"{total} → None"},
    }


def test_two_like_arguments_change_places_where_it_matters() -> None:
    assert changes(b"power(a, b)\nmin(a, b)\npower(a, 2)\n")["swapped"] == {"power(a, b) → power(b, a)"}


def test_only_what_is_named_is_changed_and_equal_changes_are_numbered() -> None:
    source = b"def f():\n    g(1, 1)\n\n\ndef g(a, b):\n    return a - b\n"
    assert set(changes(source, "g")) == {"operator", "returned"}
    assert changes(source, "f")["constant"] == {f"g(1, 1) → g({two})" for two in ("2, 1", "0, 1", "1, 2", "1, 0")}
    assert changes(b"x = [not a]\ny = [not a]\n")["sign"] == {"[not a] → [a]", "[not a] → [a] (place 2)"}


@pytest.mark.parametrize("module", TARGETS)
def test_targets_are_there_with_their_tests_and_the_mistakes_by_hand(module: str) -> None:
    source = (ROOT / f"{module.replace('.', '/')}.py").read_bytes()
    for name in TARGETS[module].tests:
        assert (ROOT / "tests" / f"test_{name}.py").exists(), name
    names = {name for mutant in mutants_of(module, source) for name in mutant.function.split(".")}
    assert {*TARGETS[module].only} <= names
    assert len(mutants_by_hand(module, source)) == len(BY_HAND.get(module, ()))


def test_what_is_listed_as_equivalent_can_still_be_changed() -> None:
    listed = equivalents(NOTES.read_text(encoding="utf-8"))
    for module in {module for module, _, _ in listed}:
        source = (ROOT / f"{module.replace('.', '/')}.py").read_bytes()
        possible = {(mutant.function, mutant.change) for mutant in mutants_of(module, source, TARGETS[module].only)}
        assert [place[1:] for place in listed if place[0] == module and place[1:] not in possible] == []


def test_the_table_counts_equivalents_apart() -> None:
    def line(change: str, outcome: str) -> dict[str, object]:
        return {"module": "m", "function": "f", "change": change, "line": 3, "outcome": outcome}

    lines = [line("a → b", "killed"), line("c | d → e", "survived"), line("g → h", "survived"), line("x", "broken")]
    listed = equivalents("| `m` | `f` | `c \\| d → e` | the same |\n| module | x | y | z |\n")
    shown = summary([*lines, line("t", "timeout")], listed)
    assert "| `m` | 4 | 2 | 1 | 1 | 66.7% |" in shown and "| all | 4 | 2 | 1 | 1 | 66.7% |" in shown
    assert shown.endswith("\nm line 3, f: g → h")


def test_the_command_makes_a_mutant_in_a_copy_and_writes_what_came_of_it(tmp_path: Path) -> None:
    module, out = ROOT / "analysis" / "stats" / "corrections.py", tmp_path / "mutants.jsonl"
    before = module.read_bytes()
    command = [sys.executable, "-m", "benchmarks.mutants", "--module", "analysis.stats.corrections", "--sample", "1"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    (line,) = map(json.loads, out.read_text().splitlines())
    assert line["outcome"] == "killed" and line["by"].startswith("tests/test_")
    assert module.read_bytes() == before
    assert "| `analysis.stats.corrections` | 1 | 1 | 0 | 0 | 100.0% |" in done.stdout
