"""What becomes of a mistake: the sentences that several findings end with."""

BREAKS_LIST = "CVAT fails on it, and with it on its whole list of functions"
NOT_LISTED = "CVAT leaves the function out of its list"
ENDS_RUN = "CVAT fails on it, and the whole run ends"
DROPPED = "CVAT drops it without a word"
NOT_SAVED = "CVAT refuses to save it, which ends the whole run, or saves what it can't show"
OUT_OF_PLACE = "CVAT stores masks unchecked: the pixels end up elsewhere, or can't be drawn at all"
SAVED_AS_IT_IS = "CVAT saves it as it stands, outside the image"
