"""Imports and warms up what tasks and commands need, in the server that their processes are forks of."""

import torch

import jointebm.cli.tables.workers  # noqa: F401
from jointebm.training.world import ALONE
from support.rank_tasks import trainer_of

torch.set_num_threads(1)
trainer_of(ALONE, "weighted").step()  # imports what torch imports late
