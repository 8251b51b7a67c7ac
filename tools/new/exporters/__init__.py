"""Exports model files to ONNX with the package that trained them, each in an environment and a process of its own.

    environment   makes an exporter's environment, once
    comparison    what the exported file answers against what the original answered
    ultralytics   Ultralytics' package

An exporter is a folder with the packages of its environment (`requirements.txt`) and a script that runs in it
(`export.py`), which imports nothing of this collection.
"""
