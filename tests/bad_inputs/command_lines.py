"""What is typed wrong: names, choices, forms, values and options, for one run and for many."""

from __future__ import annotations

from bad_inputs import BadInput


def _row(words: str, *arguments: str, name: str = "") -> BadInput:
    options = [word for word in arguments if word.startswith("-")]
    rest = [word for word in arguments if not word.startswith("-")]
    command = ("ablate.run", *options, "runtime.results='{dir}/results'", *rest)
    return BadInput(name or " ".join(arguments)[:60], command, (words,))


def _as_typed(words: str, *arguments: str) -> BadInput:
    return BadInput(" ".join(arguments), ("ablate.run", *arguments), (words,))


BAD_INPUTS = [
    # keys
    _row(
        "unknown key budget.limt; known here: unit, limit, fill, negatives_per_group; did you mean budget.limit?",
        "budget.limt=3",
    ),
    _row("did you mean budget.limit?", "++budget.limt=3"),
    _row("did you mean budget.limit?", "-m", "+experiment=query_only,joint", "budget.limt=3"),
    _row("unknown key budgt; known here: audit, budget, evaluation, ", "budgt.limit=3"),
    _row("did you mean train.learning_rate?", "learning_rate=1e-3"),
    _row("unknown key experimnt; known here: ", "+experimnt=dual_view"),
    _row("unknown key evaluation_splits; known here: ", "evaluation_splits=[test]"),
    _row("unknown key budgt", "~budgt"),
    _row("seed is a value and has no keys; write seed=…", "seed.x=3"),
    _row("budget.limit is there already and is changed without +: budget.limit=3", "+budget.limit=3"),
    _row("unknown key hydra.sweeper.n_trials; known here: workers", "hydra.sweeper.n_trials=3"),
    # choices of groups
    _row("there is no 'dual_vew' in experiment; there are: audited_clean, ", "+experiment=dual_vew"),
    _row("there is no 'laptop' in experiment, but +sweeps=laptop", "+experiment=laptop"),
    _row("no experiment is chosen so far, so it is added with +: +experiment=joint", "experiment=joint"),
    _row("there is one source already, which is changed without +: source=beir", "+source=beir"),
    _row("experiment is given twice; leave one of them out", "+experiment=joint", "+experiment=dual_view"),
    _row("there are: none, trackio, wandb, wandb_offline; did you mean wandb?", "tracker=wnadb"),
    _row(
        "there is no 'mini' in model; there are: decoder, local, minilm, static, tiny; did you mean minilm?",
        "model=mini",
    ),
    _row("did you mean world?", "source=wrld"),
    _row("did you mean joblib?", "hydra/launcher=joblip"),
    _row("there are: ablate_optuna, ablate_study, basic", "hydra/sweeper=optun"),
    _row("did you mean laptop?", "-m", "+sweeps=lapto"),
    _row("budget is a group, whose values are files: groups; its keys are set one by one: budget.KEY=…", "budget=5"),
    _row("seed is no group; there are: budget, ", "seed@x=3"),
    _row("no experiment is chosen, so that there is nothing to leave out", "~experiment"),
    _row(
        "~budget: budget is a group of keys, and budget.limit=8 is one of them; leave ~budget out",
        "~budget",
        "budget.limit=8",
    ),
    _row("budget=[]: budget is a group of keys", "budget=[]", "budget.limit=8"),
    _row("+experiment=null: the choice of a group is the name of a file", "+experiment=null"),
    _row("unknown key hydra.launcher.n_jobs; known here: none", "hydra.launcher.n_jobs=2"),
    _row("unknown key trial", "+trial.number=1"),
    # forms
    _row("seed=0,1 is a list of values, one for each run: write -m before it", "seed=0,1"),
    _row("a study has many runs: write -m before +sweeps=smoke", "+sweeps=smoke"),
    _row("a study has many runs: write -m before +sweeps=tune", "+sweeps=tune"),
    _row(
        "'dual_view' is no key=value (both, without spaces around =); did you mean +experiment=dual_view or",
        "dual_view",
    ),
    _row(
        "there is no 'followir' in evaluation, but +evaluation_source=followir; there are: standard",
        "evaluation=followir",
    ),
    _row("there is no 'beir' in evaluation, but +evaluation_source=beir", "evaluation=beir"),
    _row("'seed' is no key=value", "seed"),
    _row("'=3' has no key before =", "=3"),
    _row("'@x=3' has no key before =", "@x=3"),
    _row("'seed ' is no key", "seed =3"),
    _row("seed==3 has two =; write seed=3", "seed==3"),
    _row("{ is not closed by }", "runtime.label={a"),
    _row("[ is not closed by ]", "evaluation.sets=[test"),
    _row(") closes what is not open", "runtime.label=a)"),
    _row('the quotation mark " is not closed', 'runtime.label="a'),
    _row("as one text: 'runtime.label=\"a=b\"'", "runtime.label=a=b"),
    _row("a comma has no value beside it", "seed=0,,1"),
    _row("is a number of 5000 digits; shorten it", "seed=" + "1" * 5000, name="5,000 digits"),
    # values
    _row("seed has no value; it takes a whole number, 0 to 9223372036854775807", "seed="),
    _row("seed='abc' has the wrong type (str)", "seed=abc"),
    _row(
        "seed=1000.0 has the wrong type (float); it takes a whole number, 0 to 9223372036854775807; write seed=1000",
        "seed=1e3",
    ),
    _row("seed=-1 is out of range; allowed: 0 to 9223372036854775807", "seed=-1"),
    _row("seed=9223372036854775808 is too large", "seed=9223372036854775808"),
    _row("train.learning_rate=1000000", "train.learning_rate=1" + 400 * "0", name="a rate of 400 digits"),
    _row("budget.limit=0 is out of range; allowed: at least 1", "budget.limit=0"),
    _row("train.learning_rate=nan must be a finite number", "train.learning_rate=nan"),
    _row("train.learning_rate=inf must be a finite number", "train.learning_rate=1e999"),
    _row(
        "budget.unit='toknes' is not known; allowed: groups, pairs, tokens, queries; did you mean tokens?",
        "budget.unit=toknes",
    ),
    _row("runtime.device='cuda:7' is not known; allowed: auto, cpu, cuda", "runtime.device=cuda:7"),
    _row("runtime.compile=true is for CUDA, and this run computes", "runtime.compile=true", "runtime.device=cpu"),
    _row("runtime.threads=100000 is out of range; allowed: 1 to 1024", "runtime.threads=100000"),
    _row("evaluation.index.kind=['ivf'] is not known", "evaluation.index.kind=[ivf]"),
    _row("evaluation.measures: 'p-MRR' has no value per query", "evaluation.measures=[p-MRR]"),
    _row("evaluation.measures: 'nDCG@10' is there already; leave it out", "evaluation.measures=[nDCG@10]"),
    _row("measure 'ndcg@5' is not known; known are nDCG@k", "evaluation.measures=[ndcg@5]"),
    _as_typed("runtime.results is empty, which would mean the current folder", "runtime.results="),
    _row("source.path is empty", "source=beir", "source.path="),
    _row("source.path has no value and needs one: add source.path=…", "source=beir"),
    _row("/nowhere", "source=beir", "source.path=/nowhere"),
    _row("/nowhere", "source=movies_rules", "source.path=/nowhere"),
    _row(
        "the source has no evaluation set 'nothing'; it has: dev, test, heldout",
        "evaluation.sets=[nothing]",
        "source.documents=600",
    ),
    _row("runtime.baseline='nope' is no arm in conf/experiment/; known: audited_clean, ", "runtime.baseline=nope"),
    _row("factors.instructed", "factors.reversed_views=1"),
    _row("seed is not set (null)", "seed=null"),
    # references
    _row("runtime.label: the environment variable NOPE is not set; set it", "runtime.label=${oc.env:NOPE}"),
    _row("runtime.label: ${nokey} refers to a key that is not there", "runtime.label=${nokey}"),
    _row("Unsupported interpolation type oc.nope", "runtime.label=${oc.nope:1}"),
    # options
    _as_typed("did you mean --multirun?", "--multrun"),
    _as_typed("-x is no option", "-x"),
    _as_typed(
        "model=tiny is cut off from the other values by -m; write options first, then all values: -m seed=1 model=tiny",
        "seed=1",
        "-m",
        "model=tiny",
    ),
    _as_typed("invalid choice: 'jbo'", "--cfg", "jbo"),
    _as_typed("--run and --multirun exclude each other", "-r", "-m"),
    _as_typed("--resolve goes with --cfg job", "--resolve"),
    _as_typed("--config-dir /nowhere is no folder", "--config-dir", "/nowhere"),
    _as_typed("nope is not found in ", "--config-name", "nope"),
    _row("stemmer=english is of BM25 as a ranker, and ranker=trained has no words", "stemmer=english"),
    _row("stemmer='klingon' is not known; allowed: english, porter", "ranker=bm25", "stemmer=klingon"),
    _row(
        "miner.stemmer=porter stems words of BM25, and miner.kind=dense has none",
        "+miner=dense",
        "+miner.stemmer=porter",
    ),
    # many runs: a mistake of all is said once
    _row("source.path has no value and needs one: add source.path=… (each of the 20 cells)", "-m", "+sweeps=movies"),
    _row(
        "budget.limit=0 is out of range; allowed: at least 1 (each of the 2 cells)", "-m", "seed=0,1", "budget.limit=0"
    ),
    _row(
        "one of a multirun; set it to false (each of the 2 cells)",
        "-m",
        "seed=0,1",
        "runtime.shard_weights=true",
        "runtime.dev_set=null",
        "runtime.plan_only=true",
    ),
    _row("there is no 'dual_vew' in experiment", "-m", "+experiment=dual_vew", "seed=0,1"),
    _row("one study at a time", "-m", "+sweeps=smoke,laptop"),
    _row("a study has a list of values (key=1,2,3), not a range to search", "-m", "seed=interval(0,3)"),
    _row("the command line describes no run", "-m", "seed=glob(*)"),
    _row("+experiment=3: the choice of a group is the name of a file, no number", "-m", "+experiment=3,3"),
]
