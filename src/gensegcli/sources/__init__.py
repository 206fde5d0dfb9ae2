"""Raw data sets, one module for each form they come in, and prepared sets read back."""
