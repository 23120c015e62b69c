"""Import rules of docs/architecture.md, read from the syntax trees, and a proof that the check can fail."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HEAVY = {"torch", "lightning", "transformers", "peft", "faiss", "hydra", "wandb", "optuna", "omegaconf"}
STANDARD = set(sys.stdlib_module_names)

# module (prefix) -> what it may import: names of our modules (prefixes) and of packages beyond the standard library.
RULES: dict[str, set[str]] = {
    "ablate.records": set(),
    "ablate.randomness": {"numpy"},
    "ablate.reading": {"ablate.records"},
    "ablate.wordings": set(),
    "ablate.secrets": set(),
    "ablate.terminal": {"ablate.secrets"},
    "ablate.stored": {"ablate.drafts", "ablate.records"},
    "ablate.factors": {"ablate.records", "ablate.randomness", "ablate.wordings"},
    "ablate.config": {"ablate.factors", "ablate.records", "ablate.rules"},
    "ablate.overrides": {"hydra"},
    "ablate.study": {"ablate.config", "ablate.factors", "ablate.overrides", "ablate.records"},
    "ablate.process": set(),
    "ablate.interrupts": set(),
    "ablate.drafts": {"ablate.config", "ablate.process"},
    "ablate.lock": {"ablate.drafts", "ablate.process", "ablate.records", "ablate.terminal"},
    "ablate.results": {"ablate.config", "ablate.drafts", "ablate.factors", "ablate.lock", "ablate.records",
                       "ablate.secrets", "ablate.stored", "ablate.study"},
    "ablate.data.batches": {"ablate.config", "ablate.records", "ablate.randomness", "ablate.data", "numpy", "torch",
                            "transformers", "lightning"},
    "ablate.bm25": {"ablate.records", "numpy", "bm25s"},
    "ablate.data.mining": {"ablate.bm25", "ablate.data", "ablate.evaluation.protocol", "ablate.records", "numpy",
                           "faiss"},
    "ablate.data.official": {"ablate.config", "ablate.records", "mteb", "datasets"},
    "ablate.data.published": {"ablate.data", "ablate.reading", "ablate.records", "pyarrow", "datasets"},
    "ablate.data.rules": {"ablate.data", "ablate.reading", "ablate.records", "ablate.randomness", "ablate.rules"},
    "ablate.rules": {"ablate.records"},
    "ablate.data": {"ablate.config", "ablate.factors", "ablate.records", "ablate.results", "ablate.randomness",
                    "ablate.data", "ablate.reading", "ablate.stored", "numpy", "tqdm", "yaml"},
    "ablate.model": {"ablate.config", "ablate.records", "ablate.randomness", "ablate.data.batches", "ablate.model",
                     "numpy", "torch", "lightning", "transformers", "tokenizers", "safetensors", "peft", "tqdm"},
    "ablate.evaluation": {"ablate.config", "ablate.drafts", "ablate.reading", "ablate.records", "ablate.results",
                          "ablate.stored", "ablate.evaluation", "numpy", "faiss", "pytrec_eval", "pyarrow", "scipy",
                          "tqdm"},
    "ablate.evaluation.places": {"ablate.evaluation", "ablate.records", "numpy"},
    "ablate.evaluation.rankers": {"ablate.bm25", "ablate.evaluation", "ablate.randomness", "ablate.records", "numpy"},
    "ablate.evaluation.official": {"ablate.config", "ablate.evaluation", "ablate.records", "mteb", "datasets", "torch",
                                   "numpy"},
    "ablate.tracking": {"ablate.records", "ablate.secrets", "ablate.tracking", "wandb"},
    "ablate.stages": {"ablate", "torch"},
    "ablate.display": {"ablate"},
    "ablate.check": {"ablate", "analysis", "hydra", "omegaconf", "transformers"},
    "ablate.runs": {"ablate.config", "ablate.records", "ablate.results", "analysis.cli"},
    "ablate.finished": {"ablate"},
    "ablate.export": {"ablate"},
    "ablate.card": {"ablate"},
    "ablate.reproduce": {"ablate.config", "ablate.factors", "ablate.overrides", "ablate.records", "hydra",
                         "omegaconf", "yaml"},
    "ablate.search": {"ablate", "numpy"},
    "ablate.explain": {"ablate.config", "ablate.overrides", "ablate.records", "ablate.terminal", "hydra", "omegaconf",
                       "yaml"},
    "ablate.run": {"ablate", "hydra", "omegaconf", "optuna"},
    "ablate.tuning": {"ablate.config", "ablate.factors", "ablate.lock", "ablate.overrides", "ablate.records",
                      "ablate.results", "ablate.stages", "ablate.tuning", "hydra", "numpy", "optuna", "sqlalchemy",
                      "yaml"},
    "ablate.metering": {"pynvml", "torch"},
    "ablate.planning": {"ablate.config", "ablate.lock", "ablate.overrides", "ablate.records", "ablate.results",
                        "ablate.study"},
    "ablate.running": {"ablate.interrupts", "ablate.lock", "ablate.planning", "ablate.records", "ablate.results",
                       "ablate.terminal"},
    "ablate": set(),
    "analysis.__main__": {"ablate.__main__"},
    "analysis": {"ablate.records", "ablate.factors", "ablate.config", "ablate.overrides", "ablate.reading",
                 "ablate.results", "ablate.secrets", "ablate.stored", "ablate.study", "ablate.terminal",
                 "ablate.evaluation.measures",
                 "ablate.evaluation.places", "ablate.evaluation.protocol", "ablate.evaluation.storage",
                 "ablate.evaluation.trec", "ablate.evaluation.rankings", "ablate.randomness", "analysis", "numpy",
                 "scipy", "pyarrow", "yaml", "tqdm"},
}  # fmt: skip
ONLY_IN_FUNCTIONS = {"wandb", "optuna", "peft", "faiss", "datasets", "bm25s", "mteb", "pynvml"}


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
    for path in sorted([*(ROOT / "ablate").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")]):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_import_rules(module: str, path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), module) == []


def test_the_check_can_fail() -> None:
    assert violations("import torch", "ablate.config") == ["ablate.config imports torch"]
    assert violations("from ablate import run", "ablate.data.mix") == ["ablate.data.mix imports ablate.run"]
    assert violations("from ablate.model.encoder import x", "ablate.evaluation.protocol")
    assert violations("import numpy as np", "ablate.records") == ["ablate.records imports numpy"]
    outside = "ablate.tracking.wandb imports wandb outside a function"
    assert violations("import wandb", "ablate.tracking.wandb") == [outside]
    assert violations("def f():\n    import wandb", "ablate.tracking.wandb") == []
    assert violations("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", "ablate.config") == []


@pytest.mark.parametrize(
    "module",
    ["ablate.config", "ablate.data.mix", "ablate.evaluation.measures", "ablate.evaluation.protocol", "ablate.run",
     "ablate.export", "ablate.search", "ablate.reproduce", "analysis.budgets", "analysis.score", "analysis.import_run"],
)  # fmt: skip
def test_light_modules_load_nothing_heavy(module: str) -> None:
    heavy = sorted(HEAVY - {"hydra", "omegaconf"} if module == "ablate.run" else HEAVY)
    code = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
