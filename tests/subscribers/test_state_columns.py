"""Every column that tells who must not get emails is understood, or stops the import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from postroom.db.store import Store, open_store
from postroom.errors import ContentError
from postroom.models import State
from postroom.subscribers.importer import ImportSummary, ImportTerms
from postroom.subscribers.state_columns import (
    CellError,
    find_meaning,
    find_state_columns,
    is_doubtful,
)
from tests.subscribers.test_importer import CONFIRMED, TERMS, Import, states

# Exports with the columns of each program, with invented people. After the address comes the state
# that an import must give it.
GHOST = """\
id,email,name,note,subscribed_to_emails,email_disabled,complimentary_plan,created_at,deleted_at
1,active@example.net,A,,true,false,false,2026-01-01T09:00:00.000Z,
2,unsubscribed@example.net,B,,true,true,false,2026-01-01T09:00:00.000Z,
3,unsubscribed2@example.net,C,,false,false,false,2026-01-01T09:00:00.000Z,
4,unsubscribed3@example.net,D,,true,,false,2026-01-01T09:00:00.000Z,2026-02-01T09:00:00.000Z
"""
SUBSTACK = """\
email,active_subscription,expiry,plan,email_disabled,created_at,first_payment_at
active@example.net,false,,other,false,2026-01-01T09:00:00.000Z,
unsubscribed@example.net,true,2027-01-01,yearly,true,2026-01-01T09:00:00.000Z,2026-01-01
"""
BREVO = """\
CONTACT ID;EMAIL;FIRSTNAME;SMS;OPT_IN;DOUBLE_OPT-IN;EMAIL_BLACKLISTED;SMS_BLACKLISTED;ADDED_TIME
1;active@example.net;A;;Yes;1;No;Yes;01-01-2026
2;unsubscribed@example.net;B;;Yes;1;Yes;No;01-01-2026
3;pending@example.net;C;;No;2;No;No;01-01-2026
4;active2@example.net;D;;;2;No;No;01-01-2026
"""
BREVO_STATUS = """\
EMAIL,EMAIL_SUBSCRIPTION_STATUS
active@example.net,Subscribed
unsubscribed@example.net,Blocklisted
"""
PHPLIST = """\
email,confirmed,blacklisted,bounceCount,htmlEmail,disabled
active@example.net,1,0,2,1,0
unsubscribed@example.net,1,1,0,1,0
pending@example.net,0,0,0,1,0
unsubscribed2@example.net,1,0,0,1,1
"""
PHPLIST_LONG = """\
email\tIs the email of this subscriber confirmed\tIs this subscriber blacklisted\
\tDid this subscriber manually confirm\tNumber of bounces on this subscriber\
\tIs this account disabled?
active@example.net\t1\t0\t0\t3\t0
unsubscribed@example.net\t1\t1\t1\t0\t0
pending@example.net\t0\t0\t0\t0\t0
unsubscribed2@example.net\t1\t0\t1\t0\t1
"""
MAUTIC = """\
id,firstname,email,doNotContact,dnc_reason
1,A,active@example.net,0,
2,B,unsubscribed@example.net,1,unsubscribed
3,C,bounced@example.net,1,2
4,D,unsubscribed2@example.net,TRUE,3
5,E,active2@example.net,0,0
"""
MAILMAN = """\
email,display_name,delivery_mode,delivery_status
active@example.net,A,regular,enabled
unsubscribed@example.net,B,plaintext_digests,by_user
unsubscribed2@example.net,C,regular,by_moderator
bounced@example.net,D,regular,by_bounces
"""
SENDGRID_BOUNCES = """\
status,reason,email,created
5.1.1,550 5.1.1 no such user,bounced@example.net,2026-01-01 09:00:00
"""
MAILERLITE = """\
Subscriber,Name,Sent,Opens,Clicks,Subscribed,Location,Unsubscribed,Status
active@example.net,A,9,3,1,2026-01-01 09:00:00,Berlin,,Active
unsubscribed@example.net,B,9,0,0,2026-01-01 09:00:00,,2026-02-01 09:00:00,Unsubscribed
bounced@example.net,C,1,0,0,2026-01-01 09:00:00,,,Bounced
pending@example.net,D,0,0,0,2026-01-01 09:00:00,,,Unconfirmed
complained@example.net,E,0,0,0,2026-01-01 09:00:00,,,Junk
"""
KIT = """\
id,first_name,email,state,created_at,tags
1,A,active@example.net,active,2026-01-01 09:00:00 UTC,"Readers,Buyers"
2,B,unsubscribed@example.net,cancelled,2026-01-01 09:00:00 UTC,
3,C,bounced@example.net,bounced,2026-01-01 09:00:00 UTC,
4,D,complained@example.net,complained,2026-01-01 09:00:00 UTC,
5,E,unsubscribed2@example.net,inactive,2026-01-01 09:00:00 UTC,
"""
BEEHIIV = """\
email,status,subscription_tier,created_at,unsubscribed_at,utm_source
active@example.net,active,free,2026-01-01,,
unsubscribed@example.net,inactive,free,2026-01-01,2026-02-01,
bounced@example.net,invalid,free,2026-01-01,,
pending@example.net,pending,free,2026-01-01,,
pending2@example.net,validating,free,2026-01-01,,
"""
LISTMONK = """\
uuid,email,name,attributes,status,created_at,updated_at
1,active@example.net,A,{},enabled,2026-01-01,2026-01-01
2,unsubscribed@example.net,B,{},blocklisted,2026-01-01,2026-01-01
3,unsubscribed2@example.net,C,{},disabled,2026-01-01,2026-01-01
"""
MAILCHIMP = """\
Email Address,MEMBER_RATING,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,CONFIRM_IP,LEID,EUID,NOTES,TAGS
active@example.net,2,2026-01-01 09:00:00,,2026-01-01 09:05:00,,1,a,,
"""
MAILCHIMP_UNSUBSCRIBED = """\
Email Address,OPTIN_TIME,CONFIRM_TIME,UNSUB_TIME,UNSUB_CAMPAIGN_TITLE,UNSUB_CAMPAIGN_ID,\
UNSUB_REASON,UNSUB_REASON_OTHER
unsubscribed@example.net,2026-01-01,2026-01-01,2026-02-01 09:00:00,News,1,NORMAL: too many,
complained@example.net,2026-01-01,2026-01-01,2026-02-01 09:00:00,News,1,ABUSE: reported,
"""
MAILCHIMP_CLEANED = """\
Email Address,OPTIN_TIME,CONFIRM_TIME,CLEAN_TIME,CLEAN_CAMPAIGN_TITLE,CLEAN_CAMPAIGN_ID
bounced@example.net,2026-01-01,2026-01-01,2026-02-01 09:00:00,News,1
"""
BUTTONDOWN = """\
email_address,type,notes,tags,creation_date,unsubscription_date,unsubscription_reason,\
undeliverability_date,undeliverability_reason
active@example.net,regular,,,2026-01-01,,,,
active2@example.net,paused,,,2026-01-01,,,,
unsubscribed@example.net,unsubscribed,,,2026-01-01,2026-02-01,too many,,
bounced@example.net,undeliverable,,,2026-01-01,,,2026-02-01,no such mailbox
complained@example.net,complained,,,2026-01-01,,,,
"""
CRM = """\
Email,HasOptedOutOfEmail,EmailBouncedDate,Email hard bounce reason,Do Not Call,Fax Opt Out
active@example.net,0,,,1,1
unsubscribed@example.net,1,,,0,0
bounced@example.net,0,2026-02-01,,0,0
bounced2@example.net,0,,no such mailbox,0,0
"""
PROGRAMS = {
    name.lower(): text
    for name, text in globals().items()
    if name.isupper() and isinstance(text, str)
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Open the store of an empty database and close it."""
    opened = open_store(None, tmp_path)
    yield opened
    opened.database.close()


def meaning_of(name: str, cell: str) -> State | None:
    """Return the state that a column called `name` with `cell` tells."""
    (column,) = find_state_columns([(0, name)])
    return column.read(cell)


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_exports_of_other_programs_are_understood(store: Store, text: str) -> None:
    """People who get no email from the other program get none from here, also if confirmed."""
    result = Import(store, text, CONFIRMED)
    assert result.remarks == []
    assert result.states == {name: name.rstrip("23") for name in result.states}
    assert len(result.states) == text.count("@example.net")


def test_some_exports_prove_no_consent(store: Store) -> None:
    """Without `--confirmed`, people become active only if a column says that they opted in."""
    for program in ("substack", "mautic", "mailman", "listmonk", "crm"):
        assert "active" not in Import(store, PROGRAMS[program], TERMS).states.values()
    for program in ("ghost", "brevo", "phplist", "mailerlite", "kit", "beehiiv", "buttondown"):
        assert Import(store, PROGRAMS[program], TERMS).states["active"] == "active"


STOPS = [
    ("unsubscribed", "unsubscribed"),
    ("Unsubscribed At", "unsubscribed"),
    ("unsub_date", "unsubscribed"),
    ("Unsubscribed from all email", "unsubscribed"),
    ("emailOptOut", "unsubscribed"),
    ("opt-out", "unsubscribed"),
    ("donotemail", "unsubscribed"),
    ("DO NOT CONTACT", "unsubscribed"),
    ("dnc", "unsubscribed"),
    ("isDnc", "unsubscribed"),
    ("blacklisted", "unsubscribed"),
    ("emailBlacklisted", "unsubscribed"),
    ("block-listed", "unsubscribed"),
    ("email_suppressed", "unsubscribed"),
    ("Suppressed at", "unsubscribed"),
    ("email_disabled", "unsubscribed"),
    ("deleted_at", "unsubscribed"),
    ("Désabonné", "unsubscribed"),
    ("abgemeldet", "unsubscribed"),
    ("bounced", "bounced"),
    ("hard_bounced_at", "bounced"),
    ("isInvalid", "bounced"),
    ("undeliverable", "bounced"),
    ("complained", "complained"),
    ("Marked as spam", "complained"),
]


class TestYes:
    """Columns in which yes or a date tells that somebody gets no emails."""

    @pytest.mark.parametrize(("name", "state"), STOPS)
    def test_yes_and_dates_stop(self, name: str, state: State) -> None:
        """Yes in any spelling and dates in any format tell the state of the column."""
        dates = ["2026-02-01", "2026-02-01T09:00:00.000Z", "1.2.26", "02/01/2026", "Feb 1, 2026"]
        for cell in ["true", "YES", "1", "1.0", "y", "x", "\N{CHECK MARK}", "WAHR", "1769936400"]:
            assert meaning_of(name, cell) == state
        assert [meaning_of(name, cell) for cell in dates] == [state] * len(dates)

    @pytest.mark.parametrize("name", [name for name, _ in STOPS])
    def test_no_and_empty_cells_tell_nothing(self, name: str) -> None:
        """No in any spelling, an empty cell, and the absent date of MySQL tell nothing."""
        for cell in ["", "false", "No", "0", "0.0", "n/a", "NULL", r"\N", "-", "FALSCH", "nan"]:
            assert meaning_of(name, cell) is None
        assert meaning_of(name, "0000-00-00 00:00:00") is None

    @pytest.mark.parametrize("cell", ["maybe", "3", "?", "soft", "the king"])
    def test_another_word_is_an_error_with_line_and_column(self, store: Store, cell: str) -> None:
        """A cell that is not understood is reported with its line and the name of its column."""
        text = f"email,Do not email\na@example.net,no\nb@example.net,{cell}\n"
        result = Import(store, text, CONFIRMED)
        what = f"'{cell}' in column 'Do not email' is neither yes, no nor a date"
        hint = "correct it, or pass --ignore-column 'Do not email' if that column does not tell who"
        assert result.lines == [(3, f"{what}; {hint} gets emails")]
        assert result.states == {"a": "active"}

    def test_one_word_that_stops_is_enough(self, store: Store) -> None:
        """Somebody who stopped by one column has stopped, whatever another column says."""
        text = "email,status,bounced\na@example.net,happy,yes\nb@example.net,unsubscribed,maybe\n"
        assert Import(store, text, CONFIRMED).states == {"a": "bounced", "b": "unsubscribed"}

    @pytest.mark.parametrize("cells", [("yes", "no"), ("no", "yes")])
    def test_of_two_columns_of_one_name_both_count(
        self, store: Store, cells: tuple[str, str]
    ) -> None:
        """A second column of the same name is read, too."""
        text = f"email,unsubscribed,unsubscribed\na@example.net,{','.join(cells)}\n"
        assert Import(store, text, CONFIRMED).states == {"a": "unsubscribed"}


class TestConfirmed:
    """Columns that tell whether somebody confirmed."""

    @pytest.mark.parametrize(
        "name", ["confirmed", "isConfirmed", "Confirmed at", "opt_in", "Email consent", "opted in"]
    )
    def test_yes_is_consent_and_no_outweighs_the_operator(self, store: Store, name: str) -> None:
        """`--confirmed` makes nobody active whom the other program calls unconfirmed."""
        rows = "a@example.net,1\nb@example.net,0\nc@example.net,no\nd@example.net,\n"
        assert Import(store, f"email,{name}\n{rows}", CONFIRMED).states == {
            "a": "active",
            "b": "pending",
            "c": "pending",
            "d": "active",
        }

    def test_an_unconfirmed_row_outweighs_a_state(self, store: Store) -> None:
        """Of `subscribed` and not confirmed, not confirmed counts."""
        text = "email,status,confirmed\na@example.net,subscribed,false\n"
        assert Import(store, text, CONFIRMED).states == {"a": "pending"}


DOUBTFUL = [
    "Unsubscribed lists",
    "soft bounce",
    "Bounces",
    "Emails bounced",
    "bounce_category",
    "blacklistScore",
    "DNC list",
    "doNotDisturb",
    "opt_out_channels",
    "Email Suppressions",
    "Disabled features",
    "complaints",
    "spam_score",
    "deliverability",
    "Email delivery problem",
    "subscription status (old)",
    "lead_status",
    "gdpr_consent",
    "Receiving emails for",
    "Abmeldung/abgemeldet von",
]
HARMLESS = [
    "name",
    "notes",
    "active_subscription",
    "bounce_count",
    "Number of bounces",
    "unsubscribe_url",
    "smsBlacklisted",
    "Do Not Call",
    "delivery_mode",
    "OPTIN_TIME",
    "html_email",
    "Subscription date",
    "Cancel date",
    "State/Province",
]


class TestDoubtful:
    """Columns that may tell who gets no emails, in a way that is not known."""

    @pytest.mark.parametrize("terms", [TERMS, CONFIRMED], ids=["unconfirmed", "confirmed"])
    def test_an_unknown_column_stops_the_import(self, store: Store, terms: ImportTerms) -> None:
        """The error names the column, before consent is looked at, and nothing is imported."""
        for name in DOUBTFUL:
            with pytest.raises(ContentError) as caught:
                Import(store, f"email,{name}\na@example.net,x\n", terms)
            (problem,) = caught.value.problems
            assert problem.line == 1
            assert problem.message.startswith(f"column '{name}' may tell who must not get emails")
            assert f"pass --ignore-column '{name}'" in problem.hint
        assert states(store) == {}

    def test_all_unknown_columns_are_reported_at_once(self, store: Store) -> None:
        """One run names every column that is not understood."""
        with pytest.raises(ContentError) as caught:
            Import(store, f"email,{','.join(DOUBTFUL)}\n", CONFIRMED)
        assert len(caught.value.problems) == len(DOUBTFUL)

    def test_ignored_columns_are_not_read(self, store: Store) -> None:
        """Columns that the operator ignores stop neither the import nor anybody in it."""
        filled = ",yes" * len(DOUBTFUL)
        rows = f"a@example.net,yes{filled}\nb@example.net,no{filled}\n"
        terms = evolve(CONFIRMED, ignored_columns=tuple(map(str.upper, DOUBTFUL)))
        result = Import(store, f"email,unsubscribed,{','.join(DOUBTFUL)}\n{rows}", terms)
        assert result.states == {"a": "unsubscribed", "b": "active"}

    def test_a_known_column_can_be_ignored(self, store: Store) -> None:
        """A column called `state` may be that of a postal address."""
        text = "email,state,status\na@example.net,Oregon,subscribed\n"
        assert Import(store, text, TERMS).summary == ImportSummary(faulty=1)
        ignoring = evolve(TERMS, ignored_columns=("state",))
        assert Import(store, text, ignoring).states == {"a": "active"}

    def test_an_absent_column_cannot_be_ignored(self, store: Store) -> None:
        """A misspelt `--ignore-column` is an error."""
        with pytest.raises(ContentError, match="there is no column 'stat'"):
            Import(store, "email\na@example.net\n", evolve(CONFIRMED, ignored_columns=("stat",)))

    def test_other_columns_are_ignored(self, store: Store) -> None:
        """Columns about other things do not stop an import, and their cells do not matter."""
        text = f"email,{','.join(HARMLESS)}\na@example.net{',yes' * len(HARMLESS)}\n"
        assert Import(store, text, CONFIRMED).states == {"a": "active"}

    @given(
        st.text("qz09 _-", max_size=8),
        st.sampled_from(
            "unsub bounc blacklist block-list opt_out optedOut complain spam suppress disabled"
            " do_not doNot abuse undeliver deliver invalid status consent noEmail abgemeld".split()
        ),
        st.text("qz09 _-", max_size=8),
    )
    def test_no_column_with_such_a_word_is_passed_over(
        self, before: str, word: str, behind: str
    ) -> None:
        """A column with such a word is understood or stops the import, whatever its name is."""
        name = f"{before}{word}{behind}"
        assert find_meaning(name) or is_doubtful(name)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_name_and_cell_are_a_state_or_an_error(name: str, cell: str) -> None:
    """Any text as a name and as a cell gives a state, nothing or `CellError`."""
    for column in find_state_columns([(0, name)]):
        with suppress(CellError):
            assert column.read(cell) in {None, *get_args(State)}
