"""Geometries of kinds of molecules beyond QM9 to make labels of: `data/kinds.xyz.gz`.

    python benchmarks/kind_structures.py MOSES.csv.gz -o data/kinds.xyz.gz

`data/kinds.toml` has templates of SMILES, in which every group in braces is replaced by each entry
of its list. RDKit makes the geometries (ETKDG, MMFF94 or UFF). Salts, hydrates, complexes and
clusters are placed at random and optimised with GFN2-xTB (tblite), some of them in part only.
Drug-like molecules come from MOSES (Polykovskiy et al., Frontiers in Pharmacology 11, 565644,
2020; MIT licence; `moses/dataset/data/train.csv.gz` of the package molsets). Needs the packages
tblite and rdkit. Every tenth molecule of a kind is held out: its name ends in `_held`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import covalent_radii, vdw_radii
from ase.io import read
from ase.optimize import FIRE
from rdkit import Chem, RDLogger

from denser.atoms.radii import NON_METALS
from denser.io.smiles import from_smiles
from denser.labels import held_out
from denser.labels.store import LabelStore
from kinds import KINDS

DATA = Path(__file__).parents[1] / "data"
EVERY = 10
"""One molecule in so many is held out."""


def expanded(templates: list[str], groups: dict[str, list[str]]) -> Iterator[str]:
    """SMILES of templates, each once, in canonical form."""
    seen = set()
    for template in templates:
        names = list(dict.fromkeys(re.findall(r"\{(\w+)\}", template)))
        for chosen in itertools.product(*[groups[name] for name in names]):
            smiles = template
            for name, group in zip(names, chosen, strict=True):
                smiles = smiles.replace("{" + name + "}", group)
            molecule = Chem.MolFromSmiles(smiles)
            if molecule is None:
                print(f"cannot be read: {smiles}", file=sys.stderr)
                continue
            smiles = Chem.MolToSmiles(molecule)
            if smiles not in seen:
                seen.add(smiles)
                yield smiles


def random_for(name: str) -> np.random.Generator:
    """A generator of random numbers that depends on the name only."""
    return np.random.default_rng(np.frombuffer(sha256(name.encode()).digest(), dtype="<u4"))


def packed(parts: list[Atoms], random: np.random.Generator) -> Atoms:
    """Molecules in random orientations around the first one, in contact with what is there."""
    radii = np.nan_to_num(vdw_radii, nan=2.0) * 0.85
    metals = {3: 0.9, 11: 1.2, 12: 1.0, 19: 1.5, 20: 1.3, 30: 1.0}
    whole: Atoms | None = None
    for part in parts:
        part = part.copy()
        part.positions -= part.positions.mean(axis=0)
        turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
        part.positions = part.positions @ (turn * np.sign(np.linalg.det(turn)))
        if whole is None:
            whole = part
            continue
        direction = random.standard_normal(3)
        direction /= np.linalg.norm(direction)
        size = np.array([metals.get(z, radii[z]) for z in whole.numbers])
        own = np.array([metals.get(z, radii[z]) for z in part.numbers])
        for shift in np.arange(0, 30, 0.1):
            moved = part.positions + shift * direction
            apart = np.linalg.norm(moved[:, None] - whole.positions[None], axis=2)
            if (apart > own[:, None] + size[None]).all():
                part.positions = moved
                break
        whole += part
        whole.positions -= whole.positions.mean(axis=0)
    return whole


def relaxed(atoms: Atoms, charge: int, steps: int) -> Atoms | None:
    """Optimise with GFN2-xTB for some steps; None if it fails or a molecule falls apart."""
    from tblite.ase import TBLite

    atoms = atoms.copy()
    atoms.set_initial_charges([charge] + [0] * (len(atoms) - 1))
    atoms.calc = TBLite(method="GFN2-xTB", charge=charge, verbosity=0)
    try:
        FIRE(atoms, logfile=None).run(fmax=0.05, steps=steps)
    except Exception as error:
        print(f"GFN2-xTB: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return None
    if not np.isfinite(atoms.positions).all():
        return None
    apart = atoms.get_all_distances() + 9 * np.eye(len(atoms))
    radii = covalent_radii[atoms.numbers]
    if (apart < 0.6 * (radii[:, None] + radii[None])).any():
        return None
    return Atoms(atoms.numbers, atoms.positions)


def stretched(atoms: Atoms, smiles: str, random: np.random.Generator) -> Atoms:
    """Lengthen one bond that is in no ring to 1.15 to 1.8 times its length."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    bonds = [b for b in molecule.GetBonds() if not b.IsInRing()]
    bond = bonds[random.integers(len(bonds))]
    i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    cut = Chem.FragmentOnBonds(molecule, [bond.GetIdx()], addDummies=False)
    (moving,) = [part for part in Chem.GetMolFrags(cut) if j in part]
    along = atoms.positions[j] - atoms.positions[i]
    atoms = atoms.copy()
    atoms.positions[list(moving)] += along * random.uniform(0.15, 0.8)
    return atoms


def transferred(atoms: Atoms, sizes: list[int], random: np.random.Generator) -> Atoms | None:
    """Shorten the closest hydrogen bond between the two molecules; its proton is on the way."""
    first = np.arange(len(atoms)) < sizes[0]
    polar = np.isin(atoms.numbers, (7, 8, 9, 16, 17))
    apart = atoms.get_all_distances() + 9 * (first[:, None] == first[None])
    apart[np.ix_(atoms.numbers != 1, polar)] += 9
    apart[:, ~polar] += 9
    proton, acceptor = np.unravel_index(np.argmin(apart), apart.shape)
    if apart[proton, acceptor] > 3:
        return None
    donors = atoms.get_distances(proton, range(len(atoms)))
    donors[~polar | (first != first[proton])] = 9
    donor = int(np.argmin(donors))
    along = atoms.positions[acceptor] - atoms.positions[donor]
    length = np.linalg.norm(along)
    large = (atoms.numbers[[donor, acceptor]] > 10).sum()
    target = random.uniform(2.35, 2.6) + 0.35 * large
    atoms = atoms.copy()
    atoms.positions[first == first[acceptor]] += along / length * (target - length)
    share = random.uniform(0.42, 0.58)
    atoms.positions[proton] = atoms.positions[donor] + along / length * target * share
    apart = atoms.get_all_distances() + 9 * np.eye(len(atoms))
    return atoms if apart.min() > 0.7 else None


def lost_hydrides(atoms: Atoms, smiles: str) -> bool:
    """Whether hydride ions have moved from the metal to another ion, which they reduce."""
    apart = atoms.get_all_distances() + 9 * np.eye(len(atoms))
    nearest = atoms.numbers[apart.argmin(axis=1)]
    kept = (atoms.numbers == 1) & ~np.isin(nearest, NON_METALS)
    return kept.sum() < smiles.count("[H-]")


def made(name: str, smiles: str, how: str) -> Atoms | None:
    """One geometry, centred; None if there is none."""
    random = random_for(name)
    molecule = Chem.MolFromSmiles(smiles)
    charge = Chem.GetFormalCharge(molecule)
    try:
        if how in ("cluster", "transfer"):
            parts = [from_smiles(part) for part in smiles.split(".")]
            steps = 150 if how == "transfer" else int(random.integers(5, 150))
            atoms = relaxed(packed(parts, random), charge, steps)
            if atoms is not None and lost_hydrides(atoms, smiles):
                return None
            if atoms is not None and how == "transfer":
                atoms = transferred(atoms, [len(part) for part in parts], random)
        else:
            found = from_smiles(smiles)
            atoms = Atoms(found.numbers, found.positions)
            if how == "stretched":
                atoms = stretched(atoms, smiles, random)
            elif how == "xtb":
                atoms = relaxed(atoms, charge, 100)
    except Exception as error:
        print(f"{name} {smiles}: {error}", file=sys.stderr)
        return None
    if atoms is not None:
        atoms.info = {"name": name, "charge": charge, "smiles": smiles}
        spin = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
        if spin and how == "molecule" and not name.startswith("carbene"):
            atoms.info["spin"] = spin
    return atoms


@cache
def excluded() -> frozenset[tuple[str, int]]:
    """Formulas and charges of small test molecules and of labels of other kinds held out so far."""
    found = {(formula, 0) for formula in held_out.FORMULAS}
    with LabelStore(Path(__file__).with_name("labels.db")) as store:
        for name in store.names():
            if held_out.is_named(name) and not name.startswith(("qm9", "cluster")):
                structure = store.read(name).structure
                found.add((structure.formula, structure.charge))
    for source, _ in KINDS.values():
        atoms = from_smiles(source) if isinstance(source, str) else source
        found.add((atoms.get_chemical_formula(), atoms.info.get("charge", 0)))
    return frozenset(found)


def is_excluded(atoms: Atoms) -> bool:
    """Whether the molecule may be one that is held out."""
    return (atoms.get_chemical_formula(), atoms.info["charge"]) in excluded()


def drugs(path: Path, groups: dict[str, int], seen: set[str]) -> Iterator[tuple[str, str]]:
    """Names and SMILES of MOSES, by the elements that they must hold, at most 21 heavy atoms."""
    with gzip.open(path, "rt") as file:
        all_smiles = [row["SMILES"] for row in csv.DictReader(file)]
    order = np.random.default_rng(7).permutation(len(all_smiles))
    left = dict(groups)
    for i in order:
        molecule = Chem.MolFromSmiles(all_smiles[i])
        if molecule is None or molecule.GetNumHeavyAtoms() > 21:
            continue
        smiles = Chem.MolToSmiles(molecule)
        symbols = {atom.GetSymbol() for atom in molecule.GetAtoms()}
        for group in left:
            if left[group] and smiles not in seen and (group == "any" or group in symbols):
                if group != "Br" and "Br" in symbols:
                    continue
                left[group] -= 1
                seen.add(smiles)
                yield f"drug_{group.lower()}", smiles
        if not any(left.values()):
            return


def write_structures(path: Path, structures: list[Atoms]) -> None:
    """Write extended XYZ with four decimals, compressed; the same atoms give the same bytes."""
    lines = []
    for atoms in structures:
        info = " ".join(f'{key}="{value}"' for key, value in atoms.info.items())
        lines += [str(len(atoms)), f"Properties=species:S:1:pos:R:3 {info}"]
        rows = zip(atoms.symbols, atoms.positions, strict=True)
        lines += [f"{s} {x:.4f} {y:.4f} {z:.4f}" for s, (x, y, z) in rows]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    print(f"{len(structures)} geometries in {path}")


def main() -> int:
    """Make the geometries that the output lacks, and write all of them, small ones first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("moses", type=Path, nargs="?", help="not needed for kinds of --only")
    parser.add_argument("-o", "--out", type=Path, default=DATA / "kinds.xyz.gz")
    parser.add_argument("--only", nargs="*", default=[], metavar="KIND")
    chosen = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    plan = tomllib.loads((DATA / "kinds.toml").read_text())
    there: list[Atoms] = read(chosen.out, ":", format="extxyz") if chosen.out.exists() else []
    names = {atoms.info["name"].removesuffix("_held") for atoms in there}
    wanted = []
    for kind, entry in plan["kinds"].items():
        how, copies = entry.get("how", "molecule"), entry.get("copies", 1)
        for i, smiles in enumerate(expanded(entry["smiles"], plan["groups"])):
            for copy in range(copies):
                end = "abcdefghijklmnop"[copy] if copies > 1 else ""
                wanted.append((kind, f"{kind}_{i + 1:03d}{end}", i, smiles, how))
    counts: dict[str, int] = {}
    if chosen.moses is None and not chosen.only:
        parser.error("drug-like molecules need the file of MOSES; --only KIND... makes others")
    for kind, smiles in drugs(chosen.moses, plan["drugs"], set()) if chosen.moses else ():
        counts[kind] = counts.get(kind, 0) + 1
        wanted.append((kind, f"{kind}_{counts[kind]:03d}", counts[kind] - 1, smiles, "molecule"))
    for kind, name, i, smiles, how in wanted:
        if name in names or (chosen.only and kind not in chosen.only):
            continue
        atoms = made(name, smiles, how)
        if atoms is None or (how != "cluster" and is_excluded(atoms)):
            continue
        if i % EVERY == EVERY // 2:
            atoms.info["name"] += "_held"
        there.append(atoms)
    # small molecules first, since all kinds have some and they are labelled in seconds; radicals,
    # which networks do not learn yet, last
    there.sort(
        key=lambda a: ("spin" in a.info, len(a) // 8, sha256(a.info["name"].encode()).digest())
    )
    write_structures(chosen.out, there)
    return 0


if __name__ == "__main__":
    sys.exit(main())
