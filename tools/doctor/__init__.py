"""What is wrong with a running installation, seen from its host: Docker, Nuclio, each function, and CVAT's own list.

`host` asks Docker, `nuclio` the dashboard and the functions, `cvat` the CVAT server; `examine` turns what they say into
findings, each with its remedy.
"""
