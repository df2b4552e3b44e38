"""One update of the weights, without waiting for the device."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from denser.model.network import Network
from denser.training.processes import Processes

_LATEST = {"cpu": 1, "cuda": 20}
"""Steps whose losses are read together. On CUDA reading waits for the device."""


def update(
    network: Network,
    optimizers: list[torch.optim.Optimizer],
    part: list[Tensor] | None,
    total: Tensor,
    clip: float,
    peers: Processes,
) -> Tensor:
    """Update the weights by their gradients; return the loss and the norm of the gradient (2,).

    If one of them is not finite, weights and optimisers stay as they are. The device decides this
    (`found_inf` of the optimisers), so that the host need not wait.

    Parameters
    ----------
    network : Network
    optimizers : list of Optimizer
    part : list of tensor, optional
        For each parameter, which of its elements learn.
    total : tensor
        This process's share of the loss.
    clip : float
        Largest norm of the gradient.
    peers : Processes
    """
    total = peers.sum_tensor(total)
    peers.sum_gradients(network.parameters())
    learning = [] if part is None else list(zip(network.parameters(), part, strict=True))
    learning = [(p, learns) for p, learns in learning if p.requires_grad]
    for p, learns in learning:
        if p.grad is not None:
            p.grad.mul_(learns)
    norm = nn.utils.clip_grad_norm_(network.parameters(), clip)
    found = torch.stack([total.to(norm.dtype), norm.detach()])
    bad = (~torch.isfinite(found).all()).float()
    kept = [p.detach().clone() for p, _ in learning]
    for optimizer in optimizers:
        optimizer.found_inf = bad  # type: ignore[attr-defined]
        optimizer.step()
    with torch.no_grad():  # weight decay moves the others, too
        for (p, learns), was in zip(learning, kept, strict=True):
            p.copy_(torch.where(learns, p, was))
    return found


@torch.no_grad()
def update_average(average: Network, network: Network, decay: float) -> None:
    """Exponential average of the weights: a <- d a + (1 - d) w."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


@dataclass
class Latest:
    """Losses of the last steps, before they are read from the device.

    Parameters
    ----------
    device : torch.device
    """

    device: torch.device
    _found: list[tuple[Tensor, list[str]]] = field(default_factory=list)

    def add(self, found: Tensor, names: list[str]) -> None:
        """Note the result of `update`, and the names of the labels."""
        self._found.append((found, names))

    @property
    def many(self) -> bool:
        """Whether it is time to read them."""
        return len(self._found) >= _LATEST[self.device.type]

    def read(self) -> list[tuple[float, float, list[str]]]:
        """Loss, norm of the gradient and names of the labels of each step since the last reading.

        This waits for the device.
        """
        found, self._found = self._found, []
        if not found:
            return []
        values = torch.stack([pair for pair, _ in found]).tolist()
        return [(loss, norm, names) for (loss, norm), (_, names) in zip(values, found, strict=True)]
