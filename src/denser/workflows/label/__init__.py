"""Structures to converged reference labels in a store: what `denser label` does.

The parent process plans and is the only writer; workers converge one structure at a time.
"""

from denser.workflows.label.calculation import BOXES, STARTS, Settings, Task, calculate
from denser.workflows.label.inputs import rattled, read_inputs
from denser.workflows.label.run import Progress, Totals, label
from denser.workflows.label.transfer import import_labels, label_density

__all__ = [
    "BOXES",
    "STARTS",
    "Progress",
    "Settings",
    "Task",
    "Totals",
    "calculate",
    "import_labels",
    "label",
    "label_density",
    "rattled",
    "read_inputs",
]
