"""Checkpoints of PyTorch, read without torch and without running any code of the file.

    unpickler     the instructions of a pickle, carried out on inert stand-ins: nothing that a file names is called
    standins      what a file names: classes, functions and the objects made of them
    archive       torch's file formats: zip, the older one of several pickles, and plain pickles
    tensors       storages and tensors as numpy arrays
    names         which names a checkpoint may hold, and which are an attack
    identify      what a file is, and what to do with it
    state_dicts   whose weights a dictionary of tensors holds
    formats       files that only pretend to be checkpoints: web pages, pointers, other formats

    module        a stand-in of torch.nn.Module: its children, tensors and attributes
    graph         an ONNX graph under construction
    layers        the layers of torch.nn as ONNX operations
    blocks        the blocks of YOLOv5 and YOLOv7
    heads         their last layers: boxes, masks, classes
    network       the whole network, layer by layer
    convert       a YOLOv5 or YOLOv7 checkpoint as an ONNX file

To support another block, write what it computes in `blocks` and list it there under the name that checkpoints give it.
"""
