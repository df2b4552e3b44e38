"""k points and gaps of crystals, and what is expected of errors there."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import primitive_neighbor_list
from torch import as_tensor

from denser.model import crystals
from denser.model.bands import COARSE, SMALL_GAP, _Bloch, bands
from denser.model.diagonalisation import Whole, k_mesh
from denser.model.hamiltonians import ELEMENTS, Neighbours, tabulated
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import HARTREE

CUTOFF = 8.0


def graphite() -> Atoms:
    x = [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25], [0, 0, 0.75], [2 / 3, 1 / 3, 0.75]]
    return Atoms("C4", scaled_positions=x, cell=[2.461, 2.461, 6.708, 90, 90, 120], pbc=True)


def found(atoms: Atoms):
    return bands(Structure.from_ase(atoms), CUTOFF)


def test_repeated_cells_at_gamma_are_a_mesh_of_k_points():
    """In a skew cell with two elements, the density matrix is the same to rounding."""
    structure = Structure.from_ase(bulk("BN", "zincblende", a=3.615))
    i, j, vectors, shifts = primitive_neighbor_list(
        "ijDS", (True,) * 3, structure.cell, structure.positions, CUTOFF
    )
    pairs = Neighbours(structure.numbers, j, i, as_tensor(vectors), CUTOFF)
    hamiltonian = tabulated(pairs)
    n_valence = as_tensor([float(ELEMENTS[int(z)][0]) for z in structure.numbers])
    whole = Whole(pairs, shifts, structure.cell)
    blocks = next(iter(whole.solutions(hamiltonian, n_valence, 0, None, 0)))
    blocks = blocks if hasattr(blocks, "p_atoms") else blocks[0]
    mesh = k_mesh(structure.cell)
    assert mesh == (4, 4, 4)
    matrix, _ = _Bloch(hamiltonian, pairs, shifts).solved(mesh, 8)
    np.testing.assert_allclose(matrix[:2], blocks.p_atoms.numpy(), atol=1e-9)
    np.testing.assert_allclose(matrix[2:], blocks.p_pairs.numpy(), atol=1e-9)


def test_gaps_of_known_crystals():
    diamond, silicon = found(bulk("C", "diamond", a=3.567)), found(bulk("Si", "diamond", a=5.431))
    assert 0 < silicon.gap < diamond.gap < SMALL_GAP
    assert "small gap (1.0 eV" in silicon.doubt
    for metal in (bulk("Al", "fcc", a=4.05), graphite()):
        assert found(metal).gap < 1e-3 / HARTREE, metal
        assert "no gap" in found(metal).doubt
    salt = found(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    assert salt.gap > 8 / HARTREE
    assert not salt.doubt


def test_convergence_of_the_mesh():
    salt = bulk("NaCl", "rocksalt", a=5.64)
    assert found(salt).change > COARSE
    assert "2 x 2 x 2 k points is not converged" in found(salt).doubt
    larger = found(salt.repeat((3, 3, 3)))
    assert larger.mesh == (1, 1, 1)
    assert larger.change < 0.5 * COARSE
    assert larger.gap == pytest.approx(found(salt).gap, rel=0.02)


def test_molecules_have_no_bands():
    water = Structure.from_ase(molecule("H2O"))
    assert bands(water, CUTOFF) is None
    assert Predictor().bands(water) is None
    ion = Structure(np.array([11]), np.zeros((1, 3)), charge=1, cell=np.eye(3) * 12.0)
    assert bands(ion, CUTOFF) is None  # no valence electrons


def ice() -> Atoms:
    """Ice XI."""
    from ase.spacegroup import crystal

    x = [[0, 0.6648, 0.0631], [0.5, 0.8255, -0.0631], [0, 0.5363, 0.0183], [0, 0.6636, 0.1963]]
    x.append([0.6766, 0.7748, -0.0183])
    return crystal("OOHHH", x, spacegroup=36, cellpar=[4.465, 7.858, 7.292, 90, 90, 90])


def test_crystals_are_expected_to_err_more():
    """Ice XI errs by 0.7 % (two steps in its cell: 0.69 %), twice as much as would be in doubt."""
    predictor = Predictor()
    prediction = predictor.predict(ice(), spacing=0.25)
    assert len(prediction.density.structure) == 24
    assert 0.0035 < prediction.expected_error < 0.014  # within a factor of two
    assert "does not know this kind of crystal well: expected error" in predictor.doubt(prediction)
    salt = predictor.predict(bulk("NaCl", "rocksalt", a=5.64, cubic=True), spacing=0.25)
    assert salt.expected_error == pytest.approx(crystals.ENDLESS)
    # a molecule alone in its cell is a molecule
    water = molecule("H2O")
    alone = water.copy()
    alone.center(5.0)
    alone.pbc = True
    errors = [predictor.predict(x, spacing=0.25).expected_error for x in (water, alone)]
    assert errors[1] == pytest.approx(errors[0], rel=0.05)


def test_estimates_that_know_crystals_are_taken_as_they_are():
    predictor = Predictor()
    model = predictor.model
    knowing = Predictor(replace(model, info=model.info | {crystals.FITTED: crystals.ENOUGH}))
    one, other = (p.predict(ice(), spacing=0.3).expected_error for p in (predictor, knowing))
    assert one == pytest.approx(crystals.MOLECULAR * other)


def test_command_states_the_mesh(run, tmp_path):
    path = tmp_path / "al.cif"
    bulk("Al", "fcc", a=4.05, cubic=True).write(path)
    code, out, err = run("predict", path, "-o", "al.npz", "--spacing", "0.3", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert record["k_mesh"] == [2, 2, 2] and record["tight_binding_gap_ev"] < 0.3
    assert "by tight binding" in record["doubt"]
    code, out, err = run("predict", path, "-o", "al.npz", "--spacing", "0.3")
    assert "2 x 2 x 2 k points, " in out
