"""What the arms of a study were trained on and are measured on: by mix and evaluation set, and contrasts without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tqdm import tqdm

from ablate.data.mix import Mix, read_mix
from ablate.data.overlap import KINDS, Touched, Trained, digest_of, overlap_of_documents, plain_text, touched
from ablate.evaluation.storage import read_judgments
from ablate.records import EvaluationSet, UserError
from ablate.store.files import JUDGMENTS_FILE
from ablate.store.manifest import Manifest
from ablate.tables import Column, Table, number, probability, to_csv
from analysis.stats.asked import Asked, Target
from analysis.stats.contrast_rows import contrast_rows
from analysis.stats.families import Plan
from analysis.stats.matrix import CellScores, ScoreTable
from analysis.stats.populations import new_clusters
from analysis.study.evidence import Evidence
from analysis.study.texts import has_texts, with_documents

LeftOut = Literal["queries", "pairs", "documents"]
LEFT_OUT: Mapping[LeftOut, tuple[str, ...]] = {
    "queries": ("queries",),
    "pairs": ("pairs, equal", "pairs, near"),
    "documents": ("documents, equal", "documents, near"),
}
"""What is left out -> kinds of overlap whose queries go."""
EXAMPLES = 3
"""Of each kind and set, in the table for readers."""


class Leak(NamedTuple):
    """What one mix shares with one evaluation set."""

    arm: str
    seed: int
    dataset: str
    """As the study calls it."""
    kinds: tuple[Touched, ...]
    """One for each of KINDS; without those of documents and pairs where the documents could not be read."""


@dataclass(frozen=True)
class Leaks:
    """What every run of a study was trained on of what it is measured on."""

    found: tuple[Leak, ...]
    units: Mapping[str, Mapping[str, str]]
    """Data set -> id of a query or a base query -> its base query."""
    remarks: tuple[str, ...]
    """What could not be looked at, and why."""

    def touched_units(self, arms: Iterable[str], left_out: LeftOut) -> dict[str, set[str]]:
        """Return data set -> units that any mix of these arms touches: with a query all variants of its base query.

        Raises UserError where that cannot be known, because documents could not be read.
        """
        wanted, bases = LEFT_OUT[left_out], dict[str, set[str]]()
        for leak in self.found:
            if leak.arm in set(arms):
                known = {kind.kind: kind for kind in leak.kinds}
                if any(kind not in known for kind in wanted):
                    raise UserError(
                        f"--leave-out {left_out}: the documents of {leak.dataset} could not be read "
                        f"({'; '.join(self.remarks)}); leave out queries, which needs no documents"
                    )
                base_of = self.units[leak.dataset]
                queries = (query for kind in wanted for query in known[kind].queries)
                bases.setdefault(leak.dataset, set()).update(base_of[query] for query in queries)
        return {
            dataset: {unit for unit, base in self.units[dataset].items() if base in touched_bases}
            for dataset, touched_bases in bases.items()
        }


def find_leaks(evidence: Evidence, threshold: float) -> Leaks:
    """Return what each run's mix shares with each of its evaluation sets.

    `threshold`: share of the shingles of a document from which it is near. Sources are opened where the runs found
    them, for the texts of documents. Raises UserError for an unknown study, damaged files, and a study without a mix.
    """
    evidence.check_names()
    runs = [run for run in evidence.runs if run.mix is not None]
    if not runs:
        raise UserError(f"study {evidence.study!r} has no run with a mix, so nothing can leak from one; train an arm")
    trained, remarks = Trained(), list[str]()
    mixes = {run.mix.id: run.mix for run in runs if run.mix is not None}
    for mix_id, mix in _mixes(evidence, mixes, "mixes"):
        trained.add(mix_id, mix.groups, mix.passages)
    judged = dict[str, dict[str, EvaluationSet]]()
    for run in runs:
        content = run.evaluation.content_sha256.get(JUDGMENTS_FILE)
        if content is None:
            remarks.append(f"{run.arm} seed {run.seed} is not looked at: it was made before judgments were kept")
        elif content not in judged:
            judged[content] = read_judgments(evidence.store.checked(run.evaluation, JUDGMENTS_FILE).parent)
            judged[content] |= with_documents(evidence, run, judged[content], remarks)
    with_texts = [bed for beds in judged.values() for bed in beds.values() if has_texts(bed)]
    shared = overlap_of_documents(trained, with_texts, _texts(evidence, mixes, trained), threshold)
    overlaps = {id(bed): overlap for bed, overlap in zip(with_texts, shared, strict=True)}
    leaks, known = list[Leak](), dict[tuple[str, int], tuple[Touched, ...]]()
    bases = dict[str, dict[str, str]]()
    for run in runs:
        names = run.evaluation.dataset_names(evidence.study)
        for name, bed in judged.get(run.evaluation.content_sha256.get(JUDGMENTS_FILE, ""), {}).items():
            assert run.mix is not None
            place, dataset = (run.mix.id, id(bed)), names.get(name, name)
            if place not in known:
                known[place] = touched(trained.mixes[run.mix.id], trained.names, bed, overlaps.get(id(bed)))
            leaks.append(Leak(run.arm, run.seed, dataset, known[place]))
            base_of = bases.setdefault(dataset, {})
            base_of.update({query.base_id: query.base_id for query in bed.queries})
            base_of.update({query.query_id: query.base_id for query in bed.queries})
    return Leaks(tuple(leaks), bases, tuple(dict.fromkeys(remarks)))


def _mixes(evidence: Evidence, mixes: Mapping[str, Manifest], label: str) -> Iterator[tuple[str, Mix]]:
    """Yield one mix after the other, behind a bar that shows after two seconds, and on a terminal only."""
    for mix_id, manifest in tqdm(mixes.items(), desc=label, delay=2.0, disable=None, leave=False):
        yield mix_id, read_mix(evidence.store.whole(manifest), manifest.counts)


def _texts(evidence: Evidence, mixes: Mapping[str, Manifest], trained: Trained) -> Iterator[str]:
    """Yield the texts of the training passages in the order of their numbers, from a second reading of the mixes."""
    following = 0
    for _, mix in _mixes(evidence, mixes, "shingles"):
        for passage in mix.passages.values():
            if trained.numbers[digest_of(passage)] == following:
                following += 1
                yield plain_text(passage)


def leak_table(leaks: Leaks, study: str, threshold: float) -> Table:
    """Return, by arm and set, how much of each kind is touched; of several seeds the most."""
    rows = []
    for arm, dataset in dict.fromkeys((leak.arm, leak.dataset) for leak in leaks.found):
        seeds = [leak.kinds for leak in leaks.found if (leak.arm, leak.dataset) == (arm, dataset)]
        cells = []
        for kind in KINDS:
            of_kind = [unit for kinds in seeds for unit in kinds if unit.kind == kind]
            most = max(of_kind, key=lambda unit: len(unit.examples), default=None)
            cells.append("not read" if most is None else _share(len(most.examples), most.number))
        rows.append((arm, dataset, *cells))
    notes = (
        "Of judged queries, different instructions, templates of instructions (numbers and longer words of the query "
        "masked), documents, and relevant documents of a query; of an arm's seeds the one with the most.",
        f"Equal: the same text without case and white space. Near, and not equal: one training passage has at least "
        f"{threshold:g} of the document's runs of eight words. A pair: a positive of the same query in training.",
        "Equal pairs make scores measure memory; near ones may have another label for good reason (minimal pairs). "
        "Queries alone are trained with other documents. Instructions, templates and documents are often shared by "
        "design: one corpus is searched and trained on, wordings are few.",
        *leaks.remarks,
    )
    columns = (Column("arm"), Column("set"), *(Column(kind, "r") for kind in KINDS))
    return Table(f"What training shares with evaluation in study {study}", columns, tuple(rows), notes)


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,}" + (f" ({count / total:.1%})" if count else "")


def example_table(leaks: Leaks) -> Table | None:
    """Return a few touched units of each kind and set; None where nothing is touched."""
    rows = []
    for dataset in dict.fromkeys(leak.dataset for leak in leaks.found):
        for kind in KINDS:
            arms = dict[tuple[str, str], list[str]]()
            for leak in leaks.found:
                units = (unit for unit in leak.kinds if unit.kind == kind and leak.dataset == dataset)
                for example in (example for unit in units for example in unit.examples.items()):
                    arms.setdefault(example, []).append(leak.arm)
            for unit, met in sorted(arms)[:EXAMPLES]:
                rows.append((dataset, kind, _short(unit), _short(met), ", ".join(dict.fromkeys(arms[unit, met]))))
    columns = (Column("set"), Column("kind"), Column("touched"), Column("met with"), Column("arms"))
    return Table("Examples", columns, tuple(rows)) if rows else None


def _short(text: str, longest: int = 70) -> str:
    return text if len(text) <= longest else f"{text[:longest]} …"


def leak_records(leaks: Leaks) -> list[dict[str, Any]]:
    """Return every count with all touched units, for JSON."""
    return [
        {
            "arm": leak.arm,
            "seed": leak.seed,
            "set": leak.dataset,
            "kind": kind.kind,
            "touched": len(kind.examples),
            "of": kind.number,
            "units": kind.examples,
            "queries": sorted(kind.queries),
        }
        for leak in leaks.found
        for kind in leak.kinds
    ]


def leak_csv(leaks: Leaks) -> str:
    """Return the counts of every run as CSV."""
    return to_csv(("arm", "seed", "set", "kind", "touched", "of"), leak_records(leaks))


class Recomputed(NamedTuple):
    """A contrast in one place, with and without the units that training touches."""

    contrast: str
    place: str
    over: str
    """Over which new clusters both tests are, as the claim in this place is; empty: over other units like these."""
    units: int
    estimate: float
    ci: tuple[float, float]
    p: float
    touched: int
    """Units that are left out."""
    estimate_without: float | None
    """None, as the two below, where fewer than two units, or clusters, of a data set are left."""
    ci_without: tuple[float, float] | None
    p_without: float | None


def recomputed(
    table: ScoreTable, asked: Sequence[Asked], plan: Plan, leaks: Leaks, left_out: LeftOut
) -> list[Recomputed]:
    """Return each contrast with all units beside the same without those that a mix of any of its arms touches."""
    full = contrast_rows(table, asked, plan)
    without = dict[int, Any]()
    num_touched = list[int]()
    for place, contrast in enumerate(asked):
        arms = [arm for arm, weight in contrast.weights.items() if weight != 0]
        units = leaks.touched_units(arms, left_out)
        target = _without(contrast.target, units)
        num_touched.append(contrast.target.num_units - target.num_units)
        if all(len(part.units) >= 2 for part in target.parts) and _has_clusters(target, contrast.population):
            cells = {
                cell: kept
                for cell, scores in table.cells.items()
                if len((kept := _kept(scores, units.get(cell.dataset, set()))).units) >= 2
            }
            (row,) = contrast_rows(dataclasses.replace(table, cells=cells), [contrast._replace(target=target)], plan)
            without[place] = row.result
    return [
        Recomputed(
            row.label,
            str(row.cell),
            "" if row.clusters is None else new_clusters(row.clusters),
            row.num_units,
            row.result.estimate,
            row.result.ci,
            row.result.p,
            num_touched[place],
            without[place].estimate if place in without else None,
            without[place].ci if place in without else None,
            without[place].p if place in without else None,
        )
        for place, row in enumerate(full)
    ]


def _has_clusters(target: Target, population: Sequence[str]) -> bool:
    try:
        target.groupings(population)
    except UserError:
        return False
    return True


def _without(target: Target, units: Mapping[str, set[str]]) -> Target:
    parts = zip(target.parts, target.datasets, strict=True)
    return target._replace(parts=tuple(_kept(part, units.get(dataset, set())) for part, dataset in parts))


def _kept(scores: CellScores, left_out: set[str]) -> CellScores:
    kept = [place for place, unit in enumerate(scores.units) if unit not in left_out]
    if len(kept) == len(scores.units):
        return scores
    return scores.kept(kept)


def recomputed_table(rows: Sequence[Recomputed], scores: ScoreTable, left_out: LeftOut, alpha: float) -> Table:
    """Return contrasts with and without the touched units for readers, with the marks that stand against them."""
    level = f"{1 - alpha:.0%} interval"
    heads = ("units", "estimate", level, "p", "left out", "estimate", level, "p")
    columns = (Column("contrast"), Column("measure"), *(Column(head, "r") for head in heads))
    cells = tuple(
        (
            row.contrast + (f" {scores.marks[row.contrast]}" if row.contrast in scores.marks else ""),
            row.place + (f", over {row.over}" if row.over else ""),
            f"{row.units:,}",
            number(row.estimate),
            _interval(row.ci),
            probability(row.p),
            f"{row.touched:,}",
            number(row.estimate_without),
            _interval(row.ci_without),
            probability(row.p_without),
        )
        for row in rows
    )
    what = {
        "queries": "queries whose text is a training query",
        "pairs": "queries with a judged pair, equal or near, that was trained on",
        "documents": "queries with a relevant document that is equal or near to a training positive",
    }[left_out]
    note = (
        f"Left out: {what}, in any seed of an arm of the contrast, with all variants of the query. p is of each test "
        f"by itself, over the population of the claim in its place, else over other queries. A dash: fewer than two "
        f"units, or clusters, are left."
    )
    remarks = (f"{contrast}: {mark}: {why}" for contrast, mark, why in scores.remarks)
    return Table(f"Contrasts without what training touches ({scores.mark})", columns, cells, (note, *remarks))


def _interval(ci: tuple[float, float] | None) -> str:
    return "–" if ci is None else f"[{number(ci[0])}, {number(ci[1])}]"
