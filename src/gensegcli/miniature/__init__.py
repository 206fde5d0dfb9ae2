"""The bundled miniature: a Qwen3-VL and a SAM 2 of a few million weights, trained from nothing on generated scenes.

`policy/` and `segmenter/` hold the trained weights as ordinary Hugging Face folders (alias `demo`). The modules beside
them are how these came to be: `python -m gensegcli.miniature` (or `make miniature`) trains both again.
"""
