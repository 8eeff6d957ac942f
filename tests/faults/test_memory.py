"""Memory is flat while a model trains, and a long graph is freed, without the garbage collector.

600 steps of each model; with HYPOTHESIS_PROFILE=thorough 2,000.
"""

import gc
import os
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from minivae import Tensor, manual_seed, models
from minivae.data import Dataset, Split
from minivae.options import Options
from minivae.train import Trainer

STEPS = 2000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 600
WARM = 200  # steps after which nothing is allocated for the first time
BATCH = 4
CASES = {name: (name, {}) for name in models.MODELS} | {
    "conv": ("vae", {"arch": "conv", "channels": (4,)}),
    "fsq": ("vqvae", {"quantizer": "fsq", "levels": (3, 3)}),
}
VQVAE = {"codes": 4, "dim": 2, "channels": (4,)}
SMALL = {
    "vqvae": VQVAE,
    "vqvae2": VQVAE | {"channels": (4, 4)},
    "prior": {"codec": {"model": "vqvae", "arguments": VQVAE | {"shape": (1, 8, 8)}}, "width": 4, "layers": 2},
    "cvae": {"hidden": (8,), "latent": 2, "classes": 2},
    "hvae": {"hidden": (8,), "latents": (2, 2)},
    "pixelvae": {"hidden": (8,), "latent": 2, "width": 4, "layers": 2},
}


@contextmanager
def no_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.garbage.clear()
        gc.enable()


def garbage() -> int:
    """How many objects only the collector could free. They stay; Python's own free lists are emptied."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    return len(gc.garbage)


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("case", CASES)
def test_memory_is_flat(case, monkeypatch):
    """Through the loop itself, an epoch of so many steps: the objects of Python and NumPy, and the process's memory."""
    name, given = CASES[case]
    given = SMALL.get(name, {"hidden": (8,), "latent": 2}) | given
    images = np.random.default_rng(0).integers(0, 256, ((STEPS + 1) * BATCH, 1, 8, 8), np.uint8)
    labels = np.arange(len(images)) % 2
    manual_seed(0)
    model = models.build(name, shape=(1, 8, 8), **given)
    dataset = Dataset(
        "random", Split(images[BATCH:], labels[BATCH:]), Split(images[:BATCH], labels[:BATCH]), ("a", "b")
    )
    if name == "prior":
        dataset = model.examples(dataset)
    trainer = Trainer(model, dataset, Options(epochs=1, batch_size=BATCH))
    held = []
    step = trainer._step

    def measured(x):
        if trainer.optimizer.steps in (WARM, STEPS - 1):
            left = garbage()
            held.append((sys.getallocatedblocks(), resident(), left))
        return step(x)

    monkeypatch.setattr(trainer, "_step", measured)
    with no_collector():
        trainer.run()
    assert trainer.optimizer.steps == STEPS
    (before, resident_before, _), (after, resident_after, left) = held
    assert not left  # no cycles
    grown = resident_after - resident_before
    print(f"{case}: {after - before:+,} objects in {STEPS - 1 - WARM} steps, {grown:+,} bytes")
    assert after - before < STEPS - WARM  # one object a step would be more
    assert grown < 2 << 20


def calls(work) -> int:
    """How many functions are called in it, Python's and C's."""
    count = 0

    def event(frame, kind, argument):
        nonlocal count
        count += kind in ("call", "c_call")

    sys.setprofile(event)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("backward", [True, False])
def test_a_long_graph_is_freed_in_linear_time(backward):
    """A graph of 100,000 nodes takes ten times the calls of one of 10,000, and leaves nothing behind."""
    x = Tensor(np.ones(1), requires_grad=True)

    def work(n):
        y = x
        for _ in range(n):
            y = y + x
        if backward:
            y.backward()
            assert x.grad == n + 1
        x.grad = None

    with no_collector():
        garbage()  # empties the free lists
        before = sys.getallocatedblocks()
        small, large = calls(lambda: work(10_000)), calls(lambda: work(100_000))
        cycles, left = garbage(), sys.getallocatedblocks() - before
    assert not cycles
    assert abs(large - 10 * small) < 0.01 * large
    assert small > 10_000
    assert left < 100
