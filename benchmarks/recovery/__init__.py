"""What becomes of a training into which a fault is put: with nothing, with a clip, with a guard."""
