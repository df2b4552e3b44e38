"""Converged reference labels of structures in a store: the work of `denser label`.

The parent process plans and is the only writer; workers converge one structure at a time.
"""

from denser.model.options import BOXES
from denser.workflows.label.calculation import LabelSettings, LabelTask, calculate
from denser.workflows.label.inputs import LabelInput, rattled, read_inputs
from denser.workflows.label.plan import LabelPlan, planned, read_plan
from denser.workflows.label.run import LabelProgress, LabelTotals, label
from denser.workflows.label.transfer import import_labels, label_density, label_spin_density

__all__ = [
    "BOXES",
    "LabelInput",
    "LabelPlan",
    "LabelProgress",
    "LabelSettings",
    "LabelTask",
    "LabelTotals",
    "calculate",
    "import_labels",
    "label",
    "label_density",
    "label_spin_density",
    "planned",
    "rattled",
    "read_inputs",
    "read_plan",
]
