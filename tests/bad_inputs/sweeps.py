"""Studies whose arms, seeds, grid or looks make no sense."""

from __future__ import annotations

from bad_inputs import BadInput


def _study(name: str, words: str, *overrides: str) -> BadInput:
    given = ("ablate.run", "-m", "+sweeps=smoke", *overrides, "runtime.results={dir}/results", "tracker=none")
    return BadInput(name, given, (words,))


BAD_INPUTS = [
    _study("no arm", "study.arms=[] must name at least one", "study.arms=[]"),
    _study("an arm twice", "must name at least one and none of them twice", "study.arms=[dual_view,dual_view]"),
    _study("an arm twice but for blanks", "none of them twice", "study.arms=[dual_view,'dual_view ']"),
    _study("an arm without a name", "study.arms[0]='' must be the name of an arm", "study.arms=['']"),
    _study(
        "overrides without an arm",
        "study.arms[0]='factors.label_noise=0.1' must be the name of an arm",
        "study.arms=['factors.label_noise=0.1']",
    ),
    _study(
        "an arm with a word that is no override",
        "study.arms[0]='label_noise 0.1' must be the name",
        "study.arms=['label_noise 0.1']",
    ),
    _study("a number as an arm", "study.arms[0]=7 has the wrong type (int); it takes text", "study.arms=[7]"),
    _study("a seed twice", "study.seeds=[0, 0] must name at least one and none of them twice", "study.seeds=[0,0]"),
    _study("a negative seed", "study.seeds[0]=-1 is out of range", "study.seeds=[-1]"),
    _study(
        "a text as a seed",
        "study.seeds[0]='one' has the wrong type (str); it takes a whole number",
        "study.seeds=[one]",
    ),
    _study("half a seed", "study.seeds[0]=0.5 has the wrong type (float)", "study.seeds=[0.5]"),
    _study(
        "a key crossed with nothing",
        "study.grid: source.skew needs at least one value",
        "+study.grid=[{key:source.skew,values:[]}]",
    ),
    _study(
        "a value twice",
        "study.grid: source.skew has the value 0.5 twice",
        "+study.grid=[{key:source.skew,values:[0.5,0.5]}]",
    ),
    _study(
        "a key twice",
        "study.grid: the key 'source.skew' is there twice",
        "+study.grid=[{key:source.skew,values:[0.5]},{key:source.skew,values:[0.9]}]",
    ),
    _study(
        "a key twice, once with a plus",
        "study.grid: the key 'miner' is there twice",
        "+study.grid=[{key:miner,values:[bm25]},{key:+miner,values:[none]}]",
    ),
    _study("seeds in the grid", "study.grid: 'seed' cannot be crossed", "+study.grid=[{key:seed,values:[0,1]}]"),
    _study(
        "arms in the grid",
        "study.grid: '+experiment' cannot be crossed",
        "+study.grid=[{key:+experiment,values:[dual_view]}]",
    ),
    _study(
        "a group as a value",
        "study.grid: source needs at least one value, each a number, a text",
        "+study.grid=[{key:source,values:[{a:1}]}]",
    ),
    _study("looks that fall", "study.looks=[2, 1] must be rising numbers of seeds", "+study.looks=[2,1]"),
    _study("a look beyond the seeds", "none above 2", "+study.looks=[3]"),
    _study("what an incoherent run is", "study.incoherent='skip' is not known", "+study.incoherent=skip"),
]
