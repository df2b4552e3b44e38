"""The predicted density of a molecule in OpenMM, in place of its atomic charges.

`embed_in_openmm` changes an `openmm.System`: the molecule interacts with the charges of all other
particles through its predicted density, which follows its geometry
(`denser.workflows.embedding`). Its Lennard-Jones terms and its internal energy stay those of the
force field.

Without periodic boundaries all charges are included. In a periodic box a group of particles (a
residue of the topology, such as a water molecule) interacts with the nearest image of the molecule.
It fades with the distance d of the two centres as OpenMM's switched Lennard-Jones terms do,

E = sum_g S(d_g) sum_(i in g) q_i V(r_i),    S = 1 - 10 x^3 + 15 x^4 - 6 x^5

with x = (d - r_on) / (r_off - r_on) between the two radii. The forces are derivatives of this
energy, so that it is conserved.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from denser.model.checkpoint import Model
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, KJ_PER_MOL
from denser.workflows.embedding import Embedding

NM = 10 / BOHR
"""Bohr in a nanometre."""

COULOMB = KJ_PER_MOL / NM
"""Energy of two charges of 1 e at a distance of 1 nm, kJ/mol."""

_SWITCHED = 0.2
"""Width of the range where the interaction fades in a periodic box, nm."""

_OTHER_CHARGES = ("GBSAOBCForce", "CustomGBForce", "AmoebaMultipoleForce", "DrudeForce")


def embed_in_openmm(
    system: Any,
    topology: Any,
    atoms: Sequence[int],
    *,
    charge: int | None = None,
    cutoff: float | None = None,
    model: str | Path | Model = "default",
    device: str = "auto",
) -> Any:
    """Let a molecule interact with the charges around it through its predicted density.

    Parameters
    ----------
    system : openmm.System
        Of a force field with one NonbondedForce. The charges of the molecule are set to zero there,
        and their interactions within the molecule are kept in a force of their own.
    topology : openmm.app.Topology
        Of the system. Its residues are what fades together in a periodic box.
    atoms : sequence of int
        The molecule: whole, without virtual sites.
    charge : int, optional
        Its charge; by default the sum of its charges in the system.
    cutoff : float, optional
        In a periodic box, distance of the centres of a residue and of the molecule where their
        interaction has faded, nm; by default 0.95 times half of the smallest width of the box.
    model, device
        As in `denser.workflows.embedding.Embedding`.

    Returns
    -------
    openmm.PythonForce
        The force that was added to the system.

    Raises
    ------
    InputError
        OpenMM is missing or too old, the atoms are no whole molecule, the system has no
        NonbondedForce or takes charges from another force, or the cutoff does not fit the box.
    """
    openmm = _openmm()
    chosen = [int(i) for i in atoms]
    elements = [atom.element for atom in topology.atoms()]
    n = system.getNumParticles()
    if len(elements) != n:
        raise InputError(f"the topology has {len(elements)} atoms, but the system {n} particles")
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= i < n for i in chosen):
        raise InputError(
            f"the molecule needs different atoms from 0 to {n - 1}, found {len(chosen)} numbers"
        )
    if any(elements[i] is None or system.isVirtualSite(i) for i in chosen):
        raise InputError("the molecule has virtual sites, which have no electrons; leave them out")
    nonbonded = _nonbonded(openmm, system)
    charges = np.array([_charge(nonbonded.getParticleParameters(i)[0]) for i in range(n)])
    if charge is None:
        total = float(charges[chosen].sum())
        charge = round(total)
        if abs(total - charge) > 0.01:
            raise InputError(
                f"the charges of the molecule add up to {total:.3f}; give charge= if it is whole"
            )
    groups = _groups(topology, chosen)
    numbers = np.array([elements[i].atomic_number for i in chosen])
    # Where the atoms are will be known in the simulation.
    anywhere = np.arange(len(chosen))[:, None] * [4.0, 0.0, 0.0]
    embedding = Embedding(Structure(numbers, anywhere, charge), model, device)
    periodic = system.usesPeriodicBoundaryConditions()
    if periodic:
        half = _half_width(system.getDefaultPeriodicBoxVectors())
        cutoff = 0.95 * half if cutoff is None else cutoff
        if not _SWITCHED < cutoff <= half:
            raise InputError(
                f"a cutoff of {cutoff:g} nm does not fit a box whose smallest width is "
                f"{2 * half:g} nm; give one from {_SWITCHED:g} to {half:g} nm"
            )
    elif cutoff is not None:
        raise InputError("a cutoff is for a periodic box, but the system has none; leave it out")
    _keep_inside(openmm, system, nonbonded, chosen, charges)
    around = np.setdiff1d(np.arange(n), chosen)
    used = around[charges[around] != 0]
    compute = _Computation(embedding, charges[used], groups[used], cutoff)
    force = openmm.PythonForce(compute)
    force.setParticles([*chosen, *map(int, used)])
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setName("denser")
    system.addForce(force)
    return force


class _Computation:
    """What the force calls: energy (kJ/mol) and forces (kJ/mol/nm) of a state."""

    def __init__(
        self, embedding: Embedding, charges: np.ndarray, groups: np.ndarray, cutoff: float | None
    ) -> None:
        self.embedding, self.charges, self.cutoff = embedding, charges, cutoff
        self.n_atoms = len(embedding.structure)
        # the particles of a group stand together
        self.groups = np.unique(groups, return_inverse=True)[1]
        self.sizes = np.bincount(self.groups)

    def __call__(self, state: Any) -> tuple[float, np.ndarray]:
        x = np.array(state.getPositions(asNumpy=True)._value)
        atoms, points = x[: self.n_atoms], x[self.n_atoms :]
        if self.cutoff is None:
            found = self.embedding(atoms * NM, points * NM, self.charges)
            forces = np.vstack([found.forces_atoms, found.forces_charges])
            return found.energy * KJ_PER_MOL, forces * (KJ_PER_MOL * NM)
        box = np.array(state.getPeriodicBoxVectors(asNumpy=True)._value)
        if self.cutoff > (half := _half_width(box)):
            raise InputError(
                f"the box has shrunk to a smallest width of {2 * half:.3f} nm, less than twice the "
                f"cutoff of {self.cutoff:.3f} nm; give embed_in_openmm a smaller cutoff"
            )
        centre = atoms.mean(axis=0)
        first = np.unique(self.groups, return_index=True)[1]
        points = points - _lattice(points - points[first][self.groups], box)
        away = self._mean(points) - centre
        shift = _lattice(away, box)
        away, points = away - shift, points - shift[self.groups]
        distance = np.linalg.norm(away, axis=1)
        share, slope = _switch(distance, self.cutoff)
        inside = share[self.groups] > 0
        charges = (share[self.groups] * self.charges)[inside]
        found = self.embedding(atoms * NM, points[inside] * NM, charges)
        forces = np.zeros_like(x)
        forces[: self.n_atoms] = found.forces_atoms * (KJ_PER_MOL * NM)
        forces[self.n_atoms :][inside] = found.forces_charges * (KJ_PER_MOL * NM)
        # dS/dd times the energy of each group, along the line of the centres
        energies = self.charges[inside] * found.potential * KJ_PER_MOL
        of_groups = np.bincount(self.groups[inside], energies, minlength=len(self.sizes))
        pull = (slope * of_groups / distance)[:, None] * away
        forces[: self.n_atoms] += pull.sum(axis=0) / self.n_atoms
        forces[self.n_atoms :] -= (pull / self.sizes[:, None])[self.groups]
        return found.energy * KJ_PER_MOL, forces

    def _mean(self, points: np.ndarray) -> np.ndarray:
        sums = np.stack([np.bincount(self.groups, points[:, k]) for k in range(3)], axis=1)
        return sums / self.sizes[:, None]


def _switch(distance: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """S and dS/dd of distances (n,), nm."""
    x = np.clip((distance - cutoff + _SWITCHED) / _SWITCHED, 0.0, 1.0)
    share = 1 - x**3 * (10 - 15 * x + 6 * x**2)
    return share, -30 * (x * (1 - x)) ** 2 / _SWITCHED


def _lattice(x: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Lattice vectors (n, 3) to take from x, so that the rest is the nearest image, nm.

    The rows of the box are in OpenMM's reduced form.
    """
    rest = x.copy()
    for axis in (2, 1, 0):
        rest -= np.round(rest[:, axis] / box[axis, axis])[:, None] * box[axis]
    return x - rest


def _half_width(box: Any) -> float:
    """Half of the smallest width of a box (3, 3) in OpenMM's reduced form, nm."""
    return float(min(row[i] for i, row in enumerate(_plain(box)))) / 2


def _plain(values: Any) -> np.ndarray:
    return np.array([[getattr(x, "_value", x) for x in getattr(v, "_value", v)] for v in values])


def _charge(value: Any) -> float:
    return float(getattr(value, "_value", value))


def _openmm() -> Any:
    try:
        import openmm
    except ImportError:
        raise InputError(
            "embedding in OpenMM needs the package openmm: pip install 'denser[openmm]'"
        ) from None
    if not hasattr(getattr(openmm, "PythonForce", None), "setParticles"):
        raise InputError(
            "embedding needs OpenMM 8.6 or later, whose PythonForce acts on some of the atoms; "
            f"found {openmm.__version__}"
        )
    return openmm


def _nonbonded(openmm: Any, system: Any) -> Any:
    """The one NonbondedForce of a system."""
    forces = system.getForces()
    for force in forces:
        if type(force).__name__ in _OTHER_CHARGES:
            raise InputError(
                f"the system has a {type(force).__name__}, which takes charges of its own; "
                "embedding needs explicit solvent with charges in a NonbondedForce"
            )
    found = [force for force in forces if isinstance(force, openmm.NonbondedForce)]
    if len(found) != 1:
        raise InputError(f"embedding needs one NonbondedForce, found {len(found)} in the system")
    if found[0].getNumParticleParameterOffsets() or found[0].getNumExceptionParameterOffsets():
        raise InputError("the charges of the NonbondedForce have offsets; embedding needs none")
    return found[0]


def _groups(topology: Any, chosen: list[int]) -> np.ndarray:
    """Residue of each particle (n,); atoms of the molecule must not be bonded to others."""
    mine = set(chosen)
    for bond in topology.bonds():
        if (bond[0].index in mine) != (bond[1].index in mine):
            raise InputError(
                f"atoms {bond[0].index} and {bond[1].index} are bonded, but only one is in the "
                "molecule; embedding needs whole molecules"
            )
    return np.array([atom.residue.index for atom in topology.atoms()])


def _keep_inside(
    openmm: Any, system: Any, nonbonded: Any, chosen: list[int], charges: np.ndarray
) -> None:
    """Move the charges of a molecule from the NonbondedForce to a force within the molecule."""
    products = {
        (i, j): charges[i] * charges[j] for k, i in enumerate(chosen) for j in chosen[k + 1 :]
    }
    mine = set(chosen)
    for k in range(nonbonded.getNumExceptions()):
        i, j, product, sigma, epsilon = nonbonded.getExceptionParameters(k)
        if (i in mine) != (j in mine):
            raise InputError(
                f"particles {i} and {j} have an exception in the NonbondedForce, but only one is "
                "in the molecule; embedding needs whole molecules"
            )
        if i in mine:
            products[(i, j) if (i, j) in products else (j, i)] = _charge(product)
            nonbonded.setExceptionParameters(k, i, j, 0.0, sigma, epsilon)
    inside = openmm.CustomBondForce(f"{COULOMB!r}*product/r")
    inside.setName("denser: charges within the molecule")
    inside.addPerBondParameter("product")
    for (i, j), product in products.items():
        if product:
            inside.addBond(i, j, [product])
    for i in chosen:
        _, sigma, epsilon = nonbonded.getParticleParameters(i)
        nonbonded.setParticleParameters(i, 0.0, sigma, epsilon)
    system.addForce(inside)
