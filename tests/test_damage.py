"""Damage in finished stages: every file, every kind of damage, every reader; and what of results may be read how."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import io
import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, override, run_config

from ablate.engine import stages
from ablate.engine.prepare import prepare
from ablate.records import UserError
from ablate.release.finished import find_run
from ablate.run import lead
from ablate.store import files
from ablate.store import integrity as stored
from ablate.store.manifest import read_manifest
from ablate.store.results import ResultStore
from analysis import budgets, collect, costs, fairness, significance

OVERRIDES = (
    "+experiment=dual_view",
    "seed=0",
    "model=tiny",
    "source.documents=600",
    "evaluation.sets=[test]",
    "budget.limit=16",
    "train.batch_size=8",
    "tracker=none",
    "runtime.dev_set=null",
    "runtime.threads=1",
    "runtime.study=polarity",
    "runtime.baseline=null",
)
"""Of the run with seed 0 in `tiny_runs`."""


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def grow(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def vanish(path: Path, other: Path) -> None:
    path.unlink()


def exchange(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


KINDS = (flip, truncate, empty, grow, vanish, exchange)


def said(command: Callable[[], object]) -> tuple[str, str]:
    """Return ("ok", output) or ("error", message) of a reader; anything but a UserError is a failure of the test."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            command()
    except UserError as error:
        return "error", str(error)
    return "ok", out.getvalue()


def readers(results: Path) -> dict[str, Callable[[], object]]:
    """Return the commands that read results, without their start."""
    run = prepare(run_config(*OVERRIDES, override("runtime.results", str(results))))
    study = ["polarity", "--results", str(results)]

    def again() -> None:
        now = dataclasses.replace(run)  # nothing that is cached of it
        with stages.processes(now) as world:
            lead(now, world, None, None)

    def finished() -> None:
        found = find_run(ResultStore(results), "polarity/dual_view:0")
        print(found.recipe, found.model_folder, [scores.summary() for _, scores in found.evaluations()])

    def analysis(module: object, *more: str) -> Callable[[], object]:
        return lambda: module._run(module.parser().parse_args([*study, *more]))  # type: ignore[attr-defined]

    return {
        "ablate.run": again,
        "finished": finished,
        "collect": analysis(collect),
        "budgets": analysis(budgets),
        "costs": analysis(costs),
        "fairness": analysis(fairness, "--models"),
        "significance": analysis(significance, "--contrast", "dual_view - untouched", "--measure", "nDCG@10"),
    }


def pairs(results: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file of the stages of seed 0 with that of seed 1."""
    store = ResultStore(results)
    for kind in ("mix", "train", "evaluation"):
        first, second = (
            store.folder(kind, next(m for m in store.manifests(kind) if m.seed == seed and has_arm(m.labels)).id)
            for seed in (0, 1)
        )
        for path in sorted(path for path in first.rglob("*") if path.is_file() and path.name != "ledger.jsonl"):
            yield path, second / path.relative_to(first)


def has_arm(labels: tuple[str, ...]) -> bool:
    return "polarity/dual_view" in labels


def test_no_damage_gives_other_numbers_or_a_traceback(own_tiny_runs: Path) -> None:
    commands = readers(own_tiny_runs)
    before = {name: said(command) for name, command in commands.items()}
    assert {kind for kind, _ in before.values()} == {"ok"}, before
    files = list(pairs(own_tiny_runs))
    assert len(files) == 3 + 7 + 9
    turns = itertools.cycle(commands)  # two for each damage: every command meets every file
    refused: dict[str, set[str]] = {}
    for path, other in files:
        for damage in KINDS:
            whole = path.read_bytes()
            if damage is vanish and path.name == "manifest.json" or damage is exchange and whole == other.read_bytes():
                damage = flip  # without its manifest a stage is not complete; what is equal cannot be exchanged
            damage(path, other)
            for name in itertools.islice(turns, 2):
                kind, text = said(commands[name])
                what = f"{name} after {damage.__name__} of {path}: {text}"
                shown = str(path.relative_to(own_tiny_runs))
                if kind == "error":
                    assert shown in text and ("delete" in text or "move the folder" in text) and "\n" not in text, what
                    refused.setdefault(name, set()).add(path.name)
                elif name in ("fairness", "significance") and text != before[name][1]:
                    assert "FAILED" in text and (name == "significance" or f"{shown} " in text), what
                else:
                    assert text == before[name][1], what
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
    names = {path.name for path, _ in files}
    assert refused["ablate.run"] >= names - {"workload.json"} and "workload.json" in refused["budgets"]
    assert refused["finished"] >= names - {"workload.json", "groups.jsonl.gz", "passages.jsonl.gz"}
    assert refused["collect"] >= {"scores.parquet", "manifest.json"}


def test_another_arms_model_is_not_measured_under_this_id(own_tiny_runs: Path) -> None:
    weights = {path: other for path, other in pairs(own_tiny_runs) if path.name == "model.safetensors"}
    ((path, other),) = weights.items()
    exchange(path, other)
    store = ResultStore(own_tiny_runs)
    evaluation = next(m for m in store.manifests("evaluation") if m.parents == (path.parent.parent.name,))
    shutil.rmtree(store.folder("evaluation", evaluation.id))
    kind, text = said(readers(own_tiny_runs)["ablate.run"])
    assert kind == "error" and f"{path} was changed (" in text and f"delete {path.parent.parent} and issue" in text
    assert "(polarity/dual_view seed 0)" in text and not store.folder("evaluation", evaluation.id).exists()


def test_a_file_is_read_once_for_its_digest(tiny_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(stored, "_digests", {})
    monkeypatch.setattr(stored, "sha256_of", lambda path, once=stored.sha256_of: read.append(path) or once(path))
    for _ in range(2):
        find_run(ResultStore(tiny_runs), "polarity/dual_view:0").evaluations()
    assert len(read) == len(set(read)) > 8


def test_manifests_of_before_sizes_and_checksums_are_read(own_tiny_runs: Path) -> None:
    before = said(readers(own_tiny_runs)["finished"])
    for path in own_tiny_runs.glob("*/*/manifest.json"):
        values = json.loads(path.read_text())
        del values["content_bytes"], values["checksum"]
        path.write_text(json.dumps(values))
        manifest = read_manifest(path.parent)
        assert manifest is not None and (manifest.content_bytes, manifest.checksum) == ({}, "")
    assert said(readers(own_tiny_runs)["finished"]) == before
    path, other = next((path, other) for path, other in pairs(own_tiny_runs) if path.name == "scores.parquet")
    flip(path, other)
    assert said(readers(own_tiny_runs)["finished"])[0] == "error"


def test_a_gzip_bomb_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setattr(stored, "FREE_BYTES", 1000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(UserError, match=r"bomb\.gz unpacks to more than .* bytes, 200 times its size; delete it"):
        stored.unpacked(tmp_path / "bomb.gz", "delete it")
    (tmp_path / "fine.gz").write_bytes(gzip.compress(b"x" * 900))
    assert stored.unpacked(tmp_path / "fine.gz", "") == b"x" * 900


@pytest.mark.parametrize("name", ["", "..", "../x", "a/../../x", "/etc/passwd", "./a", "a//b", "a\0b", "a/.."])
def test_names_that_leave_a_folder(name: str) -> None:
    assert not stored.is_inside(name)


@pytest.mark.parametrize("name", ["a", "model/x.safetensors", "rankings/world_test.plain.trec.gz", "a..b"])
def test_names_that_stay_in_a_folder(name: str) -> None:
    assert stored.is_inside(name)


def test_all_files_have_the_mode_of_the_umask(tiny_runs: Path, tmp_path: Path) -> None:
    modes = {
        stat.S_IMODE(path.stat().st_mode)
        for kind in ("mixes", "runs", "evals")
        for path in (tiny_runs / kind).rglob("*")
        if path.is_file()
    }
    (tmp_path / "usual").touch()
    assert modes == {stat.S_IMODE((tmp_path / "usual").stat().st_mode)}
    (tmp_path / "own").touch(mode=0o600)
    stored.give_usual_modes([tmp_path / "own"])
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) in modes and len(list(tmp_path.iterdir())) == 2


def test_a_finished_run_is_shown_from_a_read_only_disk(
    tiny_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", "results")

    for name in ("link", "replace", "rename", "mkdir", "unlink"):
        monkeypatch.setattr(os, name, refused)
    monkeypatch.setattr(Path, "touch", refused)
    config = run_config(*OVERRIDES, override("runtime.results", str(tiny_runs)))
    for label, words in (("dual_view", ""), ("another", "does not get the name polarity/another")):
        named = dataclasses.replace(config, runtime=dataclasses.replace(config.runtime, label=label))
        run = prepare(config)
        run.config = named
        with stages.processes(run) as world:
            lead(run, world, None, None)
        captured = capsys.readouterr()
        assert "p-MRR" in captured.out and "world/test" in captured.out
        assert words in captured.err and (words or not captured.err)


# Who may open what: read from the syntax trees, with a proof that the check can fail.

WRITERS = {
    "ablate/runs.py": {"listing", "_remove", "remove"},
    "ablate/engine/stages.py": {"_fit", "check_model"},
    "ablate/engine/recorder.py": {"tracker"},
    "ablate/store/results.py": None,
    "ablate/engine/display.py": {"show_scores", "show_baseline", "_place"},
    "ablate/release/finished.py": {"_open"},
    "analysis/external/imported.py": {"_check_free"},
    "analysis/import_run.py": {"_show"},
}
"""Module -> functions that may ask for the folder of a stage: they write, name or remove it."""


def askers(source: str) -> set[str]:
    """Return the functions that call `….folder(kind, id)` of a store."""
    found = set()
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "folder":
                    if len(node.args) == 2:
                        found.add(function.name)
    return found


def modules() -> list[Path]:
    return sorted(path for top in ("ablate", "analysis", "hydra_plugins") for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_results_are_read_through_the_store_alone(path: Path) -> None:
    allowed = WRITERS.get(str(path.relative_to(ROOT)), set())
    assert allowed is None or askers(path.read_text(encoding="utf-8")) <= allowed


def test_the_check_of_readers_can_fail() -> None:
    assert askers("def f(store):\n    open(store.folder('mix', 'x') / 'y')") == {"f"}
    assert askers("def f(plan):\n    return plan.folder('results')") == set()


def dangers(source: str) -> list[str]:
    """Return calls that run what a file says: pickles, unsafe YAML, code of the hub that no person asked for."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in ("pickle", "cPickle", "dill", "shelve")]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(name)
        if name.startswith("yaml.") and name.rpartition(".")[2] in ("unsafe_load", "full_load", "load_all"):
            found.append(name)
        if name == "yaml.load" and given.get("Loader") not in ("loader", "yaml.SafeLoader", "yaml.CSafeLoader"):
            found.append(name)
        if given.get("allow_pickle", "False") != "False" or name in ("eval", "exec", "os.system", "joblib.load"):
            found.append(name)
        if given.get("trust_remote_code") == "True":
            found.append(f"{name} trust_remote_code")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_run(path: Path) -> None:
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "yaml.load(f)",
        "yaml.unsafe_load(f)",
        "np.load(f, allow_pickle=True)",
        "eval(x)",
        "joblib.load(f)",
        "m.load(f, trust_remote_code=True)",
    ],
)
def test_the_check_of_dangers_can_fail(source: str) -> None:
    assert dangers(source)


def test_a_disk_that_is_full_when_weights_are_saved_is_told_as_one() -> None:
    from safetensors import SafetensorError

    from ablate.model.encoder import disk_errors
    from ablate.store.files import disk_trouble

    with pytest.raises(OSError) as caught, disk_errors(Path("model")):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert (disk_trouble(caught.value) or "").startswith("the disk is full at model; finished stages are kept")
    with pytest.raises(OSError, match="No space left"), disk_errors(Path("model")):
        raise Exception("No space left on device (os error 28)")  # as tokenizers says it
    with pytest.raises(SafetensorError), disk_errors(Path("model")):
        raise SafetensorError("Error while deserializing header: header too large")


# Where results lie is written once: in store/files.py. "config.json" and the like are names of other projects, too.

NAMES = {name for name in vars(files).values() if isinstance(name, str) and "." in name} - {files.CONFIG_FILE}


def spelt(source: str) -> list[str]:
    """Return the names of files of results that stand in a module as texts, but for those within longer texts."""
    constants = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return [node.value for node in constants if node.value in NAMES]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_result_files_are_written_once(path: Path) -> None:
    if path != Path(files.__file__):
        assert spelt(path.read_text(encoding="utf-8")) == []


def test_the_check_of_names_can_fail() -> None:
    assert len(NAMES) >= 9 and spelt("open(folder / 'scores.parquet')") == ["scores.parquet"]
