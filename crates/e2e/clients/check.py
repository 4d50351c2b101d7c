"""Cases in a row, one line each to standard output: `ok NAME`, `skip NAME: WHY` or `not ok NAME: WHY`."""

import sys
import traceback

_cases = []


class Skip(Exception):
    """The case cannot be run here."""


def case(function):
    _cases.append(function)
    return function


def equal(got, wanted):
    assert got == wanted, f"{got!r} instead of {wanted!r}"


def contains(text, part):
    assert part in str(text), f"{part!r} is not in {text!r}"


def run(*arguments):
    failed = False
    for function in _cases:
        name = function.__name__
        try:
            function(*arguments)
            print(f"ok {name}", flush=True)
        except Skip as why:
            print(f"skip {name}: {why}", flush=True)
        except BaseException as error:  # noqa: BLE001: a case may exit
            failed = True
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"not ok {name}: {text[:600]}", flush=True)
    sys.exit(1 if failed else 0)
