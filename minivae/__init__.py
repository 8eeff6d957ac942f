"""minivae: autodiff, layers and variational autoencoders from scratch, on NumPy or CuPy."""

import os

from minivae import backend, models, nn, ops, optim, weights
from minivae.anomaly import detect_anomaly
from minivae.backend import manual_seed, use
from minivae.checks import checks, turn_on
from minivae.dlpack import from_dlpack
from minivae.errors import InputError, NotFinite
from minivae.gradcheck import gradcheck
from minivae.pairs import from_vjp
from minivae.tensor import Tensor, no_grad, op

__version__ = "0.1.0"
__all__ = [
    "InputError", "NotFinite", "Tensor", "backend", "checks", "detect_anomaly", "from_dlpack", "from_vjp", "gradcheck",
    "manual_seed", "models", "nn", "no_grad", "op", "ops", "optim", "use", "weights",
]  # fmt: skip

if os.environ.get("MINIVAE_CHECKS", "0") not in ("", "0"):
    turn_on()
