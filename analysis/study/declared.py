"""What was declared, and when: the declarations of a study in its results, and how claims were written in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ablate.cli.overrides import written
from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.secrets import is_scrubbed
from ablate.store.files import safe_name
from ablate.store.results import ResultStore
from ablate.study.declaration import Claim, Study, build_study
from analysis.stats.weights import parse_contrast, parse_trend

CONF = Path(__file__).resolve().parents[2] / "conf" / "experiment"
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
    found = []
    for name, content in store.declarations(study).items():
        if digest(content["study"]) != name and not is_scrubbed(content["study"]):
            raise UserError(
                f"the declaration {name} of study {study!r} was changed after it was declared: its digest is "
                f"{digest(content['study'])}; move it away"
            )
        found.append(Declaration(name, str(content["declared_at"]), build_study(content["study"])))
    return found


def newest_declared(store: ResultStore, study: str) -> Study | None:
    """Return the newest stored declaration of a study, None without one."""
    known = stored_declarations(store, study)
    return known[-1].study if known else None


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


def expected_runs(study: Study) -> list[tuple[str, int]]:
    """Return the (arm, seed) of every run that a study declares, arms by the label that their runs carry."""
    points = itertools.product(*([(axis.key, value) for value in axis.values] for axis in study.grid))
    return [(arm_label(arm, dict(point)), seed) for point in points for seed in study.seeds for arm in study.arms]


def arm_label(declared: str, point: Mapping[str, Any] | None = None) -> str:
    """Return the label of an arm as a study names it: `runtime.label` of its file, with its own overrides filled in.

    A point of the grid stands behind it, as `ablate.study.planning.label_of` writes it.

    `declared` is the arm's name and its overrides, `point` a point of the study's grid.
    """
    name, *words = declared.split()
    values = {key.lstrip("+~"): yaml.safe_load(text) for key, _, text in (word.partition("=") for word in words)}
    values |= point or {}
    label = values.get("runtime.label")
    path = CONF / f"{safe_name(name)}.yaml"
    block: Any = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    label = str(label if label is not None else _at(block, "runtime.label") or name)

    def value(match: re.Match[str]) -> str:
        found = values.get(match[1], _at(block, match[1]))
        return match[0] if found is None else str(found)

    shown = [
        f"{key.rsplit('.', 1)[-1]}={written(setting)}".replace("/", "_")
        for key, setting in (point or {}).items()
        if not key.startswith("runtime.") and f"${{{key}}}" not in label
    ]
    return " ".join([re.sub(r"\$\{([^}]+)\}", value, label), *shown])


def _at(block: Any, key: str) -> Any:
    for part in key.split("."):
        block = block.get(part) if isinstance(block, Mapping) else None
    return block
