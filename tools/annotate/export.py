"""Exports the annotations of a folder of images as CVAT XML 1.1, COCO JSON and YOLO labels, through Datumaro.

Each format gets what it can express. CVAT XML: everything; ellipses, cuboids and skeletons, which Datumaro's writer does
not know, are added to its file, and so are masks, which it would write as whole frames. COCO: everything with an area,
rotated boxes and ellipses as polygons, masks exactly, and skeletons as keypoints. YOLO 1.1: the upright box around
everything with an area.
"""

from __future__ import annotations

import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from datumaro import Dataset, DatasetItem, Image
from datumaro.components import annotation as datumaro

from common.cvat.labels import Label, Labels
from common.cvat.shape_json import shape_points
from common.cvat.skeleton import skeleton_edges
from common.shapes import Cuboid, Ellipse, Mask, Points, Polygon, Polyline, Rectangle, Shape, Skeleton, Tag
from common.vision.geometry import bounds_xyxy, clip_box, outline_xy
from common.vision.mask import bitmap_to_rle, mask_to_rle
from tools.annotate.annotation_encoder import read_shapes
from tools.annotate.folder_results import AnnotatedImage
from tools.annotate.label_mapping import TaskLabel

_MASK_NUMBER = "mask number"  # in COCO files only while they are written


def export(
    items: Sequence[AnnotatedImage], images: Path, labels: Labels, formats: Sequence[str], output: Path
) -> list[Path]:
    """Writes each format into a folder of its own; replaces an older one.

    Args:
        items: the images with their annotations.
        images: the folder that the items' names start from.
        labels: of the function.
        formats: some of `tools.annotate.run.FORMATS`.
        output: the folder for those of the formats.

    Returns:
        The folders written.
    """
    stems = Counter(str(Path(item.name).with_suffix("")) for item in items)
    own = [TaskLabel.own(label) for label in labels.values()]
    entries = [(_identity(item.name, stems), item, read_shapes(item.annotations, own)) for item in items]
    writers: dict[str, Callable[..., None]] = {"cvat": _write_cvat, "coco": _write_coco, "yolo": _write_yolo}
    folders = []
    for name in formats:
        target = output / name
        with tempfile.TemporaryDirectory(dir=output) as temporary:
            made = Path(temporary) / name
            made.mkdir()
            writers[name](entries, images, labels, made)
            shutil.rmtree(target, ignore_errors=True)
            made.rename(target)
        folders.append(target)
    return folders


Entry = tuple[str, AnnotatedImage, Sequence[Shape]]


def _write_cvat(entries: Sequence[Entry], images: Path, labels: Labels, target: Path) -> None:
    _dataset(entries, images, labels, _for_cvat).export(
        str(target), "cvat", save_media=False, allow_undeclared_attrs=True
    )
    path = next(iter(target.glob("*.xml")))
    tree = ElementTree.parse(path)  # noqa: S314 - of our own file
    path.unlink()
    root = tree.getroot()
    _complete_task(root, labels, max(item.frame for _, item, _ in entries))
    by_name = {image.get("name"): image for image in root.iter("image")}
    for identity, item, shapes in entries:
        image = by_name[identity + Path(item.name).suffix]
        # CVAT finds the image by this name; Datumaro may have given it another.
        image.set("name", item.name)
        image.set("id", str(item.frame))
        for element in image:
            element.set("source", "auto")
        for shape in shapes:
            if isinstance(shape, (Ellipse, Cuboid, Skeleton, Mask)):
                image.append(_element(shape, labels))
    ElementTree.indent(root)
    tree.write(target / "annotations.xml", encoding="utf-8", xml_declaration=True)
    shutil.rmtree(target / "images", ignore_errors=True)


def _write_coco(entries: Sequence[Entry], images: Path, labels: Labels, target: Path) -> None:
    tasks = ["instances"]
    if any(label.sublabels for label in labels.values()):
        tasks.append("person_keypoints")
    _dataset(entries, images, labels, _for_coco).export(str(target), "coco", save_media=False, tasks=tasks)
    named = {str(Path(identity + Path(item.name).suffix)): (item, shapes) for identity, item, shapes in entries}
    for path in (target / "annotations").glob("*.json"):
        content = orjson.loads(path.read_bytes())
        of_image = {}
        for image in content["images"]:
            of_image[image["id"]] = named[image["file_name"]]
            image["file_name"] = of_image[image["id"]][0].name
        for annotation in content["annotations"]:
            number = annotation.get("attributes", {}).pop(_MASK_NUMBER, None)
            if number is not None:
                item, shapes = of_image[annotation["image_id"]]
                mask = shapes[number]
                assert isinstance(mask, Mask)
                width, height = item.size_wh
                annotation["segmentation"] = {"counts": coco_runs(mask, (height, width)), "size": [height, width]}
                annotation["area"] = int(mask.bitmap.sum())
        path.write_bytes(orjson.dumps(content))
    shutil.rmtree(target / "images", ignore_errors=True)


def _write_yolo(entries: Sequence[Entry], images: Path, labels: Labels, target: Path) -> None:
    _dataset(entries, images, labels, _for_yolo).export(str(target), "yolo", save_media=False)


def _dataset(entries: Sequence[Entry], images: Path, labels: Labels, convert: Callable[..., list[Any]]) -> Any:
    categories, points = datumaro.LabelCategories(), datumaro.PointsCategories()
    index = {}
    for label in labels.values():
        index[label.name] = categories.add(label.name, attributes={a.name for a in label.attributes})
        if label.sublabels:
            edges = {(a + 1, b + 1) for a, b in skeleton_edges(label.svg)}  # COCO counts joints from 1
            points.add(index[label.name], [joint.name for joint in label.sublabels], edges)

    def item(identity: str, found: AnnotatedImage, shapes: Sequence[Shape]) -> Any:
        width, height = found.size_wh
        media = Image.from_file(path=str(images / found.name), size=(height, width))
        annotations = [
            a for i, shape in enumerate(shapes) for a in convert(shape, index[shape.label], (height, width), i)
        ]
        return DatasetItem(identity, annotations=annotations, media=media)

    made = [item(*entry) for entry in entries]
    return Dataset.from_iterable(
        made,
        categories={datumaro.AnnotationType.label: categories, datumaro.AnnotationType.points: points},
        media_type=Image,
    )


def _for_cvat(shape: Shape, label: int, size_hw: tuple[int, int], number: int) -> list[Any]:
    common = {"label": label, "group": shape.group, "attributes": dict(shape.attributes)}
    if isinstance(shape, Tag):
        return [datumaro.Label(**common)]
    if isinstance(shape, Rectangle):
        left, top, right, bottom = shape.box_xyxy
        width, height = right - left, bottom - top
        if shape.rotation:
            center = left + width / 2, top + height / 2
            return [datumaro.RotatedBbox(*center, width, height, shape.rotation, **common)]
        return [datumaro.Bbox(left, top, width, height, **common)]
    kinds: dict[type, Any] = {Polygon: datumaro.Polygon, Polyline: datumaro.PolyLine, Points: datumaro.Points}
    return [kinds[type(shape)](shape_points(shape), **common)] if type(shape) in kinds else []


def _for_coco(shape: Shape, label: int, size_hw: tuple[int, int], number: int) -> list[Any]:
    attributes: dict[str, Any] = dict(shape.attributes)
    if shape.score is not None:
        attributes["score"] = shape.score
    common: dict[str, Any] = {"label": label, "attributes": attributes, "group": number + 1}
    if isinstance(shape, Mask):
        # Datumaro writes its box; its pixels are added to the file later, as Datumaro would read them from a whole image.
        numbered = common | {"attributes": attributes | {_MASK_NUMBER: number}}
        height, width = shape.bitmap.shape
        return [datumaro.Bbox(shape.left, shape.top, width, height, **numbered)]
    if isinstance(shape, Skeleton):
        # Datumaro writes these as COCO's 0, 1 and 2.
        states = datumaro.Points.Visibility
        visible = [states.visible if joint.visible else states.absent for joint in shape.joints]
        numbers = [v for joint in shape.joints for v in ((joint.x, joint.y) if joint.visible else (0.0, 0.0))]
        box_xyxy = bounds_xyxy(shape)
        assert box_xyxy is not None  # a skeleton in a reply has a visible joint
        left, top, right, bottom = box_xyxy
        if right == left or bottom == top:  # without a box, Datumaro wants it in no group
            return [datumaro.Points(numbers, visible, **common | {"group": 0})]
        box = datumaro.Bbox(left, top, right - left, bottom - top, **common)
        return [datumaro.Points(numbers, visible, **common), box]
    if isinstance(shape, Rectangle) and not shape.rotation:
        left, top, right, bottom = shape.box_xyxy
        return [datumaro.Bbox(left, top, right - left, bottom - top, **common)]
    outline = outline_xy(shape)
    return [datumaro.Polygon(outline.ravel().tolist(), **common)] if outline is not None else []


def coco_runs(mask: Mask, size_hw: tuple[int, int]) -> list[int]:
    """The mask as run lengths of the whole image, column by column, background first.

    Args:
        mask: in pixels of the image.
        size_hw: of the image.
    """
    height, width = size_hw
    left, top, right, bottom = mask.box_xyxy
    columns = np.zeros((right - left, height), np.bool_)
    columns[:, top:bottom] = mask.bitmap.T
    runs = bitmap_to_rle(columns)
    runs[0] += left * height
    if rest := (width - right) * height:
        runs[-1 if len(runs) % 2 else len(runs) :] = [rest + (runs[-1] if len(runs) % 2 else 0)]
    return runs


def _for_yolo(shape: Shape, label: int, size_hw: tuple[int, int], number: int) -> list[Any]:
    box_xyxy = None if isinstance(shape, (Points, Polyline)) else bounds_xyxy(shape)
    if box_xyxy is None:
        return []
    left, top, right, bottom = clip_box(box_xyxy, size_hw)
    flat = right <= left or bottom <= top
    return [] if flat else [datumaro.Bbox(left, top, right - left, bottom - top, label=label)]


def _element(shape: Shape, labels: Labels) -> ElementTree.Element:
    """The element that CVAT writes for a shape that Datumaro's writer does not know."""
    common = {"label": shape.label, "source": "auto", "occluded": "0"}
    if isinstance(shape, Ellipse):
        numbers = dict(zip(("cx", "cy", "rx", "ry"), (*shape.center_xy, *shape.radii_xy), strict=True))
        if shape.rotation:
            numbers["rotation"] = shape.rotation
        element = ElementTree.Element("ellipse", common | _texts(numbers))
    elif isinstance(shape, Cuboid):
        corners = ("tl1", "bl1", "tr1", "br1", "tl2", "bl2", "tr2", "br2")
        names = tuple(f"{axis}{corner}" for corner in corners for axis in "xy")
        element = ElementTree.Element("cuboid", common | _texts(dict(zip(names, shape_points(shape), strict=True))))
    elif isinstance(shape, Mask):
        box = {"left": shape.left, "top": shape.top, "width": shape.bitmap.shape[1], "height": shape.bitmap.shape[0]}
        runs = ", ".join(str(run) for run in mask_to_rle(shape)[:-4])
        element = ElementTree.Element("mask", common | {"rle": runs} | {k: str(v) for k, v in box.items()})
    else:
        assert isinstance(shape, Skeleton)
        element = ElementTree.Element("skeleton", {"label": shape.label, "source": "auto"})
        for joint in shape.joints:
            outside = {"outside": str(int(not joint.visible)), "points": f"{joint.x:.2f},{joint.y:.2f}"}
            ElementTree.SubElement(element, "points", common | {"label": joint.name} | outside)
    element.set("z_order", "0")
    if shape.group:
        element.set("group_id", str(shape.group))
    for name, value in shape.attributes.items():
        ElementTree.SubElement(element, "attribute", {"name": name}).text = str(value)
    return element


def _complete_task(root: ElementTree.Element, labels: Labels, last_frame: int) -> None:
    """The labels with types, attributes and joints as CVAT writes them, and the number of the last frame."""
    listed, stop_frame = root.find("meta/task/labels"), root.find("meta/task/stop_frame")
    assert listed is not None  # Datumaro writes both
    assert stop_frame is not None
    stop_frame.text = str(last_frame)
    listed.clear()
    for label in labels.values():
        _add_label(listed, label, "")
        for sublabel in label.sublabels:
            _add_label(listed, sublabel, label.name)


def _add_label(listed: ElementTree.Element, label: Label, parent: str) -> None:
    element = ElementTree.SubElement(listed, "label")
    for name, text in (("name", label.name), ("color", label.color), ("type", label.type)):
        ElementTree.SubElement(element, name).text = text
    attributes = ElementTree.SubElement(element, "attributes")
    for attribute in label.attributes:
        described = ElementTree.SubElement(attributes, "attribute")
        for name, text in (
            ("name", attribute.name),
            ("mutable", str(attribute.mutable)),
            ("input_type", attribute.input_type),
            ("default_value", attribute.default_value),
            ("values", "\n".join(attribute.values)),
        ):
            ElementTree.SubElement(described, name).text = text
    if label.svg:
        ElementTree.SubElement(element, "svg").text = label.svg
    if parent:
        ElementTree.SubElement(element, "parent").text = parent


def _texts(numbers: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{number:.2f}" for name, number in numbers.items()}


def _identity(name: str, stems: Mapping[str, int]) -> str:
    """The name without its extension, as Datumaro wants it; with it where two images differ in nothing else."""
    stem = str(Path(name).with_suffix(""))
    return stem if stems[stem] == 1 else name
