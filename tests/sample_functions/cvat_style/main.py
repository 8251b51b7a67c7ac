import base64
import io
import json

import yaml
from model_handler import ModelHandler
from PIL import Image


def init_context(context):
    context.logger.info("Init context...  0%")
    # Nuclio puts the file there; the labels are not held twice.
    with open("/opt/nuclio/function.yaml", "rb") as file:
        config = yaml.safe_load(file)
    spec = json.loads(config["metadata"]["annotations"]["spec"])
    context.user_data.model = ModelHandler({label["id"]: label["name"] for label in spec})
    context.logger.info("Init context...100%")


def handler(context, event):
    context.logger.info("Run the red boxes function")
    data = event.body
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data["image"]))).convert("RGB")
    except Exception as error:
        body = json.dumps({"error": f"image: {error}"})
        return context.Response(body=body, headers={}, content_type="application/json", status_code=400)
    results = context.user_data.model.infer(image, float(data.get("threshold") or 0.5))
    return context.Response(body=json.dumps(results), headers={}, content_type="application/json", status_code=200)
