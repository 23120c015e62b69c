"""Tuning that makes no sense: spaces, objectives, settings of the sweeper."""

from __future__ import annotations

from bad_inputs import BadInput

RATE = "train.learning_rate="


def _row(words: str, *overrides: str, sweeps: str = "tune") -> BadInput:
    name = " ".join(overrides)[:70] if sweeps == "tune" else f"{sweeps}: {' '.join(overrides)}"
    command = ("ablate.run", "-m", f"+sweeps={sweeps}", "runtime.results='{dir}/results'", *overrides)
    return BadInput(name, command, (words,))


BAD_INPUTS = [
    _row("there are choice(a, b), range(start, stop, step), interval(low, high)", RATE + "choice()"),
    _row("there are choice(a, b), range(start, stop, step), interval(low, high)", RATE + "interval(a,b)"),
    _row("an interval needs low < high", RATE + "interval(1e-3,1e-5)"),
    _row("an interval needs low < high, and low > 0 for log", RATE + "tag(log,interval(0,1e-3))"),
    _row("an interval needs low < high", RATE + "interval(1e-5,nan)"),
    _row("train.learning_rate=inf must be a finite number", RATE + "interval(1e-5,inf)"),
    _row("train.learning_rate=nan must be a finite number", RATE + "choice(1e-4,nan)"),
    _row("train.learning_rate=0.0 is out of range", RATE + "interval(0,.1)"),
    _row("[1, 2] is no single value", RATE + "choice(1e-4,[1,2])"),
    _row("lists 0.0001 twice", RATE + "choice(1e-4,0.0001)"),
    _row("tag 'lin' is not known here; intervals take log, int and float", RATE + "tag(lin,interval(0,1))"),
    _row("is no dimension; write choice(a, b)", RATE + "glob(*)"),
    _row("holds no value; a range goes up from start", "train.epochs=range(5,1)"),
    _row("holds no value; a range goes up from start", "train.epochs=range(1,5,0)"),
    _row("train.epochs=0 is out of range; allowed: at least 1", "train.epochs=range(0,5)"),
    _row("unknown key train.nope; known here: epochs, ", "train.nope=choice(1,2)"),
    _row("nope.x may not be tuned", "nope.x=choice(1,2)"),
    _row("evaluation.depth may not be tuned: it decides what is measured", "evaluation.depth=choice(10,20)"),
    _row("source.skew may not be tuned", "source.skew=choice(.5,1)"),
    _row("seed may not be tuned: the best of several seeds is luck", "seed=0,1"),
    _row("factors.label_noise may not be tuned", "factors.label_noise=0,.1"),
    _row("budget.limit may not be tuned", "budget.limit=10,20"),
    _row("runtime.threads may not be tuned", "runtime.threads=1,2"),
    _row("experiment may not be tuned", "+experiment=dual_view,joint"),
    _row("nothing to tune: name a space", "train.learning_rate=1e-4"),
    _row("there are: lr, temperature, training; did you mean lr?", "+sweeps/space=lrr"),
    _row("is a list; write choice(…) for values to try", "hydra.sweeper.params={train.learning_rate: [1e-4]}"),
    _row("Cannot assign int", "hydra.sweeper.params=3"),
    _row("hydra.sweeper.n_trials=0 is out of range", "hydra.sweeper.n_trials=0"),
    _row("did you mean tpe?", "hydra.sweeper.sampler=tpee"),
    _row("has no finite list of values; a grid needs choice(…) or range(…)", "hydra.sweeper.sampler=grid"),
    _row(
        "the grid has 6 points and hydra.sweeper.n_trials=3 would leave some out",
        "hydra.sweeper.sampler=grid",
        "train.epochs=1,2,3",
        "train.learning_rate=1e-4,2e-4",
        "hydra.sweeper.n_trials=3",
    ),
    _row("hydra.sweeper.pruner='med' is not known; allowed: none, median, ", "hydra.sweeper.pruner=med"),
    _row("is none of: sqlite, journal, a URL", "hydra.sweeper.storage=sqlit"),
    _row(
        "holds a password; put the URL into an environment variable", "hydra.sweeper.storage=postgresql://me:secret@h/d"
    ),
    _row("must name at least one measure", "hydra.sweeper.objective=[]"),
    _row("must be condition/direction/measure", "hydra.sweeper.objective=[world/test/original/original/nDCG@10]"),
    _row("add 'original/original/nDCG@10' as a second objective", "hydra.sweeper.objective=[changed/changed/p-MRR]"),
    _row("hydra.sweeper.directions[0]='up' is not known; allowed: maximize, minimize", "hydra.sweeper.directions=[up]"),
    _row("must have an entry for each of the 1 objectives", "hydra.sweeper.directions=[maximize,minimize]"),
    _row("hydra.sweeper.study='a/b' must be a name", "hydra.sweeper.study=a/b"),
    _row("needs a launcher with processes of its own", "hydra.sweeper.workers=2"),
    _row("tuning needs an evaluation set that no claim is tested on", "runtime.dev_set=null"),
    _row("unknown key hydra.sweeper.nope; known here: ", "hydra.sweeper.nope=3"),
    _row("leave +experiment out of the command line", "+experiment=dual_view", sweeps="tune_each_arm"),
    _row("there is no 'dual_vew' in experiment", "hydra.sweeper.arms=[dual_vew]", sweeps="tune_each_arm"),
    _row("do not tell the arms apart", "hydra.sweeper.arms=[joint,joint]", sweeps="tune_each_arm"),
    _row("the choice of a group is the name of a file", "hydra.sweeper.arms=[3]", sweeps="tune_each_arm"),
]
