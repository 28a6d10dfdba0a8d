"""Floor 6: grow a crystal from a model, measure it, and write down what was measured."""

from h2q.crystallize.engine import ModelCrystallizationEngine
from h2q.crystallize.evaluate import Comparison, compare
from h2q.crystallize.options import Options
from h2q.crystallize.sampling import sample_text

__all__ = ["Comparison", "ModelCrystallizationEngine", "Options", "compare", "sample_text"]
