"""The model card of an exported run: what it is, what it was trained on, how to pose a query, what it scored."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import jinja2

from ablate.evaluation.collapse import MARKS
from ablate.evaluation.measures import mean_interval, range_of, within
from ablate.evaluation.summary import Evaluation, SummaryRow
from ablate.recipe.factors import Factors, active
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

    @property
    def several(self) -> bool:
        """Whether there is something to be said over seeds."""
        return len(self.seeds) > 1


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
    """Return README.md of an exported run: `card.md.j2`, where all that comes from data is escaped."""
    manifest, counts, factors = run.manifest, run.mix.counts, run.recipe.factors
    # of places on this machine only the revision is told
    recipe = {
        k: v
        for k, v in flatten(recipe_values(run.recipe)).items()
        if not k.endswith((".path", ".judgments")) or v is None
    }
    return _template().render(
        run=run,
        origin=origin,
        measured=measured,
        other_seeds=other_seeds,
        baseline=baseline,
        command=command,
        add_pooling_layer=add_pooling_layer,
        level=f"{100 * CONFIDENCE:.0f}",
        generated_share=counts["generated_share"],
        levels=active(factors),
        changes={} if baseline is None else diff(baseline[1], factors),
        totals={key: value for key, value in flatten(counts).items() if _is_number(value)},
        work={key: value for key, value in manifest.counts.items() if _is_number(value)},
        recipe=recipe,
        weights={k: v for k, v in manifest.content_sha256.items() if k.endswith(".safetensors")},
        commit=manifest.git.get("commit"),
        installed=manifest.git.get("release"),
        uncommitted=manifest.git.get("changed", manifest.git.get("dirty")),  # older manifests know of the whole tree
        cost={key: round(value, 3 if key == "mfu" else 1) for key, value in manifest.cost.items()},
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # that is for HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "text": _text,
        "code": _code,
        "number": _number,
        "json": json.dumps,
        "repr": repr,
        "summary": _summary,
    }
    return environment.get_template("card.md.j2")


class _Line(NamedTuple):
    """A line of the table of scores, its numbers as they are shown."""

    condition: str
    measure: str
    verdict: str
    num_units: int
    mean: str
    interval: str
    untouched: str
    over_seeds: str


def _summary(measured: Measured) -> list[tuple[str, list[_Line]]]:
    """Return each data set of an evaluation with its lines."""
    units = _units(measured.evaluation)
    before = {} if measured.untouched is None else {_key(row): row.mean for row in measured.untouched.summary()}
    seeds = [{_key(row): row.mean for row in other.summary()} for other in measured.seeds.values()]
    by_dataset: dict[str, list[_Line]] = {}
    for row in measured.evaluation.summary():
        key = _key(row)
        same = row.direction in ("", "all", "both", row.condition)
        line = _Line(
            row.condition if same else f"{row.condition}: {row.direction}",
            row.measure,
            MARKS.get(row.verdict, row.verdict.upper()),
            row.num_units,
            _mean(row.mean),
            _interval(units[key], row.measure),
            _mean(before[key]) if key in before else "not measured",
            _over_seeds([means[key] for means in seeds if key in means]),
        )
        by_dataset.setdefault(row.dataset, []).append(line)
    return list(by_dataset.items())


def _interval(values: Sequence[float], measure: str) -> str:
    interval = mean_interval(values, CONFIDENCE)
    if len(set(values)) == 1:
        return f"all {_mean(values[0])}"
    if interval is None:
        return "-"
    low, high = within(interval, *range_of(measure))
    return f"{_mean(low)} to {_mean(high)}"


def _over_seeds(means: Sequence[float]) -> str:
    return f"{fmean(means):.3f} ± {stdev(means):.3f} (S = {len(means)})" if len(means) > 1 else "-"


def _units(evaluation: Evaluation) -> dict[Key, list[float]]:
    values: dict[Key, list[float]] = {}
    for score in evaluation.scores:
        key = (score.dataset, score.condition, score.direction, score.measure)
        values.setdefault(key, []).append(score.value)
    return values


def _key(row: SummaryRow) -> Key:
    return row.dataset, row.condition, row.direction, row.measure


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
