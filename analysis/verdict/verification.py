"""Every number of the verdicts of a study worked out again: files, records, scores, verdicts.

What cannot be worked out again is said so, and is never counted as right.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ablate.recipe.factors import Factors
from ablate.recipe.values import flatten, plain
from ablate.records import QueryScore, UserError
from ablate.store.files import EMBEDDINGS_FOLDER, FOLDERS
from ablate.store.manifest import Kind, Manifest, read_manifest
from ablate.store.results import ResultStore
from analysis.study.evidence import Evidence
from analysis.study.opened import OpenStudy
from analysis.study.recomputed import NEAR, NotKept, RecomputedEvidence, disagreement, num_inexact, rescored
from analysis.verdict.claims_tables import judgement_record
from analysis.verdict.deviations import Deviation, deviations
from analysis.verdict.judge import Judgement, judge

State = Literal["holds", "FAILS", "CANNOT BE RECOMPUTED"]
HOLDS: State = "holds"
FAILS: State = "FAILS"
CANNOT: State = "CANNOT BE RECOMPUTED"


class Verified(NamedTuple):
    """What came of one check."""

    state: State
    check: str
    said: str


class Verification(NamedTuple):
    """All checks of a study, and what is said of it where it could be opened."""

    checks: list[Verified]
    evidence: Evidence | None
    """None where manifests cannot be read."""
    judgement: Judgement | None
    log: list[Deviation]

    @property
    def all_hold(self) -> bool:
        """Whether everything was worked out again and agrees."""
        return all(verified.state == HOLDS for verified in self.checks)


def verify(results: str, study: str, *, with_parents: bool = True) -> Verification:
    """Check the files of a study, score its rankings again, judge its claims by those scores, and compare.

    `with_parents`: the files of mixes and models are there too; a packet has their manifests alone. Raises UserError
    for an unknown study.
    """
    checks = _manifests(ResultStore(results))
    if checks[0].state != HOLDS:
        return Verification(
            [*checks, Verified(CANNOT, "scores and verdicts", "mend or move away these manifests first")],
            None,
            None,
            [],
        )
    evidence = Evidence(results, study)
    _ = evidence.runs
    checks += _declarations(evidence)
    checks += _records(evidence)
    checks += _files(evidence, with_parents=with_parents)
    again, scored = _scores(evidence)
    checks += scored
    judgement, judged = _verdicts(results, evidence, again)
    checks += judged
    try:
        log = deviations(evidence, judgement)
    except UserError:  # the declarations cannot be read, which a check says
        log = []
    order = {FAILS: 0, CANNOT: 1, HOLDS: 2}
    return Verification(sorted(checks, key=lambda verified: order[verified.state]), evidence, judgement, log)


def _manifests(store: ResultStore) -> list[Verified]:
    wrong, num_read = [], 0
    for kind in FOLDERS:
        for folder in store.folders(_kind(kind)):
            try:
                num_read += read_manifest(folder) is not None
            except UserError as error:
                wrong.append(Verified(FAILS, "manifests", str(error)))
    return wrong or [Verified(HOLDS, "manifests", f"{num_read:,} have the checksum and the id of what they hold")]


def _kind(name: str) -> Kind:
    kinds: dict[str, Kind] = {"mix": "mix", "train": "train", "evaluation": "evaluation"}
    return kinds[name]


def _declarations(evidence: Evidence) -> list[Verified]:
    try:
        declared, cells = evidence.declarations, evidence.cells
    except UserError as error:
        return [Verified(FAILS, "declarations", str(error))]
    if not declared:
        return [Verified(HOLDS, "declarations", "there are none, so there are no verdicts")]
    wrong = []
    known = {declaration.digest: declaration.declared_at for declaration in declared}
    times = {name: _time(at) for name, at in known.items()}
    wrong += [f"{name} was declared at {known[name]!r}, which is no time" for name, at in times.items() if at is None]
    for stage in evidence.stages:
        at, started = times.get(stage.declared), _time(stage.started)
        if at is not None and started is not None and started < at:
            wrong.append(
                f"{_stage(stage)} was started {stage.started}, before {stage.declared} was declared "
                f"({known[stage.declared]}), under which it stands: one of the times was moved"
            )
    by_cell = {(cell.label, cell.seed): cell.differs for cell in cells or ()}
    for run in evidence.runs:
        differs = _unlike(by_cell.get((run.arm, run.seed), {}), run.recipe) if run.train is not None else ""
        if differs:
            wrong.append(f"{run.arm} seed {run.seed} is not the declared cell of that name: {differs}")
    if wrong:
        return [Verified(FAILS, "declarations", said) for said in wrong]
    recorded = "no cells are recorded" if cells is None else f"{len(cells)} cells are those of the runs"
    return [Verified(HOLDS, "declarations", f"{len(declared)} have the digest of what they say; {recorded}")]


def _unlike(differs: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """Return in which keys a run is not what its cell says, of those that its recipe records as plain values."""
    defaults = {f"factors.{name}": value for name, value in plain(Factors()).items()}
    recorded = {**defaults, **{key: plain(value) for key, value in flatten(recipe).items()}}
    unlike = [key for key, value in differs.items() if key in recorded and recorded[key] != value]
    return ", ".join(f"{key} is {recorded[key]!r}, declared {differs[key]!r}" for key in unlike)


def _records(evidence: Evidence) -> list[Verified]:
    """Compare what the manifests of each run say of each other."""
    wrong = []
    for run in evidence.runs:
        name = f"{run.arm} seed {run.seed}"
        for parent, child in zip(run.stages, run.stages[1:], strict=False):
            if child.recipe.get(parent.kind) != parent.id:
                wrong.append(f"{name}: {_stage(child)} names another {parent.kind} in its recipe than as its parent")
            finished, later = _time(parent.finished), _time(child.finished)
            if finished is not None and later is not None and later < finished:
                wrong.append(f"{name}: {_stage(child)} was finished before the {parent.kind} that it was made from")
        for stage in run.stages:
            if "seed" in stage.recipe and stage.recipe["seed"] != stage.seed:
                wrong.append(f"{name}: {_stage(stage)} has seed {stage.recipe['seed']} in its recipe")
            started, finished = _time(stage.started), _time(stage.finished)
            if started is None or finished is None or finished < started:
                wrong.append(f"{name}: {_stage(stage)} was started {stage.started!r} and finished {stage.finished!r}")
        if run.train is None and run.evaluation.recipe.get("train"):
            wrong.append(f"{name}: the manifest of its training {run.evaluation.recipe['train']} is not there")
    if wrong:
        return [Verified(FAILS, "records", said) for said in dict.fromkeys(wrong)]
    return [Verified(HOLDS, "records", f"the manifests of {len(evidence.runs)} runs agree with each other")]


def _files(evidence: Evidence, *, with_parents: bool) -> list[Verified]:
    wrong, num_files, num_left = [], 0, 0
    for stage in evidence.stages:
        if stage.kind != "evaluation" and not with_parents:
            num_left += len(stage.content_sha256)
            continue
        try:
            if stage.content_sha256:
                evidence.store.whole(stage)
        except UserError as error:
            wrong.append(str(error))
        if stage.kind == "evaluation":
            lone = [name for name in evidence.store.unlisted(stage) if not name.startswith(f"{EMBEDDINGS_FOLDER}/")]
            wrong += [f"{_stage(stage)}/{name} is there, and its manifest does not name it" for name in lone]
        num_files += len(stage.content_sha256)
    if wrong:
        return [Verified(FAILS, "files", said) for said in dict.fromkeys(wrong)]
    beside = f"; {num_left:,} files of mixes and models are not looked at: their manifests alone are here"
    said = f"{num_files:,} have their recorded size and SHA-256"
    return [Verified(HOLDS, "files", said + (beside if num_left else ""))]


def _scores(evidence: Evidence) -> tuple[dict[str, tuple[QueryScore, ...]], list[Verified]]:
    """Return id of an evaluation -> its scores, of those that could be computed, and how they compare."""
    again: dict[str, tuple[QueryScore, ...]] = {}
    checks, num_values, inexact, num_new = [], 0, 0, 0
    for run in {run.evaluation.id: run for run in evidence.runs}.values():
        check = f"scores of {run.arm} seed {run.seed}"
        try:
            both = rescored(evidence.store, run.evaluation)
        except NotKept as error:
            checks.append(Verified(CANNOT, check, str(error)))
            continue
        except UserError as error:
            checks.append(Verified(FAILS, check, str(error)))
            continue
        again[run.evaluation.id] = both.again.scores
        words = disagreement(both)
        counted = run.evaluation.counts
        if counted.get("scores") not in (None, len(both.stored.scores)):
            words = words or f"{len(both.stored.scores):,} scores, recorded {counted['scores']:,}"
        if counted.get("candidates") not in (None, both.stored.candidates):
            words = words or "the manifest records other candidate documents"
        if words:
            checks.append(Verified(FAILS, check, words))
        num_values += len(both.stored.scores)
        inexact += num_inexact(both)
        num_new += both.num_new
    if not checks:
        exact = "to the last bit" if not inexact else f"all but {inexact:,} to the last bit, these to {NEAR:g}"
        said = f"{num_values:,} of {len(again)} evaluations are what rankings and judgments give, {exact}"
        if evidence.before_gain:
            said += f"; {num_new:,} instruction gains could be added from rankings: {evidence.lacks_gain}"
        checks.append(Verified(HOLDS, "scores", said))
    return again, checks


def _verdicts(
    results: str, evidence: Evidence, again: Mapping[str, tuple[QueryScore, ...]]
) -> tuple[Judgement | None, list[Verified]]:
    try:
        if not evidence.declarations:
            return None, []
    except UserError:  # a check says which cannot be read
        return None, [Verified(CANNOT, "verdicts", "mend or move away these declarations first")]
    try:
        stored = judge(OpenStudy(evidence))
    except UserError as error:
        return None, [Verified(FAILS, "verdicts", str(error))]
    try:
        recomputed = judge(OpenStudy(RecomputedEvidence(results, evidence.study, again)))
    except UserError as error:
        return stored, [Verified(CANNOT, "verdicts", str(error))]
    checks = []
    first, second = judgement_record(stored)["claims"], judgement_record(recomputed)["claims"]
    for before, after in zip(first, second, strict=True):
        keys = unequal(before, after)
        if keys:
            said = f"{before['verdict']} by the stored scores, {after['verdict']} by recomputed ones; unlike: {keys}"
            checks.append(Verified(FAILS, f"verdict on {before['claim']}", said))
    if not checks:
        shown = ", ".join(f"{judged.claim.name} {judged.ruling.verdict}" for judged in recomputed.claims) or "no claim"
        checks.append(Verified(HOLDS, "verdicts", f"recomputed scores give the same: {shown}"))
    return stored, checks


def unequal(first: Any, second: Any, path: str = "") -> str:
    """Return the dotted keys in which two records of JSON differ, floats by more than 1e-9 of their size."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = dict.fromkeys([*first, *second])
        inner = [unequal(first.get(name), second.get(name), f"{path}.{name}" if path else str(name)) for name in names]
        return ", ".join(text for text in inner if text)
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        inner = [unequal(a, b, f"{path}[{place}]") for place, (a, b) in enumerate(zip(first, second, strict=True))]
        return ", ".join(text for text in inner if text)
    if isinstance(first, float) and isinstance(second, float):
        return "" if math.isclose(first, second, rel_tol=1e-9, abs_tol=NEAR) else path
    return "" if first == second else path


def _stage(manifest: Manifest) -> str:
    return f"{FOLDERS[manifest.kind]}/{manifest.id}"


def _time(text: str) -> datetime.datetime | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
