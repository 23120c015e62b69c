"""A study on Ray, where Ray and its launcher are installed: `make test-ray` makes such an environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_study import process, scores

pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="Ray wants an environment of its own: make test-ray")

STUDY = ("-m", "+sweeps=smoke", "runtime.threads=1", "seed=0")


def test_a_study_on_ray_has_the_scores_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    alone = process(tmp_path / "alone", *STUDY)
    alone.communicate()
    on_ray = process(tmp_path / "on_ray", *STUDY, "hydra/launcher=ablate_ray", "hydra.launcher.ray.init.num_cpus=2")
    said = on_ray.communicate()[1]
    assert (alone.returncode, on_ray.returncode) == (0, 0), said
    assert "2 of 2 cells done" in said and scores(tmp_path / "alone") == scores(tmp_path / "on_ray")
