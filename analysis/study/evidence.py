"""What the results hold about a study: every manifest, declaration and file of scores is read once, when it is needed.

A folder of results may be written to meanwhile; what was read once stays as it was, so that all that is said of a study
is said of one state of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from ablate.evaluation.measures import INSTRUCTION_GAIN, NOT_RANKED
from ablate.evaluation.storage import UnitClusters, read_clusters, read_counts
from ablate.recipe.identity import SCORING, scoring_of
from ablate.records import UserError
from ablate.store.files import CLUSTERS_FILE, NOTES_FILE
from ablate.store.manifest import Kind, Manifest
from ablate.store.results import ResultStore
from ablate.study.declaration import Claim, DeclaredCell
from ablate.study.records import StudyRecords
from analysis.stats.matrix import ScoreTable, from_arrow
from analysis.study.declared import Declaration, stored_declarations
from analysis.study.runs import ArmRun, by_arm, documents_of, same_model_keys, source_of
from analysis.study.scores import Scores, long_table, read_scores, without_measure
from analysis.study.totals import ArmTotals, Training, arm_totals, default_baseline, unmatched
from analysis.study.words import runs_in_words


class _ReadOnce(ResultStore):
    """A folder of results whose manifests of a kind are read once."""

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self._known: dict[Kind, tuple[Manifest, ...]] = {}

    def manifests(self, kind: Kind) -> Iterator[Manifest]:
        if kind not in self._known:
            self._known[kind] = tuple(super().manifests(kind))
        return iter(self._known[kind])


class Evidence:
    """Everything that is read of one study, gathered when it is first asked for.

    `baseline`: arm that budgets are matched against, for which a default is found; `declared`: the declaration that
    counts, instead of the newest stored one; `with_models`: trained models are read too when looking for damaged files.
    Every property raises UserError for an unknown study and for files of results that cannot be read.
    """

    def __init__(
        self,
        results: str | Path,
        study: str,
        *,
        baseline: str | None = None,
        declared: Declaration | None = None,
        with_models: bool = False,
    ) -> None:
        self.store: ResultStore = _ReadOnce(results)
        self.study = study
        self.with_models = with_models
        self._baseline, self._declared = baseline, declared
        self._scores: dict[str, Scores | UserError] = {}
        self._without_gain: dict[str, Scores] = {}

    def check_names(self) -> None:
        """Raise UserError for an unknown study and an unknown baseline, before any scores are read."""
        _ = self.baseline

    @cached_property
    def runs(self) -> tuple[ArmRun, ...]:
        """The runs that have scores, by arm and seed."""
        trained = {manifest.id: manifest for manifest in self.store.manifests("train")}
        mixes = {manifest.id: manifest for manifest in self.store.manifests("mix")}
        runs = []
        for (arm, seed), evaluation in sorted(self._evaluations.items(), key=lambda item: item[0]):
            train = next((trained[parent] for parent in evaluation.parents if parent in trained), None)
            mix = (
                next((mixes[parent] for parent in train.parents if parent in mixes), None)
                if train is not None
                else None
            )
            runs.append(ArmRun(arm, seed, evaluation, train, mix))
        return tuple(runs)

    @cached_property
    def arms(self) -> Mapping[str, list[ArmRun]]:
        """Arm -> its runs that have scores, by seed; the arms in order of their names."""
        return by_arm(self.runs)

    def runs_of(self, arms: Collection[str]) -> list[ArmRun]:
        """Return the runs of these arms, by arm and seed; an arm without scores has none."""
        return [run for arm in sorted(set(arms)) for run in self.arms.get(arm, ())]

    @cached_property
    def _evaluations(self) -> dict[tuple[str, int], Manifest]:
        return self.store.by_arm("evaluation", self.study)

    @property
    def stages(self) -> list[Manifest]:
        """Every stage of every run once, in the order of the runs."""
        return list({(stage.kind, stage.id): stage for run in self.runs for stage in run.stages}.values())

    def same_model(self, run: ArmRun) -> list[Manifest]:
        """Return the other evaluations of the model of a run, in whatever study (see `same_model_keys`)."""
        keys = same_model_keys(run.evaluation, run.train)
        others = {manifest.id: manifest for key in sorted(keys) for manifest in self._by_model.get(key, ())}
        return [manifest for manifest in others.values() if manifest.id != run.evaluation.id]

    def measured_under(self, run: ArmRun) -> set[str]:
        """Return the digests under which the model of a run was measured, in whatever study; '' is no declaration."""
        keys = same_model_keys(run.evaluation, run.train)
        return {declared for key in keys for declared in self._declared_by_model.get(key, ())}

    @cached_property
    def _declared_by_model(self) -> Mapping[str, set[str]]:
        return {key: {manifest.declared for manifest in measured} for key, measured in self._by_model.items()}

    @cached_property
    def _by_model(self) -> dict[str, list[Manifest]]:
        trained = {manifest.id: manifest for manifest in self.store.manifests("train")}
        by_model: dict[str, list[Manifest]] = {}
        for evaluation in self.store.manifests("evaluation"):
            train = next((trained[parent] for parent in evaluation.parents if parent in trained), None)
            keys = same_model_keys(evaluation, train)
            for key in keys | {f"train {parent}" for parent in evaluation.parents}:  # its training may be removed
                by_model.setdefault(key, []).append(evaluation)
        return by_model

    @property
    def relatives(self) -> list[Manifest]:
        """The evaluations of the models of this study in other studies, with their trainings."""
        own = {stage.id for stage in self.stages}
        others = [manifest for run in self.runs if run.train is not None for manifest in self.same_model(run)]
        parents = {parent for manifest in others for parent in manifest.parents}
        trained = [manifest for manifest in self.store.manifests("train") if manifest.id in parents]
        return list({stage.id: stage for stage in (*others, *trained) if stage.id not in own}.values())

    @cached_property
    def mixed(self) -> tuple[ArmTotals, ...]:
        """The totals of every arm with a complete mix, in order of their names; UserError where there is none."""
        return arm_totals(self.study, self.store.by_arm("mix", self.study), self._trainings)

    @cached_property
    def _trainings(self) -> dict[tuple[str, str], Training]:
        """Each training by its mix and label: finished ones, and those that are only counted yet."""
        trainings: dict[tuple[str, str], Training] = {}
        for workload in self.store.workloads():
            training = Training(workload.train, workload.counts)
            trainings.update({(workload.mix, label): training for label in workload.labels})
        for manifest in self.store.manifests("train"):
            training = Training(manifest.id, manifest.counts)
            trainings.update({(manifest.parents[0], label): training for label in manifest.labels})
        return trainings

    @cached_property
    def totals(self) -> tuple[ArmTotals, ...]:
        """The totals of the arms that have a mix and scores."""
        if not any(run.mix is not None for run in self.runs):
            return ()
        scored = {run.arm for run in self.runs}
        return tuple(arm for arm in self.mixed if arm.arm in scored)

    @cached_property
    def declarations(self) -> tuple[Declaration, ...]:
        """The declarations that are stored with the results, the oldest first."""
        return tuple(stored_declarations(self.store, self.study))

    def declared_in(self, claim: Claim) -> Collection[str]:
        """Return the digests of the stored declarations that have a claim, word for word."""
        return self._declared_in.get(claim, ())

    @cached_property
    def _declared_in(self) -> Mapping[Claim, set[str]]:
        digests: dict[Claim, set[str]] = {}
        for declaration in self.declarations:
            for claim in declaration.study.claims:
                digests.setdefault(claim, set()).add(declaration.digest)
        return digests

    @cached_property
    def documents_under(self) -> Mapping[str, set[str]]:
        """Digest of a declaration ('' for none) -> digests of the documents ranked under it, in whatever study."""
        documents: dict[str, set[str]] = {}
        for manifest in self.store.manifests("evaluation"):
            documents.setdefault(manifest.declared, set()).update(documents_of(manifest).values())
        return documents

    @cached_property
    def sources_under(self) -> Mapping[str, set[str]]:
        """Digest of a declaration ('' for none) -> digests of the sources of mixes under it, in whatever study."""
        sources: dict[str, set[str]] = {}
        for manifest in self.store.manifests("mix"):
            sources.setdefault(manifest.declared, set()).add(source_of(manifest))
        return sources

    @property
    def declaration_files(self) -> list[Path]:
        """The files of the declarations and of their cells."""
        return StudyRecords(self.store, self.study).files()

    @property
    def declared(self) -> Declaration | None:
        """The declaration that counts: the one that was given, else the newest stored one; None without any."""
        return self._declared or (self.declarations[-1] if self.declarations else None)

    @cached_property
    def cells(self) -> tuple[DeclaredCell, ...] | None:
        """The cells of the declaration; None without one, and where they are not recorded, as in results of before."""
        return None if self.declared is None else StudyRecords(self.store, self.study).cells(self.declared.digest)

    @cached_property
    def baseline(self) -> str:
        """Arm that budgets are matched against; UserError where the one that was asked for has no scores."""
        scored = {run.arm for run in self.runs}
        names = [arm.arm for arm in self.totals]
        declared = self.declared
        if self._baseline is not None and self._baseline not in scored:
            known_arms = ", ".join(sorted(scored))
            raise UserError(
                f"--baseline {self._baseline!r} has no scores in study {self.study!r}; arms are {known_arms}"
            )
        if self._baseline is None or self._baseline not in names:
            return default_baseline(self.totals, declared)
        return self._baseline

    @property
    def remarks(self) -> list[str]:
        """A line for each arm whose budget is not that of the baseline, and one for runs without instruction gain."""
        older = [f"NO INSTRUCTION GAIN: {self.lacks_gain}"] if self.before_gain else []
        if not self.store.arms("mix", self.study):
            return older
        baseline = default_baseline(self.mixed, self.declared)
        wrong = unmatched(self.mixed, baseline)
        return [*(f"UNMATCHED: {arm}: {reason}" for arm, reason in wrong.items()), *older]

    @property
    def lacks_gain(self) -> str:
        """Why the scores have no instruction gain although rankings would give it, in words; empty where they have."""
        if not self.before_gain:
            return ""
        shown = runs_in_words([(run.arm, run.seed) for run in self.before_gain])
        return (
            f"{shown}: measured before instruction gain; run again to add it (rankings that are kept are scored again, "
            "no model is needed); until then no collapse can be seen"
        )

    @cached_property
    def before_gain(self) -> tuple[ArmRun, ...]:
        """The runs that were scored before there was an instruction gain; none where nothing is scored yet."""
        if not self.store.arms("evaluation", self.study):
            return ()
        older = (run for run in self.runs if scoring_of(run.evaluation.recipe) < SCORING)
        return tuple(run for run in older if self._is_instructed(run))

    def _is_instructed(self, run: ArmRun) -> bool:
        """Return whether a run was measured under instructions; one whose scores cannot be read may have been."""
        try:
            conditions = self._scored(run.evaluation).units["condition"].unique().to_pylist()
        except UserError:
            return True
        return any(condition != "plain" for condition in conditions)

    def scores(self, evaluation: Manifest) -> Scores:
        """Return the scores of a run; raises UserError, each time, for a file that is damaged or no file of scores.

        As long as one run was scored before there was an instruction gain, it is left out of all: runs are compared in
        the same units, and `remarks` says so.
        """
        if self.before_gain and evaluation.id not in self._without_gain:
            self._without_gain[evaluation.id] = without_measure(self._scored(evaluation), INSTRUCTION_GAIN)
        return self._without_gain[evaluation.id] if self.before_gain else self._scored(evaluation)

    def _scored(self, evaluation: Manifest) -> Scores:
        if evaluation.id not in self._scores:
            known = [scores.units for scores in self._scores.values() if isinstance(scores, Scores)]
            try:
                self._scores[evaluation.id] = read_scores(self.store, evaluation, known)
            except UserError as error:
                self._scores[evaluation.id] = error
        cached = self._scores[evaluation.id]
        if isinstance(cached, UserError):
            raise cached
        return cached

    @cached_property
    def clusters(self) -> dict[str, UnitClusters]:
        """The clusters of the units of each data set, of the evaluations that keep them.

        Raises UserError for evaluations that differ in them, and for a damaged file.
        """
        contents: dict[tuple[str, tuple[tuple[str, str], ...]], Manifest] = {}
        for evaluation in self._evaluations.values():
            content, names = evaluation.content_sha256.get(CLUSTERS_FILE), evaluation.dataset_names(self.study)
            if content is not None:
                contents.setdefault((content, tuple(sorted(names.items()))), evaluation)
        merged: dict[str, UnitClusters] = {}
        where: dict[str, str] = {}
        for (_, renamed), evaluation in contents.items():
            folder = self.store.checked(evaluation, CLUSTERS_FILE).parent
            for recorded, known in read_clusters(folder).items():
                dataset = dict(renamed).get(recorded, recorded)
                if merged.setdefault(dataset, known) != known:
                    raise UserError(
                        f"study {self.study!r}: the evaluations {where[dataset]} and {evaluation.id} differ in the "
                        f"clusters of the units of {dataset}; measure all arms on one version of it"
                    )
                where.setdefault(dataset, evaluation.id)
        return merged

    @cached_property
    def not_ranked(self) -> dict[str, int]:
        """Data set -> pair decisions with neither document ranked, of the evaluation of it that has most.

        Raises UserError for a damaged file.
        """
        most: dict[str, int] = {}
        for evaluation in self._evaluations.values():
            names = evaluation.dataset_names(self.study)
            for recorded, counts in read_counts(self.store.checked(evaluation, NOTES_FILE).parent).items():
                dataset = names.get(recorded, recorded)
                most[dataset] = max(most.get(dataset, 0), int(counts.get(NOT_RANKED, 0)))
        return most

    def long_table(self) -> pa.Table:
        """Return all scores as one table with the columns of `scores.COLUMNS`, by arm and seed, and those of clusters.

        Texts are codes. The untouched backbone is the arm `untouched`.
        """
        return long_table(
            (
                (arm, seed, evaluation.dataset_names(self.study), self.scores(evaluation))
                for (arm, seed), evaluation in sorted(self._evaluations.items(), key=lambda item: item[0])
            ),
            self.clusters,
        )

    @cached_property
    def table(self) -> ScoreTable:
        """The scores as matrices; raises UserError for scores that no test can be made on."""
        return from_arrow(self.long_table(), f"study {self.study}")
