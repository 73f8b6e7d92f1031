"""Which extras break another."""

import importlib.util
import pathlib

import pytest
from packaging.requirements import Requirement

FILE = pathlib.Path(__file__).parents[2] / "launch" / "check_extras.py"


@pytest.fixture(scope="module")
def check_extras():
    spec = importlib.util.spec_from_file_location("check_extras", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_replaced_by_less_than_others_need_is_said(check_extras):
    def resolved(**packages):
        return {
            name: check_extras.Package(version, tuple(map(Requirement, needs)))
            for name, (version, *needs) in packages.items()
        }

    page = resolved(pydantic=("2.14", "typing_extensions>=4.14"))
    page["typing-extensions"] = check_extras.Package("4.16", ())
    phone = resolved(xdsl=("0.28", "typing-extensions<4.13"))
    phone["typing-extensions"] = check_extras.Package("4.12.2", ())
    assert check_extras.broken(page, phone) == [
        "pydantic 2.14 needs typing_extensions>=4.14, not 4.12.2"
    ]
    assert check_extras.broken(phone, page) == ["xdsl 0.28 needs typing-extensions<4.13, not 4.16"]
    older = page | resolved(pydantic=("2.11", "typing_extensions>=4.12.2"))
    assert check_extras.broken(older, phone) == []
    assert check_extras.broken(phone, older) == []
