"""Floor 6: grow a crystal from a model, measure it, and write down what was measured."""

from h2q.crystallize.engine import ModelCrystallizationEngine
from h2q.crystallize.evaluate import Comparison, compare
from h2q.crystallize.options import Options
from h2q.crystallize.sampling import sample_text
from h2q.crystallize.stability import SpectralStabilityController, measure_growth

__all__ = [
    "Comparison",
    "ModelCrystallizationEngine",
    "Options",
    "SpectralStabilityController",
    "compare",
    "measure_growth",
    "sample_text",
]
