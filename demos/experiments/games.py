"""Samples: of codes that follow a prior all together, and of forgers. Judged by classifiers, as nothing else can.

No model here knows classes, so the classification accuracy score is a substitute: a classifier of real images labels
the samples, a second one learns from them, and its accuracy on real test images counts. See minivae.classifier.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab import Finding, Lab, encoded, experiment
from minivae import backend, classifier
from minivae.models.wae import mmd
from minivae.train import Options

SAMPLES = 10_000
SCORE = "score of samples labelled by a classifier of real images (no model knows classes)"


@experiment("wae", "WAE-MMD")
def wae(lab: Lab) -> Finding:
    """The same autoencoder, with and without a prior of its codes; both decode N(0, I). [Tolstikhin et al. 2018]

    The MMD is that of all test codes, without bias; for a perfect fit it is 0 in the mean.
    """
    options = Options(epochs=20, batch_size=64, lr=1e-3)
    judge = judged(lab)
    found = {}
    for name, penalty in (("AE", 0.0), ("WAE", 100.0)):
        model = lab.fitted("wae", options, penalty=penalty)
        codes = encoded(model, lab.data.test)[:2000]
        drawn = np.random.default_rng(lab.seed).standard_normal(codes.shape).astype(np.float32)
        found[name] = {"mmd": mmd(codes, drawn).item(), "error": lab.test(model)["reconstruction"]}
        found[name] |= quality(lab, model, judge)
    return Finding(
        "784-512-256-8, squared error, lambda 100 (AE: 0), inverse multiquadratic kernel, Adam 1e-3, batch 64, "
        "20 epochs",
        "; ".join(
            f"{name}: MMD {f['mmd']:.4f}, {SCORE if name == 'AE' else 'score'} {100 * f['score']:.1f}%, rarest class "
            f"{100 * f['least']:.1f}%, test error {f['error']:.2f}"
            for name, f in found.items()
        ),
        "MMD below the AE's; score above the AE's",
        bool(found["WAE"]["mmd"] < found["AE"]["mmd"] and found["WAE"]["score"] > found["AE"]["score"]),
        "too few epochs for a CPU's budget",
        f"the classifier itself: {100 * classifier.accuracy(judge, lab.data.test):.1f}%",
        numbers={f"{name} {key}": value for name, f in found.items() for key, value in f.items()},
    )


@experiment("gan", "GAN; VAE-GAN")
def gan(lab: Lab) -> Finding:
    """Whether the forgers make all ten classes, and how good they are. [Goodfellow et al. 2014; Larsen et al. 2016]"""
    options = Options(epochs=12, batch_size=64, lr=5e-4)
    sizes: dict[str, Any] = {"arch": "conv", "hidden": (), "channels": (16, 32)}
    judge = judged(lab)
    found = {
        "GAN": quality(lab, lab.fitted("gan", options, noise=0.0, **sizes), judge),
        "VAE-GAN": quality(lab, lab.fitted("vaegan", options, **sizes), judge),
    }
    return Finding(
        "conv 16-32 without hidden layers, both players alike, leaky rectifiers, Adam 5e-4, momentum 0.5, batch 64, "
        f"12 epochs; {SAMPLES:,} samples",
        "; ".join(
            f"{name}: rarest class {100 * f['least']:.1f}%, {SCORE if name == 'GAN' else 'score'} "
            f"{100 * f['score']:.1f}%"
            for name, f in found.items()
        ),
        "10 of 10 classes, each above 3%; the score reported",
        all(f["least"] > 0.03 for f in found.values()),
        "a game has no loss to follow: the share of a class rises and falls from epoch to epoch",
        f"the classifier itself: {100 * classifier.accuracy(judge, lab.data.test):.1f}%",
        numbers={f"{name} {key}": value for name, f in found.items() for key, value in f.items()},
    )


def judged(lab: Lab) -> Any:
    """A classifier of the lab's real images."""
    epochs = min(10, lab.epochs or 10)
    return classifier.classifier(lab.data.train, len(lab.data.classes), epochs, seed=lab.seed)


def quality(lab: Lab, model: Any, judge: Any) -> dict[str, float]:
    """Of samples: the share of the rarest class as the judge sees them, and the score by its labels."""
    count, classes = min(SAMPLES, 10 * (lab.train_size or SAMPLES)), len(lab.data.classes)
    rng = backend.current().generator(lab.seed)
    parts = [backend.to_numpy(model.sample(min(1000, count - i), rng)) for i in range(0, count, 1000)]
    samples = np.clip(np.concatenate(parts), 0, 1)
    labels = classifier.labels_of(judge, samples)
    score = classifier.classification_accuracy_score(samples, labels, lab.data.test, classes, seed=lab.seed)
    return {"score": score, "least": float(np.bincount(labels, minlength=classes).min() / count)}
