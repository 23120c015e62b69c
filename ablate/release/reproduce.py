"""What the files of configuration say of a recipe: its baseline arm, and the command line that gives it again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ablate.cli.overrides import quoted, shell_word
from ablate.project import files_of
from ablate.recipe.build import build, build_run
from ablate.recipe.factors import Factors
from ablate.recipe.schema import Recipe
from ablate.recipe.values import flatten, plain
from ablate.records import UserError


def baseline_of(arm: str) -> tuple[str, Factors] | None:
    """Return name and factors of the arm that an arm of a file is to be compared with, or None for any other name.

    Raises UserError when an own file names a baseline that cannot be composed.
    """
    from ablate.compose import load, values_of

    path = experiment_of(arm)
    name = None if path is None else _runtime(path).get("baseline")
    if name is None:
        return None
    return name, build(Factors, values_of(load([f"+experiment={name}"]), resolved=False)["factors"], "factors")


def experiment_of(arm: str) -> Path | None:
    """Return the file of `conf/experiment/` whose label is this name, or has it with a level filled in."""
    for path in files_of("experiment").values():
        label, dollar, _ = str(_runtime(path).get("label", "")).partition("${")
        if label and (arm == label or (dollar and arm.startswith(label))):
            return path
    return None


def _runtime(path: Path) -> dict[str, Any]:
    """Return the block `runtime` of an arm's file."""
    runtime = _values(path).get("runtime")
    return runtime if isinstance(runtime, dict) else {}


def _values(path: Path) -> dict[str, Any]:
    """Return what a file of configuration holds; nothing for an own one that is no YAML, as it is not what is asked."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return values if isinstance(values, dict) else {}


def command_of(recipe: Recipe, seed: int, arm: str) -> str | None:
    """Return a command whose recipe is exactly this one, or None when no arm and groups in files lead to it.

    Composed again from that command, it is compared with the recipe. Local paths are shown as `PATH`: they are the
    reader's own.
    """
    from ablate.compose import load, values_of

    experiment = experiment_of(arm)
    chosen = [f"+experiment={experiment.stem}"] if experiment else []
    name = recipe.model.name
    chosen.append(f"model={name if name in files_of('model') else 'local'}")
    chosen.append(f"source={_choice('source', plain(recipe.source))}")
    if recipe.miner is not None:
        chosen.append(f"+miner={_choice('miner', plain(recipe.miner))}")
    if recipe.evaluation.source is not None:
        chosen.append(f"+evaluation_source={_choice('evaluation_source', plain(recipe.evaluation.source))}")
    wanted = plain(recipe)
    try:
        values = values_of(load(chosen), resolved=False)
        known = flatten({name: values.get(name) for name in wanted})
        changed = {
            k: v for k, v in flatten(wanted).items() if (k not in known or known[k] != v) and k != "source.rules"
        }
        overrides = [quoted(key, value) for key, value in changed.items()]
        again = values_of(load([*chosen, *overrides, f"seed={seed}"]), resolved=False)
        if build_run(again).recipe != recipe:
            return None
    except UserError:
        return None
    places = {
        "source.path",
        "evaluation.source.path",
        "audit.judgments",
        *(["model.path"] if recipe.model.hub_revision is None else []),
    }
    shown = [
        f"{key}=PATH" if key in places and value is not None else shell_word(key, value)
        for key, value in changed.items()
    ]
    groups = (shlex.quote(word) for word in chosen if word not in _DEFAULTS)
    return " ".join(["python -m ablate.run", *groups, *shown, f"seed={seed}"])


_DEFAULTS = ("source=world", "model=minilm")


def _choice(group: str, values: Any) -> str | None:
    """Return the file of a group that shares most values with these, among those of the same kind and format."""
    best: tuple[int, str] | None = None
    for path in files_of(group).values():
        config = _values(path)
        config = config["source"] if isinstance(config.get("source"), dict) else config
        if config.get("kind") != values.get("kind") or config.get("format") != values.get("format"):
            continue
        shared = sum(values.get(name) == value for name, value in config.items())
        if best is None or shared > best[0]:
            best = (shared, path.stem)
    return None if best is None else best[1]
