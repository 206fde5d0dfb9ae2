"""Scores of masks, boxes and abstentions under named protocols: definitions in docs/metrics.md."""
