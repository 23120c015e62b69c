"""Official benchmarks against mteb's own engine: the same numbers from our ranking and from mteb's, per kind of task.

The data is made up, in the layout of the hub; no network. Needs the extra `mteb`.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import hub_data
import numpy as np
import pytest
from conftest import ROOT, extra, override, run_config

mteb = extra("mteb")

from ablate.data.official import OfficialTasks, get_task, import_mteb  # noqa: E402
from ablate.evaluation.official import (  # noqa: E402
    MtebEncoder,
    agreements,
    check_template,
    cross_check,
    with_template,
)
from ablate.evaluation.scoring import evaluate  # noqa: E402
from ablate.evaluation.storage import read_evaluation  # noqa: E402
from ablate.evaluation.summary import Evaluation, compare, format_table  # noqa: E402
from ablate.model.encoder import BiEncoder, TransformerEncoder  # noqa: E402
from ablate.records import Passage, UserError  # noqa: E402
from ablate.retrieval.rankings import rank  # noqa: E402
from ablate.store.results import ResultStore  # noqa: E402

pytestmark = [pytest.mark.extras, pytest.mark.filterwarnings("default")]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("caches")
    import_mteb(folder)
    import datasets

    datasets.config.HF_DATASETS_CACHE = folder / "datasets"
    return folder


@functools.cache
def tiny(**changes: Any) -> BiEncoder:
    model = replace(run_config("model=tiny").recipe.model, **changes)
    return BiEncoder.from_config(model, seed=1, tokenizer_texts=[*hub_data.WORDS, "nobody judged this at all"])


def opened(folder: Path, *sets: str, split: str | None = None) -> OfficialTasks:
    pins = tuple((name, COMMIT) for name in dict.fromkeys(name.partition("/")[0] for name in sets))
    return OfficialTasks(revisions=pins, split=split, path=str(folder), sets=sets, caches=folder / "cache")


def means(evaluation: Evaluation) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {}
    for score in evaluation.scores:
        found.setdefault((score.condition, score.measure), []).append(score.value)
    return {key: fmean(values) for key, values in found.items()}


KINDS: list[tuple[str, Callable[[Path], object], dict[tuple[str, str], tuple[str, ...]]]] = [
    *[
        (
            f"{name}InstructionRetrieval",
            hub_data.followir,
            {
                ("changed", "p-MRR"): ("p-MRR",),
                ("original", "AP@1000"): ("og", "map_at_1000"),
                ("changed", "AP@1000"): ("changed", "map_at_1000"),
                ("original", "nDCG@5"): ("og", "ndcg_at_5"),
                ("changed", "nDCG@5"): ("changed", "ndcg_at_5"),
            },
        )
        for name in ("Core17", "News21", "Robust04")
    ],
    (
        "mFollowIR/fas",
        functools.partial(hub_data.followir, language="fas"),
        {("changed", "p-MRR"): ("p-MRR",), ("original", "nDCG@10"): ("og", "ndcg_at_10")},
    ),
    (
        "mFollowIRCrossLingual/eng-rus",
        functools.partial(hub_data.followir, language="rus"),
        {("changed", "p-MRR"): ("p-MRR",), ("changed", "RR@10"): ("changed", "mrr_at_10")},
    ),
    (
        "InstructIR",
        hub_data.instructir,
        {("instructed", "Robustness@10"): ("robustness_at_10",), ("original", "nDCG@10"): ("ndcg_at_10",)},
    ),
    ("SciFact", hub_data.beir, {("plain", "nDCG@10"): ("ndcg_at_10",), ("plain", "RR@10"): ("mrr_at_10",)}),
    ("ArguAna", functools.partial(hub_data.beir, own_ids=True), {("plain", "nDCG@10"): ("ndcg_at_10",)}),
    ("NevIR", hub_data.nevir, {("pairs", "pairwise accuracy"): ("paired_accuracy",)}),
]
ROUNDED = 5e-6
"""mteb rounds the means of measures per query to five digits."""


@pytest.mark.parametrize(("name", "write", "expected"), KINDS, ids=[kind[0] for kind in KINDS])
def test_our_scores_are_mtebs_scores(
    name: str, write: Callable[[Path], object], expected: dict[tuple[str, str], tuple[str, ...]], tmp_path: Path
) -> None:
    write(tmp_path / name.partition("/")[0])
    source = opened(tmp_path, name)
    one = source.evaluation_set(name)
    ours = evaluate(tiny(), [one], depth=1000)
    loaded = source.load(name)
    done = mteb.evaluate(
        MtebEncoder(tiny()),
        loaded.task,
        cache=None,
        prediction_folder=tmp_path / "predictions",
        show_progress_bar=False,
        overwrite_strategy="always",
    )
    (scores,) = done.task_results[0].scores["test"]
    assert scores["hf_subset"] == loaded.subset
    found = means(ours)
    for key, path in expected.items():
        theirs = functools.reduce(lambda part, step: part[step], path, scores)
        whole = path[-1] in ("p-MRR", "robustness_at_10", "paired_accuracy", "mrr_at_10")
        assert found[key] == pytest.approx(theirs, abs=1e-6 if whole else ROUNDED + 1e-9), (key, path)
    main_key = next(key for key, path in expected.items())
    assert found[main_key] == pytest.approx(scores["main_score"], abs=ROUNDED + 1e-9)
    # the rankings that mteb made and saved, by its own search, are ours
    (saved,) = (tmp_path / "predictions").rglob("*.json")
    run = json.loads(saved.read_text())[loaded.subset]["test"]
    ranked = {r.query_id: r for rankings in ours.rankings.values() for r in rankings}
    blind = {query.query_id for query in one.queries if query.query_id not in one.qrels}
    assert run.keys() == ranked.keys() - blind
    assert bool(blind) is (("changed", "p-MRR") in expected) is (("changed", "instruction gain") in found)
    for query_id, documents in run.items():
        documents.pop(one.own_documents.get(query_id, ""), None)
        theirs = rank(query_id, list(documents), list(documents.values()))
        assert theirs.doc_ids == ranked[query_id].doc_ids
        assert np.allclose(theirs.scores, ranked[query_id].scores, atol=1e-6)
    # before rounding, by mteb's functions on our rankings
    checked = agreements(one, ours)
    assert checked and max(agreement.difference for agreement in checked) < 1e-6
    names = {agreement.name for agreement in checked}
    assert {"p-MRR", "changed nDCG@5"} <= names if ("changed", "p-MRR") in expected else names
    gained = [text for text in cross_check([one], ours).warnings if "no instruction gain: the set poses no" in text]
    assert list(cross_check([one], ours).warnings) == gained and bool(gained) is (name == "InstructIR")
    assert one.candidates is None or all(len(ranked[q]) == len(own) for q, own in one.candidates.items())
    format_table(compare(ours, ours))


def test_a_difference_is_warned_of(tmp_path: Path) -> None:
    hub_data.followir(tmp_path / "Core17InstructionRetrieval")
    one = opened(tmp_path, "Core17InstructionRetrieval").evaluation_set("Core17InstructionRetrieval")
    right = evaluate(tiny(), [one], depth=1000)
    wrong = replace(right, scores=tuple(s._replace(value=s.value + 0.01) for s in right.scores if s.measure == "p-MRR"))
    (warning,) = cross_check([one], wrong).warnings
    assert warning.startswith("Core17InstructionRetrieval: p-MRR is ") and warning.endswith("by mteb's functions")
    assert "largest difference 1.0e-02" in str(cross_check([one], wrong).provenance)


def test_what_a_followir_set_holds(tmp_path: Path) -> None:
    name = "Robust04InstructionRetrieval"
    folder = hub_data.followir(tmp_path / name)
    one = opened(tmp_path, name).evaluation_set(name)
    first, second = one.queries[:2]
    assert (first.query_id, first.base_id, first.condition, first.direction) == ("300-og", "300", "original", "og")
    assert (second.query_id, second.condition, second.direction) == ("300-changed", "changed", "changed")
    table = {row["query-id"]: row["instruction"] for row in hub_data.rows_of(folder, "instruction")}
    assert first.instruction == table["300-og"] and first.query == second.query
    lists = {row["query-id"]: tuple(row["corpus-ids"]) for row in hub_data.rows_of(folder, "top_ranked")}
    assert {query_id: own for query_id, own in one.candidates.items() if query_id in one.qrels} == lists
    assert one.candidates["300"] == lists["300-og"]
    assert one.changed_documents["300-changed"] == tuple(hub_data.rows_of(folder, "qrel_diff")[0]["corpus-ids"])
    assert one.measures == ("nDCG@5",) and not one.own_documents
    notes = one.provenance
    assert notes["topics of qrel_diff without their two queries"] == "888"
    assert notes["mteb"] == mteb.__version__ and notes["data revision"].startswith(f"{COMMIT} as stated; content sha")
    assert notes["benchmark"].endswith("(InstructionReranking), main score p-MRR")


def test_judged_queries_only(tmp_path: Path) -> None:
    hub_data.followir(tmp_path / "mFollowIR", language="rus")
    one = opened(tmp_path, "mFollowIR/rus").evaluation_set("mFollowIR/rus")
    assert (
        sum(query.query_id in one.qrels for query in one.queries) == 10
        and one.provenance["queries without judgments, left out as in mteb"] == "1"
    )
    assert one.name == "mFollowIR/rus" and one.provenance["subset and split"] == "rus, test"


def test_the_union_corpus_is_refused(tmp_path: Path) -> None:
    name = "Core17InstructionRetrieval"
    hub_data.followir(tmp_path / name, with_lists=False)
    with pytest.raises(UserError, match="has no candidate lists .* searching the union corpus is another benchmark"):
        opened(tmp_path, name).evaluation_set(name)


def test_a_query_without_its_list_is_refused(tmp_path: Path) -> None:
    name = "News21InstructionRetrieval"
    folder = hub_data.followir(tmp_path / name)
    hub_data.rewrite(folder, "top_ranked", hub_data.rows_of(folder, "top_ranked")[1:])
    one = opened(tmp_path, name).evaluation_set(name)
    with pytest.raises(UserError, match="query '300-og' has no candidate list"):
        evaluate(tiny(), [one], depth=1000)


def test_a_candidate_that_is_listed_twice_is_taken_once_and_told(tmp_path: Path) -> None:
    name = "News21InstructionRetrieval"
    folder = hub_data.followir(tmp_path / name)
    rows = hub_data.rows_of(folder, "top_ranked")
    rows[0]["corpus-ids"].append(rows[0]["corpus-ids"][0])
    hub_data.rewrite(folder, "top_ranked", rows)
    one = opened(tmp_path, name).evaluation_set(name)
    assert one.candidates is not None and len(one.candidates["300-og"]) == 30
    assert one.provenance["candidates listed twice, taken once"] == "1"


def test_ids_against_the_convention_are_refused(tmp_path: Path) -> None:
    name = "Core17InstructionRetrieval"
    folder = hub_data.followir(tmp_path / name)
    for table, key in (("queries", "_id"), ("default", "query-id"), ("instruction", "query-id")):
        rows = [{**row, key: row[key].replace("300-og", "300-first")} for row in hub_data.rows_of(folder, table)]
        hub_data.rewrite(folder, table, rows)
    with pytest.raises(UserError, match="query id '300-first' ends with neither -og nor -changed"):
        opened(tmp_path, name).evaluation_set(name)
    folder = hub_data.nevir(tmp_path / "NevIR")
    hub_data.rewrite(folder, "default", hub_data.rows_of(folder, "default")[1:])
    with pytest.raises(UserError, match="pair '0' has queries 0_q2; it needs _q1 and _q2"):
        opened(tmp_path, "NevIR").evaluation_set("NevIR")


def test_names_that_are_no_sets_of_ours(tmp_path: Path, caches: Path) -> None:
    with pytest.raises(UserError, match=r"'Core17InstructionRetrival' is no task .* near: Core17InstructionRetrieval"):
        get_task("Core17InstructionRetrival", caches)
    pinned = {"revisions": (("SciFact", COMMIT),), "split": None, "path": None, "caches": caches}
    with pytest.raises(
        UserError, match=r"no commit for it; mteb .* uses '[0-9a-f]{40}': add \[NFCorpus, '[0-9a-f]{40}'"
    ):
        OfficialTasks(**pinned, sets=("SciFact", "NFCorpus"))
    pins = {name: COMMIT for name in ("mFollowIR", "STS12", "CQADupstackRetrieval", "BRIGHT", "SciFact")}
    source = OfficialTasks(revisions=tuple(pins.items()), split=None, path=None, sets=("SciFact",), caches=caches)
    with pytest.raises(UserError, match="no subset ''; its sets: mFollowIR/fas, mFollowIR/rus, mFollowIR/zho"):
        source.load("mFollowIR")
    with pytest.raises(UserError, match="SciFact has no subset 'eng'; its sets: default"):
        source.load("SciFact/eng")
    with pytest.raises(UserError, match="STS12 is a task of type STS .*; name a retrieval or reranking task"):
        source.load("STS12")
    with pytest.raises(UserError, match="CQADupstackRetrieval is .*; name its parts: CQADupstack"):
        source.load("CQADupstackRetrieval")


def test_data_that_cannot_be_loaded_ends_with_one_line(
    tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "SciFact").mkdir()
    with pytest.raises(UserError, match="SciFact: its data .* cannot be loaded .* a whole copy of the dataset") as told:
        opened(tmp_path, "SciFact").evaluation_set("SciFact")
    assert "\n" not in str(told.value)
    import mteb.abstasks.retrieval_dataset_loaders as loaders

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("cannot reach\nthe hub")

    monkeypatch.setattr(loaders, "get_dataset_config_names", unreachable)
    source = OfficialTasks(revisions=(("SciFact", COMMIT),), split=None, path=None, sets=("SciFact",), caches=caches)
    with pytest.raises(
        UserError, match=r"\(mteb/scifact at 0123456789ab\) cannot be loaded \(ConnectionError: cannot "
    ):
        source.evaluation_set("SciFact")


TEMPLATES: list[dict[str, Any]] = [
    {},
    {"query_prefix": "query: ", "passage_prefix": "passage: ", "separator": " | "},
    {"order": "instruction_first", "separator": "[SEP]"},
    {"query_length": 8, "passage_length": 6},
]


@pytest.mark.parametrize("changes", TEMPLATES, ids=str)
def test_the_template_reaches_the_model(changes: dict[str, Any]) -> None:
    text = check_template(tiny(**changes))
    assert repr(tiny(**changes).model.separator) in text


@pytest.mark.parametrize("changes", TEMPLATES, ids=str)
def test_the_template_reaches_the_model_in_packed_texts(changes: dict[str, Any]) -> None:
    encoder = copy.deepcopy(tiny(**changes))
    encoder.pack(True)
    assert repr(encoder.model.separator) in check_template(encoder)
    encoder.template._model = replace(encoder.model, query_prefix="another: ")
    with pytest.raises(UserError, match="query with instruction, our data path"):
        check_template(encoder)


class Swapped(TransformerEncoder):
    def encode_queries(self, queries: Any, *, progress: str | None = None) -> Any:
        return super().encode_queries([(i, q) if i else (q, i) for q, i in queries], progress=progress)


class Dropped(TransformerEncoder):
    def encode_queries(self, queries: Any, *, progress: str | None = None) -> Any:
        return super().encode_queries([(q, "") for q, _ in queries], progress=progress)


class Joined(TransformerEncoder):
    def encode_queries(self, queries: Any, *, progress: str | None = None) -> Any:
        return super().encode_queries([(f"{q} {i}".strip(), "") for q, i in queries], progress=progress)


class WithoutPrefix(TransformerEncoder):
    def encode_passages(self, passages: Any, *, progress: str | None = None) -> Any:
        self.template._model = replace(self.model, passage_prefix="")
        return super().encode_passages(passages, progress=progress)


class WithoutTitle(TransformerEncoder):
    def encode_passages(self, passages: Any, *, progress: str | None = None) -> Any:
        return super().encode_passages([Passage(p.doc_id, p.text) for p in passages], progress=progress)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Swapped, "query with instruction, our data path"),
        (Dropped, "query with instruction, our data path"),
        (Joined, "query with instruction, our data path"),
        (WithoutPrefix, "passage, our data path"),
        (WithoutTitle, "passage, our data path"),
    ],
)
def test_another_template_is_refused(kind: type[TransformerEncoder], what: str) -> None:
    right = tiny(query_prefix="query: ", passage_prefix="passage: ", separator=" | ")
    broken = kind(right.network, right.tokenizer, right.model)
    with pytest.raises(UserError, match=f"^{what}: the model is given .*, the configuration says '(query|passage): "):
        check_template(broken)


def test_a_wrapper_that_loses_the_instruction_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import ablate.evaluation.official as official

    monkeypatch.setattr(official, "_pairs", lambda batches, _: [(q, "") for batch in batches for q in batch["query"]])
    with pytest.raises(UserError, match="query with instruction, mteb's data path"):
        check_template(tiny())


def test_texts_that_do_not_come_apart_are_refused() -> None:
    encoder = MtebEncoder(tiny())
    metadata = mteb.get_task("SciFact").metadata
    batch = {"id": ["1"], "query": ["amber boat"], "instruction": ["cedar"], "text": ["amber boat cedar delta"]}
    same = {"task_metadata": metadata, "hf_split": "test", "hf_subset": "default"}
    with pytest.raises(UserError, match="joins query 'amber boat' and instruction 'cedar' to 'amber boat cedar delta'"):
        encoder.encode([batch], **same, prompt_type="query")
    with pytest.raises(UserError, match="mteb gives prompt_type=None"):
        encoder.encode([batch], **same)


def test_template_and_cut_queries_are_noted(tmp_path: Path) -> None:
    hub_data.instructir(tmp_path / "InstructIR")
    one = opened(tmp_path, "InstructIR").evaluation_set("InstructIR")
    (found,) = with_template(tiny(query_length=8), [one])
    assert found.provenance["queries cut"] == f"{len(one.queries)} of {len(one.queries)}"
    assert "at most 8 tokens" in found.provenance["template"] and "[SEP]" in found.provenance["note"]
    (other,) = with_template(tiny(order="instruction_first", separator="[SEP]"), [one])
    assert "note" not in other.provenance


def test_shipped_pins_are_those_of_mteb() -> None:
    for path in sorted((ROOT / "conf" / "evaluation_source").glob("*.yaml")):
        if "kind: mteb" in path.read_text(encoding="utf-8"):
            source = run_config(f"+evaluation_source={path.stem}").recipe.evaluation.source
            for name, commit in source.revisions:  # type: ignore[union-attr]
                assert mteb.get_task(name).metadata.dataset["revision"] == commit, name


def test_a_whole_run_keeps_rankings_provenance_and_home(tmp_path: Path) -> None:
    hub_data.followir(tmp_path / "data" / "Core17InstructionRetrieval")
    hub_data.nevir(tmp_path / "data" / "NevIR")
    command = [sys.executable, "-m", "ablate.run", "+experiment=instructions", "+evaluation_source=followir"]
    command += [override("evaluation.source.path", tmp_path / "data"), "evaluation.sets=[Core17InstructionRetrieval]"]
    command += ["model=tiny", "source.documents=600", "budget.limit=32", "train.batch_size=16", "tracker=none"]
    command += [override("runtime.results", tmp_path / "results"), "runtime.threads=1"]
    places = {"HF_HOME", "HF_DATASETS_CACHE", "MTEB_CACHE"}
    environment = {key: value for key, value in os.environ.items() if key not in places}
    environment |= {"HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    (tmp_path / "home").mkdir()
    first = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert first.returncode == 0, first.stderr
    assert "  queries cut: " in first.stdout and "means, largest difference" in first.stdout
    assert "warning: Core17InstructionRetrieval: " in first.stdout and "are cut to the model's length" in first.stdout
    store = ResultStore(tmp_path / "results")
    for manifest in store.manifests("evaluation"):
        folder = store.folder("evaluation", manifest.id)
        found = read_evaluation(folder, with_rankings=True)
        assert {len(ranking) for rankings in found.rankings.values() for ranking in rankings} == {30}
        assert manifest.counts["provenance"] == found.provenance
        assert manifest.counts["candidates"] == found.candidates
        assert found.provenance["Core17InstructionRetrieval"]["mteb"] == mteb.__version__
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and "mteb" in again.stdout
    assert not list((tmp_path / "home").rglob("*.arrow")) and list((tmp_path / "results").rglob("*.arrow"))
