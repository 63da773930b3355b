"""`python -m tests.bench.worlds [NAME ...] [--loop]`: what simple models reach on each world.

With `--loop` the world's pipeline, too, through the whole loop on real servers. One table.
"""

from __future__ import annotations

import argparse
import importlib
import time

from tests.bench.worlds import loop

NAMES = ("digits", "mail", "films", "liver", "groceries", "machine", "speech")


def main() -> None:
    """Measure the worlds that are named, or all."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME")
    arguments.add_argument("--loop", action="store_true", help="run the pipelines, too")
    arguments.add_argument("--limit", type=int, help="of events that the loop gets")
    given = arguments.parse_args()
    print("| World | What | Figure |\n|---|---|---|")
    for name in given.names or NAMES:
        began = time.perf_counter()
        if given.loop and name in loop.SINCE:
            for what, figure in loop.measure(name, given.limit):
                print(f"| {name} | {what} | {figure} |", flush=True)
        for what, figure in importlib.import_module(f"tests.bench.worlds.{name}").measure():
            print(f"| {name} | {what} | {figure} |", flush=True)
        print(f"| {name} | it took | {time.perf_counter() - began:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
