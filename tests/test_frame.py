"""The frame of the tests itself: which skips are failures, and the processor that is played."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from conftest import NEEDS_EXTRA, extra, pytest_runtest_makereport


@pytest.mark.parametrize("reason, marked, extras, outcome", [
    (NEEDS_EXTRA, True, False, "skipped"), (NEEDS_EXTRA, True, True, "failed"), (NEEDS_EXTRA, False, False, "failed"),
    ("PostgreSQL is not installed", True, True, "skipped"), ("no data", False, False, "skipped"),
])  # fmt: skip
def test_a_missing_extra_is_a_failure_where_it_must_be_there(
    reason: str, marked: bool, extras: bool, outcome: str
) -> None:
    item = SimpleNamespace(
        nodeid="t", config=SimpleNamespace(getoption=lambda name: extras),
        get_closest_marker=lambda name: object() if marked else None,
    )  # fmt: skip
    report: Any = SimpleNamespace(skipped=True, outcome="skipped", longrepr=("f.py", 1, f"Skipped: x: {reason}"))
    wrapper: Any = pytest_runtest_makereport(cast(Any, item))
    next(wrapper)
    with pytest.raises(StopIteration) as end:
        wrapper.send(report)
    assert end.value.value is report and report.outcome == outcome


def test_an_extra_is_its_module_or_a_skip() -> None:
    assert extra("json").loads("1") == 1
    with pytest.raises(pytest.skip.Exception, match=f"no_such_package: {NEEDS_EXTRA}"):
        extra("no_such_package")


def test_the_processor_can_be_played(request: pytest.FixtureRequest) -> None:
    from ablate.model.device import native_bf16, processor_flags

    really = not {"amx_bf16", "avx512_bf16"}.isdisjoint(processor_flags())
    assert native_bf16("cpu") is (really != request.config.getoption("--other-bf16"))
