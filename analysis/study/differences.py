"""In what the arms of a contrast differ, and whether that is one thing.

Keys are dotted recipe keys. Not every differing key is a change of its own. These follow from another one, and do not
count beside it:

- a level that only says how another factor acts (`HOW`), when that factor differs too: it is off in one of the two
  arms, where the level could be anything without a change of the mix;
- the keys of a source when its `kind` differs, and the keys of a model when its weights differ (pooling, prefixes and
  lengths belong to a backbone);
- a content revision when another key of its part differs, and the revision of a miner when the source or model does.

What is left are the switches. Two arms with more than one switch between them are confounded. A contrast of more arms
is not, when they hang together by steps of one switch: a 2×2 interaction, a dose-response, a mean of several levels.
Nor is a difference of differences, the same contrast in two places that are several keys apart (a world with two
defects and one without): each of its parts hangs together and sums to 0 by itself, so that nothing is compared across;
and the arms of one part differ from their counterparts in the other all in the same keys and values. It says that the
contrast depends on the place, and not on which of these keys.
`instruction_negatives` counts beside `instructed` although it needs it: it brings other passages, so either may be
the cause.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ablate.recipe.factors import STAGES
from ablate.recipe.values import diff
from analysis.study.runs import ArmRun

HOW: Mapping[str, tuple[str, ...]] = {
    f"factors.{stage.factor}": tuple(f"factors.{name}" for name in stage.modifies) for stage in STAGES if stage.modifies
}
"""Key of a level that says how a factor acts -> the factors that it may belong to."""


ROUNDING = 1e-9
"""Of sums and ratios of weights."""


class Difference(NamedTuple):
    """What differs between two arms."""

    keys: dict[str, tuple[Any, Any]]
    """Every dotted key that differs, with both values; None is absent (a factor at its no-op)."""
    switches: tuple[str, ...]
    """The keys that are changes of their own."""

    def __str__(self) -> str:
        if not self.keys:
            return "nothing"
        return ", ".join(f"{key} ({_level(a)} → {_level(b)})" for key, (a, b) in self.keys.items())


def _level(value: Any) -> str:
    return "off" if value is None else str(value)


def between(first: Mapping[str, Any], second: Mapping[str, Any]) -> Difference:
    """Return what differs between two resolved recipes (`ArmRun.recipe`); how they were evaluated is no part of it."""
    first_recipe, second_recipe = ({k: v for k, v in recipe.items() if k != "evaluation"} for recipe in (first, second))
    if _name(first_recipe["system"]) != _name(second_recipe["system"]):
        return _of_other_systems(first_recipe, second_recipe)
    keys = diff(first_recipe, second_recipe)
    return Difference(keys, tuple(key for key in keys if not _follows(key, keys)))


def _of_other_systems(first_recipe: Mapping[str, Any], second_recipe: Mapping[str, Any]) -> Difference:
    """Return the difference between arms of unlike kinds (trained, untouched, ranker): the kind, and other weights."""
    keys: dict[str, tuple[Any, Any]] = {"system": (_name(first_recipe["system"]), _name(second_recipe["system"]))}
    models = [recipe.get("model") or recipe["system"].get("model") for recipe in (first_recipe, second_recipe)]
    if None not in models:
        keys |= diff({"model": models[0]}, {"model": models[1]})
    return Difference(keys, tuple(key for key in keys if not _follows(key, keys)))


def _name(system: Any) -> str:
    return "trained" if system == "trained" else str(system.get("stage", "unknown"))


def _follows(key: str, keys: Mapping[str, Any]) -> bool:
    """Return whether a differing key follows from another one that differs."""
    if any(factor in keys for factor in HOW.get(key, ())):
        return True
    part, _, name = key.rpartition(".")
    if part == "source" and "source.kind" in keys:
        return name != "kind"
    if part.split(".")[0] == "model" and "model.revision" in keys:
        return key != "model.revision"
    if key == "miner.revision" and any(other.startswith(("source.", "model.")) for other in keys):
        return True
    if name == "revision" and part != "model":
        return any(other.startswith(f"{part}.") for other in keys if other != key)
    return False


def reference_of(weights: Mapping[str, float]) -> str:
    """Return the arm that a contrast is read against: the first of the most negative weight."""
    return min(weights, key=weights.__getitem__)


def differences(arms: Mapping[str, Sequence[ArmRun]], weights: Mapping[str, float]) -> dict[str, Difference]:
    """Return, for every arm of a contrast but its reference, what it differs from the reference in.

    `arms`: arm -> its runs.
    """
    reference = reference_of(weights)
    return {
        arm: between(arms[reference][0].recipe, arms[arm][0].recipe)
        for arm, weight in weights.items()
        if weight != 0 and arm != reference
    }


def confounded(arms: Mapping[str, Sequence[ArmRun]], weights: Mapping[str, float]) -> str:
    """Return why a contrast does not compare one thing, or an empty text when it does; `arms`: arm -> its runs."""
    used = [arm for arm, weight in weights.items() if weight != 0]
    by_pair = {pair: between(*(arms[arm][0].recipe for arm in pair)) for pair in itertools.permutations(used, 2)}
    parts = _joined(used, by_pair)
    if len(parts) == 1 or all(_is_repeated(parts[0], part, weights, by_pair) for part in parts[1:]):
        return ""
    apart = next(arm for arm in used if arm not in parts[0])
    reference = reference_of(weights)
    pair = sorted((apart, reference if reference != apart else used[0]), key=used.index)
    switches = by_pair[pair[0], pair[1]].switches
    return f"{pair[0]} and {pair[1]} differ in {len(switches)} keys: {', '.join(switches)}"


def _joined(used: Sequence[str], by_pair: Mapping[tuple[str, str], Difference]) -> list[list[str]]:
    """Return the arms in parts that hang together by steps of one switch, that of the first arm first."""
    parts: list[list[str]] = []
    for arm in used:
        near = [part for part in parts if any(len(by_pair[arm, other].switches) <= 1 for other in part)]
        merged = [*itertools.chain(*near), arm]
        parts = [part for part in parts if part not in near]
        parts.append(sorted(merged, key=used.index))
    return sorted(parts, key=lambda part: used.index(part[0]))


def _is_repeated(
    first: Sequence[str],
    second: Sequence[str],
    weights: Mapping[str, float],
    by_pair: Mapping[tuple[str, str], Difference],
) -> bool:
    """Return whether two parts of a contrast are one contrast in two places: see the head of this module."""
    if len(first) != len(second) or abs(sum(weights[arm] for arm in first)) > ROUNDING:
        return False
    for start in second:
        step = by_pair[first[0], start].keys
        counterparts = [next((to for to in second if by_pair[arm, to].keys == step), None) for arm in first]
        if None in counterparts or len(set(counterparts)) < len(first):
            continue
        ratio = weights[start] / weights[first[0]]
        pairs = zip(first, counterparts, strict=True)
        if all(to is not None and abs(weights[to] - ratio * weights[arm]) <= ROUNDING for arm, to in pairs):
            return True
    return False
