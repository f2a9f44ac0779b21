"""Run one job's stages and judge their results."""
