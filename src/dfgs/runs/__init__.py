"""Runs of stages: who holds a run's outputs, what every attempt cost, and what is planned, running and done."""
