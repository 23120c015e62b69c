"""Which objection to a result an arm answers, as its file in `conf/experiment/` says (`runtime.objection`)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ablate.cli.overrides import quoted
from ablate.project import files_of
from ablate.recipe.build import build
from ablate.recipe.factors import Factors, fields_read
from ablate.records import UserError
from analysis.study.declared import read_declaration
from analysis.study.evidence import Evidence

_VALUE = re.compile(r"\\\$\\\{[^}]*\\\}")
"""A value in the label of an arm, such as the dose of `label_noise_${factors.label_noise}`, after `re.escape`."""
_WHOLE = ("world",)
"""Kinds of sources whose rows have every field that a factor reads."""


@dataclass(frozen=True)
class Objector:
    """An arm that answers an objection: one that comes with the code, or of the present folder."""

    experiment: str
    """Its name in `conf/experiment/`."""
    objection: str
    label: str
    """What its runs are called; it may have values in it, as `${…}`."""
    reads: tuple[str, ...] | None
    """Fields of a row that its factors need; None where its file alone does not tell."""
    takes_audit: bool
    """It needs judgments of rows too (`audit.judgments`)."""

    def is_called(self, arm: str) -> bool:
        """Return whether a run of this arm has such a name where it was given no other one."""
        return re.fullmatch(_VALUE.sub(".+", re.escape(self.label)), arm) is not None


def objectors() -> tuple[Objector, ...]:
    """Return the arms of `conf/experiment/` that answer an objection, by their names.

    An own file of the present folder hides one of the same name that comes with the code, and an arm has the objection
    of the arms in its `defaults` where it names none. Raises UserError for a file that is no readable YAML.
    """
    files = files_of("experiment")
    known = []
    for name in files:
        values = _merged(name, files, ())
        runtime = _group(values, "runtime")
        if runtime.get("objection"):
            label = str(runtime.get("label", name))
            known.append(Objector(name, str(runtime["objection"]), label, _reads(values), "audit" in values))
    return tuple(known)


def _merged(name: str, files: Mapping[str, Path], above: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of an arm with those of the arms in its `defaults`, a later one over an earlier one.

    As Hydra does, the file's own come at its `_self_`, else last; what is no arm, as another group, is left out.
    """
    own = _read(files[name])
    merged: dict[str, Any] = {}
    given = own.pop("defaults", None)
    defaults = given if isinstance(given, list) else []
    for entry in defaults if "_self_" in defaults else [*defaults, "_self_"]:
        arm = str(entry).removeprefix("/").removeprefix("experiment/").split("@")[0]
        if entry == "_self_":
            _over(merged, own)
        elif isinstance(entry, str) and arm in files and arm not in (*above, name):
            _over(merged, _merged(arm, files, (*above, name)))
    return merged


def _over(merged: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            merged[key] = dict(_group(merged, key))
            _over(merged[key], value)
        else:
            merged[key] = value


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is no readable YAML ({' '.join(str(error).split())}); mend it or move it away"
        ) from None
    return dict(values) if isinstance(values, Mapping) else {}


def _group(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    group = values.get(key)
    return group if isinstance(group, Mapping) else {}


def _reads(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    try:
        return fields_read(build(Factors, _group(values, "factors"), "factors"))
    except UserError:  # a value that is another one's, as ${…}
        return None


def can_be_made(evidence: Evidence, objector: Objector) -> bool:
    """Return whether it is known that the rows of a study's source have all that an arm needs.

    Known of the generated world, and of what the mixes of the study read already.
    """
    recipes = [run.mix.recipe for run in evidence.runs if run.mix is not None]
    kinds = {_group(recipe, "source").get("kind") for recipe in recipes}
    if objector.takes_audit or objector.reads is None or not recipes:
        return False
    if kinds <= set(_WHOLE):
        return True
    there = [_reads(recipe) or () for recipe in recipes]
    return len(kinds) == 1 and set(objector.reads) <= {field for fields in there for field in fields}


def command_for(evidence: Evidence, experiments: Sequence[str], results: str) -> str:
    """Return a command that makes further arms beside those of a study, with the keys of the study's file.

    It is a study of its own, without claims: the declaration of this one stays the newest. Results that are there are
    not made again. Empty where the study is no file of `sweeps/` as that stands now, because its keys are not known
    then. `results`: the folder of results, as a command names it.
    """
    declared = evidence.declared
    name = next((name for name, digest in _sweeps() if declared is not None and digest == declared.digest), "")
    if declared is None or not name:
        return ""
    words = [
        quoted("study.arms", [*declared.study.arms, *experiments]),
        "study.claims=[]",
        quoted("runtime.study", f"{evidence.study}_objections"),
        *([quoted("runtime.results", results)] if results != "results" else []),
    ]
    return shlex.join(["python", "-m", "ablate.run", "-m", f"+sweeps={name}", *words])


def _sweeps() -> Iterator[tuple[str, str]]:
    """Yield the files of `sweeps/` that declare a study, each with its digest."""
    for name, path in files_of("sweeps").items():
        try:
            yield name, read_declaration(path).digest
        except UserError:  # no study, or one whose values are another file's
            continue


def answered(evidence: Evidence) -> dict[str, Objector]:
    """Return arm of a study -> what it answers, of its arms with scores: by its declared experiment, else by its name.

    Raises UserError as `Evidence` and `objectors` do.
    """
    arms = {label: words.split()[0] for label, words in _declared_arms(evidence).items()}
    answers = {}
    known = objectors()
    for arm in dict.fromkeys(run.arm for run in evidence.runs):
        for objector in known:
            if arms.get(arm, "") == objector.experiment or (arm not in arms and objector.is_called(arm)):
                answers[arm] = objector
    return answers


def _declared_arms(evidence: Evidence) -> dict[str, str]:
    """Return label -> the arm as it was declared, with overrides of its own; empty where cells are not recorded."""
    if evidence.declared is None or evidence.cells is None:
        return {}
    study = evidence.declared.study
    if len(list(study.cells())) != len(evidence.cells):
        return {}
    return {cell.label: study.arms[place % len(study.arms)] for place, cell in enumerate(evidence.cells)}
