"""Floor 4: model definitions over the kernels, cache, sampling. NumPy arrays in, NumPy arrays
out.
"""

from h2q.engine.block import Layer, run_layer
from h2q.engine.cache import Cache
from h2q.engine.generate import generate
from h2q.engine.load import load_crystal, load_original
from h2q.engine.model import Model
from h2q.engine.positions import Positions
from h2q.engine.sampling import Sampler, SamplingOptions

__all__ = [
    "Cache",
    "Layer",
    "Model",
    "Positions",
    "Sampler",
    "SamplingOptions",
    "generate",
    "load_crystal",
    "load_original",
    "run_layer",
]
