"""The composition root: settings in, a working service out. The only importer of actions.ALL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from actions.all import ALL
from actions.credentials import AwsIam, AwsKeyCredential, VaultKv
from actions.logs import AccessLogs
from actions.notify import Stakeholder, Stakeholders
from actions.probe import Prober, VantagePoint
from bot.action import Action, Gateway
from bot.errors import BadInput
from bot.folders import load_folder
from bot.inventory import load_openapi
from bot.language.runbook import Runbook
from bot.mailer import SmtpMail
from bot.model.ask import Parcel
from bot.model.containment import Containment
from bot.model.endpoint import Endpoint
from bot.ports import Chat, Mail, Runner, Transaction
from bot.service import cards
from bot.service.app import Service
from bot.service.containments import ContainmentDesk
from bot.service.context import Connections
from bot.service.custody import Custody
from bot.service.drive import Driver
from bot.service.guards import GuardRails
from bot.service.incidents import Incidents
from bot.service.outbox import Outbox
from bot.service.people import Groups, People
from bot.service.perform import Performer
from bot.service.postmortems import Postmortems
from bot.service.record import Recorder
from bot.service.redact import SecretRedactor
from bot.service.reports import Reports
from bot.settings import ROOT, Settings
from bot.store import FolderFiles, SqlStore
from bot.wiring.gateways import made_gateways

CHAT_KINDS = frozenset({"open_channel", "post", "update"})
MAIL_KINDS = frozenset({"email"})


class SystemClock:
    """Implements ``bot.ports.Clock``."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251  # the Clock itself


def actions() -> dict[str, Action[Any]]:
    """Return every action by name."""
    return {action.name: action for action in ALL}


def inventory(settings: Settings) -> dict[str, Endpoint]:
    """
    Return every endpoint of the configured documents, by key.

    Raises:
        BadInput: A document cannot be read, or two of them describe the same endpoint.

        SettingsInvalid: A document is not OpenAPI; names every problem.
    """
    found: dict[str, Endpoint] = {}
    for file in settings.inventory:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"The inventory {file} cannot be read ({error}); nothing was started. "
                "Mend `inventory` in firedoor.yaml."
            ) from None
        endpoints = load_openapi(text, file)
        twice = sorted(found.keys() & endpoints.keys())
        if twice:
            raise BadInput(
                f"{file} describes {', '.join(twice[:5])} again; nothing was started, since owner "
                "and classification would be uncertain. Keep one description of each endpoint."
            )
        found |= endpoints
    return found


def guard_rails(settings: Settings, endpoints: Mapping[str, Endpoint]) -> GuardRails:
    """
    Return the guard rails of the settings.

    Raises:
        BadInput: A protected endpoint is not in the inventory. A control on a less specific
            template could then take it along, and a slip in its name would protect nothing.
    """
    rails = GuardRails(**settings.guard_rails.model_dump())
    unknown = rails.unknown(endpoints)
    if unknown:
        raise BadInput(
            f"`guard_rails.protected` names {', '.join(unknown)}, which the inventory does not "
            "have, so it would protect nothing; nothing was started. Write them as the inventory "
            "does, with the prefix of `servers` (`POST /api/login`), or add them there."
        )
    return rails


def runbooks(settings: Settings) -> dict[str, Runbook]:
    return load_folder([Path(folder) for folder in settings.runbooks], actions())


def journal_file(settings: Settings) -> Path:
    return settings.state / "firedoor.sqlite"


def open_store(settings: Settings) -> SqlStore:
    """Open the store, making and migrating it if needed."""
    try:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"The state folder {settings.state} cannot be made ({error.strerror}); nothing was "
            "started. Mend `state_dir` in firedoor.yaml, or its permissions."
        ) from None
    if settings.store is None:
        store = SqlStore(f"sqlite:///{journal_file(settings)}")
    else:
        password = settings.store.password.reveal() if settings.store.password else None
        store = SqlStore(settings.store.url, password)
    store.migrate()
    return store


@dataclass(frozen=True)
class Systems:
    """The configured systems."""

    connections: Connections
    gateways: Mapping[str, Gateway]
    chat: Chat | None
    mail: Mail | None


def connect(settings: Settings, endpoints: Mapping[str, Endpoint], chat: Chat | None) -> Systems:
    """Make every adapter; nothing is called yet. ``chat`` comes from the door that listens."""
    clock = SystemClock()
    gateways = made_gateways(settings, endpoints)
    made: dict[tuple[type, str], object] = {}
    for name, log in settings.logs.items():
        made[AccessLogs, name] = AccessLogs(name=name, files=log.files)
    vaults = {
        name: VaultKv(name=name, url=v.url, token=v.token.reveal(), mount=v.kv_mount)
        for name, v in settings.vaults.items()
    }
    made |= {(VaultKv, name): vault for name, vault in vaults.items()}
    clouds = {
        name: AwsIam(
            name=name,
            region=a.region,
            endpoint_url=a.endpoint_url,
            access_key_id=a.access_key_id.reveal(),
            secret_access_key=a.secret_access_key.reveal(),
        )
        for name, a in settings.aws.items()
    }
    made |= {(AwsIam, name): cloud for name, cloud in clouds.items()}
    for name, c in settings.credentials.items():
        made[AwsKeyCredential, name] = AwsKeyCredential(
            name=name,
            user=c.user,
            iam=clouds[c.aws],
            vault=vaults[c.vault],
            path=c.path,
            consumer_url=c.consumer_url,
        )
    for name, p in settings.probes.items():
        made[Prober, name] = Prober(
            name=name,
            gateway=p.gateway,
            public_url=settings.gateways[p.gateway].public_url,
            upstream_url=p.upstream_url,
            login_path=p.login_path,
            owner=(p.owner.username, p.owner.password.reveal()),
            stranger=(p.stranger.username, p.stranger.password.reveal()),
            vantage_points=[
                VantagePoint(name=at, connect_to=v.address, source=v.source, seen_as=v.seen_as)
                for at, v in p.vantage_points.items()
            ],
            seen_as=p.seen_as,
            repeats=p.repeats,
        )
    made[Stakeholders, "stakeholders"] = Stakeholders(
        [
            Stakeholder(name=s.name, data=s.data, channels=s.channels, emails=s.emails)
            for s in settings.stakeholders
        ]
    )
    mail: Mail | None = None
    if settings.email is not None:
        e = settings.email
        mail = SmtpMail(
            host=e.host,
            port=e.port,
            sender=e.sender,
            clock=clock,
            username=e.username,
            password=e.password.reveal() if e.password else None,
            tls=e.tls,
        )
    return Systems(Connections(made), gateways, chat, mail)


def build(
    settings: Settings,
    store: SqlStore,
    runner: Runner,
    chat: Chat | None = None,
) -> Service:
    """Put the service together."""
    clock = SystemClock()
    redactor = SecretRedactor(settings.secrets())
    endpoints = inventory(settings)
    systems = connect(settings, endpoints, chat)
    known = actions()
    files = FolderFiles(settings.state / "evidence")
    announce_in = settings.slack.incidents_channel if settings.slack else None
    recorder = Recorder(store, clock, redactor, known, announce_in)
    desk = ContainmentDesk(
        store,
        systems.gateways,
        clock,
        on_expired=_tell_expired,
        only_one=store.only_one,
        redact=redactor.text,
    )
    postmortems = Postmortems(
        store=store,
        files=files,
        clock=clock,
        endpoints=endpoints,
        templates=ROOT / "templates",
    )
    performer = Performer(
        store=store,
        clock=clock,
        redactor=redactor,
        files=files,
        actions=known,
        connections=systems.connections,
        endpoints=endpoints,
        desk=desk,
        postmortem=postmortems.desk,
        guards=guard_rails(settings, endpoints),
    )
    groups = Groups(settings.groups, settings.people)
    loaded = runbooks(settings)
    return Service(
        store=store,
        clock=clock,
        recorder=recorder,
        performer=performer,
        driver=Driver(recorder, performer, clock),
        incidents=Incidents(
            store=store,
            clock=clock,
            recorder=recorder,
            runner=runner,
            runbooks=loaded,
            endpoints=endpoints,
            groups=groups,
            announce_in=announce_in,
        ),
        people=People(store=store, clock=clock, recorder=recorder, runner=runner, groups=groups),
        reports=Reports(store, clock),
        desk=desk,
        custody=Custody(desk, groups),
        postmortems=postmortems,
        groups=groups,
        outboxes=tuple(
            Outbox(
                store=store,
                clock=clock,
                kinds=kinds,
                chat=systems.chat,
                mail=systems.mail,
                fallback_channel=announce_in,
                live=recorder.live_card,
                redact=redactor.text,
            )
            for kinds in (CHAT_KINDS, MAIL_KINDS)
        ),
        checks=_checks(desk, systems) | {"runbooks": lambda: _check_groups(groups, loaded)},
    )


def _tell_expired(tx: Transaction, containment: Containment, what: str) -> None:
    parcel = Parcel(
        key=f"{containment.id}:{what}",
        incident_id=containment.incident_id,
        run_id=containment.run_id,
        step_id=containment.step_id,
        kind="post",
        message=cards.expired_card(containment),
    )
    assert containment.lifted_at is not None  # noqa: S101  # it just ended
    tx.put_parcel(parcel, containment.lifted_at)


def _checks(desk: ContainmentDesk, systems: Systems) -> dict[str, Callable[[], str]]:
    checks: dict[str, Callable[[], str]] = {
        f"gateway {name}": partial(desk.gateways.check, name) for name in systems.gateways
    }
    for (kind, name), connection in systems.connections.all().items():
        check = getattr(connection, "check", None)
        if check is not None:
            checks[f"{kind.__name__} {name}"] = check
    if systems.chat is not None:
        checks["slack"] = systems.chat.check
    if systems.mail is not None:
        checks["email"] = systems.mail.check
    return checks


def _check_groups(groups: Groups, loaded: Mapping[str, Runbook]) -> str:
    """Check that every approval can be given.

    Raises:
        BadInput: Names each step whose groups have too few members.
    """
    short = [
        f"{book.id}, step {step.id}: {step.approval.required} of {', '.join(step.approval.groups)}"
        for book in loaded.values()
        for step in book.every_step()
        if step.approval and len(groups.members(step.approval.groups)) < step.approval.required
    ]
    short += [
        f"{book.id}: its owners {', '.join(book.owners)}"
        for book in loaded.values()
        if not groups.members(book.owners)
    ]
    if short:
        raise BadInput(
            f"Nobody could approve {'; '.join(short)}. Add members under `groups` in firedoor.yaml."
        )
    return f"{len(loaded)} loaded, and every approval can be given"
