"""The remedy for an inference network that lags behind: many steps of the encoder for one of the decoder.

At first the codes tell the decoder little, and a strong decoder learns to do without them before the encoder has
caught up: the posterior collapses onto the prior. So before each step of the decoder alone the encoder alone takes
steps, on other batches, until its loss falls no more; this ends for good when, after an epoch, the mutual information
of codes and images no longer rises. Then each batch moves both. [He et al. 2019, "Lagging Inference Networks and
Posterior Collapse in Variational Autoencoders", algorithm 1]
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from minivae import backend
from minivae.data import Binarizer, Split
from minivae.errors import InputError
from minivae.evaluation import batches_for
from minivae.metrics import mutual_information
from minivae.models.loss import Player
from minivae.nn.module import evaluating
from minivae.tensor import no_grad

if TYPE_CHECKING:
    from minivae.train import Trainer

EACH = 10  # inner steps over whose mean the loss must have fallen
MEASURED = 10_000  # images of training whose information is measured, those of a test having no say in it


def players(model: Any) -> dict[str, Player]:
    """The encoder, and the decoder with all the rest: both move by the model's loss."""
    if not hasattr(model, "posterior") or hasattr(model, "players") or not model.encoder.parameters():
        raise InputError(f"inner_steps are of a VAE's encoder, which no {type(model).__name__} has: leave it out.")
    if model.q is not None:
        raise InputError("inner_steps end by the information of a mean field's codes, not a flow's: leave one out.")
    own = {id(p) for p in model.encoder.parameters()}
    rest = [p for p in model.parameters() if id(p) not in own]
    return {"encoder": Player(model.encoder.parameters(), model.loss), "decoder": Player(rest, model.loss)}


class Lagging:
    """The inner steps of a trainer. most: how many there are at most before a step of the decoder.

    active: whether they are still taken; best: the mutual information so far. Both are part of a checkpoint.
    """

    def __init__(self, most: int):
        self.most = most
        self.active = True
        self.best = -math.inf

    def before_step(self, trainer: Trainer) -> None:
        """The steps of the encoder. Which batches it sees is a function of the seed and the number of the step."""
        if not self.active:
            return
        rng = np.random.default_rng((trainer.options.seed, trainer.optimizer.steps, 1))
        before, taken = math.inf, 0
        while taken < self.most:
            few = min(EACH, self.most - taken)
            loss = sum(trainer.inner_step("encoder", self._batch(trainer, rng)) for _ in range(few)) / few
            taken += few
            if not loss < before:
                return
            before = loss

    def _batch(self, trainer: Trainer, rng: Any) -> Any:
        x = trainer.batches.random(rng)
        return trainer.binarizer(x, trainer.rng) if trainer.binarizer else x

    def turns(self, players: dict[str, Player]) -> dict[str, Player]:
        """Those whom the batch of a step moves: the encoder has had its own."""
        return {"decoder": players["decoder"]} if self.active else players

    def after_epoch(self, trainer: Trainer) -> float:
        """The mutual information of codes and images of training; where it no longer rises, inner steps end."""
        found = information(trainer.model, trainer.dataset.train[:MEASURED], trainer.options.binarize)
        self.active = self.active and found > self.best
        self.best = max(self.best, found)
        return found

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it. -inf is no JSON: None."""
        return {"active": self.active, "best": None if math.isinf(self.best) else self.best}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what state() gave."""
        self.active, self.best = state["active"], -math.inf if state["best"] is None else state["best"]


@no_grad()
def information(model: Any, split: Split, binarize: bool = False, seed: int = 0) -> float:
    """I(x; z) of a VAE with a mean-field posterior over the images of a split, at most log N. See metrics.

    binarize: of images whose pixels are drawn, as in `evaluate`.
    """
    rng = backend.current().generator(seed)
    drawn = Binarizer((500, *split.images.shape[1:])) if binarize else None
    with evaluating(model):
        batches = batches_for(model, split, 500).epoch(0)
        parts = [model.posterior(drawn(x, rng) if drawn else x) for x in batches]
    mu, logvar = (np.concatenate([backend.to_numpy(part[i].data) for part in parts]) for i in (0, 1))
    return mutual_information(mu, logvar, np.random.default_rng(seed))
