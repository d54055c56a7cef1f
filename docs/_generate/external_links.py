"""Ask for every web page that README.md and the documentation link to, and tell which fail.

    python docs/_generate/external_links.py

It needs a network, so no test and no CI step calls it. It ends with 1 where a page is gone (404,
410) or no such host exists; what merely refuses programs or is slow is told, and counts as there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((https?://[^)\s]+)\)")
GONE = (404, 410)
SECONDS = 20


def links(pages: Iterable[Path]) -> dict[str, Path]:
    """Return each external link of some pages, with one of the pages that have it."""
    return {link: page for page in pages for link in LINK.findall(page.read_text())}


def fault(link: str) -> str | None:
    """Return what is wrong with a link, None where the page is there."""
    request = Request(link, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urlopen(request, timeout=SECONDS):
            return None
    except HTTPError as error:
        return f"gone: {error.code}" if error.code in GONE else f"answers {error.code}"
    except URLError as error:
        return f"gone: {error.reason}"
    except TimeoutError:
        return "slow"


def main() -> int:
    """Check all links; return the exit status."""
    found = links([ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
    with ThreadPoolExecutor(8) as pool:
        faults = dict(zip(found, pool.map(fault, found), strict=True))
    for link, wrong in faults.items():
        if wrong:
            sys.stdout.write(f"{found[link].relative_to(ROOT)}: {link}: {wrong}\n")
    sys.stdout.write(
        f"{len(found)} links, {sum(map(bool, faults.values()))} to look at\n"
    )
    return any(wrong and wrong.startswith("gone") for wrong in faults.values())


if __name__ == "__main__":
    sys.exit(main())
