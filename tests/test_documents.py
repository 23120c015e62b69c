"""Documents agree with the code: links, commands and their options, references of keys and of claims; `study init`."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from documents import LANGUAGES, LOG, NAMES, anchors, fences, links, prose, text_of

from ablate.__main__ import commands
from ablate.recipe.schema import Recipe, Runtime
from ablate.reference import SECTIONS, docstrings, reference, takes
from ablate.study.__main__ import main
from ablate.study.declaration import Axis, Claim, Study, build_study

NAMED = re.compile(r"`(docs/\w+\.md)`")
COMMAND = re.compile(r"python -m ((?:ablate|analysis|benchmarks)[\w.]*)([^\n`]*)")


def broken_links(name: str, text: str) -> list[str]:
    """Return the links of a document that lead to no file, or to no heading of it."""
    wrong = []
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path
        if not target.exists():
            wrong.append(link)
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8") if path else text):
            wrong.append(link)
    return wrong + [named for named in NAMED.findall(text) if not (ROOT / named).exists()]


def ragged_rows(text: str) -> list[str]:
    """Return the rows of tables that have another number of columns than the first row of their table."""
    wrong, columns = [], 0
    for line in prose(text).splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        own = len(re.sub(r"`[^`]*`|\\\|", "", line).strip().strip("|").split("|"))
        columns = columns or own
        wrong += [line] if own != columns else []
    return wrong


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_table_have_as_many_columns(name: str) -> None:
    assert ragged_rows(text_of(name)) == []
    assert ragged_rows("| a | b |\n|---|---|\n| `x|y` | 1 |\n| 1 | 2 | 3 |\n") == ["| 1 | 2 | 3 |"]


@pytest.mark.parametrize("name", NAMES)
def test_links_anchors_and_named_documents_exist(name: str) -> None:
    assert broken_links(name, text_of(name)) == []


def test_a_broken_link_and_a_broken_anchor_are_found() -> None:
    text = "# A page\n\n## What: it, does\n\n[a](#what-it-does) [b](#what) [c](nowhere.md) [d](statistics.md#power)\n"
    assert broken_links("docs/x.md", text) == ["#what", "nowhere.md"]
    assert broken_links("docs/x.md", "[e](statistics.md#pwer) `docs/gone.md`") == ["statistics.md#pwer", "docs/gone.md"]
    assert broken_links("docs/x.md", "```text\n[f](nowhere.md)\n```\n") == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != LOG])
def test_every_block_of_code_says_its_language(name: str) -> None:
    """Commands are those of `sh`, so that none escapes tests/test_document_commands.py."""
    wrong = [fence.line for fence in fences(text_of(name)) if fence.language not in LANGUAGES]
    assert wrong == [], f"one of {', '.join(LANGUAGES)} stands behind the backticks"
    blocks = [fence for fence in fences(text_of(name)) if fence.language == "text"]
    hidden = [fence.line for fence in blocks if re.search(r"^\s*python -m ", fence.text, re.M)]
    assert hidden == [], "commands stand in a block `sh`"
    assert "```" not in prose(text_of(name)), "a block of code that does not end"


def options_of(module: str) -> set[str]:
    """Return the options that a command's source names, with those of the frame; f-strings hold any name."""
    path = ROOT / Path(*module.split("."))
    files = [path / "__main__.py"] if path.is_dir() else [path.with_suffix(".py")]
    sources = [file.read_text(encoding="utf-8") for file in (*files, ROOT / "ablate" / "cli" / "command.py")]
    if module == "ablate.search":
        sources.append((ROOT / "ablate" / "export.py").read_text(encoding="utf-8"))
    options = {option for text in sources for option in re.findall(r'"(--[a-z][\w-]*)"', text)}
    if any('f"--{' in text for text in sources):  # made in a loop over names, which stand in the same file
        options |= {f"--{word}" for text in sources for word in re.findall(r'"([a-z][\w-]*)"', text)}
        options |= {f"--{word}" for word in ("dataset", "condition", "direction", "measure")}
    return options | {"--help"}


def wrong_commands(text: str) -> list[str]:
    """Return the commands of a document that do not exist, and the options that they do not have."""
    wrong = []
    for module, words in COMMAND.findall(text):
        module = module.rstrip(".")
        path = ROOT / Path(*module.split("."))
        if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
            wrong.append(module)
            continue
        given = set(re.findall(r"(?<!\S)(--[a-z][\w-]*)", words.partition("#")[0]))
        if module not in ("ablate", "analysis", "ablate.run"):  # the first two have none, Hydra's are its own
            wrong += [f"{module} {option}" for option in sorted(given - options_of(module))]
    return wrong


@pytest.mark.parametrize("name", [name for name in NAMES if name != LOG])
def test_commands_and_their_options_exist(name: str) -> None:
    assert wrong_commands(text_of(name)) == []


def test_a_wrong_command_and_a_wrong_option_are_found() -> None:
    assert wrong_commands("`python -m analysis.clams dual_view`") == ["analysis.clams"]
    assert wrong_commands("python -m analysis.claims dual_view --jsno x") == ["analysis.claims --jsno"]
    assert wrong_commands("python -m analysis.claims dual_view --json x  # not --this") == []


def test_every_command_is_named_in_the_documents() -> None:
    text = "".join(map(text_of, NAMES))
    known = [name for package in ("ablate", "analysis") for name in commands(ROOT / package)]
    assert [name for name in known if f"python -m {name}" not in text and f"{name}`" not in text] == []


def test_the_reference_of_configuration_is_up_to_date() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == reference(), "run: python -m ablate.reference --to docs/configuration.md"


def test_the_reference_covers_every_group_of_keys() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section in SECTIONS:
        for field in dataclasses.fields(section.kind):
            assert f"| `{section.path}.{field.name}` |" in text
    groups = {section.path.partition(".")[0] for section in SECTIONS} | {"ranker", "stemmer", "runtime"}
    assert {field.name for field in dataclasses.fields(Recipe)} <= groups


def test_what_a_key_takes_is_said_in_words_and_its_meaning_is_its_docstring() -> None:
    assert takes(int | None) == "a whole number or null"
    assert takes(tuple[Claim, ...]) == "list of group of keys"
    assert docstrings(Runtime)["checkpoint_every"] == "Steps between checkpoints."
    assert "results" not in docstrings(Runtime)


@pytest.mark.parametrize(("heading", "kind"), [("The study", Study), ("A claim", Claim), ("An axis", Axis)])
def test_the_reference_of_claims_names_every_field_and_no_other(heading: str, kind: type) -> None:
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == [field.name for field in dataclasses.fields(kind)]


def test_a_new_study_is_one_that_can_be_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["init", "mine", "--to", str(tmp_path), "--arms", "instructions", "dual_view", "--dataset", "museum/test"]
    assert main(words) == 0
    study = build_study(yaml.safe_load((tmp_path / "mine.yaml").read_text())["study"])
    assert study.arms == ("instructions", "dual_view") and len(study.seeds) == 5
    assert {claim.contrast for claim in study.claims} == {"dual_view - instructions"}
    assert {claim.dataset for claim in study.claims} == {"museum/test"}
    assert "+sweeps=mine" in capsys.readouterr().out


def test_a_study_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("kept")
    assert main(["init", "mine", "--to", str(tmp_path)]) == 2
    assert "is there already and is not overwritten" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "kept"
