"""The gated PixelCNN: a distribution of maps of codes, one code after the other in the order in which one reads.

    log p(c) = sum_i log p(c_i | c_1 .. c_(i-1))

What comes before a place is not one rectangle. So two stacks of masked convolutions go over the map: the vertical
one sees all rows above, the horizontal one the places to the left and, at every layer, what the vertical one has
found. One masked convolution of k x k alone would never see some of the places above to the right: its blind spot.
[van den Oord et al. 2016a, "Pixel Recurrent Neural Networks"; 2016b, "Conditional Image Generation with PixelCNN
Decoders"]
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.errors import InputError
from minivae.tensor import Tensor, no_grad


class GatedLayer(nn.Module):
    """One layer of both stacks: y = tanh(a) sigmoid(b), with a and b the halves of what the convolutions give.

        vertical     v' = gate(W_v v + U_v s)
        horizontal   h' = h + O gate(W_h h + D W_v v + U_h s)

    s: maps of a condition, or vectors (N, S, 1, 1), one for the whole map. [van den Oord et al. 2016b, section 2]
    first: it takes the codes themselves, so that nothing may be seen at the place itself, and h is not added.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, first: bool, condition: int):
        vertical, horizontal = ("above", "A") if first else ("row", "B")
        self.first = first
        self.vertical = nn.MaskedConv2d(inputs, 2 * channels, (kernel, kernel), vertical)
        self.horizontal = nn.MaskedConv2d(inputs, 2 * channels, (1, kernel), horizontal)
        self.down = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        self.condition = nn.Conv2d(condition, 4 * channels, 1, bias=False) if condition else None

    def conditions(self, s: Tensor | None) -> tuple[Any, Any]:
        """What a condition adds to both stacks."""
        if self.condition is None:
            return 0.0, 0.0
        u, w = ops.split(self.condition(s), 2, axis=1)
        return u, w

    def gated(self, ab: Tensor) -> Tensor:
        a, b = ops.split(ab, 2, axis=1)
        y: Tensor = ops.tanh(a) * ops.sigmoid(b)
        return y

    def across(self, h: Tensor, before: Tensor, from_above: Any) -> Tensor:
        """The horizontal stack, from W_h h, h itself and all that comes from above."""
        y: Tensor = self.output(self.gated(before + from_above))
        return y if self.first else y + h

    def forward(self, v: Tensor, h: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
        of_v, of_h = self.conditions(s)
        above = self.vertical(v)
        return self.gated(above + of_v), self.across(h, self.horizontal(h), self.down(above) + of_h)


class PixelCNN(nn.Module):
    """p(c | condition) of maps c (N, h, w) of whole numbers below `codes`.

    channels: of both stacks; layers: how many; kernel: odd, of all layers but the first, whose is two wider.
    classes: a class label y (N,) is a condition; 0: none. above: the codes of a smaller map, which is a condition,
    enlarged by a whole factor; 0: none.
    """

    def __init__(
        self, codes: int, channels: int = 64, layers: int = 6, kernel: int = 3, classes: int = 0, above: int = 0
    ):
        if min(codes, channels, layers) < 1 or kernel < 1 or kernel % 2 == 0:
            raise InputError(
                f"a PixelCNN of {codes} codes, {channels} channels, {layers} layers and kernel {kernel} is none: "
                "all must be at least 1, and the kernel odd."
            )
        self.codes = codes
        self.embedding = nn.Embedding(codes, channels)
        s = channels if classes or above else 0
        self.layers = [GatedLayer(channels, channels, kernel + 2 * (i == 0), i == 0, s) for i in range(layers)]
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, codes, 1))
        self.classes = nn.Embedding(classes, channels) if classes else None
        self.above = _Above(above, channels) if above else None

    def forward(self, c: Array, labels: Array | None = None, above: Array | None = None) -> Tensor:
        """Logits (N, h, w, codes) of all places: those of a place depend on the codes before it alone."""
        s = self.condition(c.shape[1:], labels, above)
        v = h = _channels_second(self.embedding(c))
        for layer in self.layers:
            v, h = layer(v, h, s)
        logits: Tensor = self.head(h).transpose((0, 2, 3, 1))
        return logits

    def nll(self, c: Array, labels: Array | None = None, above: Array | None = None) -> Tensor:
        """-log p(c_i | c_before) of each place, in nats, (N, h, w)."""
        return ops.cross_entropy(self(c, labels, above), c)

    def condition(self, size: tuple[int, ...], labels: Array | None, above: Array | None) -> Tensor | None:
        """What the layers are told beside the codes, for maps of a size (h, w)."""
        if (self.classes is None) != (labels is None) or (self.above is None) != (above is None):
            raise ValueError("PixelCNN: give labels where it has classes, and a map where it has codes above.")
        s: Any = 0.0
        if self.classes is not None and labels is not None:
            s = self.classes(labels).reshape((len(labels), -1, 1, 1))
        if self.above is not None:
            s = self.above(above, size) + s
        return s if isinstance(s, Tensor) else None

    @no_grad()
    def walk(self, size: tuple[int, int], n: int, choose: Any, labels: Any = None, above: Any = None) -> Array:
        """n maps of a size (h, w), place by place: choose(i, logits (n, codes)) gives the codes (n,) of place i.

        What earlier places have computed is kept, so that a whole map costs one pass of the network. The same
        choices give the same bits of the logits: encoding and decoding of files rest on it.
        """
        xp, (height, width) = backend.of(self.embedding.weight.data), size
        s = self.condition(size, labels, above)
        conditions = [layer.conditions(s) for layer in self.layers]
        c = xp.zeros((n, height, width), dtype=xp.int64)
        channels = self.embedding.weight.shape[1]
        vs, hs = ([xp.zeros((n, channels, *size), dtype=xp.float32) for _ in self.layers] for _ in range(2))
        for y in range(height):
            aboves = []
            for i, (layer, (of_v, of_h)) in enumerate(zip(self.layers, conditions, strict=True)):
                above_y = layer.vertical(Tensor(vs[i]), row=y)
                aboves.append(layer.down(above_y) + _at(of_h, slice(y, y + 1)))
                if i + 1 < len(vs):
                    vs[i + 1][:, :, y : y + 1] = layer.gated(above_y + _at(of_v, slice(y, y + 1))).data
            for x in range(width):
                for i, layer in enumerate(self.layers):
                    here = Tensor(hs[i][:, :, y : y + 1, x : x + 1])
                    before = layer.horizontal(Tensor(hs[i]), row=y, column=x)
                    h = layer.across(here, before, aboves[i][:, :, :, x : x + 1])
                    if i + 1 < len(hs):
                        hs[i + 1][:, :, y : y + 1, x : x + 1] = h.data
                c[:, y, x] = choose(y * width + x, self.head(h).data[:, :, 0, 0])
                vs[0][:, :, y, x] = hs[0][:, :, y, x] = self.embedding(c[:, y, x]).data
        return c

    def sample(
        self, size: tuple[int, int], n: int, rng: Any = None, labels: Any = None, above: Any = None,
        temperature: float = 1.0,
    ) -> Array:  # fmt: skip
        """n maps drawn code after code. temperature: below 1 for likelier ones, as p^(1/temperature)."""
        if not temperature > 0:
            raise InputError(f"temperature {temperature} draws nothing: give a number above 0; 1 is the model's own.")
        xp = backend.of(self.embedding.weight.data)
        generator = rng or xp.rng

        def choose(i: int, logits: Array) -> Array:
            p = probabilities(logits.astype(np.float64) / temperature)
            return (xp.cumsum(p, axis=1) < generator.random((n, 1))).sum(axis=1).clip(0, self.codes - 1)

        return self.walk(size, n, choose, labels, above)


class _Above(nn.Module):
    """A map of codes as a condition of a larger one: vectors, mixed with their neighbours, each repeated."""

    def __init__(self, codes: int, channels: int):
        self.embedding = nn.Embedding(codes, channels)
        self.mix = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.fine = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())

    def forward(self, c: Array, size: tuple[int, ...]) -> Tensor:
        if any(large % small for large, small in zip(size, c.shape[1:], strict=True)):
            raise ValueError(f"PixelCNN: a map of {c.shape[1:]} has no whole factor to one of {size}.")
        factor = (size[0] // c.shape[1], size[1] // c.shape[2])
        x = self.mix(_channels_second(self.embedding(c)))
        y: Tensor = self.fine(ops.interpolate(x, factor, "nearest"))
        return y


def probabilities(logits: Array) -> Array:
    """softmax over the last axis, in float64."""
    xp = backend.of(logits)
    e = xp.exp((logits - xp.max(logits, axis=-1, keepdims=True)).astype(np.float64))
    return e / xp.sum(e, axis=-1, keepdims=True)


def _channels_second(x: Tensor) -> Tensor:
    y: Tensor = x.transpose((0, 3, 1, 2))
    return y


def _at(maps: Any, rows: slice) -> Any:
    """Rows of maps (N, C, h, w); what has only one place stays as it is."""
    return maps[:, :, rows] if isinstance(maps, Tensor) and maps.shape[2] > 1 else maps
