"""Tables: one joint energy over rows of codes, whatever is missing.

`TableModel` works on codes only; `TableCodec` turns frames into codes and back. `Rows` asks a fitted `JointEBM` about
batches of rows in many processes.
"""

from jointebm.importing import lazy_members

__all__ = ["Rows"]  # imported when it is asked for, from the folder of the estimators

__getattr__, __dir__ = lazy_members(__name__, __all__, ["jointebm.estimators.rows"])
