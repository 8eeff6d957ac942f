"""Training of several players: an optimiser for each, and a wall between their gradients.

    for each player: gradient of its loss with respect to its parameters alone, then its optimiser's step

The losses run through one another's networks: a generator learns through the discriminator that judges it. What must
not happen is that this gradient moves the discriminator, or stays on its parameters until its own step. So while
one player learns, the parameters of all others are constants: no gradient of theirs is even computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minivae import nn, optim
from minivae.models.loss import Player
from minivae.options import OPTIMIZERS, Options


def players_of(model: Any) -> dict[str, Player]:
    """The players of a model by name; one who has all parameters, where it names none.

    Raises ValueError where two have the same parameter, or where nobody has one.
    """
    if not hasattr(model, "players"):
        return {"": Player(model.parameters(), lambda x, rng: model.loss(x, rng))}
    players: dict[str, Player] = model.players()
    for path, parameter in model.named_parameters():
        owners = [name for name, player in players.items() if any(parameter is p for p in player.parameters)]
        if len(owners) != 1:
            raise ValueError(
                f"'{path}' of this {type(model).__name__} belongs to {' and '.join(owners) or 'no player'}: "
                "name each parameter in exactly one of its players()."
            )
    return players


@contextmanager
def alone(player: Player, model: nn.Module) -> Iterator[None]:
    """Within it only the parameters of this player ask for gradients; those of all others are constants."""
    own = {id(p) for p in player.parameters}
    others = [p for p in model.parameters() if id(p) not in own and p.requires_grad]
    for p in others:
        p.requires_grad = False
    try:
        yield
    finally:
        for p in others:
            p.requires_grad = True


def optimizer_of(player: Player, options: Options) -> optim.Optimizer:
    """The optimiser that the options name, of a player's parameters."""
    optimizer: optim.Optimizer = OPTIMIZERS[options.optimizer](player.parameters, options.lr)
    if isinstance(optimizer, optim.Adam):
        optimizer.betas = player.betas
    return optimizer


class Together:
    """The optimisers of several players, by name, as one: their steps, their learning rate and their state."""

    def __init__(self, each: dict[str, optim.Optimizer]):
        self.each = each

    @property
    def steps(self) -> int:
        """How often all have moved."""
        return min(optimizer.steps for optimizer in self.each.values())

    @property
    def lr(self) -> float:
        return next(iter(self.each.values())).lr

    @lr.setter
    def lr(self, value: float) -> None:
        for optimizer in self.each.values():
            optimizer.lr = value

    @property
    def resident(self) -> bool:
        return next(iter(self.each.values())).resident

    @resident.setter
    def resident(self, value: bool) -> None:
        for optimizer in self.each.values():
            optimizer.resident = value

    def advance(self) -> None:
        """Count a step of each."""
        for optimizer in self.each.values():
            optimizer.advance()

    def state_dict(self) -> dict[str, Any]:
        """The state of each, "NAME.slot.i", and "steps"."""
        states = {name: optimizer.state_dict() for name, optimizer in self.each.items()}
        arrays = {f"{name}.{key}": a for name, state in states.items() for key, a in state.items() if key != "steps"}
        return {"steps": self.steps, **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what state_dict() gave. Raises InputError where it is of other players or other optimisers."""
        for name, optimizer in self.each.items():
            own = {key.removeprefix(f"{name}."): a for key, a in state.items() if key.startswith(f"{name}.")}
            optimizer.load_state_dict(own | {"steps": state["steps"]})


def together(each: dict[str, optim.Optimizer]) -> optim.Optimizer | Together:
    """The optimisers as one; a single one as it is."""
    return Together(each) if len(each) > 1 else next(iter(each.values()))
