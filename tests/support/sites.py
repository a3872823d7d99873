"""Sample sites: German, Arabic, Chinese, minimal, and one with difficult content."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

from postroom.cli.main import main
from tests.support.site import AT, ROOT

Files = Mapping[str, str | bytes]

IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNg4M77DwACxQGPpbDPSQAAAABJRU5ErkJggg=="
)

GERMAN: Files = {
    "postroom.yaml": """\
title: Neues aus der Werkstatt
url: https://werkstatt.example/
id: "tag:werkstatt.example,2026:"
language: de
timezone: Europe/Berlin
description: Was wir bauen, was es kostet und wann wir geöffnet haben.
theme: {accent: "#b3261e"}
contact:
  organization: Werkstatt Müller & Söhne
  name: Käthe Groß
  phone: "+49 30 1234567"
  email: post@werkstatt.example
  address: |
    Straße der Einheit 14
    10115 Berlin
  message: https://werkstatt.example/nachricht
digest: {intro: Das war der Monat in unserer Werkstatt.}
""",
    "posts/2026-11-03-preise.md": """\
---
title: Neue Preise ab Januar
id: tag:werkstatt.example,2026:preise
topics: [Preise, Aus der Werkstatt]
authors: [Käthe Groß]
updated: 2026-11-05
---
Ab dem 1. Januar gelten **neue Preise**. Die [Öffnungszeiten](2026-11-17-zeiten.md) bleiben.[^1]

## Was sich ändert

| Leistung | bisher | künftig |
|---|--:|--:|
| Durchsicht | 49 € | 52 € |
| Umbau auf Nabendynamo mit Standlicht | 180 € | 195 € |

> Gute Arbeit hat ihren Preis.

1. Termin vereinbaren
2. Rad abgeben

- [x] Preise gerechnet
- [ ] Schilder gedruckt

![Das neue Schild an der Tür](schild.png)

### Für Händler

```python
def brutto(netto: float) -> float:
    # Der Satz gilt für alle Leistungen.
    return round(netto * 1.19, 2)
```

[^1]: Nur zwischen den Jahren ist geschlossen.
""",
    "posts/schild.png": IMAGE,
    "posts/2026-11-17-zeiten.md": """\
---
title: Öffnungszeiten zum Jahreswechsel
id: tag:werkstatt.example,2026:zeiten
topics: [Aus der Werkstatt]
---
Vom 24. Dezember bis zum 2. Januar bleibt die Werkstatt geschlossen. Danach sind wir wieder da.
""",
    "posts/2026-10-12-lehrling.md": """\
---
title: Ein neuer Lehrling
id: tag:werkstatt.example,2026:lehrling
withdrawn: 2026-11-01
---
Dieser Text steht nirgends mehr.
""",
}

ARABIC: Files = {
    "postroom.yaml": """\
title: أخبار الميناء
url: https://port.example/
id: "tag:port.example,2026:"
language: ar
timezone: Asia/Dubai
description: أخبار الأرصفة والسفن ومواعيد العمل.
theme: {accent: "#1a4fa0"}
contact:
  organization: Example Port Authority
  name: ليلى حداد
  phone: "+971 4 123 4567"
  tel: "+971 4 123 4568"
  email: news@port.example
  address: |
    14 Quayside Row
    Example Harbour
  message: mailto:news@port.example
digest: {intro: هذا ما نشرناه منذ رسالتنا الأخيرة.}
""",
    "posts/2026-11-04-berth.md": """\
---
title: افتتاح الرصيف الجديد في الميناء
id: tag:port.example,2026:berth
summary: الرصيف رقم 7 يستقبل أولى سفنه هذا الأسبوع، وتبقى مواعيد العمل كما هي حتى نهاية العام.
topics: [أخبار الميناء, مواعيد]
authors: [ليلى حداد]
---
افتُتح **الرصيف رقم 7** هذا الأسبوع. للاستفسار اتصلوا بالرقم [‎+971 4 123 4567](tel:+97141234567).

## المواعيد

| اليوم | من | إلى |
|---|---|---|
| الاثنين | 08:00 | 17:00 |
| الجمعة | 08:00 | 12:00 |

- سفن الحاويات من الشمال
- سفن الركاب، ومنها *Example Star*

> نرحب بكم جميعًا.

1. سجّلوا الوصول عبر [صفحة الخدمات](https://services.example/arrivals)
2. انتظروا التأكيد
""",
    "posts/2026-11-18-hours.md": """\
---
title: مواعيد العمل في نهاية العام
id: tag:port.example,2026:hours
topics: [مواعيد]
---
يغلق مكتب الاستقبال أبوابه في الأول من يناير ويعود إلى العمل في اليوم التالي.
""",
    "posts/2026-11-20-notice.md": """\
---
title: Notice to foreign vessels
id: tag:port.example,2026:notice
lang: en
topics: [مواعيد]
---
Vessels that come from abroad report to the pilot station (channel 12) two hours before arrival.
""",
}

CHINESE: Files = {
    "postroom.yaml": """\
title: 示例港口新闻
url: https://harbour.example/
id: "tag:harbour.example,2026:"
language: zh-Hans
timezone: Asia/Shanghai
contact: {name: 王小明, phone: "+86 21 1234 5678", address: 示例市港口路十四号}
""",
    "posts/2026-11-04-berth.md": """\
---
title: 港口新泊位启用
id: tag:harbour.example,2026:berth
---
本周七号泊位正式启用并迎来第一批船只、办公时间在年底之前保持不变、请各位船东提前两小时联系引航站并准备好所有文件。
到港登记可以通过服务页面完成、完成登记以后请等待确认、如有疑问请致电办公室或者发送邮件、我们会在一个工作日之内答复。
""",
}

BARE: Files = {
    "postroom.yaml": """\
title: News
url: https://bare.example/
id: "tag:bare.example,2026:"
language: en
timezone: UTC
""",
    "posts/2026-11-04-a.md": "---\nid: tag:bare.example,2026:a\n---\n# A title is all there is\n",
}

LONG_WORD = "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz"
TITLE_OF_120 = (
    "The board of Example Company International has decided to move its offices, its stores and "
    "its workshops to Example Town"
)

STRESS: Files = {
    "postroom.yaml": """\
title: The International Example Company's News for Partners, Press & "Friends" <worldwide>
url: https://news.example.com/company/
id: "tag:news.example.com,2026:"
language: en-GB
timezone: Europe/London
theme: {accent: "#ffee00", font: "Georgia, 'Times New Roman'"}
contact:
  organization: شركة المثال للتجارة & Example Company (International) Holdings Limited
  name: Dr. Maximiliane-Alexandra Featherstonehaugh-Cholmondeley
  phone: "+44 (0) 20 7946 0000"
  email: a.very.long.address.of.the.press.office@news.department.example.com
  address: |
    c/o Example Services, Building <B>, 14th floor
    14 Quayside Row & Partners
    Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch
    United Kingdom
  message: /list/message
digest: {every: week, intro: "Everything of the week, for everyone & everywhere."}
""",
    "posts/2026-11-09-one.md": f"""\
---
title: {TITLE_OF_120}
id: tag:news.example.com,2026:one
topics: [A topic with quite a long name that wraps on a phone, Company news, Market, Policy]
---
Short.
""",
    "posts/2026-11-10-two.md": f"""\
---
title: {LONG_WORD}
id: tag:news.example.com,2026:two
lang: de
summary: {LONG_WORD} und {LONG_WORD}
---
""",
    "posts/2026-11-11-three.md": """\
---
title: 🧲🎉 Magnets & <more> "magnets" 👩‍🔬 🇪🇺
id: tag:news.example.com,2026:three
---
🧲 Emoji in a text of few words.
""",
    "posts/2026-11-12-four.md": """\
---
title: افتتاح الرصيف الجديد (2026) في Example Town
id: tag:news.example.com,2026:four
lang: ar
---
افتُتح الرصيف الجديد رقم 7 في Example Town، والهاتف ‎+44 20 7946 0000.
""",
    "posts/2026-11-13-five.md": """\
---
title: A withdrawn post
id: tag:news.example.com,2026:five
withdrawn: 2026-11-20
---
This text stands nowhere.
""",
    "posts/2026-11-17-whole.md": f"""\
---
title: One post with everything in it
id: tag:news.example.com,2026:whole
summary: Tables, code, lists, quotations, notes, pictures and links, all of them in one post.
---
# A heading of the first level

Words with *emphasis*, `code` and [a link](https://target.example/?a=1&b=2#part), also to
<mailto:press@example.com>, to [a phone](tel:+442079460000) and [another post](2026-11-09-one.md).

[![A picture that links](picture.png)](https://linked.example/) ![A picture alone](picture.png)

## {LONG_WORD}

- One
  1. One and a half
     > quoted in a list
- [x] Done
- [ ] To do

| A | table | with | many | columns | and | {LONG_WORD} |
|---|:-:|--:|---|---|---|---|
| 1 | 2 | 3 | 4 | 5 | 6 | [in a cell](https://cell.example/) |

```
{"a line of code " * 12}
```

> A quotation, with a note.[^note]

<details><summary>More of it</summary><p>Hidden words.</p></details>

<iframe src="https://video.example/1" title="A film"></iframe>
<script>alert(1)</script><form action="https://evil.example/"><input name="a"></form>
<p style="position: fixed; background-image: url(https://evil.example/a.png)">Styled</p>
<p onclick="alert(1)">Clicked</p>

[^note]: The note, with [its source](https://source.example/).
""",
    "posts/picture.png": IMAGE,
}


def write(folder: Path, files: Files) -> Path:
    """Write the files of a site and return its folder."""
    for name, contents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder by its path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def build(site_dir: Path, output: Path) -> Path:
    """Build a site with a fixed current time and return the output folder."""
    with chdir(site_dir):
        code = main(["build", "--at", AT.isoformat(), "--output", str(output)])
    if code:
        raise RuntimeError(f"{site_dir} does not build")
    return output


def write_all(folder: Path) -> dict[str, Path]:
    """Write every sample site; return their folders and that of the demonstration by name."""
    files = {"german": GERMAN, "arabic": ARABIC, "chinese": CHINESE, "bare": BARE, "stress": STRESS}
    return {"demo": ROOT} | {name: write(folder / name, these) for name, these in files.items()}
