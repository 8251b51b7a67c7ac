"""What every tool needs that runs a function in a process of its own: serve, check and annotate.

`environment` gives the process the variables that Nuclio would give it, `function_yaml` the file that Nuclio puts into
its container. `messages` are what it is sent and answers, `memory` is what it holds, `process` ends it with all that it has
started, and `retries` are the pauses before it is tried again.
"""
