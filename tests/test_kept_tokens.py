"""Token ids on the disk: made once whoever asks, the same bits, and nothing that is damaged is believed."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_config

from ablate.model import tokens as tokens_module
from ablate.model.text import TextTemplate, tiny_tokenizer
from ablate.model.tokens import KeptTokens, tokenizer_key
from ablate.records import Passage
from ablate.store.results import ResultStore

TEXTS = ["a dog and a ship", "the road to the lamp", "", "a dog and a ship, a book and a tree " * 5]


class Counting:
    """Makes ids of a text's bytes and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> list[list[int]]:
        self.asked += texts
        return [list(text.encode()) for text in texts]


def as_lists(ids: list[np.ndarray]) -> list[list[int]]:
    return [own.tolist() for own in ids]


def files(root: Path) -> list[Path]:
    return sorted((root / "cache" / "tokens").glob("*/*"))


EXPECTED = [list(text.encode()) for text in TEXTS]


def test_a_text_is_tokenised_once_for_all_who_ask(tmp_path: Path) -> None:
    first, second, third = Counting(), Counting(), Counting()
    kept = KeptTokens(ResultStore(tmp_path), "k")
    assert as_lists(kept.ids_of([TEXTS[0], *TEXTS], first)) == [EXPECTED[0], *EXPECTED]
    assert sorted(first.asked) == sorted(TEXTS), "each distinct text once"
    assert as_lists(KeptTokens(ResultStore(tmp_path), "k").ids_of([*TEXTS, "new"], second)) == [*EXPECTED, [*b"new"]]
    assert second.asked == ["new"]
    assert as_lists(kept.ids_of(["new"], third)) == [[*b"new"]] and third.asked == [], "what came since is seen"
    assert len(files(tmp_path)) == 2 and {path.suffix for path in files(tmp_path)} == {".ids"}
    KeptTokens(ResultStore(tmp_path), "other").ids_of(["new"], third)
    assert third.asked == ["new"], "another key knows nothing of it"


def cut(content: bytes) -> bytes:
    return content[:-5]


def longer(content: bytes) -> bytes:
    return content + b"\0\0\0\0"


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def another_sum(content: bytes) -> bytes:
    return content[:40] + bytes([content[40] ^ 1]) + content[41:]


def huge(content: bytes) -> bytes:
    return content[:12] + b"\xff" * 16 + content[28:]


@pytest.mark.parametrize("damage", [cut, longer, flipped, another_sum, huge, lambda content: b"", lambda content: b"x"])
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    KeptTokens(ResultStore(tmp_path), "k").ids_of(TEXTS, Counting())
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    make = Counting()
    assert as_lists(KeptTokens(ResultStore(tmp_path), "k").ids_of(TEXTS, make)) == EXPECTED
    assert make.asked == TEXTS
    assert files(tmp_path) == [path] and path.read_bytes() == whole


def test_what_a_killed_process_left_is_not_read(tmp_path: Path) -> None:
    KeptTokens(ResultStore(tmp_path), "k").ids_of(TEXTS, Counting())
    (path,) = files(tmp_path)
    path.rename(path.with_name(f".{path.name}.{'0' * 32}"))
    make = Counting()
    assert as_lists(KeptTokens(ResultStore(tmp_path), "k").ids_of(TEXTS, make)) == EXPECTED
    assert make.asked == TEXTS and path in files(tmp_path)


def test_a_folder_that_cannot_be_made_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    make = Counting()
    kept = KeptTokens(ResultStore(tmp_path), "k")
    assert as_lists(kept.ids_of(TEXTS, make)) == as_lists(kept.ids_of(TEXTS, make)) == EXPECTED
    assert make.asked == TEXTS * 2


def test_no_more_texts_are_kept_than_memory_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "MOST_TEXTS", len(TEXTS))
    kept, make = KeptTokens(ResultStore(tmp_path), "k"), Counting()
    kept.ids_of(TEXTS, make)
    assert as_lists(kept.ids_of(["new", TEXTS[0]], make)) == [[*b"new"], EXPECTED[0]]
    kept.ids_of(["new"], make)
    assert make.asked == [*TEXTS, "new", "new"] and len(files(tmp_path)) == 1


def test_of_two_processes_at_once_one_makes_what_both_ask_for(tmp_path: Path) -> None:
    code = f"""
import sys, time
from ablate.model.tokens import KeptTokens
from ablate.store.results import ResultStore
def make(texts):
    time.sleep(1)
    print(len(texts), end=" ")
    return [list(text.encode()) for text in texts]
ids = KeptTokens(ResultStore({str(tmp_path)!r}), "k").ids_of([str(n) for n in range(50)], make)
assert [bytes(own.tolist()).decode() for own in ids] == [str(n) for n in range(50)]
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert sorted(out for out, _ in told) == ["", "50 "]
    assert len(files(tmp_path)) == 1


def template(*overrides: str) -> TextTemplate:
    model = run_config("+experiment=query_only", "model=tiny", *overrides).recipe.model
    assert model.tiny is not None
    return TextTemplate(model, tiny_tokenizer(model.tiny, ["a dog and a ship", "the road to the lamp book tree"]))


def test_a_template_gives_the_same_tokens_with_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [("a dog", ""), ("a dog", "and a ship"), ("the road", "to the lamp " * 60)]
    passages = [Passage("a", "the lamp", "a book"), Passage("b", "a tree " * 200)]
    alone, keeping, again = template(), template(), template()
    keeping.keep_tokens(ResultStore(tmp_path))
    again.keep_tokens(ResultStore(tmp_path))
    expected = alone.tokenise_queries(queries), alone.tokenise_passages(passages)
    assert [part.num_truncated for part in expected] == [1, 1]
    for other in (keeping, again):
        made = other.tokenise_queries(queries), other.tokenise_passages(passages)
        for ours, theirs in zip(made, expected, strict=True):
            assert ours.num_truncated == theirs.num_truncated
            assert as_lists(ours.ids) == as_lists(theirs.ids)
            assert {own.dtype for own in (*ours.ids, *theirs.ids)} == {np.dtype(np.int32)}
        monkeypatch.setattr(TextTemplate, "_bare", None)  # the second one asks no tokenizer
    longer = template("model.passage_length=512")
    longer.keep_tokens(ResultStore(tmp_path))
    with pytest.raises(TypeError):
        longer.tokenise_passages(passages)


def test_a_copy_of_a_model_takes_its_template_along(tmp_path: Path) -> None:
    keeping = template()
    keeping.keep_tokens(ResultStore(tmp_path))
    expected = keeping.tokenise_queries([("a dog", "and a ship")])
    copied = copy.deepcopy(keeping)
    assert as_lists(copied.tokenise_queries([("a dog", "and a ship")]).ids) == as_lists(expected.ids)


def test_a_key_stands_for_tokenizer_and_length() -> None:
    tokenizer = template().tokenizer
    key = tokenizer_key(tokenizer, 100)
    assert key is not None and key == tokenizer_key(tokenizer, 100) != tokenizer_key(tokenizer, 99)
    tokenizer(["a dog"], truncation=True, max_length=3, padding="max_length")
    assert tokenizer_key(tokenizer, 100) == key, "how it was last called is no part of it"
    tiny = run_config("+experiment=query_only", "model=tiny").recipe.model.tiny
    assert tiny is not None and tokenizer_key(tiny_tokenizer(tiny, ["other words"]), 100) != key

    class Slow:
        is_fast = False

    assert tokenizer_key(Slow(), 100) is None
