// The store: what the kernel told, one for all outputs that show a panel.
//
// It says hello, is told everything, and then what changes (_feed.py). Messages are numbered: when
// one was lost it says hello again. What it has not heard of for some beats it calls stale.

const BEATS_LOST = 2.25; // without a sign for so many beats the kernel counts as stale
const QUEUED_MS = 400; // after so long the foot says what an action waits for
const ASK_AGAIN_MS = [1500, 12000]; // what was asked for may be lost too; each time twice as long
const MESSAGE_MS = { done: 6000, failed: 15000 }; // so long the foot keeps what it said
const QUIET = { text: "", failed: false };
const HISTORY_S = 600;
const HUES = 8;

class Store {
  constructor(model) {
    this.model = model;
    this.me = Math.random().toString(36).slice(2); // tells this page from others that show it
    this.views = new Set();
    this.pages = new Map();
    this.hues = new Map();
    this.runs = [];
    this.hosts = [];
    this.memory = [];
    this.history = [];
    this.shares = {};
    this.beat = 2;
    this.host = "";
    this.status = "waiting";
    this.error = "";
    this.message = QUIET;
    this.saidAt = 0;
    this.version = 0; // of the pages
    this.total = 0; // bytes
    this.clock = 0; // the kernel's less the page's, in seconds
    this.heard = performance.now();
    this.pending = new Map();
    this.asked = 0;
    this.unheard = new Set(); // runs whose cancellation waits for the cell to end
    this.number = null; // of the last message; null before everything was told
    this.heardAtOnce = false; // whether the kernel hears this page while a cell runs
    model.on("msg:custom", (message) => this.hear(message));
    this.kernel = model.widget_manager?.kernel;
    this.kernel?.statusChanged?.connect(this.onKernel, this);
    this.kernel?.connectionStatusChanged?.connect(this.onConnection, this);
  }

  send(message) {
    try {
      this.model.send({ ...message, who: this.me });
    } catch {
      // The notebook is being closed, and its connection with it.
    }
  }

  /** Return the uuids of the pages whose rows are open. */
  opened() {
    return [...new Set([...this.views].flatMap((view) => [...view.opened]))];
  }

  now() {
    return Date.now() / 1000 + this.clock;
  }

  get alive() {
    return this.status === "live";
  }

  /** Why nothing can be done, when that is so. */
  get whyOff() {
    const gone = this.status === "dead" || this.status === "restarted";
    return gone ? "The kernel that this panel is of has ended" : "The kernel does not answer";
  }

  enter(view) {
    this.views.add(view);
    if (this.views.size > 1 && this.status !== "waiting") return;
    this.timer ??= setInterval(() => this.check(), 500);
    this.heard = performance.now();
    this.hello();
  }

  hello() {
    this.askedAt = performance.now(); // until everything is told
    this.askAgain ??= ASK_AGAIN_MS[0];
    this.send({ type: "hello", opened: this.opened() });
  }

  close() {
    clearInterval(this.timer);
    this.kernel?.statusChanged?.disconnect(this.onKernel, this);
    this.kernel?.connectionStatusChanged?.disconnect(this.onConnection, this);
  }

  leave(view) {
    this.views.delete(view);
    if (this.views.size) return this.send({ type: "here", opened: this.opened() });
    clearInterval(this.timer);
    this.timer = undefined;
    if (this.status === "live" || this.status === "waiting") this.send({ type: "leave" });
    this.status = "waiting";
    this.number = null;
  }

  onConnection(_, status) {
    if (status === "connected" && this.views.size && this.alive) this.hello();
  }

  onKernel(_, status) {
    if (status === "restarting" || status === "autorestarting") this.lose("restarted");
    else if (status === "dead" || status === "terminating") this.lose("dead");
    // Another page restarted it.
    else if (status === "starting" && this.number !== null) this.lose("restarted");
  }

  lose(status) {
    this.status = status;
    for (const { what } of this.pending.values())
      this.say(`${what}: not known whether it was done, the kernel is gone`, true);
    this.pending.clear();
    this.number = null;
    this.askedAt = undefined;
    for (const view of this.views) view.questions.withdraw();
    this.changed();
  }

  /** Called twice a second: what shows by the absence of messages. */
  check() {
    const silent = (performance.now() - this.heard) / 1000;
    if (this.status === "live" && silent > BEATS_LOST * this.beat) this.status = "stale";
    if (this.status === "waiting" && silent > 5) this.status = "stale";
    // What was said long ago is not about what is shown now.
    const until = this.saidAt + (this.message.failed ? MESSAGE_MS.failed : MESSAGE_MS.done);
    if (!this.pending.size && performance.now() > until) this.message = QUIET;
    // A computer that slept, or a connection that was lost: the kernel may think nobody is here.
    if (this.status === "stale" && this.askedAt === undefined) this.hello();
    if (this.askedAt !== undefined && performance.now() - this.askedAt > this.askAgain) {
      this.askAgain = Math.min(2 * this.askAgain, ASK_AGAIN_MS[1]);
      this.hello();
    }
    this.changed();
  }

  hear(message) {
    const gap = this.number !== null && message.number > this.number + 1;
    if (this.number !== null) this.number = message.number;
    if (gap && message.type !== "all" && this.askedAt === undefined) this.hello();
    if (message.type === "who") {
      if (this.views.size) this.send({ type: "here", opened: this.opened() });
      return;
    }
    if (message.type === "done") return this.answered(message);
    if (this.status === "dead" || this.status === "restarted") return;
    this.heard = performance.now();
    if (message.type === "error") {
      this.error = message.text;
      this.status = "live";
      return this.changed();
    }
    if (message.type === "all") this.replace(message);
    else if (this.number === null) return; // of what, it was not told yet
    this.status = "live";
    this.clock = message.now - Date.now() / 1000;
    if (message.changed) this.change(message.changed, message.gone);
    if (message.memory) this.memory = message.memory;
    if (message.runs) this.runs = message.runs;
    if (message.hosts) this.hosts = message.hosts;
    if (message.shares) this.shares = message.shares;
    this.changed();
  }

  replace(message) {
    this.number = message.number;
    this.askedAt = undefined;
    this.askAgain = undefined;
    this.pages.clear();
    this.error = "";
    this.heardAtOnce = message.heard_at_once.includes(this.me);
    this.pid = message.pid;
    this.host = message.host;
    this.namespace = message.namespace;
    this.beat = message.beat_s;
    this.history = message.history;
    this.runs = message.runs;
    this.hosts = message.hosts;
    this.shares = message.shares;
    for (const page of message.pages) this.put(page);
    this.version += 1;
    this.total = [...this.pages.values()].reduce((sum, page) => sum + page.size, 0);
    for (const answer of message.answers) this.answered(answer);
  }

  change(changed, gone) {
    for (const uuid of gone) this.pages.delete(uuid);
    for (const page of changed) this.put(page);
    this.version += 1;
    this.total = 0;
    for (const page of this.pages.values()) this.total += page.size;
    if (this.history.at(-1)?.[1] !== this.total) this.history.push([this.now(), this.total]);
    while (this.history.length > 1 && this.history[1][0] < this.now() - HISTORY_S)
      this.history.shift();
  }

  put(page) {
    page.holders = page.holders.map(([pid, label, role, since, here, process = pid]) => ({
      pid,
      label,
      role,
      since,
      here,
      process,
    }));
    page.owned = page.holders.some((holder) => holder.here && holder.role === "owner");
    page.ours = page.owner === this.pid;
    page.viewed = page.holders.some((holder) => holder.here && holder.role === "view");
    page.text = [
      pageName(page),
      page.kind,
      page.dtype,
      page.state,
      ...page.holders.map((x) => `${x.label} ${x.pid}`),
    ]
      .join(" ")
      .toLowerCase();
    this.pages.set(page.uuid, page);
    if (!this.hues.has(page.namespace)) this.hues.set(page.namespace, this.hues.size % HUES);
  }

  say(text, failed = false) {
    this.message = { text, failed };
    this.saidAt = performance.now();
    this.changed();
  }

  /** Ask the kernel to do something; `what` names it for the messages about it. */
  act(what, action, unheard = () => {}) {
    if (!this.alive) return this.say(`${what}: not done, the kernel does not answer`, true);
    this.asked += 1;
    const id = this.asked;
    this.pending.set(id, { what });
    this.send({ type: "do", id, ...action });
    this.say(`${what} …`);
    setTimeout(() => {
      if (!this.pending.has(id)) return;
      // A kernel that hears while a cell runs has not been heard yet: that is the line's fault.
      if (this.heardAtOnce) return this.say(`${what}: sent; no answer yet`);
      unheard();
      this.say(`${what}: queued; this kernel does it when its cell has ended`);
    }, QUEUED_MS);
  }

  answered({ who, id, ok, text }) {
    if (who !== this.me || !this.pending.delete(id)) return;
    this.say(text, !ok);
  }

  cancel(run) {
    // Where the kernel does not hear us before its cell has ended, only an interrupt gets through.
    // It would hit whatever cell is running, so whoever clicked is to decide.
    const unheard = () => this.kernel?.interrupt && this.unheard.add(run.id);
    this.act(`cancel ${run.title}`, { action: "cancel", run: run.id }, unheard);
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
