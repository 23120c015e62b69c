"""Finished mixes of small sources in a folder of results, for tests of what is read from one: nothing is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from conftest import run_config

from ablate.data.mix import build_mix, write_mix
from ablate.data.sources import RowSource, open_source
from ablate.recipe.identity import Revisions, identify
from ablate.recipe.rules import Rule
from ablate.store.manifest import Manifest
from ablate.store.results import ResultStore

WORLD = ("source.documents=600",)


def make_mix(
    root: Path,
    arm: str,
    *overrides: str,
    seed: int = 0,
    limit: int = 128,
    source: RowSource | None = None,
    rules: tuple[Rule, ...] = (),
) -> Manifest:
    """Leave the mix of an arm in a folder of results, as the study `twins`.

    `source`: instead of the recipe's own; `rules`: instead of those of its source.
    """
    config = run_config(f"+experiment={arm}", f"budget.limit={limit}", *(overrides or WORLD))
    own = config.recipe
    if rules:
        own = dataclasses.replace(own, source=dataclasses.replace(own.source, rules=rules))
    opened = source or open_source(own.source, ())
    mix = build_mix(opened, own, seed)
    recipe: dict[str, Any] = identify(own, seed, Revisions(source=opened.revision, model="m")).mix
    store = ResultStore(root)
    with store.making("mix", recipe) as folder:
        assert folder is not None
        return store.complete(
            "mix",
            recipe,
            files=write_mix(folder, mix),
            parents=(),
            seed=seed,
            label=f"twins/{config.runtime.label}",
            counts=mix.card,
            hardware={},
            cost={},
            started="2026-01-01T00:00:00+00:00",
        )
