"""The stages of a run, each found again by its id when it is complete: mix, training, evaluation."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from ablate.data import checking
from ablate.data.mix import Mix, build_mix, content_digest, read_mix, write_mix
from ablate.engine.prepare import Run
from ablate.engine.recorder import Recorder
from ablate.evaluation.rankers import Dense, Ranker, plain_ranker
from ablate.recipe.identity import without_scoring
from ablate.recipe.schema import BeirSource, MtebSource, RankerName, RulesSource, RunConfig
from ablate.recipe.values import digest, plain
from ablate.records import EvaluationSet
from ablate.retrieval.vectors import Retrieval
from ablate.secrets import scrub_texts
from ablate.store.files import (
    CHECKPOINTS_FOLDER,
    CONFIG_FILE,
    EMBEDDINGS_FOLDER,
    JUDGMENTS_FILE,
    LEDGER_FILE,
    MODEL_FOLDER,
    write_atomically,
)
from ablate.store.lock import Lock
from ablate.store.manifest import Kind, Manifest
from ablate.store.metering import Meter
from ablate.store.provenance import now
from ablate.store.results import stage_label
from ablate.store.workload import Workload
from ablate.timing import staged, timed
from ablate.tracking import ledger_steps

if TYPE_CHECKING:  # torch and transformers are loaded by the first stage that has work to do
    from ablate.evaluation.official import ProbedEncoder
    from ablate.evaluation.summary import Evaluation
    from ablate.model.distributed import World
    from ablate.model.encoder import BiEncoder
    from ablate.model.module import FitReport, OnDev, OnStep
    from ablate.model.prepared import PreparedTraining

Watch = Callable[[int, dict[str, float]], None]
"""Called with the step and the scores of every measurement on the dev set; may raise Stopped."""


def check_model(run: Run) -> None:
    """Raise UserError for a model that could not be trained on the mix, before the mix is built."""
    if run.config.runtime.until != "mix" and not run.store.folder("train", run.identity.train_id).is_dir():
        _ = run.template


@staged("mix")
def make_mix(run: Run) -> tuple[Mix, Manifest]:
    """Build the mix, or read it back when it is there; one that was just built is not read again."""
    identity, store = run.identity, run.store
    started, meter = now(), Meter()
    with store.making("mix", identity.mix) as folder:
        if folder is not None:
            mix = build_mix(run.source, run.config.recipe, run.config.seed, run.tokens_of(), run.audited)
            manifest = store.complete(
                "mix",
                identity.mix,
                files=write_mix(folder, mix),
                parents=(),
                seed=run.config.seed,
                label=run.label,
                counts={**mix.card, "content": content_digest(mix.groups)},
                hardware=run.hardware if run.mines_by_model else {},
                cost=meter.cost(),
                started=started,
                declared=run.declared,
            )
            return dataclasses.replace(mix, card=manifest.counts), manifest
    store.add_label("mix", identity.mix_id, run.label)
    manifest = _found(run, "mix", identity.mix)
    return read_mix(store.whole(manifest), manifest.counts), manifest


def _found(run: Run, kind: Kind, recipe: dict[str, Any]) -> Manifest:
    """Return the manifest of a complete stage whose files are all undamaged; raises UserError where one is not.

    All, and not only those that are read here: whoever issues the command again learns of every damaged file.
    """
    manifest = run.store.find(kind, recipe)
    assert manifest is not None
    run.store.whole(manifest)
    return manifest


@staged("look at the data")
def look_at_data(run: Run, mix: Mix) -> tuple[str, ...]:
    """Return what is wrong with the mix beside the evaluation sets, said before the training; it costs next to nothing.

    Nothing for a run whose scores are there: they have it among their warnings.
    """
    runtime = run.config.runtime
    if runtime.until == "scores" and run.store.find("evaluation", run.identity.evaluation) is not None:
        return ()
    measured = {"scores": run.config.recipe.evaluation.sets, "dev": (runtime.dev_set,), "mix": ()}[runtime.until]
    sets = [run.evaluation_set(name) for name in measured if name is not None]
    run.findings = tuple(checking.of_run(mix.groups, mix.passages, sets))
    return run.findings


@staged("workload")
def make_workload(run: Run, prepared: PreparedTraining) -> dict[str, Any]:
    """Count tokens, steps and encoder passes of a training, or read the counts back."""
    store, identity = run.store, run.identity
    known = store.workload(identity.train_id)
    if known is None:
        from ablate.model.workload import measure_workload

        totals = measure_workload(prepared)
        known = Workload(identity.train_id, identity.mix_id, (), dataclasses.asdict(totals))
    if run.label not in known.labels:
        with store.tolerating_no_space(f"the totals of {identity.train_id} do not get the name {run.label}"):
            store.keep_workload(dataclasses.replace(known, labels=(*known.labels, run.label)))
    return dict(known.counts)


def processes(run: Run) -> contextlib.AbstractContextManager[World]:
    """Join the other processes of this run when torchrun started several; each then drives one device."""
    from ablate.model.distributed import joined

    return joined(run.device)


def follow(run: Run, world: World) -> None:
    """Take part in the training that the leading process makes, if it makes one; everything else is its work."""
    if world.is_called():
        manifest = run.store.find("mix", run.identity.mix)
        assert manifest is not None
        prepared = run.prepared(read_mix(run.store.whole(manifest), manifest.counts))
        _fit(run, prepared, run.encoder_to_train(), world, lambda step, values: None, None)


def _fit(
    run: Run, prepared: PreparedTraining, encoder: BiEncoder, world: World, on_step: OnStep, on_dev: OnDev | None
) -> FitReport:
    with timed("imports"):
        from ablate.model.module import fit

    return fit(
        encoder,
        prepared,
        runtime=run.config.runtime,
        checkpoint_dir=run.store.folder("train", run.identity.train_id) / CHECKPOINTS_FOLDER,
        on_step=on_step,
        on_dev=on_dev,
        world=world,
    )


@staged("training")
def make_model(
    run: Run,
    prepared: PreparedTraining,
    workload: dict[str, Any],
    recorder: Recorder,
    world: World,
    watch: Watch | None = None,
) -> Manifest:
    """Train the model on its mix, from its last checkpoint if there is one, or find it complete.

    `watch` sees every measurement on the dev set and may end the training by raising Stopped; without it, a part of the
    dev set is measured, for the eye alone.
    """
    identity, store, config = run.identity, run.store, run.config
    started, meter = now(), Meter(run.device)
    with store.making("train", identity.train) as folder:
        world.announce(folder is not None)
        if folder is not None:
            tracker = recorder.tracker
            encoder = run.encoder_to_train()

            def on_dev(step: int, encoder: BiEncoder) -> None:
                with staged("dev set"):
                    scores = glance_at_dev(run, encoder) if watch is None else measure_dev(run, encoder)
                tracker.log(step, scores)
                if watch is not None:
                    watch(step, scores)

            report = _fit(run, prepared, encoder, world, tracker.log, on_dev if config.runtime.dev_set else None)
            model = folder / MODEL_FOLDER
            shutil.rmtree(model, ignore_errors=True)
            encoder.save(model)
            written = scrub_texts({"recipe": plain(config.recipe), "seed": config.seed})
            write_atomically(folder / CONFIG_FILE, json.dumps(written, indent=1))
            files = sorted(str(path.relative_to(folder)) for path in model.rglob("*") if path.is_file())
            counts = {**workload, **dataclasses.asdict(report), **_losses(folder / LEDGER_FILE)}
            cost = {"train_s": counts.pop("seconds"), **meter.cost()}
            if (mfu := counts.pop("mfu")) is not None:
                cost["mfu"] = mfu
            tracker.summary(counts if mfu is None else {**counts, "mfu": mfu})
            store.complete(
                "train",
                identity.train,
                files=(CONFIG_FILE, *files),
                parents=(identity.mix_id,),
                seed=config.seed,
                label=run.label,
                counts=counts,
                hardware={**run.hardware, "processes": world.size, **run.sharding},
                cost=cost,
                started=started,
                declared=run.declared,
            )
            if config.runtime.tracker.log_model:
                tracker.artifact(model, name=f"model-{identity.train_id}", kind="model")
            shutil.rmtree(folder / CHECKPOINTS_FOLDER, ignore_errors=True)
    store.add_label("train", identity.train_id, run.label)
    return _found(run, "train", identity.train)


def _losses(ledger: Path) -> dict[str, float]:
    """Return the mean loss of the first and of the last eighth of all steps."""
    steps = ledger_steps(ledger)
    losses = [steps[step]["loss"] for step in sorted(steps) if "loss" in steps[step]]
    part = max(1, len(losses) // 8)
    return {"first_loss": fmean(losses[:part]), "last_loss": fmean(losses[-part:])}


@timed("load model")
def trained(run: Run) -> BiEncoder:
    """Load the trained model of a run from its folder, on the device of the run."""
    return run.trained_encoder(run.store.whole(_found(run, "train", run.identity.train), MODEL_FOLDER))


def measure_dev(run: Run, encoder: BiEncoder) -> dict[str, float]:
    """Return the main measures on the dev set, which tuning reads: they choose no model within a training."""
    assert run.config.runtime.dev_set is not None
    return _means(run, encoder, run.evaluation_set(run.config.runtime.dev_set), "dev")


def glance_at_dev(run: Run, encoder: BiEncoder) -> dict[str, float]:
    """Return the main measures on the part of the dev set that is looked at in training: for the eye alone.

    Their names begin with `dev_part`, because they are not those of the whole set; with `dev` where they are.
    """
    assert run.config.runtime.dev_set is not None
    is_whole = run.dev_part is run.evaluation_set(run.config.runtime.dev_set)
    return _means(run, encoder, run.dev_part, "dev" if is_whole else "dev_part")


def _means(run: Run, encoder: BiEncoder, bed: EvaluationSet, prefix: str) -> dict[str, float]:
    from ablate.evaluation.scoring import evaluate

    result = evaluate(encoder, [bed], depth=run.config.recipe.evaluation.depth, retrieval=retrieval(run.config))
    return {f"{prefix}/{name}": value for name, value in headline(result).items()}


def retrieval(config: RunConfig, folder: Path | None = None) -> Retrieval:
    """Return how documents are split, kept and searched; with the folder of an evaluation, large sets lie there."""
    recipe = config.recipe.evaluation
    return Retrieval(
        window=recipe.window,
        stride=recipe.stride,
        index=recipe.index,
        shard_size=config.runtime.shard_size,
        folder=None if folder is None else folder / EMBEDDINGS_FOLDER,
    )


def headline(result: Evaluation) -> dict[str, float]:
    """Return the mean of each measure by `dataset/condition/direction/measure`, for trackers."""
    sums: dict[str, list[float]] = {}
    for score in result.scores:
        name = f"{score.dataset}/{score.condition}/{score.direction}/{score.measure}"
        sums.setdefault(name, []).append(score.value)
    return {name: sum(values) / len(values) for name, values in sums.items()}


def in_turn(run: Run) -> tuple[RankerName, ...]:
    """Return what a run with a training measures, in order: what another process measures right now comes last."""
    elsewhere = run.store.is_made_elsewhere("evaluation", run.identity.untouched)
    return ("trained", "untouched") if elsewhere else ("untouched", "trained")


def make_scores(run: Run, ranker: RankerName, recorder: Recorder | None = None) -> tuple[Evaluation, Manifest]:
    """Measure the run's own ranker, or the untouched backbone beside it, or read back the scores that are there.

    The evaluation comes without its rankings and without what it was scored by. What was just measured is not read.
    """
    with timed("imports"):
        from ablate.evaluation.scoring import rank_and_score, renamed
        from ablate.evaluation.storage import read_evaluation, write_evaluation

    identity, store, config = run.identity, run.store, run.config
    own = ranker == config.recipe.ranker
    recipe = identity.evaluation if own else identity.untouched
    label = run.label if own else stage_label(config.runtime.study, ranker)
    started, meter = now(), Meter(run.device)
    with store.making("evaluation", recipe) as folder:
        if folder is not None and not _is_scored_again(run, recipe, folder, label):
            sets = [run.evaluation_set(name) for name in config.recipe.evaluation.sets]
            official = isinstance(config.recipe.evaluation.source, MtebSource)
            opened = open_ranker(run, ranker, folder)
            if official and isinstance(opened, Dense):
                from ablate.evaluation.official import with_template

                sets = with_template(cast("ProbedEncoder", opened.encoder), sets)
            result = rank_and_score(opened, sets, depth=config.recipe.evaluation.depth)
            if official:
                from ablate.evaluation.official import cross_check

                result = cross_check(sets, result)
            findings = run.findings if ranker == "trained" else tuple(checking.of_run((), {}, sets))
            result = dataclasses.replace(result, warnings=(*findings, *result.warnings))
            files = write_evaluation(folder, result)
            if not config.runtime.keep_embeddings:
                shutil.rmtree(folder / EMBEDDINGS_FOLDER, ignore_errors=True)
            counts = {"scores": len(result.scores), "candidates": result.candidates}
            if recorder is not None:
                recorder.tracker.summary(headline(result))
                recorder.tracker.table("scores", ["name", "mean"], [list(item) for item in headline(result).items()])
            manifest = store.complete(
                "evaluation",
                recipe,
                files=files,
                parents=(identity.train_id,) if ranker == "trained" else (),
                seed=config.seed,
                label=label,
                counts=counts if not result.provenance else {**counts, "provenance": result.provenance},
                hardware=run.hardware,
                cost=meter.cost(),
                started=started,
                declared=run.declared,
            )
            return dataclasses.replace(result, rankings={}, sets={}), manifest
    names = _names_here(run, _found(run, "evaluation", recipe))
    store.add_label("evaluation", digest(recipe), label, names)
    manifest = _found(run, "evaluation", recipe)
    return renamed(read_evaluation(store.whole(manifest)), names), manifest


def _is_scored_again(run: Run, recipe: dict[str, Any], folder: Path, label: str) -> bool:
    """Complete an evaluation from the rankings that an earlier version scored, if it can be: no model is needed then.

    It cannot where there are none, where rankings or judgments are not kept, and where a set of before poses no query
    without its instruction, as later versions of it may.
    """
    from ablate.evaluation.again import completed, unranked
    from ablate.evaluation.storage import read_evaluation, read_judgments, write_evaluation

    before = run.store.find("evaluation", without_scoring(recipe))
    if before is None or JUDGMENTS_FILE not in before.content_sha256:
        return False
    started = now()
    place = run.store.whole(before)
    sets, stored = read_judgments(place), read_evaluation(place, with_rankings=True)
    has_plain = all(any(query.condition == "plain" for query in bed.queries) for bed in sets.values())
    if unranked(stored, sets) or not has_plain:
        return False
    result = completed(stored, sets)
    run.store.complete(
        "evaluation",
        recipe,
        files=write_evaluation(folder, result),
        parents=before.parents,
        seed=before.seed,
        label=label,
        counts={**before.counts, "scores": len(result.scores), "scored_again_from": before.id},
        hardware=before.hardware,
        cost=before.cost,
        started=started,
        declared=run.declared,
    )
    return True


def _names_here(run: Run, manifest: Manifest) -> dict[str, str]:
    """Return data set as it is recorded -> its name in this command, where folders of other names hold the same."""
    recipe = run.config.recipe
    if not isinstance(recipe.evaluation.source or recipe.source, (BeirSource, RulesSource)):
        return {}
    names: dict[str, str] = {}
    for name in recipe.evaluation.sets:
        here = run.evaluation_set(name).name
        recorded = [dataset for dataset in manifest.counts["candidates"] if dataset.rpartition("/")[2] == name]
        names |= {dataset: here for dataset in recorded if dataset != here}
    return names


def open_ranker(run: Run, ranker: RankerName, folder: Path) -> Ranker:
    """Return what ranks the documents, a model with its weights loaded; vectors of large sets lie in the folder."""
    if ranker not in ("trained", "untouched"):
        return plain_ranker(ranker, run.config.seed, run.config.recipe.stemmer)
    encoder = trained(run) if ranker == "trained" else run.untouched_encoder()
    encoder.batch_size = run.config.recipe.evaluation.batch_size
    if run.config.recipe.evaluation.precision == "bf16":
        encoder.halve()
    encoder.pack(run.config.runtime.packed)
    if run.config.runtime.compile:
        encoder.compile_layers()
    return Dense(encoder, retrieval(run.config, folder))


def whole_run_lock(run: Run) -> Lock:
    """Return the lock that keeps two processes from working on one run."""
    return run.store.lock(f"run-{run.identity.train_id}")
