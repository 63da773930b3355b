"""`python -m tests.bench.worlds [NAME ...]`: what simple models reach on each world, as a table."""

from __future__ import annotations

import argparse
import importlib
import time

NAMES = ("digits", "mail", "films", "liver", "groceries", "machine", "speech")


def main() -> None:
    """Measure the worlds that are named, or all."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME")
    print("| World | What | Figure |\n|---|---|---|")
    for name in arguments.parse_args().names or NAMES:
        began = time.perf_counter()
        for what, figure in importlib.import_module(f"tests.bench.worlds.{name}").measure():
            print(f"| {name} | {what} | {figure} |", flush=True)
        print(f"| {name} | it took | {time.perf_counter() - began:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
