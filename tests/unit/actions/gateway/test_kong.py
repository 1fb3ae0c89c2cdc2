"""The adapter of Kong against a stand-in of its Admin API: what goes over the wire, and what
happens when something goes wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actions.gateway.adapters.kong import state as kong_state
from bot.action import Writing
from bot.errors import ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind, subject
from tests.gateways.standins.kong import KongStandIn
from tests.gateways.standins.server import Response

ORDER = "/api/orders/{order_id}"
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path=ORDER)
LIMIT = Control(kind=ControlKind.THROTTLE, method="GET", path=ORDER, rate_per_s=2.0)
OTHER = Control(kind=ControlKind.CLOSE, method="GET", path="/api/customers/me")


def by_key(name: str, kind: ControlKind = ControlKind.BLOCK) -> Control:
    principal = Principal(kind=PrincipalKind.API_KEY, value=name)
    return Control(kind=kind, method="GET", path=ORDER, principals=(principal,))


@pytest.fixture
def kong(tmp_path: Path) -> Iterator[KongStandIn]:
    kong = KongStandIn(tmp_path)
    yield kong
    kong.close()


def writes(kong: KongStandIn) -> list[tuple[str, str]]:
    return [(call.method, call.path[0]) for call in kong.api.calls if call.is_write]


class TestWire:
    def test_only_what_is_firedoors_is_written(self, kong: KongStandIn) -> None:
        """
        Every write is a PUT or DELETE of one object with an identifier of Firedoor's; nothing of
        the operator's is touched.
        """
        theirs = {id_ for table in kong.api.tables.values() for id_ in table}

        kong.gateway.converge([CLOSE, LIMIT, OTHER])
        kong.gateway.converge(())

        for call in kong.api.calls:
            if call.is_write:
                assert call.method in ("PUT", "DELETE")
                assert len(call.path) == 2
                assert call.path[1] not in theirs

    def test_closed_endpoints_come_first_and_the_version_last(self, kong: KongStandIn) -> None:
        """
        What must be shut is shut before anything else, and the version says so only afterwards.
        """
        kong.gateway.converge([LIMIT, OTHER])

        puts = [call for call in kong.api.calls if call.method == "PUT"]
        routes = [call.body for call in puts if call.path[0] == "routes"]
        assert "customers" in routes[0]["paths"][0]
        assert any("firedoor-version" in tag for tag in puts[-1].body["tags"])
        assert not any("firedoor-version" in tag for tag in puts[0].body["tags"])

    def test_overlay_serves_only_with_its_plugins(self, kong: KongStandIn) -> None:
        """
        A route that lets requests on is parked, gets its plugins, and only then its place.
        """
        kong.gateway.converge([LIMIT])

        puts = [call for call in kong.api.calls if call.method == "PUT"][1:-1]
        kinds = [call.path[0] for call in puts]
        assert kinds == ["routes", *["plugins"] * (len(puts) - 2), "routes"]
        assert puts[0].body["hosts"][0].endswith(".firedoor.invalid")
        assert puts[-1].body["hosts"] == ["api.example.com"]

    def test_stricter_one_is_there_before_the_other_goes(self, kong: KongStandIn) -> None:
        """
        From throttled to closed there is no moment without either.
        """
        kong.gateway.converge([LIMIT])
        kong.api.calls.clear()

        kong.gateway.converge([CLOSE])

        methods = [method for method, _ in writes(kong)]
        assert "DELETE" in methods
        assert methods == sorted(methods, key=["PUT", "DELETE"].index)

    def test_all_pages_are_read(self, kong: KongStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A large Kong answers in pages; a control is found on the last of them.
        """
        monkeypatch.setattr(kong_state, "PAGE_SIZE", 4)
        for number in range(2):
            kong.api.made("routes", name=f"r{number}", hosts=[f"h{number}"], paths=["/api"])
        version = kong.gateway.converge([CLOSE])

        assert kong.gateway.observe() == version
        assert any(call.query.get("offset") for call in kong.api.calls)
        hosts = {h for row in kong.api.own("routes") for h in row["hosts"] or []}
        assert {f"h{number}" for number in range(2)} <= hosts

    def test_endless_pages_end(self, kong: KongStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A server that always has one more page is not asked for ever.
        """
        monkeypatch.setattr(kong_state, "MAX_PAGES", 5)
        kong.api.instead = [None, *[Response(200, {"data": [], "offset": "x"})] * 20]
        with pytest.raises(ProviderUnreachable):
            kong.gateway.observe()
        assert len(kong.api.calls) == 6


class TestSupport:
    def test_what_kong_cannot(self, kong: KongStandIn) -> None:
        """
        Claims and shadows are declined with a nearer rung; a limit is called approximate.
        """
        claim = Control(
            kind=ControlKind.BLOCK, method="GET", path=ORDER, principals=(subject("c-1"),)
        )
        shadow = Control(kind=ControlKind.SHADOW, method="GET", path=ORDER, would=ControlKind.CLOSE)
        for control in (claim, shadow):
            assert not kong.gateway.supports(control).ok
            assert kong.gateway.supports(control).nearest is ControlKind.THROTTLE
        assert kong.gateway.supports(LIMIT).best_effort

    def test_keys_need_the_operators_word(self, kong: KongStandIn) -> None:
        """
        Nobody is taken for a consumer unless the operator says that Kong checks who is one.
        """
        assert kong.gateway.supports(by_key("partner-7")).ok
        assert not kong.adapter(consumers=False).supports(by_key("partner-7")).ok

    def test_either_address_or_key_cannot_be_let_through(self, kong: KongStandIn) -> None:
        """
        One list of addresses and keys would let through only who is both.
        """
        principals = (
            Principal(kind=PrincipalKind.IP, value="10.0.0.0/8"),
            Principal(kind=PrincipalKind.API_KEY, value="partner-7"),
        )
        mixed = Control(
            kind=ControlKind.ALLOW_ONLY, method="GET", path=ORDER, principals=principals
        )
        support = kong.gateway.supports(mixed)
        assert (support.ok, support.nearest) == (False, ControlKind.CLOSE)
        assert kong.gateway.supports(mixed.model_copy(update={"kind": ControlKind.BLOCK})).ok

    def test_consumer_that_is_not_there(self, kong: KongStandIn) -> None:
        """
        A name that Kong does not know would block nobody, so it is refused.
        """
        with pytest.raises(ProviderRefused, match="no consumer named 'partner-9'"):
            kong.gateway.converge([by_key("partner-9")])
        assert writes(kong) == []

    def test_hostile_name_is_one_part_of_the_path(self, kong: KongStandIn) -> None:
        """
        A name cannot reach another object of the API.
        """
        with pytest.raises(ProviderRefused):
            kong.gateway.converge([by_key("../routes?x=1#y")])
        assert kong.api.calls[-1].path == ("consumers", "../routes?x=1#y")

    def test_allowed_by_key(self, kong: KongStandIn) -> None:
        """
        A consumer's plugins are bound to the consumer that Kong knows by that name.
        """
        kong.gateway.converge([by_key("partner-7", ControlKind.ALLOW_ONLY)])
        (consumer,) = kong.api.tables["consumers"]
        bound = [p for p in kong.api.own("plugins") if p["consumer"] == {"id": consumer}]
        assert [p["name"] for p in bound] == ["request-termination"]


class TestOtherHands:
    def test_change_of_the_operators_is_taken_along(self, kong: KongStandIn) -> None:
        """
        An overlay is made anew when what it was copied from changes, and nobody is told of an
        edit.
        """
        version = kong.gateway.converge([LIMIT])
        (auth,) = [p for p in kong.api.tables["plugins"].values() if p["name"] == "key-auth"][:1]
        kong.api.changed("plugins", auth["id"], config={"key_names": ["x-key"]})
        assert kong.gateway.observe() == f"{version}, outdated"

        told = list[str]()
        assert kong.gateway.converge([LIMIT], Writing(displaced=told.append)) == version

        copies = [p for p in kong.api.own("plugins") if p["name"] == "key-auth"]
        assert [p["config"]["key_names"] for p in copies] == [["x-key"]]
        assert told == []

    def test_new_route_of_the_operators_is_covered(self, kong: KongStandIn) -> None:
        """
        A route that would serve a closed endpoint by another host gets its overlay in the next
        round.
        """
        version = kong.gateway.converge([CLOSE])
        kong.api.made("routes", name="new", hosts=["new.example.com"], paths=["/api"])
        assert kong.gateway.observe() != version

        kong.gateway.converge([CLOSE])

        assert any(row["hosts"] == ["new.example.com"] for row in kong.api.own("routes"))

    @pytest.mark.parametrize(
        "edit",
        [
            lambda api: api.removed("routes", api.own("routes")[0]["id"]),
            lambda api: api.removed("plugins", api.own("plugins")[0]["id"]),
            lambda api: api.changed("routes", api.own("routes")[0]["id"], tags=[]),
            lambda api: api.changed("routes", api.own("routes")[0]["id"], name="mine"),
            lambda api: api.changed("routes", api.own("routes")[0]["id"], paths=["/x"]),
            lambda api: api.changed("routes", api.own("routes")[0]["id"], snis=["x"]),
            lambda api: api.changed("services", api.own("services")[0]["id"], host="h"),
            lambda api: api.changed("services", api.own("services")[0]["id"], path="/p"),
            lambda api: api.made(
                "plugins", name="key-auth", route={"id": api.own("routes")[0]["id"]}
            ),
        ],
        ids=["route", "plugin", "tags", "name", "path", "sni", "host", "service path", "added"],
    )
    def test_every_edit_is_seen_replaced_and_kept(
        self, kong: KongStandIn, tmp_path: Path, edit: Any
    ) -> None:
        """
        Whatever another hand does to Firedoor's part makes another version, is undone, told, and
        can be read afterwards.
        """
        version = kong.gateway.converge([CLOSE])
        exported = kong.export()
        edit(kong.api)
        assert kong.gateway.observe() != version

        told = list[str]()
        kong.gateway.converge([CLOSE], Writing(displaced=told.append))

        assert kong.gateway.observe() == version
        assert kong.export() == exported
        (sentence,) = told
        (kept,) = (tmp_path / "aside").glob("kong.json.other-*")
        assert str(kept) in sentence
        assert kept.stat().st_mode & 0o077 == 0

    def test_copy_of_ours_is_theirs(self, kong: KongStandIn) -> None:
        """
        A route that an operator made from one of Firedoor's, tags and all, is left alone.
        """
        kong.gateway.converge([CLOSE])
        body = {k: v for k, v in kong.api.own("routes")[0].items() if k not in ("id", "name")}
        del body["created_at"], body["updated_at"]
        copy = kong.api.made("routes", name="mine", **body)

        kong.gateway.converge(())

        assert copy["id"] in kong.api.tables["routes"]

    def test_other_gateways_objects_are_theirs(self, kong: KongStandIn) -> None:
        """
        Two gateways of Firedoor's in one Kong do not see each other's controls.
        """
        other = kong.adapter(name="second")
        kong.gateway.converge([CLOSE])
        other.converge([OTHER])

        kong.gateway.converge(())

        assert other.observe() != other.version_of(())
        assert kong.gateway.observe() == kong.gateway.version_of(())


class TestErrors:
    def test_read_only_kong(self, kong: KongStandIn) -> None:
        """
        A Kong without a database refuses every write, and says so.
        """
        message = "cannot create or update 'services' entities when not using a database"
        kong.api.sees = lambda request: (
            kong.api.instead.append(Response(405, {"message": message}))
            if request.is_write
            else None
        )
        with pytest.raises(ProviderRefused, match="not using a database"):
            kong.gateway.converge([CLOSE])

    @pytest.mark.parametrize(
        "data",
        [
            [[1, 2]],
            [{"name": "x"}],
            [{"id": 5}],
            [{"id": "x", "tags": "firedoor"}],
            [{"id": "x", "paths": [5]}],
            [{"id": "x", "route": "r"}],
            [{"id": "x", "config": "c"}],
            [{"id": "x", "regex_priority": "high"}],
            [{"id": "x", "name": 7}],
            {},
            None,
        ],
        ids=str,
    )
    def test_entity_of_another_form(self, kong: KongStandIn, data: object) -> None:
        """
        What is no list of Kong's entities is no answer of Kong's.
        """
        kong.api.instead = [Response(200, {"data": data})] * 3
        with pytest.raises(ProviderUnreachable, match="not of this API"):
            kong.gateway.converge([CLOSE])
