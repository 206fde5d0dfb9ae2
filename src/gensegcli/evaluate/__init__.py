"""Evaluation: data, answers, masks, scores, each stage kept on disk and resumable on its own; docs/eval.md."""
