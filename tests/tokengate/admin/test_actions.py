"""Forms of verbs, proposals before what ends or holds, outcomes: as the page gets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from admin_pages import HOSTILE, Page, assert_inert, begun, charge, hidden, transfer, words
from admin_site import Served, served
from callers import ANN, BOB, gates_of, grants
from gated_code import LIMIT
from tiers import in_ci

from tokengate import Gate, IoActor, TokenState, token
from tokengate.admin._principal import Principal
from tokengate.control.messages import ENVELOPE, Change
from tokengate.control.registry._kinds import ALL_VERBS
from tokengate.control.registry._verbs import metas_of

FORMS: Final = [verb for verb, message in ALL_VERBS.items() if issubclass(message, Change) and not message.local]


@token
async def sleep_long(_n: int = 0) -> None:
    await trio.sleep_forever()


class Mailer(IoActor):
    async def send(self) -> None:
        await trio.sleep_forever()


@pytest.fixture
def site() -> Iterator[Served]:
    with served() as opened:
        opened.doors.sessions |= {
            "ann": Principal(f"uid:{ANN}", ANN, login="a"),
            "bob": Principal(f"uid:{BOB}", BOB, login="b"),
            "viewer": attrs.evolve(opened.doors.sessions["own"], rights=frozenset({"view"}), login="v"),
        }
        yield opened


@pytest.fixture
def page(site: Served) -> Iterator[Page]:
    """The page of a gate in which nobody is asked for reasons."""
    with Gate("shop", shutdown=LIMIT) as gate:
        yield Page(site, gate)
        gate.control.terminate("*", force=True, reason="the test is over", break_glass="the test is over")


@in_ci
def test_each_verb_has_a_form_with_a_labelled_field_for_each_argument(page: Page) -> None:
    """What the message declares is in the form, but for the dry run, which is a button."""
    for verb in FORMS:
        form = page.get("/ui/form", verb=verb)
        message: Any = ALL_VERBS[verb]
        for name in {*metas_of(message)} - {*ENVELOPE} | {*message.takes} - {"dry_run"}:
            assert f'<label for="f-{name}">' in form, verb
            assert re.search(rf'<(input|select|textarea)[^>]* id="f-{name}"', form), verb
        assert 'hx-post="/ui/act' in form


@in_ci
def test_a_form_makes_the_arguments_that_were_typed(page: Page) -> None:
    """Numbers, choices, pairs, lines; what is left empty keeps its default."""
    (one,) = begun(sleep_long, tags={"trial": "1"})

    throttled = page.act("throttle", select="operation=sleep_long", rate="10", burst="3", over="reject")
    page.act("retag", select=str(one.id), set="tenant=acme\nplan=a=b", remove="trial\n")

    (row,) = page.gate.control.throttles() or [throttled]
    assert (row.rate, row.burst, row.over, row.concurrency) == (10, 3, "reject", None)
    assert "operation=sleep_long" in words(throttled)
    assert page.gate.control.describe(one.id).row.tags == {"tenant": "acme", "plan": "a=b"}


@in_ci
def test_a_wrong_value_is_told_at_its_field_and_the_form_keeps_what_was_typed(page: Page) -> None:
    """Nothing is done; also for what only the gate can tell."""
    for rate, burst in (("10", "many"), ("never", "2")):
        form = page.act("throttle", select="operation=x", rate=rate, burst=burst, reason=HOSTILE)
        wrong = "burst" if burst == "many" else "rate"
        field = form[form.index(f'<label for="f-{wrong}"') :]
        assert 'role="alert"' in field[: field.index("</div>")]
        assert f'value="{rate}"' in form
        assert f'value="{burst}"' in form
    assert page.gate.control.throttles() == ()


@in_ci
def test_an_error_of_the_gate_is_at_the_top_with_its_remedy(page: Page) -> None:
    """It is in the words of the gate."""
    form = page.act("suspend", name="nobody")

    alert = words(form[form.index('role="alert"') - 20 : form.index('role="alert"') + 400])
    assert "no actor" in alert
    assert "nobody" in alert


@in_ci
def test_a_reversible_act_on_one_token_is_done_at_once_and_the_dialog_closes(page: Page) -> None:
    """Outcomes go to the place where they stay until they are dismissed."""
    (one,) = begun(sleep_long)

    said = page.act("pause", select=str(one.id))

    assert "1 ❚❚ paused" in words(said)
    assert '<hx-partial hx-target="#toasts"' in said
    assert 'data-do="dismiss"' in said
    assert '<hx-partial hx-target="#dialog"></hx-partial>' in said
    assert page.gate.control.describe(one.id).row.state == "paused"


def test_what_ends_or_holds_several_is_proposed_and_apply_acts_on_those_only(page: Page) -> None:
    """Tokens that match and were made after the proposal are untouched."""
    before = begun(sleep_long, 3)

    for verb in ("terminate", "pause"):
        dialog = page.act(verb, select="operation=sleep_long")
        assert f"{verb.capitalize()} 3 tokens" in words(dialog)
    dialog = page.act("terminate", select="operation=sleep_long", reason="too many")
    assert [one.state for one in before] == [TokenState.RUNNING] * 3
    after = begun(sleep_long, 2)
    said = page.apply(dialog)

    assert "3 ■ terminated" in words(said)
    assert [one.state for one in before] == [TokenState.TERMINATED] * 3
    assert [one.state for one in after] == [TokenState.RUNNING] * 2
    again = page.post("/ui/apply", number=hidden(dialog, "number"), digest=hidden(dialog, "digest"))
    assert "applied" in words(again)


@in_ci
def test_the_first_targets_are_shown_with_what_they_are(page: Page) -> None:
    """Six of them, whether they still run or not; and all as ranges."""
    tokens = begun(sleep_long, 9)
    dialog = page.act("terminate", select="operation=sleep_long")
    page.gate.control.terminate([tokens[0].id])

    ids = ", ".join(str(one.id) for one in tokens[:3])
    assert f'<td class="text">{ids}, ...</td>' in page.screen("proposals")
    gone = f"first of them {tokens[0].id} not there {tokens[1].id} sleep_long"
    drawer = page.shows(gone, "/ui/drawer", screen="proposals", open=hidden(dialog, "number"))

    first = re.findall(r'class="piece"><a [^>]*>(\d+)</a>', drawer)
    assert [int(id) for id in first] == [one.id for one in tokens[:6]]
    assert f"{tokens[0].id}-{tokens[-1].id}" in words(drawer)


@in_ci
def test_the_number_of_more_than_ten_must_be_typed(page: Page) -> None:
    """Another one, or none, does nothing, and the proposal stays open."""
    tokens = begun(sleep_long, 11)
    dialog = page.act("terminate", select="operation=sleep_long")

    for typed in ("", "10"):
        refused = page.apply(dialog, typed=typed)
        assert "their number is 11" in words(refused)
    assert all(one.state is TokenState.RUNNING for one in tokens)
    said = page.apply(dialog, typed="11")

    assert "11 ■ terminated" in words(said)


@in_ci
def test_only_the_proposal_that_was_shown_is_applied(page: Page) -> None:
    """The form has its digest; with another one nothing is done."""
    (one,) = begun(sleep_long)
    dialog = page.act("terminate", select=str(one.id))

    refused = page.post("/ui/apply", number=hidden(dialog, "number"), digest="0" * 64)

    assert "is not the one that was shown" in words(refused)
    assert one.state is TokenState.RUNNING


@in_ci
def test_a_proposal_says_what_needs_force_and_the_gate_wants_a_reason(page: Page) -> None:
    """The error is in the dialog, which keeps what was chosen."""
    begun(charge, 2)
    dialog = page.act("terminate", select="operation=charge")

    assert "2 with the guard force" in words(dialog)
    assert re.search(r'<input[^>]* name="reason"[^>]* required', dialog)
    assert not re.search(r'<input[^>]* name="reason"[^>]* required', page.get("/ui/form", verb="terminate", select="1"))
    without = page.apply(dialog, force="on")
    assert "needs a reason" in words(without)
    assert re.search(r'id="f-force"[^>]* checked', without)
    said = page.apply(dialog, force="on", reason="they hang")

    assert "2 ■ terminated" in words(said)


@in_ci
def test_verbs_that_end_what_an_actor_runs_are_proposed_by_its_path(page: Page) -> None:
    """Restart and stop; suspend acts at once."""
    mailer = page.gate.spawn(Mailer, name="mailer")
    path = mailer.path

    dialog = page.act("stop", name="mailer", drain="")
    assert f"Stop {path}" in words(dialog)
    assert path in words(page.screen("proposals"))
    drawer = page.drawer("proposals", hidden(dialog, "number"))
    assert re.search(rf'<a href="/\?[^"]*screen=actors[^"]*">{re.escape(path)}</a>', drawer)
    said = page.act("suspend", name="mailer")
    assert "1 ✓ done" in words(said)
    page.apply(dialog)

    assert mailer.stopped(LIMIT) if hasattr(mailer, "stopped") else not mailer.is_alive()


@in_ci
def test_texts_of_programs_are_inert_in_forms_proposals_and_outcomes(page: Page) -> None:
    """Markup is escaped, and control and bidirectional characters are escapes."""
    (one,) = begun(sleep_long, tags={"tenant": "a"})

    texts = [
        page.get("/ui/form", verb="terminate", select=HOSTILE, reason=HOSTILE),
        page.act("terminate", select=HOSTILE, reason=HOSTILE),
        page.act("terminate", select=str(one.id), reason=HOSTILE),
        page.act("renice", select=str(one.id), priority=HOSTILE),
        page.act("suspend", name=HOSTILE),
    ]
    texts.append(page.apply(texts[2], reason=HOSTILE))

    for text in texts:
        assert_inert(text)
    assert any("&lt;img" in text for text in texts)


@in_ci
def test_who_may_not_gets_greyed_buttons_and_a_refusal(site: Served, page: Page) -> None:
    """A hidden button is no rule: the act is refused, whatever the page shows."""
    viewer = attrs.evolve(page, cookie="viewer")
    (one,) = begun(sleep_long)

    throttles = viewer.get("/ui/screen", screen="throttles")
    refused = viewer.act("terminate", select=str(one.id))

    assert "needs the right &#39;operate&#39;" in throttles
    assert 'hx-get="/ui/form' not in throttles
    assert "right 'terminate'" in words(refused)
    assert one.state is TokenState.RUNNING


def test_another_owner_approves_and_the_proposer_applies(site: Served, tmp_path: Path) -> None:
    """End to end with two sessions: the proposer cannot agree, the other one sees digest and targets, and agrees."""
    file = tmp_path / "tokengate.toml"
    text = grants((f"uid:{ANN} uid:{BOB}", "operator"), (f"uid:{site.doors.sessions['own'].owner}", "admin"))
    with gates_of(file) as open_:
        gate = open_(text)
        ann, bob = Page(site, gate, "ann"), Page(site, gate, "bob")
        (one,) = begun(transfer)

        dialog = ann.act("terminate", select=str(one.id), reason="it hangs")
        number, digest = hidden(dialog, "number"), hidden(dialog, "digest")
        assert "waits for the approval of another person" in words(dialog)
        assert "needs the approval of another person first" in words(ann.apply(dialog, reason="now"))
        own = ann.act("approve", number=number, digest=digest)
        assert "another person must agree" in words(own)

        shown = bob.get("/ui/drawer", screen="proposals", open=number)
        assert digest[:8] in shown
        assert "it hangs" in shown
        assert f"Terminate {1} token" in words(shown)
        assert re.search(rf'tokens</dt><dd>.*href="/\?[^"]*screen=tokens[^"]*&amp;open={one.id}"', shown)
        assert f"{one.id} transfer ● running" in words(shown)
        assert "its digest is another one" in words(bob.act("approve", number=number, digest="0" * 64))
        said = bob.act("approve", number=number, digest=hidden(shown, "digest"), reason="agreed")
        assert "approved" in words(said)
        assert "must apply it" in words(bob.apply(shown, reason="me"))
        again = ann.get("/ui/proposal", number=number)
        assert f"approved by uid:{BOB}" in words(again)
        done = ann.apply(again, reason="agreed with Bob")

        assert "1 ■ terminated" in words(done)
        assert one.state is TokenState.TERMINATED


@in_ci
def test_a_reason_is_required_where_the_gate_will_ask_for_it(site: Served, tmp_path: Path) -> None:
    """In a gate with grants: in the form of a verb that ends something, and when a proposal without one is applied."""
    required = re.compile(r'<input[^>]* name="reason"[^>]* required')
    with gates_of(tmp_path / "tokengate.toml") as open_:
        ann = Page(site, open_(grants((f"uid:{ANN}", "operator"))), "ann")
        begun(sleep_long)

        assert required.search(ann.get("/ui/form", verb="terminate", select="1"))
        assert not required.search(ann.get("/ui/form", verb="pause", select="1"))
        dialog = ann.act("terminate", select="operation=sleep_long")
        assert required.search(dialog)
        assert "needs a reason" in words(ann.apply(dialog))
        with_one = ann.act("terminate", select="operation=sleep_long", reason="it hangs")
        assert not required.search(with_one)
        assert "terminated" in words(ann.apply(with_one))


@in_ci
def test_a_denied_proposal_is_not_applied(page: Page) -> None:
    """The proposer takes it back."""
    (one,) = begun(sleep_long)
    dialog = page.act("terminate", select=str(one.id))

    page.act("deny", number=hidden(dialog, "number"), reason="not now")
    refused = page.apply(dialog)

    assert "denied" in words(refused)
    assert one.state is TokenState.RUNNING


@in_ci
def test_a_get_changes_nothing_and_a_post_from_elsewhere_is_refused(page: Page) -> None:
    """The forms of the page are under the rules of all routes."""
    (one,) = begun(sleep_long)
    query = {"gate": page.name, "verb": "terminate", "select": str(one.id)}
    with page.site.client() as client:
        got = client.get("/ui/act", params=query)
        other = client.post("/ui/act", params=query, data=query, headers={"sec-fetch-site": "cross-site"})

    assert (got.status_code, other.status_code) == (405, 403)
    assert one.state is TokenState.RUNNING
