"""RESP charges of capped amino acids beside those of ff14SB, which are of HF/6-31G*.

    python benchmarks/amber_charges.py             # needs openmm, whose file has ff14SB's charges

Each residue X is ACE-X-NME, with four geometries of ETKDG and MMFF94 in one fit; the charges of
either cap add up to zero. The charges of ff14SB (Cornell et al., J. Am. Chem. Soc. 117, 5179
(1995)) are fitted to two geometries each, with the amide groups of all neutral residues alike.
Printed are root mean square differences of the atoms of X and of its side chain alone, as predicted
and with --like hf, and the correlation.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from xml.etree import ElementTree

import networkx
import numpy as np
from ase import Atoms
from openmm import app
from rdkit import Chem
from rdkit.Chem import AllChem

from denser.io.smiles import from_rdkit
from denser.types.structure import Structure
from denser.workflows.charge_inputs import ChargeSettings, Molecule
from denser.workflows.charges import charges
from recording import add_option, record

RESIDUES = {
    "ALA": "C",
    "SER": "CO",
    "VAL": "C(C)C",
    "ASN": "CC(N)=O",
    "PHE": "Cc1ccccc1",
    "TYR": "Cc1ccc(O)cc1",
    "MET": "CCSC",
    "HID": "Cc1c[nH0]c[nH]1",
    "ASP": "CC(=O)[O-]",
    "LYS": "CCCC[NH3+]",
    "ARG": "CCCNC(N)=[NH2+]",
}
"""Side chains."""

CAPS = (("[CH3]C=O", 0.0), ("[NX3;H1][CH3]", 0.0))
"""Atoms of the caps, whose charges add up to zero."""

BACKBONE = ("N", "H", "CA", "HA", "C", "O")


def residues_of_amber() -> dict[str, tuple[networkx.Graph, dict[str, float]]]:
    """Graph and charges of each residue, by name."""
    data = Path(app.__file__).parent / "data" / "amber14" / "protein.ff14SB.xml"
    root = ElementTree.parse(data).getroot()
    elements = {entry.get("name"): entry.get("element") for entry in root.iter("Type")}
    found = {}
    for residue in root.iter("Residue"):
        graph, charge = networkx.Graph(), {}
        for atom in residue.findall("Atom"):
            name = atom.get("name")
            graph.add_node(name, element=elements[atom.get("type")])
            charge[name] = float(atom.get("charge"))
        for bond in residue.findall("Bond"):
            graph.add_edge(bond.get("atomName1"), bond.get("atomName2"))
        found[residue.get("name")] = graph, charge
    return found


def conformers_of(smiles: str, n: int) -> tuple[Chem.Mol, list[Atoms]]:
    """The molecule, and geometries of it."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMultipleConfs(molecule, n, randomSeed=7)
    AllChem.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000)
    kept = [Chem.Mol(molecule, confId=c.GetId()) for c in molecule.GetConformers()]
    return molecule, [from_rdkit(one) for one in kept]


def names_of(molecule: Chem.Mol, residue: networkx.Graph) -> dict[int, str]:
    """Names of the atoms of the residue within the capped molecule."""
    graph = networkx.Graph()
    for atom in molecule.GetAtoms():
        graph.add_node(atom.GetIdx(), element=atom.GetSymbol())
    for bond in molecule.GetBonds():
        graph.add_edge(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    matcher = networkx.algorithms.isomorphism.GraphMatcher(
        graph, residue, node_match=lambda a, b: a["element"] == b["element"]
    )
    amide = Chem.MolFromSmarts("CC(=O)N[CX4;H1]C(=O)NC")
    backbone = molecule.GetSubstructMatch(amide)
    for names in matcher.subgraph_isomorphisms_iter():
        of = {name: i for i, name in names.items()}
        if (of["N"], of["CA"], of["C"]) == (backbone[3], backbone[4], backbone[5]):
            return names
    raise SystemExit("the residue was not found in its capped molecule")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conformers", type=int, default=4)
    parser.add_argument("residues", nargs="*", default=list(RESIDUES), help=", ".join(RESIDUES))
    add_option(parser)
    options = parser.parse_args()
    known = residues_of_amber()
    heads = ("rms, e", "side chain", "like hf: rms, e", "side chain", "correlation")
    print("| residue | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    rows = {}
    for name in options.residues:
        smiles = f"CC(=O)N[C@@H]({RESIDUES[name]})C(=O)NC"
        molecule, frames = conformers_of(smiles, options.conformers)
        source = tuple(Structure.of(atoms) for atoms in frames)
        graph, published = known[name]
        names = names_of(molecule, graph)
        inside = list(names)
        amber = np.array([published[names[i]] for i in inside])
        side = np.array([names[i] not in BACKBONE for i in inside])
        row = []
        for like_hf in (False, True):
            settings = ChargeSettings(groups=CAPS, like_hf=like_hf)
            found = charges(Molecule(name, name, source), settings)
            q = np.array(found["charges_e"]["resp"])[inside]
            row += [_rms(q - amber), _rms((q - amber)[side])]
        row.append(float(np.corrcoef(q, amber)[0, 1]))
        rows[name] = [round(x, 3) for x in row]
        print(f"| {name} | " + " | ".join(f"{x:.3f}" for x in row) + " |", flush=True)
    mean = np.mean(list(rows.values()), axis=0)
    print("| mean | " + " | ".join(f"{x:.3f}" for x in mean) + " |")
    record(options.results, "amber_charges", {"rows": rows})


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    main()
