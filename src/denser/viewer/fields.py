"""The fields that the page lists: their names and how they are computed."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_dilation

from denser.analysis.catalogue import FIELDS, SPIN_ISOVALUES, needs_orbitals
from denser.model.predictor import Predictor
from denser.types.density import SPIN_UNIT, Density, Field
from denser.types.grid import Grid

if TYPE_CHECKING:
    from denser.analysis.properties import Analysis

WORKING_SPACING, LARGE_SPACING = 0.33, 0.42
"""Derived fields use every second, third, ... node up to about this spacing, bohr; the larger
one is for grids with more than `LARGE` nodes."""

LARGE = 3_000_000


@dataclass(frozen=True)
class ListedField:
    """A field as the page lists it.

    Parameters
    ----------
    name, label, unit : str
    level : float
        Initial isovalue.
    low, high : float
        Ends of the slider.
    signed : bool
        Whether surfaces are drawn at plus and minus the isovalue.
    origin : str
        "density": follows the shown density; "one step": of the Kohn-Sham step.
    """

    name: str
    label: str
    unit: str
    level: float
    low: float
    high: float
    signed: bool
    origin: str = "density"


NCI = ListedField("nci", "Non-covalent interactions", "1", 0.5, 0.2, 0.9, False)

LISTED_FIELDS = (
    *(
        ListedField(
            name, entry.help[0].upper() + entry.help[1:], entry.unit, *astuple(entry.isovalues)
        )
        for name, entry in FIELDS.items()
        if entry.isovalues is not None
    ),
    NCI,
)
"""Fields of `denser.analysis.catalogue` with isovalues, and the surfaces of interactions."""

NOTHING = 2.0
"""Reduced density gradient where there is no interaction."""

LEARNED = {
    "f_plus": "fukui-learned",
    "f_minus": "fukui-learned",
    "atomic_mean_bohr3": "polarizability-learned",
}
"""Learnt values of atoms that the page shows: names in the JSON of a property, and the property."""

DIFFERENCE = ListedField("", "", "e/bohr^3", 0.003, 0.0001, 0.1, True)
ORBITAL = ListedField("", "", "bohr^-3/2", 0.05, 0.005, 0.2, True, "one step")


def listed(density: Density | None) -> list[ListedField]:
    """`LISTED_FIELDS` that the density has."""
    known = {
        "spin": density is not None and density.spin_density is not None,
        "uncertainty": density is not None and density.wrong is not None,
    }
    return [field for field in LISTED_FIELDS if known.get(field.name, True)]


def of_values(density: Density) -> ListedField:
    """The values of a density, or of another field with atoms, such as a spin density."""
    values, unit = density.values, density.unit
    if unit == SPIN_UNIT:
        return ListedField("values", "Spin density", unit, *astuple(SPIN_ISOVALUES))
    signed = bool(values.min() < -1e-3 * values.max())
    if unit == Field.unit and not signed:
        return LISTED_FIELDS[0]
    if unit == ORBITAL.unit:
        return replace(ORBITAL, name="values", label="Orbital", origin="density")
    label = "Values of the file"
    if not signed:
        return replace(LISTED_FIELDS[0], name="values", label=label, unit=unit)
    most = float(np.abs(values).max())
    level = float(f"{most / 10:.1g}")
    return ListedField("values", label, unit, level, level / 20, most, True)


def reduced(density: Density) -> Density:
    """Every k-th node of a density, with the largest k that suffices for derived fields."""
    grid = density.grid
    spacing = WORKING_SPACING if grid.size < LARGE else LARGE_SPACING
    for k in range(int(spacing / grid.spacing.max() + 1e-6), 1, -1):
        if not any(n % k for n in grid.shape):
            spin = density.spin_density
            values = np.ascontiguousarray(density.values[::k, ::k, ::k])
            coarse = replace(density, grid=grid.coarsen(k), values=values)
            coarse = coarse.with_expected_errors(density.wrong)
            return coarse if spin is None else coarse.with_spin_density(spin.values[::k, ::k, ::k])
    return density


def nci(density: Density) -> Field:
    """Reduced density gradient s where the analysis finds an interaction, and 2 elsewhere."""
    from denser.analysis.fields import reduced_density_gradient
    from denser.analysis.interactions.nci import RHO_CUTOFF, nci

    near = binary_dilation(nci(density).labels.values > 0, iterations=2)
    near &= np.asarray(density.values) < 1.2 * RHO_CUTOFF
    s = reduced_density_gradient(density)
    return Field(s.grid, np.where(near, np.minimum(s.values, NOTHING), NOTHING), "1")


def is_derived(name: str) -> bool:
    """Whether a field is computed from the density alone, which takes some time."""
    if name == "density":
        return False
    return name == NCI.name or (name in FIELDS and not needs_orbitals(FIELDS[name]))


def derived(name: str, density: Density, predictor: Predictor) -> Field:
    """A field that is computed from a density alone; see `is_derived`."""
    return nci(density) if name == NCI.name else _analysis(density, predictor).field(name)


def learned(name: str, density: Density, predictor: Predictor) -> dict[str, list[float]]:
    """Values of the atoms with a name in `LEARNED`, and those of the same property."""
    found = _analysis(density, predictor).property(LEARNED[name]).to_dict()
    same = [key for key, of in LEARNED.items() if of == LEARNED[name]]
    return {key: np.round(found[key], 4).tolist() for key in same}


def _analysis(density: Density, predictor: Predictor) -> Analysis:
    """Properties of a density; read-outs of the network take the features of this model."""
    from denser.analysis.properties import Analysis

    analysis = Analysis(density)
    analysis.predictor = predictor
    return analysis


def with_atoms(field: Field, density: Density) -> Density:
    """Field with the atoms of a density, so that it can be written to a cube file."""
    return Density(
        field.grid,
        field.values,
        field.unit,
        structure=density.structure,
        valence_charges=density.valence_charges,
    )


def coarse_grid(grid: Grid, most: int) -> Grid:
    """The same box with about `most` nodes at most."""
    factor = max(1.0, (grid.size / most) ** (1 / 3))
    nx, ny, nz = (max(8, 8 * int(np.ceil(n / factor / 8))) for n in grid.shape)
    return Grid(grid.origin, grid.cell, (nx, ny, nz)) if factor > 1 else grid
