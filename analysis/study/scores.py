"""All scores of a study in one table, and their means by arm and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ablate.evaluation.measures import P_MRR, mean_name
from ablate.evaluation.storage import UnitClusters
from ablate.records import QueryScore, UserError
from ablate.store.files import SCORES_FILE
from ablate.store.integrity import reading
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore
from analysis.stats.matrix import column_of

COLUMNS = ("arm", "seed", "dataset", "condition", "direction", "unit_id", "measure", "value")
UNITS = ("dataset", "condition", "direction", "measure", "unit_id")
"""What makes a value another one in one run."""


@dataclass(frozen=True)
class Scores:
    """The scores of one run: a value for every unit."""

    units: pa.Table
    """Columns of UNITS, as codes; runs with the same units in the same order share one table."""
    values: pa.ChunkedArray
    """float64, in the order of the units."""


def read_scores(store: ResultStore, manifest: Manifest, known: Iterable[pa.Table] = ()) -> Scores:
    """Return the scores of an evaluation, with the first table of units in `known` that equals its own.

    Raises UserError for a file that is damaged, is no Parquet or has other columns.
    """
    path = store.checked(manifest, SCORES_FILE)
    try:
        with reading(path, store.remedy(manifest)):
            table = pq.read_table(path, columns=[*UNITS, "value"], use_threads=False)
            units = pa.table({name: _coded(table[name]) for name in UNITS})
            values = pc.cast(table["value"], pa.float64())
    except pa.ArrowException as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}); {store.remedy(manifest)}") from None
    return Scores(next((other for other in known if other.equals(units)), units), values)


def scores_of(values: Iterable[QueryScore]) -> Scores:
    """Return the scores of one run that are not in a file."""
    columns = list(zip(*values, strict=True))
    texts = {name: pa.chunked_array([columns[QueryScore._fields.index(name)]], pa.string()) for name in UNITS}
    units = pa.table({name: _coded(column) for name, column in texts.items()})
    return Scores(units, pa.chunked_array([columns[QueryScore._fields.index("value")]], pa.float64()))


def without_measure(scores: Scores, measure: str) -> Scores:
    """Return the scores of a run but for those of one measure."""
    kept = pc.not_equal(pc.cast(scores.units["measure"], pa.string()), measure)
    units = scores.units.filter(kept)
    return Scores(pa.table({name: _coded(units[name]) for name in UNITS}), scores.values.filter(kept))


def _coded(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of texts as codes into its distinct texts."""
    kind = pa.dictionary(pa.int32(), pa.string())
    coded = column if column.type == kind else pc.cast(column, pa.string()).dictionary_encode()
    merged = coded.unify_dictionaries().combine_chunks()
    return merged.chunk(0) if isinstance(merged, pa.ChunkedArray) else merged


def long_table(
    runs: Iterable[tuple[str, int, Mapping[str, str], Scores]], clusters: Mapping[str, UnitClusters] | None = None
) -> pa.Table:
    """Return the scores of several runs as one table with the columns of COLUMNS, texts as codes.

    A run is given by its arm, its seed, other names of its data sets (recorded name -> name) and its scores.
    `clusters`: data set, as it is named now -> the clusters of its units; each kind is a column `cluster.KIND` more,
    empty for units without one.
    """
    parts = []
    known: dict[tuple[int, tuple[str, ...]], list[pa.DictionaryArray]] = {}
    kinds = list(dict.fromkeys(kind for known in (clusters or {}).values() for kind in known.clusters))
    for arm, seed, names, scores in runs:
        dataset = scores.units["dataset"].chunk(0)
        renamed = pa.array([names.get(name, name) for name in dataset.dictionary.to_pylist()], pa.string())
        place = scores.units.column_names.index("dataset")
        part = scores.units.set_column(place, "dataset", pa.DictionaryArray.from_arrays(dataset.indices, renamed))
        arms = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), len(part)), pa.array([arm]))
        part = part.append_column("arm", arms).append_column("seed", pa.repeat(pa.scalar(seed, pa.int64()), len(part)))
        part = part.append_column("value", scores.values).select(COLUMNS)
        if kinds:
            units = id(scores.units), tuple(renamed.to_pylist())
            if units not in known:
                known[units] = [_clusters_of(part, kind, clusters or {}) for kind in kinds]
            for kind, column in zip(kinds, known[units], strict=True):
                part = part.append_column(column_of(kind), column)
        parts.append(part)
    return pa.concat_tables(parts)


def _clusters_of(part: pa.Table, kind: str, clusters: Mapping[str, UnitClusters]) -> pa.DictionaryArray:
    """Return the cluster of each row of the table of one run."""
    datasets, units = (part[name].combine_chunks() for name in ("dataset", "unit_id"))
    datasets, units = (
        column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for column in (datasets, units)
    )
    names, unit_names = datasets.dictionary.to_pylist(), units.dictionary.to_pylist()
    pairs, places = np.unique(
        np.asarray(datasets.indices).astype(np.int64) * len(unit_names) + np.asarray(units.indices), return_inverse=True
    )
    told = []
    for dataset, unit in (divmod(int(pair), len(unit_names)) for pair in pairs):
        known = clusters.get(names[dataset])
        told.append("" if known is None else known.of(kind, unit_names[unit]))
    texts = {text: code for code, text in enumerate(dict.fromkeys(told))}
    codes = np.array([texts[text] for text in told], dtype=np.int32)[places.reshape(-1)]
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(texts), pa.string()))


def in_words(table: pa.Table) -> pa.Table:
    """Return a long table with its codes as texts, as it is written to a file."""
    kinds = {"seed": pa.int64(), "value": pa.float64()}
    return table.cast(pa.schema([(name, kinds.get(name, pa.string())) for name in table.column_names]))


def means(table: pa.Table) -> dict[tuple[str, str, str, str], dict[str, dict[int, float]]]:
    """Return (dataset, measure, condition, direction) -> arm -> seed -> mean over units, of a table `in_words`."""
    grouped = table.group_by(["dataset", "measure", "condition", "direction", "arm", "seed"]).aggregate(
        [("value", "mean")]
    )
    averages: dict[tuple[str, str, str, str], dict[str, dict[int, float]]] = {}
    for row in grouped.to_pylist():
        key = (row["dataset"], row["measure"], row["condition"], row["direction"])
        averages.setdefault(key, {}).setdefault(row["arm"], {})[row["seed"]] = row["value_mean"]
    return averages


def format_means(averages: Mapping[tuple[str, str, str, str], Mapping[str, Mapping[int, float]]]) -> str:
    """Return one block per dataset and measure: an arm a row, mean over seeds and standard deviation between them.

    Measures have the names and the scale of a run's own table: means of RR and AP are MRR and MAP, p-MRR is times 100.
    """
    lines: list[str] = []
    blocks: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for dataset, measure, condition, direction in sorted(averages):
        blocks.setdefault((dataset, measure), []).append((condition, direction))
    for (dataset, measure), columns in blocks.items():
        arms = sorted({arm for column in columns for arm in averages[dataset, measure, *column]})
        width = max(len(arm) for arm in arms)
        heads = [c if c == d or d in ("all", "both") else f"{c}: {d}" for c, d in columns]
        scale, digits = (100, 1) if measure == P_MRR else (1, 3)
        name = f"{mean_name(measure)} x 100" if measure == P_MRR else mean_name(measure)
        lines.append(f"{dataset}  {name}  (mean over seeds, ± standard deviation between seeds)")
        lines.append("  ".join([" " * (width + 2), "seeds", *(head.rjust(18) for head in heads)]))
        for arm in arms:
            cells, seeds = [], 0
            for column in columns:
                values = [scale * value for value in averages[dataset, measure, *column].get(arm, {}).values()]
                seeds = max(seeds, len(values))
                spread = f" ±{stdev(values):.{digits}f}" if len(values) > 1 else " " * (digits + 4)
                cells.append((f"{fmean(values):.{digits}f}{spread}" if values else "-").rjust(18))
            lines.append("  ".join([f"  {arm.ljust(width)}", f"{seeds:5d}", *cells]).rstrip())
        lines.append("")
    return "\n".join(lines)
