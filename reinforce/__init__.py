"""Offline teacher-logit caching and dataset reinforcement."""

__version__ = "0.1.0"
