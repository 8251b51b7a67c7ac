"""Poses found from the top down: a detector finds boxes, and a network finds the joints of what is in each.

    crop        the part of the image around a box, and points back to the image
    decoding    from heat maps, or from SimCC's two rows of scores for each joint, to joints
    network     an exported pose network: boxes in, joints out
    boxes       which of a detector's classes are taken, and the label of each
    files       where the two models are
    handler     the two together as a ModelHandler

The definitions are those of mmpose, so that its networks see and give what they were trained for.
"""
