"""What the outputs of exported networks mean: one `OutputLayout` for each kind of file and task.

    ultralytics, yolov5, wongkinyiu, mmrotate   the layouts, by the package that exports them
    detr, ssd, omz, mmdeploy                    more of them: transformers and others, OpenVINO's Open Model Zoo, mmdetection
    torchvision_export                          torchvision's
    registry                                    all of them, and the one that a file has
    layout                                      what an output layout consists of
    signature, metadata, image_input            what a file shows before its layout is known
    preparation                                 from an image to the network's input
    hub_settings, mmdeploy_pipeline             what files beside the model say about that
    detections, nms                             from the network's outputs to detections
    masks, box_masks, full_masks                their masks: from prototypes, pasted into boxes, of the whole input
    rotated_graph                               MMRotate's files, cut before an operation that ONNX Runtime lacks
    coco                                        the numbers of COCO's categories

To add a layout, write an `OutputLayout` in the module of its family:

- `match` recognises a file by the names, types and shapes of its outputs and by its metadata. It has to be certain: where
  another layout has outputs of the same shapes, something else must rule that one out.
- `read` points at boxes, scores and classes in the outputs. Thresholds, the conversion of the boxes and the suppression of
  overlaps follow from the object's other fields; at start the values are checked on an example.
- `preparation` says how an image becomes the input; `prepare_for` where files of the kind differ, or say nothing.

Then list it in `registry` and in the table of serverless/onnx/yolo/README.md, and add a case to
tests/common/networks/formats/test_registry.py and a file of constant outputs to
tests/common/networks/exported/test_model.py or test_other_packages.py.
"""
