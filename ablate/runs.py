"""The stages of a folder of results: listed, compared, removed.

    python -m ablate.runs list [STUDY] [--kind train]
    python -m ablate.runs diff A B
    python -m ablate.runs remove ID|STUDY|STUDY/ARM[:SEED] [--yes] [--with-children]

A name is that of `ResultStore.resolve`: an id, the beginning of one, or study/arm:seed.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ablate.cli.command import finish
from ablate.recipe.values import diff, flatten
from ablate.records import UserError
from ablate.store.files import MANIFEST_FILE
from ablate.store.manifest import Kind, Manifest
from ablate.store.results import ResultStore

KINDS: tuple[Kind, ...] = ("mix", "train", "evaluation")


def stages(store: ResultStore, kinds: Iterable[Kind] = KINDS) -> list[Manifest]:
    """Return all complete stages, by kind, then by their first name and seed."""
    return [
        manifest
        for kind in kinds
        for manifest in sorted(store.manifests(kind), key=lambda stage: (sorted(stage.labels), stage.seed, stage.id))
    ]


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def listing(store: ResultStore, study: str | None, kinds: Iterable[Kind]) -> list[str]:
    """Return a line for every stage (of a study), complete or not; raises UserError for a study that has none."""
    kinds = tuple(kinds)
    known = stages(store, kinds)
    chosen = [stage for stage in known if study is None or any(_study(label) == study for label in stage.labels)]
    if study is not None and not chosen:
        names = sorted({_study(label) for stage in known for label in stage.labels})
        raise UserError(
            f"no stage of a study {study!r} under {store.root}; studies there: {', '.join(names) or 'none'}"
        )
    rows = [
        (
            stage.kind,
            stage.id,
            f"{_size(size_of(store.folder(stage.kind, stage.id))):>9}",
            stage.finished[:16],
            _names(stage),
        )
        for stage in chosen
    ]
    if study is None:
        complete = {(stage.kind, stage.id) for stage in known}
        for kind in kinds:
            for folder in store.folders(kind):
                if folder.is_dir() and (kind, folder.name) not in complete:
                    rows.append((kind, folder.name, f"{_size(size_of(folder)):>9}", "not complete", ""))
    return [
        f"{kind:<10}  {stage_id:<16}  {size}  {when:<16}  {names}".rstrip()
        for kind, stage_id, size, when, names in rows
    ]


def difference(store: ResultStore, first: Manifest, second: Manifest) -> list[str]:
    """Return how two stages differ: the number of keys they share, and each other key with both values."""
    recipe, other = store.full_recipe(first), store.full_recipe(second)
    unequal = diff(recipe, other)
    num_shared = len(flatten(recipe).keys() & flatten(other).keys() - unequal.keys())
    lines = [f"A  {first.kind} {first.id}  {_names(first)}", f"B  {second.kind} {second.id}  {_names(second)}"]
    lines.append(f"{num_shared} keys are equal, {len(unequal)} differ" + ("" if unequal else ": the same recipe"))
    return [*lines, *(f"  {key}: {left!r} -> {right!r}" for key, (left, right) in unequal.items())]


def resolve(store: ResultStore, text: str, kind: Kind | None) -> Manifest:
    """Return the stage that a person means, of this kind or (None) of the first kind that has it.

    Raises UserError as `ResultStore.resolve` does.
    """
    problems = []
    for tried_kind in (kind,) if kind else ("train", "evaluation", "mix"):
        try:
            return store.resolve(tried_kind, text)
        except UserError as error:
            problems.append(error)
    means = next((error for error in problems if " means " in str(error)), problems[0])
    raise means


def selected(store: ResultStore, text: str) -> tuple[list[Manifest], list[Manifest]]:
    """Return the stages that a target names, and those that it names and that other names share: they stay.

    Raises UserError when nothing is named.
    """
    known = stages(store)
    if "/" in text:
        label, colon, seed = text.rpartition(":") if ":" in text else (text, "", "")
        named = [stage for stage in known if label in stage.labels and seed in ("", str(stage.seed))]
        mine = {label}
    else:
        by_id = [stage for stage in known if text and stage.id.startswith(text)]
        if by_id:
            if len(by_id) > 1:
                shown = ", ".join(f"{stage.kind} {stage.id}" for stage in by_id[:6])
                raise UserError(f"{text!r} is the beginning of {len(by_id)} ids: {shown}; give more of it")
            return by_id, []
        mine = {label for stage in known for label in stage.labels if _study(label) == text}
        named = [stage for stage in known if mine.intersection(stage.labels)]
    if not named:
        names = ", ".join(sorted({_study(label) for stage in known for label in stage.labels})) or "none"
        raise UserError(
            f"nothing under {store.root} goes by {text!r}; give an id, STUDY, STUDY/ARM or STUDY/ARM:SEED; studies "
            f"there: {names} (python -m ablate.runs list)"
        )
    return [stage for stage in named if mine.issuperset(stage.labels)], [
        stage for stage in named if not mine.issuperset(stage.labels)
    ]


def with_children(store: ResultStore, chosen: Sequence[Manifest]) -> list[Manifest]:
    """Return the stages with everything that was made from them."""
    by_id = {stage.id: stage for stage in chosen}
    for stage in stages(store):  # mixes, trainings, evaluations: parents come before their children
        if not by_id.keys().isdisjoint(stage.parents):
            by_id.setdefault(stage.id, stage)
    return list(by_id.values())


def remove(store: ResultStore, chosen: Sequence[Manifest]) -> None:
    """Remove stages, children first, each manifest before its files, so that half a removal is an incomplete stage.

    Raises UserError, before anything is touched, when a living process holds one of them.
    """
    with contextlib.ExitStack() as held:
        for stage in chosen:
            for name in (f"{stage.kind}-{stage.id}", f"run-{stage.id}", f"cell-{stage.id}"):
                lock = store.lock(name)
                if not lock.take():
                    raise UserError(
                        f"{stage.kind} {stage.id} is in use: a living process holds {lock.path}; wait for it or end it"
                    )
                held.callback(lock.release)
        for stage in sorted(chosen, key=lambda stage: -KINDS.index(stage.kind)):
            folder = store.folder(stage.kind, stage.id)
            (folder / MANIFEST_FILE).unlink()
            shutil.rmtree(folder)


def _study(label: str) -> str:
    return label.partition("/")[0]


def _names(manifest: Manifest) -> str:
    return ", ".join(f"{label}:{manifest.seed}" for label in sorted(manifest.labels))


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m ablate.runs",
        description="List, compare and remove the stages (mixes, trainings, evaluations) of a folder of results.",
        epilog="Example: python -m ablate.runs diff dual_view/dual_view:0 dual_view/dead_polarity:0",
    )
    commands = made.add_subparsers(dest="command", required=True)
    lists = commands.add_parser("list", help="a line for each stage: kind, id, size, time, names")
    lists.add_argument("study", nargs="?", help="only what goes by a name of this study")
    differs = commands.add_parser("diff", help="in which keys two recipes differ, parents included")
    differs.add_argument("first", metavar="A", help="an id, the beginning of one, or study/arm:seed")
    differs.add_argument("second", metavar="B")
    for parser in (lists, differs):
        parser.add_argument("--kind", choices=KINDS, help="only stages of this kind")
    removes = commands.add_parser("remove", help="remove stages; what another one was made from stays")
    removes.add_argument("target", metavar="ID|STUDY|STUDY/ARM[:SEED]")
    removes.add_argument("--yes", action="store_true", help="do not ask")
    removes.add_argument("--with-children", action="store_true", help="and everything that was made from them")
    for parser in (lists, differs, removes):
        parser.add_argument("--results", default="results", help="folder of results (default: results)")
    return made


def _remove(store: ResultStore, options: argparse.Namespace) -> None:
    """Show what would go, ask, and remove it; raises UserError before anything is touched."""
    chosen, shared = selected(store, options.target)
    everything = with_children(store, chosen)
    children = [stage for stage in everything if stage not in chosen]
    if children and not options.with_children:
        first = children[0]
        raise UserError(
            f"{len(children)} more stages were made from what {options.target!r} names (first: {first.kind} "
            f"{first.id}, {_names(first)}); name them too, or add --with-children"
        )
    for stage in everything:
        print(f"{stage.kind:<10}  {stage.id}  {_size(size_of(store.folder(stage.kind, stage.id))):>9}  {_names(stage)}")
    for stage in shared:
        print(f"stays: {stage.kind} {stage.id}, which has other names too: {_names(stage)}")
    total = _size(sum(size_of(store.folder(stage.kind, stage.id)) for stage in everything))
    question = f"remove {len(everything)} stages, {total}"
    if not everything:
        print("nothing to remove")
        return
    if not options.yes:
        if not sys.stdin.isatty():
            raise UserError(f"to {question}, nobody can be asked here; add --yes")
        if input(f"{question}? [y/N] ").strip().casefold() not in ("y", "yes"):
            print("nothing was removed")
            return
    remove(store, everything)
    print(f"removed {len(everything)} stages, {total}; declarations of studies stay")


def _run(options: argparse.Namespace) -> None:
    """List, compare or remove."""
    store = ResultStore(options.results)
    if not store.root.is_dir():
        raise UserError(f"--results {str(store.root)!r} is no folder; name the one that runs were written to")
    if options.command == "remove":
        _remove(store, options)
    elif options.command == "diff":
        first, second = (resolve(store, text, options.kind) for text in (options.first, options.second))
        print("\n".join(difference(store, first, second)))
    else:
        lines = listing(store, options.study, (options.kind,) if options.kind else KINDS)
        print("\n".join(lines or [f"no stage under {store.root}"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """List, compare or remove, and return the exit code."""
    return finish(_run, _parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
