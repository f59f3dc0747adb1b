"""The fitted table of a model folder: plain, with relations, or with indicators of missing entries."""

from collections.abc import Sequence

from jointebm.tables.answers.answer_progress import AnswerWatch
from jointebm.tables.answers.answering import Answering
from jointebm.tables.answers.fitted import FittedTable
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.recorded_table import RecordedTable
from jointebm.tables.answers.related_table import RelatedTable
from jointebm.tables.answers.store import TableFolder
from jointebm.tables.answers.table_model import TableModel

__all__ = ["asked_table"]


def asked_table(
    folder: TableFolder, model: TableModel, members: Sequence[TableModel], parameters: Parameters, watch: AnswerWatch
) -> Answering:
    """The fitted table of a folder.

    Args:
        folder: its columns, relations and indicators of missing entries.
        model: density over codes.
        members: densities refitted to bootstrap samples.
        parameters: of answers.
        watch: told of the progress of long questions.
    """
    table: Answering
    if folder.relations is None:
        table = FittedTable(folder.recorded, model, parameters, tuple(members), watch=watch)
    else:
        table = RelatedTable(folder.recorded, folder.relations, model, parameters, tuple(members), watch=watch)
    return RecordedTable(folder.codec, table, folder.indicators) if folder.indicators else table
