"""detect_anomaly names the op, the shapes and the line; a run names the step; idle parameters are told."""

import re
import subprocess
import sys

import numpy as np
import pytest

from minivae import Tensor, detect_anomaly, models, nn, op, ops
from minivae.data import Dataset, Split
from minivae.errors import NotFinite
from minivae.models import Loss
from minivae.options import Options, Saving
from minivae.train import Trainer


def caught(function) -> str:
    with pytest.raises(NotFinite) as error, detect_anomaly():
        function()
    assert "\n" not in str(error.value)
    return str(error.value)


def leaf(*values: float) -> Tensor:
    return Tensor(np.float32(values), requires_grad=True)


def test_the_first_op_that_makes_one_is_named_with_shapes_and_line():
    def loss():
        a = ops.exp(leaf(0, 100, -200))  # this makes an infinity
        return (a * leaf(1, 0, 1)).sum()

    message = caught(loss)
    assert "'exp' of (3,) made 0 NaN and 1 infinite of 3 entries" in message
    assert re.search(r"test_anomaly.py:\d+ in loss: a = ops.exp\(.*# this makes an infinity", message)


def test_the_line_of_a_script(tmp_path):
    """Code that is in no function has no caller."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\nfrom minivae import Tensor, detect_anomaly, ops\n"
        "with detect_anomaly():\n    y = ops.log(Tensor(np.array([-1.0, 2.0])))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert f"at {script}:4 in <module>: y = ops.log(" in done.stderr.splitlines()[-1]


def test_two_operands():
    message = caught(lambda: leaf(0, 1) / leaf(0, 1))
    assert "'div' of (2,) and (2,) made 1 NaN and 0 infinite of 2 entries" in message


def test_what_was_not_finite_before_is_told():
    message = caught(lambda: leaf(1, float("nan")) * leaf(1, 2))
    assert "operand 0 held 1 NaN and 0 infinite of 2 entries already" in message


def test_a_gradient_names_the_line_of_the_forward_pass():
    def loss():
        root = ops.sqrt(leaf(0, 4))  # whose slope is infinite
        total = root.sum()
        total.backward()

    message = caught(loss)
    assert "the gradient of 'sqrt' of (2,) with respect to operand 0 has 0 NaN and 1 infinite of 2 entries" in message
    assert "# whose slope is infinite" in message


def test_an_op_of_the_users_own():
    @op
    def odd(xp, a):
        return a, (lambda g: g / 0.0,)

    assert "gradient of 'odd'" in caught(lambda: odd(leaf(1)).sum().backward())


def test_within_a_model_both_lines_are_told():
    model = models.build("vae", shape=(1, 4, 4), hidden=(), latent=2)
    model.encoder[-1].bias.data[:] = 1e30  # whose square is infinite

    def use():
        model.loss(np.ones((2, 1, 4, 4), np.float32) * 0.5)  # of the user

    message = caught(use)
    assert "vae.py" in message and "called from" in message and "# of the user" in message


def test_within_it_all_is_as_before_and_after_it_nothing_is_looked_at():
    a, b = leaf(1, 2, 3), leaf(1, 2, 3)
    with detect_anomaly():
        ops.tanh(a * 2).sum().backward()
    ops.tanh(b * 2).sum().backward()
    np.testing.assert_array_equal(a.grad, b.grad)
    with np.errstate(over="ignore"):
        assert np.isinf(ops.exp(leaf(1000)).data).all()
    caught(lambda: ops.exp(leaf(1000)))
    with np.errstate(over="ignore"):
        ops.exp(leaf(1000))


# the loop

DATA = Dataset(
    "noise", *(Split(np.random.default_rng(i).integers(0, 256, (n, 1, 4, 4), np.uint8)) for i, n in ((0, 60), (1, 20)))
)


class Faulty(nn.Module):
    """A model whose loss, or its gradient, or what it keeps, goes wrong at the calls that are named."""

    def __init__(self, bad=(), how="loss"):
        self.linear = nn.Linear(16, 16, rng=np.random.default_rng(0))
        self.seen = nn.Buffer(np.zeros((), np.float32))
        self.bad, self.how, self.calls = bad, how, 0

    def loss(self, x, rng=None):
        x = x.reshape((-1, 16))
        total = ops.mse_loss(self.linear(x), x)
        if self.training:
            self.calls += 1
            self.seen.data += 1
            if self.calls in self.bad and self.how == "loss":
                self.seen.data[...] = np.nan
                total = total * float("nan")
            elif self.calls in self.bad:
                total = total + ops.sqrt(self.linear.weight.sum() * 0.0) * 1.0  # an infinite slope
        elif self.how == "test":
            total = total * float("inf")
        return Loss(total, {"reconstruction": total})


def run(model: nn.Module, **options: object) -> Trainer:
    return Trainer(model, DATA, Options(**{"epochs": 3, "batch_size": 20} | options))


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_run_stops_at_the_step_and_keeps_the_last_good_checkpoint(how, tmp_path):
    trainer = run(Faulty({5}, how), lr=0.25)
    with pytest.raises(NotFinite) as error:
        trainer.run(tmp_path)
    message = str(error.value)
    words = ["step 5", "epoch 2", "0.25", "0.025", str(tmp_path / "model.npz"), "(step 3)", "--clip", "--on-nan skip"]
    for word in [*words, "detect_anomaly"]:
        assert word in message
    assert "\n" not in message
    with np.load(tmp_path / "model.npz") as archive:
        assert np.isfinite(archive["model.linear.weight"]).all() and archive["model.seen"] == 3
    assert np.isfinite(trainer.model.linear.weight.data).all()  # the step was not taken
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2


def test_no_checkpoint_yet(tmp_path):
    with pytest.raises(NotFinite, match="no checkpoint was written"):
        run(Faulty({2})).run(tmp_path)
    assert not any(tmp_path.iterdir())


def test_with_a_bound_on_the_gradient_no_bound_is_advised():
    with pytest.raises(NotFinite, match=r"a bound of 0\.5 that is too loose"):
        run(Faulty({2}), clip=0.5).run()


def test_a_test_loss_that_is_not_finite(tmp_path):
    with pytest.raises(NotFinite, match="test loss is inf after step 3, epoch 1"):
        run(Faulty(how="test")).run(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path):
    trainer = run(Faulty(), epochs=1)
    trainer.run(tmp_path)
    before = (tmp_path / "model.npz").read_bytes()
    trainer.model.linear.weight.data[0, 0] = np.inf
    with pytest.raises(NotFinite, match=r"after step 3 'linear.weight' is not finite.*\(step 3\)"):
        trainer.save(tmp_path / "model.npz")
    assert (tmp_path / "model.npz").read_bytes() == before


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_step_is_skipped(how, tmp_path, capsys):
    trainer = run(Faulty({2, 3, 5}, how), on_nan="skip")
    trainer.run(tmp_path)
    assert [row["step"] for row in trainer.history] == [1, 3, 6]
    assert all(np.isfinite(value) for row in trainer.history for value in row.values())
    assert trainer.model.seen.data == 6  # a skipped step leaves nothing
    said = capsys.readouterr().out
    assert "epoch 1: 2 steps skipped" in said and "epoch 2: 1 step skipped" in said and "epoch 3: " not in said


def test_where_all_steps_are_skipped_the_run_stops():
    with pytest.raises(NotFinite, match="every step of epoch 2"):
        run(Faulty({4, 5, 6}), on_nan="skip").run()


def test_skipping_none_changes_nothing():
    runs = [run(Faulty(), on_nan=on_nan) for on_nan in ("stop", "skip")]
    for each in runs:
        each.run()
    np.testing.assert_array_equal(*(each.model.linear.weight.data for each in runs))


def test_a_device_is_not_waited_for_at_each_step(monkeypatch, tmp_path):
    """As on CuPy: the fault is found when the numbers are read, its step is known, and nothing bad was saved."""
    from minivae import backend, watch

    asked = []
    first = watch.Watch.first
    monkeypatch.setattr(watch.Watch, "first", lambda self: (asked.append(1), first(self))[1])
    monkeypatch.setattr(backend.current(), "eager", False, raising=False)
    run(Faulty()).run()
    assert len(asked) == 3  # once an epoch
    with pytest.raises(NotFinite, match="at step 5, epoch 2"):
        run(Faulty({5})).run(tmp_path)
    with np.load(tmp_path / "model.npz") as archive:
        assert np.isfinite(archive["model.linear.weight"]).all()
    with pytest.raises(NotFinite, match="at step 5, epoch 2"):  # when it is to be saved within the epoch, too
        run(Faulty({5})).run(tmp_path, Saving("0.0000001m"))


class Idle(Faulty):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 3)


def test_a_parameter_without_a_gradient_is_told_once(capsys):
    trainer = run(Idle())
    trainer.run()
    said = capsys.readouterr().err
    assert said.count("no gradient reaches 'spare.weight' (3, 2), 'spare.bias' (3,)") == 1 and said.count("\n") == 1
    frozen = Idle()
    for p in frozen.spare.parameters():
        p.requires_grad = False  # on purpose: nothing to tell
    for model in (Faulty(), frozen):
        run(model).run()
        assert capsys.readouterr().err == ""


def test_a_loss_of_no_parameter_is_an_error():
    class Detached(Faulty):
        def loss(self, x, rng=None):
            other = Tensor(np.ones((), np.float32), requires_grad=True)
            return Loss(ops.mse_loss(self.linear(x.reshape((-1, 16))).detach() * other, x.reshape((-1, 16))), {})

    with pytest.raises(RuntimeError, match="Detached depends on none of its 2 parameters"):
        run(Detached()).run()
    with pytest.raises(RuntimeError, match="depends on nothing which needs a gradient"):
        run(type("Constant", (Faulty,), {"loss": lambda self, x, rng=None: Loss(Tensor(1.0), {})})()).run()
