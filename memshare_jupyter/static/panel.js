// The page of the live panel: one store for each model, one view for each output that shows it.
//
// The store says hello, is told everything, and then what changes (_panel_feed.py). A view draws
// what the store has, at most once a frame, and of the rows only those in sight: 5,000 rows in the
// document would cost some hundred times the layout of the forty that can be seen.

const BEATS_LOST = 2.25; // without a sign for so many beats the kernel counts as stale
const QUEUED_MS = 400; // an action not answered by then waits for the cell to end
const NARROW_PX = 560; // below this width what an opened row tells is left out elsewhere
const ROW_PX = 26;
const OVERSCAN_PX = 10 * ROW_PX;
const HISTORY_S = 600;
const HUES = 8;

// --- words -------------------------------------------------------------------------------

const number = new Intl.NumberFormat("en-US");
const decimal = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

function units(bytes) {
  let unit = 0;
  while (bytes >= 999.95 && unit < 4) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit ? decimal.format(bytes) : number.format(bytes)} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
}

function span(seconds) {
  for (const [unit, length, until] of [["s", 1, 120], ["min", 60, 7200], ["h", 3600, 172800]]) {
    if (seconds < until) return `${number.format(Math.round(Math.max(0, seconds) / length))} ${unit}`;
  }
  return `${number.format(Math.round(seconds / 86400))} d`;
}

function count(many, noun) {
  return `${number.format(many)} ${noun}${many === 1 ? "" : "s"}`;
}

function pageName({ namespace, variable }) {
  return variable.includes(".") ? `${namespace}.\`${variable}\`` : `${namespace}.${variable}`;
}

function shapeOf(page) {
  if (page.shape.length) return page.shape.map((n) => number.format(n)).join(" × ");
  return page.kind === "array" ? "scalar" : "";
}

function snippet({ namespace, variable }) {
  const name = /^[A-Za-z_]\w*$/.test(variable) ? variable : "view";
  const [n, v] = [JSON.stringify(namespace), JSON.stringify(variable)];
  return `from memshare_jupyter import retrieve_views\n${name} = retrieve_views(${n}, ${v})[${v}]`;
}

const STATES = {
  active: ["●", "its owner has it; viewers may read"],
  writable: ["✎", "its owner has it; viewers may write, too"],
  draining: ["◐", "released by its owner; gone with its last view"],
  orphaned: ["○", "its owner died; gone with its last view"],
};

// --- holders -----------------------------------------------------------------------------

const ENGINE = /^engine (\d+)$/;

/** Name a process shortly: there may be many kernels, but only one that shows this panel. */
function called({ label, pid, here }) {
  if (here) return "kernel";
  return ENGINE.test(label) ? label : `${label || "pid"} ${pid}`;
}

function ownerOf(page) {
  const owner = page.holders.find((holder) => holder.role === "owner");
  return owner ? called(owner) : `pid ${page.owner}, gone`;
}

/** Return one chip a process, or one for all engines with consecutive ids; the owner's first. */
function chipsOf(page) {
  const processes = new Map();
  for (const holder of page.holders) {
    if (!processes.has(holder.pid)) processes.set(holder.pid, []);
    processes.get(holder.pid).push(holder);
  }
  const chips = [];
  const engines = [];
  for (const claims of processes.values()) {
    const text = called(claims[0]);
    const owner = claims.some((claim) => claim.role === "owner");
    const engine = ENGINE.exec(text);
    if (engine && !owner) engines.push(Number(engine[1]));
    else chips.push({ text, owner, title: `${text}, pid ${claims[0].pid}: ${claims.map((claim) => claim.role).join(" and ")}` });
  }
  engines.sort((a, b) => a - b);
  for (let i = 0, j; i < engines.length; i = j) {
    for (j = i + 1; j < engines.length && engines[j] - engines[j - 1] <= 1; ) j += 1;
    const text = j === i + 1 ? `engine ${engines[i]}` : `engines ${engines[i]}-${engines[j - 1]}`;
    chips.push({ text, owner: false, title: `${count(j - i, "engine")}: view` });
  }
  if (chips.length <= 5) return chips;
  const rest = chips.splice(4);
  return [...chips, { text: `+${rest.length}`, owner: false, title: rest.map((chip) => chip.title).join("\n") }];
}

// --- columns -----------------------------------------------------------------------------

const state = (page) => Object.keys(STATES).indexOf(page.state);
const viewsOf = (page) => page.holders.filter((holder) => holder.role === "view").length;

// `from` is the width of the panel, in pixels, at which there is room for the column and still for
// the holders; `sum` makes the number in a namespace's row.
const COLUMNS = [
  { key: "name", title: "Variable", from: 0, of: (p) => p.variable },
  { key: "kind", title: "Kind", from: 925, of: (p) => p.kind },
  { key: "shape", title: "Shape", from: 612, numeric: true, of: shapeOf, by: (p) => p.shape.reduce((a, b) => a * b, 1) },
  { key: "dtype", title: "Dtype", from: 771, of: (p) => p.dtype },
  { key: "order", title: "Order", from: 1106, of: (p) => p.order },
  { key: "size", title: "Size", from: 0, numeric: true, of: (p) => units(p.size), by: (p) => p.size, sum: (p) => p.size, show: units },
  { key: "owner", title: "Owner", from: 1037, of: ownerOf },
  { key: "views", title: "Views", from: 840, numeric: true, of: (p) => number.format(viewsOf(p)), by: viewsOf, sum: viewsOf, show: number.format },
  { key: "handles", title: "Handles", from: 1193, numeric: true, of: (p) => number.format(p.holders.length), by: (p) => p.holders.length, sum: (p) => p.holders.length, show: number.format },
  { key: "holders", title: "Holders", from: 0, by: (p) => p.holders.map(called).join(" ") },
  { key: "mode", title: "Mode", from: 1259, of: (p) => p.mode },
  { key: "age", title: "Age", from: 686, numeric: true, of: (p, now) => span(now - p.created), by: (p) => -p.created },
  { key: "state", title: "State", from: 0, by: state },
  { key: "actions", title: "Actions", from: 0 },
];

// --- elements ----------------------------------------------------------------------------

function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const ICONS = {
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  detach: "M6.5 9.5l3-3M7 4.5l1.6-1.6a3.2 3.2 0 0 1 4.5 4.5L11.5 9M9 11.5l-1.6 1.6a3.2 3.2 0 0 1-4.5-4.5L4.5 7M3 3l10 10",
  release: "M8 10V2.5M5 5.2L8 2.3l3 2.9M2.5 9v4.5h11V9",
};

function icon(name) {
  const path = svg("path", { d: ICONS[name] });
  return svg("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, path);
}

/** Change what is shown only where it differs, so that nothing else is laid out again. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https there is no clipboard but this.
    const area = h("textarea", { style: "position:fixed;opacity:0" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// --- the store ---------------------------------------------------------------------------

class Store {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.pages = new Map();
    this.hues = new Map();
    this.runs = [];
    this.memory = [];
    this.history = [];
    this.shares = {};
    this.beat = 2;
    this.host = "";
    this.status = "waiting";
    this.error = "";
    this.message = { text: "", failed: false };
    this.version = 0; // of the pages
    this.total = 0; // bytes
    this.clock = 0; // the kernel's less the page's, in seconds
    this.heard = performance.now();
    this.pending = new Map();
    this.asked = 0;
    this.unheard = new Set(); // runs whose cancellation waits for the cell to end
    model.on("msg:custom", (message) => this.hear(message));
    this.kernel = model.widget_manager?.kernel;
    this.kernel?.statusChanged?.connect(this.onKernel, this);
  }

  now() {
    return Date.now() / 1000 + this.clock;
  }

  get alive() {
    return this.status === "live";
  }

  enter(view) {
    this.views.add(view);
    if (this.views.size > 1 && this.status !== "waiting") return;
    this.timer ??= setInterval(() => this.check(), 500);
    this.heard = performance.now();
    this.model.send({ type: "hello" });
  }

  leave(view) {
    this.views.delete(view);
    if (this.views.size) return;
    clearInterval(this.timer);
    this.timer = undefined;
    if (this.status === "live" || this.status === "waiting") this.model.send({ type: "leave" });
    this.status = "waiting";
  }

  onKernel(_, status) {
    if (status === "restarting" || status === "autorestarting") this.lose("restarted");
    else if (status === "dead" || status === "terminating") this.lose("dead");
  }

  lose(status) {
    this.status = status;
    for (const { what } of this.pending.values()) this.say(`${what}: not done, the kernel is gone`, true);
    this.pending.clear();
    this.changed();
  }

  /** Called twice a second: what shows by the absence of messages. */
  check() {
    const silent = (performance.now() - this.heard) / 1000;
    if (this.status === "live" && silent > BEATS_LOST * this.beat) this.status = "stale";
    if (this.status === "waiting" && silent > 5) this.status = "stale";
    this.changed();
  }

  hear(message) {
    if (message.type === "who") {
      if (this.views.size) this.model.send({ type: "here" });
      return;
    }
    if (message.type === "done") return this.answered(message);
    this.heard = performance.now();
    if (message.type === "error") {
      this.error = message.text;
      this.status = "live";
      return this.changed();
    }
    if (message.type === "all") this.replace(message);
    else if (this.status === "waiting") return; // of what, it was not told yet
    this.status = "live";
    this.clock = message.now - Date.now() / 1000;
    if (message.changed) this.change(message.changed, message.gone);
    if (message.memory) this.memory = message.memory;
    if (message.runs) this.runs = message.runs;
    if (message.shares) this.shares = message.shares;
    this.changed();
  }

  replace(message) {
    this.pages.clear();
    this.error = "";
    this.host = message.host;
    this.namespace = message.namespace;
    this.beat = message.beat_s;
    this.history = message.history;
    this.runs = message.runs;
    this.shares = message.shares;
    for (const page of message.pages) this.put(page);
    this.version += 1;
    this.total = [...this.pages.values()].reduce((sum, page) => sum + page.size, 0);
  }

  change(changed, gone) {
    for (const uuid of gone) this.pages.delete(uuid);
    for (const page of changed) this.put(page);
    this.version += 1;
    this.total = 0;
    for (const page of this.pages.values()) this.total += page.size;
    if (this.history.at(-1)?.[1] !== this.total) this.history.push([this.now(), this.total]);
    while (this.history.length > 1 && this.history[1][0] < this.now() - HISTORY_S) this.history.shift();
  }

  put(page) {
    page.holders = page.holders.map(([pid, label, role, since, here]) => ({ pid, label, role, since, here }));
    page.owned = page.holders.some((holder) => holder.here && holder.role === "owner");
    page.viewed = page.holders.some((holder) => holder.here && holder.role === "view");
    page.text = [pageName(page), page.kind, page.dtype, page.state, ...page.holders.map((x) => `${x.label} ${x.pid}`)].join(" ").toLowerCase();
    this.pages.set(page.uuid, page);
    if (!this.hues.has(page.namespace)) this.hues.set(page.namespace, this.hues.size % HUES);
  }

  say(text, failed = false) {
    this.message = { text, failed };
    this.changed();
  }

  /** Ask the kernel to do something; `what` names it for the messages about it. */
  act(what, action, unanswered = () => {}) {
    this.asked += 1;
    const id = this.asked;
    this.pending.set(id, { what });
    this.model.send({ type: "do", id, ...action });
    this.say(`${what} …`);
    setTimeout(() => {
      if (!this.pending.has(id)) return;
      unanswered();
      this.say(`${what}: queued; this kernel does it when its cell has ended`);
    }, QUEUED_MS);
  }

  answered({ id, ok, text }) {
    const asked = this.pending.get(id);
    this.pending.delete(id);
    if (asked) this.say(text, !ok);
  }

  cancel(run) {
    // Where the kernel does not hear us before its cell has ended, only an interrupt gets through.
    // It would hit whatever cell is running, so whoever clicked is to decide.
    const unanswered = () => this.kernel?.interrupt && this.unheard.add(run.id);
    this.act(`cancel ${run.title}`, { action: "cancel", run: run.id }, unanswered);
  }

  interrupt(run) {
    this.unheard.delete(run.id);
    this.kernel.interrupt();
    this.say("interrupted the cell");
  }

  changed() {
    for (const view of this.views) view.schedule();
  }
}

// --- a view ------------------------------------------------------------------------------

class View {
  constructor(store, el) {
    this.store = store;
    this.opened = new Set();
    this.heights = new Map();
    this.rows = new Map();
    this.runRows = new Map();
    this.sort = { key: "name", down: false };
    this.filter = "";
    this.paused = false;
    this.columns = [];
    this.width = 0;
    this.build(el);
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(this.root);
    this.fit();
    store.enter(this);
  }

  destroy() {
    this.resized.disconnect();
    this.store.leave(this);
  }

  build(el) {
    this.badge = h("span", { class: "ms-badge", role: "status" });
    this.find = h("input", {
      type: "search", class: "ms-filter", placeholder: "Filter", "aria-label": "Filter pages", spellcheck: "false",
      oninput: () => { this.filter = this.find.value.trim().toLowerCase(); this.invalidate(); },
    });
    this.pause = h("button", {
      class: "ms-button", "aria-pressed": "false", title: "Keep the table as it is",
      onclick: () => { this.paused = !this.paused; this.invalidate(); },
    }, "Pause");
    this.title = h("span", { class: "ms-title" }, "Shared memory");
    const head = h("div", { class: "ms-head" }, this.title, this.badge, h("span", { class: "ms-space" }), this.find, this.pause);
    this.figures = {};
    const figures = h("dl", { class: "ms-figures" });
    for (const [key, label, about] of [
      ["pages", "pages", "Blocks of shared memory, one a variable"],
      ["views", "views", "Mappings by processes that attached a page"],
      ["handles", "handles", "Claims on pages: owners and views"],
      ["shared", "shared", "Bytes of data in shared memory; each page counts once"],
      ["copies", "as copies", "What the same processes would need with a copy each"],
    ]) {
      this.figures[key] = h("dd");
      figures.append(h("div", { title: about, "data-figure": key }, h("dt", {}, label), this.figures[key]));
    }
    this.rooms = h("dl", { class: "ms-figures ms-rooms" });
    this.spark = svg("svg", { class: "ms-spark", role: "img", viewBox: "0 0 120 26", width: 120, height: 26 });
    this.bar = h("div", { class: "ms-bar", role: "img" });
    this.notice = h("div", { class: "ms-notice", hidden: true });
    this.runs = h("div", { class: "ms-runs", role: "group", "aria-label": "Runs in progress", hidden: true });
    this.header = h("tr");
    this.above = h("tr", { class: "ms-spacer", "aria-hidden": "true" });
    this.below = h("tr", { class: "ms-spacer", "aria-hidden": "true" });
    this.body = h("tbody", {}, this.above, this.below);
    this.table = h("table", { "aria-label": "Shared pages" }, h("thead", {}, this.header), this.body);
    this.scroller = h("div", {
      class: "ms-scroller", tabindex: "0", role: "group", "aria-label": "Shared pages, scrollable", onscroll: () => this.drawRows(),
    }, this.table);
    this.empty = h("div", { class: "ms-empty", hidden: true });
    this.message = h("span", { class: "ms-message", role: "status" });
    this.host = h("span", { class: "ms-host" });
    const foot = h("div", { class: "ms-foot" }, this.message, this.host);
    this.dialog = h("dialog", { class: "ms-dialog", "aria-labelledby": `ms-ask-${View.made}` });
    this.askId = `ms-ask-${View.made}`;
    View.made += 1;
    this.hide = h("style");
    this.root = h(
      "div",
      // Lab's shortcuts would take Enter and letters from a button in an output.
      { class: "memshare-panel", role: "region", "aria-label": `Shared memory panel ${View.made}`, "data-lm-suppress-shortcuts": "true" },
      this.hide, head, h("div", { class: "ms-summary" }, figures, this.rooms, this.spark), this.bar,
      this.notice, this.runs, this.scroller, this.empty, foot, this.dialog,
    );
    el.append(this.root);
  }

  fit() {
    const width = this.root.clientWidth;
    const columns = COLUMNS.filter((column) => width >= column.from);
    if (columns.length !== this.columns.length) {
      this.columns = columns;
      this.header.replaceChildren(...columns.map((column) => this.headerCell(column)));
      for (const row of this.rows.values()) row.element.remove();
      this.rows.clear();
    }
    this.root.classList.toggle("ms-narrow", width < NARROW_PX);
    if (width !== this.width) this.heights.clear();
    this.width = width;
    this.invalidate();
  }

  headerCell(column) {
    const properties = { scope: "col", class: `ms-c-${column.key}${column.numeric ? " ms-n" : ""}`, "data-column": column.key };
    if (column.key === "actions") return h("th", properties, h("span", { class: "ms-hidden" }, "Actions"));
    const pressed = () => {
      const down = this.sort.key === column.key ? !this.sort.down : Boolean(column.numeric && column.key !== "age");
      this.sort = { key: column.key, down };
      this.invalidate();
    };
    return h("th", properties, h("button", { class: "ms-sort", onclick: pressed }, column.title, h("span", { class: "ms-arrow", "aria-hidden": "true" })));
  }

  /** Put the rows in order again at the next frame. */
  invalidate() {
    this.drawn = undefined;
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
    });
  }

  draw() {
    const { store } = this;
    this.drawStatus();
    if (this.paused && this.drawn === "paused") return;
    this.drawSummary();
    this.drawRuns();
    if (this.drawn !== store.version) this.arrange();
    this.drawRows();
    this.drawn = this.paused ? "paused" : store.version;
  }

  drawStatus() {
    const { store } = this;
    const silent = Math.round((performance.now() - store.heard) / 1000);
    const [word, text] = {
      waiting: ["connecting", ""],
      live: store.error ? ["error", `The registry cannot be read: ${store.error}. The panel goes on trying; %memshare doctor says what is amiss.`] : ["live", ""],
      stale: ["stale", `No sign from the kernel for ${silent} s: it is stopped, stuck, or gone. What is shown may be outdated; actions are off.`],
      dead: ["stale", "The kernel has ended, and what it shared is released. Start it and run this cell again."],
      restarted: ["stale", "The kernel was restarted, and what it shared before is released. Run this cell again."],
    }[store.status];
    const shown = this.paused && store.alive && !store.error ? "paused" : word;
    setText(this.badge, shown);
    setAttribute(this.badge, "data-status", shown);
    setText(this.notice, text);
    this.notice.hidden = !text;
    setAttribute(this.root, "data-status", shown);
    setText(this.pause, this.paused ? "Resume" : "Pause");
    setAttribute(this.pause, "aria-pressed", this.paused);
    setText(this.title, store.namespace ? `Shared memory of ${store.namespace}` : "Shared memory");
    setText(this.message, store.message.text);
    setAttribute(this.message, "data-failed", store.message.failed);
    setText(this.host, store.host);
    // The stored table would say the same again.
    const twin = store.model.get("_twin");
    setText(this.hide, store.host && twin ? `.${twin}, .jp-OutputArea-child:has(.${twin}) { display: none !important; }` : "");
  }

  drawSummary() {
    const { store } = this;
    if (this.summed !== store.version) {
      this.summed = store.version;
      this.drawTotals();
    }
    const rooms = store.memory.map((room) => [room.where === "this machine" ? "machine free" : "cgroup free", `${units(room.free)} of ${units(room.limit)}`, room.where]);
    if (this.roomsShown !== JSON.stringify(rooms)) {
      this.roomsShown = JSON.stringify(rooms);
      this.rooms.replaceChildren(...rooms.map(([label, text, where]) => h("div", { title: `What can still be taken of ${where}` }, h("dt", {}, label), h("dd", {}, text))));
    }
    this.drawBar(this.sums, store.total);
    this.drawSpark();
    this.empty.hidden = store.pages.size > 0 || store.status === "waiting";
    this.scroller.hidden = store.pages.size === 0;
    if (!this.empty.hidden) this.drawEmpty();
  }

  drawTotals() {
    let views = 0;
    let handles = 0;
    let copies = 0;
    this.sums = new Map();
    for (const page of this.store.pages.values()) {
      views += viewsOf(page);
      handles += page.holders.length;
      copies += page.size * new Set(page.holders.map((holder) => holder.pid)).size;
      this.sums.set(page.namespace, (this.sums.get(page.namespace) ?? 0) + page.size);
    }
    setText(this.figures.pages, number.format(this.store.pages.size));
    setText(this.figures.views, number.format(views));
    setText(this.figures.handles, number.format(handles));
    setText(this.figures.shared, units(this.store.total));
    setText(this.figures.copies, units(copies));
  }

  drawBar(sums, shared) {
    const machine = this.store.memory[0];
    if (!machine) return;
    const total = Math.max(machine.limit, shared);
    const others = Math.max(0, machine.limit - machine.free - shared);
    const parts = [...sums].sort((a, b) => b[1] - a[1]).map(([name, bytes]) => ({ name, bytes, hue: this.store.hues.get(name) }));
    const signature = JSON.stringify([parts, total, Math.round((others / total) * 500)]);
    if (signature === this.barShown) return;
    this.barShown = signature;
    const part = (bytes, title, css) => h("span", { class: css, title, style: `flex:0 0 ${((bytes / total) * 100).toFixed(3)}%` });
    this.bar.replaceChildren(
      ...parts.map(({ name, bytes, hue }) => part(bytes, `${name}: ${units(bytes)}`, `ms-part ms-hue-${hue}`)),
      part(others, `other memory in use: ${units(others)}`, "ms-others"),
    );
    const named = parts.slice(0, 8).map(({ name, bytes }) => `${name} ${units(bytes)}`).join(", ");
    setAttribute(this.bar, "aria-label", `Of ${units(machine.limit)} of memory, shared: ${named || "nothing"}; other memory in use: ${units(others)}; free: ${units(machine.free)}`);
  }

  drawSpark() {
    const { history } = this.store;
    const now = this.store.now();
    // From the beginning of what is known, so that a new panel has something to show.
    const begin = Math.min(now - 60, Math.max(now - HISTORY_S, history[0]?.[0] ?? now));
    const most = Math.max(1, ...history.map(([, bytes]) => bytes));
    const x = (at) => ((Math.max(0, at - begin) / (now - begin)) * 120).toFixed(1);
    const y = (bytes) => (24.5 - (bytes / most) * 22).toFixed(1);
    let line = "";
    for (const [i, [at, bytes]] of history.entries()) line += i ? `H${x(at)}V${y(bytes)}` : `M${x(at)} ${y(bytes)}`;
    line += line && "H120";
    if (line === this.sparkShown) return;
    this.sparkShown = line;
    const first = history.length ? x(history[0][0]) : 120;
    const label = `Shared bytes in the last ${span(now - begin)}: now ${units(this.store.total)}, at most ${units(most === 1 ? 0 : most)}`;
    this.spark.replaceChildren(
      svg("title", {}, label),
      svg("path", { class: "ms-spark-base", d: "M0 25H120" }),
      ...(line ? [svg("path", { class: "ms-spark-area", d: `${line}V25H${first}Z` }), svg("path", { class: "ms-spark-line", d: line })] : []),
    );
    setAttribute(this.spark, "aria-label", label);
  }

  drawEmpty() {
    const { namespace } = this.store;
    if (this.emptyShown === `${namespace}`) return;
    this.emptyShown = `${namespace}`;
    const name = namespace ?? "rna";
    const line = `memshare_jupyter.register_variables(${JSON.stringify(name)}, {"X": X})`;
    this.empty.replaceChildren(
      h("p", {}, namespace ? `Nothing is shared in ${namespace}. ` : "Nothing is shared. ", "This line registers an array X:"),
      h("p", {}, h("code", {}, line), " ", this.copyButton(line, "Copy the line")),
      h("p", {}, "Or put ", h("code", {}, `%%memshare register ${name}`), " above the code of a cell, to register the arrays it makes."),
    );
  }

  copyButton(text, label, words) {
    return h("button", {
      class: words ? "ms-button" : "ms-icon", title: label, "aria-label": words ? null : label,
      onclick: async () => { await copy(text); this.store.say(`copied: ${text.split("\n").at(-1)}`); },
    }, words ?? icon("copy"));
  }

  // --- runs ---

  drawRuns() {
    const { runs } = this.store;
    this.runs.hidden = !runs.length;
    const seen = new Set(runs.map((run) => run.id));
    for (const [id, row] of this.runRows) {
      if (seen.has(id)) continue;
      row.element.remove();
      this.runRows.delete(id);
    }
    for (const run of runs) {
      if (!this.runRows.has(run.id)) {
        this.runRows.set(run.id, this.runRow(run));
        this.runs.append(this.runRows.get(run.id).element);
      }
      this.drawRun(this.runRows.get(run.id), run);
    }
  }

  runRow(run) {
    const row = { engines: new Map() };
    row.text = h("span", { class: "ms-run-figures" });
    row.fill = h("span", { class: "ms-fill" });
    row.bar = h("div", { class: "ms-progress", role: "progressbar", "aria-label": run.title, "aria-valuemin": 0, "aria-valuemax": run.total }, row.fill);
    row.cancel = h("button", { class: "ms-button", "aria-label": `Cancel ${run.title}`, onclick: () => (this.store.unheard.has(run.id) ? this.store.interrupt(run) : this.store.cancel(run)) }, "Cancel");
    row.list = h("div", { class: "ms-engines" });
    row.element = h("div", { class: "ms-run", role: "group", "aria-label": run.title },
      h("div", { class: "ms-run-head" }, h("span", { class: "ms-run-title" }, run.title), row.text, row.cancel), row.bar, row.list);
    return row;
  }

  drawRun(row, run) {
    const done = run.done.reduce((a, b) => a + b, 0);
    const took = Math.max(0.001, this.store.now() - run.began);
    const rate = done / took;
    const left = rate > 0 ? `${span((run.total - done) / rate)} left` : "";
    const speed = rate >= 10 ? number.format(Math.round(rate)) : decimal.format(rate);
    setText(row.text, `${number.format(done)} / ${number.format(run.total)} items  ·  ${speed} items/s  ·  ${left || "–"}`);
    row.fill.style.width = `${run.total ? (done / run.total) * 100 : 0}%`;
    setAttribute(row.bar, "aria-valuenow", done);
    const unheard = this.store.unheard.has(run.id);
    const verb = run.stopping ? "Stopping" : unheard ? "Interrupt the cell" : "Cancel";
    setText(row.cancel, verb);
    setAttribute(row.cancel, "aria-label", `${verb} ${unheard ? "for" : ""} ${run.title}`.replace("  ", " "));
    row.cancel.disabled = run.stopping || !this.store.alive;
    const most = Math.max(run.total / Math.max(1, run.engines.length), ...run.done);
    for (const [i, engine] of run.engines.entries()) {
      let one = row.engines.get(engine);
      if (!one) {
        one = { fill: h("span", { class: "ms-fill" }), text: h("span", { class: "ms-engine-done" }) };
        row.engines.set(engine, one);
        row.list.append(h("div", { class: "ms-engine" }, h("span", {}, `engine ${engine}`), h("div", { class: "ms-progress", "aria-hidden": "true" }, one.fill), one.text));
      }
      one.fill.style.width = `${most ? (run.done[i] / most) * 100 : 0}%`;
      setText(one.text, number.format(run.done[i]));
    }
  }

  // --- rows ---

  /** Put pages into groups and in order; find out where each row stands. */
  arrange() {
    const column = COLUMNS.find((one) => one.key === this.sort.key);
    const key = column.by ?? column.of;
    const sign = this.sort.down ? -1 : 1;
    const now = this.store.now();
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    const groups = new Map();
    for (const page of this.store.pages.values()) {
      if (this.filter && !page.text.includes(this.filter)) continue;
      if (!groups.has(page.namespace)) groups.set(page.namespace, []);
      groups.get(page.namespace).push(page);
    }
    const order = [...groups].map(([namespace, pages]) => {
      const keyed = pages.map((page) => [key(page, now), page.variable, page]);
      keyed.sort((a, b) => sign * compare(a[0], b[0]) || compare(a[1], b[1]));
      return { namespace, pages: keyed.map((entry) => entry[2]), sum: column.sum ? pages.reduce((n, p) => n + column.sum(p), 0) : 0 };
    });
    order.sort((a, b) => (column.sum ? sign * (a.sum - b.sum) : column.key === "name" ? sign * compare(a.namespace, b.namespace) : 0) || compare(a.namespace, b.namespace));
    this.items = [];
    for (const { namespace, pages } of order) {
      this.items.push({ type: "group", key: `group ${namespace}`, namespace, pages });
      for (const page of pages) {
        this.items.push({ type: "page", key: page.uuid, page });
        if (this.opened.has(page.uuid)) this.items.push({ type: "details", key: `details ${page.uuid}`, page });
      }
    }
    for (const uuid of this.opened) if (!this.store.pages.has(uuid)) this.opened.delete(uuid);
    setAttribute(this.table, "aria-rowcount", this.items.length + 1);
    for (const cell of this.header.children) {
      const mine = cell.dataset.column === this.sort.key;
      setAttribute(cell, "aria-sort", mine ? (this.sort.down ? "descending" : "ascending") : null);
    }
    this.measure();
  }

  measure() {
    this.tops = new Float64Array(this.items.length + 1);
    for (const [i, item] of this.items.entries()) {
      this.tops[i + 1] = this.tops[i] + (item.type === "details" ? (this.heights.get(item.key) ?? 6 * ROW_PX) : ROW_PX);
    }
  }

  /** Return the first row that ends below a height. */
  rowAt(y) {
    let [low, high] = [0, this.items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  drawRows() {
    if (!this.items) return;
    const { scrollTop, clientHeight } = this.scroller;
    const first = this.rowAt(Math.max(0, scrollTop - OVERSCAN_PX));
    const last = Math.min(this.items.length, this.rowAt(scrollTop + clientHeight + OVERSCAN_PX) + 1);
    const wanted = this.items.slice(first, last);
    const keys = new Set(wanted.map((item) => item.key));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
    this.above.style.height = `${this.tops[first]}px`;
    this.below.style.height = `${this.tops[this.items.length] - this.tops[last]}px`;
    let after = this.above;
    for (const [i, item] of wanted.entries()) {
      let row = this.rows.get(item.key);
      if (!row) {
        row = { group: () => this.groupRow(item), page: () => this.pageRow(item.page), details: () => this.detailsRow() }[item.type]();
        this.rows.set(item.key, row);
      }
      row.update(item);
      setAttribute(row.element, "aria-rowindex", first + i + 2);
      if (after.nextSibling !== row.element) after.after(row.element);
      after = row.element;
    }
    let grown = false;
    for (const item of wanted) {
      if (item.type !== "details") continue;
      const height = this.rows.get(item.key).element.offsetHeight;
      grown ||= this.heights.get(item.key) !== height;
      this.heights.set(item.key, height);
    }
    if (grown) {
      this.measure();
      this.drawRows();
    }
  }

  groupRow({ namespace }) {
    const cells = new Map();
    const hue = this.store.hues.get(namespace);
    const gc = h("button", { class: "ms-button ms-small", "aria-label": `Gc namespace ${namespace}`, onclick: () => this.askGc(namespace) }, "gc");
    const many = h("span", { class: "ms-muted" });
    const element = h("tr", { class: "ms-group" });
    for (const column of this.columns) {
      const css = `ms-c-${column.key}${column.numeric ? " ms-n" : ""}`;
      if (column.key === "name") element.append(h("th", { class: css, scope: "row" }, h("span", { class: `ms-swatch ms-hue-${hue}`, "aria-hidden": "true" }), h("span", { class: "ms-namespace", title: namespace }, namespace), " ", many));
      else if (column.key === "actions") element.append(h("td", { class: css }, gc));
      else {
        const cell = h("td", { class: css });
        if (column.sum) cells.set(column, cell);
        element.append(cell);
      }
    }
    const update = ({ pages }) => {
      setText(many, count(pages.length, "page"));
      for (const [column, cell] of cells) setText(cell, column.show(pages.reduce((sum, page) => sum + column.sum(page), 0)));
      const held = pages.some((page) => page.owned || page.viewed);
      gc.disabled = !held || !this.store.alive;
      setAttribute(gc, "title", held ? "Release and detach all that this kernel has in it" : "This kernel holds nothing of it");
    };
    return { element, update };
  }

  pageRow(page) {
    const cells = new Map();
    const name = pageName(page);
    const open = h("button", { class: "ms-open", "aria-expanded": "false", title: name, onclick: () => this.toggle(page.uuid) }, h("span", { class: "ms-caret", "aria-hidden": "true" }), h("span", { class: "ms-name" }, page.variable));
    const release = h("button", { class: "ms-icon", "aria-label": `Release ${name}`, onclick: () => this.askRelease(page.uuid) }, icon("release"));
    const detach = h("button", { class: "ms-icon", "aria-label": `Detach ${name}`, onclick: () => this.askDetach(page.uuid) }, icon("detach"));
    const element = h("tr", { class: "ms-page", "data-page": name });
    for (const column of this.columns) {
      const css = `ms-c-${column.key}${column.numeric ? " ms-n" : ""}`;
      const cell = h(column.key === "name" ? "th" : "td", { class: css, scope: column.key === "name" ? "row" : null, "data-column": column.key });
      if (column.key === "name") cell.append(open);
      else if (column.key === "actions") cell.append(release, detach, this.copyButton(snippet(page), `Copy attach snippet of ${name}`));
      else cells.set(column, cell);
      element.append(cell);
    }
    let shown;
    const update = ({ page: now }) => {
      setAttribute(open, "aria-expanded", this.opened.has(now.uuid));
      this.allow(release, detach, now);
      const at = this.store.now();
      for (const [column, cell] of cells) {
        if (column.key === "age") setText(cell, column.of(now, at));
        else if (now === shown) continue;
        else if (column.key === "holders") cell.replaceChildren(h("div", { class: "ms-chips" }, ...chipsOf(now).map(chipElement)));
        else if (column.key === "state") {
          const [sign, about] = STATES[now.state];
          cell.replaceChildren(h("span", { class: `ms-state ms-${now.state}`, title: about }, h("span", { "aria-hidden": "true" }, sign), ` ${now.state}`));
        } else {
          setText(cell, column.of(now));
          cell.title = cell.textContent;
        }
      }
      shown = now;
    };
    return { element, update };
  }

  /** Say of the two buttons of a page whether they can be used, and if not, why. */
  allow(release, detach, page) {
    const { alive } = this.store;
    release.disabled = !alive || !page.owned;
    detach.disabled = !alive || !page.viewed;
    const owner = page.holders.some((holder) => holder.role === "owner");
    const why = owner ? `Owned by ${ownerOf(page)}: release it there` : "Its owner has let it go already";
    setAttribute(release, "title", page.owned ? "Release: end this kernel's ownership" : why);
    setAttribute(detach, "title", page.viewed ? "Detach: end this kernel's view" : "This kernel has no view of it");
  }

  toggle(uuid) {
    if (!this.opened.delete(uuid)) this.opened.add(uuid);
    const all = new Set([...this.store.views].flatMap((view) => [...view.opened]));
    this.store.model.send({ type: "open", uuids: [...all] });
    this.arrange();
    this.drawRows();
  }

  detailsRow() {
    const facts = h("dl", { class: "ms-facts" });
    const release = h("button", { class: "ms-button", onclick: () => this.askRelease(uuid) }, "Release …");
    const detach = h("button", { class: "ms-button", onclick: () => this.askDetach(uuid) }, "Detach …");
    const buttons = h("div", { class: "ms-buttons" }, release, detach);
    const body = h("tbody");
    const heads = [["process"], ["pid", "ms-n"], ["engine", "ms-n ms-wide"], ["host", "ms-wide"], ["role"], ["since", "ms-n"], ["resident (PSS)", "ms-n"]];
    const holders = h("table", { class: "ms-holders" }, h("thead", {}, h("tr", {}, ...heads.map(([text, css]) => h("th", { scope: "col", class: css ?? "" }, text)))), body);
    const list = h("div", { class: "ms-holder-list", tabindex: "0", role: "group" }, holders);
    const element = h("tr", { class: "ms-details" }, h("td", { colspan: this.columns.length }, h("div", { class: "ms-details-box" }, facts, list, buttons)));
    let uuid;
    let shown;
    const update = ({ page }) => {
      const name = pageName(page);
      uuid = page.uuid;
      this.allow(release, detach, page);
      const at = this.store.now();
      const shares = this.store.shares[page.uuid] ?? {};
      const signature = JSON.stringify([page, shares, span(at - page.created), page.holders.map((holder) => span(at - holder.since))]);
      if (signature === shown) return;
      if (shown === undefined) buttons.append(this.copyButton(snippet(page), `Copy attach snippet of ${name}`, "Copy attach snippet"));
      shown = signature;
      setAttribute(holders, "aria-label", `Holders of ${name}`);
      setAttribute(list, "aria-label", `Holders of ${name}, scrollable`);
      setAttribute(element, "data-details", name);
      facts.replaceChildren(...[
        ["page", name], ["kind", page.kind], ["shape", shapeOf(page)], ["dtype", page.dtype], ["order", page.order], ["size", `${units(page.size)} (${number.format(page.size)} B)`],
        ["owner", ownerOf(page)], ["mode", page.mode === "r" ? "r: views read only" : "r+: views may write"], ["age", span(at - page.created)], ["handles", `${page.holders.length}, of them ${count(viewsOf(page), "view")}`], ["state", `${page.state}: ${STATES[page.state][1]}`],
      ].filter(([, text]) => text).map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))));
      // A process that owns and views a page has it in memory once.
      const share = (holder, i) => {
        if (page.holders.findIndex((other) => other.pid === holder.pid) < i) return "as above";
        return shares[holder.pid] === undefined ? "–" : units(shares[holder.pid]);
      };
      body.replaceChildren(...page.holders.map((holder, i) => h("tr", {},
        h("th", { scope: "row" }, holder.label || (holder.here ? "kernel" : "–")), h("td", { class: "ms-n" }, `${holder.pid}`), h("td", { class: "ms-n ms-wide" }, ENGINE.exec(holder.label)?.[1] ?? "–"),
        h("td", { class: "ms-wide" }, this.store.host), h("td", {}, holder.role + (holder.here ? ", this kernel" : "")), h("td", { class: "ms-n", title: new Date(holder.since * 1000).toLocaleString() }, span(at - holder.since)),
        h("td", { class: "ms-n" }, share(holder, i)))));
    };
    return { element, update };
  }

  // --- questions ---

  askRelease(uuid) {
    const page = this.store.pages.get(uuid);
    if (!page) return;
    const name = pageName(page);
    const text = `This kernel gives up ${units(page.size)}. The name is free at once, the memory when the last view ends.`;
    this.ask(`Release ${name}?`, text, page.holders.map(holderLine), "Release", () => this.store.act(`release ${name}`, { action: "release", uuid }));
  }

  askDetach(uuid) {
    const page = this.store.pages.get(uuid);
    if (!page) return;
    const name = pageName(page);
    const text = `This kernel ends its view of ${units(page.size)}. Arrays that still use it stay valid; the view then ends with them.`;
    this.ask(`Detach ${name}?`, text, page.holders.map(holderLine), "Detach", () => this.store.act(`detach ${name}`, { action: "detach", uuid }));
  }

  askGc(namespace) {
    const pages = [...this.store.pages.values()].filter((page) => page.namespace === namespace && (page.owned || page.viewed));
    const owned = pages.filter((page) => page.owned);
    const views = pages.filter((page) => page.viewed);
    const bytes = owned.reduce((sum, page) => sum + page.size, 0);
    const what = [owned.length ? `releases ${count(owned.length, "page")} (${units(bytes)})` : "", views.length ? `detaches ${count(views.length, "view")}` : ""].filter(Boolean).join(" and ");
    const lines = pages.map((page) => `${pageName(page)}, ${units(page.size)}: ${page.holders.map((x) => called(x) + (x.role === "owner" ? " (owner)" : "")).join(", ")}`);
    this.ask(`Gc namespace ${namespace}?`, `This kernel ${what}. Views that others have stay valid, and keep the memory.`, lines, "Gc", () => this.store.act(`gc ${namespace}`, { action: "gc", namespace }));
  }

  /** Show what an action would do and who holds what; do it when that is confirmed. */
  ask(title, text, lines, verb, act) {
    const shown = lines.slice(0, 12);
    if (lines.length > shown.length) shown.push(`and ${number.format(lines.length - shown.length)} more`);
    const close = () => this.dialog.close();
    const confirm = h("button", { class: "ms-button ms-primary", onclick: () => { close(); if (this.store.alive) act(); } }, verb);
    this.dialog.replaceChildren(
      h("div", { class: "ms-question", id: this.askId }, title), h("p", {}, text),
      h("p", { class: "ms-muted" }, "Held by"), h("ul", {}, ...shown.map((line) => h("li", {}, line))),
      h("div", { class: "ms-buttons" }, h("button", { class: "ms-button", autofocus: true, onclick: close }, "Keep"), confirm),
    );
    this.dialog.showModal();
  }
}
View.made = 0;

function holderLine(holder) {
  return `${called(holder)}, pid ${holder.pid}: ${holder.role}${holder.here ? ", this kernel" : ""}`;
}

function chipElement(chip) {
  const sign = h("span", { "aria-hidden": "true" }, chip.owner ? "◆ " : "");
  return h("span", { class: `ms-chip${chip.owner ? " ms-owner" : ""}`, title: chip.title }, sign, chip.text, chip.owner ? h("span", { class: "ms-hidden" }, " (owner)") : "");
}

export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
    },
    render({ model, el }) {
      store ??= new Store(model);
      const view = new View(store, el);
      return () => view.destroy();
    },
  };
};
