"""The cache of downloaded and generated data: where it is, and how files get into it."""

from __future__ import annotations

from minivae.files import atomic_write, cache_dir

__all__ = ["atomic_write", "cache_dir"]
