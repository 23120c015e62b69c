"""What other distributions bring, and what is said of one that breaks; own files of the present folder."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from conftest import HandMadeSource, run_config

from ablate import plugins
from ablate.compose import load
from ablate.data.sources import open_source
from ablate.evaluation.measures import mean_name, parse, query_measures, range_of, revisions_of
from ablate.plugins import Plugin
from ablate.project import files_of, own, shipped
from ablate.recipe.identity import Revisions, identify
from ablate.recipe.schema import Share
from ablate.records import EvaluationSet, Passage, UserError
from ablate.reference import reference
from ablate.retrieval.rankings import Ranking

Install = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Keys of a source that a test brings."""

    kind: Literal["lab"]
    rows: Literal["complete", "all"]
    share: Share = 0.5
    """What is read of it."""

    def open(self, sets: tuple[str, ...]) -> Any:
        return Lab()


@dataclass
class NotFrozen:
    kind: Literal["lab"]
    rows: Literal["complete", "all"]


@dataclass(frozen=True)
class OfAnotherKind:
    kind: str
    rows: Literal["complete", "all"]


@dataclass(frozen=True)
class WithoutRows:
    kind: Literal["lab"]


@dataclass(frozen=True)
class WithoutOpen:
    kind: Literal["lab"]
    rows: Literal["complete", "all"]


class Lab(HandMadeSource):
    """A source that is right."""

    def documents(self) -> Iterator[Passage]:
        yield Passage("d", "text")

    def evaluation_set(self, name: str) -> EvaluationSet:
        return EvaluationSet(f"lab/{name}", (), (), {}, {}, ())


def half(grades: Mapping[str, int], doc_ids: Sequence[str]) -> float:
    return 0.5 * (doc_ids[0] in grades)


def too_much(grades: Mapping[str, int], doc_ids: Sequence[str]) -> float:
    return 1.5


def dividing(grades: Mapping[str, int], doc_ids: Sequence[str]) -> float:
    return 1 / 0


def leaving(*_: object) -> Any:
    sys.exit(0)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """A function that makes the entry points of this module those of the distribution `lab` 1.2."""

    def bring(group: Any, *distributions: str, **objects: str) -> None:
        brought = tuple(
            Plugin(group, name, distribution, "1.2", f"{__name__}:{value}")
            for distribution in distributions or ("lab",)
            for name, value in objects.items()
        )
        monkeypatch.setattr(plugins, "installed", lambda: brought)

    return bring


LAB = ("source.kind=lab", "~source.seed", "~source.documents", "~source.skew", "~source.shortcut")


def test_a_source_is_built_opened_and_named_in_ids(install: Install) -> None:
    install("ablate.sources", lab="Keys")
    config = run_config(*LAB, "+source.share=0.25")
    source = open_source(config.recipe.source, ("test",))
    assert source.revision == "lab 1.2 hand-made-1"
    assert len(list(source.rows())) == 16 and [p.doc_id for p in source.passages(["b", "a"])] == ["b", "a"]
    ids = identify(config.recipe, 0, Revisions(source=source.revision, model=""))
    assert ids.mix["source"] == {"kind": "lab", "rows": "complete", "share": 0.25, "revision": "lab 1.2 hand-made-1"}
    with pytest.raises(UserError, match=r"source\.share=2\.0 is out of range; allowed: 0 to 1"):
        run_config(*LAB, "+source.share=2")
    written = reference()
    assert "Keys of a source that a test brings." in written and "What is read of it." in written


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("NotFrozen", "source 'lab' of lab 1.2: test_plugins:NotFrozen is no frozen dataclass"),
        ("OfAnotherKind", "has no field kind: Literal['lab']"),
        ("WithoutRows", 'has no field rows: Literal["complete", "all"]'),
        ("WithoutOpen", "has no method open(sets)"),
        ("Gone", "source 'lab' of lab 1.2 failed when test_plugins:Gone was imported: AttributeError"),
    ],
)
def test_what_is_no_source(install: Install, value: str, told: str) -> None:
    install("ablate.sources", lab=value)
    with pytest.raises(UserError) as error:
        run_config(*LAB)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("raised", "error", "told"),
    [
        ("SystemExit(0)", UserError, "failed when lab_that_ends:Keys was imported: SystemExit: 0 (lab_that_ends.py:1)"),
        ("KeyboardInterrupt", KeyboardInterrupt, ""),
    ],
)
def test_a_plugin_that_ends_the_process_when_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str, error: type[BaseException], told: str
) -> None:
    (tmp_path / "lab_that_ends.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error) as caught:
        plugins.load(Plugin("ablate.sources", "lab", "lab", "1.2", "lab_that_ends:Keys"))
    assert told in str(caught.value)


def test_names_that_clash(install: Install) -> None:
    install("ablate.sources", "lab", "office", lab="Keys")
    with pytest.raises(UserError, match="lab 1.2 and office 1.2 both bring 'lab'"):
        run_config(*LAB)
    install("ablate.sources", world="Keys")
    with pytest.raises(UserError, match="source 'world' of lab 1.2 has its name"):
        run_config()
    install("ablate.sources", lab="Keys")
    with pytest.raises(UserError, match="allowed: world, beir, rules, published, lab; did you mean lab"):
        run_config(*LAB, "source.kind=lap")


def _missing(source: Any, doc_ids: Iterable[str]) -> Iterator[Passage]:
    yield from ()


@pytest.mark.parametrize(
    ("name", "value", "ask", "told"),
    [
        ("revision", 3, None, "gave in revision 3, which must be a text"),
        ("evaluation_names", ["a"], None, "gave in evaluation_names ['a'], which must be a tuple of texts"),
        ("documents", None, None, "gave in open() what has no method documents"),
        ("rows", lambda self: [{"row_id": 1}], lambda s: list(s.rows()), "gave in rows() a dict, which must be a Sou"),
        ("rows", lambda self: 1 / 0, lambda s: list(s.rows()), "failed in rows(): ZeroDivisionError"),
        ("rows", leaving, lambda s: list(s.rows()), "failed in rows(): SystemExit: 0 (test_plugins.py:"),
        ("generated", leaving, lambda s: s.generated("a"), "failed in generated(): SystemExit: 0"),
        ("passages", _missing, lambda s: list(s.passages(["a"])), "gave in passages() nothing where 'a' was asked"),
        (
            "evaluation_set",
            lambda self, name: {},
            lambda s: s.evaluation_set("t"),
            "gave in evaluation_set('t')",
        ),
    ],
)
def test_a_source_that_breaks(
    install: Install, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, ask: Any, told: str
) -> None:
    install("ablate.sources", lab="Keys")
    monkeypatch.setattr(Lab, name, value)
    keys = Keys(kind="lab", rows="all")
    with pytest.raises(UserError) as error:
        source = open_source(keys, ())
        assert ask is not None
        ask(source)
    assert told in str(error.value) and "lab 1.2" in str(error.value)


def _ranking(*doc_ids: str) -> Ranking:
    scores = -np.arange(len(doc_ids), dtype=np.float32)
    scores.setflags(write=False)
    return Ranking("q", doc_ids, scores)


def test_a_measure(install: Install) -> None:
    """Queries without a ranking or a relevant document score 0, as by our measures; the name is known everywhere."""
    with pytest.raises(UserError, match="measure 'half' is not known"):
        parse("half")
    assert mean_name("half") == "half"  # in results of an environment that had it
    install("ablate.measures", half="half")
    qrels = {"q": {"a": 1}, "gone": {"a": 1}, "none": {"a": 0}}
    results = query_measures(["half", "nDCG@10"], qrels, {"q": _ranking("a", "b"), "none": _ranking("a")})
    assert results["half"].per_unit == {"q": 0.5, "gone": 0.0, "none": 0.0}
    assert results["half"].listed == results["nDCG@10"].listed
    assert range_of("half") == (0.0, 1.0) and revisions_of(["half", "nDCG@5"], ()) == {"half": "lab 1.2", "nDCG@5": ""}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("too_much", "measure 'm' of lab 1.2 gave 1.5 for query 'q'; a measure is a number from 0 to 1"),
        (
            "dividing",
            "failed for query 'q': ZeroDivisionError: division by zero (test_plugins.py:",
        ),
        ("leaving", "failed for query 'q': SystemExit: 0 (test_plugins.py:"),
        ("Keys", "is no function of grades and doc_ids"),
    ],
)
def test_a_measure_that_breaks(install: Install, value: str, told: str) -> None:
    install("ablate.measures", m=value)
    with pytest.raises(UserError) as error:
        query_measures(["m"], {"q": {"a": 1}}, {"q": _ranking("a")})
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nDCG@10", "is there already"),
        ("p-MRR", "has no value per query"),
        ("Robustness@5", "has no value per query"),
        ("AP@7", "has the name of a measure of ablate"),
        ("successes", "is not known"),
    ],
)
def test_measures_that_cannot_be_added(install: Install, name: str, told: str) -> None:
    install("ablate.measures", **{"AP@7": "half"})
    with pytest.raises(UserError, match=told):
        revisions_of([name], ("nDCG@10",))


def test_measures_are_in_ids_and_none_is_not() -> None:
    plain, more = run_config("evaluation.measures=[]"), run_config("evaluation.measures=[nDCG@5,half]")
    before = identify(plain.recipe, 0, Revisions(source="", model=""))
    ids = [identify(more.recipe, 0, Revisions(source="", model="", measures={"half": v})) for v in ("lab 1", "lab 2")]
    assert "measures" not in before.evaluation["evaluation"]
    assert len({before.eval_id, *(identity.eval_id for identity in ids)}) == 3
    assert ids[0].evaluation["evaluation"]["measures"] == {"nDCG@5": "", "half": "lab 1"}
    assert ids[0].train_id == before.train_id


def test_entry_points_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab-2.0.dist-info").mkdir()
    (tmp_path / "lab-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 2.0\n")
    (tmp_path / "lab-2.0.dist-info" / "entry_points.txt").write_text("[ablate.sources]\nlab = a.b:C\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert Plugin("ablate.sources", "lab", "lab", "2.0", "a.b:C") in plugins.installed.__wrapped__()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A present folder with an arm, a study in a space, and a train group that has the name of a shipped one."""
    for name, text in (
        ("conf/experiment/mine.yaml", "# @package _global_\ndefaults: [dual_view]\nruntime: {label: mine}\n"),
        ("conf/train/standard.yaml", (shipped() / "conf/train/standard.yaml").read_text("utf-8")),
        ("sweeps/asked.yaml", "# @package _global_\nstudy: {question: q, arms: [mine], seeds: [1]}\n"),
        ("conf/config.yaml", "nothing: of ours\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_own_files_come_first(folder: Path) -> None:
    assert load(["+experiment=mine"]).runtime.label == "mine" and load(["+experiment=mine"]).factors.reversed_views == 1
    assert load(["+sweeps=asked"]).study.arms == ["mine"] and "study" in load(["+sweeps=dual_view"])
    assert files_of("experiment")["mine"] == folder / "conf/experiment/mine.yaml"
    assert files_of("experiment")["bm25"] == shipped() / "conf/experiment/bm25.yaml"
    assert files_of("sweeps/space")["lr"] == shipped() / "sweeps/space/lr.yaml" and "asked" in files_of("sweeps")
    with pytest.raises(UserError, match="there is no 'mine1' in experiment.*did you mean mine"):
        load(["+experiment=mine1"])
    assert "nothing" not in load([])


def test_the_checkout_has_no_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shipped())
    assert own("conf") is None and own("sweeps") is None
