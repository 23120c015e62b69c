"""Which arms collapse under an instruction: `ablate.evaluation.collapse`, by intervals over units and seeds.

The intervals are those of the crossed test of one arm's mean against zero; of an arm with one seed, those of its units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from ablate.evaluation.collapse import LEVEL, MARKS, Called, Mean, called, in_words
from ablate.evaluation.measures import INSTRUCTION_GAIN, P_MRR
from ablate.records import UserError
from analysis.stats.crossed import Options, crossed
from analysis.stats.grouping import Grouping
from analysis.stats.matrix import CLUSTER, Cell, CellScores, ScoreTable


class Collapsed(NamedTuple):
    """A collapse of an arm in one place, or what may be one."""

    arm: str
    cell: Cell
    """Of its p-MRR."""
    verdict: Called
    p_mrr: Mean
    gain: Mean
    why: str

    @property
    def remark(self) -> tuple[str, str, str]:
        """What stands above a table: arm, mark, and where and why."""
        return self.arm, MARKS[self.verdict], f"{self.cell}: {self.why}"


def has_gain(table: ScoreTable, arm: str, cell: Cell) -> bool:
    """Return whether an arm has an instruction gain beside the p-MRR of a cell."""
    gain = table.cells.get(cell._replace(measure=INSTRUCTION_GAIN))
    return gain is not None and arm in gain.values_SQ


def collapses(
    table: ScoreTable, deterministic: Collection[str], arms: Collection[str], cells: Collection[Cell] | None = None
) -> list[Collapsed]:
    """Return every collapse of these arms, and what may be one, in the cells of p-MRR (None: in all of them).

    `deterministic`: arms without training randomness. An arm without an instruction gain in a place has none there.
    """
    named = []
    for cell in table.cells if cells is None else cells:
        for arm in arms:
            if cell.measure != P_MRR or arm not in table.cells[cell].values_SQ or not has_gain(table, arm, cell):
                continue
            gain_scores = table.cells[cell._replace(measure=INSTRUCTION_GAIN)]
            p_mrr, gain = (_mean(scores, arm, arm in deterministic) for scores in (table.cells[cell], gain_scores))
            verdict = called(p_mrr, gain)
            if verdict:
                num_seeds = len(gain_scores.values_SQ[arm])
                over = f"queries and {num_seeds} seeds" if num_seeds > 1 else "queries"
                named.append(Collapsed(arm, cell, verdict, p_mrr, gain, in_words(p_mrr, gain, over)))
    return named


def _mean(scores: CellScores, arm: str, is_deterministic: bool) -> Mean:
    """Return the mean of an arm in a cell; its interval covers new seeds too where it has several of them."""
    values_SQ = scores.values_SQ[arm]
    free = {"zero", "arm"} if is_deterministic else {"zero"}
    options = Options(deterministic=frozenset(free), alpha=1 - LEVEL)
    if len(values_SQ) < 2:
        options = dataclasses.replace(options, estimand="these_checkpoints")
    blocks = {"arm": values_SQ, "zero": np.zeros((1, values_SQ.shape[1]))}
    try:
        named = scores.clusters.get(CLUSTER, ())
        groupings = [Grouping.of(named)] if named and all(named) else None
        result = crossed(blocks, {"arm": 1.0, "zero": -1.0}, options, groupings)
    except UserError:  # too few units or clusters for an interval
        return Mean(float(values_SQ.mean()), None)
    return Mean(result.estimate, result.ci)
