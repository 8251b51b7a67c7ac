from common.serving import nuclio


def init_context(context):
    nuclio.start(context, __file__)


def handler(context, event):
    return nuclio.answer(context, event)
