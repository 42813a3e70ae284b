"""A process of a lab that runs what it is told: pickled (code, expression) on its input."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
import warnings


def main():
    told, says = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed goes to the log
    names = {"__name__": "__main__", "warned": []}
    sys.modules["__main__"].__dict__.update(names)
    names = sys.modules["__main__"].__dict__
    while True:
        try:
            code, value = pickle.load(told)
        except EOFError:
            return
        answer = [None, None, ""]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                exec(compile(code, "<lab>", "exec"), names)  # noqa: S102 -- a test's
                answer[0] = eval(value, names)  # noqa: S307 -- likewise
            except BaseException as error:  # noqa: BLE001 -- the test will see it
                answer[1:] = error, traceback.format_exc()
        names["warned"] = [f"{w.category.__name__}: {w.message}" for w in caught]
        try:
            sent = pickle.dumps(tuple(answer))
        except Exception:  # noqa: BLE001 -- likewise
            sent = pickle.dumps((None, RuntimeError(f"{answer!r} cannot be sent"), answer[2]))
        says.write(sent)
        says.flush()


main()
