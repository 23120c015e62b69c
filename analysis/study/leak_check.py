"""Whether what is measured was trained on: the row of fairness, by query text and document id."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from ablate.data.checking import LEAK, normal
from ablate.data.mix import read_groups
from ablate.data.overlap import trained_pairs
from ablate.evaluation.storage import read_judgments
from ablate.records import EvaluationSet, UserError
from ablate.store.files import GROUPS_FILE, JUDGMENTS_FILE
from ablate.store.manifest import Manifest
from analysis.study.evidence import Evidence
from analysis.study.runs import ArmRun
from analysis.study.words import grouped, runs_in_words, some


def no_leak(evidence: Evidence) -> tuple[bool, str]:
    """Look for judged pairs that were trained on, by query text and document id, so where both are of one source.

    Fails for a set that is the training split, and where more than LEAK of the judged queries have such a pair. Shared
    queries, instructions and documents are no leak by themselves; `analysis.leaks` counts them, and compares texts.
    """
    beds, sets = dict[str, dict[str, EvaluationSet]](), dict[tuple[str, str], dict[str, Any]]()
    unknown, elsewhere, looked_at = list[tuple[str, int]](), dict[str, None](), set[str]()
    trained = [(run, run.mix) for run in evidence.runs if run.mix is not None]
    by_mix = grouped((mix.id, (run, mix)) for run, mix in trained)
    for members in tqdm(by_mix.values(), desc="mixes", delay=2.0, disable=not sys.stderr.isatty(), leave=False):
        positives: dict[str, set[str]] | None = None
        for run, mix in members:
            content = run.evaluation.content_sha256.get(JUDGMENTS_FILE)
            try:
                if content is None or GROUPS_FILE not in mix.content_sha256:
                    raise UserError("nothing was kept that could be compared")
                if content not in beds:
                    folder = evidence.store.checked(run.evaluation, JUDGMENTS_FILE).parent
                    beds[content] = read_judgments(folder)
                if positives is None:
                    positives = {}
                    groups = evidence.store.checked(mix, GROUPS_FILE)
                    for group in read_groups(groups, evidence.store.remedy(mix)):
                        positives.setdefault(normal(group.query), set()).update(group.positives)
            except UserError:  # a damaged file is among the damaged ones
                unknown.append((run.arm, run.seed))
                continue
            looked_at.add(mix.id)
            names = run.evaluation.dataset_names(evidence.study)
            is_own = _is_own_source(run, mix)
            for recorded, bed in beds[content].items():
                name = names.get(recorded, recorded)
                found = sets.setdefault((name, run.arm), {"split": False, "pairs": {}, "queries": 0})
                found["judged"] = sum(bool(bed.qrels.get(query.query_id)) for query in bed.queries)
                shared = [q for q in bed.queries if bed.qrels.get(q.query_id) and normal(q.query) in positives]
                found["queries"] = max(found["queries"], len(shared))
                if not is_own:
                    elsewhere |= {name: None} if shared else {}
                    continue
                found["split"] |= recorded.rpartition("/")[2] == mix.recipe["source"].get("train_split", "")
                found["pairs"] = max(found["pairs"], trained_pairs(positives, bed), key=len)
    return _said_of_leaks(sets, looked_at, elsewhere, unknown)


def _is_own_source(run: ArmRun, mix: Manifest) -> bool:
    """Return whether a run is measured on the source of its mix, so that its ids mean the same documents."""
    own, source = mix.recipe.get("source") or {}, (run.evaluation.recipe.get("evaluation") or {}).get("source")
    deciding = ("kind", "revision", *(("seed", "documents") if own.get("kind") == "world" else ()))
    return source is None or all(source.get(name) == own.get(name) for name in deciding)


def _said_of_leaks(
    sets: Mapping[tuple[str, str], Mapping[str, Any]],
    looked_at: Collection[str],
    elsewhere: Iterable[str],
    unknown: Sequence[tuple[str, int]],
) -> tuple[bool, str]:
    wrong, notes = dict[str, list[str]](), dict[str, list[str]]()
    for (name, arm), found in sets.items():
        pairs, judged = found["pairs"], f"{found['judged']:,} judged queries of {name}"
        said = f"{len(pairs):,} of {judged} have judged pairs that are trained on (pairs: {sum(pairs.values()):,})"
        if found["split"]:
            wrong.setdefault(f"{name} is the split that is trained on (source.train_split)", []).append(arm)
        elif pairs:
            (wrong if len(pairs) > LEAK * found["judged"] else notes).setdefault(said, []).append(arm)
        elif found["queries"]:
            said = f"{found['queries']:,} of {judged} are training queries too, no judged pair of theirs known"
            notes.setdefault(said, []).append(arm)
    words = [f"{said}: {some(arms)}" for found in (wrong, notes) for said, arms in found.items()]
    if not words and looked_at:
        names = dict.fromkeys(name for name, _ in sets)
        words = [f"no judged pair and no query of {some(names)} is in the mixes ({len(looked_at)} looked at)"]
    if others := list(elsewhere):
        words.append(f"{some(others)} of another source, documents not compared: python -m analysis.leaks does")
    if unknown:
        words.append(f"not known: {runs_in_words(unknown)}")
    return not wrong, "; ".join(words) or "nothing was trained here"
