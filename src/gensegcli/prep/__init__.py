"""Raw data sets to prepared ones: recipe, draw, build, store, card."""
