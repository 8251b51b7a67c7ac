from common.serving import nuclio


def init_context(context: nuclio.Context) -> None:
    nuclio.start(context, __file__)


def handler(context: nuclio.Context, event: nuclio.Event) -> nuclio.Response:
    return nuclio.answer(context, event)
