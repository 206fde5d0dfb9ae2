"""Reading files that people and other programs wrote."""
