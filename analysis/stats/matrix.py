"""Score tables: per-unit values as one (seeds × units) matrix for each arm, and the checks that a test relies on.

Shape legend: S seeds of an arm, Q units of a data set.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ablate import reading
from ablate.evaluation.measures import range_of
from ablate.records import UserError
from ablate.tables import FORMULA

Values = npt.NDArray[np.float64]
Codes = npt.NDArray[np.integer]

REQUIRED = ("arm", "seed", "dataset", "condition", "unit_id", "measure", "value")
COLUMNS = (*REQUIRED[:4], "direction", *REQUIRED[4:])
"""Columns of a scores file; `direction` is optional, further ones are ignored, but for those of clusters."""
CLUSTER = "cluster"
"""Optional column: to which cluster (wording, kind of constraint) a unit belongs. `cluster.KIND` is one of several
kinds, of which a unit may have none (empty)."""
FORM = "form"
"""Kind that is a fixed stratum: its clusters are all there are, such as the forms of an instruction."""
DESCRIPTIVE = (FORM, "kind")
"""Kinds that say what a unit is like: results are broken down by them."""
_MAY_BE_EMPTY = ("dataset", "condition", "direction")


MOST = 1e60
"""Largest absolute value of a score: of what lies far beyond, fourth powers (degrees of freedom) are no numbers."""


class Cell(NamedTuple):
    """Where a contrast is looked at."""

    dataset: str
    condition: str
    direction: str
    measure: str

    def __str__(self) -> str:
        posed = self.condition if self.direction in ("", self.condition) else f"{self.condition}: {self.direction}"
        return f"{self.measure} on {self.dataset or 'the data set'}" + (f" ({posed})" if posed else "")


@dataclass(frozen=True)
class CellScores:
    """The scores of one cell: every arm and seed has a value for every unit."""

    units: tuple[str, ...]
    """Q units in the order of their names."""
    values_SQ: Mapping[str, Values]
    """arm -> (S, Q)."""
    clusters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kind -> cluster of each unit, empty for a unit without one; the kind of a column `cluster` is `cluster`."""

    def kept(self, places: Sequence[int]) -> CellScores:
        """Return the scores of the units at these places."""
        return CellScores(
            tuple(self.units[place] for place in places),
            {arm: values[:, places] for arm, values in self.values_SQ.items()},
            {kind: tuple(names[place] for place in places) for kind, names in self.clusters.items()},
        )


@dataclass(frozen=True)
class ScoreTable:
    """The scores of several arms, from wherever they came, with what is known of the arms."""

    source: str
    """Named in error texts."""
    seeds: Mapping[str, tuple[str, ...]]
    """arm -> its seeds, in the order of the matrices; arms in the order met."""
    cells: Mapping[Cell, CellScores]
    differs: Mapping[str, str] = field(default_factory=dict)
    """contrast, as it is labelled -> what differs between its arms."""
    also_changed: Mapping[str, str] = field(default_factory=dict)
    """contrast, as it is labelled -> what differs between the mixes of its arms beside that; of studies alone."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """contrast, as it is labelled -> a mark that must stand beside its numbers (UNMATCHED, CONFOUNDED)."""
    mark: str = ""
    """What stands in the title of every table of these scores."""
    remarks: tuple[tuple[str, str, str], ...] = ()
    """(contrast or arm, mark, why) of what stands above the table: UNMATCHED, CONFOUNDED, NOT TESTED, COLLAPSE."""
    seed_varies: Mapping[str, str] = field(default_factory=dict)
    """arm -> what changes with its seed, where that is known: of studies, not of a file of scores."""

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, in the order met."""
        return tuple(self.seeds)

    def select(
        self,
        *,
        datasets: Collection[str] = (),
        conditions: Collection[str] = (),
        directions: Collection[str] = (),
        measures: Collection[str] = (),
    ) -> ScoreTable:
        """Return the cells that are asked for, all where nothing is; raises UserError for a name that no cell has."""
        wanted = {"dataset": datasets, "condition": conditions, "direction": directions, "measure": measures}
        cells = dict(self.cells)
        for name, values in wanted.items():
            known = list(dict.fromkeys(getattr(cell, name) for cell in self.cells))
            for value in values:
                if value not in known:
                    raise UserError(f"{self.source}: no score has the {name} {value!r}; there are {listed(known)}")
            if values:
                cells = {cell: scores for cell, scores in cells.items() if getattr(cell, name) in values}
        if not cells:
            asked = ", ".join(f"{name} {listed(values)}" for name, values in wanted.items() if values)
            raise UserError(f"{self.source}: no score has all of {asked}; ask for fewer at once")
        return dataclasses.replace(self, cells=cells)


def listed(names: Collection[str], limit: int = 5) -> str:
    """Return the first names in quotes, and how many more there are."""
    shown = ", ".join(repr(name) for name in list(names)[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def unit_kind(measure: str) -> str:
    """Return what the statistical unit of a measure is: never a document."""
    if measure == "p-MRR":
        return "topic"
    if measure.startswith("Robustness@"):
        return "group"
    if measure in ("pairwise accuracy", "one-sided rate", "satisfying over violating"):
        return "question"
    return "query"


def is_signed(measure: str) -> bool:
    """Return whether a measure can be negative, so that a ratio of two means says nothing."""
    return -math.inf < range_of(measure)[0] < 0


def read_scores(path: Path | str) -> ScoreTable:
    """Return the table of a scores file: `.csv` (comma, header, UTF-8) or `.parquet`, one row per value.

    Columns: arm, seed, dataset, condition, unit_id, measure, value, and optionally direction, cluster and cluster.KIND.
    Raises UserError naming the file and what is wrong in it: a missing column, a value that is no finite number, a
    duplicate row, unlike units, a unit in two clusters.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{path}: scores are read from .csv or .parquet, not from {path.suffix or 'no suffix'!r}")
    reading.check_file(path)
    return from_arrow(_read_csv(path), str(path)) if path.suffix.lower() == ".csv" else _read_parquet(path)


def _read_parquet(path: Path) -> ScoreTable:
    """Read one column at a time: as codes, a text column needs 4 bytes a row."""
    import pyarrow.parquet as pq

    with reading.faults(f"{path}: cannot be read as Parquet", "write it again"):
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_columns(schema.names, str(path))
            _check_kinds(schema, str(path))
        text = _texts(schema.names)
        coded = [name for name in text if _is_text(schema.field(name).type)]
        with pq.ParquetFile(path, read_dictionary=coded, pre_buffer=False) as file:
            _check_not_empty(file.metadata.num_rows, str(path))
            read = functools.partial(file.read, use_threads=False)  # faster for one column in many small groups
            columns = {name: _Column.read(read(columns=[name])[name], name, str(path)) for name in text}
            values = _numbers(read(columns=["value"])["value"], str(path))
    return _pivot(columns, values, str(path))


def _kind_of(column: str) -> str | None:
    """Return the kind of cluster that a column holds, None for another column."""
    return (
        CLUSTER if column == CLUSTER else column.removeprefix(f"{CLUSTER}.") if column.startswith("cluster.") else None
    )


def column_of(kind: str) -> str:
    """Return the column of a scores file that holds the clusters of a kind."""
    return CLUSTER if kind == CLUSTER else f"{CLUSTER}.{kind}"


def _texts(names: Iterable[str]) -> list[str]:
    """Return the columns, of those that are there, that hold texts."""
    return [name for name in names if name in COLUMNS[:-1] or _kind_of(name) is not None]


def _may_be_empty(column: str) -> bool:
    return column in _MAY_BE_EMPTY or _kind_of(column) not in (None, CLUSTER)


def _check_kinds(schema: pa.Schema, source: str) -> None:
    """Refuse a column that holds neither texts nor numbers, such as lists."""
    for name in _texts(schema.names):
        kind = schema.field(name).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_text(plain) or pa.types.is_integer(plain) or (pa.types.is_null(plain) and _may_be_empty(name))):
            raise UserError(f"{source}: the column {name!r} holds {kind}, not texts or whole numbers; write texts")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _read_csv(path: Path) -> pa.Table:
    from pyarrow import csv as arrow_csv

    texts = dict.fromkeys((*COLUMNS, *_texts(_header(path))), pa.string())
    options = arrow_csv.ConvertOptions(column_types=texts, strings_can_be_null=False)
    try:
        with reading.faults(f"{path}: cannot be read as CSV", "write it again as UTF-8 with commas and a header"):
            table = arrow_csv.read_csv(path, convert_options=options)
    except UserError as error:
        raise UserError(_csv_mistake(path) or str(error)) from None
    _check_columns(table.column_names, str(path))
    for place, name in enumerate(table.column_names):
        if (
            name in _texts([name]) and pc.any(pc.starts_with(table[name], "'")).as_py()
        ):  # as `to_csv` marks what is no formula
            texts = pc.replace_substring_regex(table[name], f"^'({FORMULA.pattern})", r"\1")
            table = table.set_column(place, name, texts)
    if "value" in table.column_names and table.num_rows:
        try:
            numbers = pc.cast(pc.utf8_trim_whitespace(table["value"]), pa.float64())
        except pa.ArrowInvalid:
            raise UserError(_csv_mistake(path) or f"{path}: the column 'value' has a text that is no number") from None
        table = table.set_column(table.column_names.index("value"), "value", numbers)
    return table


def _header(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file, none where it has no first line that can be read."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            return next(csv.reader(file), [])
        except csv.Error:
            return []


def _csv_mistake(path: Path) -> str:
    """Return what is wrong with the first bad line of a CSV file, with its number; empty when no line is bad."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            for row in reader:
                if row and len(row) != len(header):
                    return f"{path}, line {reader.line_num}: {len(row)} fields where the header has {len(header)}"
                text = row[header.index("value")] if row and "value" in header else "0"
                try:
                    float(text)
                except ValueError:
                    return f"{path}, line {reader.line_num}: value {text[:40]!r} is no number; write one such as 0.25"
        except csv.Error as error:
            return f"{path}, line {reader.line_num}: {error}; write one value a line, texts in one pair of quotes"
    return ""


def from_arrow(table: pa.Table, source: str) -> ScoreTable:
    """Return the score table of a long Arrow table with the columns of a scores file; `source` is named in errors."""
    _check_columns(table.column_names, source)
    _check_kinds(table.schema, source)
    _check_not_empty(table.num_rows, source)
    columns = {name: _Column.read(table[name], name, source) for name in _texts(table.column_names)}
    return _pivot(columns, _numbers(table["value"], source), source)


def _check_columns(names: Sequence[str], source: str) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise UserError(f"{source}: column {missing[0]!r} is missing; a scores file has {', '.join(REQUIRED)}")
    twice = [name for name in (*COLUMNS, *_texts(names)) if list(names).count(name) > 1]
    if twice:
        raise UserError(f"{source}: column {twice[0]!r} is there twice; keep one")


def _check_not_empty(num_rows: int, source: str) -> None:
    if num_rows == 0:
        raise UserError(f"{source}: there is no score in it; give at least one row")


class _Column(NamedTuple):
    """A text column as codes into its distinct names."""

    codes: Codes
    names: list[str]

    @classmethod
    def read(cls, column: pa.ChunkedArray, name: str, source: str) -> _Column:
        if column.null_count and _may_be_empty(name):
            column = column.cast(pa.string()).fill_null("")
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        merged = column.unify_dictionaries().combine_chunks()
        array = merged.chunk(0) if isinstance(merged, pa.ChunkedArray) else merged
        names = ["" if value is None else str(value) for value in array.dictionary.to_pylist()]
        codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
        lacking = {-1} if array.null_count else set()
        lacking |= {names.index("")} if "" in names and not _may_be_empty(name) else set()
        if lacking and np.isin(codes, list(lacking)).any():
            row = int(np.flatnonzero(np.isin(codes, list(lacking)))[0])
            raise UserError(f"{source}: row {row + 1} has no {name}; every score needs one")
        place = {text: code for code, text in enumerate(dict.fromkeys(names))}
        if len(place) < len(names):
            codes = np.array([place[text] for text in names], dtype=np.int32)[codes]
        return cls(codes, list(place))


def _numbers(column: pa.ChunkedArray, source: str) -> Values:
    try:
        numbers = column.cast(pa.float64())
    except (pa.ArrowException, ValueError):
        raise UserError(f"{source}: the column 'value' holds {column.type}, not numbers; write float64") from None
    return np.asarray(numbers.to_numpy(), dtype=np.float64)


def _check_finite(values: Values, columns: Mapping[str, _Column], source: str) -> None:
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~(np.abs(values) <= MOST))
    if not len(bad):
        return
    row = int(bad[0])
    at = {name: column.names[int(column.codes[row])] for name, column in columns.items()}
    cell = Cell(at["dataset"], at["condition"], at.get("direction", ""), at["measure"])
    value = "missing or NaN" if math.isnan(values[row]) else f"{values[row]:g}, beyond ±{MOST:g}"
    raise UserError(
        f"{source}: the value of arm {at['arm']!r}, seed {at['seed']}, unit {at['unit_id']!r} is {value} ({cell}; "
        f"{len(bad)} such in all); score the run again, a failed unit is 0 or left out in every arm"
    )


def _joint(parts: Sequence[_Column]) -> tuple[Codes, list[tuple[str, ...]]]:
    """Return codes into the combinations of names that occur, and these combinations."""
    codes: Codes = np.zeros(len(parts[0].codes), dtype=np.int32)
    combinations: list[tuple[str, ...]] = [()]
    for part in parts:
        if len(part.names) == 1:
            combinations = [(*names, part.names[0]) for names in combinations]
            continue
        codes = codes.astype(np.int64) * len(part.names)
        codes += part.codes
        used = np.flatnonzero(np.bincount(codes))
        place = np.zeros(int(used[-1]) + 1, dtype=np.int32)
        place[used] = np.arange(len(used))
        codes = place[codes]
        pairs = [divmod(int(code), len(part.names)) for code in used]
        combinations = [(*combinations[left], part.names[right]) for left, right in pairs]
    return codes, combinations


def _pivot(columns: Mapping[str, _Column], values: Values, source: str) -> ScoreTable:
    _check_finite(values, columns, source)
    direction = columns.get("direction") or _Column(np.zeros(len(values), dtype=np.int32), [""])
    cell_codes, cell_names = _joint([columns["dataset"], columns["condition"], direction, columns["measure"]])
    run_codes, run_names = _joint([columns["arm"], columns["seed"]])
    runs = [(arm, seed) for arm, seed in run_names]
    arms = [name for name in columns["arm"].names if any(arm == name for arm, _ in runs)]
    sort_seed = _seed_order([seed for _, seed in runs])
    run_order = sorted(range(len(runs)), key=lambda run: (arms.index(runs[run][0]), sort_seed(runs[run][1])))
    run_place = np.empty(len(runs), dtype=np.int64)
    run_place[run_order] = np.arange(len(runs))
    runs = [runs[run] for run in run_order]

    unit_names = sorted(columns["unit_id"].names)
    rank = {name: place for place, name in enumerate(unit_names)}
    unit_rank = np.array([rank[name] for name in columns["unit_id"].names], dtype=np.int64)

    narrow = cell_codes.astype(np.uint16 if len(cell_names) <= 1 << 16 else np.int64)
    order = np.argsort(narrow, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(cell_codes, minlength=len(cell_names)))])
    cells: dict[Cell, tuple[CellScores, list[tuple[str, str]]]] = {}
    first_rows = [int(order[start]) for start in bounds[:-1]]
    for code in sorted(range(len(cell_names)), key=first_rows.__getitem__):
        rows = order[bounds[code] : bounds[code + 1]]
        cell = Cell(*cell_names[code])
        run_rows, unit_rows = run_place[run_codes[rows]], unit_rank[columns["unit_id"].codes[rows]]
        scores, cell_runs = _fill(cell, runs, unit_names, run_rows, unit_rows, values[rows], source)
        kinds = {kind: columns[column] for column in columns if (kind := _kind_of(column)) is not None}
        clusters = {
            kind: _clusters_of(cell, scores.units, columns["unit_id"], column, rows, source)
            for kind, column in kinds.items()
        }
        clusters = {kind: names for kind, names in clusters.items() if any(names)}
        cells[cell] = dataclasses.replace(scores, clusters=clusters), cell_runs
    seeds = {arm: tuple(seed for other, seed in runs if other == arm) for arm in arms}
    _check_seeds(cells, seeds, source)
    return ScoreTable(source, seeds, {cell: cell_scores for cell, (cell_scores, _) in cells.items()})


def _clusters_of(
    cell: Cell, names: Sequence[str], units: _Column, clusters: _Column, rows: Codes, source: str
) -> tuple[str, ...]:
    """Return the cluster of each unit that is named; raises UserError for a unit that is in two."""
    pairs = np.unique(units.codes[rows].astype(np.int64) * len(clusters.names) + clusters.codes[rows])
    known: dict[str, str] = {}
    for unit_code, cluster_code in (divmod(int(pair), len(clusters.names)) for pair in pairs):
        unit, cluster = units.names[unit_code], clusters.names[cluster_code]
        if known.setdefault(unit, cluster) != cluster:
            raise UserError(
                f"{source}: unit {unit!r} is in the clusters {known[unit]!r} and {cluster!r} ({cell}); a unit is in one"
            )
    return tuple(known[unit] for unit in names)


def _seed_order(seeds: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    """Return the sort key of seeds: by number when all are whole numbers, else by text."""
    try:
        {seed: int(seed) for seed in seeds}
    except ValueError:
        return lambda seed: (0, seed)
    return lambda seed: (int(seed), seed)


def _fill(
    cell: Cell,
    runs: list[tuple[str, str]],
    unit_names: list[str],
    run_rows: Codes,
    unit_rows: Codes,
    values: Values,
    source: str,
) -> tuple[CellScores, list[tuple[str, str]]]:
    """Return the matrices of one cell and the runs that it has; raises UserError for duplicate or missing rows."""
    used_runs, used_units = np.flatnonzero(np.bincount(run_rows)), np.flatnonzero(np.bincount(unit_rows))
    run_place, unit_place = np.zeros(len(runs), dtype=np.int64), np.zeros(len(unit_names), dtype=np.int64)
    run_place[used_runs], unit_place[used_units] = np.arange(len(used_runs)), np.arange(len(used_units))
    flat = run_place[run_rows] * len(used_units) + unit_place[unit_rows]
    counts = np.bincount(flat, minlength=len(used_runs) * len(used_units)).reshape(len(used_runs), len(used_units))
    units = tuple(unit_names[unit] for unit in used_units)
    cell_runs = [runs[run] for run in used_runs]
    if counts.max() > 1:
        run, unit = (int(place) for place in np.argwhere(counts > 1)[0])
        raise UserError(
            f"{source}: arm {cell_runs[run][0]!r}, seed {cell_runs[run][1]}, unit {units[unit]!r} has "
            f"{counts[run, unit]} values of {cell}; keep one (two directions need the column 'direction')"
        )
    if counts.min() == 0:
        raise UserError(_unequal_units(cell, cell_runs, units, counts > 0, source))
    matrix = np.empty(counts.size)
    matrix[flat] = values
    matrix = matrix.reshape(counts.shape)
    by_arm: dict[str, list[int]] = {}
    for place, (arm, _) in enumerate(cell_runs):
        by_arm.setdefault(arm, []).append(place)
    # The runs of one arm are neighbours, so its matrix is a view.
    return CellScores(units, {arm: matrix[places[0] : places[-1] + 1] for arm, places in by_arm.items()}), cell_runs


def _unequal_units(
    cell: Cell, runs: list[tuple[str, str]], units: Sequence[str], present: npt.NDArray[np.bool_], source: str
) -> str:
    """Return the text of the error for runs with unlike units; a unit of at most half of the runs counts as extra."""
    expected = present.sum(axis=0) * 2 > len(runs)
    unlike = np.flatnonzero((present != expected).any(axis=1))
    run = int(unlike[0]) if len(unlike) else 0
    lacking = [units[int(unit)] for unit in np.flatnonzero(expected & ~present[run])]
    extra = [units[int(unit)] for unit in np.flatnonzero(~expected & present[run])]
    parts = [f"lacks {len(lacking)} unit(s) of {int(expected.sum())}: {listed(lacking)}"] if lacking else []
    parts += [f"has {len(extra)} unit(s) that most others lack: {listed(extra)}"] if extra else []
    arm, seed = runs[run]
    return (
        f"{source}: {cell}: arm {arm!r}, seed {seed} {' and '.join(parts)} ({len(unlike)} of {len(runs)} runs differ); "
        "every arm and seed needs the same units: score it again, or leave these units out everywhere"
    )


def _check_seeds(
    cells: Mapping[Cell, tuple[CellScores, list[tuple[str, str]]]], seeds: Mapping[str, tuple[str, ...]], source: str
) -> None:
    """Raise UserError for a seed that an arm has in one cell and lacks in another: no run is dropped in silence."""
    for cell, (scores, runs) in cells.items():
        there = set(runs)
        for arm in scores.values_SQ:
            lacking = [seed for seed in seeds[arm] if (arm, seed) not in there]
            if lacking:
                raise UserError(
                    f"{source}: arm {arm!r} has no {cell} for seed(s) {', '.join(lacking)} but has other scores of "
                    "them; score these runs there too, or leave the seed out everywhere and say so"
                )
