"""What codes cost: the PixelCNN prior, two levels against one, and real files. [van den Oord et al. 2017; Razavi 2019]

All errors are those of the test images over the variance of the data; all bits are -log2 p of the prior, in bits per
image, which the entropy coder reaches to within a per cent.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.codes import variance
from experiments.lab import Finding, Lab, experiment
from minivae import compression, models
from minivae.data import Batches
from minivae.train import Options

CODEC = Options(epochs=30, batch_size=128, lr=1e-3, lr_schedule="cosine")  # of the row "vqvae"
PRIOR = Options(epochs=10, batch_size=128, lr=2e-3, lr_schedule="cosine")
CODES = (128, 32)  # of the row "pixelcnn"
SHORT = replace(CODEC, epochs=6)  # for a curve of many codecs, on 20,000 images
SHORT_PRIOR = replace(PRIOR, epochs=5)
LEAST, MOST = 4, 256  # codes of the curve


def prior_of(
    lab: Lab, codec: Any, options: Options, width: int = 32, layers: int = 5, few: Any = None, classes: int = 0
) -> Any:
    """A PixelCNN trained on the codes of a codec; the same whatever was trained before."""
    models_of = few or lab.data
    import minivae

    minivae.manual_seed(lab.seed)
    prior = models.Prior(codec, models_of.shape, width, layers, 3, classes)
    return lab.train(prior, options, prior.examples(models_of))


def nats(lab: Lab, prior: Any) -> tuple[float, float]:
    """Nats per code, and bits per image, of the test images."""
    found = lab.test(prior, prior.examples(lab.data))
    return found["nats_per_code"], found["loss"] / math.log(2)


@experiment("pixelcnn", "PixelCNN prior over codes")
def pixelcnn(lab: Lab) -> Finding:
    """Nats per code mean nothing without the error that they buy: so with all codes of the row "vqvae", and with as few
    as come to the error that was asked of it.
    """
    numbers: dict[str, float] = {}
    for k in CODES:
        codec = lab.fitted("vqvae", CODEC, data_variance=variance(lab.data), codes=k)
        numbers[f"K={k} error"] = lab.test(codec)["reconstruction"]
        for told, classes in (("", 0), (" given the class", len(lab.data.classes))):
            per_code, bits = nats(lab, prior_of(lab, codec, PRIOR, classes=classes))
            numbers |= {f"K={k} nats per code{told}": per_code, f"K={k} bits{told}": bits}
    return Finding(
        "7x7 codes of the VQ-VAE above, 30 epochs; gated PixelCNN, 5 layers of 32 channels, Adam 2e-3 to 0, batch 128, "
        "10 epochs",
        "; ".join(
            f"K={k}: {numbers[f'K={k} nats per code']:.3f} nats per code ({numbers[f'K={k} bits']:.0f} bits per image; "
            f"{numbers[f'K={k} nats per code given the class']:.3f} given the class) at error "
            f"{numbers[f'K={k} error']:.4f}"
            for k in CODES
        ),
        "at most 1.05 nats per code at that VQ-VAE's error, at most 0.045 [Keras example: 1.034 at 0.0444]",
        lab.published(any(numbers[f"K={k} nats per code"] <= 1.05 and numbers[f"K={k} error"] <= 0.045 for k in CODES)),
        "codes that tell more cost more: fewer nats come with a larger error",
        numbers=numbers,
    )


def coded(lab: Lab, kind: str, **arguments: Any) -> dict[str, float]:
    """A short training of a codec and of its prior: the test error, and the bits per image of its prior."""
    few = replace(lab.data, train=lab.data.train[:20_000])
    codec = lab.train(lab.build(kind, few, data_variance=variance(few), **arguments), SHORT, few)
    error = lab.test(codec)["reconstruction"]
    prior = prior_of(lab, codec, SHORT_PRIOR, 24, 4, few)
    x = next(Batches(lab.data.test, 1000, shuffle=False).epoch(0))
    made = compression.compress(prior, x)
    back = compression.decompress(prior, made.data)
    return {
        "error": error,
        "bits": nats(lab, prior)[1],
        "file": 8 * len(made.data) / len(x),
        "ideal": made.bits / len(x),
        "lossless": float((back == made.codes).all()),
    }


def curve(lab: Lab) -> dict[int, dict[str, float]]:
    """Of VQ-VAEs with more and more codes; the rows that need it share it."""
    key = "rate-distortion curve"
    if key not in lab._fitted:
        lab._fitted[key] = {k: coded(lab, "vqvae", codes=k) for k in (LEAST, 16, 64, MOST)}
    found: dict[int, dict[str, float]] = lab._fitted[key]
    return found


@experiment("rate-distortion", "Compression: VQ-VAE, prior and rANS")
def rate_distortion(lab: Lab) -> Finding:
    """Real files of 1,000 test images, decoded back without loss of a code."""
    points = curve(lab)
    by_rate = sorted(points.values(), key=lambda p: p["file"])
    monotone = [p["file"] for p in by_rate] == [p["file"] for p in points.values()] and all(
        a["error"] > b["error"] for a, b in itertools.pairwise(by_rate)
    )
    lossless = all(p["lossless"] for p in by_rate)
    overhead = max(p["file"] / p["ideal"] for p in by_rate) - 1
    return Finding(
        "7x7 codes of K, conv 32-64, 6 epochs of 20,000 images; PixelCNN, 4 layers of 24 channels, 5 epochs; files of "
        "1,000 test images",
        "; ".join(f"K={k}: {p['file']:.0f} bits per image, error {p['error']:.3f}" for k, p in points.items())
        + f"; lossless: {'yes' if lossless else 'no'}; at most {100 * overhead:.1f}% above -log2 p",
        "more bits, less error, at every step; files decoded without loss of a code",
        monotone and lossless,
        "a codec with more codes is not trained to the end",
        numbers={f"K={k} {name}": value for k, p in points.items() for name, value in p.items()},
    )


@experiment("vqvae2", "VQ-VAE-2, two levels")
def vqvae2(lab: Lab) -> Finding:
    """7x7 codes at the top and 14x14 below, against one level of 7x7 or of 14x14, at the bits that the priors need."""
    two = {k: coded(lab, "vqvae2", codes=k, channels=(32, 64)) for k in (4, 8, 16)}
    coarse, fine = curve(lab), {k: coded(lab, "vqvae", codes=k, channels=(32,)) for k in (4, 8, 64)}
    one = {k: [at(points, p["bits"]) for points in (coarse, fine)] for k, p in two.items()}
    return Finding(
        "as above, conv 32-64: 7x7 and 14x14 codes; one level: 7x7 (conv 32-64, K=4 to 256) and 14x14 (conv 32, K=4 to "
        "64), between whose points the error is interpolated, linear in its logarithm, and after which it is the last "
        "one's",
        "; ".join(
            f"K={k}: error {p['error']:.4f} at {p['bits']:.0f} bits, where one level has "
            f"{one[k][0]:.4f} (7x7) and {one[k][1]:.4f} (14x14)"
            for k, p in two.items()
        ),
        "below the one-level error at equal prior-coded bits, of either size",
        all(p["error"] < min(one[k]) < math.inf for k, p in two.items()),
        "images of 28x28 pixels are small: to 14x14 codes of more kinds the top has little to add",
        numbers={f"K={k} {name}": v for k, p in two.items() for name, v in p.items()}
        | {f"14x14 K={k} {name}": v for k, p in fine.items() for name, v in p.items()}
        | {f"K={k} one level, {size}": v for k in two for size, v in zip(("7x7", "14x14"), one[k], strict=True)},
    )


def at(points: dict[int, dict[str, float]], bits: float) -> float:
    """The error of a curve at a rate: between its points linear in its logarithm; beyond the last, which costs less,
    its own; infinite where the first costs more.
    """
    ordered = sorted(points.values(), key=lambda p: p["bits"])
    rates, errors = ([p[name] for p in ordered] for name in ("bits", "error"))
    if bits < rates[0]:
        return math.inf
    return float(np.exp(np.interp(bits, rates, np.log(errors))))
