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
    "dual_view": "5aa7abb93d39bba0",
    "dual_view_added": "c8ffcc00f3c3f13c",
    "dual_view_equal_queries": "c8ffcc00f3c3f13c",
    "dual_view_joint": "c8ffcc00f3c3f13c",
    "generic_instruction": "ad12c3fc680a3c03",
    "instructed_share": "3d2b7b41c193c912",
    "instruction_negatives": "303fcad4950dd13d",
    "instructions": "b13609ecdbd178f7",
    "joint": "59cd93750c067dee",
    "joint_matched": "0505bf42ed102e1c",
    "label_noise": "5e49ca21f3aa41ff",
    "negative_share": "ae7e98bca69c3525",
    "paraphrase_control": "56d77aecf5e48422",
    "query_only": "584dbacb70e6f5cf",
    "random_polarity": "95ce673a69a98be8",
    "repeat_query": "e46556f86cd647f0",
    "swapped_instruction": "a84ac01d7255cec4",
}
"""mix_id of each shipped arm that trains, seed 0.

A change here orphans results: deliberate, with a line in docs/lab_log.md.
"""

GOLDEN_SCORES: dict[str, str] = {
    "bm25": "36f574c1ed736012",
    "bm25_instruction": "0553e9d9bf4c08ac",
    "random_ranker": "fae215714f7b77ff",
    "untouched": "e48bb6035c0ec1b0",
}
"""eval_id of each shipped arm that trains nothing, seed 0."""

GOLDEN_MIXES: dict[str, str] = {
    "dual_view": "49ce507dc24f6637",
    "dual_view_added": "dda247fb81222245",
    "dual_view_equal_queries": "dda247fb81222245",
    "dual_view_joint": "dda247fb81222245",
    "generic_instruction": "52f6e92b228b7288",
    "instructed_share": "4d866b74a676b253",
    "instruction_negatives": "acc275e7e12d8ff9",
    "instructions": "836a6527d7d3f892",
    "joint": "c8d943d512c11713",
    "joint_matched": "a4c2bdb33382a042",
    "label_noise": "cd2af100d58aa692",
    "negative_share": "95875e333111483f",
    "paraphrase_control": "dd45532b5695127a",
    "query_only": "2db639d8be3cda90",
    "random_polarity": "fe7b5faad3110087",
    "repeat_query": "bf3260514ee4e6c7",
    "swapped_instruction": "e1be7143a4e9329a",
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
    "query_only": ("486c712cb4d778bb", "ec5842a6492071e9", "e48bb6035c0ec1b0", "ad894763fca22c9b"),
    "dual_view": ("68ef9d2bbd45b3e1", "484ac467e22efd53", "e48bb6035c0ec1b0", "50279ad7bb691ff4"),
    "bm25": ("486c712cb4d778bb", "9f094157d72fe53f", "e48bb6035c0ec1b0", "429dcd86e906abf0"),
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
