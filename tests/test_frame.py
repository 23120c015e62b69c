"""The frame of the tests itself: which skips are failures, and the processor that is played."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import NEEDS_EXTRA, checked_skip, extra


@pytest.mark.parametrize(
    "reason, marked, extras, outcome",
    [
        (NEEDS_EXTRA, True, False, "skipped"),
        (NEEDS_EXTRA, True, True, "failed"),
        (NEEDS_EXTRA, False, False, "failed"),
        ("PostgreSQL is not installed", True, True, "skipped"),
        ("no data", False, False, "skipped"),
    ],
)
def test_a_missing_extra_is_a_failure_where_it_must_be_there(
    reason: str, marked: bool, extras: bool, outcome: str
) -> None:
    report = SimpleNamespace(skipped=True, outcome="skipped", longrepr=("f.py", 1, f"Skipped: x: {reason}"))
    config: Any = SimpleNamespace(getoption=lambda name: extras)
    assert checked_skip(report, config, marked=marked).outcome == outcome
    assert ("mark the test" in report.longrepr) is (outcome == "failed" and not marked)


def test_an_extra_is_its_module_or_a_skip() -> None:
    assert extra("json").loads("1") == 1
    with pytest.raises(pytest.skip.Exception, match=f"no_such_package'.*: {NEEDS_EXTRA}"):
        extra("no_such_package")
    with pytest.raises(pytest.skip.Exception, match=f"required is: '999'.*: {NEEDS_EXTRA}"):
        extra("numpy", minversion="999")


def test_the_processor_can_be_played(request: pytest.FixtureRequest) -> None:
    from ablate.model.device import native_bf16, processor_flags

    really = not {"amx_bf16", "avx512_bf16"}.isdisjoint(processor_flags(Path("/proc/cpuinfo")))
    assert native_bf16("cpu") is (really != request.config.getoption("--other-bf16"))
