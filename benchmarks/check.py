"""Time the rules of `postroom check`, compared with the build whose output they check.

    python benchmarks/check.py [--posts 1000]

Both are timed in one run, in fresh folders: a cold build of the site, then all rules on its
output. Processor time counts, so that other work on the machine does little harm; each figure
is the best of three. Exits with 1 if checking takes longer than building.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from postroom.lint.context import LintContext
from postroom.lint.runner import LintTarget, run_rules
from postroom.posts import loader
from postroom.posts.source import scan_folder
from postroom.publish.build import make_outputs
from postroom.publish.output import replace_output
from postroom.settings.site import load_settings

AT = datetime(2030, 1, 1, tzinfo=UTC)
DEMO = Path(__file__).parents[1]
SETTINGS = """\
title: Example News
url: https://news.example.com/
id: "tag:news.example.com,2020:"
language: en
timezone: UTC
topics: [Company news, Policy, Market, Investment]
contact: {organization: Example Company, address: 1 Example Street, email: news@example.com}
"""
POST = """\
---
title: What happened under number {n} at the harbour and in the town
date: {day}
id: tag:news.example.com,2020:{n}
summary: Number {n} of many, with a link, a table and a picture that is described.
topics: [{topic}]
---
Number {n} follows [the one before]({before:05}.md), and leads to [a page](https://example.com/{n}).
It has *some* words, `code` and a note[^1].

## What happened

- one thing, which takes a few more words to tell
- another thing, and [where it stands](#more)

<a id="more"></a>

| year | number |
|:-----|-------:|
| 2024 | {n}    |

{words}

[^1]: The note of number {n}.
"""
TOPICS = ("Company news", "Policy", "Market", "Investment")


def write(folder: Path, count: int) -> Path:
    """Write a site of `count` posts into `folder`, ten to a week, and return it."""
    (folder / "posts").mkdir(parents=True)
    (folder / "postroom.yaml").write_text(SETTINGS, "utf-8")
    for n in range(count):
        text = POST.format(
            n=n,
            day=date(2020, 1, 1) + timedelta(days=n * 7 // 10),
            topic=TOPICS[n % 4],
            before=max(0, n - 1),
            words="Words of the town and of the harbour follow each other here. " * 12,
        )
        (folder / f"posts/{n:05}.md").write_text(text, "utf-8")
    return folder


def once(site_dir: Path, output: Path) -> tuple[float, float, int]:
    """Return the seconds of a cold build and of the lints, and how much these found."""
    site = load_settings(site_dir)
    began = time.process_time()
    scanned = scan_folder(site_dir, site.posts, site.output)
    loaded, drafts = loader.read_every_post(scanned, site, AT)
    replace_output(output, make_outputs(site_dir, site, loaded.posts))
    built = time.process_time()
    found = run_rules(LintContext(site, AT, scanned, loaded, drafts), LintTarget(output))
    return built - began, time.process_time() - built, len(found)


def best(site_dir: Path, scratch: Path) -> tuple[float, float, int]:
    """Return the best of three, each figure for itself."""
    runs = [once(site_dir, scratch / f"{site_dir.name}-{n}") for n in range(3)]
    return min(run[0] for run in runs), min(run[1] for run in runs), runs[0][2]


def table(rows: Iterable[tuple[str, float, float, int]]) -> str:
    """Return a table of the figures, ratios last."""
    lines = [f"{'site':<14}{'build':>10}{'lints':>10}{'ratio':>8}{'findings':>10}"]
    lines += [
        f"{name:<14}{build:>8.3f} s{lints:>8.3f} s{lints / build:>8.2f}{found:>10}"
        for name, build, lints, found in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Time both sites, print the figures, and return 1 if checking takes longer than building."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=1000)
    count = parser.parse_args().posts
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        sites = {"demo": DEMO, f"{count} posts": write(scratch / "many", count)}
        rows = [(title, *best(folder, scratch)) for title, folder in sites.items()]
    sys.stdout.write(f"{table(rows)}\n")
    return int(any(lints >= build for _, build, lints, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
