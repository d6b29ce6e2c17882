"""Scores of drawn maps, with confidence intervals: arrays in, numbers out."""
