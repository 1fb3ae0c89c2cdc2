// Builds DOM nodes from Block Kit and from runs of text. Strings only ever become text nodes,
// or attributes that cannot run anything: a message cannot put markup into this page.

const SAFE_ADDRESS = /^(https?|mailto):/i;

export function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function link(url, ...children) {
  if (!SAFE_ADDRESS.test(url)) return node("span", {}, ...children);
  return node(
    "a",
    { href: url, target: "_blank", rel: "noopener noreferrer nofollow" },
    ...children,
  );
}

// -- runs: what bot/sandbox/slack_standin/mrkdwn.py parsed

const WRAPPERS = {
  bold: "strong",
  italic: "em",
  strike: "s",
  code: "code",
  pre: "pre",
  quote: "blockquote",
};

export function renderRuns(runs, context) {
  return (runs || []).map((run) => renderRun(run, context));
}

function renderRun(run, context) {
  if (WRAPPERS[run.kind]) return node(WRAPPERS[run.kind], {}, renderRuns(run.runs, context));
  switch (run.kind) {
    case "link":
      return renderLink(run.url, run.text, run.host);
    case "user":
      return mention(run.id, context);
    case "channel":
      return node("span", { class: "mention" }, `#${context.channelName(run.id) || run.text}`);
    case "group":
      return node("span", { class: "mention" }, `@${context.groups[run.id] || run.text}`);
    case "broadcast":
      return node("span", { class: "mention broadcast" }, `@${run.range}`);
    case "date":
      return node("time", { title: new Date(run.at_s * 1000).toISOString() }, moment(run));
    case "emoji":
      return node("span", { class: "emoji", title: `:${run.name}:` }, run.text);
    default:
      return document.createTextNode(run.text || "");
  }
}

function renderLink(url, text, host) {
  const shown = link(url, text);
  const isPlain = text === url || !host;
  return isPlain ? shown : node("span", {}, shown, node("span", { class: "host" }, ` (${host})`));
}

function mention(id, context) {
  const member = context.member(id);
  return node("span", { class: "mention" }, `@${member ? member.display : id}`);
}

function moment(run) {
  const at = new Date(run.at_s * 1000);
  const day = at.toLocaleDateString(undefined, { dateStyle: "medium" });
  const parts = {
    date_num: at.toISOString().slice(0, 10),
    date: day,
    date_short: day,
    date_long: day,
    date_pretty: day,
    date_short_pretty: day,
    date_long_pretty: day,
    time: at.toLocaleTimeString(undefined, { timeStyle: "short" }),
    time_secs: at.toLocaleTimeString(undefined, { timeStyle: "medium" }),
    ago: `at ${at.toLocaleTimeString(undefined, { timeStyle: "short" })}`,
  };
  return run.format.replace(/\{(\w+)\}/g, (all, name) => parts[name] || all);
}

// -- blocks

export function renderBlocks(blocks, context) {
  return blocks.map((block) => {
    const render = BLOCKS[block.type];
    return render ? render(block, context) : node("p", { class: "muted" }, `(${block.type})`);
  });
}

function text(object, context) {
  return renderRuns(object.runs, context);
}

const BLOCKS = {
  header: (block, context) => node("h3", { class: "b-header" }, text(block.text, context)),
  divider: () => node("hr", { class: "b-divider" }),
  section: renderSection,
  context: (block, context) =>
    node(
      "div",
      { class: "b-context" },
      block.elements.map((each) =>
        each.type === "image" ? picture(each) : node("span", {}, text(each, context)),
      ),
    ),
  actions: (block, context) =>
    node(
      "div",
      { class: "b-actions" },
      block.elements.map((element) => renderElement(block, element, context)),
    ),
  image: (block, context) =>
    node(
      "figure",
      { class: "b-image" },
      block.title ? node("figcaption", {}, text(block.title, context)) : null,
      picture(block),
    ),
  input: renderInput,
  rich_text: (block, context) =>
    node("div", { class: "b-rich" }, block.elements.map((each) => renderRich(each, context))),
};

function renderSection(block, context) {
  return node(
    "div",
    { class: "b-section" },
    node(
      "div",
      { class: "b-section-text" },
      block.text ? node("div", { class: "b-text" }, text(block.text, context)) : null,
      block.fields
        ? node(
            "div",
            { class: "b-fields" },
            block.fields.map((field) => node("div", { class: "b-text" }, text(field, context))),
          )
        : null,
    ),
    block.accessory
      ? node(
          "div",
          { class: "b-accessory" },
          block.accessory.type === "image"
            ? picture(block.accessory)
            : renderElement(block, block.accessory, context),
        )
      : null,
  );
}

// Pictures come from elsewhere, and this page loads nothing from elsewhere.
function picture(image) {
  return node("span", { class: "b-picture" }, "Picture: ", link(image.image_url, image.alt_text));
}

function renderInput(block, context) {
  const name = `i-${block.block_id}`;
  const error = context.errors[block.block_id];
  const many = ["checkboxes", "radio_buttons", "multi_users_select", "multi_static_select"];
  const isMany = many.includes(block.element.type);
  const label = [
    text(block.label, context),
    block.optional ? node("span", { class: "muted" }, " (optional)") : null,
  ].flat();
  const described = [
    block.hint ? node("p", { class: "hint", id: `${name}-hint` }, text(block.hint, context)) : null,
    error ? node("p", { class: "error", id: `${name}-error`, role: "alert" }, error) : null,
  ];
  const element = renderElement(block, block.element, context, {
    id: name,
    invalid: Boolean(error),
    described: [block.hint && `${name}-hint`, error && `${name}-error`].filter(Boolean).join(" "),
  });
  const shape = `b-input${error ? " invalid" : ""}`;
  return isMany
    ? node("fieldset", { class: shape }, node("legend", {}, label), element, described)
    : node("div", { class: shape }, node("label", { for: name }, label), element, described);
}

// -- rich text

function renderRich(part, context) {
  const inner = () => part.elements.map((each) => renderRichPart(each, context));
  switch (part.type) {
    case "rich_text_list":
      return node(
        part.style === "ordered" ? "ol" : "ul",
        { class: `indent-${part.indent || 0}` },
        part.elements.map((item) =>
          node("li", {}, item.elements.map((each) => renderRichPart(each, context))),
        ),
      );
    case "rich_text_preformatted":
      return node("pre", {}, inner());
    case "rich_text_quote":
      return node("blockquote", {}, inner());
    default:
      return node("div", {}, inner());
  }
}

function renderRichPart(part, context) {
  const runs = {
    link: () => renderLink(part.url, part.text || part.url, hostOf(part.url)),
    user: () => mention(part.user_id, context),
    channel: () => renderRun({ kind: "channel", id: part.channel_id }, context),
    usergroup: () => renderRun({ kind: "group", id: part.usergroup_id }, context),
    broadcast: () => renderRun({ kind: "broadcast", range: part.range }, context),
    emoji: () => document.createTextNode(`:${part.name}:`),
  };
  let made = runs[part.type] ? runs[part.type]() : document.createTextNode(part.text || "");
  const wrappers = { bold: "strong", italic: "em", strike: "s", code: "code" };
  for (const [style, tag] of Object.entries(wrappers)) {
    if (part.style && part.style[style]) made = node(tag, {}, made);
  }
  return made;
}

function hostOf(url) {
  try {
    return new URL(url).hostname;
  } catch {
    return "";
  }
}

// -- elements

// What an element holds, out of Slack's state.values, in the form that the server takes back.
export function heldValue(value) {
  if (!value) return null;
  if (value.selected_option !== undefined) return value.selected_option?.value ?? null;
  if (value.selected_options) return value.selected_options.map((option) => option.value);
  if (value.selected_users) return value.selected_users;
  return (
    value.value ??
    value.selected_date ??
    value.selected_time ??
    value.selected_date_time ??
    value.selected_user ??
    null
  );
}

function renderElement(block, element, context, field = {}) {
  if (element.type === "button") return renderButton(block, element, context);
  const held = context.held(block.block_id, element.action_id);
  const make = FIELDS[element.type];
  if (!make) return node("span", { class: "muted" }, `(${element.type})`);
  const isAlone = block.type !== "input";
  const common = {
    id: field.id,
    "aria-invalid": field.invalid ? "true" : undefined,
    "aria-describedby": field.described || undefined,
    "aria-label": isAlone ? element.placeholder?.text || element.type : undefined,
    "data-action": element.action_id,
    autofocus: element.focus_on_load || undefined,
  };
  const { made, read } = make(element, held, common, context, `${block.block_id}-${element.action_id}`);
  context.collect?.(block.block_id, element.action_id, read);
  if (isAlone || block.dispatch_action) {
    made.addEventListener("change", () => context.act(block, element, read(), made));
  }
  return made;
}

function renderButton(block, element, context) {
  const made = node(
    element.url ? "a" : "button",
    {
      class: `button ${element.style || ""}`,
      type: element.url ? undefined : "button",
      "aria-label": element.accessibility_label,
      "data-action": element.action_id,
      ...(element.url && SAFE_ADDRESS.test(element.url)
        ? { href: element.url, target: "_blank", rel: "noopener noreferrer nofollow" }
        : {}),
    },
    text(element.text, context),
  );
  made.addEventListener("click", () => context.act(block, element, null, made));
  return made;
}

function field(tag, attributes, read = (made) => made.value || null) {
  const made = node(tag, attributes);
  return { made, read: () => read(made) };
}

function entry(type) {
  return (element, held, common) => {
    const shown = field("input", {
      ...common,
      type,
      placeholder: element.placeholder?.text,
      step: type === "number" ? (element.is_decimal_allowed ? "any" : "1") : undefined,
    });
    shown.made.value = held ?? "";
    return shown;
  };
}

function renderTextField(element, held, common) {
  const shown = field(element.multiline ? "textarea" : "input", {
    ...common,
    rows: element.multiline ? 4 : undefined,
    type: element.multiline ? undefined : "text",
    placeholder: element.placeholder?.text,
  });
  shown.made.value = held ?? "";
  return shown;
}

// Slack keeps a moment as seconds; the field shows it in UTC, as Firedoor's times are.
function renderMoment(element, held, common) {
  const shown = field("input", { ...common, type: "datetime-local", title: "UTC" }, (made) =>
    made.value ? Math.floor(Date.parse(`${made.value}Z`) / 1000) : null,
  );
  shown.made.value = held ? new Date(held * 1000).toISOString().slice(0, 16) : "";
  return shown;
}

function renderSelect(element, held, common, context) {
  const isMenu = element.type === "overflow";
  const options = (list) =>
    list.map((option) => node("option", { value: option.value }, option.text.text));
  const first = isMenu ? "⋯" : element.placeholder?.text || "Choose…";
  const shown = field("select", { ...common, class: isMenu ? "overflow" : undefined });
  shown.made.append(node("option", { value: "" }, first));
  if (element.type === "users_select") {
    for (const person of context.people) {
      shown.made.append(node("option", { value: person.id }, person.display));
    }
  } else if (element.option_groups) {
    for (const group of element.option_groups) {
      shown.made.append(node("optgroup", { label: group.label.text }, options(group.options)));
    }
  } else {
    shown.made.append(...options(element.options));
  }
  shown.made.value = held ?? "";
  return shown;
}

function choices(type) {
  return (element, held, common, context, name) => {
    const people = context.people.map((person) => ({
      value: person.id,
      text: { runs: [{ kind: "text", text: person.display }] },
    }));
    const grouped = (element.option_groups || []).flatMap((group) => group.options);
    const options =
      element.type === "multi_users_select" ? people : element.options || grouped;
    const chosen = [held ?? []].flat();
    const made = node(
      "div",
      { class: "choices", "data-action": element.action_id },
      options.map((option, index) =>
        node(
          "label",
          { class: "choice" },
          node("input", {
            type,
            name,
            id: index === 0 ? common.id : undefined,
            value: option.value,
            checked: chosen.includes(option.value),
          }),
          node(
            "span",
            {},
            text(option.text, context),
            option.description
              ? node("span", { class: "hint" }, text(option.description, context))
              : null,
          ),
        ),
      ),
    );
    const checked = () => [...made.querySelectorAll("input:checked")].map((each) => each.value);
    const read = () => (type === "radio" ? (checked()[0] ?? null) : checked());
    return { made, read };
  };
}

const FIELDS = {
  plain_text_input: renderTextField,
  number_input: entry("number"),
  datepicker: entry("date"),
  timepicker: entry("time"),
  datetimepicker: renderMoment,
  static_select: renderSelect,
  users_select: renderSelect,
  overflow: renderSelect,
  radio_buttons: choices("radio"),
  checkboxes: choices("checkbox"),
  multi_static_select: choices("checkbox"),
  multi_users_select: choices("checkbox"),
};
