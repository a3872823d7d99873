"""Who is owed which posts, when, and once: arrivals + bookmarks + clock → letters.

Values in, values out: no clock, no file, no database. The rules and the reasons for them stand in
docs/delivery-rules.md; "rule 7" in this room means that page's.
"""
