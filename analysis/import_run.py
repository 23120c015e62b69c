"""Another system's rankings as an arm of a study: a hosted service, another repository's checkpoint, any run file.

    python -m analysis.import_run --study STUDY --name NAME --seed 0 DATASET=FILE … [--seed 1 DATASET=FILE …]
    python -m analysis.import_run --study STUDY --name NAME --deterministic DATASET=FILE …

What is scored are the judgments that the study's own evaluations keep: the same queries, documents and depth. Each seed
becomes a complete evaluation of the store, which every analysis finds like that of an arm trained here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ablate.cli.command import command, finish, seed
from ablate.evaluation.measures import INSTRUCTION_GAIN, P_MRR
from ablate.evaluation.summary import NDCG, collapse_words
from ablate.records import UserError, check_name
from ablate.store.results import ResultStore
from analysis.external.imported import Imported, by_dataset, import_runs, study_beds


def command_line() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "analysis.import_run",
        "Score another system's run files on a study's evaluation sets and add it to the study as an arm.",
        "--study polarity --name hosted --seed 0 world/test=a.trec.gz world/heldout=b.trec.gz --seed 1 "
        "world/test=c.trec.gz world/heldout=d.trec.gz",
    )
    made.add_argument("--study", required=True, help="study that the arm is added to; its evaluations must be there")
    made.add_argument("--name", required=True, help="name of the arm")
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--seed",
        nargs="+",
        action="append",
        metavar=("SEED", "DATASET=FILE"),
        help="one training seed with all its TREC run files; a data set may have several files; may be given again",
    )
    which.add_argument(
        "--deterministic",
        nargs="+",
        metavar="DATASET=FILE",
        help="all run files of a system without training randomness",
    )
    made.add_argument("--results", default="results", help="folder of results (default: results)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Import what the command line names, print what came out, and return the exit code."""
    return finish(lambda args: _import_all(ResultStore(args.results), args), command_line(), argv)


def _import_all(store: ResultStore, options: argparse.Namespace) -> None:
    name, study = options.name, options.study
    check_name("--name", name)
    if name == "untouched":
        raise UserError("--name 'untouched' is the name of the backbone before training; choose another one")
    beds = study_beds(store, study)
    asked: dict[int | None, dict[str, list[Path]]] = {}
    if options.deterministic:
        asked[None] = by_dataset(options.deterministic, beds)
    for text, *given in options.seed or ():
        try:
            seed_number = seed(text)
        except argparse.ArgumentTypeError as error:
            raise UserError(f"--seed {error}") from None
        if not given:
            raise UserError(f"--seed {text}: give at least one DATASET=FILE behind it")
        if seed_number in asked:
            raise UserError(f"--seed {text} is there twice; give all files of a seed together")
        asked[seed_number] = by_dataset(given, beds)
    for number, imported in import_runs(store, study, name, asked, beds).items():
        _show(store, imported, f"{study}/{name}" + ("" if number is None else f" seed {number}"))


def _show(store: ResultStore, imported: Imported, title: str) -> None:
    folder = store.folder("evaluation", imported.manifest.id)
    if imported.evaluation is None:
        print(f"{title}: these files are there already, as {folder}")
        return
    print(f"{title}: {imported.manifest.counts['scores']:,} scores in {folder}")
    for note in (*imported.notes, *imported.evaluation.warnings):
        print(f"  {note}")
    rows = imported.evaluation.summary()
    for words in collapse_words(rows):
        print(f"  {words}")
    for row in rows:
        if row.measure in (NDCG, P_MRR, INSTRUCTION_GAIN):
            where = f"{row.dataset}  {row.condition} {row.direction}  {row.measure}"
            print(f"  {where:<60}{row.mean:8.4f}  n={row.num_units}")


if __name__ == "__main__":
    sys.exit(main())
