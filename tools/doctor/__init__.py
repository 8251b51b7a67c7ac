"""Says what is wrong with a running installation, seen from its host: Docker, Nuclio or `make serve`, functions, CVAT's list.

`deploy.host.containers` asks Docker, `dashboard` the dashboard and the functions, `cvat_functions` the CVAT server. `examine`, with
`functions`, `docker_host` and `waiting`, makes findings of their answers, each with its remedy.
"""
