"""A study as one archive that another machine can verify: written with fixed bytes, read with suspicion.

results/...        declarations with their times and cells; of every run its manifests, scores, notes, rankings and
                   judgments, where they lie in a folder of results; of mixes and models the manifests alone
verdicts.md .json  the verdicts as they were when it was written
deviations.json    what became of the declaration
environment.json   packages, code and hardware as recorded, and which stages were made so
packet.json        study, and what was bound in (`--bind`)
SHA256SUMS         of all of these, as `sha256sum -c` reads them
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ablate.records import UserError, check_name
from ablate.store.drafts import draft_of
from ablate.store.files import FOLDERS
from ablate.store.integrity import FREE_BYTES, MOST_PACKED, is_inside, read_json, reading, sha256_of
from ablate.store.manifest import Manifest
from ablate.tables import to_markdown
from analysis.study.evidence import Evidence
from analysis.verdict.claims_tables import judgement_record, verdict_tables
from analysis.verdict.deviations import Deviation
from analysis.verdict.judge import Judgement
from analysis.verdict.verification import FAILS, HOLDS, Verification, Verified, unequal, verify

RESULTS, LIST, ABOUT = "results", "SHA256SUMS", "packet.json"
VERDICTS, DEVIATIONS, ENVIRONMENT = "verdicts.json", "deviations.json", "environment.json"
MOST_FILES = 200_000
MOST_BYTES = 64 * 2**30
_BLOCK = tarfile.BLOCKSIZE


class Opened(NamedTuple):
    """A packet on the disk of this machine."""

    folder: Path
    study: str
    bound: list[dict[str, str]]
    sums: dict[str, str]
    """File -> SHA-256, as the packet lists them."""


def bind(text: str) -> dict[str, str]:
    """Return what is recorded of a file (its SHA-256) or of a git commit that a person names; UserError for neither."""
    path = Path(text)
    if path.is_file():
        return {"file": path.name, "sha256": sha256_of(path)}
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text):
        return {"commit": text}
    raise UserError(f"--bind {text!r} is neither a file nor a whole git hash (40 or 64 hex digits); give one of them")


def write_packet(path: Path, verification: Verification, bound: Sequence[Mapping[str, str]]) -> str:
    """Write the packet of a study whose manifests can be read and return the SHA-256 of its list of files.

    The same results give the same bytes. Raises UserError where a file has a name that an archive cannot hold.
    """
    evidence = verification.evidence
    assert evidence is not None
    made = _made(evidence, verification.judgement, verification.log, bound)
    stored = stored_files(evidence)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    sums |= {name: sha256_of(source) for name, source in stored.items()}
    listed = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        with open(draft, "wb") as raw:
            with (
                gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
            ):
                _add(archive, LIST, io.BytesIO(listed), len(listed))
                for name in sorted(sums):
                    if name in made:
                        _add(archive, name, io.BytesIO(made[name]), len(made[name]))
                    else:
                        with open(stored[name], "rb") as file:
                            _add(archive, name, file, os.fstat(file.fileno()).st_size)
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return hashlib.sha256(listed).hexdigest()


def _add(archive: tarfile.TarFile, name: str, file: BinaryIO, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    try:
        archive.addfile(entry, file)
    except ValueError:
        raise UserError(f"the name {name} is too long for the packet; give the data set a shorter one") from None


def stored_files(evidence: Evidence) -> dict[str, Path]:
    """Return name in the packet -> file of the results, of everything that the verdicts follow from."""
    store = evidence.store
    files = [path for path in evidence.declaration_files if path.is_file()]
    for stage in [*evidence.stages, *evidence.relatives]:
        files.append(store.manifest_file(stage))
    for run in evidence.runs:
        folder = store.manifest_file(run.evaluation).parent
        files += [folder / name for name in run.evaluation.content_sha256 if (folder / name).is_file()]
    return {f"{RESULTS}/{path.relative_to(store.root).as_posix()}": path for path in files}


def _made(
    evidence: Evidence, judgement: Judgement | None, log: Sequence[Deviation], bound: Sequence[Mapping[str, str]]
) -> dict[str, bytes]:
    record = {} if judgement is None else judgement_record(judgement)
    made = {
        ABOUT: {"study": evidence.study, "bound": [dict(item) for item in bound]},
        VERDICTS: record,
        DEVIATIONS: [deviation._asdict() for deviation in log],
        ENVIRONMENT: _environment(evidence.stages),
    }
    shown = "" if judgement is None else "\n".join(to_markdown(table) for table in verdict_tables(judgement))
    return {
        **{name: (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode() for name, value in made.items()},
        "verdicts.md": shown.encode(),
    }


def _environment(stages: Sequence[Manifest]) -> list[dict[str, Any]]:
    """Return each environment that stages were made in, with these stages."""
    made_in: dict[str, list[str]] = {}
    for stage in stages:
        environment = {"packages": stage.packages, "git": stage.git, "hardware": stage.hardware}
        made_in.setdefault(json.dumps(environment, sort_keys=True), []).append(f"{FOLDERS[stage.kind]}/{stage.id}")
    return [{**json.loads(text), "stages": names} for text, names in made_in.items()]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Unpack a packet into a folder of its own, which goes away afterwards.

    Raises UserError for what is no packet: something else than plain files inside the folder, more than the bounds,
    a file that its list does not have, or that has another SHA-256 there.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield _unpacked(path, Path(folder))


def _unpacked(path: Path, folder: Path) -> Opened:
    sums: dict[str, str] = {}
    real: dict[str, str] = {}
    for name, content in _entries(path):
        if name == LIST:
            sums = _sums(path, content.read())
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        hashed = hashlib.sha256()
        with open(target, "xb") as file:
            while piece := content.read(2**20):
                hashed.update(piece)
                file.write(piece)
        real[name] = hashed.hexdigest()
    if not sums:
        raise UserError(f"{path} has no {LIST}: it is no packet; give a file that --packet wrote")
    wrong = [f"{name} is missing" for name in sums if name not in real]
    wrong += [f"{name} is not in its list" for name in real if name not in sums]
    wrong += [
        f"{name} has another SHA-256 than its list says" for name in sums if real.get(name, sums[name]) != sums[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise Changed(f"{'; '.join(wrong[:3])}{more}")
    about = _about(path, folder)
    return Opened(folder, about["study"], about["bound"], sums)


class Changed(UserError):
    """A packet that is not what its own list says."""


def _sums(path: Path, content: bytes) -> dict[str, str]:
    lines = content.decode("utf-8", "replace").splitlines()
    for line in lines:
        if not re.fullmatch(r"[0-9a-f]{64}  .+", line):
            raise UserError(f"{path}: {LIST} has the line {line[:80]!r}, which is no SHA-256 with a file")
    return {line[66:]: line[:64] for line in lines}


def _about(path: Path, folder: Path) -> dict[str, Any]:
    remedy = "give another packet"
    about = read_json(folder / ABOUT, remedy)
    with reading(folder / ABOUT, remedy):
        check_name("study", about["study"])
        known = {"file", "sha256", "commit"}
        is_bound = all(
            {*item} <= known and all(isinstance(text, str) for text in item.values()) for item in about["bound"]
        )
        if {*about} != {"study", "bound"} or not is_bound:
            raise UserError(f"{path}: {ABOUT} does not say of which study it is and what is bound in it; {remedy}")
        return dict(about)


class _Entry:
    """The content of one file of an archive, read in its order."""

    def __init__(self, archive: _Bounded, size: int) -> None:
        self._archive, self._left = archive, size

    def read(self, most: int = -1) -> bytes:
        piece = self._archive.exactly(min(self._left, most) if most >= 0 else self._left)
        self._left -= len(piece)
        return piece


class _Bounded:
    """A compressed archive that gives so many bytes and no more."""

    def __init__(self, path: Path, raw: BinaryIO) -> None:
        self.path, self._stream = path, gzip.GzipFile(fileobj=raw)
        self._left = min(MOST_BYTES, max(FREE_BYTES, MOST_PACKED * os.fstat(raw.fileno()).st_size))

    def exactly(self, size: int) -> bytes:
        if size > self._left:
            raise UserError(f"{self.path} unpacks to more than a packet of its size does; give another packet")
        self._left -= size
        piece = self._stream.read(size)
        if len(piece) < size:
            raise EOFError("it ends in the middle of a file")
        return piece


def _entries(path: Path) -> Iterator[tuple[str, _Entry]]:
    """Yield the files of an archive: plain ones with names inside of a folder, as `write_packet` writes them."""
    seen: set[str] = set()
    try:
        with open(path, "rb") as raw:
            archive = _Bounded(path, raw)
            while True:
                head = archive.exactly(_BLOCK)
                if not any(head):
                    return
                entry = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
                if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                    raise UserError(f"{path}: {entry.name[:80]!r} is no plain file; a packet holds nothing else")
                if not is_inside(entry.name) or "\\" in entry.name or entry.name.casefold() in seen:
                    raise UserError(f"{path}: {entry.name[:80]!r} is twice there, or leads out of its folder")
                if len(seen) >= MOST_FILES or entry.size < 0:
                    raise UserError(f"{path} has more than {MOST_FILES:,} files, or one of no size")
                seen.add(entry.name.casefold())
                content = _Entry(archive, entry.size)
                yield entry.name, content
                content.read()
                archive.exactly(-entry.size % _BLOCK)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.HeaderError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no readable packet ({error}); give a file that --packet wrote") from None


def verify_packet(packet: Opened, bound: Sequence[Mapping[str, str]] = ()) -> Verification:
    """Verify a packet by itself: its scores and verdicts worked out again, and compared with those written in it.

    `bound`: what must be bound in it.
    """
    verification = verify(str(packet.folder / RESULTS), packet.study, with_parents=False)
    files = Verified(HOLDS, "packet", f"{len(packet.sums):,} files have the SHA-256 of its list")
    checks = [*verification.checks, files, *_bound(packet, bound)]
    record = {} if verification.judgement is None else judgement_record(verification.judgement)
    keys = unequal(_claims(_read(packet, VERDICTS)), _claims(_plain(record)))
    said = "those written in the packet are those of its results"
    checks.append(Verified(FAILS if keys else HOLDS, "written verdicts", f"unlike: {keys}" if keys else said))
    told = _read(packet, DEVIATIONS) == _plain([deviation._asdict() for deviation in verification.log])
    words = "those written in the packet are those of its results"
    checks.append(Verified(HOLDS if told else FAILS, "deviations", words if told else f"not {words}"))
    return verification._replace(checks=sorted(checks, key=lambda verified: verified.state == HOLDS))


def _claims(record: Any) -> Any:
    """Return the claims of a record without what follows from other studies, which are not in a packet."""
    claims = record.get("claims", []) if isinstance(record, dict) else record
    if not isinstance(claims, list):
        return claims
    return [{**claim, "fresh": None} if isinstance(claim, dict) else claim for claim in claims]


def _bound(packet: Opened, bound: Sequence[Mapping[str, str]]) -> list[Verified]:
    checks = []
    for item in bound:
        value = item.get("sha256") or item.get("commit")
        is_there = value in [other.get("sha256") or other.get("commit") for other in packet.bound]
        name = item.get("file") or item.get("commit")
        said = f"{name} is bound in the packet" if is_there else f"{name} ({value}) is not bound in the packet"
        checks.append(Verified(HOLDS if is_there else FAILS, "bound", said))
    return checks


def compare(packet: Opened, evidence: Evidence | None, root: Path) -> list[Verified]:
    """Compare a folder of results with a packet that was written of it, file by file.

    `evidence` tells what else belongs to the study now; None where it cannot be opened.
    """
    wrong = []
    prefix = f"{RESULTS}/"
    kept = {name.removeprefix(prefix): digest for name, digest in packet.sums.items() if name.startswith(prefix)}
    for name, digest in kept.items():
        path = root / name
        if not path.is_file():
            wrong.append(f"{name} is in the packet and not in the results")
        elif sha256_of(path) != digest:
            wrong.append(f"{name} is not what it was when the packet was written")
    now = {} if evidence is None else stored_files(evidence)
    wrong += [
        f"{name.removeprefix(prefix)} was not there when the packet was written"
        for name in now
        if name not in packet.sums
    ]
    if wrong:
        return [Verified(FAILS, "against the packet", said) for said in wrong]
    return [Verified(HOLDS, "against the packet", f"{len(kept):,} files are what they were when it was written")]


def _read(packet: Opened, name: str) -> Any:
    return read_json(packet.folder / name, "give another packet")


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
