"""The adapter of APISIX against a stand-in of its Admin API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actions.gateway.adapters.apisix import state as apisix_state
from bot.action import Writing
from bot.errors import ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind, subject
from tests.gateways.standins.apisix import ApisixStandIn
from tests.gateways.standins.server import Response

ORDER = "/api/orders/{order_id}"
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path=ORDER)
LIMIT = Control(kind=ControlKind.THROTTLE, method="GET", path=ORDER, rate_per_s=2.0)
OTHER = Control(kind=ControlKind.CLOSE, method="GET", path="/api/customers/me")


def by_key(name: str, kind: ControlKind = ControlKind.BLOCK) -> Control:
    principal = Principal(kind=PrincipalKind.API_KEY, value=name)
    return Control(kind=kind, method="GET", path=ORDER, principals=(principal,))


@pytest.fixture
def apisix(tmp_path: Path) -> Iterator[ApisixStandIn]:
    apisix = ApisixStandIn(tmp_path)
    yield apisix
    apisix.close()


class TestWire:
    def test_only_what_is_firedoors_is_written(self, apisix: ApisixStandIn) -> None:
        """
        Every write is a PUT or DELETE of one route of Firedoor's, without an expiry in etcd: a
        containment ends by a write that is journaled.
        """
        apisix.gateway.converge([CLOSE, LIMIT, OTHER])
        apisix.gateway.converge(())

        for call in apisix.api.calls:
            if call.is_write:
                assert call.method in ("PUT", "DELETE")
                assert call.path[:3] == ("apisix", "admin", "routes")
                assert call.path[3].startswith("firedoor-")
                assert call.query == {}

    def test_stricter_one_is_there_before_the_other_goes(self, apisix: ApisixStandIn) -> None:
        """
        From throttled to closed there is no moment without either; the version comes in between.
        """
        apisix.gateway.converge([LIMIT])
        apisix.api.calls.clear()

        apisix.gateway.converge([CLOSE])

        writes = [call for call in apisix.api.calls if call.is_write]
        assert [call.method for call in writes] == ["PUT", "PUT", "DELETE"]
        assert writes[1].path[3].endswith("-version")

    def test_all_pages_are_read(
        self, apisix: ApisixStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A large APISIX answers in pages; all routes get their overlay, and the version is found.
        """
        monkeypatch.setattr(apisix_state, "PAGE_SIZE", 10)
        for number in range(12):
            apisix.api.made("routes", f"r{number}", uri=f"/api/o{'r' * number}*", plugins={})
        version = apisix.gateway.converge([CLOSE])
        assert apisix.gateway.observe() == version
        assert {call.query.get("page") for call in apisix.api.calls} >= {"1", "2"}

    def test_endless_pages_end(
        self, apisix: ApisixStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A server that always has one more page is not asked for ever.
        """
        monkeypatch.setattr(apisix_state, "MAX_PAGES", 5)
        monkeypatch.setattr(apisix_state, "PAGE_SIZE", 1)
        node = {"key": "/apisix/routes/x", "value": {}, "modifiedIndex": 1}
        apisix.api.instead = [Response(200, {"total": 9, "list": [node]})] * 20
        with pytest.raises(ProviderUnreachable):
            apisix.gateway.observe()
        assert len(apisix.api.calls) == 5


class TestSupport:
    def test_what_apisix_cannot(self, apisix: ApisixStandIn) -> None:
        """
        Claims are declined, and keys unless the operator vouches for consumers; a list that mixes
        addresses and keys too.
        """
        claim = Control(
            kind=ControlKind.BLOCK, method="GET", path=ORDER, principals=(subject("c-1"),)
        )
        assert not apisix.gateway.supports(claim).ok
        assert apisix.gateway.supports(by_key("partner-7")).ok
        assert not apisix.adapter(consumers=False).supports(by_key("partner-7")).ok
        principals = (
            Principal(kind=PrincipalKind.IP, value="10.0.0.0/8"),
            Principal(kind=PrincipalKind.API_KEY, value="partner-7"),
        )
        mixed = Control(
            kind=ControlKind.ALLOW_ONLY, method="GET", path=ORDER, principals=principals
        )
        assert apisix.gateway.supports(mixed).nearest is ControlKind.CLOSE

    def test_consumer_that_is_not_there(self, apisix: ApisixStandIn) -> None:
        """
        A name that APISIX does not know would block nobody, so it is refused.
        """
        with pytest.raises(ProviderRefused, match="no consumer named 'partner-9'"):
            apisix.gateway.converge([by_key("partner-9")])

    @pytest.mark.parametrize("kind", ["consumers", "consumer_groups"])
    def test_consumer_with_rules_of_its_own(self, apisix: ApisixStandIn, kind: str) -> None:
        """
        What a consumer has of its own runs in place of the route's, so a list would not hold.
        """
        own = {"consumer-restriction": {"whitelist": ["x"], "type": "route_id"}}
        apisix.api.made(kind, "partner-8", plugins=own)
        with pytest.raises(ProviderRefused, match="partner-8"):
            apisix.gateway.converge([by_key("partner-7", ControlKind.ALLOW_ONLY)])

    def test_by_key(self, apisix: ApisixStandIn) -> None:
        """
        The consumer's name is what the plugin is given.
        """
        apisix.gateway.converge([by_key("partner-7")])
        (overlay,) = apisix.api.own().values()
        assert overlay["plugins"]["consumer-restriction"]["blacklist"] == ["partner-7"]
        assert "key-auth" in overlay["plugins"]


class TestOtherHands:
    def test_change_of_the_operators_is_taken_along(self, apisix: ApisixStandIn) -> None:
        """
        An overlay is made anew when what it was copied from changes, and nobody is told of an
        edit.
        """
        version = apisix.gateway.converge([LIMIT])
        apisix.api.changed(
            "routes", "orders", lambda v: v["plugins"]["key-auth"].update(header="x-key")
        )
        assert apisix.gateway.observe() == f"{version}, outdated"

        told = list[str]()
        assert apisix.gateway.converge([LIMIT], Writing(displaced=told.append)) == version

        (overlay,) = apisix.api.own().values()
        assert overlay["plugins"]["key-auth"]["header"] == "x-key"
        assert told == []

    def test_limit_of_the_service_is_respected(self, apisix: ApisixStandIn) -> None:
        """
        A service's own limit is found where the operator keeps it.
        """
        conf = {"limit-count": {"count": 1, "time_window": 1}}
        apisix.api.changed("services", "orders", lambda value: value.update(plugins=conf))
        with pytest.raises(ProviderRefused, match="limit-count"):
            apisix.gateway.converge([LIMIT])
        assert apisix.gateway.converge([CLOSE]) == apisix.gateway.observe()

    @pytest.mark.parametrize(
        "edit",
        [
            lambda api, key: api.removed("routes", key),
            lambda api, key: api.changed("routes", key, lambda v: v.update(status=0)),
            lambda api, key: api.changed("routes", key, lambda v: v.update(labels={})),
            lambda api, key: api.changed("routes", key, lambda v: v.update(remote_addr="::1")),
            lambda api, key: api.changed("routes", key, lambda v: v.update(plugins={})),
            lambda api, key: api.changed("routes", key, lambda v: v.update(priority=0)),
        ],
        ids=["gone", "off", "labels", "address", "plugins", "priority"],
    )
    def test_every_edit_is_seen_replaced_and_kept(
        self, apisix: ApisixStandIn, tmp_path: Path, edit: Any
    ) -> None:
        """
        Whatever another hand does to Firedoor's part makes another version, is undone, told, and
        can be read afterwards.
        """
        version = apisix.gateway.converge([CLOSE])
        exported = apisix.export()
        edit(apisix.api, next(iter(apisix.api.own())))
        assert apisix.gateway.observe() == f"{version}, edited"

        told = list[str]()
        apisix.gateway.converge([CLOSE], Writing(displaced=told.append))

        assert apisix.gateway.observe() == version
        assert apisix.export() == exported
        (sentence,) = told
        (kept,) = (tmp_path / "aside").glob("apisix.json.other-*")
        assert str(kept) in sentence
        assert kept.stat().st_mode & 0o077 == 0

    def test_marker_removed(self, apisix: ApisixStandIn) -> None:
        """
        Without the version nothing is taken for a set of controls.
        """
        version = apisix.gateway.converge([CLOSE])
        (marker,) = [k for k in apisix.api.tables["routes"] if k.endswith("-version")]
        apisix.api.removed("routes", marker)
        assert apisix.gateway.observe() == "(none), unfinished"

        assert apisix.gateway.converge([CLOSE]) == version == apisix.gateway.observe()

    def test_copy_of_ours_is_theirs(self, apisix: ApisixStandIn) -> None:
        """
        A route that an operator made from one of Firedoor's is left alone.
        """
        apisix.gateway.converge([CLOSE])
        (overlay,) = apisix.api.own().values()
        body = {k: v for k, v in overlay.items() if k not in ("id", "create_time", "update_time")}
        apisix.api.made("routes", "mine", **body)

        apisix.gateway.converge(())

        assert "mine" in apisix.api.tables["routes"]

    def test_other_gateways_objects_are_theirs(self, apisix: ApisixStandIn) -> None:
        """
        Two gateways of Firedoor's in one APISIX do not undo each other's controls.
        """
        other = apisix.adapter(name="second")
        apisix.gateway.converge([CLOSE])
        other.converge([OTHER])
        apisix.gateway.converge(())
        assert other.observe() != other.version_of(())
        assert apisix.gateway.observe() == apisix.gateway.version_of(())


@pytest.mark.parametrize(
    "node",
    [
        5,
        {},
        {"key": "/apisix/routes/1", "value": "x", "modifiedIndex": 1},
        {"key": "/apisix/routes/1", "value": {}, "modifiedIndex": "1"},
        {"key": "/apisix/routes/1", "value": {"uri": 5}, "modifiedIndex": 1},
        {"key": "/apisix/routes/1", "value": {"uris": [5]}, "modifiedIndex": 1},
        {"key": "/apisix/routes/1", "value": {"plugins": ["x"]}, "modifiedIndex": 1},
        {"key": "/apisix/routes/1", "value": {"plugins": {"x": 1}}, "modifiedIndex": 1},
        {"key": "/apisix/routes/1", "value": {"priority": "high"}, "modifiedIndex": 1},
        {"key": "/apisix/routes/1", "value": {"labels": "x"}, "modifiedIndex": 1},
    ],
    ids=str,
)
def test_entry_of_another_form(apisix: ApisixStandIn, node: object) -> None:
    """
    What is no list of APISIX's entries is no answer of APISIX's.
    """
    apisix.api.instead = [Response(200, {"total": 1, "list": [node]})]
    with pytest.raises(ProviderUnreachable, match="not of this API"):
        apisix.gateway.observe()
