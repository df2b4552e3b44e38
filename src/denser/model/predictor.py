"""Prediction of densities from atoms."""

from __future__ import annotations

import logging
import time
import warnings
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from denser.atoms.molecules import whole_molecules
from denser.atoms.plausible import strange
from denser.atoms.sad import (
    RECIPES,
    count_electrons,
    require_closed_shell,
    superposition,
    supported_elements,
    valence_charges,
)
from denser.fields.cube_group import cube_operations
from denser.model import crystals
from denser.model.bands import Bands, bands
from denser.model.boxes import check_memory, make_grid, respace, respaced
from denser.model.checkpoint import Model, load_model, model_path
from denser.model.deformed_atoms import DeformedAtoms
from denser.model.graph import Graph
from denser.model.normalise import normalise
from denser.model.options import PredictionOptions
from denser.model.precision import fast_bf16
from denser.model.threads import paying_threads
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

_LOG = logging.getLogger("denser")

DOUBT = 0.5
"""A molecule is in doubt if its electrons are off by more than this times the mean error."""

WORSE = 2.5
"""It is in doubt, too, if its expected error is larger than this times the mean error."""

ADVICE = "; take Kohn-Sham steps (--refine) or fine-tune"
"""What a sentence of doubt ends with."""

_OCTET = 8.0

_SHARE = 0.1
"""A sentence on the expected error names atoms with at least this share of it."""

_FINE_ENOUGH = 1.8
"""Up to this multiple of the model's spacing, electrons are counted accurately enough at nodes."""

_SEVERAL = 0.25
"""Effectively unpaired electrons beyond the unpaired ones, from which on orbitals count as several.

Two orbitals with one electron have 0.5.
"""


class ExpectsErrors:
    """What follows from the expected errors of a density (`Density.wrong`)."""

    density: Density

    @property
    def wrong(self) -> np.ndarray | None:
        """Expected wrong electrons of each atom (n_atoms,); None if the model estimates none."""
        return self.density.wrong

    @property
    def expected_error(self) -> float | None:
        """Expected Err_rho, a fraction; None if the model does not estimate it."""
        return self.density.expected_error

    @property
    def worst_expected(self) -> float | None:
        """That of the molecule with the largest one, so that none hides among many others."""
        wrong = self.wrong
        return None if wrong is None else _of_worst_molecule(self.density.structure, wrong)


@dataclass(frozen=True, eq=False)
class Prediction(ExpectsErrors):
    """A predicted density, its SAD, its box, and the times in seconds.

    `box` is "cell", "isolated" or "paper"; `excess` is that of `Predictor.normalised`.
    """

    density: Density
    sad: Density
    box: str
    excess: float
    seconds_sad: float
    seconds_network: float

    def __repr__(self) -> str:
        return f"Prediction({self.density!r}, box {self.box!r})"


@dataclass(frozen=True, eq=False)
class Scaled(ExpectsErrors):
    """A density of exactly N_e electrons, and what scaling it removed.

    `excess` is that of `Predictor.normalised`, `n_electrons` the electrons before scaling.
    """

    density: Density
    excess: float
    n_electrons: float


class Predictor:
    """A model on a device, ready for many structures.

    The network is a copy on this device: predictors on other devices and later training of
    `model` do not change it. Predictors of one file on one device share a copy; a file that has
    changed is read again.

    Parameters
    ----------
    model : str, Path or Model
        Name of a shipped model, path of a model file, or a loaded model.
    device : str
        "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
    bf16 : bool or None
        Compute in bfloat16; by default only if the network loses little accuracy and the
        processor has instructions for it.
    average : int
        Average over this number of the 48 rotated and mirrored copies of the molecule.
    """

    def __init__(
        self,
        model: str | Path | Model = "default",
        device: str = "auto",
        bf16: bool | None = None,
        average: int = 1,
    ) -> None:
        if not 1 <= average <= 48:
            raise InputError(f"an average takes 1 to 48 symmetry operations, found {average}")
        self.operations = cube_operations(average)
        self.device = _device(device)
        if isinstance(model, Model):
            own = replace(model, network=deepcopy(model.network))
            self.model = _for_prediction(own, self.device)
        else:
            self.model = _load(model, self.device)
        self.network = self.model.network
        recipe = self.model.recipe
        if recipe.sad not in RECIPES:
            raise InputError(
                f"model {self.model.name!r} was trained on SAD recipe {recipe.sad!r}, which this "
                f"version of denser does not have; known: {', '.join(RECIPES)}"
            )
        # The functional and the basis of the labels do not matter to a prediction.
        known = replace(recipe, pseudo=Recipe().pseudo)
        name = f"model {self.model.name!r}"
        advice = "use the version of denser that made the model"
        known.require_same(recipe, "this version of denser", name, advice)
        if bf16 is None:
            bf16 = self.network.bf16 and fast_bf16(self.device)
        self.bf16 = bf16
        _LOG.debug(
            "model %s (%s, %d parameters) on %s, %s, %d threads",
            self.model.name, self.model.architecture, self.model.n_parameters, self.device,
            "bfloat16" if bf16 else "float32", torch.get_num_threads(),
        )  # fmt: skip

    def __repr__(self) -> str:
        average = f", average of {len(self.operations)}" if len(self.operations) > 1 else ""
        return f"Predictor({self.model.name!r}, {self.device}{average})"

    def density(self, sad: Density, periodic: bool = False) -> Density:
        """Density from its SAD, on the same grid; exactly N_e electrons, none negative.

        Parameters
        ----------
        sad : Density
            Made with the model's SAD recipe and spacing.
        periodic : bool
            Whether the box is periodic or surrounded by vacuum.
        """
        return self.predicted(sad, periodic).density

    def predicted(self, sad: Density, periodic: bool = False) -> Scaled:
        """Density as in `density`, and the electrons that scaling removed.

        If the network gives the density as Gaussians (`Network.deformed_atoms`), it is known
        between the nodes, and its electrons are counted exactly. The box of Li et al., which
        is periodic although its molecule is not, is left to its nodes.
        """
        if self.network.any_spacing:
            with paying_threads(len(sad.structure)):
                return self._predicted(sad, periodic)
        return self._predicted(sad, periodic)

    def _predicted(self, sad: Density, periodic: bool) -> Scaled:
        recipe = self.model.recipe.sad
        found = self.network.deformed_atoms(sad, periodic, recipe, self.operations)
        if found is None:
            raw = self.raw(sad, periodic)
            total = float(raw.double().sum()) * sad.grid.dv
            return Scaled(*self.normalised(raw, sad), total)
        atoms, raw = found
        total = atoms.moments(sad.grid.origin)[0]
        density = self.normalised(self._usable(raw, sad), sad, atoms.target)[0]
        atoms, excess = atoms.scaled(sad.valence_charges, sad.n_electrons)
        if periodic != sad.structure.isolated:
            density = density.known_between_nodes(atoms)
        density = _with_spin(density, atoms)
        density = density.with_expected_errors(self.wrong_electrons(atoms, excess))
        return Scaled(density, excess, total)

    def wrong_electrons(self, atoms: DeformedAtoms, excess: float) -> np.ndarray | None:
        """Expected wrong electrons of each atom (n_atoms,), None if the model estimates none.

        Parameters
        ----------
        atoms : DeformedAtoms
            As of `gaussians`.
        excess : float
        """
        structure = atoms.structure
        estimate, environments = self.network.expected_error, atoms.environments
        unknown = structure.spin and not self.network.spins
        if estimate is None or environments is None or unknown:
            return None
        n_electrons = float(count_electrons(structure))
        wrong = estimate(structure.numbers, environments, n_electrons, excess)
        unpaired = atoms.unpaired()
        if unpaired is not None and atoms.singly is not None:
            shares = np.abs(unpaired)
            # the mean of several states against one of them
            of_states = max(0.0, atoms.singly - structure.spin) / shares.sum()
            wrong = wrong + (self.network.wrong_of_unpaired + of_states) * shares
        if self.model.info.get(crystals.FITTED, 0) < crystals.ENOUGH:
            wrong = crystals.of_crystal(structure, wrong, n_electrons)
        return wrong

    def bands(self, structure: Structure) -> Bands | None:
        """Bands of the electrons that the network is shown of a crystal, as `bands`.

        None also if the network is shown no electrons.
        """
        config = self.network.config
        if structure.cell is None or not getattr(config, "electrons", 0):
            return None
        return bands(structure, config.cutoff)

    def gaussians(self, structure: Structure) -> tuple[DeformedAtoms, float]:
        """The density of `predict` as Gaussians without a grid, periodic if the structure is.

        The number is the excess of `normalised`, for `doubt_of`.

        Raises
        ------
        InputError
            The model does not cover the structure, or gives a density on a grid only.
        """
        self.require_covered(structure)
        box = self._period(structure)
        found = self.network.isolated_atoms(structure, self.model.recipe.sad, self.operations, box)
        if found is None:
            raise InputError(
                f"model {self.model.name!r} gives a density on a grid only; use a model of "
                "Gaussians, such as the default"
            )
        return found

    def _period(self, structure: Structure) -> Grid | None:
        """The box of a periodic structure."""
        if structure.isolated:
            return None
        return Grid.periodic(structure, self.model.recipe.spacing)

    def environments(self, structure: Structure) -> np.ndarray:
        """Features of each atom (n_atoms, n), as in `Network.environments`.

        Raises
        ------
        InputError
            The model does not cover the structure.
        """
        self.require_covered(structure)
        box = self._period(structure)
        graph = Graph.of(structure, box, self.network.config, self.network.device)
        with paying_threads(len(structure)), torch.no_grad():
            return self.network.environments(graph).cpu().numpy()

    def raw(self, sad: Density, periodic: bool = False) -> torch.Tensor:
        """Output of the network (nx, ny, nz), e/bohr^3, before `normalised`.

        Its integral shows how accurately the network gives the number of electrons (the paper's
        networks contain the scaling).
        """
        raw = self.network.raw_density(sad, periodic, self.operations, self.bf16)
        return self._usable(raw, sad)

    def _usable(self, raw: torch.Tensor, sad: Density) -> torch.Tensor:
        """Return `raw`, or raise an InputError if it is no density."""
        if not bool(torch.isfinite(raw).all()) or float(raw.sum()) <= 0:
            raise InputError(
                f"model {self.model.name!r} returned no usable density for "
                f"{sad.structure.formula}; is its file damaged, or was it trained on other data?"
            )
        return raw

    def normalised(
        self, raw: torch.Tensor, sad: Density, target: np.ndarray | None = None
    ) -> tuple[Density, float]:
        """Scale the result of `raw` to exactly N_e electrons, separately for each molecule.

        The second value is the excess that this removed, as in `normalise`; nan if the spacing is
        too large for it.
        """
        values, excess = normalise(raw, sad, self.model.recipe.sad, target)
        if max(sad.grid.spacing) > _FINE_ENOUGH * self.model.recipe.spacing:
            excess = np.nan
        return sad.with_values(seal(values.cpu().numpy())), excess

    def in_doubt(self, excess: float, expected: float | None = None) -> bool:
        """Whether a molecule is in doubt, so that its error is likely larger than usual.

        If the model estimates its error, the molecule is in doubt if that is larger than `WORSE`
        times its mean error (`Model.mean_percent`). Otherwise: before scaling, the density of a
        molecule of a known kind holds N_e electrons almost exactly, and the molecule is in doubt if
        its number of electrons deviates by more than `DOUBT` times the mean error. If the mean
        error is not known, no molecule is in doubt. docs/model.md says how reliable this is.

        Parameters
        ----------
        excess : float
            Share of the electrons, as from `normalised`.
        expected : float, optional
            `Prediction.worst_expected`.
        """
        error = self.model.mean_percent
        if error is None:
            return False
        if expected is not None:
            return expected > WORSE * error / 100
        return abs(excess) > DOUBT * error / 100

    def least_error(self, excess: float) -> float:
        """Error that the density of a molecule in doubt likely exceeds, percent.

        The mean error of the model, or the excess if that is larger.
        """
        return float(np.nanmax([self.model.mean_percent or 0.0, 100 * abs(excess)]))

    def doubt(self, prediction: Prediction) -> str:
        """One sentence if the prediction is in doubt, otherwise an empty string."""
        density = prediction.density
        found = self.doubt_of(density.structure, prediction.excess, prediction.wrong)
        found_bands = self.bands(density.structure)
        of_bands = "" if found_bands is None else found_bands.doubt
        return "; ".join(filter(None, (found, _of_states(density), of_bands)))

    def doubt_of(self, structure: Structure, excess: float, wrong: np.ndarray | None = None) -> str:
        """As `doubt`, of a structure, the excess and the wrong electrons of its prediction."""
        open_shell = structure.spin and not self.network.spins
        expected = None if wrong is None else _of_worst_molecule(structure, wrong)
        if open_shell or not self.in_doubt(excess, expected):
            return self.unknown(structure)
        kind = "molecule" if structure.cell is None else "crystal"
        what = f"model {self.model.name!r} does not know this kind of {kind} well: "
        if expected is not None and wrong is not None:
            of_all = wrong.sum() / count_electrons(structure)
            where = " in one of its molecules" if expected > 1.001 * of_all else ""
            places = _places(structure, wrong)
            return f"{what}expected error {100 * expected:.2g} %{where}{places}{ADVICE}"
        which = "many" if excess > 0 else "few"
        return (
            f"{what}before scaling it had {100 * abs(excess):.2g} % too {which} electrons, and the "
            f"error of the density is likely above {self.least_error(excess):.2g} %{ADVICE}"
        )

    def unknown(self, structure: Structure) -> str:
        """One sentence on what the model has learnt little about, otherwise an empty string."""
        if structure.spin and not self.network.spins:
            return (
                f"model {self.model.name!r} learnt from closed shells only: expect an error of the "
                "density of 1 to 5 %, for the smallest radicals up to 10, and no spin density; "
                "Kohn-Sham steps (--refine) find both"
            )
        return self.model.seldom(structure.symbols)

    def require_covered(self, structure: Structure) -> None:
        """Raise an InputError unless the model covers all elements, and open shells if needed."""
        tables = supported_elements()
        known = self.network.elements
        covered = tables if known is None else [chemical_symbols[z] for z in known]
        for i, symbol in enumerate(structure.symbols, start=1):
            if symbol not in covered:
                ghost = " (a ghost or dummy atom)" if structure.numbers[i - 1] == 0 else ""
                advice = "leave the atom out or replace it"
                if symbol in tables:
                    advice = (
                        "make labels with it (denser label) and fine-tune the model on them "
                        "(denser finetune), or compute the density (denser scf)"
                    )
                raise InputError(
                    f"atom {i} is {symbol}{ghost}, which model {self.model.name!r} does not cover; "
                    f"it covers {' '.join(covered)}; {advice}"
                )
        count_electrons(structure)
        if not self.network.open_shells:
            require_closed_shell(structure, f"densities of model {self.model.name!r}")

    @classmethod
    def of(cls, options: PredictionOptions, bf16: bool | None = None) -> Predictor:
        """Return a predictor with these options; `bf16` as in `Predictor`."""
        return cls(options.model, options.device, bf16, options.average)

    def predict(
        self,
        atoms: Any,
        charge: int | None = None,
        box: str = "auto",
        padding: float = 4.0,
        spacing: float | None = None,
        *,
        spin: int | None = None,
        options: PredictionOptions | None = None,
    ) -> Prediction:
        """Predict one structure; the parameters are those of `denser.predict`.

        `options` replace the other parameters. Their model, device and average must be those of
        this predictor, and Kohn-Sham steps (`refine`) are not taken here.
        """
        if options is None:
            options = PredictionOptions(
                charge, box=box, padding=padding, spacing=spacing, spin=spin
            )
        structure = options.structure_of(atoms)
        self.require_covered(structure)
        box, padding, spacing = options.box, options.padding, options.spacing
        if box == "auto":
            box = "isolated" if structure.isolated else "cell"
        grid = make_grid(structure, box, padding, self.model.recipe.spacing, self.network)
        if spacing is not None and self.network.any_spacing:
            grid = respaced(grid, spacing / BOHR)
        check_memory(grid)
        start = time.perf_counter()
        sad = superposition(structure, grid, self.model.recipe.sad)
        middle = time.perf_counter()
        scaled = self.predicted(sad, periodic=box != "isolated")
        density = scaled.density
        end = time.perf_counter()
        if options.grid is not None:
            density = _on_nodes(density, options.grid)
        if spacing is not None and not self.network.any_spacing:
            density = respace(density, spacing / BOHR)
        seconds = middle - start, end - middle
        return Prediction(density, sad, box, scaled.excess, *seconds)


def predict(
    atoms: Any,
    charge: int | None = None,
    model: str | Path | Model = "default",
    box: str = "auto",
    padding: float = 4.0,
    spacing: float | None = None,
    device: str = "auto",
    average: int = 1,
    grid: Grid | Field | None = None,
    spin: int | None = None,
) -> Density:
    """Predict the DFT valence density of a molecule or crystal from its atoms.

    Parameters
    ----------
    atoms : ase.Atoms, Structure, Path, str, or a molecule of RDKit or pymatgen
        A string is a file name or a SMILES (`denser.io.structures.as_structure`).
    charge : int, optional
        Total charge; by default that of `atoms`.
    model : str, Path or Model
        Name of a shipped model, or a model file.
    box : str
        "auto" (the cell of a periodic structure, otherwise "isolated"), "isolated" (padding
        around the atoms; a cell is ignored), or "paper" (the box of Li et al. 2025, periodic).
    padding : float
        Vacuum on each side of an isolated molecule, angstrom.
    spacing : float, optional
        Largest distance between nodes of the result, angstrom; by default that of the model. An
        image network always works on its own grid, and its result is interpolated. The aspherical
        network is evaluated at the nodes; fewer nodes take less time.
    device : str
        "auto", "cpu", "cuda", ...
    average : int
        As in `Predictor`.
    grid : Grid or Field, optional
        Nodes of the result, for example those of another program's density, in place of padding
        and spacing. For the networks of Gaussians only, such as the default.
    spin : int, optional
        Number of unpaired electrons; by default that of `atoms`, or else the smallest possible.

    Returns
    -------
    Density
        e/bohr^3, not negative, in the coordinates of `atoms`, with exactly N_e valence electrons;
        on a given `grid` the sum over the nodes may be another.

    Raises
    ------
    InputError
        A structure, option or model that cannot be used.

    Warns
    -----
    UserWarning
        A molecule that the model does not know well (`Predictor.doubt`), bonds of unlikely length,
        or a ground state with another spin (`denser.atoms.plausible.strange`).
    """
    options = PredictionOptions(
        charge, model, box, padding, spacing, device, average, grid=grid, spin=spin
    )
    predictor = Predictor.of(options)
    prediction = predictor.predict(atoms, options=options)
    structure = prediction.density.structure
    for sentence in (*strange(structure), predictor.doubt(prediction)):
        if sentence:
            warnings.warn(f"{structure.formula}: {sentence}", stacklevel=2)
    return prediction.density


def _of_states(density: Density) -> str:
    """One sentence if several orbitals may hold the unpaired electrons, else an empty string."""
    atoms = density.continuous
    if not isinstance(atoms, DeformedAtoms) or atoms.singly is None:
        return ""
    if atoms.singly < density.structure.spin + _SEVERAL:
        return ""
    return (
        "several orbitals of nearly the same energy may hold the unpaired electrons: the spin "
        "density is their mean, and that of a single state may point in any of their directions"
    )


def _with_spin(density: Density, atoms: DeformedAtoms) -> Density:
    """The density with the spin density of the atoms, if they have one."""
    spin = atoms.spin_on_grid(density.grid)
    return density if spin is None else density.with_spin_density(seal(spin))


def _on_nodes(density: Density, grid: Grid | Field) -> Density:
    """The prediction at the nodes of another grid."""
    assert isinstance(grid, Grid)  # PredictionOptions makes it one
    atoms, structure = density.continuous, density.structure
    if not isinstance(atoms, DeformedAtoms):
        raise InputError(
            "this model predicts on its own grid only; the default model predicts on any nodes"
        )
    if structure.cell is None:
        inside = (structure.positions - grid.origin) @ np.linalg.inv(grid.cell)
        out = ((inside < 0) | (inside > 1)).any(axis=1)
        if out.any():
            i = int(np.argmax(out))
            raise InputError(
                f"atom {i + 1} ({structure.symbols[i]}) is outside the box of the given grid; are "
                "the atoms in the same coordinates as the grid?"
            )
    elif not np.allclose(grid.cell, structure.cell, rtol=0, atol=1e-3):
        raise InputError(
            "the box of the given grid is not the cell of the structure; --box isolated "
            "(box='isolated') treats the atoms as a molecule"
        )
    check_memory(grid)
    values = seal(atoms.on_grid(grid))
    on_nodes = replace(density, grid=grid, values=values).known_between_nodes(atoms)
    return _with_spin(on_nodes, atoms).with_expected_errors(density.wrong)


def _of_worst_molecule(structure: Structure, wrong: np.ndarray) -> float:
    """Largest share of wrong electrons of a molecule, at least that of all together.

    How many electrons each of several molecules has is not known: the sum of its valence charges
    is taken, or eight for ions with few.
    """
    charges = valence_charges(structure)
    of_all = wrong.sum() / count_electrons(structure)
    molecules = [molecule.atoms for molecule in whole_molecules(structure)]
    if len(molecules) == 1:
        return float(of_all)
    shares = [wrong[a].sum() / max(charges[a].sum(), _OCTET) for a in molecules]
    return float(max(of_all, *shares))


def _places(structure: Structure, wrong: np.ndarray) -> str:
    """The atoms with most of the expected error, for a sentence."""
    order = np.argsort(-wrong)
    worst = [i for i in order[:4] if wrong[i] > _SHARE * wrong.sum()]
    if len(structure) < 4 or not worst:
        return ""
    return ", most of it at " + ", ".join(f"{structure.symbols[i]}{i + 1}" for i in worst)


def _load(name: str | Path, device: torch.device) -> Model:
    """Model file on a device; it is read again only after it has changed."""
    path = model_path(name).absolute()
    try:
        status = path.stat()
    except OSError:
        return load_model(name)  # its error says what is wrong
    return _load_once(path, status.st_size, status.st_mtime_ns, device)


@lru_cache(maxsize=4)
def _load_once(path: Path, size: int, changed: int, device: torch.device) -> Model:
    return _for_prediction(load_model(path), device)


def _for_prediction(model: Model, device: torch.device) -> Model:
    """The model on the device, with fixed weights; `model` itself is moved."""
    model.network.to(device).eval().requires_grad_(False)
    return model


def _device(name: str) -> torch.device:
    if not isinstance(name, str):
        raise InputError(f"the device must be a text such as 'cpu', found {type(name).__name__}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"unknown device {name!r}; give auto, cpu, cuda, or one of several such as cuda:1"
        ) from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} is not available ({str(error).splitlines()[0]}); use --device cpu"
        ) from error
    return device
