"""What a run says on standard output: what it is, its mix, its training, its scores."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ablate.data.composition import composition_values, in_words, shown
from ablate.engine.prepare import Run
from ablate.recipe.schema import Recipe
from ablate.recipe.values import diff
from ablate.store.manifest import Manifest

if TYPE_CHECKING:
    from ablate.evaluation.summary import Evaluation


def show_run(run: Run, compared_with: Recipe | None) -> None:
    """Print the run's name and ids, and in which keys its recipe differs from the baseline arm's."""
    config, identity = run.config, run.identity
    if config.recipe.ranker == "trained":
        print(f"{run.title}: mix {identity.mix_id} -> train {identity.train_id} -> evaluation {identity.eval_id}")
    else:
        print(f"{run.title}: no mix and no training (ranker={config.recipe.ranker}) -> evaluation {identity.eval_id}")
    name = config.runtime.baseline
    if compared_with is None:
        print("no baseline arm is named (runtime.baseline)")
        return
    differences = diff(_settled(compared_with, config.recipe), config.recipe)
    if not differences:
        print(f"the same recipe as the baseline arm {name}")
    for key, (theirs, ours) in differences.items():
        print(f"differs from {name} in {key}: {theirs} -> {ours}")


def show_plan(run: Run) -> None:
    """Print where a run stands and what it is going to take, by earlier runs."""
    from ablate.study import planning, status

    cell = planning.Cell((), run.config.runtime.label, run.config.seed, run.config, run.identity)
    status.estimate(run.store, [cell])
    print(status.format_plan(run.store, [cell]))


def _settled(theirs: Recipe, ours: Recipe) -> Recipe:
    """Return a recipe with the precision that this run's device settles `auto` to."""
    import dataclasses

    if theirs.train.precision != "auto":
        return theirs
    return dataclasses.replace(theirs, train=dataclasses.replace(theirs.train, precision=ours.train.precision))


def show_card(run: Run, manifest: Manifest, workload: Mapping[str, Any], compared_with: Recipe | None) -> None:
    """Print the totals of the mix and of the training on it, whatever the unit of its budget."""
    if compared_with is not None and compared_with.ranker == "trained":
        print(match(run, manifest, compared_with))
    budget, counts = run.config.recipe.budget, manifest.counts
    limit = "no limit" if budget.limit is None else f"{budget.limit:,} {budget.unit}"
    print(f"\nmix ({limit}, fill {budget.fill}): {_place(run, manifest)}")
    print(
        f"  {counts['groups']:,} groups, {counts['pairs']:,} pairs, {counts['base_rows']:,} base rows, "
        f"{counts['unique_queries']:,} unique queries, {counts['unique_passages']:,} unique passages"
    )
    views = ", ".join(f"{name} {number:,}" for name, number in counts["views"].items() if number)
    print(
        f"  views: {views}; negatives: hard {counts['hard_negatives']:,}, instruction "
        f"{counts['instruction_negatives']:,}; source: {counts['rows_in_source']:,} rows, "
        f"{counts['rows_eligible']:,} eligible{_lacking(counts['rows_lacking'])}"
    )
    print(
        f"  tokens: query {workload['query_tokens']:,}, instruction {workload['instruction_tokens']:,}, passage "
        f"{workload['passage_tokens']:,}; {workload['optimiser_steps']:,} optimiser steps, "
        f"{workload['encoder_passes']:,} passes through the encoder; generated passages: {_share(counts)}"
    )
    show_composition(counts, workload)


def show_composition(counts: Mapping[str, Any], workload: Mapping[str, Any]) -> None:
    """Print what else the mix is made of, and what tells its labels; what the source does not tell is left out."""
    if counts.get("composition") is None:
        print("  composition: not recorded, by an earlier version")
        return
    values = {name: value for name, value in composition_values(counts, workload).items() if value is not None}
    told = {name: value for name, value in values.items() if name.startswith("label_from_")}
    made_of = {name: value for name, value in values.items() if name not in told and not name.startswith("unique_")}
    print("  " + ", ".join(f"{in_words(name)} {shown(name, value)}" for name, value in made_of.items()))
    if told:
        alone = ", ".join(f"{name.removeprefix('label_from_')} {shown(name, value)}" for name, value in told.items())
        print(f"  label told by one of them alone (balanced accuracy, 0.50 is chance): {alone}")


def show_findings(findings: Iterable[str]) -> None:
    """Say on standard error what is wrong with the data, a line each."""
    for finding in findings:
        print(f"warning: {finding}", file=sys.stderr)


def match(run: Run, manifest: Manifest, compared_with: Recipe) -> str:
    """Return whether this mix and the baseline arm's of the same seed use equally much of the declared unit."""
    name, mine, theirs = run.config.runtime.baseline, run.config.recipe.budget, compared_with.budget
    if mine.unit != theirs.unit:
        return f"UNMATCHED with {name}: this budget is in {mine.unit}, that one in {theirs.unit}"
    other = run.mix_of(compared_with)
    if other is None:
        return f"budget: not compared with {name}, whose mix of seed {run.config.seed} is not built here"
    equal = mine.is_matched(manifest.counts, other.counts)
    used = f"{mine.used(manifest.counts):,} against {theirs.used(other.counts):,} {mine.unit}"
    return f"budget: {'matched' if equal else 'UNMATCHED'} with {name}: {used}"


def _share(counts: Mapping[str, Any]) -> str:
    share = counts["generated_share"]
    return "not known" if share is None else f"{share:.0%}"


def _lacking(rows: Mapping[str, int]) -> str:
    return " (" + ", ".join(f"{number:,} without {name}" for name, number in rows.items()) + ")" if rows else ""


def show_training(run: Run, manifest: Manifest) -> None:
    """Print what the training cost."""
    counts, cost = manifest.counts, manifest.cost
    share = f" at {cost['mfu']:.0%} of the device's peak" if "mfu" in cost else ""
    print(f"\ntraining: {_place(run, manifest)}")
    print(
        f"  {counts['steps']:,} steps in {cost['train_s']:.1f} s, loss {counts['first_loss']:.3f} -> "
        f"{counts['last_loss']:.3f} (means of the first and last eighth); {counts['tokens']:,} tokens, "
        f"{counts['flops'] / 1e12:.2f} TFLOP{share}; cut to length: {counts['truncated_queries']} queries, "
        f"{counts['truncated_passages']} passages"
    )


def show_dev(scores: Mapping[str, float]) -> None:
    """Print the means on the dev set."""
    print()
    for name, value in scores.items():
        print(f"  {name:<60} {value:8.4f}")


def show_scores(run: Run, scores: Evaluation, untouched: Evaluation) -> None:
    """Print each condition with the trained model beside the untouched backbone, warnings first."""
    from ablate.evaluation.summary import compare, format_table

    print()
    for warning in scores.warnings:
        print(f"warning: {warning}")
    for warning in untouched.warnings:
        if warning not in scores.warnings:
            print(f"warning (untouched): {warning}")
    print(format_table(compare(scores, untouched)))
    for dataset, notes in scores.provenance.items():
        print("\n".join([dataset, *(f"  {name}: {value}" for name, value in notes.items())]))
    identity, store = run.identity, run.store
    print(f"\nmodel   {store.folder('train', identity.train_id)}")
    print(f"scores  {store.folder('evaluation', identity.eval_id)}  (scores.parquet, rankings/, notes.json)")


def show_baseline(run: Run, scores: Evaluation) -> None:
    """Print the means of an arm that trains nothing, warnings first."""
    from ablate.evaluation.summary import format_summary

    print()
    for warning in scores.warnings:
        print(f"warning: {warning}")
    for dataset, reasons in scores.listed.items():
        for reason, ids in reasons.items():
            print(f"listed: {dataset}: {len(ids):,} x {reason}")
    print(format_summary(scores.summary()))
    print(f"\nscores  {run.store.folder('evaluation', run.identity.eval_id)}  (scores.parquet, rankings/, notes.json)")


def _place(run: Run, manifest: Manifest) -> str:
    folder = run.store.folder(manifest.kind, manifest.id)
    return f"{folder}  [{manifest.started} to {manifest.finished[11:]}]"
