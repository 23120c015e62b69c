"""The frame of the analysis commands: help with an example, one line and exit code 2, files by rename."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from ablate.cli.command import add_study, command, finish, write_text
from ablate.records import UserError

COMMANDS = ("budgets", "claims", "collect", "fairness", "power", "significance")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    text = " ".join(importlib.import_module(f"analysis.{name}").parser().format_help().split())
    assert f"example: python -m analysis.{name} " in text


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "power"])
def test_every_command_names_the_studies_that_there_are(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = tmp_path / "s.yaml"
    declared.write_text("study: {question: q, arms: [a], seeds: [0]}")
    more = {"claims": ["--declared", str(declared)], "significance": ["--baseline", "a"]}.get(name, [])
    assert importlib.import_module(f"analysis.{name}").main(["s", "--results", str(tmp_path), *more]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: no ") and captured.err.endswith("studies there: none\n")
    assert captured.err.count("\n") == 1 and captured.out == ""


@pytest.mark.parametrize("error", [UserError("two\nlines"), OSError("two\nlines")])
def test_mistakes_are_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: object) -> None:
        raise error

    made = command("analysis.x", "x", "study")
    add_study(made)
    assert finish(run, made, ["s"]) == 2
    assert capsys.readouterr().err == "error: two lines\n"


def test_other_errors_are_ours_and_pass(capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: object) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        finish(run, command("analysis.x", "x", "study"), [])


def test_a_written_file_is_told_and_its_folder_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(tmp_path / "a" / "b.txt", "x")
    assert (tmp_path / "a" / "b.txt").read_text() == "x"
    assert capsys.readouterr().err == f"written: {tmp_path / 'a' / 'b.txt'}\n"
