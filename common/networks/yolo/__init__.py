"""The YOLO family without its packages: model files of every layout to boxes, masks, skeletons, rotated boxes and tags.

`metadata` reads what the exporter wrote into a file, `layout` finds what the outputs mean, `decode` turns them into
detections, `nms` and `masks` finish these, `model` puts the steps together, `found` makes CVAT's shapes of the result,
and `handler` is the ModelHandler that all functions of the family share.
"""
