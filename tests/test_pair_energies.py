"""Multipoles, Ewald's sum, and energies between the molecules of a crystal."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from denser.analysis.charges.without_grid import Conformer
from denser.analysis.crystal.electrostatic_energy import electrostatic_energy, multipoles_of
from denser.analysis.crystal.multipoles import Multipoles, interaction, lattice_energy
from denser.analysis.crystal.pair_energies import pair_dispersion, pair_energies
from denser.analysis.crystal.symmetry import found_operations, operations, triplet
from denser.atoms.free_atoms import pseudo_charges
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, KJ_PER_MOL

CELL = np.array([[14.0, 0, 0], [2, 12, 0], [1, 3, 13]])


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor()


@pytest.fixture(scope="module")
def ammonia() -> Structure:
    """Solid ammonia, P 2_1 3 (four molecules, rounded from neutron data)."""
    nitrogen, hydrogen = np.full(3, 0.2107), np.array([0.3689, 0.2671, 0.1159])
    sites = [nitrogen, hydrogen, hydrogen[[1, 2, 0]], hydrogen[[2, 0, 1]]]
    turns = [(1, 1, 1, 0, 0, 0), (-1, -1, 1, 0.5, 0, 0.5), (-1, 1, -1, 0, 0.5, 0.5)]
    turns.append((1, -1, -1, 0.5, 0.5, 0))
    x = [np.array(t[:3]) * site + t[3:] for t in turns for site in sites]
    return Structure.from_ase(Atoms("NH3" * 4, scaled_positions=x, cell=[5.048] * 3, pbc=True))


def random_molecule(rng: np.random.Generator, centre: list[float]) -> Multipoles:
    charges, seconds = rng.normal(size=3), rng.normal(size=(3, 3, 3))
    seconds = seconds + seconds.transpose(0, 2, 1)
    seconds -= np.trace(seconds, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
    return Multipoles(
        centre + rng.normal(size=(3, 3)), charges - charges.mean(), rng.normal(size=(3, 3)), seconds
    )


def as_charges(molecule: Multipoles, h: float = 0.02) -> Multipoles:
    """The same multipoles made of point charges at distances h."""
    places, charges = [], []
    for place, q, dipole, second in zip(
        molecule.positions, molecule.charges, molecule.dipoles, molecule.seconds, strict=True
    ):
        values, axes = np.linalg.eigh(second)
        places.append(place)
        charges.append(q - values.sum() / h**2)
        for k in range(3):
            for sign in (1, -1):
                places += [place + sign * h * np.eye(3)[k], place + sign * h * axes[:, k]]
                charges += [sign * dipole[k] / (2 * h), values[k] / (2 * h**2)]
    n = len(charges)
    return Multipoles(np.array(places), np.array(charges), np.zeros((n, 3)), np.zeros((n, 3, 3)))


def test_multipoles_are_limits_of_point_charges():
    rng = np.random.default_rng(1)
    a, b = random_molecule(rng, [0.0, 0, 0]), random_molecule(rng, [9.0, 1, 2])
    energy = interaction(a, b)
    assert energy == pytest.approx(interaction(b, a), rel=1e-12)
    assert energy == pytest.approx(interaction(as_charges(a), as_charges(b)), abs=1e-6)
    assert abs(energy) > 1e-4


def test_ewald_sum_does_not_depend_on_the_split():
    rng = np.random.default_rng(2)
    molecules = [random_molecule(rng, [0.0, 0, 0]), random_molecule(rng, [8.0, 1, 2])]
    energies = [lattice_energy(molecules, CELL, alpha) for alpha in (0.0, 0.25, 0.4)]
    np.testing.assert_allclose(energies, energies[0], rtol=1e-9)
    # a molecule that leaves the cell through a face is the same crystal
    moved = [molecules[0].moved(CELL[1] - CELL[2]), molecules[1]]
    assert lattice_energy(moved, CELL) == pytest.approx(energies[0], rel=1e-9)


def test_ewald_sum_of_rock_salt():
    x = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    x = np.concatenate([x, x + [1, 0, 0]]).astype(float)
    zero = np.zeros((1, 3)), np.zeros((1, 3, 3))
    ions = [
        Multipoles(p[None], np.array([q]), *zero)
        for p, q in zip(x, [1] * 4 + [-1] * 4, strict=True)
    ]
    assert lattice_energy(ions, 2 * np.eye(3)) / 4 == pytest.approx(-1.747564594633, abs=1e-10)


def test_operations_are_found_from_the_atoms(ammonia):
    found = found_operations(ammonia)
    assert len(found) == 12
    expected = {triplet(r, t) for r, t in operations("P 21 3")}
    assert {triplet(r, t) for r, t in found} == expected
    assert triplet(*found[0]) == "x,y,z"


def dimer(predictor: Predictor, shift: tuple[float, float, float]) -> tuple[Conformer, Conformer]:
    first = Structure.from_ase(molecule("H2O"))
    second = Structure(first.numbers, first.positions + np.array(shift) / BOHR)
    return tuple(Conformer(x, predictor.gaussians(x)[0]) for x in (first, second))


def test_energy_of_a_pair_against_pyscf(predictor):
    """Electrostatic energy of converged densities of the same level by analytic integrals."""
    from pyscf import gto

    from denser.dft.molecular import converge

    a, b = dimer(predictor, (0.3, 0.4, -2.9))
    found = [converge(x.structure, "gth-tzv2p", about=None) for x in (a, b)]
    mols, matrices = [x.mf.mol for x in found], [x.dm for x in found]
    both = gto.conc_mol(*mols)
    n = mols[0].nbas
    repulsion = both.intor("int2e", shls_slice=(0, n, 0, n, n, 2 * n, n, 2 * n))
    energy = np.einsum("ij,ijkl,kl", matrices[0], repulsion, matrices[1])
    charges = [pseudo_charges(x.structure) for x in (a, b)]
    apart = np.linalg.norm(a.structure.positions[:, None] - b.structure.positions, axis=2)
    energy += charges[0] @ (1 / apart) @ charges[1]
    for i in (0, 1):
        for z, place in zip(charges[1 - i], (b, a)[i].structure.positions, strict=True):
            with mols[i].with_rinv_origin(place):
                energy -= z * np.vdot(mols[i].intor("int1e_rinv"), matrices[i])
    predicted = electrostatic_energy(a, b)
    assert energy * KJ_PER_MOL < -15
    assert predicted * KJ_PER_MOL == pytest.approx(energy * KJ_PER_MOL, abs=0.5)


def test_far_apart_pairs_are_their_multipoles(predictor):
    a, b = dimer(predictor, (1.0, 2.0, 6.0))
    energy = electrostatic_energy(a, b) * KJ_PER_MOL
    assert energy == pytest.approx(
        interaction(multipoles_of(a), multipoles_of(b)) * KJ_PER_MOL, abs=0.03
    )


def test_pairs_and_lattice_of_ammonia(predictor, ammonia):
    density = predictor.predict(ammonia).density
    result = pair_energies(density, predictor)
    assert result.independent == (0,)
    assert [pair.times for pair in result.pairs] == [6, 6]
    strong, weak = result.to_dict()["pairs"]
    assert strong["electrostatic_kj_per_mol"] < -10 < weak["electrostatic_kj_per_mol"]
    assert strong["penetration_kj_per_mol"] < -1
    # Direct sums over neutral molecules in a cell without a dipole converge to Ewald's; the last
    # 0.2 kJ/mol oscillate (0.02 are left at 50 angstrom).
    whole = result.lattice_electrostatic
    near, far = np.abs(np.array(result.partial) - whole) * KJ_PER_MOL / 4
    assert far < 0.3
    assert near < 0.5
    assert "repulsion" in result.lines()[-1]
    # a supercell is the same crystal
    atoms = ammonia.to_ase().repeat((1, 1, 2))
    larger = pair_energies(predictor.predict(atoms).density, predictor)
    assert larger.lattice_electrostatic == pytest.approx(2 * whole, rel=1e-4)
    assert larger.independent == (0,)


def test_ions(predictor):
    """NH4Cl in the structure of CsCl, with the hydrogens in order."""
    h = 0.153
    x = [[0, 0, 0], [h, h, h], [-h, -h, h], [-h, h, -h], [h, -h, -h], [0.5] * 3]
    salt = Atoms("NH4Cl", scaled_positions=x, cell=[3.87] * 3, pbc=True)
    result = pair_energies(predictor.predict(salt, spacing=0.3).density, predictor)
    assert result.charges == (1, -1)
    assert result.partial == ()
    # Madelung's energy of point ions, and some penetration in the four N-H...Cl contacts
    nearest = np.sqrt(0.75) * 3.87 / BOHR
    point = -1.762675 / nearest
    assert result.lattice_electrostatic == pytest.approx(point, rel=0.15)
    assert result.lattice_electrostatic < point
    attraction = [p for p in result.pairs if p.molecule == 0 and p.neighbour == 1]
    assert sum(p.times for p in attraction) == 8
    assert all(p.electrostatic < 0 for p in attraction)
    assert not any("polar" in note for note in result.notes)


def test_dispersion_of_a_pair(predictor):
    a, b = dimer(predictor, (0.3, 0.4, -2.9))
    parts = a.structure, b.structure
    d3, d4 = (pair_dispersion(*parts, kind) * KJ_PER_MOL for kind in ("d3bj", "d4"))
    assert -3 < d3 < -0.5
    assert d4 == pytest.approx(d3, rel=0.3)


def test_what_has_no_pairs_is_refused(predictor):
    water = Structure.from_ase(molecule("H2O"))
    density = predictor.predict(water).density
    with pytest.raises(InputError, match="give its cell"):
        pair_energies(density, predictor)
    chain = Atoms("C2", [[0, 0, 0], [1.3, 0, 0]], cell=[2.6, 8, 8], pbc=True)
    with pytest.raises(InputError, match="bonded without end"):
        pair_energies(predictor.predict(chain).density, predictor)


def test_command(run, tmp_path, ammonia):
    path = tmp_path / "ammonia.cif"
    ammonia.to_ase().write(path)
    code, out, err = run("analyze", path, "--pair-energies", "--json")
    assert code == 0, err
    found = json.loads(out)["properties"]["pair-energies"]
    assert found["dispersion"] == "d3bj"
    assert found["lattice_dispersion_kj_per_mol"] < -5
    assert [pair["times"] for pair in found["pairs"]] == [6, 6]
