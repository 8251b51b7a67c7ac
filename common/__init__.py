"""What all functions share: at the top what the author of a model uses, below it four rooms.

| room | what it holds | may import |
|---|---|---|
| `vision` | pixels and geometry | the top |
| `cvat` | the wire, both directions | the top, `vision` |
| `networks` | files, engines, output formats, model families | the top, `vision`, `cvat` |
| `serving` | Nuclio, kinds, options, states, caches | all of them |

Importing `common.serving.nuclio` loads numpy and Pillow and nothing heavier; OpenCV, ONNX Runtime and torch are
imported where they are first used.
"""

from common import moved

moved.install()
