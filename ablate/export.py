"""A trained model leaves the project: a directory that sentence-transformers and plain transformers load.

python -m ablate.export STUDY/ARM:SEED --to DIR [--results results]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.cli.command import command, finish, output_place
from ablate.recipe.schema import ModelConfig
from ablate.records import UserError
from ablate.release.finished import FinishedRun, find_run, recipe_values
from ablate.store.drafts import draft_of, sweep
from ablate.store.files import disk_trouble
from ablate.store.integrity import give_usual_modes
from ablate.store.results import ResultStore

if TYPE_CHECKING:
    from ablate.release.card import Measured, Origin

RECIPE_FILE = "training_recipe.json"


def export(run: FinishedRun, target: Path, *, trust_remote_code: bool = False) -> Path:
    """Write a run's model, its recipe and its card to a directory that must not exist yet; all of it or nothing.

    The files are checked before they get their name: plain transformers must give our vectors from them. Raises
    UserError for a target that is there already, and as `write_portable` and `check_portable` do.
    """
    target = Path(os.path.abspath(target))
    if target.exists() or target.is_symlink():
        raise UserError(f"--to {str(target)!r} is there already; an export never writes over anything: name a new one")
    run.loadable(trust_remote_code=trust_remote_code)
    from ablate.release.portable import check_portable, write_portable

    draft = draft_of(target)
    sweep([target.parent])
    try:
        draft.mkdir(parents=True)
        encoder = run.encoder(trust_remote_code=trust_remote_code)
        write_portable(encoder, run.model_folder, draft)
        check_portable(encoder, draft)
        recipe = _without_places({"recipe": recipe_values(run.recipe), "seed": run.manifest.seed})
        (draft / RECIPE_FILE).write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
        (draft / "README.md").write_text(_card(run, encoder), encoding="utf-8")
        files = [path for path in draft.rglob("*") if path.is_file()]
        give_usual_modes(files)
        for path in files:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        os.rename(draft, target)  # onto a folder that someone made meanwhile only if it is empty
    except OSError as error:
        if disk_trouble(error):
            raise
        raise UserError(f"--to {str(target)!r} cannot be written ({error.strerror}); name another place") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _card(run: FinishedRun, encoder: Any) -> str:
    from ablate.release.card import model_card
    from ablate.release.portable import takes_pooling_layer
    from ablate.release.reproduce import baseline_of, command_of

    return model_card(
        run,
        origin_of(run),
        _measured(run),
        other_seeds=list(run.other_seeds()),
        baseline=next(filter(None, map(baseline_of, run.arms)), None),
        command=next(
            (command_line for arm in run.arms if (command_line := command_of(run.recipe, run.manifest.seed, arm))), None
        ),
        add_pooling_layer=takes_pooling_layer(encoder.network),
    )


def _measured(run: FinishedRun) -> list[Measured]:
    from ablate.release.card import Measured

    others = {seed: other.evaluations() for seed, other in run.other_seeds().items()}
    measured = []
    for manifest, evaluation in run.evaluations():
        seeds = {run.manifest.seed: evaluation}
        for seed, evaluations in others.items():
            for other, scores in evaluations:
                if other.recipe["evaluation"] == manifest.recipe["evaluation"]:
                    seeds[seed] = scores
        measured.append(Measured(manifest.id, evaluation, run.untouched(manifest), seeds))
    return measured


def origin_of(run: FinishedRun) -> Origin:
    """Return what is known of a run's backbone; its licence is read from its own card where that lies here."""
    from ablate.model.backbone import EMBEDDED_DISTRIBUTION, EMBEDDED_MODEL, resolve_backbone
    from ablate.release.card import Origin

    model: ModelConfig = run.recipe.model
    if model.is_drawn:
        drawn = (
            "a small BERT whose weights were drawn, for tests" if model.tiny else "a table of vectors that were drawn"
        )
        return Origin(None, drawn, None)
    if model.path is None:
        base, described = EMBEDDED_MODEL, f"{EMBEDDED_MODEL} (from the package {EMBEDDED_DISTRIBUTION})"
    elif model.hub_revision is not None:
        return Origin(model.path, f"{model.path} at commit {model.hub_revision}", None)
    else:
        base, described = None, f"a local directory called {Path(model.path).name}"
    try:
        backbone = resolve_backbone(model)
    except UserError:  # it is not here any more, or other weights lie there: then nothing is known
        return Origin(base, described, None)
    if backbone.revision != run.manifest.recipe["model"]["revision"]:
        return Origin(base, described, None)
    return Origin(base, described, license_in(Path(backbone.place) / "README.md"))


def license_in(card: Path) -> str | None:
    """Return the licence identifier in the front matter of a model card, or None."""
    try:
        head = card.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    block = re.match(r"---\s*\n(.*?)\n---", head, re.S)
    match = re.search(r"^license:\s*[\"']?([\w.+-]+)[\"']?\s*$", block[1], re.M) if block else None
    return match[1] if match else None


def _without_places(value: Any) -> Any:
    """Return plain values with every local path replaced by null: it means nothing elsewhere. Hub ids stay."""
    if isinstance(value, dict):
        local = {"judgments", *(("path",) if value.get("hub_revision") is None else ())}
        return {name: None if name in local else _without_places(item) for name, item in value.items()}
    return [_without_places(item) for item in value] if isinstance(value, list) else value


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command(
        "ablate.export",
        "Write a trained model as a directory for sentence-transformers and transformers, with its card.",
        "single_runs/dual_view:0 --to exported/dual_view",
    )
    made.add_argument("run", metavar="RUN", help="a train id, the beginning of one, or study/arm:seed")
    made.add_argument("--to", type=output_place, required=True, metavar="DIR", help="new directory to write")
    made.add_argument("--results", default="results", help="folder of results (default: results)")
    add_trust(made)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Export one run and return the exit code."""
    return finish(_export, parser(), arguments)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the word of the person that code which comes with a model may be run; no file can give it."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python code in the run's model folder, where its backbone has some; read it first",
    )


def _export(options: argparse.Namespace) -> None:
    run = find_run(ResultStore(options.results), options.run)
    target = export(run, options.to, trust_remote_code=options.trust_remote_code)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{', '.join(run.manifest.labels)} seed {run.manifest.seed} (run {run.manifest.id}) -> {target}")
    reader = "plain transformers" if run.recipe.model.static is None else "safetensors with tokenizers"
    print(f"  {size / 1e6:.1f} MB; {reader} gives the same vectors from it (checked)")
    print(f"  read {target / 'README.md'}: how to pose a query, what it was trained on, what it scored")


if __name__ == "__main__":
    sys.exit(main())
