"""Every shipped configuration composes and builds; documents and file system agree; ids of shipped arms are pinned."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping

import pytest
from conftest import ROOT, run_config

from ablate.data.audited import Audited
from ablate.data.mix import build_mix, content_digest
from ablate.data.sources import RowSource, open_source
from ablate.evaluation.rankers import plain_ranker
from ablate.randomness import uniform
from ablate.recipe.factors import FACTOR_NAMES, active
from ablate.recipe.identity import Revisions, identify
from ablate.recipe.values import diff

ARMS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

REVISIONS = Revisions(source="s", model="m", audit="a")
GOLDEN: dict[str, str] = {
    "audited_clean": "23664a51e146f478",
    "audited_flagged": "34a2de71e17ec40d",
    "audited_matched": "8f5c9a6c4e84965d",
    "balanced_original": "f0812d145b47299d",
    "balanced_side": "7387534081ec542d",
    "balanced_style": "149bc86007cce0bc",
    "broad_share": "b4199061f7b45eab",
    "dead_polarity": "077a68bed3b9d24f",
    "dual_view": "8564fe3b10d92958",
    "dual_view_added": "d872b71a3ea4db2d",
    "dual_view_equal_queries": "d872b71a3ea4db2d",
    "dual_view_joint": "d872b71a3ea4db2d",
    "generic_instruction": "16cc3c4e1819a0f4",
    "instructed_share": "f28fc4a1a88d4aff",
    "instruction_negatives": "7685af3d1709757a",
    "instruction_negatives_fewer_negatives": "7685af3d1709757a",
    "instructions": "ff13055a00d2999a",
    "joint": "9303e91494ecf045",
    "joint_matched": "1c425b0fe92c4448",
    "label_noise": "c682bdc480152036",
    "negative_share": "54ed7ed71122917f",
    "paraphrase_control": "c745bf30c00ef3b5",
    "query_only": "de830e445e8b9740",
    "random_polarity": "5d24f017a1713ddf",
    "repeat_query": "077ed6d46094aa8e",
    "reversal_restyled": "7e9a46748bddb73e",
    "style_twin": "7daafe5dfa0d734f",
    "style_twin_known_labels": "7daafe5dfa0d734f",
    "swapped_instruction": "ccde6b9a4909f430",
}
"""mix_id of each shipped arm that trains, seed 0.

A change here orphans results: deliberate, with a line in docs/lab_log.md.
"""

GOLDEN_SCORES: dict[str, str] = {
    "bm25": "79200bc108494bf5",
    "bm25_instruction": "6e4fb6c90e5b9e1b",
    "random_ranker": "7fc8f616c8f4e157",
    "untouched": "4779b1ac14ecf0ac",
}
"""eval_id of each shipped arm that trains nothing, seed 0."""

GOLDEN_MIXES: dict[str, str] = {
    "audited_clean": "ab4d48b420685579",
    "audited_flagged": "d836e18a71842571",
    "audited_matched": "22f7aabbd9de075e",
    "balanced_original": "b68274d48d5f6e5f",
    "balanced_side": "12537e7d96bd8a55",
    "balanced_style": "28c5d99ecbfe240f",
    "broad_share": "4a2c80e2b6f915cc",
    "dead_polarity": "5fab5952741f0d25",
    "dual_view": "03f042e5505c4088",
    "dual_view_added": "b0353716caac94cc",
    "dual_view_equal_queries": "b0353716caac94cc",
    "dual_view_joint": "b0353716caac94cc",
    "generic_instruction": "99e8dac7eda65424",
    "instructed_share": "c6d75a9714f87071",
    "instruction_negatives": "90b7eef761936f74",
    "instruction_negatives_fewer_negatives": "90b7eef761936f74",
    "instructions": "c98c9e2eaca802de",
    "joint": "c86b6e93a68b1bc8",
    "joint_matched": "d9274a586d6806bd",
    "label_noise": "34794cc1b686299c",
    "negative_share": "3d4666ac484d45af",
    "paraphrase_control": "b80db6c1df8408c6",
    "query_only": "a666b645247f1caa",
    "random_polarity": "0326df098c1b7dc8",
    "repeat_query": "db40ffa574878799",
    "reversal_restyled": "64ca564647b30951",
    "style_twin": "4be8ea32df0763ed",
    "style_twin_known_labels": "4be8ea32df0763ed",
    "swapped_instruction": "e56b426be440ab4b",
}
"""Digest of the groups and passages that each shipped arm trains on, in a world of 600 documents, 48 groups, seed 0.

A change here means other training under the same id: never without another id and a line in docs/lab_log.md.
"""


def golden(arm: str, table: Mapping[str, str], name: str, value: str) -> str:
    """Return what a table of this file pins for an arm; an arm that is not pinned yet fails with the line to add."""
    if arm not in table:
        pytest.fail(
            f'conf/experiment/{arm}.yaml is not pinned: add `"{arm}": "{value}",` to {name} in tests/test_shipped.py'
        )
    return table[arm]


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_builds_carries_its_name_and_says_where_it_comes_from(arm: str) -> None:
    config = run_config(f"+experiment={arm}")
    assert config.runtime.label == arm or config.runtime.label.startswith(f"{arm}_")
    text = (ROOT / "conf" / "experiment" / f"{arm}.yaml").read_text(encoding="utf-8")
    assert re.search(r"^# .*(arXiv|control|objection)", text, re.M), "a comment names source and purpose"


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_differs_from_its_baseline_in_one_key(arm: str) -> None:
    config = run_config(f"+experiment={arm}")
    if config.runtime.baseline is None:
        assert arm == "query_only"
    else:
        assert len(diff(run_config(f"+experiment={config.runtime.baseline}").recipe, config.recipe)) == 1
        assert config.runtime.baseline in ARMS


def test_every_factor_is_on_in_a_shipped_arm() -> None:
    on = {name for arm in ARMS for name in active(run_config(f"+experiment={arm}").recipe.factors)}
    assert set(FACTOR_NAMES) - on == set(), "a factor is on in no arm: ship one that isolates it in conf/experiment/"


GOLDEN_CHAINS = {
    "query_only": ("18b9b9e28433574a", "cdb4eb2b14109505", "4779b1ac14ecf0ac", "f224ba7b54d26ca5"),
    "dual_view": ("02f6523106b63ccd", "be350d53713eb068", "4779b1ac14ecf0ac", "c486ddd25fcc4fee"),
    "bm25": ("18b9b9e28433574a", "8016a9e355b8462c", "4779b1ac14ecf0ac", "2037156e6ee995b8"),
}
"""Arm -> ids of training, evaluation, untouched backbone and arm, for seed 3."""


@pytest.mark.parametrize("arm", GOLDEN_CHAINS)
def test_golden_chains(arm: str) -> None:
    recipe = run_config(f"+experiment={arm}", "train.precision=fp32").recipe
    found = identify(recipe, 3, REVISIONS)
    assert (found.train_id, found.eval_id, found.untouched_id, found.arm_id) == GOLDEN_CHAINS[arm]


def test_every_part_of_a_training_is_in_its_id() -> None:
    """The mix is in the id by its digest; the seed is there once more, for weights, order and dropout."""
    recipe = run_config("+experiment=dual_view").recipe
    assert identify(recipe, 3, REVISIONS).train["seed"] == 3
    assert {"stage", "mix", "model", "train", "seed"} == set(identify(recipe, 3, REVISIONS).train)


@pytest.mark.parametrize("arm", ARMS)
def test_golden_ids(arm: str) -> None:
    recipe = run_config(f"+experiment={arm}", "train.precision=fp32").recipe
    if recipe.ranker == "trained":
        mix_id = identify(recipe, 0, REVISIONS).mix_id
        assert mix_id == golden(arm, GOLDEN, "GOLDEN", mix_id)
        return
    ranker = {} if recipe.ranker == "untouched" else plain_ranker(recipe.ranker, 0).parameters
    eval_id = identify(recipe, 0, dataclasses.replace(REVISIONS, ranker=ranker)).eval_id
    assert eval_id == golden(arm, GOLDEN_SCORES, "GOLDEN_SCORES", eval_id)


@functools.cache
def small_world() -> RowSource:
    return open_source(run_config("source.documents=600").recipe.source, ("test",))


@functools.cache
def small_audit() -> Audited:
    """Four of five rows judged, three of four of these right, by keyed draws."""
    draws = {
        row.row_id: (uniform(0, "judged", row.row_id), uniform(0, "right", row.row_id)) for row in small_world().rows()
    }
    return Audited({row_id: right < 0.75 for row_id, (judged, right) in draws.items() if judged < 0.8}, "a")


@pytest.mark.parametrize("arm", ARMS)
def test_golden_mixes(arm: str) -> None:
    recipe = run_config(f"+experiment={arm}", "source.documents=600", "budget.limit=48").recipe
    if recipe.ranker == "trained":
        built = build_mix(small_world(), recipe, 0, audited=small_audit())
        passages = json.dumps(list(built.passages.values()))
        found = hashlib.sha256(f"{content_digest(built.groups)} {passages}".encode()).hexdigest()[:16]
        assert found == golden(arm, GOLDEN_MIXES, "GOLDEN_MIXES", found)


def test_an_arm_that_is_not_pinned_is_told_with_the_line_to_add() -> None:
    with pytest.raises(pytest.fail.Exception, match=r'new.yaml is not pinned: add `"new": "f0",` to GOLDEN in tests/'):
        golden("new", GOLDEN, "GOLDEN", "f0")


@pytest.mark.parametrize("table", [GOLDEN, GOLDEN_SCORES, GOLDEN_MIXES])
def test_what_is_pinned_is_an_arm(table: dict[str, str]) -> None:
    assert set(table) <= set(ARMS)


@pytest.mark.parametrize(
    "overrides",
    [
        ("source=beir", "source.path=somewhere"),
        ("source=movies_rules", "source.path=somewhere"),
        ("source=films_written", "source.path=somewhere"),
        ("source=promptriever", "source.path=somewhere", "+evaluation_source=world"),
        (
            "source=tevatron",
            "source.path=somewhere",
            "+evaluation_source=beir",
            "evaluation.source.path=there",
            "evaluation.sets=[dev]",
        ),
        ("source=infir", "source.path=somewhere", "+evaluation_source=world"),
        ("source=synthesized", "source.path=somewhere", "+evaluation_source=world"),
        ("+evaluation_source=followir",),
        ("+evaluation_source=mfollowir",),
        ("+evaluation_source=instructir", "model.order=instruction_first", 'model.separator="[SEP]"'),
        ("+evaluation_source=nevir",),
        ("+evaluation_source=beir_official",),
        ("+miner=bm25",),
        ("+miner=dense",),
        ("source=beir", "source.path=somewhere", "+miner=none"),
        ("model=tiny",),
        ("model=static", "train=static"),
        ("tracker=trackio",),
        ("model=local", "model.path=somewhere"),
        ("model=decoder", "model.path=org/name", "model.hub_revision=abc"),
        ("+index=ivf",),
        ("+index=hnsw",),
        ("+index=pq",),
        ("tracker=none",),
        ("tracker=wandb",),
    ],
)
def test_every_choice_of_a_group_builds_and_is_another_configuration(overrides: tuple[str, ...]) -> None:
    assert run_config(*overrides) != run_config()


def test_every_yaml_of_a_group_is_covered_above() -> None:
    found = {f"{path.parent.name}={path.stem}" for path in (ROOT / "conf").glob("*/*.yaml")}
    found -= {f"experiment={arm}" for arm in ARMS}
    found = {name for name in found if not name.startswith("synthesis=")}  # prompts and rates, no part of a run
    defaults = {
        "source=world",
        "model=minilm",
        "budget=groups",
        "train=standard",
        "evaluation=standard",
        "tracker=wandb_offline",
    }
    others = {
        "source=beir",
        "source=movies_rules",
        "source=films_written",
        "miner=bm25",
        "miner=dense",
        "miner=none",
        "model=tiny",
        "source=promptriever",
        "source=tevatron",
        "source=infir",
        "source=synthesized",
        "evaluation_source=world",
        "evaluation_source=beir",
        "evaluation_source=beir_official",
        "evaluation_source=followir",
        "evaluation_source=mfollowir",
        "evaluation_source=instructir",
        "evaluation_source=nevir",
        "index=exact",
        "index=ivf",
        "index=hnsw",
        "index=pq",
        "model=local",
        "model=static",
        "train=static",
        "tracker=trackio",
        "model=decoder",
        "tracker=none",
        "tracker=wandb",
    }
    assert found == defaults | others


def test_the_arms_of_the_readme_are_the_shipped_ones() -> None:
    table = README.split("## Arms")[1].split("## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert set(ARMS) - set(listed) == set(), "an arm of conf/experiment/ has no row in the table of arms in README.md"
    assert sorted(listed) == ARMS


def test_the_tree_of_the_architecture_exists() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = document.split("## The tree")[1].split("```text")[1].split("```")[0]
    folder = ""
    names = []
    for line in tree.strip().splitlines():
        name = line.split()[0]
        if line.startswith(" "):
            names.append(folder + name)
        else:
            folder = name
            names.append(name)
    assert len(names) > 10
    for name in names:
        assert (ROOT / name).exists(), name
    for path in (ROOT / "ablate").iterdir():
        name = f"ablate/{path.name}" + ("/" if path.is_dir() else "")
        if not path.name.startswith("__"):
            assert name in names, f"{name} is not in the tree of docs/architecture.md"
