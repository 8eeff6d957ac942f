"""What a classifier says of samples: is every class among them, and does one that has seen only them know real images?

    class coverage                  a classifier trained on real images counts the classes of the samples
    classification accuracy score   a classifier trained on labelled samples is tested on real images
                                    [Ravuri & Vinyals 2019]

The score asks for samples with labels, which a class-conditional model draws. For a model without classes this
package has a substitute, and says so beside every number: the samples are labelled by a classifier that was trained
on real images, and a second one learns from them. Blur, gaps and missing classes lower it as they lower the score;
a sample that is between two classes gets a label all the same. Its own ceiling is the first classifier's accuracy.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from minivae import backend, nn, ops
from minivae.backend import Array
from minivae.data import Dataset, Labelled, Split
from minivae.models import nets
from minivae.models.loss import Loss
from minivae.tensor import as_tensor, no_grad
from minivae.train import Options, Trainer


class Classifier(nn.Module):
    """network: images (N, *shape) -> logits (N, classes)."""

    needs_labels = True

    def __init__(self, network: nn.Module):
        self.network = network

    def loss(self, batch: Labelled, rng: Any = None) -> Loss:
        """The cross-entropy of the labels, in nats; the other term is the accuracy."""
        logits = self.network(as_tensor(batch.images))
        total = ops.cross_entropy(logits, as_tensor(batch.labels)).mean()
        xp = backend.of(logits.data)
        right = xp.argmax(logits.data, axis=-1) == batch.labels
        return Loss(total, {"cross_entropy": total, "accuracy": as_tensor(right.astype(logits.dtype).mean())})

    @no_grad()
    def classify(self, x: Array) -> Array:
        """The likeliest classes of images, (N,)."""
        return backend.of(x).argmax(self.network(as_tensor(x)).data, axis=-1)


def classifier(
    train: Split, classes: int, epochs: int = 10, hidden: tuple[int, ...] = (256,), seed: int = 0
) -> Classifier:
    """A dense classifier trained on the labelled images of a split, by Adam, batch 64, 1e-3 to 0."""
    before = backend.current().rng
    backend.manual_seed(seed)
    model = Classifier(nets.dense_encoder(train.images.shape[1:], hidden, classes))
    backend.current().rng = before
    dataset = Dataset("to be classified", train, train[:1])
    with redirect_stdout(StringIO()):
        Trainer(model, dataset, Options(epochs, 64, lr_schedule="cosine", seed=seed)).run()
    model.eval()
    return model


def accuracy(model: Classifier, split: Split) -> float:
    """The share of images of a split that get their label."""
    return float(np.mean(labels_of(model, split.images) == split.labels))


def labels_of(model: Classifier, images: Any, chunk: int = 1000) -> Any:
    """The likeliest classes of images (N, *shape), of any number, (N,) on the host."""
    from minivae.data import Batches

    batches = Batches(Split(images), chunk, shuffle=False).epoch(0)
    return np.concatenate([backend.to_numpy(model.classify(backend.current().asarray(x))) for x in batches])


def class_coverage(model: Classifier, samples: Any, classes: int) -> Any:
    """The share of samples (N, *shape) in each class, (classes,), as the classifier sees them."""
    return np.bincount(labels_of(model, samples), minlength=classes) / len(samples)


def classification_accuracy_score(samples: Any, labels: Any, test: Split, classes: int, **training: Any) -> float:
    """The accuracy on real images of a classifier that was trained on labelled samples (N, *shape)."""
    return accuracy(classifier(Split(samples, np.asarray(labels)), classes, **training), test)
