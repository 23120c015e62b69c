"""A model leaves the project: the same vectors elsewhere, a card whose code is right, and nothing written by halves."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import extra, run_config

from ablate import export as export_module
from ablate.evaluation.measures import mean_interval
from ablate.export import export, license_in, main
from ablate.model.encoder import BiEncoder
from ablate.recipe.schema import Lora, ModelConfig
from ablate.records import Passage, UserError
from ablate.release.card import Measured, Origin, _code, _interval, _text, model_card
from ablate.release.finished import FinishedRun, find_run
from ablate.release.portable import check_portable, plain_vectors, portable_tokenizer, write_portable
from ablate.release.reproduce import baseline_of, command_of, experiment_of
from ablate.store.results import ResultStore

LONG = " ".join(f"long {number}" for number in range(300))
QUERIES = [("a short query", ""), ("a short query", "only with a garden"), ("a query", LONG), (LONG, "only new")]
PASSAGES = [Passage("1", "a text"), Passage("2", "a text", "a title"), Passage("3", LONG, "a title")]


@pytest.fixture(scope="module")
def exported(tiny_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "deep" / "model"
    assert main(["polarity/dual_view:0", "--to", str(target), "--results", str(tiny_runs)]) == 0
    return target


def encoder_of(results: Path) -> BiEncoder:
    return find_run(ResultStore(results), "polarity/dual_view:0").encoder()


def blocks(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.S)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_directory_has_the_standard_places(exported: Path) -> None:
    files = sorted(str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file())
    assert files == [
        "1_Pooling/config.json",
        "2_Normalize/config.json",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_recipe.json",
    ]
    assert [module["path"] for module in read(exported / "modules.json")] == ["", "1_Pooling", "2_Normalize"]
    assert read(exported / "1_Pooling" / "config.json")["pooling_mode"] == "mean"
    values = read(exported / "config_sentence_transformers.json")
    assert values["prompts"] == {"query": "", "passage": "", "document": ""}
    assert values["similarity_fn_name"] == "cosine"
    lengths = read(exported / "sentence_bert_config.json")
    assert [lengths[name] for name in ("max_seq_length", "query_length", "document_length")] == [128, 64, 128]


def test_plain_transformers_gives_our_vectors_also_of_texts_that_are_cut(exported: Path, tiny_runs: Path) -> None:
    encoder = encoder_of(tiny_runs)
    texts = [encoder.template.query_text(*query) for query in QUERIES]
    np.testing.assert_allclose(plain_vectors(encoder, exported, texts, 64), encoder.encode_queries(QUERIES), atol=1e-5)
    texts = [encoder.template.passage_text(passage) for passage in PASSAGES]
    theirs = plain_vectors(encoder, exported, texts, 128)
    np.testing.assert_allclose(theirs, encoder.encode_passages(PASSAGES), atol=1e-5)
    assert np.abs(theirs - plain_vectors(encoder, exported, texts, 12)).max() > 1e-3, "the length matters"


@pytest.mark.extras
def test_sentence_transformers_gives_our_vectors_also_of_texts_that_are_cut(exported: Path, tiny_runs: Path) -> None:
    library = extra("sentence_transformers", minversion="6.0")
    encoder, model = encoder_of(tiny_runs), library.SentenceTransformer(str(exported), device="cpu")
    queries = model.encode_query([encoder.template.query_text(*query) for query in QUERIES])
    np.testing.assert_allclose(queries, encoder.encode_queries(QUERIES), atol=1e-5)
    documents = model.encode_document([encoder.template.passage_text(passage) for passage in PASSAGES])
    np.testing.assert_allclose(documents, encoder.encode_passages(PASSAGES), atol=1e-5)
    assert model.max_seq_length == 128 and model.similarity_fn_name == "cosine"


def expected_similarities(encoder: BiEncoder) -> Any:
    query, instruction = "papers on sleep and memory", "Only papers with a control group."
    title, text = "Sleep and memory", "We compare two groups of students."
    queries = encoder.encode_queries([(query, instruction), (query, "")])
    return queries @ encoder.encode_passages([Passage("1", text, title), Passage("2", text)]).T


def run_block(block: str, folder: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(block.replace("PATH_OF_THIS_FOLDER", str(folder)), names)
    return names


def test_the_code_in_the_card_is_right(exported: Path, tiny_runs: Path) -> None:
    _, plain = blocks((exported / "README.md").read_text(encoding="utf-8"))
    names = run_block(plain, exported)
    found = (names["queries"] @ names["documents"].T).numpy()
    np.testing.assert_allclose(found, expected_similarities(encoder_of(tiny_runs)), atol=1e-5)


@pytest.mark.extras
def test_the_code_for_sentence_transformers_in_the_card_is_right(exported: Path, tiny_runs: Path) -> None:
    extra("sentence_transformers", minversion="6.0")
    names = run_block(blocks((exported / "README.md").read_text(encoding="utf-8"))[0], exported)
    found = names["model"].similarity(names["queries"], names["documents"]).numpy()
    np.testing.assert_allclose(found, expected_similarities(encoder_of(tiny_runs)), atol=1e-5)


def test_the_card_says_what_the_model_is(exported: Path, tiny_runs: Path) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    manifest = find_run(ResultStore(tiny_runs), "polarity/dual_view:0").manifest
    assert card.startswith("---\nlibrary_name: sentence-transformers\n") and 'license: "unknown"' in card
    for words in (
        "unknown: check it before you pass this model on",
        "Trained on generated text: **100 %** of the passages",
        "Differs from the baseline arm `instruction_negatives` in `factors.reversed_views` `0.0` → `1.0`",
        "Budget: 16 groups, fill `fewer_queries`",
        "S = 2 seeds of this recipe were measured so (0, 1)",
        f"`{manifest.id}`",
        f"`{manifest.git['commit']}`",
        "python -m ablate.run +experiment=dual_view model=tiny source.documents=600 budget.limit=16",
        "| `train.temperature` | `0.05` |",
    ):
        assert words in card, words
    assert str(tiny_runs) not in card


def test_the_scores_in_the_card_are_those_of_the_run(exported: Path, tiny_runs: Path) -> None:
    run = find_run(ResultStore(tiny_runs), "polarity/dual_view:0")
    ((manifest, evaluation),) = run.evaluations()
    values = [s.value for s in evaluation.scores if (s.measure, s.condition) == ("nDCG@10", "changed")]
    other = find_run(ResultStore(tiny_runs), "polarity/dual_view:1").evaluations()[0][1]
    others = [s.value for s in other.scores if (s.measure, s.condition) == ("nDCG@10", "changed")]
    untouched = run.untouched(manifest)
    assert untouched is not None
    before = [s.value for s in untouched.scores if (s.measure, s.condition) == ("nDCG@10", "changed")]
    low, high = mean_interval(values) or (0, 0)
    means = float(np.mean(values)), float(np.mean(others))
    row = (
        f"| changed: usual | nDCG@10 | {len(values)} | {means[0]:.3f} | {low:.3f} to {high:.3f} | "
        f"{np.mean(before):.3f} | {np.mean(means):.3f} ± {np.std(means, ddof=1):.3f} (S = 2) |"
    )
    assert row in (exported / "README.md").read_text(encoding="utf-8")


def card_of(run: FinishedRun, *measured: Measured, **changes: Any) -> str:
    known = {"other_seeds": [], "baseline": None, "command": None, "add_pooling_layer": False, **changes}
    return model_card(run, Origin("a/b", "a|b {{ x }} *c*", None), measured, **known)


def test_a_card_of_whatever_a_run_is_keeps_its_paragraphs_and_tables(tiny_runs: Path) -> None:
    run = find_run(ResultStore(tiny_runs), "polarity/dual_view:0")
    ((manifest, evaluation),) = run.evaluations()
    warned = replace(evaluation, warnings=("cut | here", "{% if %}"))
    alone = Measured(manifest.id, warned, None, {0: evaluation})
    several = replace(alone, untouched=run.untouched(manifest), seeds={3: evaluation, 0: evaluation})
    lora = Lora(rank=2, alpha=4.0, dropout=0.0, targets=("q",))
    model = replace(run.recipe.model, lora=lora, normalise=False, query_prefix="q: ", order="instruction_first")
    decoder = replace(run, recipe=replace(run.recipe, model=model))
    nasty = replace(run, manifest=replace(run.manifest, labels=("s/x_`1`|", "t/y"), git={}))
    cards = {
        "no scores": card_of(run),
        "scores": card_of(run, alone),
        "seeds": card_of(run, several, alone, other_seeds=[3, 5]),
        "decoder": card_of(decoder, baseline=("b", run.recipe.factors), command="a command", add_pooling_layer=True),
        "nasty": card_of(nasty),
    }
    for name, card in cards.items():
        assert "\n\n\n" not in card and card.endswith("\n") and not card.endswith("\n\n"), name
        for block in re.sub(r"```.*?```", "", card, flags=re.S).split("\n\n"):
            rows = block.splitlines()
            if any(row.startswith("|") for row in rows):
                cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
                assert len(cells) == 1 and set(rows[1]) == {"|", "-"}, (name, block)
        assert r"a\|b {{ x }} \*c\*" in card, name
    assert "This run has not been evaluated." in cards["no scores"] and "S = 1: " not in cards["no scores"]
    assert "S = 1: this recipe was trained with seed 0 only" in cards["scores"] and "not measured |" in cards["scores"]
    assert "\n\nWarning: cut \\| here\n\nWarning: {% if %}\n\n### world/test\n" in cards["scores"]
    both = "S = 2 seeds of this recipe were measured so (0, 3); trained and not measured so: 5: the last column is the"
    assert both in cards["seeds"] and "measured so (0); trained and not measured so: 3, 5.\n" in cards["seeds"]
    for words in (
        "| adapter | LoRA, merged into the weights |",
        "arm `b` in no factor.",
        "```\na command\n```",
        "inner product",
        "a long instruction pushes the query out",
        ", add_pooling_layer=False).eval()",
        "encode(['q: ' + item for item in (instruction + ' ' + query, query)]",
    ):
        assert words in cards["decoder"], words
    assert "# x\\_\\`1\\`\\|, seed 0\n" in cards["nasty"] and "| git commit of ablate | not known |" in cards["nasty"]


def test_interval_by_hand() -> None:
    # t(.975, 2) = 4.303, standard deviation 1, n = 3: half width 4.303 / sqrt(3) = 2.484
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((-0.484, 4.484), abs=1e-3)
    assert mean_interval([1.0]) is None
    # mean 2 / 3, se 1 / 3, t(2) 4.303: up to 2.1, where no nDCG is
    assert _interval([0.0, 1.0, 1.0], "nDCG@10") == "0.000 to 1.000"
    assert _interval([0.0, 1.0, 1.0], "p-MRR") == "-0.768 to 1.000"


def test_what_comes_from_data_is_escaped() -> None:
    assert _text("a|b <script> *x*\nnew") == "a\\|b &lt;script&gt; \\*x\\* new"
    assert _code("a|b`<i>") == "<code>a&#124;b&#96;&lt;i&gt;</code>"
    assert _code(" ") == '`" "`' and _code("plain") == "`plain`" and _code("two\nlines") == '`"two\\nlines"`'


def test_nothing_is_ever_overwritten(exported: Path, tiny_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in exported.rglob("*"))
    assert main(["polarity/dual_view:0", "--to", str(exported), "--results", str(tiny_runs)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --to ") and "never writes over anything" in error and error.count("\n") == 1
    assert sorted((path, path.stat().st_mtime_ns) for path in exported.rglob("*")) == before


def test_what_fails_leaves_nothing(tiny_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(find_run(ResultStore(tiny_runs), "polarity/dual_view:0"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_gives_other_vectors_is_refused(exported: Path, tiny_runs: Path) -> None:
    encoder = encoder_of(tiny_runs)
    assert check_portable(encoder, exported) <= 1e-5
    with torch.no_grad():
        encoder.network.embeddings.word_embeddings.weight += 0.1 * torch.randn(1)
        encoder.network.encoder.layer[0].output.dense.weight *= 1.5
    with pytest.raises(UserError, match="gives other vectors than this run's model"):
        check_portable(encoder, exported)


def test_a_damaged_and_an_incomplete_run_are_refused(
    own_tiny_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ResultStore(own_tiny_runs)
    train_id = store.resolve("train", "polarity/dual_view:0").id
    weights = store.folder("train", train_id) / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    command = [train_id[:8], "--to", str(tmp_path / "out"), "--results", str(own_tiny_runs)]
    assert main(command) == 2
    assert "model/model.safetensors was changed (" in capsys.readouterr().err
    (store.folder("train", train_id) / "manifest.json").unlink()
    assert main(command) == 2
    assert "is not complete (it has no manifest.json); issue the command" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_is_found_by_id_prefix_and_name(tiny_runs: Path) -> None:
    store = ResultStore(tiny_runs)
    ids = [store.resolve("train", f"polarity/dual_view:{seed}").id for seed in (0, 1)]
    assert ids[0] != ids[1]
    for train_id in ids:
        assert store.resolve("train", train_id).id == store.resolve("train", train_id[:10]).id == train_id
    with pytest.raises(UserError, match=r"'polarity/dual_view' means 2 of kind train under .*_view:0.*_view:1"):
        store.resolve("train", "polarity/dual_view")
    with pytest.raises(UserError, match=r"no train 'polarity/dual_view:7' .*there: .*:0\), .*:1\)"):
        store.resolve("train", "polarity/dual_view:7")
    for unknown in ("", "zz", "../x", "polarity/", "/", "polarity/dual_view:"):
        with pytest.raises(UserError, match=r"no train|means 2"):
            store.resolve("train", unknown)
    with pytest.raises(UserError, match="--results .* is no folder"):
        find_run(ResultStore(tiny_runs / "nowhere"), "x")


def test_the_licence_is_read_from_the_front_matter_only(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    assert license_in(card) is None
    for text, found in (
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ('---\nlicense: "mit"\n---\n', "mit"),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
    ):
        card.write_text(text)
        assert license_in(card) == found


def test_baselines_and_commands_of_arms(tiny_runs: Path) -> None:
    assert [path.stem for name in ("label_noise_0.35", "label_noise_0.1") if (path := experiment_of(name))] == [
        "label_noise",
        "label_noise",
    ]
    assert experiment_of("dual_view_custom") is None and baseline_of("custom") is None
    assert baseline_of("query_only") is None
    name, factors = baseline_of("label_noise_0.35") or ("", None)
    assert name == "dual_view" and factors is not None and factors.reversed_views == 1.0
    recipe = find_run(ResultStore(tiny_runs), "polarity/dual_view:1").recipe
    command = command_of(recipe, 1, "dual_view")
    assert command is not None and command.startswith("python -m ablate.run +experiment=dual_view model=tiny ")
    assert "budget.limit=16" in command and command.endswith(" seed=1")
    other = command_of(recipe, 1, "an arm of their own")
    assert other is not None and "+experiment" not in other and "factors.reversed_views=1.0" in other


@pytest.mark.parametrize("separator", [" ", 'it\'s {x} "q"', "a\\b", "a\\'b\\", "; ", "null"])
def test_a_command_quotes_any_text(separator: str) -> None:
    config = run_config("+experiment=joint", "model=decoder", "model.path=org/name", f"model.hub_revision={'a' * 40}")
    recipe = replace(config.recipe, model=replace(config.recipe.model, separator=separator))
    command = command_of(recipe, 0, "joint")
    assert command is not None and " model.path=org/name " in command


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig, LlamaModel

    from ablate.model.text import tiny_tokenizer
    from ablate.recipe.schema import TinyModel

    folder = tmp_path_factory.mktemp("decoder")
    tiny = TinyModel(vocabulary=150, hidden=32, layers=2, heads=2)
    tokenizer = tiny_tokenizer(tiny, [LONG, "a query and a text with a title, passage: only new."])
    tokenizer.backend_tokenizer.post_processor = importlib.import_module("tokenizers").processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", tokenizer.cls_token_id)]
    )
    tokenizer.eos_token, tokenizer.pad_token = "[SEP]", None
    config = LlamaConfig(
        vocab_size=150,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    LlamaModel(config).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def decoder(folder: Path, **values: Any) -> ModelConfig:
    known: dict[str, Any] = dict(
        name="decoder",
        path=str(folder),
        hub_revision=None,
        tiny=None,
        lora=None,
        pooling="last",
        normalise=True,
        query_prefix="query: ",
        passage_prefix="passage: ",
        separator="\n",
        order="instruction_first",
        append_eos=True,
        query_length=24,
        passage_length=16,
        dropout=0.0,
        trust_remote_code=False,
    )
    return ModelConfig(**{**known, **values})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"lora": Lora(rank=2, alpha=4.0, dropout=0.0, targets=("q_proj", "v_proj"))},
        {"pooling": "cls", "normalise": False, "append_eos": False, "order": "query_first"},
    ],
    ids=["last token, end of text appended", "LoRA merged", "first token, not normalised"],
)
@pytest.mark.extras
def test_other_templates_survive(decoder_folder: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    model = decoder(decoder_folder, **values)
    encoder = BiEncoder.from_config(model, seed=0)
    if model.lora is not None:
        with torch.no_grad():
            for name, parameter in encoder.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(torch.full_like(parameter, 0.05))
    source, folder = tmp_path / "source", tmp_path / "folder"
    encoder.save(source)
    folder.mkdir()
    loaded = BiEncoder.load(source, model)
    write_portable(loaded, source, folder)
    assert check_portable(loaded, folder) <= 1e-5
    np.testing.assert_allclose(loaded.encode_queries(QUERIES), encoder.encode_queries(QUERIES), atol=1e-5)
    text = loaded.template.query_text(*QUERIES[2])
    cut = portable_tokenizer(loaded)(text, truncation=True, max_length=model.query_length)["input_ids"]
    assert cut == loaded.template.tokenise_queries([QUERIES[2]]).ids[0].tolist() and len(cut) == model.query_length
    prompts = read(folder / "config_sentence_transformers.json")["prompts"]
    assert prompts == {"query": "query: ", "passage": "passage: ", "document": "passage: "}
    assert (folder / "2_Normalize").exists() == model.normalise
    assert not list(folder.glob("adapter*"))
    library = extra("sentence_transformers", minversion="6.0")
    theirs = library.SentenceTransformer(str(folder), device="cpu")
    separator = model.separator
    posed = [q + separator + i if model.order == "query_first" else i + separator + q for q, i in QUERIES if i]
    expected = loaded.encode_queries([query for query in QUERIES if query[1]])
    np.testing.assert_allclose(theirs.encode_query(posed), expected, atol=1e-5)
    texts = [f"{passage.title} {passage.text}" if passage.title else passage.text for passage in PASSAGES]
    np.testing.assert_allclose(theirs.encode_document(texts), loaded.encode_passages(PASSAGES), atol=1e-5)


def test_a_backbone_with_code_of_its_own_is_not_exported(decoder_folder: Path, tmp_path: Path) -> None:
    encoder = BiEncoder.from_config(decoder(decoder_folder, trust_remote_code=True), seed=0)
    with pytest.raises(UserError, match="model.trust_remote_code=true"):
        write_portable(encoder, decoder_folder, tmp_path)
