"""Prediction of densities from atoms."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from denser.atoms.molecules import is_crystal
from denser.atoms.plausible import strange
from denser.atoms.sad import (
    RECIPES,
    count_electrons,
    require_closed_shell,
    superposition,
    supported_elements,
)
from denser.fields.cube_group import cube_operations
from denser.model import crystals
from denser.model.bands import Bands, bands
from denser.model.boxes import IN_MEMORY, check_memory, make_grid, respace, respaced
from denser.model.checkpoint import Model
from denser.model.deformed_atoms import DeformedAtoms
from denser.model.doubt import of_states, sentence_of
from denser.model.expected_error import at_least_of_scaling
from denser.model.graph import Graph
from denser.model.loading import device_of, for_prediction, load_on
from denser.model.normalise import normalise
from denser.model.options import PredictionOptions, cube_of
from denser.model.precision import fast_bf16
from denser.model.prediction import Prediction, Scaled, on_nodes, with_spin
from denser.model.slabs import Slabs, Track, untracked
from denser.model.threads import paying_threads
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

_LOG = logging.getLogger("denser")

_FINE_ENOUGH = 1.8
"""Up to this multiple of the model's spacing, electrons are counted accurately enough at nodes."""


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
        self.device = device_of(device)
        if isinstance(model, Model):
            own = replace(model, network=deepcopy(model.network))
            self.model = for_prediction(own, self.device)
        else:
            self.model = load_on(model, self.device)
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
        density = with_spin(density, atoms)
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
        if not is_crystal(structure):
            return at_least_of_scaling(structure, wrong, atoms.added())
        # what is missing in a crystal is missing everywhere
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
        graph = self._graph(structure)
        with paying_threads(len(structure)), torch.no_grad():
            return self.network.environments(graph).cpu().numpy()

    def features(self, structure: Structure) -> torch.Tensor:
        """Features of each atom as harmonics (n_atoms, channels, lm), on the CPU.

        As in `denser.model.aspherical.Aspherical.features`; errors as in `environments`. Only
        networks that learn from points have them.
        """
        graph = self._graph(structure)
        with paying_threads(len(structure)), torch.no_grad():
            return self.network.features(graph).cpu()

    def _graph(self, structure: Structure) -> Graph:
        self.require_covered(structure)
        box = self._period(structure)
        return Graph.of(structure, box, self.network.config, self.network.device)

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
            raise self._unusable(sad.structure)
        return raw

    def _unusable(self, structure: Structure) -> InputError:
        return InputError(
            f"model {self.model.name!r} returned no usable density for {structure.formula}; is its "
            "file damaged, or was it trained on other data?"
        )

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

    def doubt(self, prediction: Prediction) -> str:
        """One sentence if the prediction is in doubt (`denser.model.doubt`), or an empty string."""
        density = prediction.density
        found = self.doubt_of(density.structure, prediction.excess, prediction.wrong)
        of_bands = self.doubt_of_bands(density.structure)
        return "; ".join(filter(None, (found, of_states(density), of_bands)))

    def doubt_of_bands(self, structure: Structure) -> str:
        """One sentence if the electrons of a crystal put it in doubt, or an empty string."""
        found = self.bands(structure)
        return "" if found is None else found.doubt

    def doubt_of(self, structure: Structure, excess: float, wrong: np.ndarray | None = None) -> str:
        """As `doubt`, of a structure, the excess and the wrong electrons of its prediction."""
        return sentence_of(self.model, structure, excess, wrong)

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
        structure, box, grid = self._start(atoms, options)
        spacing = options.spacing
        check_memory(grid)
        start = time.perf_counter()
        sad = superposition(structure, grid, self.model.recipe.sad)
        middle = time.perf_counter()
        scaled = self.predicted(sad, periodic=box in ("cell", "paper"))
        density = scaled.density
        end = time.perf_counter()
        if options.grid is not None:
            density = on_nodes(density, options.grid)
        elif cube_of(box):  # superposed atoms are far from N_e on coarse nodes
            density = on_nodes(density, grid, exact=True)
        if spacing is not None and not self.network.any_spacing:
            density = respace(density, spacing / BOHR)
        seconds = middle - start, end - middle
        return Prediction(density, sad, box, scaled.excess, *seconds)

    def _start(self, atoms: Any, options: PredictionOptions) -> tuple[Structure, str, Grid]:
        """The structure, the name of its box, and the grid."""
        structure = options.structure_of(atoms)
        self.require_covered(structure)
        box = options.box
        if box == "auto":
            box = "isolated" if structure.isolated else "cell"
        of_model = self.model.recipe.spacing
        grid = make_grid(structure, box, options.padding, of_model, self.network)
        if options.spacing is not None and self.network.any_spacing:
            grid = respaced(grid, options.spacing / BOHR)
        return structure, box, grid

    def predict_in_slabs(
        self,
        atoms: Any,
        options: PredictionOptions,
        memory: float,
        check: Callable[[Grid], None] | None = None,
        track: Track = untracked,
    ) -> Prediction | None:
        """As `predict`, with densities whose values are computed while they are written.

        They are the same as those of `predict`, to single precision.

        Parameters
        ----------
        atoms, options
            As of `predict`.
        memory : float
            Bytes for the grid.
        check : callable, optional
            Raises an error for a grid that should not be computed in slabs.
        track : Track
            As of `denser.model.slabs.Slabs`.

        Returns
        -------
        Prediction or None
            With a `SlabDensity`. None where the grid fits into the memory, and for what is not
            computed in slabs: networks of images, Kohn-Sham steps, given nodes, cubes and the
            paper's box.
        """
        structure, box, grid = self._start(atoms, options)
        able = self.network.any_spacing and options.grid is None and not options.refine
        if not able or box not in ("isolated", "cell") or grid.size * IN_MEMORY <= memory:
            return None
        if check is not None:
            check(grid)
        periodic = box == "cell"
        start = time.perf_counter()
        with paying_threads(len(structure)):
            found = self.network.isolated_atoms(
                structure, self.model.recipe.sad, self.operations, grid if periodic else None
            )
            assert found is not None  # Gaussians have any spacing
            slabs = Slabs(found[0], grid, memory, track)
            network = time.perf_counter()
            sad = slabs.sad()
            middle = time.perf_counter()
            density, gaussians, excess = slabs.density(sad)
            if not np.isfinite(excess):
                raise self._unusable(structure)
            end = time.perf_counter()
        known = density.with_expected_errors(self.wrong_electrons(gaussians, excess))
        seconds = middle - network, end - middle + network - start
        return Prediction(known, sad, box, excess, *seconds)


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
        around the atoms; a cell is ignored), "paper" (the box of Li et al. 2025, periodic), or
        "cube:N:H" (N^3 nodes H bohr apart, about the middle of the molecule; a cell is ignored).
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
