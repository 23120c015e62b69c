"""Import rules of docs/architecture.md, read from the syntax trees, and a proof that the check can fail.

python tests/test_imports.py        the rooms with their floors and arrows
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGES = ("ablate", "analysis", "benchmarks", "hydra_plugins")
HEAVY = {"torch", "lightning", "transformers", "peft", "faiss", "hydra", "wandb", "optuna", "omegaconf"}
STANDARD = set(sys.stdlib_module_names)

# module (prefix) -> what it may import: names of our modules (prefixes) and of packages beyond the standard library.
RULES: dict[str, set[str]] = {
    "ablate.records": set(),
    "ablate.randomness": {"numpy"},
    "ablate.project": set(),
    "ablate.plugins": {"ablate.records"},
    "ablate.reading": {"ablate.records"},
    "ablate.secrets": set(),
    "ablate.terminal": {"ablate.secrets"},
    "ablate.tables": {"ablate.records", "ablate.terminal"},
    "ablate.timing": set(),
    "ablate.recipe": {"ablate.recipe", "ablate.plugins", "ablate.records", "ablate.randomness"},
    "ablate.cli": {
        "ablate.cli",
        "ablate.project",
        "ablate.recipe",
        "ablate.records",
        "ablate.terminal",
        "ablate.store.files",
        "hydra",
        "omegaconf",
        "yaml",
        "pyarrow",
    },
    "ablate.store": {
        "ablate.store",
        "ablate.plugins",
        "ablate.project",
        "ablate.recipe",
        "ablate.records",
        "ablate.secrets",
        "ablate.terminal",
        "ablate.timing",
        "pynvml",
        "torch",
    },
    "ablate.study": {
        "ablate.study",
        "ablate.cli.overrides",
        "ablate.cli.interrupts",
        "ablate.recipe",
        "ablate.records",
        "ablate.secrets",
        "ablate.store",
        "ablate.terminal",
    },
    "ablate.study.__main__": {"ablate.cli", "ablate.project", "ablate.recipe", "ablate.records", "ablate.study"},
    "ablate.reference": {
        "ablate.cli",
        "ablate.compose",
        "ablate.plugins",
        "ablate.project",
        "ablate.recipe",
        "ablate.tables",
    },
    "ablate.tracking": {
        "ablate.tracking",
        "ablate.project",
        "ablate.reading",
        "ablate.records",
        "ablate.secrets",
        "google",
        "trackio",
        "wandb",
    },
    "ablate.retrieval": {
        "ablate.retrieval",
        "ablate.recipe",
        "ablate.records",
        "ablate.store",
        "ablate.timing",
        "numpy",
        "faiss",
        "bm25s",
        "Stemmer",
        "tqdm",
    },
    "ablate.data": {
        "ablate.data",
        "ablate.plugins",
        "ablate.recipe",
        "ablate.records",
        "ablate.randomness",
        "ablate.reading",
        "ablate.store.files",
        "ablate.store.integrity",
        "ablate.timing",
        "numpy",
        "tqdm",
        "yaml",
    },
    "ablate.data.batches": {
        "ablate.data",
        "ablate.recipe",
        "ablate.records",
        "ablate.randomness",
        "ablate.timing",
        "numpy",
        "torch",
    },
    "ablate.data.mined": {"ablate.data", "ablate.retrieval.bm25", "ablate.retrieval.mining", "ablate.records", "tqdm"},
    "ablate.data.official": {"ablate.recipe", "ablate.records", "mteb", "datasets"},
    "ablate.data.published": {"ablate.data", "ablate.reading", "ablate.records", "pyarrow", "datasets"},
    "ablate.model": {
        "ablate.model",
        "ablate.data.batches",
        "ablate.recipe",
        "ablate.records",
        "ablate.randomness",
        "ablate.timing",
        "numpy",
        "torch",
        "lightning",
        "transformers",
        "tokenizers",
        "safetensors",
        "peft",
        "tqdm",
    },
    "ablate.model.tokens": {"ablate.records", "ablate.store.drafts", "ablate.store.files", "numpy", "tokenizers"},
    "ablate.evaluation": {
        "ablate.evaluation",
        "ablate.plugins",
        "ablate.retrieval",
        "ablate.recipe",
        "ablate.records",
        "ablate.randomness",
        "ablate.reading",
        "ablate.store",
        "ablate.timing",
        "numpy",
        "pyarrow",
        "scipy",
    },
    "ablate.evaluation.official": {
        "ablate.evaluation",
        "ablate.recipe",
        "ablate.records",
        "ablate.retrieval.vectors",
        "mteb",
        "datasets",
        "torch",
        "numpy",
    },
    "ablate.engine": {
        "ablate.engine",
        "ablate.data",
        "ablate.evaluation",
        "ablate.model",
        "ablate.recipe",
        "ablate.records",
        "ablate.retrieval",
        "ablate.secrets",
        "ablate.store",
        "ablate.study",
        "ablate.tables",
        "ablate.timing",
        "ablate.tracking",
        "torch",
    },
    "ablate.release": {
        "ablate.release",
        "ablate.cli.overrides",
        "ablate.engine.display",
        "ablate.evaluation",
        "ablate.model",
        "ablate.recipe",
        "ablate.records",
        "ablate.secrets",
        "ablate.store",
        "jinja2",
        "numpy",
        "safetensors.torch",
        "tokenizers",
        "torch",
        "transformers",
        "yaml",
    },
    "ablate.release.reproduce": {
        "ablate.cli.overrides",
        "ablate.compose",
        "ablate.project",
        "ablate.recipe",
        "ablate.records",
        "yaml",
    },
    "ablate.tuning": {
        "ablate.tuning",
        "ablate.cli.overrides",
        "ablate.engine.recorder",
        "ablate.recipe",
        "ablate.records",
        "ablate.store",
        "hydra",
        "numpy",
        "optuna",
        "sqlalchemy",
        "yaml",
    },
    "ablate.synthesis": {
        "ablate.synthesis",
        "ablate.data.judgments",
        "ablate.data.published.synthesized",
        "ablate.project",
        "ablate.randomness",
        "ablate.reading",
        "ablate.recipe",
        "ablate.records",
        "ablate.secrets",
        "ablate.store",
        "httpx2",
        "jinja2",
        "openai",
        "pydantic",
        "torch",
        "transformers",
        "yaml",
    },
    "ablate.compose": {
        "ablate.cli",
        "ablate.project",
        "ablate.recipe",
        "ablate.records",
        "ablate.study",
        "hydra",
        "omegaconf",
    },
    "ablate.run": {
        "ablate.cli",
        "ablate.compose",
        "ablate.engine",
        "ablate.model",
        "ablate.project",
        "ablate.recipe",
        "ablate.study",
        "ablate.terminal",
        "ablate.timing",
        "ablate.tuning",
        "hydra",
        "omegaconf",
        "optuna",
    },
    "ablate.check": {
        "ablate.cli",
        "ablate.compose",
        "ablate.data",
        "ablate.evaluation",
        "ablate.model",
        "ablate.recipe",
        "ablate.records",
        "ablate.store",
        "ablate.study",
        "ablate.tables",
        "analysis.verdict.declarable",
        "omegaconf",
        "transformers",
    },
    "ablate.world_checks": {
        "ablate.cli",
        "ablate.compose",
        "ablate.data",
        "ablate.evaluation",
        "ablate.randomness",
        "ablate.recipe",
        "ablate.records",
        "ablate.retrieval",
        "ablate.tables",
        "numpy",
    },
    "ablate.runs": {"ablate.cli", "ablate.recipe", "ablate.records", "ablate.store"},
    "ablate.export": {
        "ablate.cli",
        "ablate.model",
        "ablate.recipe",
        "ablate.records",
        "ablate.release",
        "ablate.store",
        "ablate.terminal",
    },
    "ablate.testbed": {
        "ablate.cli",
        "ablate.compose",
        "ablate.data",
        "ablate.records",
        "ablate.store",
    },
    "ablate.search": {
        "ablate.data",
        "ablate.export",
        "ablate.model",
        "ablate.records",
        "ablate.release",
        "ablate.retrieval",
        "ablate.store",
        "ablate.terminal",
        "numpy",
    },
    "ablate.synthesize": {
        "ablate.cli",
        "ablate.compose",
        "ablate.data",
        "ablate.recipe",
        "ablate.records",
        "ablate.store",
        "ablate.synthesis",
        "tqdm",
    },
    "ablate": set(),
    "hydra_plugins": {
        "ablate.compose",
        "ablate.engine",
        "ablate.model.device",
        "ablate.project",
        "ablate.recipe",
        "ablate.records",
        "ablate.store",
        "ablate.study",
        "ablate.terminal",
        "ablate.tuning",
        "analysis.verdict.declarable",
        "hydra",
        "hydra_plugins.hydra_submitit_launcher",
        "joblib",
        "omegaconf",
        "submitit",
    },
    "analysis.__main__": {"ablate.__main__"},
    "analysis.stats": {
        "analysis.stats",
        "ablate.evaluation.collapse",
        "ablate.evaluation.measures",
        "ablate.recipe",
        "ablate.records",
        "ablate.reading",
        "ablate.tables",
        "numpy",
        "scipy",
        "pyarrow",
    },
    "analysis.audit": {
        "analysis.audit",
        "analysis.stats.corrections",
        "ablate.data.judgments",
        "ablate.randomness",
        "ablate.reading",
        "ablate.records",
        "ablate.store.files",
        "ablate.tables",
        "numpy",
        "scipy",
    },
    "analysis.audit.twins": {
        "analysis.audit",
        "ablate.data.judgments",
        "ablate.data.mix",
        "ablate.data.sources",
        "ablate.data.truth",
        "ablate.recipe",
        "ablate.records",
        "ablate.store",
    },
    "analysis.study": {
        "analysis.study",
        "analysis.stats",
        "ablate.cli.command",
        "ablate.cli.overrides",
        "ablate.data.checking",
        "ablate.data.composition",
        "ablate.data.mix",
        "ablate.data.overlap",
        "ablate.data.sources",
        "ablate.evaluation",
        "ablate.project",
        "ablate.recipe",
        "ablate.records",
        "ablate.secrets",
        "ablate.store",
        "ablate.study.declaration",
        "ablate.study.records",
        "ablate.tables",
        "numpy",
        "pyarrow",
        "tqdm",
        "yaml",
    },
    "analysis.external": {
        "analysis.external",
        "analysis.stats",
        "ablate.evaluation",
        "ablate.reading",
        "ablate.recipe",
        "ablate.records",
        "ablate.retrieval.rankings",
        "ablate.store",
        "ablate.tracking.elsewhere",
        "numpy",
    },
    "analysis.verdict": {
        "analysis.verdict",
        "analysis.study",
        "analysis.stats",
        "ablate.evaluation",
        "ablate.recipe",
        "ablate.records",
        "ablate.store",
        "ablate.study.declaration",
        "ablate.study.records",
        "ablate.tables",
        "scipy",
    },
    "analysis.page": {
        "analysis.page",
        "analysis.audit",
        "analysis.verdict",
        "analysis.study",
        "analysis.stats",
        "ablate.data.composition",
        "ablate.evaluation.measures",
        "ablate.recipe.values",
        "ablate.records",
        "ablate.store",
        "ablate.study.declaration",
        "ablate.tables",
        "ablate.terminal",
        "ablate.tracking.ledger",
        "jinja2",
        "ablate.tracking.names",
        "ablate.secrets",
        "markupsafe",
        "numpy",
        "vl_convert",
        "wandb_workspaces",
    },
    "analysis": {
        "analysis.audit",
        "analysis.external",
        "analysis.page",
        "analysis.stats",
        "analysis.study",
        "analysis.verdict",
        "ablate.cli.command",
        "ablate.data.judgments",
        "ablate.evaluation",
        "ablate.reading",
        "ablate.records",
        "ablate.store",
        "ablate.tables",
        "ablate.tracking.elsewhere",
        "ablate.tracking.sync",
        "numpy",
        "pyarrow",
        "rich",
    },
    "benchmarks": {
        "benchmarks",
        "ablate.check",
        "ablate.cli",
        "ablate.compose",
        "ablate.data",
        "ablate.engine",
        "ablate.evaluation",
        "ablate.model",
        "ablate.project",
        "ablate.randomness",
        "ablate.recipe",
        "ablate.records",
        "ablate.retrieval",
        "ablate.run",
        "ablate.store",
        "ablate.study",
        "ablate.tables",
        "ablate.tracking",
        "ablate.tuning",
        "analysis.audit",
        "analysis.page",
        "analysis.stats",
        "analysis.study",
        "numpy",
        "scipy",
        "torch",
        "datasets",
        "sentence_transformers",
        "faiss",
        "optuna",
        "mteb",
        "pyarrow",
        "pytest",
        "pytrec_eval",
        "safetensors",
        "tqdm",
        "transformers",
    },
}
ONLY_IN_FUNCTIONS = {
    "trackio",
    "wandb",
    "optuna",
    "peft",
    "faiss",
    "datasets",
    "sentence_transformers",
    "bm25s",
    "mteb",
    "pynvml",
    "openai",
    "httpx2",
    "vl_convert",
    "wandb_workspaces",
}


def imports(source: str, module: str) -> list[tuple[str, bool]]:
    """Return (imported module, inside a function) for every import that runs, type-checking blocks left out."""
    found: list[tuple[str, bool]] = []

    def walk(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found.append((node.module or "", inside))
            if node.module == "ablate":
                found.extend((f"ablate.{alias.name}", inside) for alias in node.names)
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.iter_child_nodes(node):
            walk(child, inside)

    walk(ast.parse(source), False)
    return [(name, inside) for name, inside in found if name != "ablate"]


def under(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def violations(source: str, module: str) -> list[str]:
    """Return what a module imports against the rules."""
    rule = max((name for name in RULES if module == name or module.startswith(name + ".")), key=len)
    wrong = []
    for name, inside in imports(source, module):
        top = name.split(".")[0]
        if top in STANDARD:
            continue
        if not under(name, RULES[rule]):
            wrong.append(f"{module} imports {name}")
        elif top in ONLY_IN_FUNCTIONS and not inside:
            wrong.append(f"{module} imports {name} outside a function")
    return wrong


@pytest.mark.parametrize("path", sorted((ROOT / "ablate" / "tuning").glob("*.py")), ids=lambda path: path.stem)
def test_tuning_loads_hydra_in_functions_only(path: Path) -> None:
    found = imports(path.read_text(encoding="utf-8"), path.stem)
    assert [name for name, inside in found if name.split(".")[0] in ("hydra", "sqlalchemy") and not inside] == []


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_import_rules(module: str, path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), module) == []


COMPOSING = {"initialize_config_dir", "load_sweep_config", "parse_overrides"}
"""What of Hydra composes a configuration, or takes a command line apart."""


def used(source: str) -> set[str]:
    """Return the names that a module imports, reads or calls."""
    return {
        str(getattr(node, field))
        for node in ast.walk(ast.parse(source))
        for field in ("attr", "id", "name")
        if hasattr(node, field)
    }


def test_configurations_are_composed_in_one_place() -> None:
    composing = {name for name, path in modules() if used(path.read_text(encoding="utf-8")) & COMPOSING}
    assert composing == {"ablate.compose"}


def test_the_check_can_fail() -> None:
    assert violations("import torch", "ablate.recipe.schema") == ["ablate.recipe.schema imports torch"]
    assert violations("from ablate import run", "ablate.data.mix") == ["ablate.data.mix imports ablate.run"]
    assert violations("from ablate.model.encoder import x", "ablate.evaluation.summary")
    assert violations("import numpy as np", "ablate.records") == ["ablate.records imports numpy"]
    outside = "ablate.tracking.wandb imports wandb outside a function"
    assert violations("import wandb", "ablate.tracking.wandb") == [outside]
    assert violations("def f():\n    import wandb", "ablate.tracking.wandb") == []
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"
    assert violations(for_types, "ablate.recipe.schema") == []


GROUND = ("project", "plugins", "records", "randomness", "reading", "secrets", "terminal", "tables", "timing")


def room_of(module: str) -> str:
    """Return the room of a module: its folder; of files outside rooms, the ground, the composer or the commands."""
    package, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    if package in ("benchmarks", "hydra_plugins") or (ROOT / package / name).is_dir() and name:
        return package if package in ("benchmarks", "hydra_plugins") else f"{package}.{name}"
    if module == "ablate.compose":
        return module
    return f"{package} (ground)" if name in GROUND else f"{package} (commands)"


def rooms() -> dict[str, set[str]]:
    """Return room -> rooms that it imports from."""
    known = {module: room_of(module) for module, _ in modules()}
    arrows: dict[str, set[str]] = {room: set() for room in known.values()}
    for module, path in modules():
        for name, _ in imports(path.read_text(encoding="utf-8"), module):
            target = known.get(name, known[module])
            if target != known[module]:
                arrows[known[module]].add(target)
    return arrows


def floors(arrows: Mapping[str, set[str]]) -> dict[str, int]:
    """Return room -> floor: 1 for what imports from no room, else one above the highest below; raises for a circle."""
    heights: dict[str, int] = {}
    for room in graphlib.TopologicalSorter(arrows).static_order():
        heights[room] = 1 + max((heights[below] for below in arrows[room]), default=0)
    return heights


def test_no_room_leads_back_to_itself() -> None:
    assert max(floors(rooms()).values()) > 1
    with pytest.raises(graphlib.CycleError):
        floors({"a": {"b"}, "b": {"a"}})


@pytest.mark.parametrize(
    "module",
    [
        "ablate.recipe.schema",
        "ablate.data.mix",
        "ablate.evaluation.measures",
        "ablate.evaluation.summary",
        "ablate.run",
        "ablate.compose",
        "ablate.export",
        "ablate.search",
        "ablate.synthesize",
        "ablate.release.reproduce",
        "analysis.annotate",
        "analysis.budgets",
        "analysis.leaks",
        "analysis.dose_response",
        "analysis.explain",
        "analysis.noise_floor",
        "analysis.report",
        "analysis.score",
        "analysis.import_run",
        "analysis.wandb_report",
        "analysis.wandb_sync",
    ],
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    heavy = sorted(HEAVY - {"hydra", "omegaconf"} if module in ("ablate.run", "ablate.compose") else HEAVY)
    code = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_what_a_run_works_with_loads_nothing_that_it_does_not_use() -> None:
    parts = ("engine.stages", "engine.prepare", "evaluation.scoring", "evaluation.storage", "model.encoder")
    unused = ("bm25s", "datasets", "faiss", "lightning", "optuna", "pandas", "peft", "pytrec_eval", "scipy", "wandb")
    loaded = f"[name for name in {unused} if name in sys.modules]"
    code = f"import sys, {', '.join(f'ablate.{part}' for part in parts)}; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


if __name__ == "__main__":
    arrows = rooms()
    heights = floors(arrows)
    for room in sorted(arrows, key=lambda room: (-heights[room], room)):
        print(f"{heights[room]:>2}  {room:<22} <- {', '.join(sorted(arrows[room]))}")
    num_arrows = sum(map(len, arrows.values()))
    print(f"{len(arrows)} rooms, {max(heights.values())} floors, {num_arrows} arrows between rooms")
