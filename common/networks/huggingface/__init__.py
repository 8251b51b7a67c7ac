"""Models of `transformers` from local folders as published on the Hugging Face hub.

    safetensors_file   the header of a file of weights: names, types and shapes, and whether the file is whole
    folder             a folder: checked without torch, then loaded whole
    library            the library, told never to use the network
    loading            a model with all its weights, or an error that names what doesn't fit

Nothing here uses the network, and no code that comes with a model is run.
"""
