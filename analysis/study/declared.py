"""What was declared, and when: the declarations of a study in its results, and how claims were written in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.secrets import is_scrubbed
from ablate.store.results import ResultStore
from ablate.study.declaration import Claim, Study, build_study
from ablate.study.records import StudyRecords
from analysis.stats.weights import parse_contrast, parse_trend

_TREND = re.compile(r"\s*trend\s*:\s*")


@dataclass(frozen=True)
class Declaration:
    """A study as it was declared at one time."""

    digest: str
    declared_at: str
    """UTC, ISO 8601; empty for a file that was not run yet."""
    study: Study


def stored_declarations(store: ResultStore, study: str) -> list[Declaration]:
    """Return the declarations that runs of a study were made under, the oldest first.

    Raises UserError for a file that cannot be read, or that is not what its name is the digest of.
    """
    declarations = []
    for name, content in StudyRecords(store, study).declarations().items():
        if digest(content["study"]) != name and not is_scrubbed(content["study"]):
            raise UserError(
                f"the declaration {name} of study {study!r} was changed after it was declared: its digest is "
                f"{digest(content['study'])}; move it away"
            )
        declarations.append(Declaration(name, str(content["declared_at"]), build_study(content["study"])))
    return declarations


def read_declaration(path: Path) -> Declaration:
    """Return the declaration in the `study` block of a file of `sweeps/`; raises UserError naming file and key."""
    if not path.is_file():
        raise UserError(f"--declared {path}: there is no such file; give a file of sweeps/")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--declared {path} is no readable YAML ({error})") from error
    if not isinstance(values, Mapping) or not isinstance(values.get("study"), Mapping):
        raise UserError(f"--declared {path} has no block 'study'; a study declares question, arms, seeds and claims")
    study = build_study(values["study"])
    return Declaration(study.digest, "", study)


def claim_weights(claim: Claim, arms: Sequence[str]) -> dict[str, float]:
    """Return the weights of a claim's contrast; raises UserError for arms without scores."""
    trend = _TREND.match(claim.contrast)
    return parse_trend(claim.contrast[trend.end() :], arms) if trend else parse_contrast(claim.contrast, arms)
