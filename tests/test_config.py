"""Strict configuration, differences, and the id chain."""

from __future__ import annotations

import dataclasses

import pytest
from conftest import compose, run_config

from ablate.recipe.build import build, build_run
from ablate.recipe.factors import FACTOR_NAMES, OFF
from ablate.recipe.identity import Revisions, identify
from ablate.recipe.schema import BeirSource, Recipe, RunConfig
from ablate.recipe.values import diff, digest, plain
from ablate.records import UserError

REVISIONS = Revisions(source="s1", model="m1")


def ids(config: RunConfig, revisions: Revisions = REVISIONS) -> dict[str, str]:
    identity = identify(config.recipe, config.seed, revisions)
    return {name: getattr(identity, name) for name in ("mix_id", "train_id", "eval_id", "untouched_id", "arm_id")}


def changed(*overrides: str) -> set[str]:
    """Return which ids of the default run change under overrides."""
    before, after = ids(run_config()), ids(run_config(*overrides))
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("factors.instructed", 1.5, "factors.instructed=1.5 is out of range; allowed: 0 to 1"),
        ("factors.instructed", "all", "factors.instructed='all' has the wrong type (str); it takes a number, 0 to 1"),
        ("factors.instructed", True, "factors.instructed=True has the wrong type (bool)"),
        ("factors.instruction_negatives", 1.0, "factors.instruction_negatives=1.0 has the wrong type (float)"),
        ("budget.unit", "toknes", "budget.unit='toknes' is not known; allowed: groups, pairs, tokens, queries"),
        ("budget.limit", 0, "budget.limit=0 is out of range"),
        ("source.kind", "wrld", "source.kind='wrld' is not known; allowed: world, beir, rules, published"),
        ("source.skew", 0.2, "source.skew=0.2 is out of range; allowed: 0.5 to 1"),
        ("evaluation.sets", "test", "evaluation.sets='test' must be a list"),
        ("train.learning_rate", float("nan"), "train.learning_rate=nan must be a finite number"),
        ("seed", None, "seed is not set (null); every run needs it: seed=0"),
        ("seed", -1, "seed=-1 is out of range"),
        ("seed", "1", "seed='1' has the wrong type"),
        ("runtime.tracker.kind", "wandbb", "runtime.tracker.kind='wandbb' is not known; allowed: none, wandb_offline"),
        ("runtime.dev_set", "test", "runtime.dev_set='test' is one of evaluation.sets"),
        ("evaluation.sets", [], "evaluation.sets=[] must name at least one set"),
        ("evaluation.sets", ["test", "test"], "none of them twice"),
        ("evaluation.window", 64, "evaluation.window=64 and evaluation.stride=None go together"),
        ("evaluation.stride", 64, "evaluation.window=None and evaluation.stride=64 go together"),
        ("evaluation.index", {"kind": "flat"}, "evaluation.index.kind='flat' is not known; allowed: exact, ivf, hnsw"),
        ("evaluation.index", {"kind": "pq"}, "evaluation.index.code_bytes is missing; give it a value"),
        ("runtime.shard_size", 0, "runtime.shard_size=0 is out of range"),
        ("runtime.study", "a/b", "must be a name without a slash"),
        ("runtime.label", "untouched", "is the name of the backbone before training"),
        ("model", "minilm", "model='minilm' must be a group of keys"),
    ],
)
def test_wrong_values_are_refused_with_path_value_and_what_is_allowed(path: str, value: object, words: str) -> None:
    values = compose()
    *parents, last = path.split(".")
    place = values
    for name in parents:
        place = place[name]
    place[last] = value
    with pytest.raises(UserError) as caught:
        build_run(values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_instruction_negatives_than_places_are_refused() -> None:
    with pytest.raises(UserError, match="instruction_negatives=2 does not fit into budget.negatives_per_group=1"):
        run_config("+experiment=dual_view", "factors.instruction_negatives=2")


def test_windows_that_pass_over_tokens_or_do_not_fit_and_too_many_probes_are_refused() -> None:
    with pytest.raises(UserError, match="evaluation.window=32 and evaluation.stride=33 go together, and the stride is"):
        run_config("evaluation.window=32", "evaluation.stride=33")
    length = run_config().recipe.model.passage_length
    with pytest.raises(UserError, match=f"window={length} does not fit into model.passage_length={length} beside"):
        run_config(f"evaluation.window={length}", "evaluation.stride=16")
    with pytest.raises(UserError, match="index.probes=9 is more than evaluation.index.lists=8; lower the probes"):
        run_config("+index=ivf", "evaluation.index.lists=8", "evaluation.index.probes=9")


def test_unknown_and_missing_keys_are_refused_with_the_known_names() -> None:
    values = compose()
    values["experimnt"] = "dual_view"
    with pytest.raises(UserError, match="unknown key experimnt; known here: source, miner, factors, budget"):
        build_run(values)
    values = compose()
    values["budget"]["units"] = "groups"
    with pytest.raises(UserError, match=r"unknown key budget\.units; known here: unit, limit, fill"):
        build_run(values)
    values = compose()
    del values["train"]["temperature"]
    with pytest.raises(UserError, match=r"train\.temperature is missing"):
        build_run(values)


def test_a_whole_number_is_taken_for_a_number() -> None:
    assert run_config("train.temperature=1").recipe.train.temperature == 1.0
    assert ids(run_config("source.shortcut=1")) == ids(run_config("source.shortcut=1.0"))


def test_the_id_chain_changes_from_the_changed_stage_on() -> None:
    everything = {"mix_id", "train_id", "eval_id", "arm_id"}
    assert changed("factors.instructed=1") == everything
    assert changed("budget.limit=64") == everything
    assert changed("seed=1") == {"mix_id", "train_id", "eval_id"}
    assert changed("train.epochs=2") == {"train_id", "eval_id", "arm_id"}
    assert changed("model.pooling=cls") == {"train_id", "eval_id", "untouched_id", "arm_id"}
    assert changed("evaluation.depth=10") == {"eval_id", "untouched_id", "arm_id"}
    assert changed("source.documents=4000") == everything | {"untouched_id"}


def test_a_recipe_that_was_recorded_before_a_key_existed_is_read_at_its_no_op() -> None:
    recipe = run_config("+experiment=dual_view").recipe
    old = plain(recipe)
    del old["ranker"], old["audit"]
    for name in ("window", "stride", "index"):
        del old["evaluation"][name]
    assert build(Recipe, old) == recipe


def test_windows_and_indexes_at_their_default_leave_no_trace_in_the_hashed_value() -> None:
    hashed = identify(run_config().recipe, 0, REVISIONS).evaluation["evaluation"]
    assert hashed == {"source": None, "sets": ["test", "heldout"], "depth": 1000, "batch_size": 16}
    assert changed("+index=exact") == set()
    assert changed("evaluation.window=64", "evaluation.stride=32") == {"eval_id", "untouched_id", "arm_id"}
    assert changed("+index=ivf") == {"eval_id", "untouched_id", "arm_id"}
    assert changed("runtime.shard_size=1", "runtime.keep_embeddings=true") == set()


def test_runtime_labels_and_places_are_in_no_id() -> None:
    nothing = (
        "runtime.results=elsewhere",
        "runtime.device=cpu",
        "runtime.threads=1",
        "runtime.label=other",
        "runtime.checkpoint_every=1",
        "tracker=none",
        "model.name=another",
        "model.path=/some/place",
    )
    assert changed(*nothing) == set()


def test_content_revisions_are_in_the_ids() -> None:
    before = ids(run_config())
    assert before["mix_id"] != ids(run_config(), Revisions("s2", "m1"))["mix_id"]
    other = ids(run_config(), Revisions("s1", "m2"))
    assert other["mix_id"] == before["mix_id"] and other["train_id"] != before["train_id"]


def test_test_beds_of_their_own_are_in_the_ids_by_what_they_hold_and_not_by_where_they_lie() -> None:
    def with_beds(path: str, revision: str, *overrides: str) -> dict[str, str]:
        run = run_config(*overrides)
        beds = BeirSource(kind="beir", path=path, seed=0, train_split="train", skew=1.0, reversals=None, rows="all")
        evaluation = dataclasses.replace(run.recipe.evaluation, source=beds)
        recipe = dataclasses.replace(run.recipe, evaluation=evaluation)
        return ids(dataclasses.replace(run, recipe=recipe), dataclasses.replace(REVISIONS, evaluation=revision))

    here = with_beds("/here", "e1")
    assert here == with_beds("/elsewhere", "e1")
    other = with_beds("/here", "e2")
    assert {name for name in here if here[name] != other[name]} == {"eval_id", "untouched_id", "arm_id"}
    assert here["mix_id"] == ids(run_config())["mix_id"] and here["arm_id"] != ids(run_config())["arm_id"]
    # An untouched model from a hub does not know the training source; the vocabulary of a drawn one is from there.
    more = "source.documents=4000"
    assert here["untouched_id"] == with_beds("/here", "e1", more)["untouched_id"]
    tiny = [with_beds("/here", "e1", "model=tiny", *overrides)["untouched_id"] for overrides in ((), (more,))]
    assert tiny[0] != tiny[1]


def test_a_miner_is_in_the_mix_with_the_revision_of_what_it_ranks_by() -> None:
    assert changed("+miner=bm25") == {"mix_id", "train_id", "eval_id", "arm_id"}
    run = run_config("+miner=bm25")
    first, second = (ids(run, dataclasses.replace(REVISIONS, miner=revision)) for revision in ("r1", "r2"))
    assert {name for name in first if first[name] != second[name]} == {"mix_id", "train_id", "eval_id"}


def test_what_decides_training_rows_alone_is_in_no_id_of_a_backbone_before_training() -> None:
    rows = ("source.skew=0.5", "source.shortcut=0", "source.rows=all")
    assert changed(*rows) == {"mix_id", "train_id", "eval_id", "arm_id"}
    tiny = [ids(run_config("model=tiny", *overrides))["untouched_id"] for overrides in ((), rows)]
    assert tiny[0] != tiny[1]  # its vocabulary is taken from the rows


def test_rules_on_in_batch_negatives_are_in_the_ids_of_trainings_and_not_at_their_no_op() -> None:
    assert changed("train.same_query=mask", "train.most_negatives=null") == set()
    for override in ("train.same_query=use", "train.most_negatives=12"):
        assert changed(override) == {"train_id", "eval_id", "arm_id"}


def test_the_version_of_what_builds_mixes_is_in_their_ids_and_in_those_of_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(run_config())
    monkeypatch.setattr("ablate.recipe.identity.MIX_VERSION", 10**9)
    after = ids(run_config())
    assert {name for name in before if before[name] != after[name]} == {"mix_id", "train_id", "eval_id", "arm_id"}


def test_two_spellings_of_an_arm_are_one_arm() -> None:
    by_name = run_config("+experiment=dual_view")
    by_hand = run_config("factors.reversed_views=1", "factors.instruction_negatives=1", "factors.instructed=1")
    assert ids(by_name) == ids(by_hand)


def test_only_drawn_weights_tie_the_untouched_model_to_a_seed() -> None:
    assert "untouched_id" in {
        name
        for name in ids(run_config("model=tiny"))
        if ids(run_config("model=tiny"))[name] != ids(run_config("model=tiny", "seed=1"))[name]
    }
    assert ids(run_config())["untouched_id"] == ids(run_config("seed=1"))["untouched_id"]


def test_what_trains_nothing_has_an_id_of_its_ranker_and_test_beds_alone() -> None:
    rankers = {"untouched", "bm25", "bm25_instruction", "random"}

    def eval_ids(*overrides: str) -> dict[str, str]:
        run = run_config(*overrides)
        recipes = {ranker: dataclasses.replace(run.recipe, ranker=ranker) for ranker in rankers}
        return {r: ids(dataclasses.replace(run, recipe=recipe))["eval_id"] for r, recipe in recipes.items()}

    before = eval_ids()
    assert len(set(before.values())) == 4

    def moved(*overrides: str) -> set[str]:
        after = eval_ids(*overrides)
        return {ranker for ranker in rankers if after[ranker] != before[ranker]}

    assert moved("budget.limit=8", "train.epochs=2", "+miner=bm25") == set()
    assert moved("seed=1") == {"random"}
    assert moved("source.skew=0.5", "source.shortcut=0", "source.rows=all") == set()  # of training rows alone
    assert moved("model.pooling=cls") == {"untouched"}
    assert moved("evaluation.batch_size=3") == {"untouched"}
    assert moved("evaluation.depth=10") == moved("source.documents=4000") == rankers
    assert before["untouched"] == ids(run_config("+experiment=dual_view"))["untouched_id"]
    assert ids(run_config("ranker=bm25"))["untouched_id"] == before["untouched"]


def test_a_ranker_that_trains_nothing_takes_no_factors() -> None:
    with pytest.raises(UserError, match=r"ranker='bm25' trains nothing, so factors.instructed would mean nothing"):
        run_config("+experiment=dual_view", "ranker=bm25")
    with pytest.raises(UserError, match="ranker='bm26' is not known; allowed: trained, untouched, bm25"):
        run_config("ranker=bm26")


def test_a_budget_in_tokens_ties_the_mix_to_the_model() -> None:
    in_tokens = ("budget.unit=tokens", "budget.limit=10000")
    one, other = ids(run_config(*in_tokens)), ids(run_config(*in_tokens, "model.separator=' [SEP] '"))
    assert one["mix_id"] != other["mix_id"]
    assert ids(run_config())["mix_id"] == ids(run_config("model.separator=' [SEP] '"))["mix_id"]


def test_factors_at_their_no_op_leave_no_trace_in_the_hashed_value() -> None:
    identity = identify(run_config().recipe, 0, REVISIONS)
    assert identity.mix["factors"] == {}
    assert identify(run_config("+experiment=instructions").recipe, 0, REVISIONS).mix["factors"] == {"instructed": 1.0}


def test_shipped_configuration_leaves_every_factor_at_its_no_op() -> None:
    assert compose()["factors"] == {name: getattr(OFF, name) for name in FACTOR_NAMES}


def test_diff_names_exactly_the_keys_that_differ() -> None:
    a, b = run_config("+experiment=instruction_negatives").recipe, run_config("+experiment=dual_view").recipe
    assert diff(a, b) == {"factors.reversed_views": (0.0, 1.0)}
    assert diff(a, a) == {}


def test_digest_is_sixteen_hex_digits_of_canonical_json() -> None:
    import hashlib

    assert digest({"b": 1, "a": [1.5, None]}) == hashlib.sha256(b'{"a":[1.5,null],"b":1}').hexdigest()[:16]
    assert digest({"é": "日"}) == hashlib.sha256('{"é":"日"}'.encode()).hexdigest()[:16]
    with pytest.raises(ValueError):
        digest({"a": float("nan")})


def test_a_run_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        run_config().seed = 3  # type: ignore[misc]
    assert plain(run_config())["recipe"]["source"]["kind"] == "world"
