"""The table of file formats: what denser reads and writes, and what it takes from each.

`denser formats` prints it, and `make docs` writes it into docs/files.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StructureFormat:
    """A format of structures, and what denser takes from it.

    Parameters
    ----------
    title : str
        Name of the format.
    endings : tuple of str
        Of the file name, in any case; .gz, .bz2 or .xz may follow.
    library : str
        What reads it.
    reader : str
        Module and function.
    charge, name, frames, cell : str
        Where the charge, the title, several structures and the cell come from.
    mark : str
        Regular expression by which text from standard input is recognised.
    """

    title: str
    endings: tuple[str, ...]
    library: str
    reader: str
    charge: str
    name: str
    frames: str
    cell: str
    mark: str = ""


STRUCTURES = (
    StructureFormat(
        "xyz, extended xyz", (".xyz", ".extxyz"), "denser, ASE", "coordinates:read_xyz",
        "charge=, total_charge=, 'charge: -1', or '-1 1' (charge and multiplicity) in the comment; "
        "a column formal_charges",
        "comment line", "all frames", "Lattice=, unless pbc is F F F", r"\A\s*\d+\s*\n",
    ),
    StructureFormat(
        "MDL molfile and SDF, V2000 and V3000", (".sdf", ".mol", ".sd"), "RDKit",
        "molecules:read_sdf",
        "M  CHG, or the charge column of the atoms", "first line", "all records", "none",
        r"^M  END",
    ),
    StructureFormat(
        "Tripos mol2", (".mol2",), "RDKit", "molecules:read_mol2",
        "sum of the atomic charges; without them, of the atom types",
        "name of the molecule", "all molecules", "none",
        r"^@<TRIPOS>MOLECULE",
    ),
    StructureFormat(
        "SMILES list", (".smi", ".smiles", ".ism"), "RDKit", "molecules:read_smi",
        "of the SMILES", "text after the SMILES", "all lines", "none",
        r"\A\s*[A-Za-z0-9@+\-\[\]()=#$%/\\.*:]+([ \t].*)?$(?!\n\s*[^\n]*\s-?\d+\.\d+)",
    ),
    StructureFormat(
        "PDB", (".pdb", ".ent"), "gemmi", "crystals:read_pdb",
        "columns 79-80; else of residues by their hydrogens, of ions (NA, CL, ...) by their names",
        "TITLE", "all models",
        "CRYST1, if the space group is P 1 and atoms fill the cell", r"^(ATOM  |HETATM)",
    ),
    StructureFormat(
        "CIF, mmCIF", (".cif", ".mmcif", ".mcif"), "gemmi", "crystals:read_cif",
        "mmCIF: pdbx_formal_charge; residues and ions as in PDB",
        "_struct.title or name of the block",
        "all blocks and models", "CIF: with all symmetry copies; mmCIF: as PDB", r"^data_",
    ),
    StructureFormat(
        "Gaussian input", (".com", ".gjf"), "denser", "coordinates:read_gaussian",
        "charge line", "title", "first job", "Tv lines",
        r"^\s*#.*\n(.*\n)*?\s*[+-]?\d+[ ,]+\d+\s*$",
    ),
    StructureFormat(
        "ORCA input", (".inp",), "denser", "coordinates:read_orca",
        "* xyz line, or %coords", "none", "one", "none", r"^\s*(\*\s*xyz|%coords)",
    ),
    StructureFormat(
        "GROMACS", (".gro",), "denser", "coordinates:read_gro",
        "of residues by their hydrogens; of ions by their names", "first line", "all frames",
        "last line, unless it is zero",
        r"\A.*\n\s*\d+\s*\n[ \d]{5}\w",
    ),
    StructureFormat(
        "CML", (".cml",), "denser", "coordinates:read_cml",
        "formalCharge", "title or id", "all molecules", "none", r"<(cml:)?molecule\b",
    ),
)  # fmt: skip
"""Formats of structures; ASE reads the others (POSCAR, .gen, .xsd, .in, outputs of programs)."""

TRAJECTORY = StructureFormat(
    "CHARMM and NAMD DCD, GROMACS XTC and TRR, Amber NetCDF",
    (".dcd", ".xtc", ".trr", ".nc", ".ncdf"), "MDAnalysis", "trajectories:trajectory_frames",
    "of the file that --topology names", "none", "all frames, each read when it is needed",
    "box of each frame, unless it is zero or atoms do not fill it",
)  # fmt: skip
"""Trajectories without elements, which need a topology (`denser.io.trajectories`)."""


@dataclass(frozen=True)
class DensityFormat:
    """A format of densities and other fields.

    Parameters
    ----------
    title : str
        Name of the format.
    endings : tuple of str
        Of the file name, in any case, the usual one first; .gz, .bz2 or .xz may follow.
    library : str
        What reads and writes it.
    unit : str
        Of a density in the file.
    holds : str
        Atoms, digits and what is special.
    """

    title: str
    endings: tuple[str, ...]
    library: str
    unit: str
    holds: str


DENSITIES = {
    "cube": DensityFormat(
        "Gaussian cube", (".cube", ".cub"), "denser", "e/bohr^3",
        "atoms, 6 digits; the charge column holds valence charges",
    ),
    "chgcar": DensityFormat(
        "VASP CHGCAR; CHG, PARCHG and AECCAR are read", (".chgcar", ".vasp"), "denser",
        "e (density times volume)",
        "atoms, 11 digits; a spin density as second block; the origin is kept in the comment",
    ),
    "xsf": DensityFormat(
        "XSF with a data grid (XCrySDen, pp.x)", (".xsf", ".axsf"), "denser", "e/bohr^3",
        "atoms, 11 digits",
    ),
    "ccp4": DensityFormat(
        "CCP4 / MRC map", (".ccp4", ".map", ".mrc"), "gemmi", "e/angstrom^3",
        "no atoms, single precision; NSTART (gemmi, Coot) within half a node of the ORIGIN words",
    ),
    "npz": DensityFormat(
        "NumPy archive of denser", (".npz",), "NumPy", "e/bohr^3", "everything, lossless"
    ),
    "zarr_group": DensityFormat(
        "Zarr group of many densities, `GROUP.zarr/NAME`", (".zarr",), "zarr", "e/bohr^3",
        "everything, lossless",
    ),
    "opendx": DensityFormat(
        "OpenDX, as in APBS", (".dx",), "denser", "e/bohr^3; kT/e for potentials",
        "no atoms, 7 digits",
    ),
    "vtk": DensityFormat(
        "VTK image data, written only", (".vti",), "denser", "that of the field",
        "atoms as field data, single precision",
    ),
}  # fmt: skip
"""Formats of densities by the module of `denser.io` with `read` and `write`."""


def listed() -> list[dict[str, str | list[str]]]:
    """Both tables as plain dictionaries, for `denser formats`."""
    structures: list[dict[str, str | list[str]]] = [
        {
            "holds": "structures", "format": entry.title, "endings": list(entry.endings),
            "library": entry.library, "charge": entry.charge, "title": entry.name,
            "frames": entry.frames, "cell": entry.cell,
        }
        for entry in (*STRUCTURES, TRAJECTORY)
    ]  # fmt: skip
    densities: list[dict[str, str | list[str]]] = [
        {
            "holds": "densities", "format": entry.title, "endings": list(entry.endings),
            "library": entry.library, "unit": entry.unit, "contents": entry.holds,
        }
        for entry in DENSITIES.values()
    ]  # fmt: skip
    return structures + densities
