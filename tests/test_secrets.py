"""Secrets and steering characters: nothing that is written or printed holds them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.secrets import REMOVED, is_same_but_for_secrets, is_scrubbed, scrub_text, scrub_texts
from ablate.store.results import ResultStore, stage_label
from ablate.store.workload import Workload
from ablate.study.records import StudyRecords
from ablate.study.running import failure_text, user_message
from ablate.tables import text_of_cell, to_csv
from ablate.terminal import one_line, safe_output, visible
from analysis.collect import main as collect

SECRET = 'hf_"quoted"\\and é'


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MY_API_KEY", SECRET)
    return SECRET


def record(root: Path, recipe: dict[str, Any], label: str) -> str:
    """Complete an evaluation and return its id."""
    store = ResultStore(root)
    with store.making("evaluation", recipe) as folder:
        assert folder is not None
        (folder / "notes.json").write_text("{}")
        manifest = store.complete(
            "evaluation",
            recipe,
            files=("notes.json",),
            parents=(),
            seed=0,
            label=label,
            counts={"from": [SECRET]},
            hardware={},
            cost={},
            started="",
        )
    assert manifest == store.find("evaluation", recipe)
    return manifest.id


def everything(root: Path) -> str:
    return "\n".join(f"{path} {path.read_text()}" for path in root.rglob("*") if path.is_file())


def test_no_secret_stands_in_a_file_of_results(tmp_path: Path, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {"stage": "x", "separator": f" {secret} ", "value": 0.5}
    store, study = ResultStore(tmp_path), f"study-{secret}"
    stage_id = record(tmp_path, recipe, f"{study}/arm {secret}")
    assert stage_id == digest(recipe)  # the id is that of the real values
    for _ in range(2):
        store.add_label("evaluation", stage_id, f"{study}/other {secret}")
    store.keep_workload(Workload("0" * 16, "1" * 16, (stage_label(study, secret),), {"groups": 1}))
    text = failure_text(RuntimeError(f"near {secret!r} and {json.dumps(secret)}"))
    StudyRecords(store, study).keep_failure(secret, 0, text)
    found = everything(tmp_path)
    assert "quoted" not in found and "and é" not in found and found.count(REMOVED) > 5
    assert StudyRecords(store, study).failure_file(secret, 0).is_file()
    arms = store.by_arm("evaluation", study)
    assert sorted(arm for arm, _ in arms) == [f"arm {REMOVED}", f"other {REMOVED}"]
    monkeypatch.delenv("MY_API_KEY")  # what was left out is no damage, whether the secret is still there or not
    assert store.find("evaluation", recipe) is not None
    assert is_same_but_for_secrets(scrub_texts(recipe), recipe)


def test_only_what_was_left_out_may_differ() -> None:
    stored = {"a": f"x{REMOVED}y", "b": [1, "text"], REMOVED: 2}
    assert is_scrubbed(stored) and not is_scrubbed({"a": [1, "text"]})
    assert is_same_but_for_secrets(stored, {"a": "x-secret-y", "b": [1, "text"], "name": 2})
    for other in (
        {"a": "x-secret-z", "b": [1, "text"], "name": 2},
        {"a": "xy", "b": [2, "text"], "name": 2},
        {"a": "xy", "b": [1.0, "text"], "name": 2},
        {"a": "xy", "b": [1, "text"]},
    ):
        assert not is_same_but_for_secrets(stored, other)


def test_an_error_line_has_no_secret_and_nothing_that_steers(secret: str) -> None:
    message = user_message(UserError(f"model.separator={secret!r} in\n/home/{secret}/x is \x1b[31mwrong\x9b"))
    assert message == f"model.separator='{REMOVED}' in /home/{REMOVED}/x is \\x1b[31mwrong\\x9b"
    assert scrub_text("postgresql://me:pass@host/x") == f"postgresql://me:{REMOVED}@host/x"


@pytest.mark.parametrize(
    "char",
    [
        *map(chr, range(9)),
        "\x0b",
        "\r",
        "\x1b",
        "\x7f",
        "\x80",
        "\x9b",
        "\x9f",
        "\u061c",
        "\u200e",
        "\u202e",
        "\u2028",
        "\u2066",
        "\ud800",
        "\U000e0041",
    ],
)
def test_what_steers_a_terminal_is_shown(char: str) -> None:
    shown = visible(f"a{char}b")
    assert shown == f"a{char.encode('unicode_escape').decode()}b" and shown.isprintable()


@pytest.mark.parametrize("text", ["a\tb\n", "Größe ± 2", "日本語", "می‌خواهم", "👩‍💻", "\\x1b", ""])
def test_other_texts_are_left_alone(text: str) -> None:
    assert visible(text) == text


def test_output_is_safe_and_bars_still_move(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    out, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", errors)
    with safe_output():
        print("label \x1b[2J", secret)
        print("\r50% of \x1b[2J", end="", file=sys.stderr)
        sys.stderr.write("\n\x1b[A")
    assert out.getvalue() == f"label \\x1b[2J {REMOVED}\n"
    assert errors.getvalue() == "\r50% of \\x1b[2J\n\x1b[A"
    assert sys.stdout is out and one_line("a\n b") == "a b"


def test_a_label_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ablate.evaluation.storage import write_scores
    from ablate.records import QueryScore

    store, recipe = ResultStore(tmp_path), {"stage": "evaluation"}
    with store.making("evaluation", recipe) as folder:
        assert folder is not None
        write_scores(folder / "scores.parquet", [QueryScore("d", "plain", "plain", "q", "nDCG@10", 0.5)])
        store.complete(
            "evaluation",
            recipe,
            files=("scores.parquet",),
            parents=(),
            seed=0,
            counts={},
            label="s/\x1b]0;x\x07\u202e",
            hardware={},
            cost={},
            started="",
        )
    assert collect(["s", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert r"\x1b]0;x\x07\u202e" in printed and all(line.isprintable() for line in printed.splitlines())


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+x", "'+x"),
        ("-a + b", "'-a + b"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\tx", "'\tx"),
        ("'=x", "''=x"),
        ("'plain", "'plain"),
        ("-0.5", "-0.5"),
        ("+1", "+1"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula_and_each_is_read_back(text: str, cell: str) -> None:
    written = to_csv(["x", "y"], [{"x": text, "y": -0.5}])
    import csv

    ((x, y),) = list(csv.reader(io.StringIO(written)))[1:]
    assert (x, y) == (cell, "-0.5") and text_of_cell(x) == text
