"""Overrides as the command line takes them: every text comes back as it was, and a person is shown how to write it."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ablate.cli.overrides import explain_unquoted, quoted, shell_word, written

TEXTS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("\\'\"${}=,:[]() /.+-#1eé\n")))


def read(override: str) -> Any:
    """Return the value that a configuration has after an override."""
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    return OmegaConf.to_container(OmegaConf.create({"key": parsed.value()}), resolve=True)["key"]  # type: ignore


@given(TEXTS)
@settings(deadline=None)
@example("/tmp/a b é")
@example("a\\'b\\")
@example('it\'s {x} "q"')
@example("${oc.env:HOME}")
@example("a\\${b}\\\\${c}\\")
@example("..5")
@example("./5")
@example("/1e5")
@example("NULL")
@example(" padded ")
def test_every_text_comes_back_as_it_was(text: str) -> None:
    assert read(quoted("key", text)) == text
    (word,) = shlex.split(shell_word("key", text))
    assert read(word) == text


@pytest.mark.parametrize("value", [None, True, 0, -3, 0.1, 1e-7, 1e300, [], ["a b", 1, None], [["$", "x"]]])
def test_other_values_come_back_too(value: Any) -> None:
    assert read(quoted("key", value)) == value


@pytest.mark.parametrize("text", ["dual_view", "/tmp/a.b-c", "org/name", "./x", ".hidden", "a-1"])
def test_a_plain_text_needs_no_quotation_marks(text: str) -> None:
    assert written(text) == text


@pytest.mark.parametrize(
    "override, shown",
    [
        ("runtime.results=/tmp/a b é", "'runtime.results=\"/tmp/a b é\"'"),
        ("source.path=/data/a=b", "'source.path=\"/data/a=b\"'"),
        ("+evaluation.source.path=/data/{x}", "'+evaluation.source.path=\"/data/{x}\"'"),
        ("source.path=/data/x}", "'source.path=\"/data/x}\"'"),
        ("source.path=/data/[1]", "'source.path=\"/data/[1]\"'"),
        ("source.path=/data/a'b", "'source.path=\"/data/a'\"'\"'b\"'"),
        ('source.path=/data/a"b', '\'source.path="/data/a\\"b"\''),
        ("source.path=/data/a#b", "'source.path=\"/data/a#b\"'"),
        ("source.path=/data/a(b)", "'source.path=\"/data/a(b)\"'"),
        ("source.path=/data/ä", "'source.path=\"/data/ä\"'"),
        ("source.path=/data/a&b;c", "'source.path=\"/data/a&b;c\"'"),
    ],
)
def test_a_text_that_the_grammar_cannot_read_is_shown_in_quotation_marks(override: str, shown: str) -> None:
    line = explain_unquoted(override)
    assert line == f"{override} holds characters with a meaning of their own; as one text: {shown}"
    key, _, value = override.partition("=")
    assert read(shlex.split(shown)[0].removeprefix("+")) == value and shlex.split(shown)[0].startswith(key)


def test_a_comma_is_several_values_or_one_text() -> None:
    assert explain_unquoted("source.path=/a,b") == (
        "source.path=/a,b is several values: add -m for a run with each; as one text: 'source.path=\"/a,b\"'"
    )


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "runtime.results=/a b/c",
        "source.path='/a=b'",
        "evaluation.sets=[test]",
        "seed=choice(1,2)",
        "evaluation.sets=[test",
        "source={kind:beir",
        "source.path='/a",
        "no override",
        "=x",
        "train.epochs=2",
        "+a=",
        "~factors",
        "seed=range(0,3)",
        "train.epochs=choice(1,",
    ],
)
def test_what_is_right_or_wrong_in_another_way_is_not_explained_so(override: str) -> None:
    assert explain_unquoted(override) is None


UNQUOTED = re.compile(r'f"[+\w.]*\b(results|path|storage|searchpath)=[^"{]*\{(?![^}]*![rs]\})')


def test_no_test_writes_a_path_into_an_override_unquoted() -> None:
    bad, good = "f" + '"runtime.results={tmp_path}"', "f" + '"source.path={path!r} is no folder"'
    assert UNQUOTED.search(bad) and not UNQUOTED.search(good)
    found = [
        f"{path.name}:{number}: write override(key, value) of conftest"
        for path in (ROOT / "tests").rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNQUOTED.search(line)
    ]
    assert found == []
