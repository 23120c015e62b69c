"""Write an evaluation set as a BEIR folder, so that any other system can be measured on it.

    python -m ablate.testbed test --to world_test                            the generated world
    python -m ablate.testbed dev --to films_dev source=movies_rules source.path=DIR

Rankings that the other system makes there come back with `python -m analysis.score` or `python -m analysis.import_run`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ablate.cli.command import command, finish, output_folder
from ablate.cli.explain import check_command_line
from ablate.cli.overrides import quoted
from ablate.compose import load, strict
from ablate.data.beir_written import check_fits, reversals_of, write_beir
from ablate.data.sources import open_sets
from ablate.records import UserError
from ablate.store.drafts import draft_of
from ablate.store.results import ResultStore


def _run(options: argparse.Namespace) -> None:
    target: Path = options.to
    if target.exists() and any(target.iterdir()):
        raise UserError(f"--to {target} is a folder that is not empty; name a new one")
    overrides = [*options.words, "runtime.dev_set=null", f"evaluation.sets=[{options.set}]"]
    check_command_line(overrides)
    config = strict(load(overrides))
    source = config.recipe.evaluation.source or config.recipe.source
    beds = open_sets(source, config.recipe.evaluation.sets, ResultStore(config.runtime.results).cache)
    if options.set not in beds.evaluation_names:
        raise UserError(f"the source has no evaluation set {options.set!r}; it has: {', '.join(beds.evaluation_names)}")
    bed = beds.evaluation_set(options.set)
    check_fits(bed, options.set)
    draft = draft_of(target)
    try:
        files = write_beir(draft, bed, options.set)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmdir()
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    pairs = ",".join(f"[{first},{second}]" for first, second in reversals_of(bed))
    words = [
        "runtime.dev_set=null",
        "+evaluation_source=beir",
        quoted("evaluation.source.path", str(target)),
        f"evaluation.source.train_split={options.set}",
        f"evaluation.sets=[{options.set}]",
        *([f"evaluation.source.reversals=[{pairs}]"] if pairs else []),
    ]
    print(f"{target}: {len(bed.documents):,} documents, {len(bed.queries):,} queries, {len(files)} files")
    print(f"read it back: python -m ablate.run {' '.join(words)}")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "ablate.testbed",
        "Write an evaluation set of a source, the generated world too, as a folder in BEIR's layout.",
        "test --to world_test source.documents=3000",
    )
    made.add_argument("set", metavar="SET", help="name of an evaluation set of the source, such as test")
    made.add_argument("words", nargs="*", metavar="KEY=VALUE", help="overrides as for ablate.run: source=…")
    made.add_argument("--to", type=output_folder, metavar="DIR", required=True, help="a new folder, or an empty one")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder and return the exit code."""
    return finish(_run, parser(), arguments, intermixed=True)


if __name__ == "__main__":
    sys.exit(main())
