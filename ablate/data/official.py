"""Official benchmarks, loaded by mteb at a pinned commit and turned into evaluation sets.

mteb (the extra `mteb`) knows where a benchmark lies, how its files are read and which measure counts; our protocol
ranks and scores it like any other set. Reranking benchmarks keep the official candidate list of each query. Query ids
follow mteb: `<topic>-og` and `<topic>-changed` (FollowIR, arXiv:2403.15246), `<base>_<n>` (InstructIR,
arXiv:2402.14334), `<pair>_q1` and `<pair>_q2` (NevIR, arXiv:2305.07614).
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.recipe.values import digest
from ablate.records import EvaluationQuery, EvaluationSet, Passage, UserError

REMEDY = 'pip install -e ".[mteb]"'
P_MRR, ROBUSTNESS, PAIRED = "p-MRR", "robustness_at_10", "paired_accuracy"
RERANKING = ("Reranking", "InstructionReranking")
_NAMES = {"ndcg": "nDCG", "map": "AP", "mrr": "RR", "recall": "recall"}


@dataclass(frozen=True)
class LoadedTask:
    """A task of mteb with the data of one subset and split, as mteb itself would evaluate it."""

    task: Any
    """mteb's task object; its metadata names the pinned data."""
    subset: str
    split: str
    data: Mapping[str, Any]
    """corpus and queries (datasets), relevant_docs, top_ranked: mteb's RetrievalSplitData."""
    qrel_diff: dict[str, tuple[str, ...]] | None
    """Topic -> documents that lose their relevance (tasks whose main score is p-MRR)."""


class OfficialTasks:
    """Evaluation sets named `TASK` or `TASK/SUBSET`; mteb is loaded by the first set that is read."""

    def __init__(
        self,
        *,
        revisions: tuple[tuple[str, str], ...],
        split: str | None,
        path: str | None,
        sets: tuple[str, ...],
        caches: Path,
    ) -> None:
        """Check pins and local folders; raises UserError for a set without a pin, naming mteb's own commit.

        `split` is null for the one that the task evaluates on; `caches` is where tables built from the data are kept.
        """
        self._pins, self._split, self._caches = dict(revisions), split, caches
        self._path = None if path is None else Path(path)
        if len(self._pins) < len(revisions):
            raise UserError("evaluation.source.revisions names a task twice; give each task one commit")
        for task, commit in revisions:
            if not re.fullmatch(r"[0-9a-f]{7,64}", commit):
                raise UserError(
                    f"evaluation.source.revisions pins {task} to {commit!r}; a pin is a commit, 7 to 64 hex digits, "
                    "because branches and tags move"
                )
        self.evaluation_names = sets
        for name in sets:
            task = name.partition("/")[0]
            if task not in self._pins:
                raise UserError(self._unpinned(task))
        self.revision = digest({"split": split, "data": {name: self._data_revision(name) for name in sorted(sets)}})

    def _unpinned(self, name: str) -> str:
        task = get_task(name, self._caches)
        commit = task.metadata.dataset["revision"]
        return (
            f"evaluation.sets names {name!r}, and evaluation.source.revisions has no commit for it; mteb "
            f"{mteb_version()} uses {commit!r}: add [{name}, '{commit}']"
        )

    def _folder(self, task: str) -> Path | None:
        if self._path is None:
            return None
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", task):
            raise UserError(f"evaluation.sets names {task!r}, which is no name of a folder; name a task of mteb")
        folder = self._path / task
        if not folder.is_dir():
            raise UserError(
                f"{folder} does not exist; evaluation.source.path holds one folder per task, each a copy of the task's "
                "dataset repository"
            )
        return folder

    def _data_revision(self, name: str) -> str:
        task = name.partition("/")[0]
        folder = self._folder(task)
        return self._pins[task] if folder is None else f"sha256:{_content(folder)}"

    def load(self, name: str) -> LoadedTask:
        """Return mteb's task with its data; raises UserError when it is not one we can rank, or cannot be loaded."""
        task_name, _, subset = name.partition("/")
        task = get_task(task_name, self._caches)
        _check_kind(task, task_name)
        subset = _subset(task, task_name, subset)
        split = self._split or _only(list(task.eval_splits), task_name)
        folder = self._folder(task_name)
        place = task.metadata.dataset["path"] if folder is None else str(folder.resolve())
        changes: dict[str, Any] = {"dataset": {"path": place, "revision": self._pins[task_name]}}
        if isinstance(task.metadata.eval_langs, dict):
            changes["eval_langs"] = {subset: task.metadata.eval_langs[subset]}
        task.metadata = task.metadata.model_copy(update=changes)
        task.filter_eval_splits([split])
        task.hf_subsets = [subset]
        try:
            task.load_data()
            task.convert_v1_dataset_format_to_v2(num_proc=None)
            data = task.dataset[subset][split]
            diff = _qrel_diff(task, subset) if task.metadata.main_score == P_MRR else None
        except Exception as error:  # whatever the reader of another package meets: files, network, formats
            reason = " ".join(str(error).split())[:200]
            remedy = (
                "check the network, or copy the dataset repository and set evaluation.source.path to the folder that "
                "holds it"
                if folder is None
                else f"is {folder} a whole copy of the dataset repository, with split {split!r}?"
            )
            raise UserError(
                f"{name}: its data ({place} at {self._pins[task_name][:12]}) cannot be loaded "
                f"({type(error).__name__}: {reason}); {remedy}"
            ) from error
        return LoadedTask(task, subset, split, data, diff)

    def evaluation_set(self, name: str) -> EvaluationSet:
        """Return the set of a name; raises UserError as `load` does, and for data that contradicts the task."""
        loaded = self.load(name)
        folder = self._folder(name.partition("/")[0])
        pin = self._pins[name.partition("/")[0]]
        where = loaded.task.metadata.dataset["path"] if folder is None else "local copy"
        revision = pin if folder is None else f"{pin} as stated; content {self._data_revision(name)}"
        return to_evaluation_set(name, loaded, {"data": where, "data revision": revision, "mteb": mteb_version()})


def to_evaluation_set(name: str, loaded: LoadedTask, provenance: Mapping[str, str]) -> EvaluationSet:
    """Return a loaded task as an evaluation set under mteb's rules: judged queries only, official candidates.

    Raises UserError for a reranking task without candidate lists, for texts that are no text, and for query ids that do
    not follow the convention of the task's main score.
    """
    metadata, data = loaded.task.metadata, loaded.data
    qrels = {str(q): {d: int(g) for d, g in grades.items()} for q, grades in data["relevant_docs"].items() if grades}
    table = data["queries"]
    instructions = table["instruction"] if "instruction" in table.column_names else [""] * len(table)
    texts = dict(zip(table["id"], zip(table["text"], instructions, strict=True), strict=True))
    unjudged = [query_id for query_id in texts if query_id not in qrels]
    queries: list[EvaluationQuery] = []
    for query_id, (text, instruction) in texts.items():
        if not isinstance(text, str):
            raise UserError(f"{name}: query {query_id!r} is no text but {type(text).__name__}; only texts are posed")
        if query_id in qrels:
            queries.append(_query(name, metadata.main_score, query_id, text, instruction or ""))
    posed = {query.query_id for query in queries}
    candidates, repeated = _candidates(name, metadata.type, data["top_ranked"], posed)
    notes = {
        "benchmark": f"mteb task {metadata.name} ({metadata.type}), main score {metadata.main_score}",
        "subset and split": f"{loaded.subset}, {loaded.split}",
        **provenance,
    }
    notes |= {} if not unjudged else {"queries without judgments, left out as in mteb": str(len(unjudged))}
    notes |= {} if not repeated else {"candidates listed twice, taken once": str(repeated)}
    plain = _without_instructions(queries) if metadata.main_score == P_MRR else []
    if plain:
        notes["queries without instruction"] = (
            f"{len(plain)}, posed beside those of the benchmark and not judged, for the instruction gain; their "
            "candidates are those of the original query"
        )
    if candidates is not None:
        of_original = {query.query_id: candidates.get(f"{query.base_id}-og") for query in plain}
        candidates |= {query_id: own for query_id, own in of_original.items() if own is not None}
    changed, without = _changed(loaded.qrel_diff, posed)
    notes |= {} if not without else {"topics of qrel_diff without their two queries": ", ".join(without)}
    return EvaluationSet(
        name=name,
        documents=tuple(_documents(name, data["corpus"])),
        queries=(*queries, *plain),
        qrels={query_id: grades for query_id, grades in qrels.items() if query_id in posed},
        changed_documents=changed,
        opposites=_opposites(name, posed) if metadata.main_score == PAIRED else (),
        candidates=candidates,
        own_documents={query_id: query_id for query_id in posed} if loaded.task.ignore_identical_ids else {},
        measures=_measures(name, metadata.main_score),
        provenance=notes,
    )


def _query(name: str, main_score: str, query_id: str, text: str, instruction: str) -> EvaluationQuery:
    if main_score == P_MRR:
        base, _, direction = query_id.rpartition("-")
        if direction not in ("og", "changed") or not base:
            raise UserError(f"{name}: query id {query_id!r} ends with neither -og nor -changed, as p-MRR needs it")
        return EvaluationQuery(
            query_id, base, text, instruction, "original" if direction == "og" else "changed", direction
        )
    if main_score == PAIRED:
        base, _, side = query_id.partition("_")
        return EvaluationQuery(query_id, base, text, instruction, "original" if instruction else "plain", side)
    base = query_id.split("_")[0] if main_score == ROBUSTNESS else query_id
    if not instruction:
        return EvaluationQuery(query_id, base, text, "", "plain", "plain")
    return EvaluationQuery(query_id, base, text, instruction, "original", "instruction")


def _without_instructions(queries: Sequence[EvaluationQuery]) -> list[EvaluationQuery]:
    """Return the query of each topic without its instruction, where both of its queries are there and have one text."""
    by_base: dict[str, dict[str, EvaluationQuery]] = {}
    for query in queries:
        by_base.setdefault(query.base_id, {})[query.direction] = query
    pairs = {base: own for base, own in by_base.items() if {"og", "changed"} <= own.keys()}
    return [
        EvaluationQuery(base, base, own["og"].query, "", "plain", "plain")
        for base, own in pairs.items()
        if own["og"].query == own["changed"].query
    ]


def _documents(name: str, corpus: Any) -> Iterable[Passage]:
    titles = corpus["title"] if "title" in corpus.column_names else [""] * len(corpus)
    for doc_id, text, title in zip(corpus["id"], corpus["text"], titles, strict=True):
        if not isinstance(text, str):
            raise UserError(f"{name}: document {doc_id!r} has no text; the data is not that of a text benchmark")
        yield Passage(str(doc_id), text, title or "")


def _candidates(
    name: str, kind: str, top_ranked: Mapping[str, Iterable[str]] | None, posed: set[str]
) -> tuple[dict[str, tuple[str, ...]] | None, int]:
    """Return the lists of the posed queries, and how many entries were there twice."""
    if not top_ranked:
        if kind in RERANKING:
            raise UserError(
                f"{name} is a task of type {kind} and its data has no candidate lists (top_ranked); searching the "
                "union corpus is another benchmark, so it is not evaluated: load the official data"
            )
        return None, 0
    lists = {query_id: list(own) for query_id, own in top_ranked.items() if query_id in posed}
    distinct = {query_id: tuple(dict.fromkeys(own)) for query_id, own in lists.items()}
    return distinct, sum(map(len, lists.values())) - sum(map(len, distinct.values()))


def _changed(
    qrel_diff: dict[str, tuple[str, ...]] | None, posed: set[str]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return changed query -> documents that lost relevance, and the topics that lack one of their queries."""
    known = {t: docs for t, docs in (qrel_diff or {}).items() if {f"{t}-og", f"{t}-changed"} <= posed}
    return {f"{t}-changed": docs for t, docs in known.items()}, [t for t in qrel_diff or {} if t not in known]


def _opposites(name: str, posed: set[str]) -> tuple[tuple[str, str], ...]:
    bases: dict[str, set[str]] = {}
    for query_id in sorted(posed):
        bases.setdefault(query_id.partition("_")[0], set()).add(query_id)
    for base, own in bases.items():
        if own != {f"{base}_q1", f"{base}_q2"}:
            raise UserError(f"{name}: pair {base!r} has queries {', '.join(sorted(own))}; it needs _q1 and _q2")
    return tuple((f"{base}_q1", f"{base}_q2") for base in bases)


def _measures(name: str, main_score: str) -> tuple[str, ...]:
    if main_score in (P_MRR, ROBUSTNESS, PAIRED):
        return ("nDCG@5",) if main_score == P_MRR else ()  # FollowIR's companion on News21; MAP@1000 is always there
    family, _, cutoff = main_score.partition("_at_")
    if family not in _NAMES or not cutoff.isdecimal():
        raise UserError(
            f"{name}: its main score {main_score!r} is none of ours (nDCG, MAP, MRR, recall at k, p-MRR, robustness, "
            "paired accuracy); run it with mteb itself"
        )
    return (f"{_NAMES[family]}@{cutoff}",)


# --- mteb -------------------------------------------------------------------------------------------------------------


def import_mteb(caches: Path) -> Any:
    """Import mteb with its caches, and those of datasets, below `caches` unless the environment says otherwise.

    Raises UserError with the command that installs it.
    """
    os.environ.setdefault("MTEB_CACHE", str(caches / "mteb"))
    try:
        import datasets
        import mteb
    except ImportError as error:
        raise UserError(f"official benchmarks need mteb, which cannot be imported ({error}); {REMEDY}") from error
    if not {"HF_HOME", "HF_DATASETS_CACHE"} & os.environ.keys():
        datasets.config.HF_DATASETS_CACHE = caches.resolve() / "datasets"
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    for name in ("datasets", "huggingface_hub", "mteb"):  # what goes wrong is said in one line, by us
        logging.getLogger(name).setLevel(logging.ERROR)
    return mteb


def mteb_version() -> str:
    """Return the installed version of mteb."""
    from importlib.metadata import version

    return version("mteb")


def get_task(name: str, caches: Path) -> Any:
    """Return mteb's task of a name; raises UserError with near matches for an unknown one."""
    mteb = import_mteb(caches)
    try:
        return mteb.get_task(name)
    except KeyError:
        known = [task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)]
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        hint = f"near: {', '.join(near)}" if near else "mteb.get_tasks() lists all names"
        raise UserError(f"{name!r} is no task of mteb {mteb_version()}; {hint}") from None


def _check_kind(task: Any, name: str) -> None:
    from mteb.abstasks import AbsTaskRetrieval

    metadata = task.metadata
    if not isinstance(task, AbsTaskRetrieval):
        parts = [part.metadata.name for part in getattr(task, "tasks", ())]
        remedy = f"name its parts: {', '.join(parts)}" if parts else "name a retrieval or reranking task"
        raise UserError(f"{name} is a task of type {metadata.type} ({type(task).__name__}); {remedy}")
    if list(metadata.modalities) != ["text"]:
        raise UserError(f"{name} is a task over {', '.join(metadata.modalities)}; only texts are encoded here")
    if task.skip_first_result:
        raise UserError(f"{name} leaves the first result of every ranking out, which is not done here; use mteb")
    _measures(name, metadata.main_score)


def _subset(task: Any, name: str, subset: str) -> str:
    known = list(task.hf_subsets)
    if subset in known:
        return subset
    if not subset and len(known) == 1:
        return str(known[0])
    names = ", ".join(known if known == ["default"] else [f"{name}/{subset_name}" for subset_name in known])
    raise UserError(f"evaluation.sets: {name} has no subset {subset!r}; its sets: {names}")


def _only(splits: list[str], name: str) -> str:
    if len(splits) != 1:
        raise UserError(f"{name} evaluates on several splits; set evaluation.source.split to one of {splits}")
    return splits[0]


def _qrel_diff(task: Any, subset: str) -> dict[str, tuple[str, ...]]:
    import datasets

    config = "qrel_diff" if subset == "default" else f"qrel_diff-{subset.removeprefix('eng-')}"
    place = task.metadata.dataset
    rows = datasets.load_dataset(place["path"], config, split="qrel_diff", revision=place["revision"])
    return {row["query-id"]: tuple(row["corpus-ids"]) for row in rows}


def _content(folder: Path) -> str:
    """Return the SHA-256 of the names and bytes of all files of a folder, hidden ones left out."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            with path.open("rb") as stream:
                whole.update(f"{name.as_posix()}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
