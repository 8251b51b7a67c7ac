"""The collection without Docker or Nuclio: a local server that speaks what CVAT uses of Nuclio's API.

Each function runs in worker processes of its own (`worker`), a pool hands requests to them (`pool`), and two small
ASGI applications (`app`) answer for the dashboard and for each function. For laptops, development and tests; in
production and on more than one machine, Nuclio does this.
"""
