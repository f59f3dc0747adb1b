"""The benchmark of a device runs on the CPU, at tiny size, and says what it left out."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "device.py"


@pytest.mark.slow
def test_the_benchmark_of_a_device_prints_all_its_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_from_file_location("device_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, value in {"BATCHES": (20,), "MODELS": ("toy",), "LOOKS": 1, "MAX_ROWS": 20, "WARM_UP": 1}.items():
        monkeypatch.setattr(script, name, value)
    assert script.main(["--device", "cpu", "--seconds", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "| toy | f | 0 |" in printed  # the CPU against itself
    assert "| toy | chains with an equal left after 10 steps | 1 |" in printed
    assert "| toy | 20 | " in printed
    assert "| toy_any | " in printed
    assert "left out: mnist: " in printed
    assert "left out: adult: " in printed
