"""Official benchmarks and our encoder: mteb's interface to it, proof of the template, and mteb's scores beside ours.

Benchmarks with instructions are lost silently where a wrapper drops the instruction or joins it in another way than in
training, so marked texts are sent through both data paths and compared with the configuration, token by token.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ablate.evaluation import measures
from ablate.evaluation.summary import Evaluation
from ablate.recipe.schema import ModelConfig
from ablate.records import EvaluationSet, Passage, UserError
from ablate.retrieval.vectors import Encoder

_OURS = (measures.P_MRR, measures.INSTRUCTION_GAIN)
"""What stands beside the measures per query: p-MRR is compared by itself, mteb has no instruction gain."""
TOLERANCE = 1e-6
"""Largest difference between our score and mteb's for one ranking that is taken for rounding."""
QUERY, INSTRUCTION, TITLE, TEXT = "violet kites", "only wooden lamps", "amber gate", "seven quiet boats"
"""The marked texts of the probe: no word of one is in another."""


class ProbedEncoder(Encoder, Protocol):
    """An encoder whose token ids can be watched."""

    model: ModelConfig
    tokenizer: Any
    template: Any
    """`ablate.model.text.TextTemplate`, which joins and cuts the texts."""

    def watched(self) -> AbstractContextManager[list[list[int]]]:
        """Yield a list that gets the tokens of each text that the model is given inside the block."""
        ...


class MtebEncoder:
    """Our encoder under mteb's EncoderProtocol: query and instruction stay apart until our template joins them."""

    def __init__(self, encoder: Encoder, name: str = "ablate/encoder", revision: str | None = None) -> None:
        """Wrap an encoder; `name` (of the form a/b) and `revision` are what mteb writes beside its scores."""
        from mteb.models.model_meta import ModelMeta

        self.encoder = encoder
        self.mteb_model_meta = ModelMeta.create_empty(overwrites={"name": name, "revision": revision})

    def encode(
        self,
        inputs: Iterable[Any],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **options: Any,
    ) -> npt.NDArray[np.float32]:
        """Return (N, H) float32 for the texts of mteb's batches; batch sizes and prompts of mteb are not used.

        Raises UserError when mteb does not say whether these are queries or documents, and for a query whose joined
        text is not made of the query and the instruction that came with it.
        """
        kind = getattr(prompt_type, "value", prompt_type)
        if kind not in ("query", "document"):
            raise UserError(
                f"{task_metadata.name}: mteb gives prompt_type={kind!r}, and texts are encoded as query or document "
                "only; run a retrieval or reranking task"
            )
        if kind == "query":
            return self.encoder.encode_queries(list(_pairs(inputs, task_metadata.name)))
        passages = [
            Passage(str(doc_id), text, title)
            for batch in inputs
            for doc_id, text, title in zip(
                batch["id"], batch["body"], batch.get("title") or [""] * len(batch["body"]), strict=True
            )
        ]
        return self.encoder.encode_passages(passages)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the inner products (N, M), summed in float64 and rounded once, as in our search."""
        import torch

        first, second = (torch.atleast_2d(torch.as_tensor(part)).double() for part in (embeddings1, embeddings2))
        return (first @ second.T).float()

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the inner products (N,) of corresponding vectors."""
        import torch

        first, second = (torch.atleast_2d(torch.as_tensor(part)).double() for part in (embeddings1, embeddings2))
        return (first * second).sum(dim=-1).float()


def _pairs(batches: Iterable[Any], name: str) -> Iterator[tuple[str, str]]:
    for batch in batches:
        if "query" not in batch:
            raise UserError(f"{name}: mteb's batch holds {', '.join(sorted(batch))} and no query by itself")
        instructions = batch.get("instruction") or [""] * len(batch["query"])
        for query, instruction, joined in zip(batch["query"], instructions, batch["text"], strict=True):
            if joined.split() != f"{query} {instruction}".split():
                raise UserError(
                    f"{name}: mteb joins query {query!r} and instruction {instruction!r} to {joined!r}; something is "
                    "there that did not come apart, so it would be lost"
                )
            yield query, instruction


# --- template ---------------------------------------------------------------------------------------------------------


def describe_template(model: ModelConfig) -> str:
    """Return how queries and passages are posed, in one line."""
    parts = ("query", "instruction") if model.order == "query_first" else ("instruction", "query")
    return (
        f"{model.query_prefix!r} + {parts[0]} + {model.separator!r} + {parts[1]}, at most {model.query_length} tokens; "
        f"passages {model.passage_prefix!r} + title + ' ' + text, at most {model.passage_length} tokens"
    )


def check_template(encoder: ProbedEncoder) -> str:
    """Check that marked texts reach the model as the configuration says, by our path and by mteb's.

    Compared are the ids that the model is called with: prefix, separator and order of query and instruction, a query
    without instruction, and title and text of a passage. Returns the template in words; raises UserError with both
    texts for the first that differs.
    """
    import mteb
    from datasets import Dataset
    from mteb._create_dataloaders import create_dataloader
    from mteb.types import PromptType

    metadata = mteb.get_task("Core17InstructionRetrieval").metadata
    wrapped = MtebEncoder(encoder)

    def by_mteb(columns: dict[str, list[str]], kind: Any) -> None:
        batches = create_dataloader(Dataset.from_dict(columns), task_metadata=metadata, prompt_type=kind)
        wrapped.encode(batches, task_metadata=metadata, hf_split="test", hf_subset="default", prompt_type=kind)

    model = encoder.model
    parts = (QUERY, INSTRUCTION) if model.order == "query_first" else (INSTRUCTION, QUERY)
    instructed = model.query_prefix + parts[0] + model.separator + parts[1]
    posed = {"id": ["1"], "text": [QUERY]}
    told = {**posed, "instruction": [INSTRUCTION]}
    document = {"id": ["1"], "title": [TITLE], "text": [TEXT]}
    probes: dict[str, tuple[str, int, Callable[[], object], Callable[[], object]]] = {
        "query with instruction": (
            instructed,
            model.query_length,
            partial(encoder.encode_queries, [(QUERY, INSTRUCTION)]),
            partial(by_mteb, told, PromptType.query),
        ),
        "query without instruction": (
            model.query_prefix + QUERY,
            model.query_length,
            partial(encoder.encode_queries, [(QUERY, "")]),
            partial(by_mteb, posed, PromptType.query),
        ),
        "passage": (
            f"{model.passage_prefix}{TITLE} {TEXT}",
            model.passage_length,
            partial(encoder.encode_passages, [Passage("1", TEXT, TITLE)]),
            partial(by_mteb, document, PromptType.document),
        ),
    }
    for what, (expected, length, ours, theirs) in probes.items():
        _compare(encoder, f"{what}, our data path", expected, length, ours)
        _compare(encoder, f"{what}, mteb's data path", expected, length, theirs)
    return describe_template(model)


def _compare(encoder: ProbedEncoder, what: str, expected: str, length: int, send: Callable[[], object]) -> None:
    with encoder.watched() as seen:
        send()
    wanted = list(encoder.tokenizer(expected, add_special_tokens=False)["input_ids"])
    reached = seen[0] if len(seen) == 1 else []
    if not _is_wrapped(reached, wanted, length, set(encoder.tokenizer.all_special_ids)):
        raise UserError(
            f"{what}: the model is given {encoder.tokenizer.decode(reached)!r}, the configuration says {expected!r} "
            "(model.query_prefix, separator, order, passage_prefix); the benchmark would measure another template"
        )


def _is_wrapped(reached: Sequence[int], wanted: Sequence[int], length: int, special: set[int]) -> bool:
    """Return whether the ids are the wanted ones between special tokens, cut only where `length` leaves no room."""
    for start in range(len(reached)):
        for size in (len(wanted), *range(len(wanted) - 1, 0, -1)):
            if size < len(wanted) and len(reached) != length:
                break
            inside, outside = reached[start : start + size], [*reached[:start], *reached[start + size :]]
            if list(inside) == list(wanted[:size]) and special.issuperset(outside):
                return True
    return False


def with_template(encoder: ProbedEncoder, sets: Iterable[EvaluationSet]) -> list[EvaluationSet]:
    """Return the sets with the template and the number of cut queries noted, after `check_template` has proven it."""
    template = check_template(encoder)
    noted = []
    for bed in sets:
        distinct = list(dict.fromkeys((query.query, query.instruction) for query in bed.queries))
        num_cut = encoder.template.tokenise_queries(distinct).num_truncated
        notes = {**bed.provenance, "template": template, "queries cut": f"{num_cut} of {len(distinct)}"}
        model = encoder.model
        if "robustness_at_10" in notes.get("benchmark", "") and (
            model.order != "instruction_first" or model.separator.strip() != "[SEP]"
        ):
            notes["note"] = (
                "the authors of InstructIR pose instruction, [SEP], query (model.order=instruction_first "
                "model.separator=[SEP]); other templates give other scores"
            )
        noted.append(dataclasses.replace(bed, provenance=notes))
    return noted


# --- mteb's scores ----------------------------------------------------------------------------------------------------


class Agreement(NamedTuple):
    """One mean by our protocol and by mteb's functions, from the same ranking."""

    name: str
    ours: float
    mteb: float

    @property
    def difference(self) -> float:
        """Absolute difference of the two."""
        return abs(self.ours - self.mteb)


def agreements(bed: EvaluationSet, evaluation: Evaluation) -> list[Agreement]:
    """Return our means of a set beside those of mteb's functions on the rankings of the evaluation, before rounding.

    Per condition: every measure per query. Over the set: p-MRR, Robustness@10 and paired accuracy where mteb has them.
    """
    from mteb._evaluators import retrieval_metrics as theirs

    comparisons: list[Agreement] = []
    everything: dict[str, dict[str, float]] = {}
    all_scores: dict[str, dict[str, float]] = {}
    values: dict[tuple[str, str], list[float]] = {}
    for score in evaluation.scores:
        if score.dataset == bed.name:
            values.setdefault((score.condition, score.measure), []).append(score.value)
    for (dataset, condition), rankings in evaluation.rankings.items():
        run = {r.query_id: dict(zip(r.doc_ids, r.scores.tolist(), strict=True)) for r in rankings}
        qrels = {query_id: bed.qrels[query_id] for query_id in run if query_id in bed.qrels}
        if dataset != bed.name or not qrels:
            continue
        named = {name: measures.parse(name) for c, name in values if c == condition and name not in _OURS}
        names = {name: measure for name, measure in named.items() if measure.cutoff is not None}  # the others: plugins'
        cutoffs = sorted({10, *(measure.cutoff or 10 for measure in names.values())})
        result = theirs.calculate_retrieval_scores({q: run[q] for q in qrels}, qrels, cutoffs)
        per_query = result.all_scores
        for name, (family, cutoff) in names.items():
            if family == "RR":
                mean = float(result.mrr[f"MRR@{cutoff}"])
            else:
                key = {"nDCG": "ndcg_cut", "AP": "map_cut", "recall": "recall"}[family]
                mean = _mean([scores[f"{key}_{cutoff}"] for scores in per_query.values()])
            comparisons.append(Agreement(f"{condition} {name}", _mean(values[condition, name]), mean))
        everything |= run
        all_scores |= per_query
    if any(bed.changed_documents.values()) and ("changed", measures.P_MRR) in values:
        diff = {query_id.removesuffix("-changed"): list(docs) for query_id, docs in bed.changed_documents.items()}
        before = {query_id: run for query_id, run in everything.items() if query_id.endswith("-og")}
        after = {query_id: run for query_id, run in everything.items() if query_id.endswith("-changed")}
        ours = _mean(values["changed", measures.P_MRR])
        comparisons.append(Agreement(measures.P_MRR, ours, float(theirs.calculate_pmrr(before, after, diff))))
    grouped = all(query.base_id == query.query_id.split("_")[0] for query in bed.queries)  # as mteb groups
    if ("instructed", "Robustness@10") in values and grouped:
        ours = _mean(values["instructed", "Robustness@10"])
        size = Counter(query_id.split("_")[0] for query_id in bed.qrels)  # mteb counts groups of one, we do not
        qrels = {query_id: grades for query_id, grades in bed.qrels.items() if size[query_id.split("_")[0]] > 1}
        comparisons.append(Agreement("Robustness@10", ours, theirs.robustness_at_10(qrels, everything, all_scores)))
    if bed.opposites:
        ours = _mean(values["pairs", measures.PAIRWISE_ACCURACY])
        at_one = theirs.calculate_retrieval_scores(everything, bed.qrels, [1]).all_scores
        comparisons.append(
            Agreement(measures.PAIRWISE_ACCURACY, ours, theirs.paired_accuracy(bed.qrels, everything, at_one))
        )
    return comparisons


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def cross_check(sets: Iterable[EvaluationSet], evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with mteb's agreement noted per set, and warnings: other means, queries that are cut."""
    provenance, warnings = dict(evaluation.provenance), list(evaluation.warnings)
    for bed in sets:
        comparisons = agreements(bed, evaluation)
        largest = max((agreement.difference for agreement in comparisons), default=0.0)
        cut = provenance.get(bed.name, {}).get("queries cut", "0 of 0")
        if not cut.startswith("0 of"):
            warnings.append(
                f"{bed.name}: {cut} queries are cut to the model's length, and what stands last is lost; raise "
                "model.query_length"
            )
        text = f"{len(comparisons)} means, largest difference {largest:.1e}"
        provenance[bed.name] = {**provenance.get(bed.name, {}), "mteb's scores of the same rankings": text}
        warnings += [
            f"{bed.name}: {agreement.name} is {agreement.ours:.6f} here and {agreement.mteb:.6f} by mteb's functions"
            for agreement in comparisons
            if not agreement.difference <= TOLERANCE
        ]
    return dataclasses.replace(evaluation, provenance=provenance, warnings=tuple(warnings))
