"""Three networks that explode on real data: trained plain, with the textbook clip, and under the guard."""

from steadygrad.demo.program import run_demo

__all__ = ["run_demo"]
