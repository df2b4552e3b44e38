"""Structures to converged reference labels in a store: what `denser label` does.

The parent process plans and is the only writer; workers converge one structure at a time.
"""

from denser.workflows.label.calculation import BOXES, LabelSettings, LabelTask, calculate
from denser.workflows.label.inputs import LabelInput, rattled, read_inputs
from denser.workflows.label.run import LabelProgress, LabelTotals, label
from denser.workflows.label.transfer import import_labels, label_density

__all__ = [
    "BOXES",
    "LabelInput",
    "LabelProgress",
    "LabelSettings",
    "LabelTask",
    "LabelTotals",
    "calculate",
    "import_labels",
    "label",
    "label_density",
    "rattled",
    "read_inputs",
]
