"""Which cells a command line and a study file describe, how they are called, and where each of them stands."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import hydra
import pytest
from conftest import ROOT, compose, run_config
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from ablate.compose import Jobs, cell_of
from ablate.project import CONF
from ablate.recipe.identity import Identity, Revisions, identify
from ablate.recipe.schema import RunConfig
from ablate.records import UserError
from ablate.store.results import ResultStore
from ablate.study.declaration import DeclaredCell, Study, build_study
from ablate.study.planning import (
    Cell,
    Composed,
    Given,
    Point,
    crossed,
    declared_cells,
    label_of,
    of_declaration,
    of_study,
    plan,
)
from ablate.study.records import StudyRecords
from ablate.study.running import Board
from ablate.study.status import duration, estimate, format_plan, state_of

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
STUDIES = [path.stem for path in FILES if not path.stem.startswith("tune")]
"""Files of sweeps/ with a block `study`; the others tune, and tests/test_tuning.py composes them."""


def study(**changes: Any) -> Study:
    return build_study({"question": "Why?", "arms": ["query_only", "dual_view"], "seeds": [0, 1], **changes})


def ids(config: RunConfig) -> Identity:
    return identify(config.recipe, config.seed, Revisions(source="s", model="m"))


def composed(overrides: tuple[str, ...]) -> Composed:
    label = "label_noise_${factors.label_noise}" if "+experiment=label_noise" in overrides else "plain"
    return Composed(compose(*overrides), label)


def words(points: Any) -> list[str]:
    return [" ".join(point.overrides) for point in points]


def test_a_cross_product_has_the_order_of_hydras_own_sweeper_and_the_seed_last() -> None:
    given = [Given("seed", ("0", "1"), True), Given("+experiment", ("a", "b"), True), Given("model", ("tiny",), False)]
    assert words(crossed(given)) == [
        "+experiment=a model=tiny seed=0",
        "+experiment=b model=tiny seed=0",
        "+experiment=a model=tiny seed=1",
        "+experiment=b model=tiny seed=1",
    ]
    assert words(crossed([Given("seed", ("0",), False), Given("seed", ("3", "4"), True)])) == ["seed=3", "seed=4"]
    assert next(iter(crossed(given))).axes == (("seed", "0"), ("experiment", "a"))


def test_the_cells_of_a_study_are_the_grid_then_seeds_then_arms() -> None:
    cells = words(of_study("why", study(grid=[{"key": "source.skew", "values": [0.5, 0.9]}]), []))
    assert cells[:3] == [
        "+sweeps=why +experiment=query_only source.skew=0.5 runtime.study=why seed=0",
        "+sweeps=why +experiment=dual_view source.skew=0.5 runtime.study=why seed=0",
        "+sweeps=why +experiment=query_only source.skew=0.5 runtime.study=why seed=1",
    ]
    assert len(cells) == 8 and "source.skew=0.9" in cells[4]


def test_the_command_line_restricts_replaces_and_crosses_a_study() -> None:
    base = study(grid=[{"key": "source.skew", "values": [0.5, 0.9]}])
    one = words(
        of_study(
            "why",
            base,
            [Given("+sweeps", ("why",), False), Given("seed", ("7",), False), Given("source.skew", ("0.9",), False)],
        )
    )
    assert one == [
        "+sweeps=why +experiment=query_only source.skew=0.9 runtime.study=why seed=7",
        "+sweeps=why +experiment=dual_view source.skew=0.9 runtime.study=why seed=7",
    ]
    more = list(
        of_study(
            "why",
            study(seeds=[0]),
            [
                Given("+budget.limit", ("8", "16"), True),
                Given("runtime.study", ("mine",), False),
                Given("model", ("tiny",), False),
            ],
        )
    )
    assert words(more)[0] == "+sweeps=why +experiment=query_only +budget.limit=8 runtime.study=mine model=tiny seed=0"
    assert [point.axes for point in more] == [(("budget.limit", "8"),)] * 2 + [(("budget.limit", "16"),)] * 2


def test_a_value_of_the_grid_has_one_spelling_whoever_names_it() -> None:
    grid = [
        {"key": "+miner", "values": ["bm25", "a b"]},
        {"key": "factors.label_noise", "values": [1.0, 0.5]},
        {"key": "runtime.progress", "values": [True]},
    ]
    base = study(seeds=[0], arms=["label_noise"], grid=grid)
    given = [
        Given("miner", ('"a b"',), False),
        Given("+factors.label_noise", ("1", "0.25"), True),
        Given("runtime.progress", ("True",), False),
    ]
    assert words(of_study("why", base, given)) == [
        f"+sweeps=why +experiment=label_noise +miner='a b' factors.label_noise={share} runtime.progress=true "
        "runtime.study=why seed=0"
        for share in ("1.0", "0.25")
    ]
    cells = list(
        of_declaration(
            "why",
            base,
            [
                *given,
                Given("model", ("tiny",), False),
                Given("seed", ("7",), False),
                Given("budget.limit", ("8", "16"), True),
            ],
        )
    )
    assert len(cells) == 4 and cells[0].axes[0] == ("miner", "bm25")
    assert words(cells)[3] == (
        "+sweeps=why +experiment=label_noise +miner='a b' factors.label_noise=0.5 "
        "runtime.progress=true model=tiny runtime.study=why seed=0"
    )


def test_declared_cells_have_resolved_labels_and_what_tells_them_apart() -> None:
    arms = [
        "label_noise factors.label_noise=1e-1",
        "label_noise factors.label_noise=0.2",
        "query_only",
        "query_only factors.reversed_views=1.0",
    ]
    declared = study(arms=arms, seeds=[0, 1])
    identified: list[tuple[str, int]] = []

    def as_run(overrides: tuple[str, ...]) -> Composed:
        return composed(tuple(word for word in overrides if not word.startswith(("+sweeps", "runtime.study"))))

    def identify_and_tell(config: RunConfig) -> Identity:
        identified.append((config.runtime.label, config.seed))
        return ids(config)

    given = [Given("runtime.label", ("${budget.limit}_${factors.label_noise}_${factors.reversed_views}",), False)]
    points = list(of_study("why", declared, [Given("seed", ("1",), False), *given]))
    planned = dict(zip(points, plan(points, as_run, ids), strict=True))
    found = declared_cells(of_declaration("why", declared, given), planned, as_run, identify_and_tell)
    labels = ["2560_0.1_1.0", "2560_0.2_1.0", "2560_0.0_0.0", "2560_0.0_1.0"]
    assert [(cell.label, cell.seed) for cell in found] == [(label, seed) for seed in (0, 1) for label in labels]
    assert identified == []  # the planned recipes are known, whatever the seed
    assert declared_cells(of_declaration("why", declared, given), {}, as_run, identify_and_tell) == found
    assert identified == [(label, 0) for label in labels[:3]]
    assert [cell.differs.get("factors.label_noise") for cell in found[:4]] == [0.1, 0.2, 0.0, None]
    assert "budget.limit" not in found[0].differs and found[0].differs["factors.instructed"] == 1.0
    for cell, at_one in zip(found[:4], found[4:], strict=True):
        assert dataclasses.replace(cell, seed=1) == at_one
    assert found[0].arm_id == ids(run_config("+experiment=label_noise", "factors.label_noise=0.1")).arm_id
    assert (found[3].arm_id, found[3].differs) == (None, {}) and "reversed_views" in found[3].reason


def test_cells_that_cannot_be_composed_are_declared_too() -> None:
    points = of_declaration("why", study(arms=["a"], seeds=[0]), [])
    (cell,) = declared_cells(points, {}, _refuses, ids)
    label = "+sweeps=why +experiment=a runtime.study=why seed=0"
    assert cell == DeclaredCell(label=label, seed=None, arm_id=None, differs={}, reason="no such key")


@pytest.mark.parametrize("arm", sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")))
def test_the_id_of_an_arm_has_no_seed(arm: str) -> None:
    config = run_config(f"+experiment={arm}", "model=tiny")
    first, second = (ids(dataclasses.replace(config, seed=seed)) for seed in (0, 1))
    assert first.arm_id == second.arm_id and first.train_id != second.train_id


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Given("+experiment", ("dual_view",), False), r"\+experiment=dual_view cannot stand beside \+sweeps=why"),
        (Given("seed", ("x",), False), "seed=x must be whole numbers"),
    ],
)
def test_what_a_study_does_not_take(given: Given, text: str) -> None:
    with pytest.raises(UserError, match=text):
        list(of_study("why", study(), [given]))
    with pytest.raises(UserError, match=r"\+sweeps=why,what: one study at a time"):
        list(crossed([Given("+sweeps", ("why", "what"), True)]))


def test_a_point_of_the_grid_stands_in_the_label_unless_the_label_has_it_already() -> None:
    values = {"runtime": {"label": "dual_view"}}
    axes = (("source.skew", "0.5"), ("source.shortcut", "0.9"), ("seed", "1"), ("runtime.threads", "2"))
    assert label_of(Composed(values, "dual_view"), axes) == "dual_view skew=0.5 shortcut=0.9"
    noise = {"runtime": {"label": "label_noise_0.1"}}
    axes = (("experiment", "label_noise"), ("factors.label_noise", "0.1"))
    assert label_of(Composed(noise, "label_noise_${factors.label_noise}"), axes) == "label_noise_0.1"
    (cell,) = plan(
        [Point(("+experiment=dual_view", "source.skew=0.5", "seed=0"), (("source.skew", "0.5"),))], composed, ids
    )
    assert cell.label == "dual_view skew=0.5" and cell.config is not None and cell.config.runtime.label == cell.label
    assert cell.overrides[-2:] == ("runtime.label='dual_view skew=0.5'", "seed=0")


def test_an_incoherent_cell_is_listed_with_its_reason() -> None:
    points = [
        Point((f"+experiment={arm}", f"factors.instructed={share}", "seed=0"), ())
        for arm, share in (("dual_view", 0), ("dual_view", 1))
    ]
    wrong, right = plan(points, composed, ids)
    assert wrong.config is None and "factors.instructed makes, and that is off" in wrong.reason
    assert right.config is not None and wrong.name == "dual_view seed 0"
    (unknown,) = plan([Point(("nothing=1", "seed=0"), ())], _refuses, ids)
    assert (unknown.config, unknown.reason, unknown.name) == (None, "no such key", "nothing=1 seed=0 seed ?")


def _refuses(overrides: tuple[str, ...]) -> Composed:
    raise UserError("no such\nkey")


def test_cells_with_one_recipe_are_told_and_two_recipes_under_one_name_are_refused() -> None:
    arms = ("dual_view_added", "dual_view_joint", "dual_view")
    cells = plan([Point((f"+experiment={arm}", "seed=0"), ()) for arm in arms], composed, ids)
    assert [cell.same_as for cell in cells] == ["", "dual_view_added seed 0", ""]
    points = [Point((f"+experiment={arm}", "runtime.label=x", "seed=0"), ()) for arm in arms]
    with pytest.raises(UserError, match="two different runs would be recorded as x seed 0 of single_runs"):
        plan(points, composed, ids)


def store_with_a_run(root: Path, config: RunConfig, *, seconds: float) -> ResultStore:
    """Write the manifests of a complete run that trained for `seconds` and was measured for two."""
    store, identity = ResultStore(root), ids(config)
    arm, study_name = config.runtime.label, config.runtime.study
    stages: list[tuple[Any, dict[str, Any], tuple[str, ...], str, dict[str, float]]] = [
        ("mix", identity.mix, (), arm, {"wall_s": 1.0}),
        ("train", identity.train, (identity.mix_id,), arm, {"train_s": seconds}),
        ("evaluation", identity.untouched, (), "untouched", {"wall_s": 3.0}),
        ("evaluation", identity.evaluation, (identity.train_id,), arm, {"wall_s": 2.0}),
    ]
    for kind, recipe, parents, label, cost in stages:
        with store.making(kind, recipe) as folder:
            if folder is not None:
                store.complete(
                    kind,
                    recipe,
                    files=(),
                    parents=parents,
                    seed=config.seed,
                    label=f"{study_name}/{label}",
                    counts={},
                    hardware={},
                    cost=cost,
                    started="",
                )
    return store


def test_a_plan_says_where_each_cell_stands_and_what_is_left_costs(tmp_path: Path) -> None:
    wanted = (("dual_view", 0), ("dual_view", 1), ("query_only", 0), ("instructions", 0))
    points = [Point((f"+experiment={arm}", f"seed={seed}"), ()) for arm, seed in wanted]
    cells = plan(points, composed, ids)
    assert cells[0].config is not None and cells[2].config is not None and cells[3].config is not None
    store = store_with_a_run(tmp_path, cells[0].config, seconds=10)
    store_with_a_run(tmp_path, cells[2].config, seconds=20)
    text = StudyRecords(store, "single_runs").keep_failure("instructions", 0, "it broke")
    estimate(store, cells)
    assert [cell.estimate_s for cell in cells] == [12, 12, 22, 17]  # 10 + 2, again, 20 + 2, their mean
    taken = store.lock(f"cell-{cells[1].identity.eval_id}")  # type: ignore[union-attr]
    assert taken.take()
    try:
        assert [state_of(store, cell) for cell in cells] == ["done", "running", "done", "failed before"]
    finally:
        taken.release()
    twin = Cell((), "twin", 1, cells[1].config, cells[1].identity, same_as="dual_view seed 1")
    assert format_plan(store, [*cells, Cell(("a=b",), "a=b", None, reason="no such key"), twin]).splitlines() == [
        "dual_view seed 0     done",
        "dual_view seed 1     to run         about 12 s",
        "query_only seed 0    done",
        f"instructions seed 0  failed before  about 17 s; traceback: {text}",
        "a=b seed ?           incoherent     no such key",
        "twin seed 1          to run         same as dual_view seed 1",
        "6 cells: 2 done, 2 to run, 1 failed before, 1 incoherent",
        "to make: 2 runs, about 29 s",
    ]


def test_the_cost_of_another_model_or_budget_is_no_estimate(tmp_path: Path) -> None:
    store = store_with_a_run(tmp_path, run_config("+experiment=dual_view"), seconds=10)
    points = [Point(("+experiment=dual_view", key), ()) for key in ("budget.limit=64", "model=tiny", "seed=1")]
    cells = [plan([point], composed, ids)[0] for point in points]
    estimate(store, cells)
    assert [cell.estimate_s for cell in cells] == [None, None, 12]
    assert format_plan(store, cells[:1]).endswith("cost unknown (no earlier run of this model and budget)")
    assert format_plan(store, cells).endswith("to make: 3 runs, about 12 s, and 2 of unknown cost")


def test_an_arm_that_trains_nothing_has_neither_the_lock_nor_the_cost_of_a_training(tmp_path: Path) -> None:
    arms = (("query_only", 0), ("bm25", 0), ("random_ranker", 0), ("random_ranker", 1), ("untouched", 0))
    points = [Point((f"+experiment={arm}", f"seed={seed}"), ()) for arm, seed in arms]
    cells = plan(points, composed, ids)
    trained, bm25 = cells[0], cells[1]
    assert trained.config and trained.identity and bm25.identity and cells[2].identity and cells[4].identity
    assert trained.identity.train_id == bm25.identity.train_id
    store = store_with_a_run(tmp_path, trained.config, seconds=10)
    estimate(store, cells)
    assert [cell.estimate_s for cell in cells] == [12, None, None, None, 3]  # `untouched` was measured with it
    recipe = cells[2].identity.evaluation
    (store.folder("evaluation", cells[2].identity.eval_id)).mkdir(parents=True)
    store.complete(
        "evaluation",
        recipe,
        files=(),
        parents=(),
        seed=0,
        label="single_runs/random_ranker",
        counts={},
        hardware={},
        cost={"wall_s": 4.0},
        started="",
    )
    fewer = plan([Point(("+experiment=random_ranker", "evaluation.sets=[test]", "seed=5"), ())], composed, ids)
    estimate(store, [*cells, *fewer])
    assert [cell.estimate_s for cell in (*cells, *fewer)] == [12, None, 4, 4, 3, 4]

    (store.folder("evaluation", trained.identity.eval_id) / "manifest.json").unlink()
    training = store.lock(f"run-{trained.identity.train_id}")
    assert training.take()
    try:
        assert [state_of(store, cell) for cell in cells[:3]] == ["running", "to run", "done"]
        board = Board(store, cells[:2])
        taken = board.claim_now()
        assert taken is not None and taken[1] is bm25 and board.claim_now() is None
        assert state_of(store, bm25) == "running"
        board.release(bm25)
    finally:
        training.release()


STUDY_OF_JOBS = """# @package _global_
study:
  question: Which?
  arms: [query_only, dual_view]
  seeds: [0, 1]
  claims: [{name: better, says: It is better., contrast: dual_view - query_only}]
model:
  passage_length: 77
"""


def test_jobs_are_composed_without_the_study_where_nothing_refers_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "own.yaml").write_text(STUDY_OF_JOBS)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "named.yaml").write_text("# @package runtime\nstudy: of_its_own\n")
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()
    reads = Counter[str]()
    real = OmegaConf.load

    def load(file: Any) -> Any:
        reads[str(getattr(file, "name", file))] += 1
        return real(file)

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        loader: Any = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", ["+sweeps=own"], run_mode=RunMode.MULTIRUN)
        jobs = Jobs(loader, config)
        monkeypatch.setattr(OmegaConf, "load", load)
        arms = [("+sweeps=own", f"+experiment={arm}", "model=tiny") for arm in ("query_only", "dual_view", "bm25")]
        got = {words: jobs.cell(words) for arm in arms for words in ((*arm, "seed=0"), (*arm, "seed=1"))}
        assert max(reads.values()) == 1 and any(name.endswith("own.yaml") for name in reads)
        referring = [("+sweeps=own", "+experiment=dual_view", "runtime.label='${study.question}'", "seed=1")]
        referring += [("+sweeps=own", "+experiment=dual_view", "study.question=Why?", "seed=1")]
        asking = "runtime.label='${oc.select:study.question,none}'"
        referring += [("+sweeps=own", "+experiment=dual_view", asking, "seed=1")]
        referring += [("+sweeps=own", "+experiment=named", "seed=1")]
        got |= {words: jobs.cell(words) for words in referring}
        for words, composed in got.items():
            whole = loader.load_sweep_config(config, list(words))
            expected = cell_of(OmegaConf.masked_copy(whole, [str(name) for name in whole if name != "hydra"]))
            assert composed.label == expected.label
            assert {**composed.values, "study": None} == {**expected.values, "study": None}
        assert got[referring[0]].values["runtime"]["label"] == got[referring[2]].values["runtime"]["label"] == "Which?"
        assert got[referring[3]].values["runtime"]["study"] == "of_its_own"
        with pytest.raises(UserError, match="nothing_such"):
            jobs.cell(("+sweeps=own", "model.nothing_such=1", "seed=0"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "unknown"), (30.0, "about 30 s"), (600.0, "about 10 min"), (9000.0, "about 2.5 h")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


OF_A_FOLDER = ("films", "movies")
"""Studies whose data lie in a folder, which need not be here."""


def declared_in(name: str) -> Study:
    return build_study(compose(f"+sweeps={name}", *(["source.path=DIR"] if name in OF_A_FOLDER else []))["study"])


@pytest.mark.parametrize("name", STUDIES)
def test_every_shipped_study_composes_and_names_its_arms(name: str) -> None:
    text = (ROOT / "sweeps" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n# "), "a comment says what the study asks and where it comes from"
    assert "arXiv" in text or name in ("smoke", "noise_floor", "static_pilot")
    place = [Given("source.path", ("DIR",), False)] if name in OF_A_FOLDER else []
    declared = declared_in(name)
    points = list(of_study(name, dataclasses.replace(declared, seeds=declared.seeds[:1]), place))
    cells = plan(points, lambda overrides: _composed_with_label(overrides), ids)
    wrong = [cell for cell in cells if cell.config is None]
    assert not wrong or declared.incoherent == "list", wrong
    if name == "factorial":
        assert (len(cells), len(wrong)) == (16, 9)
    labels = {cell.label for cell in cells if cell.config is not None}
    assert len(labels) == len(cells) - len(wrong)
    for claim in declared.claims:
        rest = claim.contrast.removeprefix("trend:")
        for label in sorted(labels, key=len, reverse=True):
            rest = rest.replace(label, "")
        assert not any(letter.isalpha() for letter in rest), f"{claim.name}: {rest!r} is no arm of the study"


def _composed_with_label(overrides: tuple[str, ...]) -> Composed:
    noise = "+experiment=label_noise" in overrides
    return Composed(compose(*overrides), "${factors.label_noise}" if noise else "")


def test_shipped_claims_can_be_confirmed_or_say_that_they_cannot() -> None:
    for name in STUDIES:
        declared = declared_in(name)
        text = (ROOT / "sweeps" / f"{name}.yaml").read_text(encoding="utf-8")
        assert len(declared.seeds) >= 5 or not declared.claims or "EXPLORATORY" in text, name


def test_shipped_studies_of_the_world_share_no_seed() -> None:
    """A run that another study has made, with this seed on the same corpus, stands under that study's claims."""
    names = [name for name in STUDIES if name not in (*OF_A_FOLDER, "smoke")]
    corpora = {name: compose(f"+sweeps={name}")["source"]["seed"] for name in names}
    seeds = [(corpora[name], seed) for name in names for seed in declared_in(name).seeds]
    assert len(set(seeds)) == len(seeds)
