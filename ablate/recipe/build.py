"""From plain dictionaries to frozen values: strict, and every mistake is told with its dotted path."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, Union

from ablate.plugins import plugin_names, plugin_of, source_type
from ablate.recipe.factors import Range, active, check_coherent, check_room
from ablate.recipe.schema import LARGEST, IvfIndex, Location, PluginSource, Recipe, RunConfig, Runtime, T
from ablate.recipe.values import type_hints
from ablate.records import UserError, check_name

WANDB_NAME = re.compile(r"[^/\\#?%:\s\x00-\x1f]([^/\\#?%:\x00-\x1f]{0,126}[^/\\#?%:\s\x00-\x1f])?")
LONGEST = 120
"""Characters of a value that a line about it repeats."""


def build_run(values: Mapping[str, Any]) -> RunConfig:
    """Build a RunConfig from the flat dictionary of the command line (recipe parts, `seed` and `runtime` side by side).

    Raises UserError with the dotted path, the value and what is allowed.
    """
    recipe_names = [field.name for field in dataclasses.fields(Recipe)]
    known = [*recipe_names, "seed", "runtime"]
    _refuse_unknown(values, known, "")
    for name in known:
        if values.get(name) is None and name not in ("miner", "stemmer"):
            raise UserError(f"{name} is not set (null); every run needs it" + (": seed=0" if name == "seed" else ""))
    run = RunConfig(
        recipe=build(Recipe, {name: values[name] for name in recipe_names if name in values}),
        seed=_build(type_hints(RunConfig)["seed"], values["seed"], "seed"),
        runtime=build(Runtime, values["runtime"], "runtime"),
    )
    check_coherent(run.recipe.factors)
    _check_together(run)
    return run


def _check_together(run: RunConfig) -> None:
    """Raise UserError for values that are right by themselves and wrong together."""
    recipe, runtime = run.recipe, run.runtime
    check_room(recipe.factors, recipe.budget.negatives_per_group)
    _check_negatives(recipe)
    sets = recipe.evaluation.sets
    if not sets or len(set(sets)) < len(sets):
        raise UserError(f"evaluation.sets={list(sets)} must name at least one set and none of them twice")
    window, stride, length = recipe.evaluation.window, recipe.evaluation.stride, recipe.model.passage_length
    if (window is None) != (stride is None) or (window is not None and stride is not None and stride > window):
        raise UserError(
            f"evaluation.window={window} and evaluation.stride={stride} go together, and the stride is at most the "
            f"window, so that no token is passed over: evaluation.window=128 evaluation.stride=64, or null for both"
        )
    if window is not None and window >= length:
        raise UserError(
            f"evaluation.window={window} does not fit into model.passage_length={length} beside special tokens; lower "
            f"the window or raise the length"
        )
    if isinstance(recipe.evaluation.index, IvfIndex) and recipe.evaluation.index.probes > recipe.evaluation.index.lists:
        raise UserError(
            f"evaluation.index.probes={recipe.evaluation.index.probes} is more than "
            f"evaluation.index.lists={recipe.evaluation.index.lists}; lower the probes"
        )
    check_name("runtime.study", runtime.study)
    check_name("runtime.label", runtime.label)
    for name, text in (("project", runtime.tracker.project), ("entity", runtime.tracker.entity)):
        if text is not None and not WANDB_NAME.fullmatch(text):
            raise UserError(
                f"runtime.tracker.{name}={_shown(text)} is no name for W&B: up to 128 characters, none of "
                f"them white space but blanks, and none of / \\ # ? % :"
            )
    if runtime.label == "untouched" and recipe.ranker != "untouched":
        raise UserError("runtime.label='untouched' is the name of the backbone before training; choose another one")
    switched_on = active(recipe.factors)
    if recipe.ranker != "trained" and switched_on:
        raise UserError(
            f"ranker={recipe.ranker!r} trains nothing, so factors.{next(iter(switched_on))} would mean nothing; leave "
            f"the factors off (+experiment=query_only does), or set ranker=trained"
        )
    if recipe.ranker != "trained" and recipe.audit.take != "all":
        raise UserError(
            f"ranker={recipe.ranker!r} trains nothing, so audit.take={recipe.audit.take} would mean nothing; leave it "
            f"at all, or set ranker=trained"
        )
    if runtime.until == "dev" and runtime.dev_set is None:
        raise UserError("runtime.until=dev measures on the dev set, and runtime.dev_set is null; name one")
    if run.runtime.dev_set in run.recipe.evaluation.sets:
        raise UserError(
            f"runtime.dev_set={run.runtime.dev_set!r} is one of evaluation.sets={list(run.recipe.evaluation.sets)}; "
            f"what is watched in training must not be what is reported: set runtime.dev_set=null or name another set"
        )


def _check_negatives(recipe: Recipe) -> None:
    """Raise UserError for rules on in-batch negatives that would mean nothing or cannot be kept."""
    train, own = recipe.train, recipe.budget.negatives_per_group
    for name, value, off in (("same_query", train.same_query, "mask"), ("most_negatives", train.most_negatives, None)):
        if value != off and not train.in_batch_negatives:
            raise UserError(
                f"train.{name}={value} is about in-batch negatives, and train.in_batch_negatives=false leaves them "
                f"out; set it to true, or train.{name}={'null' if off is None else off}"
            )
    if train.most_negatives is not None and train.most_negatives < own:
        raise UserError(
            f"train.most_negatives={train.most_negatives} is less than budget.negatives_per_group={own}, which a row "
            f"always keeps; raise it to {own} at least"
        )


def build(cls: type[T], values: Any, path: str = "") -> T:
    """Build a frozen dataclass from plain values; strict, recursive.

    Raises UserError for an unknown or missing key, a wrong type or a value out of range, with the dotted path.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{path or cls.__name__}={values!r} must be a group of keys: {names_of(cls)}")
    _refuse_unknown(values, names_of(cls), path)
    hints = type_hints(cls)
    arguments = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        where = f"{path}.{field.name}" if path else field.name
        if field.name in values:
            arguments[field.name] = _build(hints[field.name], values[field.name], where)
        elif field.default is dataclasses.MISSING:
            raise UserError(f"{where} is missing; give it a value ({describe(hints[field.name])})")
    return cls(**arguments)


def names_of(cls: type) -> list[str]:
    """Return the names of the fields of a dataclass, in their order."""
    return [field.name for field in dataclasses.fields(cls)]


def _refuse_unknown(values: Mapping[str, Any], known: list[str], path: str) -> None:
    for name in values:
        if name not in known:
            raise UserError(unknown_key(str(name), known, path))


def unknown_key(name: str, known: Sequence[str], path: str = "") -> str:
    """Return the line about a key that is not there: where, which keys are, and which one was probably meant."""
    where = f"{path}." if path else ""
    return f"unknown key {where}{name}; known here: {', '.join(known) or 'none'}{meant(name, known, where)}"


def meant(name: str, known: Iterable[str], where: str = "") -> str:
    """Return the end of a line about an unknown name: `; did you mean X?`, or nothing when none is like it."""
    folded = {known_name.casefold(): known_name for known_name in known}
    alike = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {where}{folded[alike[0]]}?" if alike else ""


def _build(hint: Any, value: Any, path: str) -> Any:
    described, limits = describe(hint), list[Range]()
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        limits = [extra for extra in extras if isinstance(extra, Range)]
    if isinstance(hint, NewType):
        if hint is Location and value == "":
            raise UserError(
                f"{path} is empty, which would mean the current folder; name it, or write . for that folder"
            )
        hint = hint.__supertype__
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _build_union(typing.get_args(hint), value, path)
    if origin is Literal:
        if isinstance(value, (bool, list, Mapping)) or value not in typing.get_args(hint):
            known = [str(option) for option in typing.get_args(hint)]
            raise UserError(
                f"{path}={_shown(value)} is not known; allowed: {', '.join(known)}{meant(str(value), known)}"
            )
        return value
    if origin is tuple:
        return _build_tuple(typing.get_args(hint), value, path)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, path)  # type: ignore[arg-type]
    if hint is Any:
        return value
    return _build_scalar(hint, value, path, limits, described)


def _build_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None:
        if type(None) in options:
            return None
        raise UserError(f"{path} is not set (null); allowed: {' or '.join(describe(option) for option in options)}")
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return _build(options[0], value, path)
    kinds = {typing.get_args(type_hints(option)["kind"])[0]: option for option in options if option is not PluginSource}
    kind = value.get("kind") if isinstance(value, Mapping) else None
    plugin = plugin_of("ablate.sources", kind) if isinstance(kind, str) and PluginSource in options else None
    if plugin is not None and kind in kinds:
        raise UserError(f"{path}.kind={kind}: that is a shipped one, and {plugin.title} has its name; uninstall it")
    if plugin is not None:
        return build(source_type(plugin), value, path)
    if not isinstance(kind, str) or kind not in kinds:
        known = [*kinds, *(plugin_names("ablate.sources") if PluginSource in options else ())]
        near = meant(str(kind), known)
        raise UserError(f"{path}.kind={_shown(kind)} is not known; allowed: {', '.join(known)}{near}")
    return build(kinds[kind], value, path)


def _build_tuple(items: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise UserError(f"{path}={_shown(value)} must be a list, like [{describe(items[0])}, …]")
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_build(items[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if len(value) != len(items):
        raise UserError(f"{path}={_shown(value)} must have {len(items)} entries")
    both = enumerate(zip(items, value, strict=True))
    return tuple(_build(hint, item, f"{path}[{index}]") for index, (hint, item) in both)


def _build_scalar(hint: Any, value: Any, path: str, limits: list[Range], described: str) -> Any:
    if isinstance(value, int) and abs(value) > LARGEST:
        raise UserError(f"{path}={_shown(value)} is too large; whole numbers go to {LARGEST}")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if value is None:
        raise UserError(f"{path} is not set (null); it takes {described}")
    if value == "" and hint is not str:
        raise UserError(f"{path} has no value; it takes {described}")
    if type(value) is not hint:
        whole = f"; write {path}={value:.0f}" if hint is int and isinstance(value, float) and value.is_integer() else ""
        raise UserError(
            f"{path}={_shown(value)} has the wrong type ({type(value).__name__}); it takes {described}{whole}"
        )
    if hint is float and not math.isfinite(value):
        raise UserError(f"{path}={value!r} must be a finite number; it takes {described}")
    for limit in limits:
        if not limit.low <= value <= limit.high:
            raise UserError(f"{path}={value!r} is out of range; allowed: {_span(limit)}")
    return value


def _span(limit: Range) -> str:
    """Return a range in words."""
    low, high = (f"{end:g}" if isinstance(end, float) else str(end) for end in limit)
    return f"{low} to {high}" if math.isfinite(limit.high) else f"at least {low}"


def _shown(value: Any) -> str:
    """Return a value as a line repeats it: what is long, or too long to be written, by its beginning."""
    try:
        text = repr(value)
    except ValueError:  # a whole number beyond the limit of digits
        return f"a number of {value.bit_length()} bits" if isinstance(value, int) else "what cannot be written"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}


def describe(hint: Any) -> str:
    """Return in words what a field of a type takes, with its limits or its choices."""
    if typing.get_origin(hint) is Annotated:
        base, *extras = typing.get_args(hint)
        limits = ", ".join(_span(extra) for extra in extras if isinstance(extra, Range))
        return f"{describe(base)}, {limits}" if limits else describe(base)
    if isinstance(hint, NewType):
        return "text"
    if typing.get_origin(hint) is Literal:
        return ", ".join(str(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe(option) for option in typing.get_args(hint))
    return WORDS.get(hint) or str(getattr(hint, "__name__", hint))
