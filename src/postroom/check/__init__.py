"""Posts, feeds, pages and letters that are already made → what is wrong with them."""

from postroom.check.findings import Finding, Made, findings, graded
from postroom.check.written import Written

__all__ = ["Finding", "Made", "Written", "findings", "graded"]
