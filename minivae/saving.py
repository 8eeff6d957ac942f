"""When a run writes its checkpoints, and which of them it keeps."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from minivae.files import atomic_write
from minivae.options import Saving
from minivae.progress import write_metrics

if TYPE_CHECKING:
    from minivae.train import Trainer


class Saver:
    """Writes model.npz, metrics.csv and what else is to be kept of a trainer into a folder.

    model.npz comes last: what else there is, is of that step or of a later one, which a resumed run writes again.
    """

    def __init__(self, trainer: Trainer, folder: Path, saving: Saving):
        self.trainer = trainer
        self.folder = folder
        self.saving = saving
        self._last = time.monotonic()

    def after_step(self) -> None:
        """Write the checkpoint if its minutes have passed."""
        if time.monotonic() - self._last >= self.saving.seconds:
            self.write()

    def after_epoch(self) -> None:
        """Write the metrics, and the checkpoints if it is time for them."""
        history = self.trainer.history
        write_metrics(self.folder / "metrics.csv", history)
        counted = history[max(self.trainer.options.anneal - 1, 0) :]
        if self.saving.best and counted and min(counted, key=lambda row: row["test_loss"]) is history[-1]:
            self.trainer.save(self.folder / "best.npz", self.saving)
        if self.trainer.finished or (self.saving.epochs and len(history) % self.saving.epochs == 0):
            self.write()

    def write(self) -> None:
        """Write the checkpoint; with more than one to keep, under the name of its step too, and drop the oldest."""
        path = self.folder / "model.npz"
        if self.saving.keep == 1:
            self.trainer.save(path, self.saving)
        else:
            named = self.folder / f"model-{self.trainer.optimizer.steps:08}.npz"
            self.trainer.save(named, self.saving)
            with atomic_write(path) as temporary:
                shutil.copyfile(named, temporary)
            self.trainer.saved = (path, self.trainer.optimizer.steps)
        named_ones = sorted(self.folder.glob("model-" + "[0-9]" * 8 + ".npz"))
        for old in named_ones[: -self.saving.keep] if self.saving.keep > 1 else named_ones:
            old.unlink()
        self._last = time.monotonic()
