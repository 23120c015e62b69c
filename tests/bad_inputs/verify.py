"""What `analysis.verify` refuses before any work: words without a meaning, archives that are no packets."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from bad_inputs import BadInput, nothing, written
from bad_inputs.analysis import NOWHERE, _study


def _archive(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Path], None]:
    """Leave an archive `p.tar.gz` with one member."""

    def make(folder: Path) -> None:
        with tarfile.open(folder / "p.tar.gz", "w:gz", format=tarfile.USTAR_FORMAT) as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member, io.BytesIO(b""))

    return make


def _call(name: str, words: str, *arguments: str, make: Callable[[Path], object] = nothing) -> BadInput:
    return BadInput(name, ("analysis.verify", *arguments), (words,), make)


RESULTS = ("--results", "{dir}/r")
PACKET = ("--check", "{dir}/p.tar.gz")
BAD_INPUTS = [
    _call("verify: nothing to verify", "give a STUDY, or --check F for a packet"),
    _call("verify: no folder of results", NOWHERE, "s", "--results", ""),
    _call("verify: an unknown study", "no evaluation of a study 't'", "t", *RESULTS, make=_study),
    _call(
        "verify: written and checked at once",
        "argument --check: not allowed with argument --packet",
        "s",
        *RESULTS,
        "--packet",
        "{dir}/q.tar.gz",
        *PACKET,
    ),
    _call("verify: bound in nothing", "--bind records something in a packet", "s", *RESULTS, "--bind", "1" * 40),
    _call(
        "verify: half a git hash",
        "--bind 'abc123' is neither a file nor a whole git hash (40 or 64 hex digits)",
        "s",
        *RESULTS,
        "--packet",
        "{dir}/q.tar.gz",
        "--bind",
        "abc123",
        make=_study,
    ),
    _call("verify: no such packet", "there is no such file; give one that --packet wrote", *PACKET),
    _call("verify: a text as a packet", "is no readable packet", *PACKET, make=written("p.tar.gz", "SHA256SUMS")),
    _call("verify: an archive without a list", "has no SHA256SUMS", *PACKET, make=_archive("results/x")),
    _call("verify: a way out of the folder", "leads out of its folder", *PACKET, make=_archive("../x")),
    _call("verify: an absolute path", "leads out of its folder", *PACKET, make=_archive("/tmp/x")),
    _call("verify: a link", "'x' is no plain file", *PACKET, make=_archive("x", tarfile.SYMTYPE, "/etc")),
    _call("verify: a hard link", "'x' is no plain file", *PACKET, make=_archive("x", tarfile.LNKTYPE, "y")),
    _call("verify: a pipe in a packet", "'x' is no plain file", *PACKET, make=_archive("x", tarfile.FIFOTYPE)),
]
