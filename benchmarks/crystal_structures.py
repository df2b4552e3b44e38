"""Geometries of molecular crystals to make labels of: `data/crystals.xyz.gz`.

    python benchmarks/crystal_structures.py -o data/crystals.xyz.gz

Three kinds, each made by this script from what stands in it:

- `known`: simple crystals, with published cells and coordinates (`KNOWN`), and the same at smaller
  and larger volumes, the molecules kept as they are;
- `packed`: other molecules in the same arrangements, at volumes where the nearest atoms are at 0.8
  to 0.95 of the sum of their van der Waals radii (Bondi): geometries of nobody's crystals;
- `cluster`: a molecule of these crystals with its nearest neighbours, without a cell.

Cells are repeated until every period is at least `LEAST_PERIOD` long, since labels of crystals are
made at Gamma. Every fifth crystal is held out with all its volumes and clusters, and those of
ammonia and acetylene, which are held out as molecules: their names end in `_held`. Cells come
first, the small ones before the large ones.
"""

from __future__ import annotations

import argparse
import gzip
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.data.vdw import vdw_radii
from ase.geometry import wrap_positions
from ase.io import write

from denser.analysis.crystal.symmetry import operations
from denser.atoms.molecules import whole_molecules
from denser.types.errors import InputError
from denser.types.recipe import LEAST_PERIOD
from denser.types.structure import Structure
from denser.types.units import BOHR

KNOWN = {
    # alpha-N2 and CO2: centres of Pa-3, atoms along [111] (Donohue, The Structures of the Elements,
    # 1974; Simon and Peters, Acta Cryst. B36, 2750, 1980)
    "n2": ("P a -3", (5.66, 5.66, 5.66), {"N": [(0.0560, 0.0560, 0.0560)]}),
    "co2": ("P a -3", (5.624, 5.624, 5.624), {"C": [(0, 0, 0)], "O": [(0.1185, 0.1185, 0.1185)]}),
    # cubic acetylene (McMullan, Kvick and Popelier, Acta Cryst. B48, 726, 1992; C-H 1.06 angstrom)
    "c2h2": (
        "P a -3", (6.105, 6.105, 6.105),
        {"C": [(0.0568, 0.0568, 0.0568)], "H": [(0.1571, 0.1571, 0.1571)]},
    ),
    # ammonia (Hewat and Riekel, Acta Cryst. A35, 569, 1979)
    "nh3": (
        "P 21 3", (5.048, 5.048, 5.048),
        {"N": [(0.2107, 0.2107, 0.2107)], "H": [(0.3689, 0.2671, 0.1159)]},
    ),
    # urea (Swaminathan, Craven and McMullan, Acta Cryst. B40, 300, 1984)
    "urea": (
        "P -4 21 m", (5.565, 5.565, 4.684),
        {"C": [(0, 0.5, 0.3260)], "O": [(0, 0.5, 0.5953)], "N": [(0.1459, 0.6459, 0.1766)],
         "H": [(0.2575, 0.7575, 0.2827), (0.1441, 0.6441, -0.0380)]},
    ),
    # ice XI (Leadbetter et al., J. Chem. Phys. 82, 424, 1985)
    "ice": (
        "C m c 21", (4.465, 7.858, 7.292),
        {"O": [(0, 0.6648, 0.0631), (0.5, 0.8255, -0.0631)],
         "H": [(0, 0.5363, 0.0183), (0, 0.6636, 0.1963), (0.6766, 0.7748, -0.0183)]},
    ),
    # benzene (Bacon, Curry and Wilson, Proc. R. Soc. A 279, 98, 1964)
    "benzene": (
        "P b c a", (7.44, 9.55, 6.92),
        {"C": [(-0.0569, 0.1387, -0.0054), (-0.1335, 0.0460, 0.1264), (-0.0774, -0.0925, 0.1295)],
         "H": [(-0.0976, 0.2447, -0.0177), (-0.2409, 0.0794, 0.2218),
               (-0.1371, -0.1631, 0.2312)]},
    ),
}  # fmt: skip
"""Space group, lengths of the cell (angstrom) and sites."""

PACKED = {
    "P a -3": ("CS2", "C4H2", "NCCN", "Cl2", "F2"),
    "P 21 3": ("PH3", "CH3Cl", "CH3CN", "HCF3", "HCCl3", "NF3", "HCN", "CO", "HCl", "HF"),
    "P -4 21 m": ("H2O", "SH2", "H2CO", "COF2", "H2NCN", "H2CF2", "H2CCO"),
}
"""Molecules for each arrangement: about a centre, along [111], and in the mirror (110) along c."""

VOLUMES = (1.0, 0.9, 1.1)
CONTACTS = (0.80, 0.95)
EVERY = 5
MOLECULES_HELD_OUT = ("nh3", "c2h2")


def filled(space_group: str, lengths: tuple[float, ...], sites: dict) -> Atoms:
    """The atoms of the cell; copies on special positions are one atom."""
    symbols, places = [], []
    for symbol, found in sites.items():
        for site in found:
            own: list[np.ndarray] = []
            for rotation, shift in operations(space_group):
                x = (rotation @ np.array(site, dtype=float) + shift) % 1.0
                if all(np.abs((x - y) - np.round(x - y)).max() > 1e-3 for y in own):
                    own.append(x)
            places += own
            symbols += [symbol] * len(own)
    return Atoms(symbols, scaled_positions=places, cell=lengths, pbc=True)


def at_volume(atoms: Atoms, factor: float) -> Atoms:
    """The same molecules with their centres moved to another volume."""
    structure = Structure.from_ase(atoms)
    scale = factor ** (1 / 3)
    positions = np.zeros((len(atoms), 3))
    for part in whole_molecules(structure):
        centre = part.positions.mean(axis=0)
        positions[part.atoms] = (part.positions + (scale - 1) * centre) * BOHR
    return Atoms(atoms.numbers, positions, cell=atoms.cell * scale, pbc=True)


def large(atoms: Atoms) -> Atoms:
    """Repeated to the least period."""
    times = np.ceil(LEAST_PERIOD * BOHR / atoms.cell.lengths() - 1e-9).astype(int)
    whole = atoms.repeat(tuple(times.tolist()))
    whole.positions = wrap_positions(whole.positions, whole.cell)
    return whole


def turned(name: str, space_group: str) -> Atoms | None:
    """A molecule in the orientation of an arrangement."""
    part = {"C4H2": diacetylene, "H2NCN": cyanamide}.get(name, lambda: molecule(name))()
    part.positions -= part.positions.mean(axis=0)
    if space_group == "P -4 21 m":  # the axis of the molecule along c, its plane in (110)
        part.rotate(45, "z")
        return part
    part.rotate("z", (1, 1, 1))
    return part


def diacetylene() -> Atoms:
    """Linear, along z."""
    z = np.cumsum([0, 1.06, 1.21, 1.37, 1.21, 1.06])
    return Atoms("HC4H", [[0, 0, x] for x in z])


def cyanamide() -> Atoms:
    """Planar, along z."""
    return Atoms(
        "NCNH2", [[0, 0, 2.50], [0, 0, 1.34], [0, 0, 0], [0, 0.87, -0.5], [0, -0.87, -0.5]]
    )


def packed(part: Atoms, space_group: str, contact: float) -> Atoms | None:
    """The molecule in the arrangement, as dense as its contacts allow."""
    centre = (0, 0.5, 0.25) if space_group == "P -4 21 m" else (0.0,) * 3
    if space_group == "P 21 3":
        centre = (0.25,) * 3
    for length in np.arange(3.5, 14.0, 0.05):
        cell = np.array([length, length, length * (0.84 if space_group == "P -4 21 m" else 1.0)])
        sites: dict[str, list] = {}
        for symbol, position in zip(part.get_chemical_symbols(), part.positions, strict=True):
            sites.setdefault(symbol, []).append(position / cell + centre)
        atoms = without_copies(filled(space_group, tuple(cell), sites))
        if len(atoms) % len(part) == 0 and nearest(atoms, len(part)) >= contact:
            return atoms
    return None


def without_copies(atoms: Atoms) -> Atoms:
    """Sites of symmetric molecules are each other's copies."""
    kept: list[int] = []
    apart = atoms.get_all_distances(mic=True)
    for i in range(len(atoms)):
        if not kept or apart[i, kept].min() > 0.1:
            kept.append(i)
    return atoms[kept]


def nearest(atoms: Atoms, size: int) -> float:
    """Smallest distance between molecules over the sum of the radii; 0 if there are none."""
    try:
        structure = Structure.from_ase(atoms)
    except InputError:  # atoms too close
        return 0.0
    parts = whole_molecules(structure)
    if any(len(part.atoms) != size or part.endless for part in parts):
        return 0.0
    radii = vdw_radii[atoms.numbers] / BOHR
    i, j, vectors = structure.neighbours(np.full(len(atoms), 4.0))
    owner = np.zeros(len(atoms), dtype=int)
    places = np.zeros((len(atoms), 3))
    for k, part in enumerate(parts):
        owner[part.atoms], places[part.atoms] = k, part.positions
    inside = np.linalg.norm(places[j] - places[i] - vectors, axis=1) < 1e-3
    between = (owner[i] != owner[j]) | ~inside
    ratios = np.linalg.norm(vectors, axis=1) / (radii[i] + radii[j])
    return float(ratios[between].min(initial=9.0))


def cluster(atoms: Atoms, n: int) -> Atoms:
    """A molecule and the n - 1 whose atoms are nearest to it."""
    whole = atoms.repeat((3, 3, 3))
    structure = Structure.from_ase(whole)
    parts = [part for part in whole_molecules(structure) if not part.endless]
    middle = structure.cell.sum(axis=0) / 2
    first = min(parts, key=lambda part: np.linalg.norm(part.positions.mean(axis=0) - middle))

    def contact(part) -> float:
        apart = np.linalg.norm(part.positions[:, None] - first.positions, axis=2)
        return round(float(apart.min()), 3)

    chosen = sorted(parts, key=contact)[:n]
    numbers = np.concatenate([structure.numbers[part.atoms] for part in chosen])
    return Atoms(numbers, np.concatenate([part.positions for part in chosen]) * BOHR)


def structures() -> list[tuple[str, Atoms]]:
    """All names and structures."""
    cells: dict[str, list[tuple[str, Atoms]]] = {}
    for name, (group, lengths, sites) in KNOWN.items():
        atoms = filled(group, lengths, sites)
        cells[name] = [(f"v{100 * v:.0f}", at_volume(atoms, v)) for v in VOLUMES]
    for group, names in PACKED.items():
        for name in names:
            part = turned(name, group)
            made = [(f"c{100 * c:.0f}", packed(part, group, c)) for c in CONTACTS]
            letter = {"P a -3": "a", "P 21 3": "b", "P -4 21 m": "c"}[group]
            cells[f"{name.lower()}_{letter}"] = [(x, atoms) for x, atoms in made if atoms]
    found = []
    for i, (name, several) in enumerate(cells.items()):
        held = "_held" if i % EVERY == EVERY - 1 or name in MOLECULES_HELD_OUT else ""
        for kind, atoms in several:
            found.append((f"crystal_{name}_{kind}{held}", large(atoms)))
            found.append((f"crystal_{name}_{kind}_cluster{held}", cluster(atoms, 6)))
    # so that labels of many crystals are there early
    return sorted(found, key=lambda named: (not named[1].pbc.any(), len(named[1])))


def main() -> None:
    """Write the structures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    out = parser.parse_args().out
    text = StringIO()
    for name, atoms in structures():
        atoms.info = {"name": name}
        write(text, atoms, format="extxyz")
    out.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


if __name__ == "__main__":
    main()
