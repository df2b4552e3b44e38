"""Atomic charges of RDKit molecules, and a toolkit wrapper for the OpenFF toolkit.

The wrapper has the interface of `openff.toolkit.utils.base_wrapper.ToolkitWrapper`, and is a class
of it where the OpenFF toolkit is installed. That toolkit comes from conda-forge, not from PyPI:

    from openff.toolkit.utils import GLOBAL_TOOLKIT_REGISTRY
    from denser.workflows.openff import ToolkitWrapper

    GLOBAL_TOOLKIT_REGISTRY.register_toolkit(ToolkitWrapper())
    molecule.assign_partial_charges("denser-resp")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from denser.analysis.charges.without_grid import FITTED, KINDS
from denser.io.smiles import embed, from_rdkit
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.version import __version__
from denser.workflows.charge_inputs import ChargeSettings, Molecule
from denser.workflows.charges import charges

if TYPE_CHECKING:
    from rdkit import Chem

try:
    from openff.toolkit.utils.base_wrapper import (  # type: ignore[import-not-found, unused-ignore]
        ToolkitWrapper as _Base,
    )
except ImportError:
    _Base = object

_LIKE_HF = "-like-hf"


def rdkit_charges(
    molecule: Chem.Mol, kind: str = "resp", like_hf: bool = False, model: str = "default"
) -> np.ndarray:
    """Charges (n_atoms,), e, of an RDKit molecule, in the order of its atoms.

    Parameters
    ----------
    molecule : rdkit.Chem.Mol
        With all hydrogens. All its conformers are used, as in `denser charges --conformers`;
        without one a geometry is made.
    kind : str
        One of `denser.analysis.charges.without_grid.KINDS`.
    like_hf : bool
        Scale fitted charges towards those of HF/6-31G*.
    model : str
        As in `denser.Predictor`.

    Raises
    ------
    InputError
        Hydrogens are missing, several molecules, an unknown kind, or as in `denser charges`.
    """
    from rdkit import Chem

    settings = ChargeSettings((kind,), like_hf=like_hf, model=model)
    hidden = sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
    if hidden:
        raise InputError(f"{hidden} hydrogens are no atoms of the molecule; call Chem.AddHs first")
    pieces = len(Chem.GetMolFrags(molecule))
    if pieces != 1:
        raise InputError(f"expected one molecule, found {pieces} that are not bonded")
    name = molecule.GetProp("_Name") if molecule.HasProp("_Name") else "molecule"
    if molecule.GetNumConformers() == 0:
        frames = [embed(molecule, name)]
    else:
        frames = []
        for conformer in molecule.GetConformers():
            one = Chem.Mol(molecule, confId=conformer.GetId())
            frames.append(from_rdkit(one))
    structures = tuple(Structure.of(atoms) for atoms in frames)
    record = charges(Molecule(name, "molecule", structures), settings)
    return np.array(record["charges_e"][kind])


class ToolkitWrapper(_Base):
    """Charges of denser for the OpenFF toolkit.

    Methods are "denser-resp", "denser-resp-like-hf" (scaled towards HF/6-31G*, for force fields of
    the Amber family) and "denser-KIND" for the other kinds of `denser charges`.
    """

    _toolkit_name = "denser"
    _toolkit_version = __version__
    _toolkit_installation_instructions = "pip install 'denser[smiles]'"
    _toolkit_file_read_formats: list[str] = []  # noqa: RUF012
    _toolkit_file_write_formats: list[str] = []  # noqa: RUF012
    _is_available: bool | None = None

    SUPPORTED_CHARGE_METHODS = frozenset(
        [f"denser-{kind}" for kind in KINDS] + [f"denser-{kind}{_LIKE_HF}" for kind in FITTED]
    )

    @classmethod
    def is_available(cls) -> bool:
        """Whether RDKit is there, through which molecules are read."""
        if cls._is_available is None:
            try:
                import rdkit  # noqa: F401
            except ImportError:
                cls._is_available = False
            else:
                cls._is_available = True
        return cls._is_available

    def assign_partial_charges(
        self,
        molecule: Any,
        partial_charge_method: str | None = None,
        use_conformers: Sequence[Any] | None = None,
        strict_n_conformers: bool = False,
        normalize_partial_charges: bool = True,
        _cls: Any = None,
    ) -> None:
        """Compute charges and store them as `molecule.partial_charges`.

        Parameters
        ----------
        molecule : openff.toolkit.Molecule
        partial_charge_method : str, optional
            One of `SUPPORTED_CHARGE_METHODS`, "denser-resp" by default.
        use_conformers : sequence of Quantity (n_atoms, 3), optional
            Geometries; all are used together. By default one is made. The conformers of the
            molecule are not used unless they are given here, as in the toolkit's other wrappers.
        strict_n_conformers, normalize_partial_charges, _cls
            Of the interface. Any number of conformers is allowed, and the charges add up to the
            formal charge in any case.

        Raises
        ------
        ValueError
            A method that is not supported: in the toolkit `ChargeMethodUnavailableError`.
        InputError
            As in `rdkit_charges`: in the toolkit `ChargeCalculationError`.
        """
        from rdkit import Chem

        method = (partial_charge_method or "denser-resp").lower()
        if method not in self.SUPPORTED_CHARGE_METHODS:
            known = ", ".join(sorted(self.SUPPORTED_CHARGE_METHODS))
            raise _error("ChargeMethodUnavailableError", ValueError)(
                f"partial_charge_method {partial_charge_method!r} is not available from denser; "
                f"known: {known}"
            )
        kind = method.removeprefix("denser-").removesuffix(_LIKE_HF)
        of_rdkit = Chem.Mol(molecule.to_rdkit())
        of_rdkit.RemoveAllConformers()
        for positions in use_conformers or ():
            conformer = Chem.Conformer(of_rdkit.GetNumAtoms())
            conformer.SetPositions(np.array(positions.m_as("angstrom"), dtype=float))
            of_rdkit.AddConformer(conformer, assignId=True)
        try:
            found = rdkit_charges(of_rdkit, kind, method.endswith(_LIKE_HF))
        except InputError as error:
            raise _error("ChargeCalculationError", InputError)(str(error)) from error
        molecule.partial_charges = _elementary_charges(found)


def _elementary_charges(values: np.ndarray) -> Any:
    """Charges with the toolkit's unit; plain numbers where it is not installed."""
    try:
        from openff.toolkit import Quantity, unit  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return values
    return Quantity(values, unit.elementary_charge)


def _error(name: str, otherwise: type[Exception]) -> type[Exception]:
    """An exception of the toolkit."""
    try:
        from openff.toolkit.utils import (  # type: ignore[import-not-found, unused-ignore]
            exceptions,
        )
    except ImportError:
        return otherwise
    return getattr(exceptions, name)
