"""Write the file of a new study into sweeps/, every choice with a comment.

    python -m ablate.study init does_reversal_help
    python -m ablate.study init does_reversal_help --arms instructions dual_view --dataset museum/test

`docs/claims.md` is the reference of its fields.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ablate.cli.command import command, finish, output_folder, write_text
from ablate.project import files_of
from ablate.recipe.build import meant
from ablate.records import UserError
from ablate.study.declaration import MACRO
from ablate.study.template import study_file

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_DATASET = re.compile(rf"{MACRO}|[\w.-]+/[\w.-]+", re.ASCII)


def _init(options: argparse.Namespace) -> None:
    name: str = options.name
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot name a study; it takes letters, digits and underscores, a letter first")
    path: Path = options.to / f"{name}.yaml"
    taken = next((place for place in (path, path.with_suffix("")) if place.exists()), None)
    if taken is not None:
        raise UserError(f"{taken} is there already and is not overwritten; choose another name, or remove it")
    baseline, arm = options.arms
    arms = list(files_of("experiment"))
    for label in (baseline, arm):
        if label not in arms:
            raise UserError(f"--arms: {label!r} is no arm of conf/experiment/: {', '.join(arms)}{meant(label, arms)}")
    if baseline == arm:
        raise UserError(f"--arms: {arm!r} is compared with itself; name two arms, first the one to compare with")
    if not _DATASET.fullmatch(options.dataset):
        raise UserError(f"--dataset {options.dataset!r} must be a data set and its evaluation set, such as world/test")
    write_text(path, study_file(name, baseline, arm, options.dataset))
    print(f"next: edit it, then python -m ablate.run -m +sweeps={name} runtime.plan_only=true")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command("ablate.study", "Begin a study: its file, to be edited and run.", "init does_reversal_help")
    steps = made.add_subparsers(dest="step", metavar="init", required=True)
    init = steps.add_parser("init", help="write sweeps/NAME.yaml, commented; nothing is overwritten")
    init.add_argument("name", metavar="NAME", help="of the study: letters, digits and underscores")
    init.add_argument(
        "--arms",
        nargs=2,
        metavar=("A", "B"),
        default=["instruction_negatives", "dual_view"],
        help="the claims are about B - A (default: instruction_negatives dual_view)",
    )
    init.add_argument("--dataset", metavar="D", default="world/test", help="of the claims (default: world/test)")
    init.add_argument(
        "--to", type=output_folder, metavar="DIR", default=Path.cwd() / "sweeps", help="folder (default: sweeps/)"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file and return the exit code."""
    return finish(_init, parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
