"""Is the origin of an injected NaN or Inf named exactly: operation, module, line, phase."""
