"""Official benchmarks without mteb: pins and their errors, what a loaded task becomes, the shipped configurations."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT, override, run_config
from test_study import command

from ablate.data.official import LoadedTask, OfficialTasks, import_mteb, to_evaluation_set
from ablate.recipe.identity import Revisions, identify
from ablate.recipe.schema import MtebSource
from ablate.records import EvaluationSet, UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OFFICIAL = sorted(
    path.stem
    for path in (ROOT / "conf" / "evaluation_source").glob("*.yaml")
    if "kind: mteb" in path.read_text(encoding="utf-8")
)


def tasks(tmp_path: Path, **changes: Any) -> OfficialTasks:
    values: dict[str, Any] = {
        "revisions": (("NevIR", COMMIT),),
        "split": None,
        "path": None,
        "sets": ("NevIR",),
        "caches": tmp_path / "cache",
    }
    return OfficialTasks(**{**values, **changes})


class Table(dict[str, list[Any]]):
    """Columns as a data set of the hub gives them."""

    @property
    def column_names(self) -> list[str]:
        return list(self)

    def __len__(self) -> int:
        return len(self["id"])


def loaded(main_score: str, kind: str, ids: tuple[str, ...], **changes: Any) -> LoadedTask:
    data: dict[str, Any] = {
        "corpus": Table(id=["d1", "d2", "d3"], text=["one", "two", "three"], title=["first", "", None]),
        "queries": Table(id=list(ids), text=[f"text {n}" for n in ids], instruction=[f"only {n}" for n in ids]),
        "relevant_docs": {query_id: {"d1": 1} for query_id in ids},
        "top_ranked": None,
    }
    metadata = SimpleNamespace(name="Task", main_score=main_score, type=kind)
    task = SimpleNamespace(metadata=metadata, ignore_identical_ids=False)
    diff = {"7": ("d2",)} if main_score == "p-MRR" else None
    return LoadedTask(task, "default", "test", {**data, **changes}, diff)


def as_set(*arguments: Any, **changes: Any) -> EvaluationSet:
    return to_evaluation_set("Task", loaded(*arguments, **changes), {"data": "here"})


@pytest.mark.parametrize("name", OFFICIAL)
def test_shipped_sets_are_pinned_and_watch_nothing_in_training(name: str) -> None:
    config = run_config(f"+evaluation_source={name}")
    source = config.recipe.evaluation.source
    assert isinstance(source, MtebSource)
    pins = dict(source.revisions)
    assert {one.partition("/")[0] for one in config.recipe.evaluation.sets} <= pins.keys()
    assert all(len(commit) == 40 and int(commit, 16) for commit in pins.values())
    assert config.runtime.dev_set is None and source.path is None and source.split is None


def test_the_pins_of_the_instruction_benchmarks() -> None:
    pins: dict[str, str] = {}
    for name in OFFICIAL:
        pins |= dict(run_config(f"+evaluation_source={name}").recipe.evaluation.source.revisions)  # type: ignore
    known = {"Robust04InstructionRetrieval": "0495a5cb", "Core17InstructionRetrieval": "67d8733d"}
    known |= {"News21InstructionRetrieval": "c6fffeb9", "InstructIR": "42c3afab", "mFollowIR": "09eecbe4"}
    assert {name: pins[name][:8] for name in known} == known


def test_ids_hold_the_revision_and_not_the_place() -> None:
    here = run_config("+evaluation_source=nevir", "evaluation.source.path=here").recipe
    there = run_config("+evaluation_source=nevir", "evaluation.source.path=there").recipe
    revisions = Revisions(source="s", model="m", evaluation="e")
    listed = f"evaluation.source.revisions=[[Other,abcdef0],[NevIR,{COMMIT}]]"  # the source says what the used pins are
    longer = run_config("+evaluation_source=nevir", listed).recipe
    assert identify(longer, 0, revisions) == identify(here, 0, revisions)
    assert longer.evaluation.source.revisions == (("Other", "abcdef0"), ("NevIR", COMMIT))  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"evaluation.source.revisions\[0\]=\['NevIR'\] must have 2 entries"):
        run_config("+evaluation_source=nevir", "evaluation.source.revisions=[[NevIR]]")
    assert identify(here, 0, revisions) == identify(there, 0, revisions)
    assert identify(here, 0, replace(revisions, evaluation="f")).eval_id != identify(here, 0, revisions).eval_id
    assert identify(here, 0, replace(revisions, evaluation="f")).train_id == identify(here, 0, revisions).train_id


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"revisions": (("NevIR", "main"),)}, "pins NevIR to 'main'; a pin is a commit, 7 to 64 hex digits"),
        ({"revisions": (("NevIR", COMMIT), ("NevIR", COMMIT))}, "evaluation.source.revisions names a task twice"),
        ({"path": "nowhere"}, "nowhere/NevIR does not exist; evaluation.source.path holds one folder per task"),
        (
            {"path": "nowhere", "sets": ("../x",), "revisions": (("..", COMMIT),)},
            "names '..', which is no name of a folder",
        ),
    ],
)
def test_pins_and_places_are_checked(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        tasks(tmp_path, **changes)


def test_the_revision_follows_pins_and_bytes(tmp_path: Path) -> None:
    pinned = tasks(tmp_path).revision
    more = tasks(tmp_path, revisions=(("Other", "abcdef0"), ("NevIR", COMMIT))).revision
    assert more == pinned != tasks(tmp_path, revisions=(("NevIR", COMMIT[::-1]),)).revision
    assert tasks(tmp_path, split="dev").revision != pinned
    (tmp_path / "NevIR").mkdir()
    file = tmp_path / "NevIR" / "corpus.jsonl"
    found = set()
    for content in ("a", "b", "a"):
        file.write_text(content)
        found.add(tasks(tmp_path, path=str(tmp_path)).revision)
    assert len(found | {pinned}) == 3
    (tmp_path / "NevIR" / ".git").mkdir()
    (tmp_path / "NevIR" / ".git" / "HEAD").write_text("x")
    assert tasks(tmp_path, path=str(tmp_path)).revision in found


def test_without_mteb_the_remedy_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mteb", None)
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r'official benchmarks need mteb, .*; pip install -e "\.\[mteb\]"') as told:
        import_mteb(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.skipif(importlib.util.find_spec("mteb") is not None, reason="mteb is installed")
def test_a_run_that_lacks_mteb_stops_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ablate.engine.prepare import prepare

    monkeypatch.setenv("MTEB_CACHE", str(tmp_path))
    given = ("+evaluation_source=followir", "model=tiny", "source.documents=600", override("runtime.results", tmp_path))
    with pytest.raises(UserError, match="official benchmarks need mteb"):
        prepare(run_config(*given, "runtime.threads=1"))
    prepare(run_config(*given, "runtime.threads=1", "runtime.until=mix"))


CELLS = {
    "lists": ("+experiment=dual_view,joint", "seed=0,1,2"),
    "a study": ("+sweeps=smoke", "seed=0,1,2", "study.claims=[]"),
}
"""Command lines of six cells each."""
PLANNED = ("+evaluation_source=followir", "model=tiny", "runtime.plan_only=true")


class Benchmark:
    """Takes the place of mteb, and keeps what was opened and what was read."""

    def __init__(self, failing: str = "") -> None:
        self.opened: list[tuple[str, ...]] = []
        self.read: list[str] = []
        self._failing = failing

    def open(self, *, sets: tuple[str, ...], **_: Any) -> SimpleNamespace:
        self.opened.append(sets)
        return SimpleNamespace(revision="r", evaluation_names=sets, evaluation_set=self._evaluation_set)

    def _evaluation_set(self, name: str) -> EvaluationSet:
        self.read.append(name.removesuffix("InstructionRetrieval"))
        if self._failing:
            raise UserError(self._failing)
        return EvaluationSet(name, (), (), {}, {}, ())


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("runtime.until=scores", ["Core17", "News21", "Robust04"]),
        ("runtime.until=mix", []),
        ("evaluation.sets=[News21InstructionRetrieval],[Core17InstructionRetrieval]", ["News21", "Core17"]),
    ],
)
def test_a_plan_opens_a_benchmark_once_and_reads_each_of_its_sets_once(
    cells: str, word: str, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = Benchmark()
    monkeypatch.setattr("ablate.data.official.OfficialTasks", benchmark.open)
    assert command(tmp_path, "-m", *CELLS[cells], *PLANNED, word) == 0
    assert benchmark.read == read
    assert len(benchmark.opened) == len(set(benchmark.opened)) > 0


def test_a_set_that_cannot_be_read_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = Benchmark(failing="no network")
    monkeypatch.setattr("ablate.data.official.OfficialTasks", benchmark.open)
    assert command(tmp_path, "-m", *CELLS["lists"], *PLANNED) == 2
    assert capsys.readouterr().err == "error: no network (each of the 6 cells)\n"
    assert benchmark.read == ["Core17"]


@pytest.mark.parametrize("kind", ["Reranking", "InstructionReranking"])
@pytest.mark.parametrize("lists", [None, {}])
def test_a_reranking_task_without_lists_is_refused(kind: str, lists: Any) -> None:
    with pytest.raises(UserError, match=f"Task is a task of type {kind} .* union corpus is another benchmark"):
        as_set("ndcg_at_10", kind, ("q",), top_ranked=lists)


def test_followir_queries_become_original_and_changed() -> None:
    lists = {"7-og": ["d3", "d1"], "7-changed": ["d1", "d2", "d1"], "8-og": ["d1"]}
    ids = ("7-og", "7-changed")
    posed = Table(id=list(ids), text=["text", "text"], instruction=[f"only {query_id}" for query_id in ids])
    one = as_set("p-MRR", "InstructionReranking", ids, top_ranked=lists, queries=posed)
    unlike = as_set("p-MRR", "InstructionReranking", ids, top_ranked=lists)  # two texts: which is it without?
    assert [query.query_id for query in unlike.queries] == list(ids) == list(unlike.candidates or ())
    assert [(q.base_id, q.condition, q.direction) for q in one.queries] == [
        ("7", "original", "og"),
        ("7", "changed", "changed"),
        ("7", "plain", "plain"),
    ]
    assert one.candidates == {"7-og": ("d3", "d1"), "7-changed": ("d1", "d2"), "7": ("d3", "d1")}
    assert "7" not in one.qrels and one.provenance["queries without instruction"].startswith("1, posed beside those")
    assert one.changed_documents == {"7-changed": ("d2",)} and one.measures == ("nDCG@5",)
    assert one.provenance["candidates listed twice, taken once"] == "1" and one.provenance["data"] == "here"
    assert [tuple(passage) for passage in one.documents] == [
        ("d1", "one", "first"),
        ("d2", "two", ""),
        ("d3", "three", ""),
    ]


def test_instances_of_instructir_are_grouped_by_their_base() -> None:
    one = as_set("robustness_at_10", "InstructionRetrieval", ("4_1", "4_2", "5_1"))
    assert [(q.base_id, q.condition) for q in one.queries] == [("4", "original"), ("4", "original"), ("5", "original")]
    assert one.candidates is None and one.queries[0].instruction == "only 4_1"


def test_plain_retrieval_keeps_ids_and_asks_for_its_main_score() -> None:
    bare = Table(id=["a_1", "b"], text=["x", "y"])
    one = as_set("ndcg_at_20", "Retrieval", ("a_1",), queries=bare)
    assert [tuple(query) for query in one.queries] == [("a_1", "a_1", "x", "", "plain", "plain")]
    assert one.measures == ("nDCG@20",)
    assert one.provenance["queries without judgments, left out as in mteb"] == "1"
    assert as_set("map_at_1000", "Retrieval", ("a",)).measures == ("AP@1000",)
    with pytest.raises(UserError, match="main score 'hit_rate_at_5' is none of ours"):
        as_set("hit_rate_at_5", "Retrieval", ("a",))
    with pytest.raises(UserError, match="query 'a' is no text but list"):
        as_set("ndcg_at_10", "Retrieval", ("a",), queries=Table(id=["a"], text=[["turn", "turn"]]))
    with pytest.raises(UserError, match="document 'd1' has no text"):
        as_set("ndcg_at_10", "Retrieval", ("a",), corpus=Table(id=["d1"], text=[None]))


def test_pairs_of_nevir_are_opposites() -> None:
    own = {f"1_q{n}": ["d1", "d2"] for n in (1, 2)}
    one = as_set("paired_accuracy", "Reranking", ("1_q1", "1_q2"), top_ranked=own)
    assert one.opposites == (("1_q1", "1_q2"),) and {query.direction for query in one.queries} == {"q1", "q2"}
