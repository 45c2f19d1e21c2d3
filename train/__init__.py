"""Adapt, distill, finetune and evaluate: everything that changes weights."""
