"""Search spaces: dimensions in Hydra's override grammar, what may be tuned, and what may be aimed at."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablate.cli.overrides import explain_unquoted, quoted, written
from ablate.records import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str | None
Point = dict[str, Value]
"""One value per dimension, by key."""

TUNABLE = ("train", "model", "miner")
REASONS = {
    "evaluation": "it decides what is measured, and tuning may see the dev set only",
    "evaluation_source": "it decides what is measured, and tuning may see the dev set only",
    "source": "it decides the data and the test beds, and tuning may see the dev set only",
    "seed": "the best of several seeds is luck and no setting",
    "factors": "factors are what arms differ in; name arms instead (+sweeps=tune_each_arm)",
    "experiment": "an arm is what is compared; name arms instead (+sweeps=tune_each_arm)",
    "budget": "the budget is what is held equal across arms",
    "runtime": "it is no part of a recipe",
    "tracker": "it is no part of a recipe",
}
CONDITIONS = ("plain", "original", "changed", "reversed", "instructed", "pairs")
P_MRR = "p-MRR"


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"choice({', '.join(written(value) for value in self.values)})"

    def distribution(self) -> BaseDistribution:
        """Return Optuna's form."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def points(self) -> Sequence[Value]:
        """Return all values."""
        return self.values


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `low` to `high`, both included, `step` apart or (log, step 1) evenly in the logarithm."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __str__(self) -> str:
        text = f"range({self.low}, {self.high}, {self.step}), both ends included"
        return f"log {text}" if self.log else text

    def distribution(self) -> BaseDistribution:
        """Return Optuna's form."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def points(self) -> Sequence[Value]:
        """Return all values."""
        return range(self.low, self.high + 1, self.step)


@dataclass(frozen=True)
class Interval:
    """Real numbers from `low` to `high`, evenly in the value or (log) in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        text = f"interval({self.low!r}, {self.high!r})"
        return f"tag(log, {text})" if self.log else text

    def distribution(self) -> BaseDistribution:
        """Return Optuna's form."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log)

    def points(self) -> Sequence[Value] | None:
        """Return None: a grid has no finite list of these."""
        return None


Dimension = Choice | Whole | Interval


def parse(params: Mapping[str, Any], arguments: Iterable[str]) -> tuple[dict[str, Dimension], tuple[str, ...]]:
    """Return the dimensions by key, and the overrides that are fixed.

    `params` is the space of YAML files (key to a text in Hydra's grammar, or a fixed value), `arguments` are the
    command line's overrides: a sweep among them is a dimension that replaces the file's, a fixed value removes it.
    Raises UserError that quotes what is no choice, range or interval, and for keys that may not be tuned.
    """
    dimensions: dict[str, Dimension] = {}
    fixed: dict[str, str] = {}
    for key, value in flat(params):
        if isinstance(value, (list, tuple)):
            raise UserError(f"hydra.sweeper.params: {key}={value!r} is a list; write choice(…) for values to try")
        text = f"{key}={value}" if isinstance(value, str) else quoted(key, value)
        dimension = _dimension(text)
        if dimension is None:
            fixed[key] = text
        else:
            dimensions[key] = dimension
    others = []
    for text in arguments:
        key = _key(text)
        dimension = _dimension(text)
        dimensions.pop(key, None)
        fixed.pop(key, None)
        if dimension is None:
            others.append(text)
        else:
            dimensions[key] = dimension
    check_keys([*dimensions, *fixed])
    if not dimensions:
        raise UserError("nothing to tune: name a space (+sweeps/space=lr) or give choices on the command line")
    return dict(sorted(dimensions.items())), (*fixed.values(), *others)


def check_keys(keys: Iterable[str]) -> None:
    """Raise UserError for a key that may not be tuned, with the reason."""
    for key in keys:
        part = re.split(r"[./@]", key)[0]
        if part not in TUNABLE:
            reason = REASONS.get(part, "it is no setting of training")
            raise UserError(f"{key} may not be tuned: {reason}; a space holds keys of {', '.join(TUNABLE)} only")


def check_objective(objective: Sequence[str], directions: Sequence[str]) -> None:
    """Raise UserError for an objective that is none of the dev set's measures, or that a broken model would win."""
    if not objective or len(set(objective)) < len(objective):
        raise UserError(f"hydra.sweeper.objective={list(objective)} must name at least one measure and none twice")
    for name in objective:
        if len(name.split("/")) != 3 or name.split("/")[0] not in CONDITIONS:
            raise UserError(
                f"hydra.sweeper.objective={name!r} must be condition/direction/measure, such as "
                f"'pairs/both/satisfying over violating' (conditions: {', '.join(CONDITIONS)}); it names no data set, "
                f"because tuning reads runtime.dev_set and nothing else"
            )
    if all(name.endswith(f"/{P_MRR}") for name in objective):
        raise UserError(
            f"hydra.sweeper.objective={list(objective)}: a model that loses every document has a high p-MRR too; add "
            f"'original/original/nDCG@10' as a second objective"
        )
    if directions and len(directions) != len(objective):
        raise UserError(
            f"hydra.sweeper.directions={list(directions)} must have an entry for each of the "
            f"{len(objective)} objectives"
        )


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of nested mappings."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def grid(dimensions: Mapping[str, Dimension]) -> list[Point]:
    """Return all points, the last dimension fastest; raises UserError for an interval, which has no list of values."""
    lists = []
    for key, dimension in dimensions.items():
        values = dimension.points()
        if values is None:
            raise UserError(f"{key}={dimension} has no finite list of values; a grid needs choice(…) or range(…)")
        lists.append(values)
    return [dict(zip(dimensions, values, strict=True)) for values in itertools.product(*lists)]


def corners(dimensions: Mapping[str, Dimension]) -> tuple[Point, Point]:
    """Return two points of the space, all dimensions at their first value and all at their last."""
    ends: list[tuple[Value, Value]] = []
    for dimension in dimensions.values():
        if isinstance(dimension, Choice):
            ends.append((dimension.values[0], dimension.values[-1]))
        else:
            ends.append((dimension.low, dimension.high))
    first, last = zip(*ends, strict=True)
    return dict(zip(dimensions, first, strict=True)), dict(zip(dimensions, last, strict=True))


def to_texts(point: Mapping[str, Value]) -> list[str]:
    """Return a point as overrides."""
    return [quoted(key, value) for key, value in point.items()]


def _override(text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        words = explain_unquoted(text) or f"{text!r} is not in Hydra's override grammar: {str(error).splitlines()[0]}"
        raise UserError(words) from error


def _key(text: str) -> str:
    return str(_override(text).get_key_element()).lstrip("+~")


def _dimension(text: str) -> Dimension | None:
    """Return the dimension that an override describes, or None for a fixed value."""
    override = _override(text)
    if not override.is_sweep_override():
        return None
    sweep = override.value()
    known = {"log", "int", "float"} if override.is_interval_sweep() else set()
    strange = sorted(set(sweep.tags) - known) if hasattr(sweep, "tags") else []
    if strange:
        raise UserError(f"{text!r}: tag {strange[0]!r} is not known here; intervals take log, int and float")
    if override.is_choice_sweep() and hasattr(sweep, "list"):  # a glob is one without
        values = tuple(_plain(item, text) for item in sweep.list)
        texts = [written(value) for value in values]
        if len(set(texts)) < len(texts):
            raise UserError(f"{text!r} lists {max(texts, key=texts.count)} twice; leave one of them out")
        return Choice(values)
    if override.is_range_sweep():
        return _range(sweep.start, sweep.stop, sweep.step, text)
    if override.is_interval_sweep():
        return _interval(sweep.start, sweep.end, sweep.tags, text)
    raise UserError(f"{text!r} is no dimension; write choice(a, b), range(start, stop, step) or interval(low, high)")


def _plain(item: Any, text: str) -> Value:
    from hydra.core.override_parser.types import QuotedString

    if isinstance(item, QuotedString):
        return item.text
    if item is not None and not isinstance(item, (bool, int, float, str)):
        raise UserError(f"{text!r}: {item!r} is no single value; choices are numbers, texts, true, false or null")
    return item


def _range(start: Any, stop: Any, step: Any, text: str) -> Dimension:
    """Return the values from start up to stop, without stop, as Python's range and Hydra's own sweeps have it."""
    if all(isinstance(item, int) for item in (start, stop, step)) and step > 0:
        values = range(start, stop, step)
        if values:
            return Whole(values[0], values[-1], step)
    elif step > 0 and start < stop:
        count = -int(-(stop - start) // step)
        return Choice(tuple(start + index * step for index in range(count) if start + index * step < stop))
    raise UserError(f"{text!r} holds no value; a range goes up from start and leaves stop out")


def _interval(low: Any, high: Any, tags: set[str], text: str) -> Dimension:
    log = "log" in tags
    if not low < high or (log and low <= 0):
        raise UserError(f"{text!r}: an interval needs low < high" + (", and low > 0 for log" if log else ""))
    whole = ("int" in tags) or (isinstance(low, int) and isinstance(high, int) and "float" not in tags)
    return Whole(int(low), int(high), log=log) if whole else Interval(float(low), float(high), log=log)
