"""The cells of a study: which runs a command line or a study file describes, each with its label, seed and ids."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ablate.cli.overrides import quoted, written
from ablate.recipe.build import build_run
from ablate.recipe.identity import Identity
from ablate.recipe.schema import Recipe, RunConfig
from ablate.recipe.values import flatten, plain
from ablate.records import UserError
from ablate.study.declaration import Axis, DeclaredCell, Study


class Given(NamedTuple):
    """One override of the command line."""

    key: str
    """With its `+`, if it has one."""
    values: tuple[str, ...]
    """As the command line takes them; more than one in a sweep."""
    swept: bool

    @property
    def bare(self) -> str:
        """The key without `+` and `~`."""
        return self.key.lstrip("+~")

    def at(self, value: str) -> str:
        """Return the override with one of its values."""
        return f"{self.key}={value}"


class Point(NamedTuple):
    """The overrides of one cell, and the part of them that makes it another point of a grid."""

    overrides: tuple[str, ...]
    """The seed last."""
    axes: tuple[tuple[str, str], ...]


class Composed(NamedTuple):
    """A composed configuration."""

    values: dict[str, Any]
    label: str
    """`runtime.label` as it was written, with its references."""


@dataclass
class Cell:
    """One run of a plan."""

    overrides: tuple[str, ...]
    label: str
    seed: int | None
    """None when the configuration could not be composed."""
    config: RunConfig | None = None
    """None when the cell is incoherent; `reason` says why."""
    identity: Identity | None = None
    reason: str = ""
    same_as: str = ""
    """Name of an earlier cell with the same evaluation id: made once."""
    estimate_s: float | None = None
    """What it takes on one worker, by earlier runs; None when there are none."""

    @property
    def name(self) -> str:
        """Name of the cell, for people."""
        return f"{self.label} seed {'?' if self.seed is None else self.seed}"

    @property
    def study(self) -> str:
        """Name of the study under which it is recorded."""
        assert self.config is not None
        return self.config.runtime.study


def crossed(given: Sequence[Given]) -> Iterator[Point]:
    """Yield the cross product of swept overrides, the last one fastest, as Hydra's own sweeper does.

    Raises UserError for a list of study files.
    """
    for item in given:
        if item.bare == "sweeps":
            raise UserError(f"+sweeps={','.join(item.values)}: one study at a time; issue one command for each")
    last = {item.key: item for item in given}  # of two overrides of one key the last one counts
    options = [[(item, value) for value in item.values] for item in last.values()]
    for choice in itertools.product(*options):
        ordered = sorted(choice, key=lambda pair: pair[0].bare == "seed")
        yield Point(
            tuple(item.at(value) for item, value in ordered),
            tuple((item.bare, value) for item, value in choice if item.swept),
        )


def of_study(name: str, study: Study, given: Sequence[Given]) -> Iterator[Point]:
    """Yield the cells of a study file, with the overrides of the command line.

    `seed=…` takes the place of the file's seeds; a key of its grid, of that axis; another swept key is crossed with
    all; a fixed one applies to every cell. Raises UserError for an experiment or a second study, and for a bad seed.
    """
    fixed: list[str] = []
    axes = {axis.key.lstrip("+~"): axis for axis in study.grid}
    grid = {bare: (axis.key, tuple(written(value) for value in axis.values)) for bare, axis in axes.items()}
    for item in given:
        if item.bare == "experiment":
            raise UserError(
                f"{item.key}={','.join(item.values)} cannot stand beside +sweeps={name}, whose study names its arms; "
                f"leave one of them out"
            )
        if item.bare == "sweeps":
            continue
        if item.bare == "seed":
            try:
                study = dataclasses.replace(study, seeds=tuple(int(value) for value in item.values))
            except ValueError as error:
                raise UserError(f"seed={','.join(item.values)} must be whole numbers") from error
        elif item.swept or item.bare in grid:
            key, values = item.key, item.values
            if item.bare in axes:
                key, values = axes[item.bare].key, tuple(_as_declared(value, axes[item.bare]) for value in values)
            grid[item.bare] = (key, values)
        else:
            fixed.append(item.at(item.values[0]))
    if not any(item.bare == "runtime.study" for item in given):
        fixed.append(quoted("runtime.study", name))
    ungridded = dataclasses.replace(study, grid=())
    for point in itertools.product(*([(key, value) for value in values] for key, values in grid.values())):
        placed = [f"{key}={value}" for key, value in point]
        for *own, seed in ungridded.cells():
            yield Point(
                (f"+sweeps={name}", *own, *placed, *fixed, seed), tuple((key.lstrip("+~"), v) for key, v in point)
            )


def _as_declared(value: str, axis: Axis) -> str:
    """Return a value as the points of the file have it, where it is one of theirs: 1 is the point 1.0, True is true."""

    def means(known: Any) -> bool:
        if isinstance(known, str):
            return value in (known, written(known), written(known, mark='"'))
        if isinstance(known, float):
            with contextlib.suppress(ValueError):
                return float(value) == known
        return value.lower() == written(known)

    return next((written(known) for known in axis.values if means(known)), value)


def of_declaration(name: str, study: Study, given: Sequence[Given]) -> Iterator[Point]:
    """Yield the cells that a study file declares: all of its seeds and its whole grid, with the fixed overrides.

    Raises UserError as `of_study` does.
    """
    restricting = {"seed", *(axis.key.lstrip("+~") for axis in study.grid)}
    return of_study(name, study, [item for item in given if not item.swept and item.bare not in restricting])


def label_of(composed: Composed, axes: Iterable[tuple[str, str]]) -> str:
    """Return the arm's label with the point of the grid behind it: `dual_view skew=0.5 shortcut=0.9`.

    What the label refers to already, and what is no part of a recipe (runtime), is left out.
    """
    parts = [str(composed.values["runtime"]["label"])]
    for key, value in axes:
        told = key in ("experiment", "seed") or key.startswith("runtime.") or f"${{{key}}}" in composed.label
        if not told:
            parts.append(f"{key.rsplit('.', 1)[-1]}={value}".replace("/", "_"))
    return " ".join(parts)


def plan(
    points: Iterable[Point], compose: Callable[[tuple[str, ...]], Composed], identify: Callable[[RunConfig], Identity]
) -> list[Cell]:
    """Return the cells of a plan; one that cannot be composed, built or identified is incoherent, with its reason.

    Raises UserError when two cells with different recipes would be recorded under one name.
    """
    cells: list[Cell] = []
    for point in points:
        cells.append(_cell(point, compose, identify))
    first: dict[tuple[str, str, int], Cell] = {}
    by_id: dict[str, Cell] = {}
    for cell in cells:
        if cell.identity is None or cell.config is None:
            continue
        key = (cell.study, cell.label, cell.config.seed)
        other = first.setdefault(key, cell)
        assert other.identity is not None
        if other.identity.eval_id != cell.identity.eval_id:
            raise UserError(
                f"two different runs would be recorded as {cell.name} of {cell.study}: {' '.join(other.overrides)} and "
                f"{' '.join(cell.overrides)}; give each arm a runtime.label of its own"
            )
        known = by_id.setdefault(cell.identity.eval_id, cell)
        cell.same_as = "" if known is cell else known.name
    return cells


def _cell(
    point: Point, compose: Callable[[tuple[str, ...]], Composed], identify: Callable[[RunConfig], Identity]
) -> Cell:
    label, seed = " ".join(point.overrides), None
    try:
        composed = compose(point.overrides)
        label, seed = label_of(composed, point.axes), composed.values.get("seed")
        values = {name: value for name, value in composed.values.items() if name != "study"}
        overrides = point.overrides
        if label != values["runtime"]["label"]:
            values["runtime"] = {**values["runtime"], "label": label}
            overrides = (*overrides[:-1], quoted("runtime.label", label), overrides[-1])
        config = build_run(values)
        return Cell(overrides, label, config.seed, config, identify(config))
    except UserError as error:
        return Cell(point.overrides, label, seed, reason=" ".join(str(error).split()))


def declared_cells(
    points: Iterable[Point],
    planned: Mapping[Point, Cell],
    compose: Callable[[tuple[str, ...]], Composed],
    identify: Callable[[RunConfig], Identity],
) -> list[DeclaredCell]:
    """Return the cells of a study as they are recorded beside its declaration, in the order of its points.

    Those that are `planned` already are taken from there; of the others only recipes that none of them has are
    identified, because the id of an arm has no seed.
    """
    arm_ids: dict[Recipe, Identity] = {
        cell.config.recipe: cell.identity for cell in planned.values() if cell.config and cell.identity
    }

    def identify_recipe(config: RunConfig) -> Identity:
        if config.recipe not in arm_ids:  # until the mix: what is not going to run fetches no evaluation set
            runtime = dataclasses.replace(config.runtime, until="mix", plan_only=True)
            arm_ids[config.recipe] = identify(dataclasses.replace(config, runtime=runtime))
        return arm_ids[config.recipe]

    cells = [planned.get(point) or _cell(point, compose, identify_recipe) for point in points]
    recipes = [flatten(plain(cell.config.recipe)) if cell.config else {} for cell in cells]
    sound = [recipe for recipe in recipes if recipe]
    keys = dict.fromkeys(key for recipe in sound for key in recipe)
    unequal = [key for key in keys if any(key not in recipe or recipe[key] != sound[0].get(key) for recipe in sound)]
    return [
        DeclaredCell(
            label=cell.label,
            seed=cell.seed,
            arm_id=cell.identity.arm_id if cell.identity else None,
            differs={key: recipe[key] for key in unequal if key in recipe},
            reason=cell.reason,
        )
        for cell, recipe in zip(cells, recipes, strict=True)
    ]


def refuse_common_mistake(cells: Sequence[Cell]) -> None:
    """Raise UserError, once, when no cell makes sense and the reason of all is one, and when there is no cell."""
    if not cells:
        raise UserError("the command line describes no run: a list or glob(…) in it has no value; give it some")
    reasons = {cell.reason for cell in cells}
    if len(reasons) == 1 and "" not in reasons:
        raise UserError(f"{reasons.pop()}" + (f" (each of the {len(cells)} cells)" if len(cells) > 1 else ""))


def incoherent_lines(cells: Iterable[Cell]) -> list[str]:
    """Return a line for each reason for which cells make no sense, with the first of them."""
    by_reason: dict[str, list[str]] = {}
    for cell in cells:
        if cell.config is None:
            by_reason.setdefault(cell.reason, []).append(cell.name)
    return [
        f"incoherent: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
        for reason, names in by_reason.items()
    ]
