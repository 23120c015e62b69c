"""Numbers of verdicts worked out again: what is tampered with is named; a packet that another machine can verify."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_study import NDCG, Arm, claim, declare, make_quick, make_study, study_block

from ablate.recipe.values import digest
from ablate.store.manifest import Manifest, read_manifest, write_manifest
from ablate.store.results import ResultStore
from ablate.study.declaration import DeclaredCell, build_study
from ablate.study.records import StudyRecords
from analysis.verdict.verification import unequal
from analysis.verify import main

ON = {"instructed": 1.0}
ARMS = {"a": Arm(ranked=True), "b": Arm(ON, {NDCG: 0.2}, ranked=True)}
BLOCK = study_block([claim("c", "greater"), claim("d", "equivalent", margin=0.01)])


@pytest.fixture(autouse=True)
def made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two arms and five seeds whose rankings, judgments and cells are kept; not to be changed."""
    root = tmp_path_factory.mktemp("whole") / "results"
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        declared(root)
    return root


def declared(root: Path) -> str:
    under = declare(root, BLOCK)
    cells = [
        DeclaredCell(label=name, seed=seed, arm_id=digest(name), differs={"factors.instructed": float(name == "b")})
        for seed in range(5)
        for name in ARMS
    ]
    StudyRecords(ResultStore(root), "s").declare(build_study(BLOCK), cells)
    make_study(root, {name: dataclasses.replace(arm, declared=under) for name, arm in ARMS.items()})
    return under


@pytest.fixture
def results(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "results")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """Return the exit code of the command and the lines that it printed."""
    code = main(words)
    captured = capsys.readouterr()
    return code, (captured.out + (captured.err if code == 2 else "")).splitlines()


def of(results: Path, arm: str = "b", seed: int = 0, kind: Any = "evaluation") -> tuple[Path, Manifest]:
    """Return the folder of a stage of the study with its manifest."""
    manifest = ResultStore(results).by_arm(kind, "s")[arm, seed]
    return ResultStore(results).folder(kind, manifest.id), manifest


def sign(folder: Path, **changes: Any) -> None:
    """Change a manifest, and record the files that lie beside it and a checksum as if they had always been so."""
    manifest = read_manifest(folder)
    assert manifest is not None
    contents = {name: (folder / name).read_bytes() for name in manifest.content_sha256 if (folder / name).exists()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    sizes = {name: len(content) for name, content in contents.items()}
    recorded = {
        "content_sha256": {**manifest.content_sha256, **sums},
        "content_bytes": {**manifest.content_bytes, **sizes},
    }
    write_manifest(folder, dataclasses.replace(manifest, **recorded, **changes))


def raise_scores(folder: Path) -> None:
    table = pq.read_table(folder / "scores.parquet")
    values = pa.array([min(1.0, value + 0.1) for value in table["value"].to_pylist()])
    pq.write_table(table.set_column(table.column_names.index("value"), "value", values), folder / "scores.parquet")


def score_changed(results: Path) -> None:
    raise_scores(of(results)[0])


def score_changed_and_signed(results: Path) -> None:
    raise_scores(of(results)[0])
    sign(of(results)[0])


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()).decode()).encode(), mtime=0))


def ranking_changed_and_signed(results: Path) -> None:
    folder, _ = of(results, "a")
    (path,) = folder.glob("rankings/*")
    rewrite(
        path,
        lambda text: (
            text.replace("q00 Q0 d0 ", "q00 Q0 dX ").replace("q00 Q0 d1 ", "q00 Q0 d0 ").replace(" dX ", " d1 ")
        ),
    )
    sign(folder)


def judgment_changed_and_signed(results: Path) -> None:
    folder, _ = of(results)
    rewrite(folder / "judgments.json.gz", lambda text: text.replace('"q00": {"d0": 1}', '"q00": {"d1": 1}'))
    sign(folder)


def manifest_changed(results: Path) -> None:
    path = of(results)[0] / "manifest.json"
    path.write_text(path.read_text().replace('"finished": "2', '"finished": "3'))


def manifest_changed_and_signed(results: Path) -> None:
    sign(of(results)[0], finished="2026-01-02T00:00:00+00:00")


def declared_in_manifest(results: Path) -> None:
    sign(of(results)[0], declared="f" * 16)


def file_missing(results: Path) -> None:
    next((of(results)[0] / "rankings").iterdir()).unlink()


def file_extra(results: Path) -> None:
    (of(results)[0] / "scores_2.parquet").write_bytes(b"x")


def ranking_extra(results: Path) -> None:
    (of(results)[0] / "rankings" / "x.trec.gz").write_bytes(b"x")


def declaration_changed(results: Path) -> None:
    (path,) = results.glob("studies/s/*.json")
    path.write_text(path.read_text().replace('"greater"', '"less"'))


def declared_later(results: Path) -> None:
    (path,) = results.glob("studies/s/*.json")
    path.write_text(path.read_text().replace("2026-01-01", "2026-01-09"))


def cells_changed(results: Path) -> None:
    (path,) = results.glob("studies/s/cells/*.json")
    path.write_text(path.read_text().replace("1.0", "0.5"))


def cells_changed_and_signed(results: Path) -> None:
    (path,) = results.glob("studies/s/cells/*.json")
    record = json.loads(path.read_text().replace("1.0", "0.5"))
    del record["digest"]
    path.write_text(json.dumps({**record, "digest": digest(record)}))


def scores_swapped_and_signed(results: Path) -> None:
    (first, _), (second, _) = of(results, "a"), of(results, "b")
    kept = (first / "scores.parquet").read_bytes()
    (first / "scores.parquet").write_bytes((second / "scores.parquet").read_bytes())
    (second / "scores.parquet").write_bytes(kept)
    sign(first)
    sign(second)


def labels_swapped_and_signed(results: Path) -> None:
    stages = [of(results, arm, 0, kind)[0] for arm in "ab" for kind in ("mix", "train", "evaluation")]
    for place, folder in enumerate(stages):
        sign(folder, labels=("s/b" if place < 3 else "s/a",))


def model_changed(results: Path) -> None:
    (of(results, kind="train")[0] / "model" / "model.safetensors").write_text("other")


def run_dropped(results: Path) -> None:
    shutil.rmtree(of(results)[0])


def declared_earlier(results: Path) -> None:
    (path,) = results.glob("studies/s/*.json")
    path.write_text(path.read_text().replace("2026-01-01", "2025-01-01"))


TAMPERED: list[tuple[Callable[[Path], None], str]] = [
    (score_changed, "FAILS: files: "),
    (score_changed_and_signed, "FAILS: scores of b seed 0: "),
    (ranking_changed_and_signed, "scores are not what rankings and judgments give"),
    (judgment_changed_and_signed, "scores are not what rankings and judgments give"),
    (manifest_changed, "was changed after it was written (its checksum is that of other values)"),
    (manifest_changed_and_signed, "was finished before the train that it was made from"),
    (declared_in_manifest, "deviation: runs: measured under the declaration ffffffffffffffff: b seed 0"),
    (file_missing, "is missing"),
    (file_extra, "scores_2.parquet is there, and its manifest does not name it"),
    (ranking_extra, "x.trec.gz is not among the files that the manifest of"),
    (declaration_changed, "FAILS: declarations: the declaration "),
    (declared_later, "one of the times was moved"),
    (cells_changed, "was changed, or belongs to another declaration"),
    (
        cells_changed_and_signed,
        "b seed 0 is not the declared cell of that name: factors.instructed is 1.0, declared 0.5",
    ),
    (scores_swapped_and_signed, "FAILS: scores of a seed 0: "),
    (
        labels_swapped_and_signed,
        "a seed 0 is not the declared cell of that name: factors.instructed is 1.0, declared 0.0",
    ),
    (model_changed, "model/model.safetensors was changed"),
    (run_dropped, "deviation: runs: declared and not there: b seed 0"),
]
"""How a study is tampered with, and what is said of it without a packet."""

IN_PACKET_ONLY = [declared_earlier]
"""What agrees with everything else in the results; a packet of before tells it."""
DEVIATIONS = [declared_in_manifest, run_dropped]
"""What is no contradiction in the results: it is a deviation, and a packet of before tells it."""


def test_a_whole_study_holds(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = said(capsys, "s", "--results", str(whole))
    assert code == 0 and {line.partition(":")[0] for line in lines} == {"holds"}, lines
    shown = "\n".join(lines)
    assert "600 of 10 evaluations are what rankings and judgments give, to the last bit" in shown
    assert "recomputed scores give the same: c SUPPORTED, d REFUTED" in shown


@pytest.mark.parametrize(("tamper", "words"), TAMPERED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_was_tampered_with_is_named(
    results: Path, capsys: pytest.CaptureFixture[str], tamper: Callable[[Path], None], words: str
) -> None:
    tamper(results)
    code, lines = said(capsys, "s", "--results", str(results))
    assert any(words in line for line in lines), lines
    assert code == (0 if tamper in DEVIATIONS else 1)
    assert tamper in DEVIATIONS or lines[0].startswith("FAILS: ")


@pytest.fixture(scope="module")
def packet(whole: Path) -> Path:
    path = whole.parent / "s.tar.gz"
    assert main(["s", "--results", str(whole), "--packet", str(path)]) == 0
    return path


@pytest.mark.parametrize("tamper", [*(case for case, _ in TAMPERED if case is not model_changed), *IN_PACKET_ONLY])
def test_results_are_compared_with_a_packet_of_before(
    results: Path, packet: Path, capsys: pytest.CaptureFixture[str], tamper: Callable[[Path], None]
) -> None:
    tamper(results)
    code, lines = said(capsys, "s", "--results", str(results), "--check", str(packet))
    assert code == 1 and any(line.startswith("FAILS: ") for line in lines)
    if tamper in (*IN_PACKET_ONLY, *DEVIATIONS):
        assert any(line.startswith("FAILS: against the packet: ") for line in lines)


def test_a_verdict_that_does_not_follow_from_the_scores_is_named(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        raise_scores(of(results, "a", seed)[0])
        sign(of(results, "a", seed)[0])
    lines = said(capsys, "s", "--results", str(results))[1]
    assert any(line.startswith("FAILS: verdict on c: ") for line in lines)


def test_scores_without_judgments_cannot_be_recomputed_and_do_not_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    under = declare(tmp_path, BLOCK)
    make_study(tmp_path, {name: dataclasses.replace(a, ranked=False, declared=under) for name, a in ARMS.items()})
    code, lines = said(capsys, "s", "--results", str(tmp_path))
    assert code == 1 and not any(line.startswith("FAILS") for line in lines)
    assert "CANNOT BE RECOMPUTED: scores of a seed 0: it was made before judgments were kept" in lines[0]
    assert any(line.startswith("CANNOT BE RECOMPUTED: verdicts: ") for line in lines)


def test_changes_of_a_declaration_are_a_log(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = [claim("c", "greater", alpha=0.01), claim("e", "less")]
    declare(results, study_block(claims, looks=[3, 5], seeds=[0, 1, 2, 3, 4, 5]), at="2026-06-01T00:00:00+00:00")
    log = [line for line in said(capsys, "s", "--results", str(results))[1] if line.startswith("deviation: ")]
    shown = "\n".join(log)
    for words in (
        "seeds added: 5 (declared anew 2026-06-01T00:00:00+00:00, when 10 runs stood under ",
        "looks changed from [] to [3, 5]",
        "claim 'd' withdrawn",
        "claim 'c' changed: alpha from 0.05 to 0.01",
        "claim 'e' added",
        "declared and not there: a seed 5, b seed 5",
        "trained under the declaration ",
        "claim: 'e' is exploratory: declared after results, or changed since: 10 of 10 runs",
    ):
        assert words in shown, words


def test_a_declared_backbone_before_training_is_there_although_its_weights_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = {"stage": "untouched", "model": {"revision": "m"}, "seed": 0}
    make_study(tmp_path, {"a": Arm(seeds=(0,)), "untouched": Arm(system=system, seeds=(0,))})
    declare(tmp_path, study_block([], arms=["a", "untouched"], seeds=[0]))
    shown = "\n".join(said(capsys, "s", "--results", str(tmp_path))[1])
    assert "deviation: " in shown and "declared and not there" not in shown
    declare(tmp_path, study_block([], arms=["a"], seeds=[0]), at="2026-06-01T00:00:00+00:00")
    assert "not declared" not in "\n".join(said(capsys, "s", "--results", str(tmp_path))[1])


# packets


def test_a_packet_has_the_same_bytes_and_holds_elsewhere(
    whole: Path, packet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.tar.gz"
    assert main(["s", "--results", str(whole), "--packet", str(again)]) == 0
    assert again.read_bytes() == packet.read_bytes()
    capsys.readouterr()
    code, lines = said(capsys, "--check", str(packet))
    assert code == 0 and any("their manifests alone are here" in line for line in lines), lines
    assert said(capsys, "s", "--results", str(whole), "--check", str(packet))[0] == 0
    with tarfile.open(packet) as archive:
        names = archive.getnames()
        assert names[1:] == sorted(names[1:]) and {entry.mtime for entry in archive.getmembers()} == {0}
        assert not any(name.endswith(".safetensors") for name in names)
        sums = archive.extractfile("SHA256SUMS")
        assert sums is not None and len(sums.read().splitlines()) == len(names) - 1


def contents(packet: Path) -> dict[str, bytes]:
    with tarfile.open(packet) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive.getmembers()}  # type: ignore[union-attr]


def repacked(path: Path, files: dict[str, bytes], *, sums: bool = True) -> Path:
    """Write an archive, with a list of its files that is right."""
    if sums:
        lines = (
            f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files) if name != "SHA256SUMS"
        )
        files = {**files, "SHA256SUMS": "".join(lines).encode()}
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("listed", [False, True])
def test_a_tampered_packet_is_named(
    packet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: bool
) -> None:
    files = contents(packet)
    files["verdicts.json"] = files["verdicts.json"].replace(b'"REFUTED"', b'"SUPPORTED"')
    code, lines = said(capsys, "--check", str(repacked(tmp_path / "x.tar.gz", files, sums=listed)))
    assert code == 1
    expected = (
        "FAILS: written verdicts: unlike: [1].verdict" if listed else "verdicts.json has another SHA-256 than its"
    )
    assert expected in lines[0]


def test_what_is_bound_in_is_recorded_and_looked_for(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp, other, path = tmp_path / "stamp.tsr", tmp_path / "other.tsr", tmp_path / "p.tar.gz"
    stamp.write_text("at noon")
    other.write_text("at night")
    commit = "1234567890" * 4
    assert main(["s", "--results", str(whole), "--packet", str(path), "--bind", str(stamp), "--bind", commit]) == 0
    capsys.readouterr()
    code, lines = said(capsys, "--check", str(path), "--bind", str(stamp), "--bind", commit)
    assert code == 0 and f"bound: commit: {commit}" in lines
    assert f"bound: stamp.tsr: {hashlib.sha256(b'at noon').hexdigest()}" in lines
    code, lines = said(capsys, "--check", str(path), "--bind", str(other))
    assert code == 1 and lines[1].startswith("FAILS: bound: other.tsr (") or lines[2].startswith("FAILS: bound: other")


def linked(path: Path) -> None:
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("results/x")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)


def bomb(path: Path) -> None:
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("x")
        entry.size = 80 * 2**20
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (linked, "'results/x' is no plain file"),
        (bomb, "unpacks to more than a packet of its size does"),
        (lambda path: repacked(path, {"../x": b""}), "'../x' is twice there, or leads out of its folder"),
        (lambda path: repacked(path, {"/x": b""}), "'/x' is twice there, or leads out of its folder"),
        (lambda path: repacked(path, {"x": b"", "X": b""}), "'X' is twice there, or leads out of its folder"),
        (lambda path: repacked(path, {"x": b""}, sums=False), "has no SHA256SUMS"),
        (lambda path: repacked(path, {"x": b""}), "packet.json cannot be read (FileNotFoundError"),
        (lambda path: repacked(path, {"packet.json": b"[" * 100_000}), "packet.json cannot be read (RecursionError"),
        (lambda path: repacked(path, {"packet.json": b'{"study": "../s", "bound": []}'}), "'../s'"),
        (lambda path: repacked(path, {"packet.json": b'{"study": "s", "bound": [{"x": ""}]}'}), "what is bound in it"),
        (lambda path: path.write_bytes(b"no archive"), "is no readable packet"),
        (lambda path: path.write_bytes(gzip.compress(b"x" * 600)), "is no readable packet"),
    ],
)
def test_an_archive_that_is_no_packet_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / "x.tar.gz")
    code, lines = said(capsys, "--check", str(tmp_path / "x.tar.gz"))
    assert code == 2 and len(lines) == 1 and words in lines[0]


def test_records_are_compared_by_their_keys() -> None:
    first = {"a": [1.0, {"b": "x"}], "c": None}
    assert unequal(first, {"a": [1.0 + 1e-12, {"b": "x"}], "c": None}) == ""
    assert unequal(first, {"a": [1.1, {"b": "y"}], "d": 1}) == "a[0], a[1].b, d"
