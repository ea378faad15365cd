"""Weights in and out of paligax."""
