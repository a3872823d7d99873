"""The pages of the output → ids and titles that stand twice, and links that lead to nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from attrs import evolve

from postroom.check.survey import Met, Survey
from postroom.check.written import Written
from postroom.errors import Problem

_SERVICE = "list/"
_REPAIRS = {
    "page-language": "write <html lang>",
    "page-title": "let the template fill it",
    "page-heading": "give a page one <h1>, and skip no level below it",
    "page-alt": "describe it, or write alt='' if it adorns",
    "page-empty-link": "let its words say where it leads",
    "page-link": "write the whole address",
}


def page_problems(survey: Survey, written: Written, blamed: Collection[str]) -> Iterator[Problem]:
    """Yield what is wrong with pages; a place in `blamed` is told as the fault of a post."""
    yield from _ids(survey)
    for (rule, what), met in survey.faults.items():
        key = "title" if rule == "page-title" else ""
        yield evolve(_problem(survey, met, what, _REPAIRS[rule], rule), key=key)
    yield from _titles(survey, written)
    if written.site.pages.enabled:
        yield from _links(survey, blamed)


def _problem(survey: Survey, met: Met, what: str, repair: str, rule: str) -> Problem:
    others = f", on {met.pages} pages" if met.pages > 1 else ""
    path = f"{survey.site.output}/{met.page}"
    return Problem(path, what=what + others, repair=repair, rule=rule)


def _ids(survey: Survey) -> Iterator[Problem]:
    for identity, met in survey.twice.items():
        what = f"the id '{identity}' stands twice"
        yield _problem(survey, met, what, "give one of them another", "page-id")


def _titles(survey: Survey, written: Written) -> Iterator[Problem]:
    for title, pages in survey.titles.items():
        if len(pages) == 1 or not title:
            continue
        # Where posts share it, a post is where it can be changed.
        pages.sort(key=lambda page: page not in written.by_page)
        first, second, *more = pages
        others = _source(second, survey, written) + (f" and {len(more)} more" if more else "")
        repair = "give one of them another"
        what = f"is that of {others} too"
        if one := written.by_page.get(first):
            yield written.in_head(one, "title", what, repair, "page-title")
        else:
            path = _source(first, survey, written)
            yield Problem(path, 0, 0, "title", what, repair, "page-title")


def _source(page: str, survey: Survey, written: Written) -> str:
    one = written.by_page.get(page)
    return written.name(one) if one else f"{survey.site.output}/{page}"


def _links(survey: Survey, blamed: Collection[str]) -> Iterator[Problem]:
    for (path, fragment), met in survey.met.items():
        place = f"{path}#{fragment}" if fragment else path
        if place in blamed or path in blamed:
            continue
        if not survey.holds(path):
            if not path.startswith(_SERVICE):
                what = f"a link leads to {path}, which is not there"
                yield _problem(survey, met, what, "correct the template", "page-link")
        elif not survey.has_part(path, fragment):
            what = f"a link leads to #{fragment}, which {path} has not"
            yield _problem(survey, met, what, "correct the template", "page-anchor")
