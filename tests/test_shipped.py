"""Every shipped configuration composes and builds; README and file system agree; ids of shipped arms are pinned."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping

import pytest
from conftest import ROOT, run_config

from ablate.data.mix import build_mix, content_digest
from ablate.data.sources import RowSource, open_source
from ablate.evaluation.rankers import plain_ranker
from ablate.recipe.factors import FACTOR_NAMES, active
from ablate.recipe.identity import Revisions, identify
from ablate.recipe.values import diff

ARMS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

REVISIONS = Revisions(source="s", model="m")
GOLDEN: dict[str, str] = {
    "balanced_original": "483e0435cd58eee0",
    "balanced_side": "5a6e80dda351a549",
    "balanced_style": "b4dbcf7e76414e7e",
    "dead_polarity": "aa44a313b633920c",
    "dual_view": "8e56fe7f6881e84b",
    "dual_view_added": "e34bfbd5c4f9d6b4",
    "dual_view_equal_queries": "e34bfbd5c4f9d6b4",
    "dual_view_joint": "e34bfbd5c4f9d6b4",
    "generic_instruction": "8646c2780b44f5d0",
    "instructed_share": "dbd2fb63b11665b9",
    "instruction_negatives": "2695cf9343319a17",
    "instruction_negatives_fewer_negatives": "2695cf9343319a17",
    "instructions": "ca0f42c7387f0c20",
    "joint": "eaa13558c10a49b6",
    "joint_matched": "b3d456aac0b9e502",
    "label_noise": "38fb47edb1911ec3",
    "negative_share": "d10b4c938d6ec0ad",
    "paraphrase_control": "fc23cfb19349f2ae",
    "query_only": "73c10d787c91d4b4",
    "random_polarity": "f145dc22d267c843",
    "repeat_query": "901832e8f6f69ccf",
    "reversal_restyled": "93419057d8969517",
    "style_twin": "382170a75dc1254b",
    "style_twin_known_labels": "382170a75dc1254b",
    "swapped_instruction": "b8ab75d811ab3aa2",
}
"""mix_id of each shipped arm that trains, seed 0.

A change here orphans results: deliberate, with a line in docs/lab_log.md.
"""

GOLDEN_SCORES: dict[str, str] = {
    "bm25": "8fc197c11c35fd17",
    "bm25_instruction": "07638f14b240bd43",
    "random_ranker": "4767aac6dcff4668",
    "untouched": "1508cd8127ef8a1d",
}
"""eval_id of each shipped arm that trains nothing, seed 0."""

GOLDEN_MIXES: dict[str, str] = {
    "balanced_original": "998db54b4f7c3b82",
    "balanced_side": "7464adf6526d00f2",
    "balanced_style": "25fd0d92b70b510b",
    "dead_polarity": "1aaa59ab132124bb",
    "dual_view": "b5acbe7e1da48ae1",
    "dual_view_added": "32d80f88481d1123",
    "dual_view_equal_queries": "32d80f88481d1123",
    "dual_view_joint": "32d80f88481d1123",
    "generic_instruction": "3b47ac1316fd25af",
    "instructed_share": "bd693625ee54f3ce",
    "instruction_negatives": "6c2a83b7f5058d80",
    "instruction_negatives_fewer_negatives": "6c2a83b7f5058d80",
    "instructions": "f3d907bd1b11fb29",
    "joint": "b63cc3e7c707fd84",
    "joint_matched": "257ae1342d3e5b38",
    "label_noise": "afec8973dad2b87e",
    "negative_share": "77f22aff159fafe1",
    "paraphrase_control": "d81ee5b122efb34f",
    "query_only": "14c038381e249dbb",
    "random_polarity": "451be76eac88b471",
    "repeat_query": "f86fd2728d87debf",
    "reversal_restyled": "71f8e6f04b169bee",
    "style_twin": "3d2fda7d20d95d6d",
    "style_twin_known_labels": "3d2fda7d20d95d6d",
    "swapped_instruction": "0a566b2af48fa845",
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
    "query_only": ("bfa472a39dfa6805", "74d88f65c1bb9151", "1508cd8127ef8a1d", "a4d9bd53144b526f"),
    "dual_view": ("a3774da2fa508385", "6464b3688981be98", "1508cd8127ef8a1d", "22bc67d9b453aadd"),
    "bm25": ("bfa472a39dfa6805", "3085bd407c20cd79", "1508cd8127ef8a1d", "daceda1e9f9e2c45"),
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


@pytest.mark.parametrize("arm", ARMS)
def test_golden_mixes(arm: str) -> None:
    recipe = run_config(f"+experiment={arm}", "source.documents=600", "budget.limit=48").recipe
    if recipe.ranker == "trained":
        built = build_mix(small_world(), recipe, 0)
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


def test_the_tree_of_the_readme_exists() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
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
            assert name in names, f"{name} is not in the README's tree"
