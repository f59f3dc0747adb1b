"""Specification of `jointebm.importing`: members come when they are asked for, and nothing else does."""

import subprocess
import sys

import pytest

import jointebm
from jointebm.importing import lazy_members

ESTIMATORS = {"JointEBM", *(f"JointEBM{name}" for name in ("Classifier", "Imputer", "OutlierDetector", "Regressor"))}


def test_a_member_is_imported_once_and_kept() -> None:
    get, names = lazy_members("jointebm.kernels", ["MALA"])
    assert get("MALA") is jointebm.kernels.MALA is get("MALA")
    assert "MALA" in names()


def test_submodules_are_reached_by_their_name() -> None:
    get, _ = lazy_members("jointebm.kernels", [])
    assert get("gibbs").__name__ == "jointebm.kernels.gibbs"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'jointebm' has no attribute 'nothing'"):
        jointebm.nothing  # noqa: B018


def test_a_star_import_brings_every_public_name() -> None:
    script = "from jointebm import *; import jointebm; assert set(jointebm.__all__) <= set(dir()), dir()"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_dir_lists_what_is_public_and_no_import_of_the_module() -> None:
    import jointebm.kernels

    assert {name for name in dir(jointebm) if not name.startswith("__")} == {*jointebm.__all__, *ESTIMATORS} - {
        "__version__"
    }
    assert {"Gibbs", "Jump"} <= set(dir(jointebm.kernels)) and "lazy_members" not in dir(jointebm.kernels)
