"""What is said on a fleet's streams, without a network."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from actions.gateway.adapters.envoy.reports import Refusal
from actions.gateway.adapters.envoy.streams import (
    MAX_TEXT,
    Request,
    Routes,
    Stream,
    Streams,
    cleaned,
)

CLUSTERS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def routes(version: str, number: int = 1, name: str = "edge") -> Routes:
    return Routes(stamp=(number, number), version=version, name=name, body=version.encode())


@dataclass
class Peer:
    """A node's end of one stream, and what came out of it."""

    streams: Streams
    node: str = "edge-1"
    names: tuple[str, ...] = ("edge",)
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = Stream(peer="there", wake=lambda: None, end=self.ended.append)

    def says(self, **fields: object) -> str | None:
        usual: dict[str, object] = {"node": self.node, "names": self.names}
        return self.streams.take(self.stream, Request(**{**usual, **fields}))  # type: ignore[arg-type]

    def gets(self) -> tuple[str, str] | None:
        """Return version and nonce of what it is sent, if anything is."""
        due = self.streams.due(self.stream)
        return None if due is None else (due[0].version, due[1])

    def takes(self) -> str:
        """Acknowledge what it is sent; return its version."""
        version, nonce = self.gets() or ("", "")
        assert self.says(version=version, nonce=nonce) is None
        return version

    def refuses(self, why: str = "no good", kept: str = "") -> None:
        _, nonce = self.gets() or ("", "")
        assert self.says(version=kept, nonce=nonce, refusal=why) is None


@pytest.fixture
def before() -> list[Routes]:
    """What can be gone back to: the last of these."""
    return []


@pytest.fixture
def streams(before: list[Routes]) -> Streams:
    made = Streams(lambda: before[-1] if before else None)
    made.offer(routes("v1"))
    return made


def joined(streams: Streams, node: str = "edge-1") -> Peer:
    peer = Peer(streams, node)
    assert peer.says() is None
    return peer


class TestOneIdOfSeveralNodes:
    def test_they_are_found_by_taking_each_others_streams(self) -> None:
        """
        Only one of them is known at a time: what it has says nothing of the others.
        """
        moment = [0.0]
        streams = Streams(lambda: None, now_s=lambda: moment[0])
        streams.offer(routes("v1"))
        for _ in range(3):
            joined(streams).takes()
            moment[0] += 10.0
        assert streams.report().lacking("v1", ()) == {}

        joined(streams).takes()

        (said,) = streams.report().lacking("v1", ()).values()
        assert said == "is the id of several nodes: give each its own"
        moment[0] += 121.0
        assert streams.report().lacking("v1", ()) == {}

    def test_one_that_comes_back_after_a_break_is_one(self, streams: Streams) -> None:
        """
        Its earlier stream may not have ended yet.
        """
        for _ in range(2):
            joined(streams).takes()

        assert streams.report().lacking("v1", ("edge-1",)) == {}


class TestPush:
    def test_node_gets_the_routes_once(self, streams: Streams) -> None:
        """
        A node that asks is sent the routes; once it has acknowledged them it owes nothing, and is
        not sent them again.
        """
        peer = joined(streams)
        assert streams.owing()

        assert peer.takes() == "v1"

        assert not streams.owing()
        assert peer.gets() is None
        assert streams.report().nodes["edge-1"].version == "v1"

    def test_sent_is_not_taken(self, streams: Streams) -> None:
        """
        What was sent counts only once the node says that it took it.
        """
        peer = joined(streams)
        peer.gets()

        assert streams.owing()
        assert streams.report().nodes["edge-1"].version == ""

    def test_new_routes_go_to_every_node(self, streams: Streams) -> None:
        """
        A new writing makes every node owe an answer, until the last one has given it.
        """
        one, two = joined(streams), joined(streams, "edge-2")
        one.takes()
        two.takes()

        streams.offer(routes("v2", 2))

        assert one.takes() == "v2"
        assert streams.owing()
        assert two.takes() == "v2"
        assert not streams.owing()
        assert streams.report().stamp == (2, 2)

    def test_answer_to_what_was_superseded_is_none(self, streams: Streams) -> None:
        """
        An acknowledgement under an old nonce says nothing about what was sent since.
        """
        peer = joined(streams)
        version, nonce = peer.gets() or ("", "")
        streams.offer(routes("v2", 2))
        peer.gets()

        assert peer.says(version=version, nonce=nonce) is None

        assert streams.owing()
        assert streams.report().nodes["edge-1"].version == ""

    def test_other_kinds_of_resource_get_no_answer(self, streams: Streams) -> None:
        """
        A node that asks for clusters too is here, and is sent routes only when it asks for those.
        """
        peer = Peer(streams)
        assert peer.says(type_url=CLUSTERS, names=()) is None
        assert peer.gets() is None
        assert "edge-1" in streams.report().nodes

        peer.says()

        assert peer.takes() == "v1"

    def test_node_that_asks_for_other_routes_is_told_of(self, streams: Streams) -> None:
        """
        A misspelt name is not waited for, nor passed over.
        """
        peer = Peer(streams, names=("egde",))
        peer.says()

        assert peer.gets() is None
        assert not streams.owing()
        assert streams.report().lacking("v1", ()) == {"edge-1": "asks for routes egde, not edge"}

    def test_who_asks_anew_gets_the_routes_anew(self, streams: Streams) -> None:
        """
        A node that gave its routes up has none any more.
        """
        peer = joined(streams)
        version, nonce = peer.gets() or ("", "")
        peer.says(version=version, nonce=nonce)
        peer.says(version=version, nonce=nonce, names=())
        assert peer.gets() is None

        peer.says(version=version, nonce=nonce)

        assert peer.takes() == "v1"


class TestRefusal:
    def test_everybody_goes_back(self, streams: Streams, before: list[Routes]) -> None:
        """
        Routes on trial that one node refuses are taken back from those that took them.
        """
        one, two = joined(streams), joined(streams, "edge-2")
        one.takes()
        two.takes()
        before.append(routes("v1"))
        streams.offer(routes("v2", 2))
        assert one.takes() == "v2"

        two.refuses("bad regex", kept="v1")

        assert one.takes() == "v1"
        assert two.takes() == "v1"
        report = streams.report()
        assert {node.version for node in report.nodes.values()} == {"v1"}
        assert report.refused("v2") == {"edge-2": "bad regex"}
        assert report.refused("v1") == {}

    def test_all_that_refuse_are_named(self, streams: Streams, before: list[Routes]) -> None:
        """
        A refusal that arrives after the routes before were sent is still told of.
        """
        one, two = joined(streams), joined(streams, "edge-2")
        before.append(routes("v0"))
        _, nonce = two.gets() or ("", "")
        one.refuses()
        assert two.gets() == ("v0", "2")

        two.says(nonce=nonce, refusal="no good either")

        assert streams.report().refused("v1") == {"edge-1": "no good", "edge-2": "no good either"}
        assert streams.owing()

    def test_what_was_accepted_stays(self, streams: Streams) -> None:
        """
        A node that refuses later than all others took it takes nothing away from them.
        """
        one = joined(streams)
        one.takes()

        two = joined(streams, "edge-2")
        two.refuses()

        assert one.gets() is None
        assert not streams.owing()
        assert streams.report().refusals == {"edge-2": Refusal("v1", "no good")}

    def test_second_trial_is_a_new_one(self, streams: Streams, before: list[Routes]) -> None:
        """
        What was refused once may be taken when it is written again.
        """
        peer = joined(streams)
        before.append(routes("v0"))
        peer.refuses()
        peer.takes()
        streams.offer(routes("v0", 2))

        streams.offer(routes("v1", 3))

        assert streams.report().refused("v1") == {}
        assert peer.takes() == "v1"

    def test_words_of_a_node_are_one_short_line(self, streams: Streams) -> None:
        """
        What a node says goes into messages and logs, so it can break neither.
        """
        joined(streams).refuses("a\nb\x1b[31m\r\x00c\u202e" + "x" * 1000)

        why = streams.report().refused("v1")["edge-1"]
        assert why.startswith("a b [31m c x")
        assert why.isprintable()
        assert len(why) == MAX_TEXT + 1


class TestProtocol:
    @pytest.mark.parametrize("node", ["", "\x00\n"])
    def test_node_without_a_name(self, streams: Streams, node: str) -> None:
        """
        Who does not say which node it is is none.
        """
        assert "no node" in str(Peer(streams, node).says())
        assert streams.report().nodes == {}

    def test_acknowledged_is_only_what_was_sent(self, streams: Streams) -> None:
        """
        A version that nobody sent is no answer.
        """
        peer = joined(streams)
        _, nonce = peer.gets() or ("", "")

        assert "was not sent" in str(peer.says(version="v9", nonce=nonce))

        assert streams.report().nodes["edge-1"].version == ""

    def test_nonce_of_an_earlier_stream_is_stale(self, streams: Streams) -> None:
        """
        Nonces are of one stream; another's says nothing here.
        """
        peer = Peer(streams)

        assert peer.says(version="v1", nonce="1") is None

        assert streams.report().nodes["edge-1"].version == ""


class TestConnections:
    def test_second_stream_takes_the_place_of_the_first(self, streams: Streams) -> None:
        """
        A node has one stream: its last. The end of the first does not end the second.
        """
        first = joined(streams)
        first.takes()

        second = joined(streams)
        streams.leave(first.stream)

        assert len(first.ended) == 1
        assert "edge-1" in first.ended[0]
        assert second.ended == []
        assert second.takes() == "v1"
        assert list(streams.report().nodes) == ["edge-1"]

    def test_node_brings_its_version_along(self, streams: Streams) -> None:
        """
        After a cut the node says what it has in force, before it is sent anything.
        """
        peer = Peer(streams)

        peer.says(version="v0")

        assert streams.report().nodes["edge-1"].version == "v0"
        assert peer.takes() == "v1"

    def test_node_that_left_owes_nothing(self, streams: Streams) -> None:
        """
        An answer is waited for only while there is somebody to give it.
        """
        peer = joined(streams)

        streams.leave(peer.stream)

        assert not streams.owing()
        assert streams.report().lacking("v1", ("edge-1",)) == {"edge-1": "is not connected"}

    def test_nodes_of_before_a_restart_are_waited_for(self) -> None:
        """
        Right after its start the control plane knows that there are nodes that are not back yet.
        """
        streams = Streams(lambda: None, awaited=("edge-1", "edge-2"))
        streams.offer(routes("v1"))

        joined(streams).takes()

        assert streams.owing()
        assert list(streams.report().lacking("v1", ())) == ["edge-2"]
        streams.give_up_waiting()
        assert not streams.owing()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("edge-1", "edge-1"), ("a\tb\n\nc", "a b c"), ("\x00", ""), ("é…", "é…")],
)
def test_cleaned(text: str, expected: str) -> None:
    """
    Text of a node's own is one line, without what a terminal would obey.
    """
    assert cleaned(text) == expected
