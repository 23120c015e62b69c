"""The model card of an exported run: what it is, what it was trained on, how to pose a query, what it scored."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from ablate.engine.display import COLLAPSE_MARGIN
from ablate.evaluation.measures import mean_interval, range_of, within
from ablate.evaluation.summary import Evaluation, SummaryRow
from ablate.recipe.factors import Factors, active
from ablate.recipe.schema import ModelConfig
from ablate.recipe.values import diff, flatten
from ablate.release.finished import FinishedRun, recipe_values

CONFIDENCE = 0.95
Key = tuple[str, str, str, str]
"""Dataset, condition, direction, measure."""


@dataclass(frozen=True)
class Origin:
    """What is known of the backbone beside its weights."""

    base_model: str | None
    """Hub id; None for a directory and for a model without loaded weights."""
    described: str
    """Where the weights are from, in words."""
    license: str | None
    """Identifier in the backbone's own card; None when it has none that can be read here."""


@dataclass(frozen=True)
class Measured:
    """One evaluation of the exported model with what is set beside it."""

    eval_id: str
    evaluation: Evaluation
    untouched: Evaluation | None
    seeds: Mapping[int, Evaluation]
    """Same recipe and evaluation, every seed that is there, this one included."""


def model_card(
    run: FinishedRun,
    origin: Origin,
    measured: Sequence[Measured],
    *,
    other_seeds: Sequence[int],
    baseline: tuple[str, Factors] | None,
    command: str | None,
    add_pooling_layer: bool,
) -> str:
    """Return README.md of an exported run; all that comes from data is escaped."""
    name = f"{run.arms[0]}, seed {run.manifest.seed}"
    parts = [
        _front_matter(origin),
        f"# {_text(name)}",
        f"A bi-encoder for retrieval with instructions, trained from {_text(origin.described)} as one run of a study "
        f"of training data: arm {_code(run.arms[0])}, seed {run.manifest.seed}, run `{run.manifest.id}`. It was made "
        "to compare arms with each other, not to be the best model for a use.",
        "## How to pose a query",
        _usage(run.recipe.model, add_pooling_layer),
        "## What it was trained on",
        _mix(run, baseline),
        "## Scores",
        _scores(measured, run.manifest.seed, other_seeds),
        "## Recipe",
        "Every value that can change a number.",
        _table(["key", "value"], [[_code(key), _code(value)] for key, value in _recipe(run)]),
        "## Where it comes from",
        _provenance(run, origin, command),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _front_matter(origin: Origin) -> str:
    tags = ["sentence-transformers", "feature-extraction", "sentence-similarity", "instruction-following-retrieval"]
    lines = ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    lines += [f"license: {json.dumps(origin.license or 'unknown')}"]
    lines += [f"base_model: {json.dumps(origin.base_model)}"] if origin.base_model else []
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _usage(model: ModelConfig, add_pooling_layer: bool) -> str:
    first, second = ("query", "instruction") if model.order == "query_first" else ("instruction", "query")
    posed = f"{first} + {model.separator!r} + {second}"
    options = ", add_pooling_layer=False" if add_pooling_layer else ""
    similarity = "cosine" if model.normalise else "inner product (vectors are not normalised)"
    pooling = {
        "mean": "(hidden * mask).sum(1) / mask.sum(1)",
        "cls": "hidden[:, 0]",
        "last": "hidden[torch.arange(len(hidden)), batch['attention_mask'].sum(1) - 1]",
    }[model.pooling]
    normalise = "\n    vectors = torch.nn.functional.normalize(vectors, dim=-1)" if model.normalise else ""
    return f"""Query and instruction are one text, joined by `{model.separator!r}`, {first} first.
Without an instruction the text is the query alone, with no separator. A document is its title, a space and its text;
its text alone where it has no title. Similarity: {similarity}.

```python
from sentence_transformers import SentenceTransformer  # 6.0 or later

model = SentenceTransformer("PATH_OF_THIS_FOLDER")
query, instruction = "papers on sleep and memory", "Only papers with a control group."
title, text = "Sleep and memory", "We compare two groups of students."
queries = model.encode_query([{posed}, query])  # with and without the instruction
documents = model.encode_document([title + " " + text, text])
print(model.similarity(queries, documents))
```

Use `encode_query` and `encode_document`, not `encode`: they add the prefixes (query {_code(model.query_prefix)},
document {_code(model.passage_prefix)}) and cut at the lengths that the model was trained and measured with:
{model.query_length} tokens for query and instruction *together*, {model.passage_length} for a document, special tokens
included, the end cut off: a long {first} pushes the {second} out. `encode` alone cuts at
{max(model.query_length, model.passage_length)} tokens and adds no prefix.

The same vectors with transformers alone:

```python
import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")
network = AutoModel.from_pretrained("PATH_OF_THIS_FOLDER"{options}).eval()

def encode(texts, length):
    batch = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        hidden = network(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = {pooling}{normalise}
    return vectors

query, instruction = "papers on sleep and memory", "Only papers with a control group."
title, text = "Sleep and memory", "We compare two groups of students."
queries = encode([{model.query_prefix!r} + item for item in ({posed}, query)], {model.query_length})
documents = encode([{model.passage_prefix!r} + item for item in (title + " " + text, text)], {model.passage_length})
print(queries @ documents.T)
```"""


def _mix(run: FinishedRun, baseline: tuple[str, Factors] | None) -> str:
    counts, budget, factors = run.mix.counts, run.recipe.budget, run.recipe.factors
    share = counts["generated_share"]
    generated = "not known" if share is None else f"{100 * share:.0f} %"
    levels = ", ".join(f"{_code(key)} {_code(value)}" for key, value in active(factors).items()) or "none"
    lines = [
        f"Trained on generated text: **{generated}** of the passages were written by a program or a language model.",
        f"Factors of the data mix that are on: {levels}.",
    ]
    if baseline is None:
        lines.append("No baseline arm is known for this run.")
    else:
        name, theirs = baseline
        changes = [
            f"{_code(f'factors.{key}')} {_code(a)} → {_code(b)}" for key, (a, b) in diff(theirs, factors).items()
        ]
        lines.append(f"Differs from the baseline arm {_code(name)} in {', '.join(changes) or 'no factor'}.")
    limit = "no limit" if budget.limit is None else f"{budget.limit:,} {budget.unit}"
    lines.append(f"Budget: {limit}, fill `{budget.fill}`; negatives per group: {budget.negatives_per_group}.")
    totals = {key: value for key, value in flatten(counts).items() if _is_number(value)}
    work = {key: value for key, value in run.manifest.counts.items() if _is_number(value)}
    rows = [["mix", key, value] for key, value in totals.items()] + [["training", k, v] for k, v in work.items()]
    cells = [[_text(stage), _code(key), _number(value)] for stage, key, value in rows]
    return "\n\n".join([*lines, _table(["stage", "total", "value"], cells)])


def _scores(measured: Sequence[Measured], seed: int, other_seeds: Sequence[int]) -> str:
    if not measured:
        return "This run has not been evaluated."
    parts = [
        "Mean over units (queries, or base queries for p-MRR, Robustness@10 and pairs) with a "
        f"{100 * CONFIDENCE:.0f} % t interval over these n units: it says how much other queries of the same kind "
        "could change the mean of *this* model, and nothing about other seeds. *Untouched* is the backbone before "
        "training. p-MRR rises also when every document is lost under the instruction: read it beside nDCG@10.",
    ]
    if not other_seeds:
        parts.append(f"S = 1: this recipe was trained with seed {seed} only, so how much a seed changes is not known.")
    for one in measured:
        several = len(one.seeds) > 1
        missing = [other for other in other_seeds if other not in one.seeds]
        words = f"Evaluation `{one.eval_id}`."
        if other_seeds:
            those = ", ".join(map(str, sorted(one.seeds)))
            words += (
                f" S = {len(one.seeds)} seeds of this recipe were measured so ({those})"
                + (f"; trained and not measured so: {', '.join(map(str, missing))}" if missing else "")
                + (": the last column is the mean over seeds ± standard deviation between them." if several else ".")
            )
        parts += [words, *(f"Warning: {_text(warning)}" for warning in one.evaluation.warnings)]
        heads = ["condition", "measure", "n", "this model", f"{100 * CONFIDENCE:.0f} % interval", "untouched"]
        heads += ["over seeds"] if several else []
        rows = one.evaluation.summary(one.untouched, margin=COLLAPSE_MARGIN)
        units = _units(one.evaluation)
        before = {} if one.untouched is None else {_key(row): row.mean for row in one.untouched.summary()}
        seeds = [{_key(row): row.mean for row in other.summary()} for other in one.seeds.values()]
        for dataset in dict.fromkeys(row.dataset for row in rows):
            lines = [
                [
                    _condition(row),
                    _text(row.measure) + (f" ({row.verdict.upper()})" if row.verdict else ""),
                    str(row.num_units),
                    _mean(row.mean),
                    _interval(units[_key(row)], row.measure),
                    _mean(before[_key(row)]) if _key(row) in before else "not measured",
                    *([_over_seeds([means[_key(row)] for means in seeds if _key(row) in means])] if several else []),
                ]
                for row in rows
                if row.dataset == dataset
            ]
            parts += [f"### {_text(dataset)}", _table(heads, lines)]
    return "\n\n".join(parts)


def _interval(values: Sequence[float], measure: str) -> str:
    found = mean_interval(values, CONFIDENCE)
    if len(set(values)) == 1:
        return f"all {_mean(values[0])}"
    if found is None:
        return "-"
    low, high = within(found, *range_of(measure))
    return f"{_mean(low)} to {_mean(high)}"


def _over_seeds(means: Sequence[float]) -> str:
    return f"{fmean(means):.3f} ± {stdev(means):.3f} (S = {len(means)})" if len(means) > 1 else "-"


def _units(evaluation: Evaluation) -> dict[Key, list[float]]:
    found: dict[Key, list[float]] = {}
    for score in evaluation.scores:
        key = (score.dataset, score.condition, score.direction, score.measure)
        found.setdefault(key, []).append(score.value)
    return found


def _key(row: SummaryRow) -> Key:
    return row.dataset, row.condition, row.direction, row.measure


def _condition(row: SummaryRow) -> str:
    same = row.direction in ("", "all", "both", row.condition)
    return _text(row.condition if same else f"{row.condition}: {row.direction}")


def _provenance(run: FinishedRun, origin: Origin, command: str | None) -> str:
    manifest = run.manifest
    licence = _code(origin.license) if origin.license else "unknown: check it before you pass this model on"
    commit = manifest.git.get("commit")
    changed = manifest.git.get("changed", manifest.git.get("dirty"))  # older manifests know of the whole tree only
    state = " with uncommitted changes" if changed else ""
    rows = [
        ["backbone", _text(origin.described)],
        ["licence of the backbone", licence],
        ["revision of the backbone", _code(manifest.recipe["model"]["revision"])],
        ["study/arm", ", ".join(_code(label) for label in manifest.labels)],
        ["seed", _code(manifest.seed)],
        ["train id, mix id", f"{_code(manifest.id)}, {_code(run.mix.id)}"],
        ["weights", _code({k: v for k, v in manifest.content_sha256.items() if k.endswith(".safetensors")})],
        ["git commit of ablate", (_code(commit) + state) if commit else "not known"],
        ["trained", f"{_text(manifest.started)} to {_text(manifest.finished)}"],
        ["hardware", _code(manifest.hardware)],
        ["cost", _code({key: round(value, 1) for key, value in manifest.cost.items()})],
        ["packages", _code(manifest.packages)],
    ]
    if run.recipe.model.lora is not None:
        rows.append(["adapter", "LoRA, merged into the weights"])
    lines = [_table(["what", "value"], rows)]
    if command is None:
        lines.append(
            "To reproduce: check out the commit above, install, and issue a run with the values of "
            f"`training_recipe.json` and seed {manifest.seed}; "
            f"a run that prints the train id `{manifest.id}` has exactly this recipe."
        )
    else:
        lines.append("To reproduce, check out the commit above, install, and run")
        lines.append(f"```\n{command}\n```")
        lines.append(
            f"A run that prints the train id `{manifest.id}` has exactly this recipe, which is also in "
            "`training_recipe.json`."
        )
    return "\n\n".join(lines)


def _recipe(run: FinishedRun) -> list[tuple[str, Any]]:
    """Return the dotted keys of a recipe and their values; of places on this machine only the revision is told."""
    values = flatten(recipe_values(run.recipe))
    return [(key, value) for key, value in values.items() if not key.endswith(".path") or value is None]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:.4g}"


def _mean(value: float) -> str:
    return f"{value:.3f}"


def _text(value: object) -> str:
    """Return a text that is only text inside Markdown and its tables."""
    line = " ".join(html.escape(str(value), quote=False).split())
    return "".join(f"\\{char}" if char in "|*_`[]\\" else char for char in line)


def _code(value: object) -> str:
    """Return a value as it is written in JSON, as code, safe inside a table."""
    bare = isinstance(value, str) and value.isprintable() and value == value.strip() != ""
    line = str(value) if bare else json.dumps(value, ensure_ascii=False)
    if "|" not in line and "`" not in line:
        return f"`{line}`"
    return f"<code>{html.escape(line, quote=False).replace('|', '&#124;').replace('`', '&#96;')}</code>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
