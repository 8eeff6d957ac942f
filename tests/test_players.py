"""Several players in the one loop: whose parameters move, by whose gradient, and that nothing else does."""

from contextlib import nullcontext

import numpy
import pytest
from anywhere import host, np, there

import minivae.train as train
from minivae import InputError, backend, manual_seed, models, nn, optim
from minivae.data import Dataset, Split
from minivae.errors import NotFinite
from minivae.models import Loss, Player
from minivae.players import alone, optimizer_of, players_of, together
from minivae.tensor import as_tensor
from minivae.train import Options, Trainer

SHAPE = (1, 4, 4)
SMALL = {
    "gan": {"hidden": (6,), "latent": 2},
    "vaegan": {"hidden": (6,), "latent": 2},
    "factorvae": {"hidden": (6,), "latent": 2, "judge": (5,)},
}
every = pytest.mark.parametrize("name", SMALL)
DATA = Dataset(
    "noise", *(Split(numpy.random.default_rng(i).integers(0, 256, (24, *SHAPE), numpy.uint8)) for i in range(2))
)


def trainer(name, **options):
    manual_seed(0)
    spec = (name, {"shape": SHAPE, **SMALL[name]})
    return Trainer(models.build(*spec[:1], **spec[1]), DATA, Options(batch_size=8, **options), spec, "noise")


def batch():
    return there(DATA.train.images[:8] / numpy.float32(255))


def first():
    """The indices of the same images, as a step takes them."""
    return there(numpy.arange(8))


def values(parameters):
    return [host(p.data).copy() for p in parameters]


def moved(run, name):
    """The players whose parameters have changed, or hold a gradient, after the turn of one of them alone."""
    for p in run.model.parameters():
        p.grad = None
    before = {other: values(player.parameters) for other, player in run.players.items()}
    run._gradient(name, run.players[name], batch())
    touched = {other for other, player in run.players.items() if any(p.grad is not None for p in player.parameters)}
    run.optimizers[name].step()
    for other, player in run.players.items():
        if any((a != b).any() for a, b in zip(values(player.parameters), before[other], strict=True)):
            touched.add(other)
    return touched


@every
def test_a_turn_moves_its_player_alone(name):
    run = trainer(name)
    for player in run.players:
        assert moved(run, player) == {player}
        assert all(p.requires_grad for p in run.model.parameters())


@every
def test_a_wall_that_leaks_is_seen(name, monkeypatch):
    """Without the wall the loss of the last player leaves gradients on the networks that it runs through."""
    monkeypatch.setattr(train, "alone", lambda player, model: nullcontext())
    run = trainer(name)
    last = list(run.players)[-1]
    assert len(moved(run, last)) > 1


@every
def test_after_a_step_all_have_moved(name):
    run = trainer(name)
    before = values(run.model.parameters())
    told = run._step(first())
    assert all((a != b).any() for a, b in zip(values(run.model.parameters()), before, strict=True))
    assert run.optimizer.steps == 1 and float(told["gradient_norm"]) > 0
    assert {"train_loss", "gradient_norm", "train_discriminator"} < set(told)
    assert told["train_loss"] is not told["train_discriminator"]


class Duel(nn.Module):
    """a chases b, and b flees: both are numbers. Whose turn it is can be told from the values.

    leak: the loss of b pulls at a too, as where a forger is not held still while the judge learns.
    """

    def __init__(self, fails=()):
        self.a, self.b = (nn.Parameter(backend.current().asarray(np.array([v], np.float32))) for v in (0.0, 1.0))
        self.fails, self.turns = fails, []

    def players(self):
        return {"a": Player([self.a], self.chase), "b": Player([self.b], self.loss)}

    def _told(self, name):
        self.turns.append((name, host(self.a.data).item(), host(self.b.data).item()))
        return numpy.float32("nan" if (name, len(self.turns)) in self.fails else 1.0)

    def chase(self, x, rng=None):
        total = ((self.a - self.b) * (self.a - self.b)).sum() * self._told("a")
        return Loss(total, {"chase": total})

    def loss(self, x, rng=None):
        total = -((self.a - self.b) * (self.a - self.b)).sum() * self._told("b")
        return Loss(total, {"flight": total})


def duel(**options):
    return Trainer(Duel(options.pop("fails", ())), DATA, Options(batch_size=8, optimizer="sgd", lr=0.25, **options))


def test_players_move_in_turn_each_seeing_what_came_before():
    run = duel()
    told = {name: float(value) for name, value in run._step(first()).items()}
    # a: 0 - 0.25 * 2 (0 - 1) = 0.5, and only then b: 1 + 0.25 * 2 (1 - 0.5) = 1.25
    assert run.model.turns == [("a", 0.0, 1.0), ("b", 0.5, 1.0)]
    assert host(run.model.b.data).item() == 1.25
    assert told["train_loss"] == -0.25 and told["train_chase"] == 1.0 and told["gradient_norm"] == 1.0


def test_each_gradient_is_clipped_by_itself():
    run = duel(clip=0.5)
    run._step(first())
    # each has a gradient of its own, of norm 2 and 1.75, cut to 0.5
    assert host(run.model.a.data).item() == pytest.approx(0.125, rel=1e-5)
    assert host(run.model.b.data).item() == pytest.approx(1.125, rel=1e-5)


@pytest.mark.parametrize("fails", [[("a", 3)], [("b", 4)]], ids=["the first player", "the second"])
def test_a_step_that_is_skipped_leaves_all_players_as_they_were(fails):
    run = duel(on_nan="skip", fails=fails)
    run._step(first())
    before, steps = values([run.model.a, run.model.b]), run.optimizer.steps
    run._step(first())
    assert values([run.model.a, run.model.b]) == before
    assert (run.optimizer.steps, run.skipped) == (steps, 1)
    assert [o.steps for o in run.optimizers.values()] == [1, 1]
    run._step(first())
    assert run.optimizer.steps == 2 and values([run.model.a]) != before[:1]


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_skipped_step_gives_the_optimisers_state_back(name):
    """As if the step had not been: the run goes on to the bits of one that never had it."""
    ends = []
    for fails in ([], [("b", 4)]):
        run = Trainer(Duel(fails), DATA, Options(batch_size=8, optimizer=name, lr=0.1, on_nan="skip"))
        while run.optimizer.steps < 4:
            run._step(first())
        ends.append((values([run.model.a, run.model.b]), run.skipped))
    assert ends[0][0] == ends[1][0] and [skipped for _, skipped in ends] == [0, 1]


@pytest.mark.parametrize("fails", [[("a", 3)], [("b", 4)]])
def test_a_loss_that_is_not_finite_stops_the_run(fails):
    run = duel(fails=fails)
    run._step(first())
    with pytest.raises(NotFinite, match="step 2"):
        run._step(first())
        run.check()


def test_parameters_belong_to_one_player_each():
    both = Duel()
    both.players = lambda: {"a": Player([both.a, both.b], both.chase), "b": Player([both.b], both.loss)}
    with pytest.raises(ValueError, match="'b' of this Duel belongs to a and b"):
        players_of(both)
    both.players = lambda: {"a": Player([both.a], both.chase)}
    with pytest.raises(ValueError, match="'b' of this Duel belongs to no player"):
        players_of(both)


def test_a_model_without_players_is_one():
    model = models.build("ae", shape=SHAPE, hidden=(4,), latent=2)
    (player,) = players_of(model).values()
    assert [id(p) for p in player.parameters] == [id(p) for p in model.parameters()]
    with alone(player, model):
        assert all(p.requires_grad for p in model.parameters())
    run = Trainer(model, DATA, Options())
    assert type(run.optimizer) is optim.Adam


def test_a_frozen_parameter_stays_frozen():
    duel = Duel()
    duel.a.requires_grad = False
    with alone(duel.players()["b"], duel):
        assert not duel.a.requires_grad and duel.b.requires_grad
    assert not duel.a.requires_grad


def test_the_state_of_all_is_saved_and_given_back():
    run, other = trainer("gan"), trainer("gan")
    run._step(first())
    state = run.optimizer.state_dict()
    assert state["steps"] == 1 and {"discriminator.m.0", "generator.v.1", "generator.counts"} < set(state)
    other.optimizer.load_state_dict(state)
    for name, optimizer in run.optimizers.items():
        assert (host(optimizer.state["m"][0]) == host(other.optimizers[name].state["m"][0])).all()
        assert other.optimizers[name].steps == 1
    del state["generator.m.0"]
    with pytest.raises(InputError, match=r"m\.0"):
        other.optimizer.load_state_dict(state)


def test_one_learning_rate_and_betas_of_each():
    run = trainer("gan", lr=0.01)
    run.optimizer.lr = 0.5
    assert {o.lr for o in run.optimizers.values()} == {0.5} == {run.optimizer.lr}
    assert {o.betas for o in run.optimizers.values()} == {(0.5, 0.999)}
    player = Player([nn.Parameter(as_tensor([1.0]).data)], lambda x, rng: None, (0.3, 0.4))
    assert isinstance(optimizer_of(player, Options(optimizer="sgd")), optim.SGD)
    assert optimizer_of(player, Options(optimizer="adamax")).betas == (0.3, 0.4)
    assert isinstance(together({"one": optimizer_of(player, Options())}), optim.Adam)


def test_the_metrics_hold_the_terms_of_all(tmp_path):
    run = trainer("gan", epochs=2)
    run.run(tmp_path)
    head = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train_loss", "train_discriminator", "train_generator", "test_loss", "gradient_norm"} < set(head)
    assert run.history[-1]["step"] == 6
