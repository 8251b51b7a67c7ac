import math
from typing import Any, Optional

import pytest

from common.errors import StartupError
from common.serving.options import check_range, divide, from_environment, from_mapping, names


class Handler:
    def __init__(
        self,
        config: object,
        *,
        device: str = "cpu",
        max_side: int = 960,
        score: float = 0.5,
        tiled: bool = False,
        mean: float | None = None,
        folder: Optional[str] = None,  # noqa: UP045
        untyped="x",
    ):
        self.score = score


class Heir(Handler):
    pass


class Own(Handler):
    def __init__(self, config: object, *, only: int = 1):
        super().__init__(config)


class Bare:
    pass


class Positional:
    def __init__(self, config: object, size: int = 5):
        pass


class TestNames:
    def test_are_the_keyword_only_arguments_with_their_types(self) -> None:
        assert names(Handler) == {
            "device": (str, False),
            "max_side": (int, False),
            "score": (float, False),
            "tiled": (bool, False),
            "mean": (float, True),
            "folder": (str, True),
            "untyped": (str, False),
        }

    def test_of_heirs(self) -> None:
        assert names(Heir) == names(Handler)
        assert names(Own) == {"only": (int, False)}

    def test_of_classes_without_options_and_of_functions(self) -> None:
        def function(image: object, *, size: int = 3) -> None: ...

        assert names(Bare) == names(Positional) == {}
        assert names(function) == {"size": (int, False)}

    def test_of_a_type_that_no_variable_can_hold(self) -> None:
        class Wrong:
            def __init__(self, *, sizes: list[int] = ()):  # type: ignore[assignment]
                pass

        with pytest.raises(TypeError, match=r"an option can't be of type list\[int\]"):
            names(Wrong)


class TestFromEnvironment:
    @pytest.mark.parametrize(
        ("variable", "text", "option", "value"),
        [
            ("DEVICE", "cuda:0", "device", "cuda:0"),
            ("DEVICE", "  cpu ", "device", "cpu"),
            ("MAX_SIDE", "1280", "max_side", 1280),
            ("MAX_SIDE", "-1", "max_side", -1),
            ("SCORE", "0.25", "score", 0.25),
            ("SCORE", "1", "score", 1.0),
            ("SCORE", "inf", "score", math.inf),
            ("MEAN", "1e-3", "mean", 0.001),
            ("FOLDER", "/models", "folder", "/models"),
            *[("TILED", text, "tiled", True) for text in ("1", "true", "True", "YES", "on")],
            *[("TILED", text, "tiled", False) for text in ("0", "false", "FALSE", "no", "off")],
        ],
    )
    def test_each_type(self, variable: str, text: str, option: str, value: Any) -> None:
        chosen = from_environment(Handler, {variable: text, "UNKNOWN": "5", "PATH": "/bin"})
        assert chosen == {option: value}
        assert type(chosen[option]) is type(value)

    @pytest.mark.parametrize("text", ["", "  "])
    def test_an_empty_variable_counts_as_not_set(self, text: str) -> None:
        assert from_environment(Handler, {"MAX_SIDE": text}) == {}

    @pytest.mark.parametrize(
        ("variable", "text", "message"),
        [
            ("MAX_SIDE", "big", "MAX_SIDE: expected a whole number, got the text 'big'"),
            ("MAX_SIDE", "1.5", "MAX_SIDE: expected a whole number, got the text '1.5'"),
            ("SCORE", "half", "SCORE: expected a number, got the text 'half'"),
            ("SCORE", "nan", "SCORE: expected a number, got the text 'nan'"),
            ("SCORE", "0,5", "SCORE: expected a number, got the text '0,5'"),
            ("TILED", "maybe", "TILED: expected true or false, got the text 'maybe'"),
            ("MEAN", "none", "MEAN: expected a number, got the text 'none'"),
        ],
    )
    def test_errors_name_the_variable(self, variable: str, text: str, message: str) -> None:
        with pytest.raises(StartupError) as caught:
            from_environment(Handler, {variable: text})
        assert str(caught.value) == message


class TestFromMapping:
    @pytest.mark.parametrize(
        ("given", "chosen"),
        [
            ({}, {}),
            ({"max_side": 5, "device": "cuda", "tiled": True}, {"max_side": 5, "device": "cuda", "tiled": True}),
            ({"max_side": "5", "tiled": "no", "score": " 0.5 "}, {"max_side": 5, "tiled": False, "score": 0.5}),
            ({"score": 1}, {"score": 1.0}),
            ({"mean": None, "folder": None}, {"mean": None, "folder": None}),
        ],
    )
    def test_takes_values_and_texts(self, given: dict[str, Any], chosen: dict[str, Any]) -> None:
        assert from_mapping(Handler, given) == chosen
        assert [type(v) for v in from_mapping(Handler, given).values()] == [type(v) for v in chosen.values()]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"maxside": 5}, "unknown option 'maxside'; known options: device, folder, max_side, mean, score, tiled, untyped; "
                              "did you mean max_side?"),
            ({"max_side": 1.5}, "option max_side: expected a whole number, got 1.5"),
            ({"max_side": True}, "option max_side: expected a whole number, got true"),
            ({"max_side": None}, "option max_side: expected a whole number, got null"),
            ({"max_side": ""}, "max_side: expected a whole number, got the text ''"),
            ({"score": True}, "option score: expected a number, got true"),
            ({"score": math.nan}, "option score: expected a number, got nan"),
            ({"tiled": 1}, "option tiled: expected true or false, got 1"),
            ({"device": 0}, "option device: expected a text, got 0"),
        ],
    )  # fmt: skip
    def test_refuses_what_does_not_fit(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(StartupError) as caught:
            from_mapping(Handler, given)
        assert str(caught.value) == message

    def test_of_a_class_without_options(self) -> None:
        with pytest.raises(StartupError, match=r"known options: none$"):
            from_mapping(Bare, {"a": 1})


class TestDivide:
    def test_gives_each_target_what_it_knows(self) -> None:
        assert divide({"only": 2, "score": "0.5"}, Own, Handler, Bare) == [{"only": 2}, {"score": 0.5}, {}]

    def test_refuses_what_none_of_them_knows(self) -> None:
        with pytest.raises(StartupError, match=r"^unknown option 'sides'; known options: device, .*, only, "):
            divide({"sides": 2}, Own, Handler)


class TestCheckRange:
    @pytest.mark.parametrize("value", [0, 0.5, 1])
    def test_ends_included(self, value: float) -> None:
        check_range("SCORE", value, 0, 1)

    @pytest.mark.parametrize(
        ("value", "limits", "message"),
        [
            (1.01, (0, 1), "SCORE: expected a number from 0 to 1, got 1.01"),
            (math.nan, (0, 1), "SCORE: expected a number from 0 to 1, got nan"),
            (-1, (), "SCORE: expected a number of 0 or more, got -1"),
        ],
    )
    def test_refuses_what_is_outside(self, value: float, limits: tuple[float, ...], message: str) -> None:
        with pytest.raises(StartupError) as caught:
            check_range("SCORE", value, *limits)
        assert str(caught.value) == message
