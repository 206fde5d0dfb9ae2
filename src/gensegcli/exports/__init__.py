"""Predictions as files that other tools read."""

from gensegcli.exports.exporter import FORMATS, Exporter, discard_outputs

__all__ = ["FORMATS", "Exporter", "discard_outputs"]
