"""The nouns of a journal in a real browser: generated screens, as those of any plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
from admin_pages import Page
from admin_site import served
from axe import violations
from browsers import browser
from charges import charge
from durable_operations import add, note
from gated_code import LIMIT
from tiers import in_ci

from tokengate import Gate
from tokengate.durable import Journal, Schedule

pytestmark = in_ci


def test_a_dead_letter_is_found_and_retried_with_the_page_alone(tmp_path: Path) -> None:
    """Case 36. By its drawer and a form with a reason; the audit log has it. All screens can be used by everybody."""
    ledger = tmp_path / "ledger"
    journal = Journal(tmp_path / "journal", schedules=[Schedule("nightly", add, (1, 2), cron="30 2 * * *")])
    with served() as site, Gate("shop", plugins=[journal]) as gate:
        page = Page(site, gate)
        with pytest.raises(ValueError, match="no bank"):
            charge.submit(str(ledger), 1).result(LIMIT)
        (dead,) = journal.dead_letters.list()
        note(str(ledger), "bank")
        with browser(site.url, (site.site.cookie, "own")) as window:
            tab = window.page
            for screen, text in (
                ("journals", "last commit"),
                ("durable-tokens", "charges:charge"),
                ("schedules", "30 2 * * * UTC"),
                ("dead-letters", "ValueError"),
            ):
                tab.goto(f"{site.url}/?gate={page.name}&screen={screen}")
                tab.get_by_text(text).first.wait_for()
                assert violations(tab) == [], screen
            tab.get_by_role("link", name=dead.uid).click()
            tab.locator("#drawer footer").get_by_role("button", name="Retry").click()
            assert tab.locator("#f-select").input_value() == dead.uid
            tab.locator("#form [name=reason]").fill("the bank is back")
            tab.locator("#form button.strong").click()
            tab.locator(".outcome").wait_for()

            assert window.errors == []
            assert window.elsewhere == []
        (row,) = journal.rows.tokens(dead.uid)
        assert journal.attach(row.successor).result(LIMIT) == 1
        (record,) = gate.control.audit_records("verb=retry_dead_letter,kind=intent")
        assert record.reason == "the bank is back"
