"""Ultralytics trainings on real handwritten digits, with and without a fault, plain and guarded."""
