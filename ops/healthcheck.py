"""Exit 0 if this container's worker answers on its metrics endpoint; its HEALTHCHECK."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Ask once, briefly."""
    url = f"http://127.0.0.1:{os.environ.get('DRIFTLOOP_METRICS_PORT', '9100')}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
