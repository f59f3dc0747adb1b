"""Watched models, opened once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from jointebm import JointEBM
from jointebm.watch.opened_models import OpenedModel, open_watched
from support.pet_table import MODELLED, TABLE
from support.watched import client_of


@pytest.fixture(scope="session")
def toy() -> OpenedModel:
    return open_watched("pretrained:toy")


@pytest.fixture(scope="session")
def pets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick fit to a table with every kind of column."""
    training = {"num_visits": 0, "rows_per_component": 20}
    model = JointEBM(training=training, num_draws=20, num_sweeps=2).fit(TABLE[["name", *MODELLED]])
    return model.save(tmp_path_factory.mktemp("watch") / "pets")


@pytest.fixture(scope="session")
def pets(pets_folder: Path) -> OpenedModel:
    return open_watched(str(pets_folder))


@pytest.fixture
def toy_client(toy: OpenedModel) -> Iterator[TestClient]:
    with client_of(toy) as client:
        yield client


@pytest.fixture
def pets_client(pets: OpenedModel) -> Iterator[TestClient]:
    with client_of(pets) as client:
        yield client
