"""All scores of a study in one table, and their means by arm and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ablate.records import UserError
from ablate.store.files import SCORES_FILE
from ablate.store.integrity import reading
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore

COLUMNS = ("arm", "seed", "dataset", "condition", "direction", "unit_id", "measure", "value")


def collect(store: ResultStore, study: str) -> pa.Table:
    """Return the scores of a study as one table with the columns of COLUMNS, by arm and seed.

    The untouched backbone is the arm `untouched`. Raises UserError as `ResultStore.by_arm` does.
    """
    parts = []
    for (arm, seed), manifest in sorted(store.by_arm("evaluation", study).items(), key=lambda item: item[0]):
        scores = read_columns(store, manifest, [name for name in COLUMNS if name not in ("arm", "seed")])
        for recorded, name in manifest.dataset_names(study).items():
            named = pc.if_else(pc.equal(scores["dataset"], recorded), name, scores["dataset"])
            scores = scores.set_column(scores.column_names.index("dataset"), "dataset", named)
        scores = scores.append_column("arm", pa.array([arm] * len(scores)))
        parts.append(scores.append_column("seed", pa.array([seed] * len(scores), pa.int64())).select(COLUMNS))
    return pa.concat_tables(parts)


def read_columns(store: ResultStore, manifest: Manifest, names: Sequence[str]) -> pa.Table:
    """Return columns of the scores of an evaluation: texts, and `value` in float64.

    Raises UserError for a file that is damaged, is no Parquet or has other columns.
    """
    path = store.checked(manifest, SCORES_FILE)
    try:
        with reading(path, store.remedy(manifest)):
            scores = pq.read_table(path, columns=list(names), use_threads=False)
            kinds = {name: pa.float64() if name == "value" else pa.string() for name in names}
            return pa.table({name: pc.cast(scores[name], kind) for name, kind in kinds.items()})
    except pa.ArrowException as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}); {store.remedy(manifest)}") from None


def means(table: pa.Table) -> dict[tuple[str, str, str, str], dict[str, dict[int, float]]]:
    """Return (dataset, measure, condition, direction) -> arm -> seed -> mean over units."""
    grouped = table.group_by(["dataset", "measure", "condition", "direction", "arm", "seed"]).aggregate(
        [("value", "mean")]
    )
    found: dict[tuple[str, str, str, str], dict[str, dict[int, float]]] = {}
    for row in grouped.to_pylist():
        key = (row["dataset"], row["measure"], row["condition"], row["direction"])
        found.setdefault(key, {}).setdefault(row["arm"], {})[row["seed"]] = row["value_mean"]
    return found


def format_means(found: Mapping[tuple[str, str, str, str], Mapping[str, Mapping[int, float]]]) -> str:
    """Return one block per dataset and measure: an arm a row, mean over seeds and standard deviation between them."""
    lines: list[str] = []
    blocks: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for dataset, measure, condition, direction in sorted(found):
        blocks.setdefault((dataset, measure), []).append((condition, direction))
    for (dataset, measure), columns in blocks.items():
        arms = sorted({arm for column in columns for arm in found[dataset, measure, *column]})
        width = max(len(arm) for arm in arms)
        heads = [c if c == d or d in ("all", "both") else f"{c}: {d}" for c, d in columns]
        lines.append(f"{dataset}  {measure}  (mean over seeds, ± standard deviation between seeds)")
        lines.append("  ".join([" " * (width + 2), "seeds", *(head.rjust(18) for head in heads)]))
        for arm in arms:
            cells, seeds = [], 0
            for column in columns:
                values = list(found[dataset, measure, *column].get(arm, {}).values())
                seeds = max(seeds, len(values))
                spread = f" ±{stdev(values):.3f}" if len(values) > 1 else " " * 7
                cells.append((f"{fmean(values):.3f}{spread}" if values else "-").rjust(18))
            lines.append("  ".join([f"  {arm.ljust(width)}", f"{seeds:5d}", *cells]).rstrip())
        lines.append("")
    return "\n".join(lines)
