"""What an evaluation set shares with what a model was trained on: pictures, near-duplicates of them, and expressions."""
