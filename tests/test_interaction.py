"""Interaction energies with the counterpoise correction, and ions, against PySCF."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from pyscf import dft, gto
from typer.testing import CliRunner

import denser
from denser.analysis.potential.electrostatics import Potential
from denser.cli import app
from denser.dft.basis import AUGMENTED, shells_of
from denser.dft.interaction import fragments_of, interaction
from denser.dft.ionisation import ionisation
from denser.dft.molecular import NotConverged, build_molecule, converge
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import HARTREE, KCAL_PER_MOL
from denser.workflows.other_basis import _add_electrostatics


@pytest.fixture(scope="module")
def pair():
    """A hydrogen molecule that points at another, bohr."""
    x = np.array([[0, 0, -0.7], [0, 0, 0.7], [-0.7, 0, 5.5], [0.7, 0, 5.5]])
    return Structure(np.ones(4, int), x)


@pytest.fixture(scope="module")
def waters():
    one, other = molecule("H2O"), molecule("H2O")
    other.positions += [0, 0, 3.4]
    return Structure.from_ase(Atoms([*one, *other]))


def test_counterpoise_correction_is_that_of_pyscf(pair):
    """The same five calculations with exact integrals, ghosts written by hand."""
    basis = "gth-tzv2p"
    whole = converge(pair, basis)
    found = interaction(whole, fragments_of(pair, "bonds"), kind="d4")

    def energy(atoms: list[int], ghosts: list[int]) -> float:
        names = ["H" if i in atoms else "ghost-H" for i in [*atoms, *ghosts]]
        mol = gto.M(
            atom=[(s, pair.positions[i]) for s, i in zip(names, [*atoms, *ghosts], strict=True)],
            basis={s: shells_of("H", basis) for s in set(names)},
            pseudo={"H": "gth-pbe"}, unit="bohr", verbose=0,
        )  # fmt: skip
        return float(dft.RKS(mol, xc="pbe").run().e_tot)

    both = energy([0, 1, 2, 3], [])
    plain = both - energy([0, 1], []) - energy([2, 3], [])
    corrected = both - energy([0, 1], [2, 3]) - energy([2, 3], [0, 1])
    limit = 0.005 / KCAL_PER_MOL
    assert found.e_plain == pytest.approx(plain, abs=limit)
    assert found.e_counterpoise == pytest.approx(corrected, abs=limit)
    assert plain < corrected - limit  # functions of the neighbour lower the energy
    assert -0.5 < found.e_dispersion * KCAL_PER_MOL < -0.01
    assert "interaction of H2 + H2" in found.lines()[0]
    sums = found.to_dict()
    assert sums["e_superposition_kcal_per_mol"] == pytest.approx(
        sums["e_interaction_kcal_per_mol"] - sums["e_counterpoise_kcal_per_mol"], abs=2e-4
    )


def test_fragments(waters):
    by_bonds, by_hand = fragments_of(waters, "bonds"), fragments_of(waters, "1+2-3,4-6")
    for one, other in zip(by_bonds, by_hand, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
        assert one.formula == "H2O" and one.charge == 0
    ions = fragments_of(waters, "1-2:-1,3-6:+1")
    assert [part.charge for part in ions] == [-1, 1]
    alone = Structure.from_ase(molecule("CH4"))
    for structure, text, what in (
        (waters, "1-2,3-6", "has an unpaired electron; give the charge"),
        (waters, "1-3:1,4-6:1", "add up to 2"),
        (waters, "1-3,4-7", "not within the atoms 1 to 6"),
        (waters, "1-3,3-6", "atom 3 is in two fragments"),
        (waters, "1-3,5-6", "atom 4 is in no fragment"),
        (waters, "first,second", "cannot read the fragment 'first'"),
        (waters, "1-6", "found one; separate"),
        (alone, "bonds", "all atoms of CH4 are bonded"),
    ):
        with pytest.raises(InputError, match=what):
            fragments_of(structure, text)


def test_ions_are_those_of_pyscf():
    hydrogen = Structure.from_ase(molecule("H2"))
    whole = converge(hydrogen)
    found = ionisation(whole, hydrogen, Recipe())
    energies = {}
    for charge in (-1, 0, 1):
        mol = build_molecule(
            Structure(hydrogen.numbers, hydrogen.positions, charge, spin=abs(charge))
        )
        energies[charge] = dft.UKS(mol, xc="pbe").run().e_tot
    away = [
        found.e_ionisation - (energies[1] - energies[0]),
        found.e_affinity - (energies[0] - energies[-1]),
    ]
    assert abs(away[0]) * HARTREE < 0.002
    assert abs(away[1]) * HARTREE < 0.05  # density fitting of an electron that is not bound
    assert 15 < found.e_ionisation * HARTREE < 17  # measured, vertical: about 16
    assert -whole.homo < found.e_ionisation - 3 / HARTREE and found.e_affinity < 0


def test_commands(tmp_path):
    """What the options print and write."""
    path = tmp_path / "h2.xyz"
    molecule("H2").write(path)
    options = [str(path), "--padding", "3", "--json"]
    files = ["--orbitals", "homo", "-o", str(tmp_path), "--molden", str(tmp_path / "h2.molden")]
    run = CliRunner().invoke(app, ["energy", *options, "--ip-ea", "--dispersion", "d4", *files])
    assert run.exit_code == 0, run.output
    record = json.loads(run.stdout)
    assert record["basis"] == AUGMENTED and record["calculation"] == "open space"
    assert record["ionisation_energy_ev"] > -record["homo_ev"]
    assert record["e_tot_with_dispersion_hartree"] < record["e_tot_hartree"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["h2.molden", "h2.xyz", "h2_homo.cube"]
    run = CliRunner().invoke(app, ["scf", str(path), "--basis", "gth-dzvp", "--padding", "3"])
    assert run.exit_code == 0, run.output
    assert "self-consistent in" in run.output and "(open space, gth-dzvp)" in run.output
    run = CliRunner().invoke(app, ["energy", str(path), "--basis", "cc-pv", "--padding", "3"])
    assert run.exit_code == 2 and "PySCF lacks the basis 'cc-pv' of H" in run.output
    (tmp_path / "h.xyz").write_text("1\n\nH 0 0 0\n")
    ion = [str(tmp_path / "h.xyz"), "--charge", "-1", "--steps", "1", "--padding", "2"]
    run = CliRunner().invoke(app, ["energy", *ion])
    assert run.exit_code == 0 and "--basis aug-gth-tzv2p" in run.stderr, run.output


def test_an_anion_that_does_not_converge_has_no_affinity(monkeypatch):
    hydrogen = Structure.from_ase(molecule("H2"))
    whole = converge(hydrogen, "gth-szv")

    def fails(structure, *arguments, **more):
        if structure.charge < 0:
            raise NotConverged("not in 60 cycles")
        return converge(structure, *arguments, **more)

    monkeypatch.setattr("denser.dft.ionisation.converge", fails)
    found = ionisation(whole, hydrogen, Recipe())
    assert found.e_affinity is None and found.e_ionisation > -whole.homo


def test_fragments_by_bonds_have_their_formal_charges():
    """An ammonium and a formate ion next to each other, without charges in the text."""
    pytest.importorskip("rdkit")
    cation, anion = denser.from_smiles("[NH4+]"), denser.from_smiles("C(=O)[O-]")
    anion.positions += [0, 0, 4.5]
    atoms = Atoms([*cation, *anion])
    parts = fragments_of(Structure.from_ase(atoms, 0), "bonds")
    assert [(part.formula, part.charge) for part in parts] == [("H4N", 1), ("CHO2", -1)]


def test_electrostatics_of_predicted_fragments():
    """Two molecules of water: the same from the potential on a grid."""
    one, other = molecule("H2O"), molecule("H2O")
    other.positions += [0, 0, 3.1]
    parts = [denser.predict(atoms) for atoms in (one, other)]
    record = {"interaction": {}, "lines": []}
    _add_electrostatics(record, parts)
    found = record["interaction"]["e_electrostatic_predicted_kcal_per_mol"]
    of_other, rho = Potential(parts[1]), parts[0]
    nuclei = rho.valence_charges @ of_other(rho.structure.positions)
    electrons = (rho.values.ravel() @ of_other(rho.grid.points().reshape(-1, 3))) * rho.grid.dv
    assert found == pytest.approx((nuclei - electrons) * KCAL_PER_MOL, abs=0.05)
    assert f"{found:.2f} kcal/mol" in record["lines"][0]
    cut = replace(parts[0], structure=parts[0].structure)  # a density without its Gaussians
    empty = {"interaction": {}, "lines": []}
    _add_electrostatics(empty, [cut, parts[1]])
    assert empty == {"interaction": {}, "lines": []}


GHOSTS = "4\n\n{0}H 0 0 0\n{0}H 0 0 0.75\n{1}H 0 0 2.6\n{1}H 0.1 0 3.35\n"


def test_ghosts_of_a_file_are_those_of_the_counterpoise_correction(run, tmp_path):
    """Labels of several programs; the energies add up to that of --fragments."""
    options = ("--basis", "gth-dzvp", "--json")
    (tmp_path / "both.xyz").write_text(GHOSTS.format("", ""))
    code, out, err = run("energy", "both.xyz", "--fragments", "1-2,3-4", *options)
    assert code == 0, err
    both = json.loads(out)
    left = GHOSTS.format("", "X-")
    right = GHOSTS.format("Gh(", "").replace("Gh(H", "Gh(H)")
    expected = both["e_tot_hartree"]
    for name, text in (("left", left), ("right", right)):
        (tmp_path / f"{name}.xyz").write_text(text)
        code, out, err = run("energy", f"{name}.xyz", *options)
        assert code == 0, err
        record = json.loads(out)
        assert (record["formula"], record["n_ghosts"]) == ("H2", 2)
        expected -= record["e_tot_hartree"]
    found = both["interaction"]["e_counterpoise_kcal_per_mol"]
    assert found == pytest.approx(expected * KCAL_PER_MOL, abs=0.002)
    found = run("energy", "left.xyz", "--molden", "x.molden")[1]  # at the level of theory
    assert found.count(", 2 ghosts, ") == 1
    of_atoms = (tmp_path / "x.molden").read_text().split("[GTO]")[0].split("(AU)")[1].split("\n")
    assert [line.split()[:3] for line in of_atoms if line.strip()] == [
        ["H", "1", "1"], ["H", "2", "1"], ["H", "3", "0"], ["H", "4", "0"],
    ]  # fmt: skip
    (tmp_path / "twice.xyz").write_text(left.replace("0.1 0 3.35", "0 0 0"))
    (tmp_path / "none.xyz").write_text(GHOSTS.format("X-", "ghost-"))
    for words, arguments in (
        (
            "atom 3 is a ghost, basis functions of H without",
            ("predict", "left.xyz", "-o", "a.cube"),
        ),
        ("all atoms are ghosts", ("energy", "none.xyz")),
        ("closer than 0.4 angstrom", ("energy", "twice.xyz")),
        ("the structure has ghosts, which", ("energy", "left.xyz", "--ip-ea")),
        ("give --basis gth-tzv2p", ("scf", "left.xyz")),
    ):
        code, _, err = run(*arguments)
        assert code == 2
        assert words in err
