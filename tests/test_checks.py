"""An array that is changed in place between forward and backward is named; what may be changed, may."""

import functools
import os
import subprocess
import sys

import numpy as host
import pytest
from anywhere import np

from minivae import Tensor, checks, detect_anomaly, models, nn, op, ops, optim
from minivae.errors import NotFinite


@pytest.fixture(autouse=True)
def on():
    with checks():
        yield


def leaf(*values: float) -> Tensor:
    return Tensor(np.float32(values), requires_grad=True)


def refused(loss: Tensor, *words: str) -> None:
    with pytest.raises(RuntimeError, match="was changed in place between the forward pass and backward") as error:
        loss.backward()
    assert "\n" not in str(error.value)
    for word in (*words, "change a copy"):
        assert word in str(error.value)


def test_an_operand():
    a, b = leaf(1, 2, 3), leaf(4, 5, 6)
    loss = (a * b).sum()
    b.data[1] += 1
    refused(loss, "operand 1 of 'mul'", "shape (3,)")


def test_an_array_that_is_no_tensor():
    a, x = leaf(1, 2, 3), np.float32([4, 5, 6])
    loss = (a * x).sum()
    x *= 2
    refused(loss, "operand 1 of 'mul'")


def test_the_result():
    a = leaf(1)
    y = ops.exp(a)
    y.data[0] = 0
    refused(y, "the result of 'exp'")


def test_through_a_view():
    x, w = np.ones((4, 3), np.float32), Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    loss = ops.linear(x, w).sum()
    x[:, 1][2:] = 5
    refused(loss, "operand 0 of 'linear'", "(4, 3)")


def test_two_entries_that_change_places_and_a_value_that_is_set_to_its_own():
    a, b = leaf(1, 2, 3), leaf(4, 5, 6)
    a.data[...] = a.data.copy()
    loss = (a * b).sum()
    b.data[...] = b.data.copy()
    b.data[...] = b.data[::-1].copy()
    refused(loss)


@pytest.mark.parametrize("change", [1e-7, host.nan, -0.0])
def test_the_smallest_change(change):
    a, b = leaf(1, 2), leaf(0, 5)
    loss = (a * b).sum()
    b.data[0] = change
    refused(loss)


def test_what_was_computed_on_the_way_and_held_by_a_partial():
    held = []

    @op
    def odd(xp, a):
        half = a / 2
        held.append(half)
        return a * half, (functools.partial(lambda part, g: 2 * g * part[0], [half]),)

    loss = odd(leaf(1, 2)).sum()
    held[0][0] = 7
    refused(loss, "what was computed on the way of 'odd'")


def test_an_optimiser_between_forward_and_backward():
    layer = nn.Linear(3, 2)
    sgd = optim.SGD(layer.parameters(), lr=0.1)
    x = Tensor(np.ones((4, 3), np.float32), requires_grad=True)
    layer(x).sum().backward()
    sgd.step()  # on a device the first step moves the parameters into one array
    loss = layer(x).sum()
    sgd.step()
    refused(loss, "operand 1 of 'linear'")


def test_what_may_be_changed():
    a, b = leaf(1, 2, 3), leaf(4, 5, 6)
    loss = (a + b).sum() + (a.detach() * b).sum()
    b.data[1] += 1  # neither derivative has to do with b
    loss.backward()
    assert a.grad.tolist() == [1, 1, 1] and b.grad.tolist() == [2, 3, 4]
    model = models.build("vae", shape=(1, 4, 4), hidden=(8,), latent=2)
    adam = optim.Adam(model.parameters(), 0.1)
    x = np.ones((5, 1, 4, 4), np.float32) * 0.5
    for _ in range(3):  # after backward() all may change: the data, and the parameters
        adam.zero_grad()
        model.loss(x).total.backward()
        adam.step()
        x *= 0.9


def test_off_it_is_not_looked_for_and_what_is_not_recorded_is_never():
    a, b = leaf(1, 2), leaf(3, 4)
    with checks(False):
        loss = (a * b).sum()
    b.data[0] = 0
    loss.backward()
    assert a.grad.tolist() == [0, 4]


def test_beside_detect_anomaly():
    a, b = leaf(1, 2), leaf(3, 4)
    with detect_anomaly():
        loss = (a * b).sum()
        b.data[0] = 0
        refused(loss, "operand 1 of 'mul'")
        with pytest.raises(NotFinite, match="'log' of"):
            ops.log(a * 0.0)


@pytest.mark.parametrize(("value", "raises"), [("1", True), ("0", False), ("", False)])
def test_the_environment_turns_them_on(value, raises):
    code = """if True:
        import numpy, minivae
        a = minivae.Tensor(numpy.ones(2), requires_grad=True)
        loss = (a * a).sum()
        a.data += 1
        loss.backward()"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"MINIVAE_CHECKS": value}, capture_output=True, text=True
    )
    assert ("operand 0 of 'mul'" in done.stderr) == raises == bool(done.returncode)
