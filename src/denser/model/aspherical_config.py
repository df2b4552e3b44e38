"""Sizes of the network of aspherical atoms."""

from __future__ import annotations

from dataclasses import dataclass

from ase.data import chemical_symbols

from denser.model.hamiltonians import require_parameters
from denser.model.tight_binding import N_BOND_TENSORS, N_BOND_VECTORS, N_SOLUTIONS
from denser.types.errors import InputError

SHORTEST = 0.8
"""Start of the radial functions of the messages, bohr."""


@dataclass(frozen=True)
class AsphericalConfig:
    """Sizes of the network.

    Parameters
    ----------
    elements : tuple of int
        Atomic numbers that the network knows.
    channels : int
        Functions on the sphere per atom.
    layers : int
        Rounds of messages.
    degree : int
        Highest degree of the harmonics of the features, and of the density unless
        `output_degree` is higher.
    cutoff : float
        Largest distance of neighbours, bohr.
    radial : int
        Radial functions of a message.
    order : int
        Polynomial order that the Lebedev points integrate exactly (11: 50 points).
    exponents : tuple of float
        Exponents of the Gaussians, bohr^-2.
    diffuse : tuple of float
        Exponents of further Gaussians, of degree 0 only: what metals lose are diffuse s electrons,
        which are in their superposed atoms.
    electrons : int
        Number of solutions of `denser.model.tight_binding` in the input: 0, 1, or 2 to 4; from 2
        the deviation of their bonds from axial symmetry is included.
    reach : float
        Each atom gets the atoms up to this distance (bohr) as input before the first message:
        neighbouring molecules, or images in a tight box. 0: none.
    hidden : int
        Hidden units that compute a message from the data of a pair.
    width : int
        Width of the update at each point, in channels.
    output_degree : int
        Highest degree of the harmonics of the density, if above that of the features; 0: the same.
    spin : int
        Functions on the sphere per atom for the spin densities of open shells
        (`denser.model.spin`); 0: it predicts none.
    errors : bool
        Whether it estimates its own error (`denser.model.expected_error`).
    """

    elements: tuple[int, ...] = (1, 6, 7, 8, 9)
    channels: int = 64
    layers: int = 3
    degree: int = 4
    cutoff: float = 8.0
    radial: int = 10
    order: int = 11
    exponents: tuple[float, ...] = (0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
    diffuse: tuple[float, ...] = ()
    electrons: int = 0
    reach: float = 0.0
    hidden: int = 64
    width: int = 2
    output_degree: int = 0
    spin: int = 0
    errors: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "elements", tuple(int(z) for z in self.elements))
        object.__setattr__(self, "exponents", tuple(float(a) for a in self.exponents))
        object.__setattr__(self, "diffuse", tuple(float(a) for a in self.diffuse))
        if not self.elements or not all(0 < z < len(chemical_symbols) for z in self.elements):
            raise InputError(f"elements must be atomic numbers, found {self.elements}")
        if not self.exponents or min(self.all_exponents) <= 0:
            raise InputError(f"exponents must be positive, found {self.all_exponents}")
        if len({*self.all_exponents}) < len(self.all_exponents):
            raise InputError(f"an exponent is there twice: {self.all_exponents}")
        object.__setattr__(self, "output_degree", self.output_degree or self.degree)
        if self.output_degree < self.degree:
            raise InputError(f"output_degree must be 0 or at least the degree of {self.degree}")
        if self.order < 2 * self.output_degree:
            raise InputError(
                f"points of order {self.order} do not resolve harmonics of degree "
                f"{self.output_degree}; give an order of {2 * self.output_degree} or more"
            )
        sizes = (self.channels, self.layers, self.radial, self.hidden, self.width)
        if min(sizes) < 1 or self.cutoff <= SHORTEST:
            raise InputError(
                "channels, layers, radial, hidden and width must be positive, cutoff over 0.8 bohr"
            )
        if self.reach and self.reach <= self.cutoff:
            raise InputError(f"reach must be 0 or more than the cutoff of {self.cutoff:g} bohr")
        object.__setattr__(self, "electrons", int(self.electrons))
        if not 0 <= self.electrons <= N_SOLUTIONS:
            raise InputError(f"electrons must be 0 to {N_SOLUTIONS}, found {self.electrons}")
        if self.spin and (not self.electrons or self.degree < 2):
            raise InputError("spin densities need electrons of 1 to 4, and a degree of 2 or more")
        if self.electrons:
            require_parameters(self.elements)

    @property
    def all_exponents(self) -> tuple[float, ...]:
        """Exponents of all Gaussians, the diffuse ones last."""
        return self.exponents + self.diffuse

    @property
    def n_shapes(self) -> int:
        """Number of functions on the sphere in a message."""
        about_bonds = self.electrons * (N_BOND_VECTORS + N_BOND_TENSORS)
        return self.degree + 1 + (about_bonds if self.electrons > 1 else 0)
