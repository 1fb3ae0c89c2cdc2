"""The outbox: every parcel once, in order, and no outage loses one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.errors import (
    BadInput,
    LeaseLost,
    ProviderRefused,
    ProviderUnreachable,
    StoreUnavailable,
)
from bot.model.ask import Parcel, StoredParcel
from bot.model.incident import Severity
from bot.model.message import Message, MessageRef
from bot.service.outbox import MAX_REFUSALS, Outbox
from bot.store import SqlStore
from bot.testing import FakeChat, FakeClock, FakeMail

DOWN = ProviderUnreachable("Slack does not answer; it is tried again.")
NO = ProviderRefused("Slack refuses chat.postMessage: invalid_blocks.")
SENT_AS = MessageRef(channel="C1", ts="1.0")
LIMITED = ProviderUnreachable("Slack limits chat.postMessage for 30 s; it is sent then.", 30.0)


class Post:
    """An outbox for chat and one for mail, over an incident that has a channel."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.chat, self.mail = FakeClock(), FakeChat(), FakeMail()
        self.store = SqlStore(f"sqlite:///{folder / 'firedoor.sqlite'}")
        self.store.migrate()
        with self.store.begin() as tx:
            incident = tx.add_incident(
                key="k", title="t", severity=Severity.SEV1, at=self.clock.now()
            )
            tx.save_incident(incident.model_copy(update={"channel": "C1"}))
        self.restart()

    def restart(self) -> None:
        common: dict[str, Any] = {"store": self.store, "clock": self.clock}
        common |= {"chat": self.chat, "mail": self.mail}
        self.outbox = Outbox(kinds=frozenset({"open_channel", "post", "update"}), **common)
        self.mails = Outbox(kinds=frozenset({"email"}), **common)

    def put(self, key: str, *, replace: bool = False, **fields: Any) -> None:
        defaults: dict[str, Any] = {"kind": "post", "message": Message(title=key)}
        parcel = Parcel.model_validate({"key": key, "incident_id": "INC-1"} | defaults | fields)
        with self.store.begin() as tx:
            tx.put_parcel(parcel, self.clock.now(), replace=replace)

    def stored(self, key: str) -> StoredParcel:
        with self.store.read() as tx:
            stored = tx.parcel(key)
        assert stored is not None
        return stored

    def records(self, kind: str) -> list[dict[str, Any]]:
        with self.store.read() as tx:
            return [record.body for record in tx.records(kind=kind)]

    @property
    def posted(self) -> list[str]:
        """Return the titles that the chat holds, oldest first."""
        return [message.title for message in self.chat.messages.values()]


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    post = Post(tmp_path)
    yield post
    post.store.close()


class TestSending:
    def test_parcels_go_out_once_in_order(self, post):
        """
        The order of the journal is the order in the channel.
        """
        for key in ("a", "b", "c"):
            post.put(key)

        assert post.outbox.flush() == 3
        assert post.outbox.flush() == 0
        assert post.posted == ["a", "b", "c"]
        assert [body["key"] for body in post.records("message_sent")] == ["a", "b", "c"]

    def test_the_same_key_is_sent_once(self, post):
        """
        A notice that is queued again after a crash is still one notice.
        """
        post.put("a")
        post.outbox.flush()
        post.put("a")

        assert post.outbox.flush() == 0
        assert post.posted == ["a"]

    def test_a_channel_by_name_is_used_as_it_is(self, post):
        """
        A stakeholder's channel is not the incident's.
        """
        post.put("a", to="#security", audience="security", message=Message(title="Data was read"))
        post.outbox.flush()

        assert post.chat.keys["a"][0].channel == "#security"
        assert post.records("notice_sent") == [
            {
                "key": "a",
                "way": "slack",
                "to": "#security",
                "audience": "security",
                "subject": "Data was read",
            }
        ]

    def test_a_mail_goes_out_once(self, post):
        """
        With its key, from which its Message-ID is made.
        """
        post.put("a", kind="email", to="legal@acme.example", audience="legal")

        assert post.mails.flush() == 1
        assert post.mails.flush() == 0
        assert [(to, key) for to, _, key in post.mail.sent] == [("legal@acme.example", "a")]
        assert post.records("notice_sent")[0]["way"] == "email"

    def test_each_outbox_sends_its_own_kinds(self, post):
        """
        Chat and mail do not send each other's parcels.
        """
        post.put("a", kind="email", to="x@acme.example")

        assert post.outbox.flush() == 0
        assert post.mail.sent == []


class TestIncidentChannel:
    def test_messages_wait_for_the_channel(self, post):
        """
        What belongs into the incident's channel is not sent before there is one.
        """
        with post.store.begin() as tx:
            incident = tx.incident("INC-1")
            tx.save_incident(incident.model_copy(update={"channel": None}))
        post.put("a")
        assert post.outbox.flush() == 0
        assert post.stored("a").status == "pending"

        post.put("INC-1:channel", kind="open_channel", to="inc-1-book")
        post.outbox.flush()
        post.clock.advance(seconds=2)
        post.outbox.flush()

        assert post.posted == ["a"]
        assert post.records("channel_opened") == [{"channel": "C1", "name": "inc-1-book"}]

    def test_an_interrupted_opening_adopts_the_channel(self, post):
        """
        A channel that was made just before a crash is the incident's channel.
        """
        post.put("INC-1:channel", kind="open_channel", to="inc-1-book")
        post.chat.open_channel("inc-1-book", "topic")

        post.outbox.flush()

        assert post.chat.channels == {"inc-1-book": "C1"}


class TestInterrupted:
    def test_a_post_whose_answer_was_lost_is_found_and_not_repeated(self, post):
        """
        Nobody is told twice because a network dropped an answer.
        """
        post.put("a")
        post.chat.lose = 1
        assert post.outbox.flush() == 0

        post.clock.advance(minutes=2)
        assert post.outbox.flush() == 1

        assert post.posted == ["a"]
        assert post.stored("a").ref == post.chat.keys["a"][0]
        assert post.stored("a").status == "sent"

    def test_so_is_one_whose_process_was_killed(self, post):
        """
        A parcel that is found claimed is looked for before it is sent.
        """
        post.put("a")
        with post.store.begin() as tx:
            tx.save_parcel(post.stored("a").model_copy(update={"status": "claimed"}))
        ref = post.chat.post("C1", Message(title="a"), "a")

        post.restart()
        post.outbox.flush()

        assert post.chat.keys["a"] == [ref]

    def test_one_that_never_got_there_is_sent(self, post):
        """
        Claimed and not found means not sent.
        """
        post.put("a")
        with post.store.begin() as tx:
            tx.save_parcel(post.stored("a").model_copy(update={"status": "claimed"}))

        post.outbox.flush()

        assert post.posted == ["a"]

    def test_the_same_key_in_another_channel_is_another_message(self, post):
        """
        It is looked for where it belongs.
        """
        post.put("a")
        post.chat.post("C9", Message(title="elsewhere"), "a")
        with post.store.begin() as tx:
            tx.save_parcel(post.stored("a").model_copy(update={"status": "claimed"}))

        post.outbox.flush()

        assert post.posted == ["elsewhere", "a"]


class TestOutage:
    def test_order_is_kept_over_it(self, post):
        """
        However long it lasts, the oldest is the first to arrive.
        """
        for key in ("a", "b", "c"):
            post.put(key)
        for _ in range(20):
            post.chat.fail = [DOWN] * 5
            post.outbox.flush()
            post.clock.advance(seconds=7)
        post.chat.fail = []
        post.clock.advance(minutes=2)
        post.outbox.flush()

        assert post.posted == ["a", "b", "c"]

    def test_what_comes_in_during_an_outage_waits_its_turn(self, post):
        """
        A newer parcel does not overtake one that is waiting to be tried again.
        """
        post.put("a")
        post.chat.fail = [DOWN]
        post.outbox.flush()
        post.put("b")

        assert post.outbox.flush() == 0
        post.clock.advance(seconds=1)
        assert post.outbox.flush() == 2
        assert post.posted == ["a", "b"]

    def test_a_dead_system_is_not_hammered(self, post):
        """
        A few tries, then a delay that grows, whatever is waiting.
        """
        for number in range(10):
            post.put(f"p{number}")
        tries = []
        for _ in range(600):
            post.chat.fail = [DOWN] * 20
            post.outbox.flush()
            tries.append(20 - len(post.chat.fail))
            post.clock.advance(seconds=0.25)

        assert max(tries) == 2
        assert sum(tries) < 40

    def test_429_delays_everything_by_what_it_says(self, post):
        """
        A limit is on the workspace's patience, not on one parcel.
        """
        for key in ("a", "b"):
            post.put(key)
        post.chat.fail = [LIMITED]
        assert post.outbox.flush() == 0

        post.clock.advance(seconds=29)
        assert post.outbox.flush() == 0
        post.clock.advance(seconds=1)
        assert post.outbox.flush() == 2
        assert post.posted == ["a", "b"]

    def test_one_bad_parcel_does_not_hold_up_the_others(self, post):
        """
        An address that is put off for hours is not an outage of the mail server.
        """
        for key in ("a", "b", "c"):
            post.put(key, kind="email", to=f"{key}@acme.example")
        post.mail.fail = [DOWN]

        assert post.mails.flush() == 2
        assert [key for _, _, key in post.mail.sent] == ["b", "c"]
        post.clock.advance(seconds=1)
        post.mails.flush()
        assert [key for _, _, key in post.mail.sent] == ["b", "c", "a"]

    def test_mail_goes_on_while_chat_is_down(self, post):
        """
        Each way of sending has its own troubles.
        """
        post.put("a")
        post.put("b", kind="email", to="b@acme.example")
        post.chat.fail = [DOWN] * 5

        post.outbox.flush()
        post.mails.flush()

        assert [key for _, _, key in post.mail.sent] == ["b"]
        assert (post.outbox.trouble, post.mails.trouble) == (str(DOWN), "")

    def test_trouble_is_over_with_the_next_that_is_sent(self, post):
        """
        Health says what is wrong now, not what was wrong.
        """
        post.put("a")
        post.chat.fail = [DOWN]
        post.outbox.flush()
        assert post.outbox.trouble

        post.clock.advance(seconds=1)
        post.outbox.flush()

        assert post.outbox.trouble == ""

    def test_outages_are_never_counted_as_refusals(self, post):
        """
        After a day without Slack, everything that was queued is still sent.
        """
        post.put("a")
        for _ in range(50):
            post.chat.fail = [DOWN] * 5
            post.outbox.flush()
            post.clock.advance(minutes=2)
        post.chat.fail = [NO]
        post.outbox.flush()
        assert post.stored("a").status == "claimed"

        post.clock.advance(minutes=2)
        post.outbox.flush()

        assert post.posted == ["a"]


class TestRefusal:
    def test_after_some_it_is_given_up_and_journaled(self, post):
        """
        What Slack will never take is not tried for ever, and the journal says who was not told.
        """
        post.put("a", to="#gone", audience="legal")
        for _ in range(MAX_REFUSALS):
            post.chat.fail = [NO]
            post.outbox.flush()
            post.clock.advance(seconds=2)

        assert post.stored("a").status == "dead"
        assert post.records("notice_failed") == [
            {"key": "a", "to": "#gone", "audience": "legal", "message": str(NO)}
        ]
        assert post.outbox.flush() == 0
        assert post.posted == []

    def test_the_others_go_on_at_once(self, post):
        """
        A refusal is about one parcel.
        """
        for key in ("a", "b"):
            post.put(key)
        post.chat.fail = [NO]

        assert post.outbox.flush() == 1
        assert post.posted == ["b"]

    def test_without_a_chat_it_is_said(self, post):
        """
        Nobody waits for a message that cannot be sent.
        """
        bare = Outbox(
            store=post.store,
            clock=post.clock,
            kinds=frozenset({"post", "email"}),
            chat=None,
            mail=None,
        )
        post.put("a")
        post.put("b", kind="email", to="b@acme.example")
        for _ in range(MAX_REFUSALS):
            bare.flush()
            post.clock.advance(seconds=2)

        messages = [body["message"] for body in post.records("notice_failed")]
        assert ["no chat is configured" in messages[0], "no mail server" in messages[1]] == [
            True,
            True,
        ]


class TestUpdates:
    def test_it_rewrites_the_message_that_was_sent(self, post):
        """
        The live card is one message, however often it changes.
        """
        post.put("card", message=Message(title="old"))
        post.outbox.flush()
        post.put("card:update", kind="update", target_key="card", message=Message(title="new"))

        post.outbox.flush()

        assert post.posted == ["new"]

    def test_it_waits_for_the_message(self, post):
        """
        Nothing is updated that was not sent.
        """
        post.put("card:update", kind="update", target_key="card", message=Message(title="new"))
        assert post.outbox.flush() == 0

        post.put("card", message=Message(title="old"))
        post.outbox.flush()
        post.clock.advance(seconds=2)
        post.outbox.flush()

        assert post.posted == ["new"]

    def test_only_the_newest_is_sent(self, post):
        """
        After an outage a card is brought up to date at once, not step by step.
        """
        post.put("card")
        post.outbox.flush()
        for number in range(5):
            update = Message(title=f"state {number}")
            post.put("card:update", kind="update", target_key="card", message=update, replace=True)

        assert post.outbox.flush() == 1
        assert post.posted == ["state 4"]

    def test_one_that_is_replaced_while_it_is_sent_is_sent_again(self, post):
        """
        The newest state is never lost to one that was on its way.
        """
        post.put("card")
        post.outbox.flush()
        self.update(post, "first")
        real = post.chat.update

        def slow(ref: MessageRef, message: Message) -> None:
            post.chat.update = real
            self.update(post, "second")
            real(ref, message)

        post.chat.update = slow
        post.outbox.flush()
        assert post.posted == ["first"]

        assert post.outbox.flush() == 1
        assert post.posted == ["second"]

    def test_one_that_is_replaced_while_it_is_refused_is_not_given_up(self, post):
        """
        The refusal was of the old content.
        """
        post.put("card")
        post.outbox.flush()
        self.update(post, "first")
        real = post.chat.update

        def refused(ref: MessageRef, message: Message) -> None:
            post.chat.update = real
            self.update(post, "second")
            raise NO

        post.chat.update = refused
        post.outbox.flush()

        assert post.outbox.flush() == 1
        assert post.stored("card:update").refusals == 0

    def test_many_updates_do_not_use_up_its_tries(self, post):
        """
        A card that was updated a hundred times may still be refused once and mended.
        """
        post.put("card")
        post.outbox.flush()
        for number in range(10):
            self.update(post, f"state {number}")
            post.outbox.flush()
        self.update(post, "last")
        post.chat.fail = [NO]
        post.outbox.flush()
        assert post.stored("card:update").status == "claimed"

        post.clock.advance(seconds=2)
        post.outbox.flush()

        assert post.posted == ["last"]
        assert post.records("notice_failed") == []

    def test_an_update_of_what_was_given_up_is_given_up(self, post):
        """
        It does not wait for ever for a message that will never be.
        """
        post.put("card", to="#gone")
        for _ in range(MAX_REFUSALS):
            post.chat.fail = [NO]
            post.outbox.flush()
            post.clock.advance(seconds=2)
        self.update(post, "new")
        for _ in range(MAX_REFUSALS):
            post.outbox.flush()
            post.clock.advance(seconds=2)

        assert post.stored("card:update").status == "dead"

    @staticmethod
    def update(post: Post, title: str) -> None:
        post.put(
            "card:update",
            kind="update",
            target_key="card",
            message=Message(title=title),
            replace=True,
        )


class TestNewsBeforeTheClaim:
    def test_what_replaced_a_listed_update_is_what_is_sent(self, post):
        """
        Its turn may come long after it was listed; the old content must not come back.
        """
        post.put("card")
        post.outbox.flush()
        TestUpdates.update(post, "asked, with buttons")
        before_next_write(post, lambda: TestUpdates.update(post, "closed"))
        post.outbox.flush()
        post.outbox.flush()

        assert post.posted == ["closed"]
        assert post.stored("card:update").parcel.message.title == "closed"

    def test_a_live_message_says_where_the_run_stands_when_it_is_claimed(self, post):
        """
        An event right before the claim is in it.
        """
        said = live(post, ["waits"])
        before_next_write(post, lambda: (said.append("done"), send_again(post)))
        post.outbox.flush()
        post.outbox.flush()

        assert post.posted == ["done"]

    def test_what_was_sent_or_given_up_meanwhile_is_left(self, post):
        """
        Another worker was faster.
        """
        for status in ("sent", "dead"):
            post.put(status)
            changed = post.stored(status).model_copy(update={"status": status})

            def save(changed: StoredParcel = changed) -> None:
                with post.store.begin() as tx:
                    tx.save_parcel(changed)

            before_next_write(post, save)
            assert post.outbox.flush() == 0

        assert post.posted == []


class TestALiveMessageThatCannotBeSent:
    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(BadInput("No runbook."), id="not-composed"),
            pytest.param(ValueError("no state"), id="not-read"),
        ],
    )
    def test_it_is_given_up_after_some_tries_with_a_pause(self, post, error):
        """
        It is not composed each second for ever, and the others go on.
        """
        live(post, [error])
        post.put("a")
        tries = [post.outbox.flush() for _ in range(3)]
        assert tries == [1, 0, 0]
        assert post.stored("INC-1-R1:card:update").refusals == 1
        give_up(post)

        assert post.stored("INC-1-R1:card:update").status == "dead"
        assert len(post.records("notice_failed")) == 1

    def test_each_event_tries_it_anew_and_the_journal_says_it_once(self, post):
        """
        A run of a thousand events must not fill the journal with one trouble.
        """
        live(post, ["waits"], ref=None, first="dead")
        for _ in range(3):
            give_up(post)
            send_again(post)
        give_up(post)

        stored = post.stored("INC-1-R1:card:update")
        assert (stored.status, stored.refusals) == ("dead", MAX_REFUSALS)
        assert "was never sent" in stored.error
        assert len(post.records("notice_failed")) == 1

    def test_an_event_during_a_refusal_has_it_tried_at_once(self, post):
        """
        The refusal was of the old content.
        """
        said = live(post, ["waits"])

        def refused(_ref: MessageRef, _message: Message) -> None:
            del post.chat.update
            said.append("done")
            send_again(post)
            raise NO

        post.chat.update = refused
        post.outbox.flush()

        assert post.outbox.flush() == 1
        assert post.posted == ["done"]
        assert post.stored("INC-1-R1:card:update").refusals == 0


def live(
    post: Post, says: list[Any], ref: MessageRef | None = SENT_AS, first: str = "sent"
) -> list[Any]:
    """Put a run's live message and its update; return what it says, the last of it now."""
    key = "INC-1-R1:card"
    post.put(key, run_id="INC-1-R1")
    with post.store.begin() as tx:
        tx.save_parcel(post.stored(key).model_copy(update={"status": first, "ref": ref}))
    post.put(f"{key}:update", kind="update", run_id="INC-1-R1", target_key=key)

    def compose(_tx: object, _run_id: str) -> Message:
        if isinstance(says[-1], Exception):
            raise says[-1]
        return Message(title=says[-1])

    post.outbox._live = compose
    return says


def send_again(post: Post) -> None:
    with post.store.begin() as tx:
        tx.send_again("INC-1-R1:card:update", post.clock.now())


def give_up(post: Post) -> None:
    for _ in range(MAX_REFUSALS):
        post.outbox.flush()
        post.clock.advance(seconds=2)


def before_next_write(post: Post, say: Callable[[], object]) -> None:
    """Let something else be written right before the next transaction, once."""
    real = post.store.begin

    def begin() -> Any:
        post.store.begin = real
        say()
        return real()

    post.store.begin = begin


class TestStoreUnavailable:
    def test_nothing_is_sent_that_cannot_be_claimed(self, post, monkeypatch):
        """
        What the journal would not know of is not sent.
        """
        post.put("a")

        def full() -> None:
            raise StoreUnavailable("The database is full; nothing more is done until it can.")

        with monkeypatch.context() as patched:
            patched.setattr(post.store, "begin", full)
            with pytest.raises(StoreUnavailable):
                post.outbox.flush()
        assert post.posted == []

        post.outbox.flush()
        assert post.posted == ["a"]


class TestADeadChannel:
    def test_people_are_asked_elsewhere(self, post):
        """
        If the incident's channel can never be made, its messages go where everybody looks.
        """
        with post.store.begin() as tx:
            incident = tx.incident("INC-1")
            tx.save_incident(incident.model_copy(update={"channel": None}))
        post.outbox._fallback_channel = "#incidents"
        post.put("INC-1:channel", kind="open_channel", to="inc-1-book")
        post.put("a")
        for _ in range(3):
            post.chat.fail = [ProviderRefused("restricted_action")]
            post.outbox.flush()
            post.clock.advance(minutes=5)
        post.chat.fail = []
        assert post.stored("INC-1:channel").status == "dead"

        for _ in range(3):
            post.clock.advance(minutes=5)
            post.outbox.flush()

        assert post.posted == ["a"]
        assert post.stored("a").ref.channel == "#incidents"


class TestTwoWorkers:
    """One was stopped while it sent, and another has taken its place."""

    def test_what_another_has_sent_since_is_left_alone(self, post):
        """
        It had found the parcel due, and goes on where it stopped.
        """
        post.put("a")
        with post.store.read() as tx:
            (found,) = tx.due_parcels(post.clock.now(), 10)
        post.outbox.flush()

        assert post.outbox._claim(found.parcel.key) is None
        assert post.posted == ["a"]
        assert post.stored("a").status == "sent"

    def test_nothing_is_sent_once_another_may_be_sending(self, post):
        """
        It is found claimed, and looked for, by whoever sends now.
        """
        post.put("a")

        with pytest.raises(LeaseLost):
            post.outbox.flush(_lost)
        assert post.posted == []
        assert post.stored("a").status == "claimed"

    def test_looking_for_a_message_may_take_longer_than_the_duty_lasts(self, post):
        """
        Right before it is posted again, and not only before it is looked for.
        """
        post.put("a")
        with pytest.raises(LeaseLost):
            post.outbox.flush(_lost)
        asked: list[str] = []
        post.chat.find = lambda _channel, key: asked.append(key)

        def check() -> None:
            if asked:
                _lost()

        with pytest.raises(LeaseLost):
            post.outbox.flush(check)
        assert asked == ["a"]
        assert post.posted == []

    def test_what_another_has_brought_to_its_end_is_not_sent_again(self, post):
        """
        It has posted and was stopped before it could say so; another found the message there.
        """
        post.put("a")
        real = post.chat.post

        def then_another(channel: str, message: Message, key: str) -> MessageRef:
            ref = real(channel, message, key)
            post.chat.post = real
            post.outbox.flush()
            return ref

        post.chat.post = then_another
        post.outbox.flush()
        post.outbox.flush()

        assert post.posted == ["a"]
        assert post.stored("a").status == "sent"
        assert len(post.records("message_sent")) == 1


def _lost() -> None:
    raise LeaseLost("Another worker may be sending.")
