import pytest

from reinforce.counting import counted


@pytest.mark.parametrize(
    ("number", "nouns", "said"),
    [
        pytest.param(0, ("tar",), "0 tars", id="none"),
        pytest.param(1, ("tar",), "1 tar", id="one"),
        pytest.param(2, ("tar",), "2 tars", id="two"),
        pytest.param(1, ("class", "classes"), "1 class", id="one of an own plural"),
        pytest.param(3, ("class", "classes"), "3 classes", id="an own plural"),
    ],
)
def test_a_number_has_its_noun(number: int, nouns: tuple[str, ...], said: str) -> None:
    assert counted(number, *nouns) == said
