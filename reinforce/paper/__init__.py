"""What the paper did, as tables: its data sets and its recipes. Facts alone: nothing of the project is imported."""

from reinforce.paper.datasets import DATASETS, Dataset
from reinforce.paper.recipes import RECIPES, Recipe

__all__ = ["DATASETS", "RECIPES", "Dataset", "Recipe"]
