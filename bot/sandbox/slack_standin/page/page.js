// One person's view of the workspace: fetches the state, shows it, and sends what the person does.

import { heldValue, node, renderBlocks, renderRuns } from "./blocks.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

let user = query.get("user") || localStorage.getItem("user") || "";
let channelId = query.get("channel") || "";
let state = null;
let thread = null; // the ts of the message that is being answered in its thread
let shownView = ""; // which state of which modal is on the screen
let collected = new Map(); // the fields of the open modal: how to read each
const warnings = new Map(); // ts of a message -> what went wrong with a click in it
const seen = new Map(); // channel id -> ts of the newest message that the person saw

// -- talking to the server

async function fetchJson(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error((await response.json()).error);
  return response.json();
}

async function send(action, body) {
  const response = await fetch(`/person/${action}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user, ...body }),
  });
  const answer = await response.json();
  if (!response.ok) return { outcome: "refused", message: answer.error, errors: {} };
  return answer;
}

let isFetching = false;
let isStale = false;

async function refresh() {
  if (isFetching) {
    isStale = true;
    return;
  }
  isFetching = true;
  try {
    do {
      isStale = false;
      state = await fetchJson(`/person/state?user=${encodeURIComponent(user)}`);
      show();
    } while (isStale);
  } catch {
    showStatus("The stand-in does not answer", "bad");
  } finally {
    isFetching = false;
  }
}

// ?live=off: for a browser that takes one picture and would wait for an open stream for ever.
function watch() {
  if (query.get("live") === "off") return;
  const events = new EventSource("/person/events");
  events.addEventListener("message", refresh);
  events.addEventListener("error", () => showStatus("Reconnecting…", "bad"));
}

// -- names

const member = (id) => state.members.find((each) => each.id === id);
const channel = () => state.channels.find((each) => each.id === channelId);

function titleOf(each) {
  if (!each.is_im) return each.name;
  const other = each.members.find((id) => id !== user);
  return member(other)?.display || "Direct message";
}

function contextFor(more) {
  return {
    people: state.members.filter((each) => !each.is_bot),
    groups: state.groups,
    errors: {},
    member,
    channelName: (id) => state.channels.find((each) => each.id === id)?.name,
    held: () => null,
    act: () => {},
    ...more,
  };
}

// -- the frame

function show() {
  if (!channel()) {
    const wanted = state.channels.find((each) => each.name === channelId.replace(/^#/, ""));
    const first = state.channels.find((each) => each.name === "incidents") || state.channels[0];
    channelId = (wanted || first).id;
  }
  $("team").textContent = state.team;
  const [words, mood] = state.is_offline
    ? ["Slack is down (on demand)", "bad"]
    : state.is_app_connected
      ? ["Firedoor connected", "good"]
      : ["Firedoor not connected", "bad"];
  showStatus(words, mood);
  showPeople();
  showChannels();
  showHead();
  showMessages();
  showModal();
}

function showStatus(words, mood) {
  if ($("app-status").textContent === words) return;
  $("app-status").textContent = words;
  $("app-status").className = `pill ${mood}`;
}

function showPeople() {
  const people = state.members.filter((each) => !each.is_bot);
  if ($("me").childElementCount !== people.length) {
    $("me").replaceChildren(
      ...people.map((each) =>
        node("option", { value: each.id }, each.display),
      ),
    );
  }
  $("me").value = user;
  $("role").textContent = member(user).role;
}

function newestTs(each) {
  return each.messages.length ? each.messages[each.messages.length - 1].ts : "";
}

function showChannels() {
  seen.set(channelId, newestTs(channel()));
  const button = (each) => {
    const isNew = each.id !== channelId && newestTs(each) > (seen.get(each.id) ?? "");
    return node(
      "li",
      {},
      node(
        "button",
        {
          type: "button",
          class: isNew ? "channel new" : "channel",
          "aria-current": each.id === channelId ? "true" : undefined,
          onclick: () => goTo(each.id),
        },
        node("span", { class: "mark", "aria-hidden": "true" }, each.is_im ? "@" : each.is_private ? "•" : "#"),
        titleOf(each),
        isNew ? node("span", { class: "dot", title: "New messages" }) : null,
      ),
    );
  };
  const byName = [...state.channels].sort((a, b) => a.name.localeCompare(b.name));
  const directs = byName.filter((each) => each.is_im);
  replaceIfChanged($("channels"), byName.filter((each) => !each.is_im && !each.is_archived).map(button));
  replaceIfChanged($("directs"), directs.map(button));
  $("direct-heading").hidden = directs.length === 0;
}

// Replacing the same by the same would take the keyboard focus away.
function replaceIfChanged(parent, children) {
  const fresh = node(parent.tagName, {}, ...children);
  const before = parent.cloneNode(true);
  if (before.childNodes.length === fresh.childNodes.length) {
    const same = [...fresh.childNodes].every((each, i) => each.isEqualNode(before.childNodes[i]));
    if (same) return;
  }
  const focused = [...parent.querySelectorAll("button")].indexOf(document.activeElement);
  parent.replaceChildren(...children);
  if (focused >= 0) parent.querySelectorAll("button")[focused]?.focus();
}

function showHead() {
  const here = channel();
  $("channel-name").textContent = here.is_im ? titleOf(here) : `# ${here.name}`;
  const count = here.members.length;
  $("channel-count").textContent = `${count} ${count === 1 ? "member" : "members"}`;
  $("channel-topic").replaceChildren(...renderRuns(here.topic_runs, contextFor()));
  const commands = state.commands.join(", ");
  $("composer-text").placeholder = `Message ${here.is_im ? titleOf(here) : `#${here.name}`}`;
  $("composer-text").disabled = here.is_archived;
  $("composer-hint").textContent = `Enter sends, Shift+Enter breaks the line. Commands: ${commands}`;
  document.title = `${here.is_im ? titleOf(here) : `#${here.name}`} – ${state.team} chat`;
  $("thread-note").hidden = thread === null;
  const parent = here.messages.find((each) => each.ts === thread);
  $("thread-text").textContent = parent
    ? `Answering in the thread of ${member(parent.user)?.display}: ${excerpt(parent)}`
    : "";
}

function excerpt(message) {
  return message.text.length > 60 ? `${message.text.slice(0, 60)}…` : message.text;
}

function goTo(id) {
  channelId = id;
  thread = null;
  show();
  $("log").scrollTop = $("log").scrollHeight;
  $("composer-text").focus();
}

// -- messages

const drawn = new Map(); // key -> { mark, made }: messages that need not be drawn again

function showMessages() {
  const log = $("log");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  const all = channel().messages;
  const known = new Set(all.map((each) => each.ts));
  const isAnswer = (each) =>
    each.thread_ts && each.thread_ts !== each.ts && known.has(each.thread_ts);
  const ordered = all
    .filter((each) => !isAnswer(each))
    .flatMap((each) => [each, ...all.filter((a) => isAnswer(a) && a.thread_ts === each.ts)]);
  const nodes = ordered.map((each) => drawnMessage(each, isAnswer(each)));
  const list = $("messages");
  const same =
    list.childNodes.length === nodes.length && nodes.every((n, i) => n === list.childNodes[i]);
  if (!same) list.replaceChildren(...nodes);
  if (!ordered.length) {
    list.replaceChildren(node("li", { class: "empty muted" }, "Nothing was said here yet."));
  }
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

function drawnMessage(message, isAnswer) {
  const key = `${channelId} ${message.ts} ${user}`;
  const mark = JSON.stringify([message, isAnswer, warnings.get(message.ts), state.members.length]);
  const before = drawn.get(key);
  if (before && before.mark === mark) return before.made;
  const made = renderMessage(message, isAnswer);
  drawn.set(key, { mark, made });
  return made;
}

function renderMessage(message, isAnswer) {
  const author = member(message.user) || { display: message.user, is_bot: false };
  const context = contextFor({
    held: (blockId, actionId) =>
      heldValue(message.state[blockId]?.[actionId]) ?? initialOf(message, blockId, actionId),
    act: (block, element, value, made) => clickIn(message, block, element, value, made),
  });
  const at = new Date(Number(message.ts) * 1000);
  const warning = warnings.get(message.ts);
  const shape = ["message", isAnswer && "answer", message.is_ephemeral && "ephemeral"];
  return node(
    "li",
    { class: shape.filter(Boolean).join(" "), id: `m${message.ts}` },
    avatar(author),
    node(
      "div",
      { class: "message-main" },
      node(
        "div",
        { class: "message-head" },
        node("span", { class: "author" }, author.display),
        author.is_bot ? node("span", { class: "badge" }, "app") : null,
        node("time", { class: "muted", datetime: at.toISOString(), title: at.toISOString() }, clockTime(at)),
        message.edited ? node("span", { class: "muted" }, "edited") : null,
        message.pinned_to?.length ? node("span", { class: "muted" }, "pinned") : null,
        message.is_ephemeral
          ? node("span", { class: "only-you" }, "Only visible to you")
          : null,
        isAnswer || message.is_ephemeral
          ? null
          : node("button", { type: "button", class: "quiet reply", onclick: () => answer(message) }, "Reply"),
      ),
      message.shown_blocks.length
        ? node("div", { class: "blocks" }, renderBlocks(message.shown_blocks, context))
        : node("div", { class: "b-text" }, renderRuns(message.text_runs, context)),
      (message.files || []).map(renderFile),
      message.reactions
        ? node("div", { class: "reactions" }, message.shown_reactions.map(renderReaction))
        : null,
      warning ? node("p", { class: "warning", role: "alert" }, `⚠ ${warning}`) : null,
    ),
  );
}

function initialOf(message, blockId, actionId) {
  const block = (message.blocks || []).find((each) => each.block_id === blockId);
  const elements = [block?.element, block?.accessory, ...(block?.elements || [])];
  const element = elements.find((each) => each?.action_id === actionId);
  if (!element) return null;
  const initial = Object.entries(element).find(([name]) => name.startsWith("initial_"));
  if (!initial) return null;
  const plain = (each) => (typeof each === "object" ? each.value : each);
  return Array.isArray(initial[1]) ? initial[1].map(plain) : plain(initial[1]);
}

function avatar(author) {
  const letters = author.display.split(/\s+/).map((word) => word[0]).slice(0, 2).join("");
  const tone = [...(author.id || "")].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % 6;
  const shape = author.is_bot ? "avatar bot" : `avatar tone-${tone}`;
  return node("span", { class: shape, "aria-hidden": "true" }, letters);
}

function clockTime(at) {
  return at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
}

function renderFile(file) {
  const size = file.size < 1024 ? `${file.size} B` : `${Math.round(file.size / 1024)} KB`;
  return node(
    "a",
    { class: "file", href: `/files/${encodeURIComponent(file.id)}`, download: file.name },
    node("span", {}, file.title),
    node("span", { class: "muted" }, size),
  );
}

function renderReaction(reaction) {
  const runs = renderRuns(reaction.runs, contextFor());
  return node("span", { class: "reaction" }, runs, ` ${reaction.count}`);
}

function answer(message) {
  thread = message.ts;
  showHead();
  $("composer-text").focus();
}

async function clickIn(message, block, element, value, made) {
  const isMenu = element.type !== "button";
  if (isMenu && (value === null || value === "")) return;
  if (element.confirm && !(await confirmed(element.confirm))) {
    if (element.type === "overflow") made.value = "";
    return;
  }
  made.setAttribute("aria-busy", "true");
  const result = await send("click", {
    channel: channelId,
    ts: message.ts,
    action_id: element.action_id,
    block_id: block.block_id,
    value,
  });
  made.removeAttribute("aria-busy");
  if (element.type === "overflow") made.value = "";
  if (result.message) warnings.set(message.ts, result.message);
  else warnings.delete(message.ts);
  refresh();
}

// -- modals

function showModal() {
  const dialog = $("modal");
  const view = state.view;
  if (!view) {
    if (dialog.open) dialog.close();
    shownView = "";
    return;
  }
  const mark = `${view.id} ${view.hash}`;
  if (mark !== shownView) {
    const isSame = shownView.startsWith(`${view.id} `);
    drawModal(view, isSame ? readModal() : {}, {});
    shownView = mark;
  }
}

function readModal() {
  const values = {};
  for (const [blockId, actions] of collected) {
    values[blockId] = {};
    for (const [actionId, read] of actions) values[blockId][actionId] = read();
  }
  return values;
}

function drawModal(view, entered, errors) {
  collected = new Map();
  const context = contextFor({
    errors,
    held: (blockId, actionId) =>
      entered[blockId]?.[actionId] ?? heldValue(view.state.values[blockId]?.[actionId]),
    collect: (blockId, actionId, read) => {
      if (!collected.has(blockId)) collected.set(blockId, new Map());
      collected.get(blockId).set(actionId, read);
    },
    act: (block, element, value, made) => clickInModal(view, block, element, value, made),
  });
  const form = node(
    "form",
    { class: "modal-form", novalidate: true, onsubmit: (event) => submitModal(event, view) },
    node(
      "header",
      { class: "modal-head" },
      node("h2", { id: "modal-title" }, renderRuns(view.title.runs || [{ kind: "text", text: view.title.text }], context)),
      node("button", { type: "button", class: "quiet close", "aria-label": "Close", onclick: () => closeModal(view) }, "✕"),
    ),
    node("div", { class: "modal-body blocks" }, renderBlocks(view.shown_blocks, context)),
    node("p", { class: "warning", id: "modal-warning", role: "alert", hidden: true }),
    node(
      "footer",
      { class: "modal-foot" },
      node("button", { type: "button", class: "button", onclick: () => closeModal(view) }, view.close?.text || "Cancel"),
      view.submit ? node("button", { type: "submit", class: "button primary", id: "modal-submit" }, view.submit.text) : null,
    ),
  );
  const dialog = $("modal");
  dialog.replaceChildren(form);
  dialog.oncancel = (event) => {
    event.preventDefault();
    closeModal(view);
  };
  if (!dialog.open) dialog.showModal();
  const first = ["[aria-invalid=true]", ".invalid input", "[autofocus]", ".modal-body :is(input, select, textarea)"];
  first.map((each) => dialog.querySelector(each)).find(Boolean)?.focus();
}

async function submitModal(event, view) {
  event.preventDefault();
  const entered = readModal();
  $("modal-submit").setAttribute("aria-busy", "true");
  const result = await send("submit", { view_id: view.id, values: entered });
  $("modal-submit")?.removeAttribute("aria-busy");
  if (result.outcome === "errors") {
    drawModal(view, entered, result.errors);
  } else if (result.message) {
    $("modal-warning").textContent = `⚠ ${result.message}`;
    $("modal-warning").hidden = false;
  }
  refresh();
}

async function clickInModal(view, block, element, value, made) {
  if (element.confirm && !(await confirmed(element.confirm))) return;
  made.setAttribute("aria-busy", "true");
  const result = await send("click", {
    view_id: view.id,
    action_id: element.action_id,
    block_id: block.block_id,
    value,
  });
  made.removeAttribute("aria-busy");
  if (result.message) toast(result.message);
  refresh();
}

async function closeModal(view) {
  await send("close_view", { view_id: view.id });
  refresh();
}

function confirmed(question) {
  const dialog = $("confirm");
  const runs = (object) => renderRuns(object.runs, contextFor());
  return new Promise((resolve) => {
    const done = (answer) => {
      dialog.close();
      resolve(answer);
    };
    const style = question.style || "primary";
    dialog.replaceChildren(
      node("h2", { id: "confirm-title" }, runs(question.title)),
      node("p", { class: "b-text" }, runs(question.text)),
      node(
        "footer",
        { class: "modal-foot" },
        node("button", { type: "button", class: "button", onclick: () => done(false) }, runs(question.deny)),
        node("button", { type: "button", class: `button ${style}`, onclick: () => done(true) }, runs(question.confirm)),
      ),
    );
    dialog.oncancel = () => resolve(false);
    dialog.showModal();
  });
}

// -- typing

async function sendTyped() {
  const field = $("composer-text");
  const text = field.value.trim();
  if (!text) return;
  field.value = "";
  fit(field);
  const body = { channel: channelId, text, ...(thread ? { thread_ts: thread } : {}) };
  const result = await send("say", body);
  if (["refused", "bad_response"].includes(result.outcome)) {
    toast(result.message);
    field.value ||= text;
  } else if (result.message) toast(result.message);
  $("log").scrollTop = $("log").scrollHeight;
  refresh();
}

function fit(field) {
  field.rows = Math.min(8, field.value.split("\n").length);
}

function toast(words) {
  const made = node("p", { class: "toast" }, words);
  $("toasts").append(made);
  setTimeout(() => made.remove(), 6000);
}

function listen() {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    sendTyped();
  });
  $("composer-text").addEventListener("input", (event) => fit(event.target));
  $("composer-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      sendTyped();
    }
  });
  $("thread-leave").addEventListener("click", () => {
    thread = null;
    showHead();
  });
  $("me").addEventListener("change", (event) => become(event.target.value));
  document.addEventListener("keydown", (event) => {
    if (!event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    const buttons = [...document.querySelectorAll(".channel")];
    const here = buttons.findIndex((each) => each.getAttribute("aria-current"));
    const step = event.key === "ArrowDown" ? 1 : buttons.length - 1;
    buttons[(here + step) % buttons.length].click();
  });
}

// -- who

function become(id) {
  user = id;
  localStorage.setItem("user", id);
  $("modal").close();
  shownView = "";
  warnings.clear();
  refresh();
}

async function begin() {
  const { people } = await fetchJson("/person/people");
  listen();
  const enter = (id) => {
    become(id);
    $("welcome").hidden = true;
    $("app").hidden = false;
    watch();
  };
  if (people.some((each) => each.id === user)) {
    enter(user);
    return;
  }
  $("people").replaceChildren(
    ...people.map((each) =>
      node(
        "li",
        {},
        node(
          "button",
          { type: "button", class: "person", onclick: () => enter(each.id) },
          avatar(each),
          node("span", {}, node("strong", {}, each.display), node("span", { class: "muted" }, each.role)),
        ),
      ),
    ),
  );
  $("welcome").hidden = false;
}

begin();
