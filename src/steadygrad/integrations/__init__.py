"""steadygrad inside the trainers people have: each attached in the way that trainer supports.

Each is imported by its full name, because it needs its framework: ``from
steadygrad.integrations.lightning import SteadygradCallback``.
"""

__all__ = ["accelerate", "lightning", "timm", "transformers", "ultralytics"]
